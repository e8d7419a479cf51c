//! Where the answers go: all to one place, or each to a file of its own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use maeum::Recognizer;
use maeum::app::batch::Batch;
use maeum::app::inputs::Input;
use maeum::app::resume::Journal;
use maeum::app::sink::{Sink, SinkError};
use maeum::formats::names::Names;
use maeum::formats::{Format, Reporter};

use super::{Arguments, Asked, complain, progress, usage_error};

pub enum Output {
    One {
        sink: Sink,
        /// Whether a recording without an answer leaves nothing to complete.
        per_recording: bool,
    },
    /// The path of each recording's file.
    Each(std::vec::IntoIter<PathBuf>),
    /// A file of JSON lines that an earlier run may have begun.
    Journal(Journal),
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

    /// Continues the file `path` and leaves out the recordings that it holds.
    ///
    /// # Errors
    /// The file is one of the recordings, or cannot be continued.
    pub fn resume(
        arguments: &Arguments,
        path: &Path,
        recognizer: &Recognizer,
        asked: &mut Asked,
    ) -> Result<Self, String> {
        let is_output = |input: &Path| {
            let same = input.canonicalize().ok().zip(path.canonicalize().ok());
            same.is_some_and(|(input, output)| input == output)
        };
        if asked.inputs.iter().filter_map(Input::path).any(is_output) {
            return Err(SinkError::IsInput(path.display().to_string()).to_string());
        }
        let journal = Journal::open(path, recognizer, &arguments.dropout());
        let journal = journal.map_err(|e| e.to_string())?;
        if journal.finished() > 0 {
            complain(&format!(
                "{} holds {} of the recordings",
                path.display(),
                journal.finished()
            ));
        }
        asked.inputs = journal.remaining(std::mem::take(&mut asked.inputs));
        Ok(Self::Journal(journal))
    }

    /// Number of recordings without an answer in an earlier run.
    pub fn failed(&self) -> usize {
        match self {
            Self::One { .. } | Self::Each(_) => 0,
            Self::Journal(journal) => journal.failed(),
        }
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
        batch.run(inputs, |input, outcome| -> Result<(), SinkError> {
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
            Self::Journal(journal) => Ok(journal.finish()?),
        }
    }

    /// The text of the next recording, which is empty unless it is `answered` or the format has a
    /// place for failures.
    fn put(&mut self, text: &str, answered: bool) -> Result<(), SinkError> {
        match self {
            Self::One { sink, .. } => sink.write(text),
            Self::Journal(journal) => Ok(journal.append(text)?),
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
