//! Options for model development: `--eval` and `--dump-features`.

use std::path::Path;

use crate::Recognizer;
use crate::app::batch::Batch;
use crate::app::dump;
use crate::app::eval::{Evaluator, profiles};
use crate::app::inputs;
use crate::app::manifest::Manifest;
use crate::app::sink::{Sink, SinkError};
use crate::atomic_file::replaces;
use crate::audio::Resampling;
use crate::formats::Format;
use crate::model::FrontEndKind;
use crate::model::Model;
use clap::error::ErrorKind;

use super::{
    Arguments, FrontEndArgument, Stop, model_error, output_error, print_error, progress,
    usage_error,
};

/// Evaluates the model on a manifest. Returns the number of failed recordings.
pub fn evaluate(
    arguments: &Arguments,
    path: &Path,
    recognizer: &Recognizer,
) -> Result<usize, Stop> {
    let json_to_stdout = match arguments.format {
        Format::Table => false,
        Format::Json => arguments.output.is_none(),
        _ => {
            return usage_error(
                ErrorKind::ArgumentConflict,
                "--eval writes the formats table and json",
            );
        }
    };
    let info = recognizer.info();
    let mut manifest = Manifest::read(path, &Manifest::EVALUATION).map_err(|e| e.to_string())?;
    if let Some(split) = &arguments.split {
        manifest.keep_split(split).map_err(|e| e.to_string())?;
    }
    manifest.check_labels(info).map_err(|e| e.to_string())?;
    let inputs = manifest.inputs();
    let file = |output: &Path| {
        let read = inputs
            .iter()
            .filter_map(|i| i.path())
            .chain(arguments.model().path())
            .chain([path]);
        Sink::file(output, read).map_err(|e| output_error(&e))
    };
    if arguments.text.is_some() && arguments.text == arguments.output {
        return usage_error(
            ErrorKind::ArgumentConflict,
            "-o and --text name the same file; give each its own",
        );
    }
    let stdout = || crate::programs::stdout::open().map_err(|e| output_error(&e));
    // An output that cannot be written is reported before the long computation.
    let json = match &arguments.output {
        Some(output) => Some(file(output)?),
        None => json_to_stdout.then(stdout).transpose()?,
    };
    let text = match &arguments.text {
        Some(output) => Some(file(output)?),
        None => (!json_to_stdout).then(stdout).transpose()?,
    };

    let batch = Batch::new(
        recognizer,
        arguments.dropout(),
        arguments.threads(inputs.len()),
    )
    .map_err(|e| e.to_string())?;
    let mut evaluator = Evaluator::new(&manifest, info);
    let progress = progress(inputs.len());
    let mut failed = 0;
    batch
        .run(&inputs, |_, outcome| {
            if let Err(error) = &outcome {
                failed += 1;
                progress.suspend(|| print_error(&error.message));
            }
            evaluator.add(&outcome);
            progress.inc(1);
            Ok::<(), SinkError>(())
        })
        .map_err(|e| e.to_string())?;
    progress.finish_and_clear();
    if !arguments.profile_sizes.is_empty() {
        let progress = super::progress(inputs.len());
        let points = profiles::curves(
            &batch,
            recognizer,
            &manifest,
            &arguments.profile_sizes,
            arguments.seed,
            || progress.inc(1),
        );
        progress.finish_and_clear();
        evaluator.add_profiles(points.map_err(|e| model_error(arguments, &e))?);
    }
    let identity = recognizer.model().identity();
    let evaluation = evaluator.finish(arguments.split.as_deref(), info, identity);
    for (sink, content) in [(json, evaluation.json()), (text, evaluation.text())] {
        let Some(mut sink) = sink else { continue };
        let written = sink.write(&content).and_then(|()| sink.finish());
        written.map_err(|e| output_error(&e))?;
    }
    Ok(failed)
}

/// Returns the front end of the model.
pub fn front_end(model: &Model) -> Option<FrontEndArgument> {
    model.info().front_end.map(|p| match p {
        FrontEndKind::Legacy2020 => FrontEndArgument::Legacy2020,
        FrontEndKind::Utterance => FrontEndArgument::Utterance,
    })
}

/// Writes the features of the recordings. Returns the number of failed recordings.
pub fn dump(
    arguments: &Arguments,
    output: &Path,
    front_end: FrontEndArgument,
    resampling: Resampling,
) -> Result<usize, Stop> {
    let manifest = match &*arguments.recordings {
        [path]
            if path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("csv")) =>
        {
            Some(path)
        }
        _ => None,
    };
    let inputs = match (manifest, &arguments.split) {
        (Some(path), split) => {
            let mut manifest = Manifest::read(path, &["path"]).map_err(|e| e.to_string())?;
            if let Some(split) = split {
                manifest.keep_split(split).map_err(|e| e.to_string())?;
            }
            manifest.inputs()
        }
        (None, Some(_)) => {
            return usage_error(
                ErrorKind::ArgumentConflict,
                "--split chooses rows of a manifest; give one",
            );
        }
        (None, None) => {
            let found = inputs::collect(&arguments.recordings);
            for skipped in &found.skipped {
                print_error(&skipped.to_string());
            }
            found.inputs
        }
    };
    let read = inputs.iter().filter_map(|i| i.path());
    if read
        .chain(manifest.map(|p| &**p))
        .chain(arguments.model().path())
        .any(replaces(output))
    {
        let error = SinkError::IsInput(output.display().to_string());
        return Err(output_error(&error).into());
    }
    let front_end: &dyn dump::FeatureSource = match front_end {
        FrontEndArgument::Utterance => &dump::Utterance::new(resampling),
        FrontEndArgument::Legacy2020 => &dump::Legacy2020::new(resampling),
    };
    let progress = progress(inputs.len());
    let mut failed = 0;
    let threads = arguments.threads(inputs.len());
    let written = dump::dump(front_end, &inputs, threads, output, |outcome| {
        if let Err(message) = outcome {
            failed += 1;
            progress.suspend(|| print_error(message));
        }
        progress.inc(1);
    });
    progress.finish_and_clear();
    written.map_err(|e| e.to_string())?;
    Ok(failed)
}
