//! What `infer` does for those who make models: `--eval` and `--dump-features`.

use std::path::Path;

use clap::error::ErrorKind;
use maeum::Recognizer;
use maeum::app::batch::Batch;
use maeum::app::dump;
use maeum::app::eval::{Evaluator, profiles};
use maeum::app::inputs;
use maeum::app::manifest::Manifest;
use maeum::app::sink::{Sink, SinkError};
use maeum::audio::Resampling;
use maeum::formats::Format;
use maeum::model::FrontEndKind;
use maeum::model::Model;

use super::{Arguments, FrontEndArgument, complain, of_model, progress, usage_error};

/// Returns how many recordings have no answer.
pub fn evaluate(
    arguments: &Arguments,
    path: &Path,
    recognizer: &Recognizer,
) -> Result<usize, String> {
    let json_to_stdout = match arguments.format {
        Format::Table => false,
        Format::Json => arguments.output.is_none(),
        _ => usage_error(
            ErrorKind::ArgumentConflict,
            "--eval writes the formats table and json",
        ),
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
            .chain(arguments.model.as_deref())
            .chain([path]);
        Sink::file(output, read).map_err(|e| e.to_string())
    };
    if arguments.text.is_some() && arguments.text == arguments.output {
        usage_error(
            ErrorKind::ArgumentConflict,
            "-o and --text name the same file; give each its own",
        );
    }
    // Before the work, so that a name that cannot be written costs no time.
    let json = match &arguments.output {
        Some(output) => Some(file(output)?),
        None => json_to_stdout.then(Sink::stdout),
    };
    let text = match &arguments.text {
        Some(output) => Some(file(output)?),
        None => (!json_to_stdout).then(Sink::stdout),
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
                progress.suspend(|| complain(&error.message));
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
        evaluator.add_profiles(points.map_err(|e| of_model(arguments, &e))?);
    }
    let identity = recognizer.model().identity();
    let evaluation = evaluator.finish(arguments.split.as_deref(), info, identity);
    for (sink, said) in [(json, evaluation.json()), (text, evaluation.text())] {
        let Some(mut sink) = sink else { continue };
        let written = sink.write(&said).and_then(|()| sink.finish());
        written.map_err(|e| e.to_string())?;
    }
    Ok(failed)
}

/// The features that the model's networks read.
pub fn front_end(model: &Model) -> Option<FrontEndArgument> {
    model.info().front_end.map(|p| match p {
        FrontEndKind::Legacy2020 => FrontEndArgument::Reference,
        FrontEndKind::Utterance => FrontEndArgument::Utterance,
    })
}

/// Returns how many recordings are left out.
pub fn dump(
    arguments: &Arguments,
    output: &Path,
    front_end: FrontEndArgument,
    resampling: Resampling,
) -> Result<usize, String> {
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
        (None, Some(_)) => usage_error(
            ErrorKind::ArgumentConflict,
            "--split chooses rows of a manifest; give one",
        ),
        (None, None) => {
            let found = inputs::collect(&arguments.recordings);
            for passed_over in &found.passed_over {
                complain(&passed_over.to_string());
            }
            found.inputs
        }
    };
    let read = inputs.iter().filter_map(|i| i.path());
    let is_output = |path: &Path| {
        output
            .canonicalize()
            .is_ok_and(|output| path.canonicalize().is_ok_and(|path| path == output))
    };
    if read
        .chain(manifest.map(|p| &**p))
        .chain(arguments.model.as_deref())
        .any(is_output)
    {
        return Err(SinkError::IsInput(output.display().to_string()).to_string());
    }
    let front_end: &dyn dump::FrontEnd = match front_end {
        FrontEndArgument::Utterance => &dump::Utterance::new(resampling),
        FrontEndArgument::Reference => &dump::Reference::new(resampling),
    };
    let progress = progress(inputs.len());
    let mut failed = 0;
    let threads = arguments.threads(inputs.len());
    let written = dump::dump(front_end, &inputs, threads, output, |outcome| {
        if let Err(message) = outcome {
            failed += 1;
            progress.suspend(|| complain(message));
        }
        progress.inc(1);
    });
    progress.finish_and_clear();
    written.map_err(|e| e.to_string())?;
    Ok(failed)
}
