//! Which recordings were asked for: files, folders and standard input.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::audio::decode::{self, FileKind, Options, file_kind};
use crate::audio::{DecodeError, Fault, Recording, file_formats};
pub use crate::formats::STANDARD_INPUT;
use crate::formats::{Code, NoAnswer};

/// The most recordings of one run: far above any real collection, low enough that a folder of
/// endless links cannot take all memory.
const MAX_INPUTS: usize = 10_000_000;

/// One recording that was asked for, or why it cannot be found.
#[derive(Debug)]
pub struct Input {
    /// What answers and messages call it: the path as it was given or found, or `-`.
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

/// Why an argument gives no recording.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// No name in the folder or below ends as those of [`file_formats::FORMATS`] do.
    #[error(
        "{folder}: no recordings in this folder; looked for names ending in {}",
        file_formats::endings().collect::<Vec<_>>().join(", ")
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

impl From<ReadError> for NoAnswer {
    fn from(error: ReadError) -> Self {
        let code = match &error {
            ReadError::Decode(error) => match error.fault {
                Fault::Missing | Fault::Folder | Fault::Unreadable(_) => Code::Unreadable,
                _ => Code::UnusableAudio,
            },
            ReadError::Input(_) => Code::Unreadable,
        };
        Self::new(code, error.to_string())
    }
}

impl Input {
    /// The recording at `path`, called `name`.
    pub fn file(name: String, path: PathBuf) -> Self {
        Self {
            name,
            source: Source::File(path),
            channel: None,
        }
    }

    /// Hears only this channel, counted from 1, or the mean of all.
    #[must_use]
    pub fn with_channel(self, channel: Option<u32>) -> Self {
        Self { channel, ..self }
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

    /// Memory that the decoded recording is expected to take, in bytes, by the size of its file.
    pub(super) fn expected_memory(&self) -> u64 {
        /// Expectation for inputs without a size, such as pipes.
        const UNKNOWN: u64 = 64 << 20;
        let Source::File(path) = &self.source else {
            return UNKNOWN;
        };
        let Ok(size) = path.metadata().map(|metadata| metadata.len()) else {
            return 0;
        };
        // Bytes of 32-bit samples that a byte of the file becomes: 8-bit mono without compression,
        // half of 16 bits without loss, and 24 kbit/s at 48 kHz.
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
pub struct Found {
    /// The recordings, in the order of the arguments.
    pub inputs: Vec<Input>,
    /// Other files, one entry per folder.
    pub passed_over: Vec<PassedOver>,
}

/// Files of a folder that are not taken for recordings; displayed as a sentence.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// The folder, as it was given.
    pub folder: String,
    /// Number of files per ending, in small letters with the dot; `""` for files without one.
    pub endings: BTreeMap<String, usize>,
    /// Pipes, devices and the like, which are never read in a folder: they may have no end.
    pub special: usize,
}

impl PassedOver {
    /// Number of files.
    pub fn count(&self) -> usize {
        self.endings.values().sum::<usize>() + self.special
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Endings that are listed, the most frequent first.
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

/// The recordings behind the arguments, in their order. A folder stands for the files in it and
/// below whose names end as those of [`file_formats::FORMATS`] do, sorted by path; names that begin with
/// a dot are left out. What cannot be listed becomes an input that fails when it is read.
pub fn collect(arguments: &[PathBuf]) -> Found {
    let mut found = Found::default();
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

/// Contents of a folder listed so far.
#[derive(Debug, Default)]
struct Listing {
    /// Folders in it that are still to be listed.
    open: Vec<PathBuf>,
    /// Recordings, and folders that cannot be listed.
    found: Vec<(PathBuf, Option<io::Error>)>,
    passed_over: PassedOver,
}

fn folder(root: &Path, all: &mut Found) {
    let mut seen = HashSet::new();
    let mut listing = Listing {
        open: vec![root.to_owned()],
        ..Listing::default()
    };
    let name = root.display().to_string();
    while let Some(folder) = listing.open.pop() {
        // A link to a folder above would lead round in circles.
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
        mut passed_over,
        ..
    } = listing;
    if found.is_empty() {
        let error = InputError::EmptyFolder {
            folder: name.clone(),
        };
        all.inputs.push(Input::failed(root, error));
    }
    if passed_over.count() > 0 {
        passed_over.folder = name;
        all.passed_over.push(passed_over);
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

/// Sorts what lies in `folder`.
fn list(folder: &Path, listing: &mut Listing) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        match path.metadata().map(|metadata| file_kind(&metadata)) {
            Ok(FileKind::Folder) => listing.open.push(path),
            Ok(FileKind::Pipe | FileKind::Other) => listing.passed_over.special += 1,
            // A dangling link fails with a message when it is read.
            Ok(FileKind::Regular) | Err(_) if is_recording(&path) => {
                listing.found.push((path, None));
            }
            Ok(FileKind::Regular) | Err(_) => {
                let ending = ending(&path).map_or(String::new(), |ending| format!(".{ending}"));
                *listing.passed_over.endings.entry(ending).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// The ending of a name, in small letters.
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
        let [passed] = &found.passed_over[..] else {
            panic!("{:?}", found.passed_over);
        };
        let wanted = format!(
            "{}: passed over 2 files (1 without an ending, 1 .txt); name a file to have it read \
             whatever its ending",
            root.display()
        );
        assert_eq!(passed.to_string(), wanted);
        let empty = collect(&[root.join("none")]);
        assert!(empty.passed_over.is_empty());
        let error = empty.inputs[0].read().unwrap_err().to_string();
        assert!(error.starts_with(&path("none")), "{error}");
        assert!(error.contains("no recordings"), "{error}");
    }
}
