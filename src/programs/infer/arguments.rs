//! Command line of `infer`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::app::eval::ProfileSize;
use crate::audio::decode;
use crate::formats::{Format, NOTICE};
use crate::nn::DropoutMode;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};

use crate::programs::device::{self, Device};
use crate::programs::model::Source;

/// Default number of draws: the standard deviation of their mean is less than a fifth of a single
/// draw's.
const DRAWS: &str = "32";
const MAX_DRAWS: u32 = 100_000;
const MAX_THREADS: u32 = 1024;
/// Maximum useful number of threads per recording.
const THREADS_PER_RECORDING: usize = 4;

/// Estimates emotion, age and gender of the speaker from voice recordings.
#[derive(Parser)]
#[command(name = "infer", version, after_help = format!("{NOTICE}\n\n{ENVIRONMENT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// Converted model to use instead of the built-in one; `convert` makes one from Keras .h5
    /// files. Or a name: `commercial` for the model of freely licensed recordings (feature
    /// `commercial-model`), or `default`; a file of that name is `./commercial`.
    #[arg(long, value_name = "BUNDLE|NAME")]
    pub model: Option<PathBuf>,
    /// Random dropout in the emotion network: `off`, or the number of draws for the mean and
    /// deviation.
    #[arg(long, value_name = "off|N", default_value = DRAWS, value_parser = dropout)]
    dropout: DropoutArgument,
    /// Seed of the draws; the same seed gives the same results.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Channel to analyse: a number from 1, or `mix` for the mean of all channels.
    #[arg(long, value_name = "N|mix", default_value = "mix", value_parser = channel, conflicts_with_all = ["eval", "dump_features"])]
    channel: ChannelArgument,
    /// Number of threads, for several recordings at once and for parts of one [default: one per
    /// processor]. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)))]
    pub threads: Option<u32>,
    /// Device that computes: `cpu`, `cuda` or `cuda:N` for NVIDIA's GPU number N, or `auto` for a
    /// GPU if there is one.
    #[arg(long, value_name = "cpu|cuda[:N]|auto", default_value = "cpu", value_parser = device::parse, conflicts_with_all = ["eval", "dump_features", "enroll"])]
    pub device: Device,
    /// Output format.
    #[arg(long, value_parser = format(), default_value_t = Format::Table)]
    pub format: Format,
    /// Writes to this file instead of standard output. A format with one file per recording also
    /// takes an existing folder, and each file gets its recording's name.
    #[arg(short, long, value_name = "FILE|DIR")]
    pub output: Option<PathBuf>,
    /// With `--format csv`, writes one row per segment of speech.
    #[arg(long)]
    pub segments: bool,
    /// Continues the output of an interrupted run: skips the recordings that the file after `-o` holds
    /// and appends the others. Needs `--format jsonl`.
    #[arg(long, requires = "output", conflicts_with_all = ["eval", "dump_features", "speaker_from", "enroll", "profile"])]
    pub resume: bool,
    /// Makes a profile of the speaker of all recordings and writes it to this file, which only its
    /// owner may read. It is personal data; nothing else is stored.
    #[arg(long, value_name = "PROFILE", conflicts_with_all = ["eval", "dump_features", "profile", "speaker_from", "output", "segments"])]
    pub enroll: Option<PathBuf>,
    /// Makes emotions relative to the speaker of this profile, made by `--enroll` with the same
    /// model.
    #[arg(long, value_name = "PROFILE", conflicts_with_all = ["eval", "dump_features", "speaker_from"])]
    pub profile: Option<PathBuf>,
    /// Makes the emotions of each recording relative to its speaker's other recordings: those in
    /// the same folder, those with the same value in a column of a manifest (`.csv`), `all`, or
    /// none of them (`file`). Reads everything twice.
    #[arg(long, value_name = "folder|column:NAME|all|file", conflicts_with_all = ["eval", "dump_features"])]
    pub speaker_from: Option<SpeakerFrom>,
    /// Measures the model on the recordings of a CSV file with the columns path, emotion, gender,
    /// age and speaker: tables to standard output, or with `--format json` or `-o` a JSON document.
    #[arg(long, value_name = "MANIFEST", conflicts_with = "dump_features")]
    pub eval: Option<PathBuf>,
    /// Uses only the manifest's rows with this value in their column `split`.
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Also measures emotions with profiles of this many of the speaker's other recordings: a list
    /// of sizes, and `all`.
    #[arg(
        long,
        value_name = "0,1,3,10,all",
        value_delimiter = ',',
        requires = "eval"
    )]
    pub profile_sizes: Vec<ProfileSize>,
    /// Writes the tables of --eval to this file instead of standard output.
    #[arg(long, value_name = "FILE", requires = "eval")]
    pub text: Option<PathBuf>,
    /// Writes the networks' inputs for recordings, folders or a manifest (`.csv`) as NumPy arrays.
    #[arg(long, value_name = "NPZ", conflicts_with = "output")]
    pub dump_features: Option<PathBuf>,
    /// Computes the features with this front end [default: the model's].
    #[arg(long, value_enum, requires = "dump_features", conflicts_with = "model")]
    pub front_end: Option<FrontEndArgument>,
    /// Checks first that the model reproduces the outputs stored with it.
    #[arg(long)]
    pub self_test: bool,
    /// Recordings (WAV, FLAC, MP3, AAC, Ogg with Vorbis or Opus, AIFF, M4A, MP4, WebM), folders of
    /// recordings, or `-` for standard input.
    #[arg(value_name = "WAV|DIR|-", required_unless_present_any = ["self_test", "eval"], conflicts_with = "eval")]
    pub recordings: Vec<PathBuf>,
}

impl Arguments {
    /// Returns the meaning of `--model`.
    pub fn model(&self) -> Source<'_> {
        Source::new(self.model.as_deref())
    }

    /// Returns the dropout mode of `--dropout` and `--seed`.
    pub fn dropout(&self) -> DropoutMode {
        match self.dropout {
            DropoutArgument::Off => DropoutMode::Off,
            DropoutArgument::Draws(n) => DropoutMode::Draws { n, seed: self.seed },
        }
    }

    /// Returns the channel of `--channel`.
    pub fn channel(&self) -> Option<u32> {
        self.channel.0
    }

    /// Returns the manifest that lists the recordings, if there is one.
    pub fn manifest(&self) -> Option<&Path> {
        match (&self.speaker_from, &*self.recordings) {
            (Some(SpeakerFrom::Column(_)), [path]) => Some(path),
            _ => None,
        }
    }

    /// Returns the number of threads: as requested, or one per processor, but no more than are
    /// useful.
    pub fn threads(&self, recordings: usize) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map_or_else(processors, |n| n as usize);
        threads.min(recordings.saturating_mul(THREADS_PER_RECORDING))
    }
}

const ENVIRONMENT: &str = "Environment: MAEUM_ISA names the instruction set to use (portable, \
                           avx2, avx512, neon) instead of the fastest; answers do not depend on \
                           it.";

const EXIT_CODES: &str = "Exit code: 0 all recordings have an answer, 1 at least one has none, for \
                          example because there is no speech in it, or \
                          the model or output does not work, 2 the command line is wrong.";

#[derive(Clone, Copy)]
pub enum DropoutArgument {
    Off,
    Draws(NonZeroU32),
}

fn dropout(text: &str) -> Result<DropoutArgument, String> {
    if text == "off" {
        return Ok(DropoutArgument::Off);
    }
    text.parse()
        .ok()
        .and_then(NonZeroU32::new)
        .filter(|n| n.get() <= MAX_DRAWS)
        .map(DropoutArgument::Draws)
        .ok_or_else(|| format!("give `off` or a number of draws from 1 to {MAX_DRAWS}"))
}

#[derive(Clone, Copy)]
struct ChannelArgument(Option<u32>);

fn channel(text: &str) -> Result<ChannelArgument, String> {
    decode::channel(text).map(ChannelArgument)
}

/// Rule that assigns recordings to speakers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpeakerFrom {
    /// One speaker per folder.
    Folder,
    /// One speaker per recording.
    File,
    /// One speaker for all recordings.
    All,
    /// One speaker per value of this column of a manifest.
    Column(String),
}

impl FromStr for SpeakerFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "folder" => Ok(Self::Folder),
            None if text == "file" => Ok(Self::File),
            None if text == "all" => Ok(Self::All),
            Some(("column", name)) if !name.is_empty() => Ok(Self::Column(name.into())),
            _ => Err(
                "give `folder`, `file`, `all`, or `column:` and the name of a manifest's column"
                    .into(),
            ),
        }
    }
}

/// Returns a parser with the name and description of every format.
fn format() -> impl TypedValueParser<Value = Format> {
    let values = Format::ALL.map(|f| PossibleValue::new(f.name()).help(f.description()));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Format>())
}

#[derive(Clone, Copy, ValueEnum)]
pub enum FrontEndArgument {
    /// Default networks: per-frame values and descriptors of the whole recording.
    Utterance,
    /// System of 2020: mel windows, transforms, histogram and moments.
    #[value(name = "reference")]
    Legacy2020,
}
