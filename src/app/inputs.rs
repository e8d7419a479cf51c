//! Input recordings: files, folders and standard input.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::audio::decode::{self, FileKind, Options, file_kind};
use crate::audio::{DecodeError, Fault, Recording, file_formats};
pub use crate::formats::STANDARD_INPUT;
use crate::formats::{ErrorCode, RecordingError};

/// Maximum number of recordings of one run.
///
/// The limit is far above any real collection and keeps a folder with endless links from exhausting the
/// memory.
const MAX_INPUTS: usize = 10_000_000;

/// One recording, or the error of an argument without one.
#[derive(Debug)]
pub struct Input {
    /// Name in output and messages: the path as given or found, or `-`.
    pub name: String,
    source: Source,
    channel: Option<u32>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    StandardInput,
    Failed(InputError),
}

/// Error of an argument that yields no recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// No file below the folder has an extension of [`file_formats::FORMATS`].
    #[error(
        "{folder}: no recordings in this folder; looked for names ending in {}",
        file_formats::endings().collect::<Vec<_>>().join(", ")
    )]
    EmptyFolder {
        /// Path as given.
        folder: String,
    },
    /// A folder cannot be listed.
    #[error(
        "{folder}: this folder cannot be read: {source}; {}",
        crate::file_advice::to_read(source)
    )]
    Folder {
        /// Path as given or found.
        folder: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The number of recordings exceeds ten million.
    #[error("{folder}: more than {MAX_INPUTS} recordings; name parts of the folder")]
    TooMany {
        /// Path as given.
        folder: String,
    },
}

/// Error of an input without samples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read or decoded; the message names it.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Message of the [`InputError`] that replaces the recording.
    #[error("{0}")]
    Input(String),
}

impl From<ReadError> for RecordingError {
    fn from(error: ReadError) -> Self {
        let code = match &error {
            ReadError::Decode(error) => match error.fault {
                Fault::Missing | Fault::Folder | Fault::Unreadable(_) => ErrorCode::Unreadable,
                _ => ErrorCode::UnusableAudio,
            },
            ReadError::Input(_) => ErrorCode::Unreadable,
        };
        Self::new(code, error.to_string())
    }
}

impl Input {
    /// Creates an input for the file at `path`, named `name`.
    pub fn file(name: String, path: PathBuf) -> Self {
        Self {
            name,
            source: Source::File(path),
            channel: None,
        }
    }

    /// Selects one channel, counted from 1, or the mean of all.
    #[must_use]
    pub fn with_channel(self, channel: Option<u32>) -> Self {
        Self { channel, ..self }
    }

    /// Returns the path of a file; `None` for other inputs.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::StandardInput | Source::Failed(_) => None,
        }
    }

    /// Returns true for standard input, which can be read only once.
    pub fn is_standard_input(&self) -> bool {
        matches!(self.source, Source::StandardInput)
    }

    /// Returns the beginning of messages about this input.
    pub fn subject(&self) -> &str {
        match self.source {
            Source::StandardInput => "standard input",
            Source::File(_) | Source::Failed(_) => &self.name,
        }
    }

    /// Reads and decodes the recording. Standard input can be read once.
    ///
    /// # Errors
    /// The message names the input and the remedy.
    pub fn read(&self) -> Result<Recording, ReadError> {
        let options = Options {
            channel: self.channel,
            ..Options::default()
        };
        match &self.source {
            Source::File(path) => Ok(decode::decode_path_with(path, options)?),
            Source::StandardInput => {
                let input = io::stdin().lock();
                Ok(decode::decode_reader_with(input, self.subject(), options)?)
            }
            Source::Failed(error) => Err(ReadError::Input(error.to_string())),
        }
    }

    /// Returns the expected size of the decoded recording in bytes, by the size of its file.
    pub(super) fn expected_memory(&self) -> u64 {
        /// Expectation for inputs without a size, such as pipes.
        const UNKNOWN: u64 = 64 << 20;
        let Source::File(path) = &self.source else {
            return UNKNOWN;
        };
        let Ok(size) = path.metadata().map(|metadata| metadata.len()) else {
            return 0;
        };
        // Bytes of 32-bit samples per byte of the file, for 8-bit mono PCM, for lossless
        // compression of 16 bits to half, and for 24 kbit/s at 48 kHz.
        let growth = match ending(path).as_deref() {
            Some("wav" | "wave" | "aif" | "aiff" | "aifc") => 4,
            Some("flac") => 8,
            _ => 64,
        };
        size.saturating_mul(growth)
    }

    fn failed(name: &Path, error: InputError) -> Self {
        Self {
            name: name.display().to_string(),
            source: Source::Failed(error),
            channel: None,
        }
    }
}

/// Result of [`collect`].
#[derive(Debug, Default)]
pub struct Collected {
    /// Recordings, in the order of the arguments.
    pub inputs: Vec<Input>,
    /// Skipped files, one entry per folder.
    pub skipped: Vec<SkippedFiles>,
}

/// Skipped files of a folder; displayed as a sentence.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SkippedFiles {
    /// Path of the folder as given.
    pub folder: String,
    /// Number of files per extension, in lower case with the dot; `""` for files without one.
    pub endings: BTreeMap<String, usize>,
    /// Number of pipes, devices and similar files. They are never read from a folder, because
    /// reading may not end.
    pub special: usize,
}

impl SkippedFiles {
    /// Returns the number of skipped files.
    pub fn count(&self) -> usize {
        self.endings.values().sum::<usize>() + self.special
    }
}

impl fmt::Display for SkippedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Maximum number of listed extensions, the most frequent first.
        const LISTED: usize = 8;
        let files = |count: usize| if count == 1 { "file" } else { "files" };
        let count = self.count();
        write!(f, "{}: passed over {count} {} (", self.folder, files(count))?;
        let mut endings: Vec<(&str, usize)> =
            self.endings.iter().map(|(e, n)| (&**e, *n)).collect();
        endings.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rest: usize = endings.iter().skip(LISTED).map(|(_, count)| count).sum();
        let mut parts: Vec<String> = endings
            .iter()
            .take(LISTED)
            .map(|(ending, count)| match *ending {
                "" => format!("{count} without an ending"),
                ending => format!("{count} {ending}"),
            })
            .collect();
        if rest > 0 {
            parts.push(format!("{rest} of other kinds"));
        }
        if self.special > 0 {
            parts.push(format!("{} pipes or devices", self.special));
        }
        write!(
            f,
            "{}); name a file to have it read whatever its ending",
            parts.join(", ")
        )
    }
}

/// Returns the recordings of the arguments, in order.
///
/// A folder yields the files below it whose extension is one of [`file_formats::FORMATS`], sorted by
/// path and without hidden files. A folder that cannot be listed yields an input that fails on
/// reading.
pub fn collect(arguments: &[PathBuf]) -> Collected {
    let mut found = Collected::default();
    for argument in arguments {
        if argument.as_os_str() == STANDARD_INPUT {
            found.inputs.push(Input {
                name: STANDARD_INPUT.into(),
                source: Source::StandardInput,
                channel: None,
            });
        } else if argument.is_dir() {
            folder(argument, &mut found);
        } else {
            let name = argument.display().to_string();
            found.inputs.push(Input::file(name, argument.clone()));
        }
    }
    found
}

/// State of a folder's traversal.
#[derive(Debug, Default)]
struct Listing {
    /// Subfolders yet to be listed.
    open: Vec<PathBuf>,
    /// Recordings, and folders that cannot be listed.
    found: Vec<(PathBuf, Option<io::Error>)>,
    skipped: SkippedFiles,
}

fn folder(root: &Path, all: &mut Collected) {
    let mut seen = HashSet::new();
    let mut listing = Listing {
        open: vec![root.to_owned()],
        ..Listing::default()
    };
    let name = root.display().to_string();
    while let Some(folder) = listing.open.pop() {
        // A link to a parent folder would cause an endless traversal.
        if let Ok(real) = folder.canonicalize()
            && !seen.insert(real)
        {
            continue;
        }
        if let Err(error) = list(&folder, &mut listing) {
            listing.found.push((folder, Some(error)));
        }
        if all.inputs.len() + listing.found.len() > MAX_INPUTS {
            let error = InputError::TooMany { folder: name };
            all.inputs.push(Input::failed(root, error));
            return;
        }
    }
    let Listing {
        mut found,
        mut skipped,
        ..
    } = listing;
    if found.is_empty() {
        let error = InputError::EmptyFolder {
            folder: name.clone(),
        };
        all.inputs.push(Input::failed(root, error));
    }
    if skipped.count() > 0 {
        skipped.folder = name;
        all.skipped.push(skipped);
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    all.inputs
        .extend(found.into_iter().map(|(path, error)| match error {
            None => Input::file(path.display().to_string(), path),
            Some(source) => {
                let folder = path.display().to_string();
                Input::failed(&path, InputError::Folder { folder, source })
            }
        }));
}

/// Classifies the entries of `folder`.
fn list(folder: &Path, listing: &mut Listing) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        match path.metadata().map(|metadata| file_kind(&metadata)) {
            Ok(FileKind::Folder) => listing.open.push(path),
            Ok(FileKind::Pipe | FileKind::Other) => listing.skipped.special += 1,
            // A dangling link fails on reading, with a message.
            Ok(FileKind::Regular) | Err(_) if is_recording(&path) => {
                listing.found.push((path, None));
            }
            Ok(FileKind::Regular) | Err(_) => {
                let ending = ending(&path).map_or(String::new(), |ending| format!(".{ending}"));
                *listing.skipped.endings.entry(ending).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// Returns the extension of a file name in lower case.
fn ending(path: &Path) -> Option<String> {
    let ending = path.extension()?.to_string_lossy();
    Some(ending.to_lowercase())
}

fn is_recording(path: &Path) -> bool {
    ending(path).is_some_and(|ending| file_formats::endings().any(|known| known == ending))
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
        let found = collect(&[root.to_owned(), "-".into(), "gone.wav".into()]);
        let names: Vec<&str> = found.inputs.iter().map(|i| &*i.name).collect();
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
        let [passed] = &found.skipped[..] else {
            panic!("{:?}", found.skipped);
        };
        let wanted = format!(
            "{}: passed over 2 files (1 without an ending, 1 .txt); name a file to have it read \
             whatever its ending",
            root.display()
        );
        assert_eq!(passed.to_string(), wanted);
        let empty = collect(&[root.join("none")]);
        assert!(empty.skipped.is_empty());
        let error = empty.inputs[0].read().unwrap_err().to_string();
        assert!(error.starts_with(&path("none")), "{error}");
        assert!(error.contains("no recordings"), "{error}");
    }
}
