//! Where the answers go: all to one place, or each to a file of its own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use maeum::app::batch::Batch;
use maeum::app::inputs::Input;
use maeum::app::sink::{Sink, SinkError};
use maeum::formats::names::Names;
use maeum::formats::{Format, Reporter};

use super::{Arguments, progress, usage_error};

pub enum Output {
    One {
        sink: Sink,
        /// Whether a recording without an answer leaves nothing to complete.
        per_recording: bool,
    },
    /// The path of each recording's file.
    Each(std::vec::IntoIter<PathBuf>),
}

impl Output {
    /// What the command line asks for; ends the program where that cannot be.
    pub fn new(arguments: &Arguments, inputs: &[Input]) -> Result<Self, String> {
        let files = inputs.iter().filter_map(Input::path);
        let read = files
            .chain(arguments.model.as_deref())
            .chain(arguments.profile.as_deref())
            .chain(arguments.manifest());
        let format = arguments.format;
        let output = arguments.output.as_deref();
        if format.is_per_recording() {
            if let Some(folder) = output.filter(|path| path.is_dir()) {
                let paths = paths(folder, format, inputs, read).map_err(|e| e.to_string())?;
                return Ok(Self::Each(paths.into_iter()));
            }
            if inputs.len() > 1 {
                let message = format!(
                    "the format {format} has one file per recording; for {} recordings give an \
                     existing folder after -o",
                    inputs.len()
                );
                usage_error(ErrorKind::ArgumentConflict, &message);
            }
        }
        let sink = match output {
            None => Sink::stdout(),
            Some(path) => Sink::file(path, read).map_err(|e| e.to_string())?,
        };
        Ok(Self::One {
            sink,
            per_recording: format.is_per_recording(),
        })
    }

    /// Writes all answers; `failed` hears why a recording has none.
    pub fn write(
        mut self,
        batch: &Batch<'_>,
        inputs: &[Input],
        mut reporter: Reporter,
        mut failed: impl FnMut(&str),
    ) -> Result<(), SinkError> {
        let progress = progress(inputs.len());
        let mut complete = true;
        if let Self::One { sink, .. } = &mut self {
            sink.write(&reporter.begin())?;
        }
        batch.run(inputs, |input, outcome| {
            let text = reporter.recording(&input.name, outcome.as_ref());
            complete &= outcome.is_ok();
            progress.suspend(|| {
                if let Err(error) = &outcome {
                    failed(&error.message);
                }
                self.put(&text, outcome.is_ok())
            })?;
            progress.inc(1);
            Ok(())
        })?;
        progress.finish_and_clear();
        match self {
            Self::One {
                mut sink,
                per_recording,
            } => {
                sink.write(&reporter.end())?;
                match per_recording && !complete {
                    true => Ok(()),
                    false => sink.finish(),
                }
            }
            Self::Each(_) => Ok(()),
        }
    }

    /// The text of the next recording, which is empty unless it is `answered` or the format has a
    /// place for failures.
    fn put(&mut self, text: &str, answered: bool) -> Result<(), SinkError> {
        match self {
            Self::One { sink, .. } => sink.write(text),
            Self::Each(paths) => {
                let path = paths.next();
                let Some(path) = path.filter(|_| answered) else {
                    return Ok(());
                };
                let mut sink = Sink::file(&path, [])?;
                sink.write(text)?;
                sink.finish()
            }
        }
    }
}

/// A file in `folder` for each input, named after it. None of them may be a file that is `read`:
/// that is found out before the work, so that either all files can be written or none is.
fn paths<'a>(
    folder: &Path,
    format: Format,
    inputs: &[Input],
    read: impl Iterator<Item = &'a Path>,
) -> Result<Vec<PathBuf>, SinkError> {
    let read: HashSet<PathBuf> = read.filter_map(|path| path.canonicalize().ok()).collect();
    let mut names = Names::new("-");
    let paths = inputs.iter().map(|input| {
        let name = names.next(&input.name);
        let path = folder.join(format!("{name}.{}", format.extension()));
        match path.canonicalize() {
            Ok(existing) if read.contains(&existing) => {
                Err(SinkError::IsInput(path.display().to_string()))
            }
            _ => Ok(path),
        }
    });
    paths.collect()
}
