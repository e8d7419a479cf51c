//! Which recordings were asked for: files, folders and standard input.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::audio::{DecodeError, Recording, decode};

/// Endings, in small letters, of the files that are looked for in a folder.
pub const EXTENSIONS: [&str; 10] = [
    "wav", "wave", "flac", "mp3", "ogg", "oga", "aif", "aiff", "aifc", "m4a",
];
/// The argument that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// The most recordings of one run: far above any real collection, low enough that a folder of
/// endless links cannot take all memory.
const MAX_INPUTS: usize = 10_000_000;

/// One recording that was asked for, or why it cannot be found.
#[derive(Debug)]
pub struct Input {
    /// What answers and messages call it: the path as it was given or found, or `-`.
    pub name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    StandardInput,
    Failed(InputError),
}

/// Why an argument gives no recording.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// No name in the folder or below ends in one of [`EXTENSIONS`].
    #[error(
        "{folder}: no recordings in this folder; looked for names ending in {}", EXTENSIONS.join(", ")
    )]
    EmptyFolder {
        /// Its path, as it was given.
        folder: String,
    },
    /// The operating system does not list a folder.
    #[error("{folder}: this folder cannot be read: {source}")]
    Folder {
        /// Its path, as it was given or found.
        folder: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// More than ten million recordings, as a folder of endless links would give.
    #[error("{folder}: more than {MAX_INPUTS} recordings; name parts of the folder")]
    TooMany {
        /// Its path, as it was given.
        folder: String,
    },
}

/// Why an input gives no samples.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read, or is in no format that is understood. The message names it.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The message of the [`InputError`] that stands in the recording's place.
    #[error("{0}")]
    Input(String),
}

impl Input {
    /// The recording at `path`, called `name`.
    pub fn file(name: String, path: PathBuf) -> Self {
        Self {
            name,
            source: Source::File(path),
        }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::StandardInput | Source::Failed(_) => None,
        }
    }

    /// Whether it is standard input, which can be read only once.
    pub fn is_standard_input(&self) -> bool {
        matches!(self.source, Source::StandardInput)
    }

    /// What messages about it begin with.
    pub fn subject(&self) -> &str {
        match self.source {
            Source::StandardInput => "standard input",
            Source::File(_) | Source::Failed(_) => &self.name,
        }
    }

    /// Reads and decodes it. Standard input gives its content once.
    ///
    /// # Errors
    /// The message names the input and says what to do.
    pub fn read(&self) -> Result<Recording, ReadError> {
        match &self.source {
            Source::File(path) => Ok(decode::decode_path(path)?),
            Source::StandardInput => Ok(decode::decode_reader(io::stdin().lock(), self.subject())?),
            Source::Failed(error) => Err(ReadError::Input(error.to_string())),
        }
    }

    fn failed(name: &Path, error: InputError) -> Self {
        Self {
            name: name.display().to_string(),
            source: Source::Failed(error),
        }
    }
}

/// The recordings behind the arguments, in their order. A folder stands for the files in it and
/// below whose names end in one of [`EXTENSIONS`], sorted by path; names that begin with a dot are
/// left out. What cannot be listed becomes an input that fails when it is read.
pub fn collect(arguments: &[PathBuf]) -> Vec<Input> {
    let mut inputs = Vec::new();
    for argument in arguments {
        if argument.as_os_str() == STANDARD_INPUT {
            inputs.push(Input {
                name: STANDARD_INPUT.into(),
                source: Source::StandardInput,
            });
        } else if argument.is_dir() {
            folder(argument, &mut inputs);
        } else {
            inputs.push(Input {
                name: argument.display().to_string(),
                source: Source::File(argument.clone()),
            });
        }
    }
    inputs
}

fn folder(root: &Path, inputs: &mut Vec<Input>) {
    let mut found: Vec<(PathBuf, Option<io::Error>)> = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        // A link to a folder above would lead round in circles.
        if let Ok(real) = folder.canonicalize()
            && !seen.insert(real)
        {
            continue;
        }
        if let Err(error) = list(&folder, &mut open, &mut found) {
            found.push((folder, Some(error)));
        }
        if inputs.len() + found.len() > MAX_INPUTS {
            let folder = root.display().to_string();
            inputs.push(Input::failed(root, InputError::TooMany { folder }));
            return;
        }
    }
    if found.is_empty() {
        let folder = root.display().to_string();
        inputs.push(Input::failed(root, InputError::EmptyFolder { folder }));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    inputs.extend(found.into_iter().map(|(path, error)| match error {
        None => Input {
            name: path.display().to_string(),
            source: Source::File(path),
        },
        Some(source) => {
            let folder = path.display().to_string();
            Input::failed(&path, InputError::Folder { folder, source })
        }
    }));
}

/// Sorts what lies in `folder` into folders still to be `open`ed and recordings that were `found`.
fn list(
    folder: &Path,
    open: &mut Vec<PathBuf>,
    found: &mut Vec<(PathBuf, Option<io::Error>)>,
) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            open.push(path);
        } else if is_recording(&path) {
            found.push((path, None));
        }
    }
    Ok(())
}

fn is_recording(path: &Path) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| EXTENSIONS.contains(&&*e.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_recordings_sorted_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["b", "a/deep", ".hidden", "none"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let files = [
            "z.WAV",
            "b/2.flac",
            "b/10.mp3",
            "a/deep/x.ogg",
            "b.txt",
            ".dot.wav",
            ".hidden/y.wav",
            "noext",
        ];
        for file in files {
            std::fs::write(root.join(file), "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(root, root.join("a/round")).unwrap();
        let names: Vec<String> = collect(&[root.to_owned(), "-".into(), "gone.wav".into()])
            .into_iter()
            .map(|i| i.name)
            .collect();
        let path = |name: &str| root.join(name).display().to_string();
        let wanted = [
            path("a/deep/x.ogg"),
            path("b/10.mp3"),
            path("b/2.flac"),
            path("z.WAV"),
            "-".into(),
            "gone.wav".into(),
        ];
        assert_eq!(names, wanted);
        let empty = collect(&[root.join("none")]);
        let error = empty[0].read().unwrap_err().to_string();
        assert!(error.starts_with(&path("none")), "{error}");
        assert!(error.contains("no recordings"), "{error}");
    }
}
