//! Output destination: standard output, or a file that appears only when it is complete.

use std::io::{self, Write};
use std::path::Path;

use crate::atomic_file::{AtomicFile, replaces};

/// Error when the output cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The output would replace an input file; the path of the output.
    #[error("the output {0} is one of the files that are read; give another name")]
    IsInput(String),
    /// The output is a folder; its path.
    #[error("the output {0} is a folder; give the name of a file in it")]
    IsFolder(String),
    /// The output's folder does not exist; the path of the output.
    #[error("there is no folder {0}; create it, or give the name of a file")]
    NoFolder(String),
    /// The path has no file name, such as `..`.
    #[error("the output {0} is no file name; give one")]
    NoName(String),
    /// The output cannot be created, written or renamed.
    #[error(
        "cannot write the output {file}: {source}; {}",
        crate::file_advice::to_write(source)
    )]
    Write {
        /// Path, or a description of standard output.
        file: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The reader of the output closed it before the end.
    #[error("the output {0} is not complete: its reader has closed it; let it read to the end")]
    ReaderGone(String),
    /// Standard output was closed before the program began.
    #[error("standard output is closed, so the answer would be lost; open it, or name a file")]
    Closed,
    /// An output that an earlier run began cannot be continued.
    #[error(transparent)]
    Resume(#[from] super::resume::ResumeError),
}

/// Text output. A file is replaced in [`Sink::finish`]; if that is not reached, an older file of
/// the same name stays unchanged.
#[derive(Debug)]
pub struct Sink {
    name: String,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Stdout(io::Stdout),
    File(AtomicFile),
}

impl Sink {
    /// Creates an output to standard output.
    pub fn stdout() -> Self {
        Self {
            name: "on standard output".into(),
            target: Target::Stdout(io::stdout()),
        }
    }

    /// Creates an output to the file `path`, which must not be one of the input files `read`.
    ///
    /// # Errors
    /// When `path` is one of `read`, is a folder, or cannot be created.
    pub fn file<'a>(
        path: &Path,
        read: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self, SinkError> {
        Self::file_with(path, read, false)
    }

    /// [`Sink::file`] with read permission for the owner only.
    ///
    /// # Errors
    /// Same as [`Sink::file`].
    pub fn private_file<'a>(
        path: &Path,
        read: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self, SinkError> {
        Self::file_with(path, read, true)
    }

    fn file_with<'a>(
        path: &Path,
        read: impl IntoIterator<Item = &'a Path>,
        is_private: bool,
    ) -> Result<Self, SinkError> {
        let name = path.display().to_string();
        // The canonical path resolves links to input files.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if path.is_dir() {
            return Err(SinkError::IsFolder(name));
        }
        if name.ends_with(std::path::is_separator) {
            return Err(SinkError::NoFolder(name));
        }
        if path.file_name().is_none() {
            return Err(SinkError::NoName(name));
        }
        if path.exists() && read.into_iter().any(replaces(&path)) {
            return Err(SinkError::IsInput(name));
        }
        let file = match is_private {
            true => AtomicFile::create_private(&path),
            false => AtomicFile::create(&path),
        };
        let target = Target::File(file.map_err(|source| write_error(&name, source))?);
        Ok(Self { name, target })
    }

    /// Writes `text` and flushes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, text: &str) -> Result<(), SinkError> {
        match &mut self.target {
            Target::Stdout(out) => out.write_all(text.as_bytes()).and_then(|()| out.flush()),
            Target::File(file) => file.write_all(text.as_bytes()),
        }
        .map_err(|source| write_error(&self.name, source))
    }

    /// Completes the output. A file gets its name.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn finish(self) -> Result<(), SinkError> {
        let Self { name, target } = self;
        match target {
            Target::Stdout(_) => Ok(()),
            Target::File(file) => file.finish().map_err(|source| write_error(&name, source)),
        }
    }
}

fn write_error(name: &str, source: io::Error) -> SinkError {
    let file = name.to_owned();
    match source.kind() {
        io::ErrorKind::BrokenPipe => SinkError::ReaderGone(file),
        _ => SinkError::Write { file, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        std::fs::write(&path, "old").unwrap();
        let mut sink = Sink::file(&path, []).unwrap();
        sink.write("half").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        drop(sink);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(dir.path()), ["out.csv"]);
        let mut sink = Sink::file(&path, []).unwrap();
        sink.write("new").unwrap();
        sink.write("er").unwrap();
        sink.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "newer");
        assert_eq!(names(dir.path()), ["out.csv"]);
    }

    #[test]
    fn inputs_are_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let wav = dir.path().join("a.wav");
        std::fs::write(&wav, "sound").unwrap();
        let roundabout = dir.path().join(".").join("a.wav");
        let refused = Sink::file(&roundabout, [&*wav]).unwrap_err();
        assert!(matches!(refused, SinkError::IsInput(_)), "{refused}");
        let refused = Sink::file(dir.path(), []).unwrap_err();
        assert!(matches!(refused, SinkError::IsFolder(_)), "{refused}");
        let refused = Sink::file(&dir.path().join("none/"), []).unwrap_err();
        assert!(matches!(refused, SinkError::NoFolder(_)), "{refused}");
        let refused = Sink::file(&dir.path().join("none/out"), []).unwrap_err();
        assert!(refused.to_string().contains("none"), "{refused}");
        assert_eq!(names(dir.path()), ["a.wav"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let null = Path::new("/dev/null");
        let mut sink = Sink::file(null, []).unwrap();
        sink.write("gone").unwrap();
        sink.finish().unwrap();
        assert!(!null.is_file());
    }
}
