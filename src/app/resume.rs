//! Continuation of a batch whose program was killed: the output is a file of JSON lines that grows with
//! every answer, and a later run skips the recordings that it holds.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::inputs::Input;
use crate::Recognizer;
use crate::formats::json;
use crate::nn::DropoutMode;

/// Why an output cannot be continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The file cannot be created, read or written.
    #[error(
        "cannot continue the output {file}: {source}; {}",
        crate::file_advice::to_write(source)
    )]
    Io {
        /// Path of the output.
        file: String,
        /// Cause given by the operating system.
        source: io::Error,
    },
    /// The output is no regular file, such as a pipe or a folder.
    #[error("the output {0} is no regular file and cannot be continued; name a file")]
    NotRegular(String),
    /// Another process holds the file.
    #[error("another program is writing the output {0}; wait for its end")]
    Busy(String),
    /// A line is no record of an answer.
    #[error("line {line} of the output {file} is no answer: {problem}; give another file")]
    Line {
        /// Path of the output.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Cause.
        problem: String,
    },
    /// The file holds answers of another model or another mode of dropout.
    #[error(
        "line {line} of the output {file} was made with another {what}; continue with the same one, or give another file"
    )]
    Other {
        /// Path of the output.
        file: String,
        /// Number of the line, from 1.
        line: usize,
        /// Name of the setting.
        what: &'static str,
    },
    /// Two recordings have the same name in the output, which holds text only.
    #[error(
        "two recordings are called {0} in the output, because their names are not valid UTF-8; rename one of them"
    )]
    SameName(String),
}

/// An output file that is continued. It is locked against other programs.
#[derive(Debug)]
pub struct Journal {
    name: String,
    file: File,
    /// Number of finished lines of each recording's name.
    finished: HashMap<String, usize>,
    failed: usize,
}

/// The fields of a line that decide on its use.
#[derive(Deserialize)]
struct Line {
    file: String,
    error: Option<String>,
    model: Option<ModelField>,
    dropout: Option<Value>,
    voice: Option<VoiceField>,
}

#[derive(Deserialize)]
struct VoiceField {
    channel: Option<u32>,
}

/// Beginnings of the lines of answers and of failures.
const BEGINNINGS: [&[u8]; 2] = [b"{\"file\":", b"{\"error\":"];

#[derive(Deserialize)]
struct ModelField {
    sha256: String,
}

impl Journal {
    /// Opens or creates the output at `path`, removes an incomplete last line and reads the names of the
    /// finished recordings. Every answer in it must be of the recogniser's model with the mode `dropout` and the
    /// selected `channel`.
    ///
    /// # Errors
    /// The file cannot be used, is no output of JSON lines, or is of another model or mode.
    pub fn open(
        path: &Path,
        recognizer: &Recognizer,
        dropout: &DropoutMode,
        channel: Option<u32>,
    ) -> Result<Self, ResumeError> {
        let name = path.display().to_string();
        // Before it is opened: opening a named pipe waits for its other end.
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(ResumeError::NotRegular(name));
        }
        let io = |source| ResumeError::Io {
            file: name.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ResumeError::Busy(name)),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let dropout = json::dropout(recognizer.effective_dropout(dropout));
        let mode = serde_json::to_value(dropout).expect("all keys are strings");
        let identity = recognizer.model().identity();
        let mut journal = Self {
            name: name.clone(),
            file: file.try_clone().map_err(io)?,
            finished: HashMap::new(),
            failed: 0,
        };
        let mut reader = BufReader::new(&file);
        let (mut complete, mut number) = (0u64, 0);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(io)?;
            number += 1;
            if bytes.last() != Some(&b'\n') {
                journal.check_beginning(number, &bytes)?;
                break;
            }
            complete += length as u64;
            journal.add(number, &bytes, identity, &mode, channel)?;
        }
        drop(reader);
        file.set_len(complete).map_err(io)?;
        journal.file.seek(SeekFrom::Start(complete)).map_err(io)?;
        Ok(journal)
    }

    fn add(
        &mut self,
        number: usize,
        bytes: &[u8],
        identity: &str,
        mode: &Value,
        channel: Option<u32>,
    ) -> Result<(), ResumeError> {
        let line: Line =
            serde_json::from_slice(bytes).map_err(|e| self.no_answer(number, &e.to_string()))?;
        let other = |what| ResumeError::Other {
            file: self.name.clone(),
            line: number,
            what,
        };
        if line.error.is_some() {
            self.failed += 1;
        } else {
            let (Some(model), Some(voice)) = (line.model, line.voice) else {
                return Err(self.no_answer(number, "it has no model or voice"));
            };
            if model.sha256 != identity {
                return Err(other("model"));
            }
            if voice.channel != channel {
                return Err(other("channel"));
            }
            if line.dropout.as_ref() != Some(mode) {
                return Err(other("mode of dropout"));
            }
        }
        *self.finished.entry(line.file).or_default() += 1;
        Ok(())
    }

    /// Checks that an incomplete last line is the beginning of a record, which may be removed.
    fn check_beginning(&self, number: usize, bytes: &[u8]) -> Result<(), ResumeError> {
        let is_beginning = |record: &&[u8]| bytes.starts_with(record) || record.starts_with(bytes);
        match BEGINNINGS.iter().any(is_beginning) {
            true => Ok(()),
            false => Err(self.no_answer(number, "it is no JSON record")),
        }
    }

    fn no_answer(&self, line: usize, problem: &str) -> ResumeError {
        ResumeError::Line {
            file: self.name.clone(),
            line,
            problem: problem.into(),
        }
    }

    /// Number of finished recordings without an answer.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Number of finished recordings.
    pub fn finished(&self) -> usize {
        self.finished.values().sum()
    }

    /// Returns the inputs that the file does not hold. A recording that is given several times needs as
    /// many lines.
    ///
    /// # Errors
    /// Two files have names that cannot be told apart in the output.
    pub fn remaining(&self, inputs: Vec<Input>) -> Result<Vec<Input>, ResumeError> {
        let mut paths: HashMap<&str, Option<&Path>> = HashMap::new();
        for input in &inputs {
            let path = input.path();
            if *paths.entry(&input.name).or_insert(path) != path {
                return Err(ResumeError::SameName(input.name.clone()));
            }
        }
        let mut finished = self.finished.clone();
        let mut is_open = |input: &Input| match finished.get_mut(&input.name) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        Ok(inputs.into_iter().filter(|input| is_open(input)).collect())
    }

    /// Appends one line. After a kill of the program the file holds the line completely or not at all, or
    /// its beginning, which the next [`Journal::open`] removes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, line: &str) -> Result<(), ResumeError> {
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|source| self.error(source))
    }

    /// Waits until the file is on the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(), ResumeError> {
        self.file.sync_all().map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> ResumeError {
        ResumeError::Io {
            file: self.name.clone(),
            source,
        }
    }
}
