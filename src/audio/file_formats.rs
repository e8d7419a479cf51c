//! Readable file formats, with their common names and file name extensions.

/// A readable kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFormat {
    /// Common name.
    pub name: &'static str,
    /// File name extensions, in lower case, without the dot.
    pub endings: &'static [&'static str],
}

/// Every readable kind of file; the only list of them in the library.
pub const FORMATS: [FileFormat; 8] = [
    FileFormat {
        name: "WAV",
        endings: &["wav", "wave"],
    },
    FileFormat {
        name: "FLAC",
        endings: &["flac"],
    },
    FileFormat {
        name: "MP3",
        endings: &["mp3"],
    },
    FileFormat {
        name: "AAC",
        endings: &["aac"],
    },
    FileFormat {
        name: "Ogg (Vorbis, Opus, FLAC)",
        endings: &["ogg", "oga", "opus"],
    },
    FileFormat {
        name: "AIFF",
        endings: &["aif", "aiff", "aifc"],
    },
    FileFormat {
        name: "M4A and MP4",
        endings: &["m4a", "m4b", "mp4", "m4v", "mov", "3gp"],
    },
    FileFormat {
        name: "WebM and Matroska",
        endings: &["webm", "weba", "mka", "mkv"],
    },
];

/// Returns the file name extensions of all [`FORMATS`].
pub fn endings() -> impl Iterator<Item = &'static str> {
    FORMATS
        .iter()
        .flat_map(|format| format.endings.iter().copied())
}

/// Returns the names of all [`FORMATS`], separated by commas.
pub fn names() -> String {
    let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
    names.join(", ")
}
