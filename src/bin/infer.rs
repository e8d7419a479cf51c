//! Recognises voice recordings from the command line.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use maeum::Recognizer;
use maeum::app::batch::{Batch, Extracted, Threads, extract};
use maeum::app::inputs;
use maeum::app::inputs::{Input, STANDARD_INPUT};
use maeum::audio::Resampling;
use maeum::formats::{Format, Reporter, printable};
use maeum::model::Model;
use maeum::recognizer::FrontEnd;

use arguments::{Arguments, FrontEndArgument};
use device::Device;
use output::Output;
use speakers::Asked;

#[path = "infer/arguments.rs"]
mod arguments;
#[path = "shared/device.rs"]
mod device;
#[path = "infer/measure.rs"]
mod measure;
#[path = "shared/model.rs"]
mod model;
#[path = "infer/output.rs"]
mod output;
#[path = "shared/signals.rs"]
mod signals;
#[path = "infer/speakers.rs"]
mod speakers;

fn main() -> ExitCode {
    maeum::audio::silence_caught_panics();
    let arguments = Arguments::parse();
    if arguments.output.is_some() || arguments.dump_features.is_some() || arguments.text.is_some() {
        signals::remove_unfinished_files();
    }
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
    if arguments.segments && arguments.format != Format::Csv {
        usage_error(
            ErrorKind::ArgumentConflict,
            "--segments chooses the rows of CSV; give it with --format csv (json has all segments)",
        );
    }
    if arguments.split.is_some() && arguments.eval.is_none() && arguments.dump_features.is_none() {
        usage_error(
            ErrorKind::MissingRequiredArgument,
            "--split chooses rows of a manifest; give one with --eval",
        );
    }
    // Of an argument that recordings conflict with, clap checks no requirement.
    if !arguments.profile_sizes.is_empty() && arguments.eval.is_none() {
        usage_error(
            ErrorKind::MissingRequiredArgument,
            "--profile-sizes belongs to --eval",
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

/// Returns how many recordings have no answer.
fn run(arguments: &Arguments) -> Result<usize, String> {
    let Arguments {
        self_test: tests,
        dump_features,
        eval,
        recordings,
        ..
    } = arguments;
    if !tests && dump_features.is_none() && eval.is_none() {
        return answer(arguments);
    }
    let model = model::load(arguments.model.as_deref())?;
    if *tests {
        complain(&self_test(&model).map_err(|e| of_model(arguments, &e))?);
    }
    if let Some(path) = dump_features {
        let front_end = measure::front_end(&model).ok_or_else(|| {
            let problem = "it is no speech model; choose the features with --front-end";
            of_model(arguments, &problem)
        })?;
        return measure::dump(arguments, path, front_end, model.info().resampling);
    }
    if recordings.is_empty() && eval.is_none() {
        return Ok(0);
    }
    let recognizer = Recognizer::new(model).map_err(|e| of_model(arguments, &e))?;
    if let Some(manifest) = eval {
        return measure::evaluate(arguments, manifest, &recognizer);
    }
    let asked = Asked::new(arguments)?;
    let threads = threads(arguments, &asked.inputs)?;
    answers(arguments, asked, &recognizer, threads, None)
}

/// Collects the recordings; reports other files in their folders.
fn collected(arguments: &Arguments) -> Vec<Input> {
    let found = inputs::collect(&arguments.recordings);
    for passed_over in &found.passed_over {
        complain(&passed_over.to_string());
    }
    let channel = arguments.channel();
    let inputs = found.inputs.into_iter();
    inputs.map(|input| input.with_channel(channel)).collect()
}

/// Says which model has a problem.
fn of_model(arguments: &Arguments, problem: &dyn std::fmt::Display) -> String {
    match &arguments.model {
        Some(path) => format!("{}: {problem}", path.display()),
        None => format!("the built-in model: {problem}"),
    }
}

fn threads(arguments: &Arguments, inputs: &[Input]) -> Result<Threads, String> {
    Threads::new(arguments.threads(inputs.len())).map_err(|e| e.to_string())
}

/// Returns how many recordings have no answer. A thread that has no recording of its own makes the
/// networks ready while another listens to the first recording.
fn answer(arguments: &Arguments) -> Result<usize, String> {
    let asked = Asked::new(arguments)?;
    let inputs = &asked.inputs;
    // They start while the description is read.
    let threads = threads(arguments, inputs)?;
    let bundle = model::open(arguments.model.as_deref())?;
    // A pipe may give nothing for a long time, in which a problem of the model would not be heard
    // of.
    let is_file = |input: &&Input| input.path().is_some_and(Path::is_file);
    let first = inputs.first().filter(is_file);
    let is_one_pass = arguments.enroll.is_none() && asked.groups.is_none();
    let is_spare = inputs.len() < threads.count() && arguments.device == Device::Cpu && is_one_pass;
    let front_end = FrontEnd::new(bundle.info()).ok().map(Arc::new);
    let ready = |front_end: Option<Arc<FrontEnd>>| {
        let model = bundle.model().map_err(|e| e.to_string())?;
        match front_end {
            Some(front_end) => Recognizer::with_front_end(model, front_end),
            None => Recognizer::new(model),
        }
        .map_err(|e| of_model(arguments, &e))
    };
    let (first, recognizer) = match (first, &front_end) {
        (Some(input), Some(front_end)) if is_spare => threads.join(
            || Some(extract(front_end, input, true)),
            || ready(Some(Arc::clone(front_end))),
        ),
        _ => (None, ready(front_end)),
    };
    answers(arguments, asked, &recognizer?, threads, first)
}

/// Returns how many recordings have no answer; `first` is what the first is to the networks, if
/// that is known.
fn answers(
    arguments: &Arguments,
    mut asked: Asked,
    recognizer: &Recognizer,
    threads: Threads,
    first: Option<Extracted>,
) -> Result<usize, String> {
    if let Some(path) = &arguments.enroll {
        return speakers::enroll(arguments, path, recognizer, threads, &asked.inputs);
    }
    let identity = recognizer.model().identity();
    let reporter = Reporter::new(arguments.format, recognizer.info(), identity);
    let reporter = reporter.map_err(|e| of_model(arguments, &e))?;
    let reporter = match arguments.segments {
        true => reporter.with_segment_rows(),
        false => reporter,
    };
    let output = Output::new(arguments, &asked.inputs)?;
    let batch = Batch::on(threads, recognizer, arguments.dropout()).with_first(first);
    let batch = match device::open(arguments.device, complain)? {
        Some(gpu) => on_gpu(batch, gpu)?,
        None => batch,
    };
    let batch = speakers::of(batch, arguments, &mut asked)?;
    let inputs = &*asked.inputs;
    let seen = arguments.output.is_none() && io::stdout().is_terminal();
    let errors_are_seen = seen && matches!(arguments.format, Format::Table);
    let mut failed = 0;
    match output.write(&batch, inputs, reporter, |message| {
        failed += 1;
        if !errors_are_seen {
            complain(message);
        }
    }) {
        Err(error) => return Err(error.to_string()),
        Ok(()) if failed > 0 && inputs.len() > 1 => {
            complain(&format!("{failed} of {} recordings failed", inputs.len()));
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
