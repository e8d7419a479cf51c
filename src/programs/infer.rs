//! Program `infer`: recognition of voice recordings.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Recognizer;
use crate::app::batch::{Batch, FeatureResult, Threads, extract_features};
use crate::app::inputs;
use crate::app::inputs::{Input, STANDARD_INPUT};
use crate::app::sink::SinkError;
use crate::audio::Resampling;
use crate::formats::{Format, Reporter, printable};
use crate::model::Model;
use crate::recognizer::FrontEnd;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory};
use indicatif::{ProgressBar, ProgressStyle};

use arguments::{Arguments, FrontEndArgument};
use output::Output;
use speakers::Selection;

use super::device::{self, Device};
use super::{FAILURE, SUCCESS, model, signals};

mod arguments;
mod measure;
mod output;
mod speakers;

/// Reason for which the program ends early.
enum Stop {
    /// The command line is wrong.
    Usage(ErrorKind, String),
    /// The model, the output or all recordings cannot be used.
    Failure(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Failure(message)
    }
}

/// Returns the description of the command line.
pub fn command() -> Command {
    Arguments::command()
}

/// Runs the program; returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    crate::audio::silence_caught_panics();
    let words: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match super::parse(&words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match check(&arguments).and_then(|()| start(&arguments)) {
        Ok(0) => SUCCESS,
        Ok(_) => FAILURE,
        Err(Stop::Usage(kind, message)) => super::usage_error(command(), &words, kind, &message),
        Err(Stop::Failure(message)) => {
            print_error(&message);
            FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<usize, Stop> {
    if arguments.output.is_some() || arguments.dump_features.is_some() || arguments.text.is_some() {
        signals::remove_unfinished_files();
    }
    if let (Some(path), Some(front_end)) = (&arguments.dump_features, arguments.front_end) {
        let exact = Resampling::Exact;
        return measure::dump(arguments, path, front_end, exact);
    }
    run(arguments)
}

/// Checks the requirements of arguments that clap cannot express.
fn check(arguments: &Arguments) -> Result<(), Stop> {
    if arguments.dump_features.is_some() && arguments.front_end.is_some() {
        return Ok(());
    }
    let from_stdin = |path: &&PathBuf| path.as_os_str() == STANDARD_INPUT;
    if arguments.recordings.iter().filter(from_stdin).count() > 1 {
        return usage_error(
            ErrorKind::ArgumentConflict,
            "standard input can be read only once; give `-` once",
        );
    }
    if arguments.segments && !matches!(arguments.format, Format::Csv | Format::ExcelCsv) {
        return usage_error(
            ErrorKind::ArgumentConflict,
            "--segments chooses the rows of CSV; give it with --format csv (json has all segments)",
        );
    }
    if arguments.resume && arguments.format != Format::Jsonl {
        return usage_error(
            ErrorKind::ArgumentConflict,
            "--resume continues a file of JSON lines; give it with --format jsonl",
        );
    }
    if arguments.resume && arguments.recordings.iter().any(|path| from_stdin(&path)) {
        return usage_error(
            ErrorKind::ArgumentConflict,
            "--resume knows recordings by their names; name a file instead of `-`",
        );
    }
    if arguments.split.is_some() && arguments.eval.is_none() && arguments.dump_features.is_none() {
        return usage_error(
            ErrorKind::MissingRequiredArgument,
            "--split chooses rows of a manifest; give one with --eval",
        );
    }
    // clap does not check the requirements of an argument that recordings conflict with.
    if !arguments.profile_sizes.is_empty() && arguments.eval.is_none() {
        return usage_error(
            ErrorKind::MissingRequiredArgument,
            "--profile-sizes belongs to --eval",
        );
    }
    Ok(())
}

/// Returns the message of an output error, with the option that names the output.
fn output_error(error: &SinkError) -> String {
    match error {
        SinkError::IsInput(_)
        | SinkError::IsFolder(_)
        | SinkError::NoFolder(_)
        | SinkError::NoName(_)
        | SinkError::Closed => format!("{error} after -o"),
        _ => error.to_string(),
    }
}

fn usage_error<T>(kind: ErrorKind, message: &str) -> Result<T, Stop> {
    Err(Stop::Usage(kind, message.into()))
}

/// Prints a message to standard error; a closed standard error is ignored.
fn print_error(message: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "infer: {}", printable(message));
}

/// Runs the program. Returns the number of failed recordings.
fn run(arguments: &Arguments) -> Result<usize, Stop> {
    let Arguments {
        self_test: tests,
        dump_features,
        eval,
        recordings,
        ..
    } = arguments;
    if !tests && dump_features.is_none() && eval.is_none() {
        return recognise(arguments);
    }
    let model = model::load(arguments.model.as_deref())?;
    if *tests {
        print_error(&self_test(&model).map_err(|e| model_error(arguments, &e))?);
    }
    if let Some(path) = dump_features {
        let front_end = measure::front_end(&model).ok_or_else(|| {
            let problem = "it is no speech model; choose the features with --front-end";
            model_error(arguments, &problem)
        })?;
        return measure::dump(arguments, path, front_end, model.info().resampling);
    }
    if recordings.is_empty() && eval.is_none() {
        return Ok(0);
    }
    let recognizer = Recognizer::new(model).map_err(|e| model_error(arguments, &e))?;
    if let Some(manifest) = eval {
        return measure::evaluate(arguments, manifest, &recognizer);
    }
    let selection = Selection::new(arguments)?;
    let threads = threads(arguments, &selection.inputs)?;
    write_results(arguments, selection, &recognizer, threads, None)
}

/// Returns the recordings of the arguments; reports skipped files.
fn collect_inputs(arguments: &Arguments) -> Vec<Input> {
    let found = inputs::collect(&arguments.recordings);
    for skipped in &found.skipped {
        print_error(&skipped.to_string());
    }
    let channel = arguments.channel();
    let inputs = found.inputs.into_iter();
    inputs.map(|input| input.with_channel(channel)).collect()
}

/// Returns a message about a problem of the model.
fn model_error(arguments: &Arguments, problem: &dyn std::fmt::Display) -> String {
    format!("{}: {problem}", arguments.model())
}

fn threads(arguments: &Arguments, inputs: &[Input]) -> Result<Threads, String> {
    Threads::new(arguments.threads(inputs.len())).map_err(|e| e.to_string())
}

/// Recognises the recordings. Returns the number of failed recordings.
///
/// An idle thread loads the networks while another extracts the features of the first recording.
fn recognise(arguments: &Arguments) -> Result<usize, Stop> {
    let selection = Selection::new(arguments)?;
    let inputs = &selection.inputs;
    // The threads start before the model's description is read, so that both overlap.
    let threads = threads(arguments, inputs)?;
    let bundle = model::open(arguments.model.as_deref())?;
    // A pipe may deliver nothing for a long time, which would delay the report of a problem with
    // the model.
    let is_file = |input: &&Input| input.path().is_some_and(Path::is_file);
    let first = inputs.first().filter(is_file);
    let is_one_pass = arguments.enroll.is_none() && selection.groups.is_none() && !arguments.resume;
    let is_spare = inputs.len() < threads.count() && arguments.device == Device::Cpu && is_one_pass;
    let front_end = FrontEnd::new(bundle.info()).ok().map(Arc::new);
    let load = |front_end: Option<Arc<FrontEnd>>| {
        let model = bundle.model().map_err(|e| e.to_string())?;
        match front_end {
            Some(front_end) => Recognizer::with_front_end(model, front_end),
            None => Recognizer::new(model),
        }
        .map_err(|e| model_error(arguments, &e))
    };
    let (features, recognizer) = match (first, &front_end) {
        (Some(input), Some(front_end)) if is_spare => threads.join(
            || Some(extract_features(front_end, input, true)),
            || load(Some(Arc::clone(front_end))),
        ),
        _ => (None, load(front_end)),
    };
    write_results(arguments, selection, &recognizer?, threads, features)
}

/// Writes the predictions, or the speaker profile. Returns the number of failed recordings.
///
/// `first` holds the first input's features if they are computed already.
fn write_results(
    arguments: &Arguments,
    mut selection: Selection,
    recognizer: &Recognizer,
    threads: Threads,
    first: Option<FeatureResult>,
) -> Result<usize, Stop> {
    if let Some(path) = &arguments.enroll {
        let inputs = &selection.inputs;
        return Ok(speakers::enroll(
            arguments, path, recognizer, threads, inputs,
        )?);
    }
    let identity = recognizer.model().identity();
    let reporter = Reporter::new(arguments.format, recognizer.info(), identity);
    let reporter = reporter.map_err(|e| model_error(arguments, &e))?;
    let reporter = match arguments.segments {
        true => reporter.with_segment_rows(),
        false => reporter,
    };
    let output = match &arguments.output {
        Some(path) if arguments.resume => {
            Output::resume(arguments, path, recognizer, &mut selection)?
        }
        _ => Output::new(arguments, &selection.inputs)?,
    };
    let mut failed = output.failed();
    let batch = Batch::on(threads, recognizer, arguments.dropout()).with_first_features(first);
    let batch = match device::open(arguments.device, print_error)? {
        Some(gpu) => on_gpu(batch, gpu)?,
        None => batch,
    };
    let batch = speakers::with_speakers(batch, arguments, &mut selection)?;
    let inputs = &*selection.inputs;
    let seen = arguments.output.is_none() && io::stdout().is_terminal();
    let errors_are_seen = seen && matches!(arguments.format, Format::Table);
    match output.write(&batch, inputs, reporter, |message| {
        failed += 1;
        if !errors_are_seen {
            print_error(message);
        }
    }) {
        Err(error) => return Err(output_error(&error).into()),
        Ok(()) if failed > 0 && inputs.len() > 1 => {
            print_error(&format!("{failed} of {} recordings failed", inputs.len()));
        }
        Ok(()) => {}
    }
    Ok(failed)
}

#[cfg(feature = "cuda")]
fn on_gpu(batch: Batch<'_>, gpu: device::Gpu) -> Result<Batch<'_>, String> {
    let name = gpu.name();
    batch.on_device(&gpu).map_err(|e| format!("{name}: {e}"))
}

#[cfg(not(feature = "cuda"))]
fn on_gpu(_: Batch<'_>, none: device::Gpu) -> Result<Batch<'_>, String> {
    match none {}
}

/// Returns a progress bar, hidden for a single recording or without a terminal.
fn progress(recordings: usize) -> ProgressBar {
    if recordings < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} recordings, {eta} left")
        .expect("the template is well-formed");
    ProgressBar::new(recordings as u64).with_style(style)
}

/// Runs the model's self-test. Returns a description of the comparison.
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
