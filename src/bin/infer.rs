//! Recognises voice recordings from the command line.

use std::io::{self, IsTerminal};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use maeum::Recognizer;
use maeum::audio::Resampling;
use maeum::nn::{DropoutMode, Model, bundle};
use maeum::report::batch::Batch;
use maeum::report::inputs::{self, STANDARD_INPUT};
use maeum::report::sink::{Sink, SinkError};
use maeum::report::{self, NOTICE, Reporter, printable};

#[path = "infer/measure.rs"]
mod measure;

/// Draws unless the command line says otherwise: the deviation of a mean over them is a sixth of
/// that of a single answer of the original.
const DRAWS: &str = "32";
const MAX_DRAWS: u32 = 100_000;
const MAX_THREADS: u32 = 1024;

/// Listens to voice recordings and estimates which emotion they carry, how old the speaker sounds
/// and which gender.
#[derive(Parser)]
#[command(name = "infer", version, after_help = format!("{NOTICE}\n\n{EXIT_CODES}"))]
struct Arguments {
    /// A converted model instead of the built-in one; `convert` makes one from Keras .h5 files.
    #[arg(long, value_name = "BUNDLE")]
    model: Option<PathBuf>,
    /// Random dropout in the emotion network: `off`, or the number of draws whose mean and
    /// deviation are given.
    #[arg(long, value_name = "off|N", default_value = DRAWS, value_parser = dropout)]
    dropout: DropoutArgument,
    /// Which draws; the same seed gives the same answer.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// How many recordings are worked on at once [default: one per processor]. Answers do not
    /// depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)))]
    threads: Option<u32>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Writes to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Measures the model on the recordings of a CSV file with the columns path, emotion, gender,
    /// age and speaker: tables to standard output, or with `--format json` or `-o` a JSON document.
    #[arg(long, value_name = "MANIFEST", conflicts_with = "dump_features")]
    eval: Option<PathBuf>,
    /// Takes only the manifest's rows with this word in their column `split`.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Writes the tables of --eval to this file instead of standard output.
    #[arg(long, value_name = "FILE", requires = "eval")]
    text: Option<PathBuf>,
    /// Writes what the networks are fed for recordings, folders or a manifest (`.csv`) as NumPy
    /// arrays.
    #[arg(long, value_name = "NPZ", conflicts_with = "output")]
    dump_features: Option<PathBuf>,
    /// Computes the features this way [default: the model's].
    #[arg(long, value_enum, requires = "dump_features", conflicts_with = "model")]
    front_end: Option<FrontEnd>,
    /// First checks that the model gives the outputs that were stored with it.
    #[arg(long)]
    self_test: bool,
    /// Recordings (WAV, FLAC, MP3, Ogg Vorbis, AIFF, M4A), folders to look for them in, or `-` for
    /// standard input.
    #[arg(value_name = "WAV|DIR|-", required_unless_present_any = ["self_test", "eval"], conflicts_with = "eval")]
    recordings: Vec<PathBuf>,
}

impl Arguments {
    fn dropout(&self) -> DropoutMode {
        match self.dropout {
            DropoutArgument::Off => DropoutMode::Off,
            DropoutArgument::Draws(n) => DropoutMode::Draws { n, seed: self.seed },
        }
    }

    /// As many as were asked for, or as there are processors, but no more than recordings.
    fn threads(&self, recordings: usize) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map_or_else(processors, |n| n as usize);
        threads.min(recordings)
    }
}

const EXIT_CODES: &str = "Exit code: 0 all recordings have an answer, 1 at least one failed or \
                          the model or output does not work, 2 the command line is wrong.";

#[derive(Clone, Copy)]
enum DropoutArgument {
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

#[derive(Clone, Copy, ValueEnum)]
enum FrontEnd {
    /// Of the default networks: per-frame values and descriptors of the whole recording.
    Utterance,
    /// Of the system of 2020: mel windows, transforms, histogram and moments.
    Reference,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One document with everything.
    Json,
    /// The same records, one per line.
    Jsonl,
    /// A header and one row per recording.
    Csv,
    /// The object of the original system, one per line.
    Codes,
}

impl From<Format> for report::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Table => Self::Table,
            Format::Json => Self::Json,
            Format::Jsonl => Self::Jsonl,
            Format::Csv => Self::Csv,
            Format::Codes => Self::Codes,
        }
    }
}

fn main() -> ExitCode {
    maeum::audio::silence_caught_panics();
    let arguments = Arguments::parse();
    if let (Some(path), Some(front_end)) = (&arguments.dump_features, arguments.front_end) {
        let exact = Resampling::Exact;
        return exit(measure::dump(&arguments, path, front_end, exact));
    }
    let from_stdin = |path: &&PathBuf| path.as_os_str() == STANDARD_INPUT;
    if arguments.recordings.iter().filter(from_stdin).count() > 1 {
        usage_error(
            ErrorKind::ArgumentConflict,
            "standard input can be read only once; give `-` once",
        );
    }
    if arguments.split.is_some() && arguments.eval.is_none() && arguments.dump_features.is_none() {
        usage_error(
            ErrorKind::MissingRequiredArgument,
            "--split chooses rows of a manifest; give one with --eval",
        );
    }
    exit(run(&arguments))
}

/// `outcome`: how many recordings failed, or why none could be tried.
fn exit(outcome: Result<usize, String>) -> ExitCode {
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

fn usage_error(kind: ErrorKind, message: &str) -> ! {
    Arguments::command().error(kind, message).exit()
}

/// To standard error; a reader that is gone does not matter.
fn complain(message: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "infer: {}", printable(message));
}

/// The model at `path`, or the built-in one.
fn load(path: Option<&Path>) -> Result<Model, String> {
    match path {
        Some(path) => bundle::load(path).map_err(|e| e.to_string()),
        None => built_in(),
    }
}

#[cfg(feature = "default-model")]
fn built_in() -> Result<Model, String> {
    maeum::default_model::load().map_err(|e| e.to_string())
}

#[cfg(not(feature = "default-model"))]
fn built_in() -> Result<Model, String> {
    usage_error(
        ErrorKind::MissingRequiredArgument,
        "this program was built without a model of its own; give one with --model BUNDLE. `convert` \
         makes one from the five Keras files:\n\n    \
         convert FOLDER_WITH_H5_FILES -o model.safetensors\n    \
         infer --model model.safetensors recording.wav",
    )
}

/// Returns how many recordings have no answer.
fn run(arguments: &Arguments) -> Result<usize, String> {
    let model_path = arguments.model.as_deref();
    let model = load(model_path)?;
    let of_model = |e: &dyn std::fmt::Display| match model_path {
        Some(path) => format!("{}: {e}", path.display()),
        None => format!("the built-in model: {e}"),
    };
    if arguments.self_test {
        complain(&self_test(&model).map_err(|e| of_model(&e))?);
    }
    if let Some(path) = &arguments.dump_features {
        let front_end = measure::front_end(&model).ok_or_else(|| {
            of_model(&"it is no speech model; choose the features with --front-end")
        })?;
        return measure::dump(arguments, path, front_end, model.info().resampling);
    }
    if arguments.recordings.is_empty() && arguments.eval.is_none() {
        return Ok(0);
    }
    let recognizer = Recognizer::new(model).map_err(|e| of_model(&e))?;
    if let Some(manifest) = &arguments.eval {
        return measure::evaluate(arguments, manifest, &recognizer);
    }
    let identity = recognizer.model().identity();
    let reporter = Reporter::new(arguments.format.into(), recognizer.info(), identity)
        .map_err(|e| of_model(&e))?;
    let inputs = inputs::collect(&arguments.recordings);
    let sink = match &arguments.output {
        None => Sink::stdout(),
        Some(path) => {
            let read = inputs.iter().filter_map(|i| i.path()).chain(model_path);
            Sink::file(path, read).map_err(|e| e.to_string())?
        }
    };
    let threads = arguments.threads(inputs.len());
    let batch = Batch::new(&recognizer, arguments.dropout(), threads).map_err(|e| e.to_string())?;
    let seen = arguments.output.is_none() && io::stdout().is_terminal();
    let errors_are_seen = seen && matches!(arguments.format, Format::Table);
    let mut failed = 0;
    match write_all(&batch, &inputs, reporter, sink, |message| {
        failed += 1;
        if !errors_are_seen {
            complain(message);
        }
    }) {
        Err(error) if error.is_broken_pipe() => {}
        Err(error) => return Err(error.to_string()),
        Ok(()) if failed > 0 && inputs.len() > 1 => {
            complain(&format!("{failed} of {} recordings failed", inputs.len()));
        }
        Ok(()) => {}
    }
    Ok(failed)
}

/// Writes the whole report; `failed` hears why a recording has no answer.
fn write_all(
    batch: &Batch<'_>,
    inputs: &[inputs::Input],
    mut reporter: Reporter,
    mut sink: Sink,
    mut failed: impl FnMut(&str),
) -> Result<(), SinkError> {
    let progress = progress(inputs.len());
    sink.write(&reporter.begin())?;
    batch.run(inputs, |input, outcome| {
        let outcome = outcome.as_ref().map_err(|message| &**message);
        let text = reporter.recording(&input.name, outcome);
        progress.suspend(|| {
            if let Err(message) = outcome {
                failed(message);
            }
            sink.write(&text)
        })?;
        progress.inc(1);
        Ok(())
    })?;
    progress.finish_and_clear();
    sink.write(&reporter.end())?;
    sink.finish()
}

/// Shown only for several recordings, and only to somebody who watches.
fn progress(recordings: usize) -> ProgressBar {
    if recordings < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} recordings, {eta} left")
        .expect("the template is well-formed");
    ProgressBar::new(recordings as u64).with_style(style)
}

/// Says what was compared.
fn self_test(model: &Model) -> Result<String, String> {
    let networks = model.networks();
    let tested = networks.iter().filter(|n| n.self_test.is_some()).count();
    if tested == 0 {
        return Err(
            "the model holds nothing to test it with; convert the original files again".into(),
        );
    }
    model.self_test().map_err(|e| {
        format!("{e}. The file or this build is damaged: convert the original files again")
    })?;
    let name = &model.info().name;
    Ok(format!(
        "self-test passed: {tested} of {} networks of {name:?} give their stored outputs",
        networks.len()
    ))
}
