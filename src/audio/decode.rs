//! Decoding of files, readers and byte slices into mono samples.
//!
//! This crate reads WAV itself: PCM of any width, float, A-law and mu-law, with wrong length fields
//! corrected. Symphonia decodes FLAC, MP3, AAC, Ogg Vorbis, AIFF, M4A and ADPCM; ropus decodes
//! Opus. Several concatenated recordings in one file are decoded as one.
//!
//! Every encoding is converted to 16-bit integers first, like the system of 2020 did: wider
//! integers keep their top 16 bits; floats are scaled by 32768, rounded to nearest (ties to even)
//! and clipped.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::container::{self, Container};
use super::encoding::Mixer;
use super::{decode_media, decode_wav};

pub(crate) use super::error::check_spec;
pub use super::error::{DecodeError, Fault};
pub(crate) use super::recording::MAX_FRAMES;
pub use super::recording::{
    Defect, Limit, MAX_BYTES, MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Options, Recording,
    channel,
};

impl Recording {
    /// Builds the recording that a 16-bit mono WAV file with these samples decodes to. `bytes` are
    /// little-endian samples; an odd last byte is ignored.
    ///
    /// # Errors
    /// If there are no samples or too many, or the sample rate is out of range.
    pub fn from_pcm16(bytes: &[u8], sample_rate: u32) -> Result<Self, Fault> {
        check_spec(sample_rate, 1)?;
        let frames = bytes.len() / 2;
        if frames == 0 {
            return Err(Fault::NoSamples);
        }
        let mut mixer = Mixer::new(1, None, frames, MAX_FRAMES)?;
        mixer.push_all(bytes.as_chunks().0, i16::from_le_bytes)?;
        Ok(mixer.recording(sample_rate, "wav pcm 16 bit".into()))
    }
}

/// Decodes the recording at `path`.
pub fn decode_path(path: impl AsRef<Path>) -> Result<Recording, DecodeError> {
    decode_path_with(path, Options::default())
}

/// Decodes the recording at `path` with options. A pipe is read to its end, up to [`MAX_BYTES`]. A
/// device or a socket is refused, since it may never end.
pub fn decode_path_with(
    path: impl AsRef<Path>,
    options: Options,
) -> Result<Recording, DecodeError> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let unreadable = |e: io::Error| DecodeError {
        name: name.clone(),
        fault: match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::Missing,
            io::ErrorKind::IsADirectory => Fault::Folder,
            _ => Fault::Unreadable(e),
        },
    };
    let fault = match file_kind(&std::fs::metadata(path).map_err(unreadable)?) {
        FileKind::Regular | FileKind::Pipe => None,
        FileKind::Folder => Some(Fault::Folder),
        FileKind::Other => Some(Fault::NotAFile),
    };
    if let Some(fault) = fault {
        return Err(DecodeError { name, fault });
    }
    let file = File::open(path).map_err(unreadable)?;
    let stated = file.metadata().map_or(0, |m| m.len());
    decode_from(file, stated, &name, options)
}

/// Kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// An ordinary file.
    Regular,
    /// A folder.
    Folder,
    /// A pipe, named or not; on Unix alone.
    #[cfg_attr(not(unix), allow(dead_code))]
    Pipe,
    /// A device or a socket.
    Other,
}

/// Classifies a directory entry by its metadata.
pub(crate) fn file_kind(metadata: &std::fs::Metadata) -> FileKind {
    if metadata.is_file() {
        return FileKind::Regular;
    }
    if metadata.is_dir() {
        return FileKind::Folder;
    }
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()) {
        return FileKind::Pipe;
    }
    FileKind::Other
}

/// Decodes everything that `reader` yields, such as standard input. Errors call it `name`.
pub fn decode_reader(reader: impl Read, name: &str) -> Result<Recording, DecodeError> {
    decode_reader_with(reader, name, Options::default())
}

/// Decodes everything that `reader` yields, with options. Errors call it `name`.
pub fn decode_reader_with(
    reader: impl Read,
    name: &str,
    options: Options,
) -> Result<Recording, DecodeError> {
    decode_from(reader, 0, name, options)
}

/// Decodes a reader whose expected length is `stated` bytes (0 if unknown).
fn decode_from(
    reader: impl Read,
    stated: u64,
    name: &str,
    options: Options,
) -> Result<Recording, DecodeError> {
    let bytes = read_bounded(reader, stated, MAX_BYTES);
    let recording = bytes.and_then(|bytes| decode_bytes(&bytes, options));
    recording.map_err(|fault| DecodeError {
        name: name.into(),
        fault,
    })
}

fn read_bounded(reader: impl Read, stated: u64, limit: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    // One spare byte lets `read_to_end` detect the end without growing the buffer. If this
    // reservation fails, reading reports the lack of memory.
    let expected = usize::try_from(stated.min(limit) + 1).unwrap_or(usize::MAX);
    let _ = bytes.try_reserve_exact(expected);
    reader
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Fault::Unreadable)?;
    if bytes.len() as u64 > limit {
        Err(Fault::TooLarge { limit })
    } else {
        Ok(bytes)
    }
}

/// Decodes a recording from memory. Errors call it `name`.
pub fn decode(bytes: &[u8], name: &str) -> Result<Recording, DecodeError> {
    decode_with(bytes, name, Options::default())
}

/// Decodes a recording from memory, and stops with [`Fault::TooLong`] at `limit`.
pub fn decode_within(bytes: &[u8], name: &str, limit: Limit) -> Result<Recording, DecodeError> {
    let channel = None;
    decode_with(bytes, name, Options { limit, channel })
}

/// Decodes a recording from memory with options. Errors call it `name`.
pub fn decode_with(bytes: &[u8], name: &str, options: Options) -> Result<Recording, DecodeError> {
    decode_bytes(bytes, options).map_err(|fault| DecodeError {
        name: name.into(),
        fault,
    })
}

fn decode_bytes(bytes: &[u8], options: Options) -> Result<Recording, Fault> {
    if bytes.is_empty() {
        return Err(Fault::Empty);
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Fault::TooLarge { limit: MAX_BYTES });
    }
    let (container, start) = container::recognise(bytes)?;
    match container {
        Container::Wav => decode_wav::decode(&bytes[start..], options),
        _ => decode_media::decode(container, &bytes[start..], options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_input_is_refused() {
        let fault = read_bounded(io::repeat(b'x'), 0, 5 << 20).unwrap_err();
        assert!(matches!(fault, Fault::TooLarge { limit } if limit == 5 << 20));
        assert!(fault.to_string().contains("larger than 5 MiB"));
        assert_eq!(read_bounded(&b"abc"[..], 3, 3).unwrap(), b"abc");
        assert_eq!(read_bounded(&b"abc"[..], 1, 3).unwrap(), b"abc");
    }
}
