//! Command line of `serve`.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::formats::NOTICE;
use crate::server::guard;
use crate::server::settings::MAX_DRAWS;
use clap::Parser;

use crate::programs::device::{self, Device};

/// Serves estimates of emotion, age and gender from voice recordings over HTTP. `/docs` describes
/// the interface.
#[derive(Parser)]
#[command(name = "serve", version, after_help = NOTICE)]
pub struct Arguments {
    /// Converted model to use instead of the built-in one. Or a name: `commercial` for the model of
    /// freely licensed recordings (feature `commercial-model`), or `default`; a file of that name is
    /// `./commercial`.
    #[arg(long, value_name = "BUNDLE|NAME")]
    pub model: Option<PathBuf>,
    /// Address to listen on; an address other than 127.0.0.1 is reachable from outside and requires
    /// a key or --allow-host.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port; 0 chooses a free one and prints it to standard output.
    #[arg(long, value_name = "N", default_value_t = 9999)]
    pub port: u16,
    /// Enables `POST /`, the interface of the 2020 system, for recordings in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub files_root: Option<PathBuf>,
    /// Allows `POST /` to write arrays into this folder on request.
    #[arg(long, value_name = "FOLDER", requires = "files_root")]
    pub write_root: Option<PathBuf>,
    /// Requires the key in the first line of this file from clients.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Allows web pages of this origin to use the server, such as `https://voice.example`; may be
    /// repeated.
    #[arg(long, value_name = "ORIGIN", value_parser = guard::origin)]
    pub allow_origin: Vec<String>,
    /// Accepts requests for this host besides localhost, for example behind a proxy: a name or an
    /// address without a port; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = guard::host)]
    pub allow_host: Vec<String>,
    /// Default dropout of requests: `off` or the number of draws.
    #[arg(long, value_name = "off|N", default_value = "32", value_parser = dropout)]
    pub dropout: Dropout,
    /// Default seed of the draws.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Device that computes: `cpu`, `cuda` or `cuda:N` for NVIDIA's GPU number N, or `auto` for a
    /// GPU if there is one.
    #[arg(long, value_name = "cpu|cuda[:N]|auto", default_value = "cpu", value_parser = device::parse)]
    pub device: Device,
    /// Number of recognition threads [default: one per processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Maximum number of requests that wait for a thread; further requests are refused with 429.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub queue: u32,
    /// Maximum number of open connections; further connections wait.
    #[arg(long, value_name = "N", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Maximum body size, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_body: u32,
    /// Maximum length of a recording, in seconds.
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=14_400))]
    pub max_seconds: u32,
    /// Time limit for receiving a body, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub body_timeout: u32,
    /// Time limit for running requests at shutdown, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub drain: u32,
    /// Checks whether the server on --host and --port is ready, and exits with code 0 if it is.
    #[arg(long)]
    pub probe: bool,
    /// Disables the log of single requests.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Default dropout of requests.
#[derive(Clone, Copy)]
pub enum Dropout {
    /// Dropout is disabled.
    Off,
    /// Number of draws.
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
