//! The command line of `serve`.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Parser;
use maeum::formats::NOTICE;
use maeum::server::guard;
use maeum::server::settings::MAX_DRAWS;

use super::device::{self, Device};

/// Listens to voice recordings over HTTP and estimates which emotion they carry, how old the speaker
/// sounds and which gender. `/docs` describes the interface.
#[derive(Parser)]
#[command(name = "serve", version, after_help = NOTICE)]
pub struct Arguments {
    /// A converted model instead of the built-in one.
    #[arg(long, value_name = "BUNDLE")]
    pub model: Option<PathBuf>,
    /// The address to listen on; others than 127.0.0.1 can be reached from outside and need a key or
    /// an --allow-host.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// The port; 0 takes a free one and says which on standard output.
    #[arg(long, value_name = "N", default_value_t = 9999)]
    pub port: u16,
    /// Opens `POST /`, the interface of the system of 2020, for recordings in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub files_root: Option<PathBuf>,
    /// Lets `POST /` write arrays into this folder, where a client asks for it.
    #[arg(long, value_name = "FOLDER", requires = "files_root")]
    pub write_root: Option<PathBuf>,
    /// Asks clients for the key in this file: its first line.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Lets pages of this origin use the server, such as `https://voice.example`; may be repeated.
    #[arg(long, value_name = "ORIGIN", value_parser = guard::origin)]
    pub allow_origin: Vec<String>,
    /// A host that requests may be for besides localhost, as behind a proxy: a name or an address
    /// without a port; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = guard::host)]
    pub allow_host: Vec<String>,
    /// Random dropout where a request does not say: `off` or the number of draws.
    #[arg(long, value_name = "off|N", default_value = "32", value_parser = dropout)]
    pub dropout: Dropout,
    /// Which draws, where a request does not say.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// What computes the answers: `cpu`, `cuda` or `cuda:N` for NVIDIA's GPU number N, or `auto`
    /// for a GPU if there is one.
    #[arg(long, value_name = "cpu|cuda[:N]|auto", default_value = "cpu", value_parser = device::parse)]
    pub device: Device,
    /// Threads that recognise [default: one per processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Requests that may wait for a thread; one more is told to come back.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub queue: u32,
    /// Connections at once; more wait.
    #[arg(long, value_name = "N", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Largest body, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_body: u32,
    /// Longest recording, in seconds.
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=14_400))]
    pub max_seconds: u32,
    /// How long a body may take to arrive, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub body_timeout: u32,
    /// How long what runs may take when the server is told to end, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub drain: u32,
    /// Serves nothing, but asks the server that listens on --host and --port whether it is ready:
    /// exit code 0 if it is.
    #[arg(long)]
    pub probe: bool,
    /// Logs no single requests.
    #[arg(long, short)]
    pub quiet: bool,
}

/// How forced dropout is treated where a request does not say.
#[derive(Clone, Copy)]
pub enum Dropout {
    /// Without noise.
    Off,
    /// This many draws.
    Draws(NonZeroU32),
}

fn dropout(text: &str) -> Result<Dropout, String> {
    if text == "off" {
        return Ok(Dropout::Off);
    }
    let number = text.parse().ok().and_then(NonZeroU32::new);
    number
        .filter(|n| n.get() <= MAX_DRAWS)
        .map(Dropout::Draws)
        .ok_or_else(|| format!("give `off` or a number of draws from 1 to {MAX_DRAWS}"))
}
