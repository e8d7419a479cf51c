//! Output of predictions: one destination, or one file per recording.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::Recognizer;
use crate::app::batch::Batch;
use crate::app::inputs::Input;
use crate::app::resume::Journal;
use crate::app::sink::{Sink, SinkError};
use crate::atomic_file::replaces;
use crate::formats::names::Names;
use crate::formats::{Format, Reporter};
use clap::error::ErrorKind;

use super::{Arguments, Selection, Stop, output_error, print_error, progress, usage_error};
use crate::programs::stdout;

pub enum Output {
    Single {
        sink: Sink,
        /// True if the format has one document per recording: a failed recording leaves no file.
        per_recording: bool,
    },
    /// Path of each recording's file.
    PerRecording(std::vec::IntoIter<PathBuf>),
    /// A file of JSON lines that an earlier run may have begun.
    Journal(Journal),
}

impl Output {
    /// Creates the output of the command line.
    ///
    /// # Errors
    /// When the output does not fit the format or cannot be written.
    pub fn new(arguments: &Arguments, inputs: &[Input]) -> Result<Self, Stop> {
        let files = inputs.iter().filter_map(Input::path);
        let read = files
            .chain(arguments.model().path())
            .chain(arguments.profile.as_deref())
            .chain(arguments.manifest());
        let format = arguments.format;
        let output = arguments.output.as_deref();
        if format.is_per_recording() {
            if let Some(folder) = output.filter(|path| path.is_dir()) {
                let paths = paths(folder, format, inputs, read).map_err(|e| output_error(&e))?;
                return Ok(Self::PerRecording(paths.into_iter()));
            }
            if inputs.len() > 1 {
                let message = format!(
                    "the format {format} has one file per recording; for {} recordings give an \
                     existing folder after -o",
                    inputs.len()
                );
                return usage_error(ErrorKind::ArgumentConflict, &message);
            }
        }
        let sink = match output {
            None => stdout::open().map_err(|e| output_error(&e))?,
            Some(path) => Sink::file(path, read).map_err(|e| output_error(&e))?,
        };
        Ok(Self::Single {
            sink,
            per_recording: format.is_per_recording(),
        })
    }

    /// Continues the file `path` and leaves out the recordings that it holds.
    ///
    /// # Errors
    /// The file is one of the recordings, or cannot be continued.
    pub fn resume(
        arguments: &Arguments,
        path: &Path,
        recognizer: &Recognizer,
        selection: &mut Selection,
    ) -> Result<Self, String> {
        let mut read = selection.inputs.iter().filter_map(Input::path);
        if read.any(replaces(path)) {
            return Err(output_error(&SinkError::IsInput(
                path.display().to_string(),
            )));
        }
        let journal = Journal::open(path, recognizer, &arguments.dropout(), arguments.channel());
        let journal = journal.map_err(|e| e.to_string())?;
        if journal.finished() > 0 {
            print_error(&format!(
                "{} holds {} of the recordings",
                path.display(),
                journal.finished()
            ));
        }
        let inputs = std::mem::take(&mut selection.inputs);
        selection.inputs = journal.remaining(inputs).map_err(|e| e.to_string())?;
        Ok(Self::Journal(journal))
    }

    /// Number of recordings without an answer in an earlier run.
    pub fn failed(&self) -> usize {
        match self {
            Self::Single { .. } | Self::PerRecording(_) => 0,
            Self::Journal(journal) => journal.failed(),
        }
    }

    /// Writes all predictions; `failed` is called with the message of each failed recording.
    pub fn write(
        mut self,
        batch: &Batch<'_>,
        inputs: &[Input],
        mut reporter: Reporter,
        mut failed: impl FnMut(&str),
    ) -> Result<(), SinkError> {
        let progress = progress(inputs.len());
        let mut complete = true;
        if let Self::Single { sink, .. } = &mut self {
            sink.write(&reporter.begin())?;
        }
        batch.run(inputs, |input, outcome| -> Result<(), SinkError> {
            let text = reporter.recording(&input.name, outcome.as_ref());
            complete &= outcome.is_ok();
            progress.suspend(|| {
                if let Err(error) = &outcome {
                    failed(&error.message);
                }
                self.write_recording(&text, outcome.is_ok())
            })?;
            progress.inc(1);
            Ok(())
        })?;
        progress.finish_and_clear();
        match self {
            Self::Single {
                mut sink,
                per_recording,
            } => {
                sink.write(&reporter.end())?;
                match per_recording && !complete {
                    true => Ok(()),
                    false => sink.finish(),
                }
            }
            Self::PerRecording(_) => Ok(()),
            Self::Journal(journal) => Ok(journal.finish()?),
        }
    }

    /// Writes the text of the next recording. It is empty for a failed recording (`answered` is
    /// false) in a format that cannot express errors.
    fn write_recording(&mut self, text: &str, answered: bool) -> Result<(), SinkError> {
        match self {
            Self::Single { sink, .. } => sink.write(text),
            Self::Journal(journal) => Ok(journal.append(text)?),
            Self::PerRecording(paths) => {
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

/// Returns a path in `folder` for each input.
///
/// None may be one of the files in `read`. The check precedes all work, so that either every file
/// can be written or none is.
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
