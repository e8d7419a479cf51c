//! Decoding of files, readers and byte slices into mono samples.
//!
//! This crate reads WAV itself: PCM of any width, float, A-law and mu-law, with wrong length fields
//! corrected. Symphonia decodes FLAC, MP3, AAC, Ogg Vorbis, AIFF, M4A and ADPCM; ropus decodes
//! Opus. Several concatenated recordings in one file are decoded as one.
//!
//! Every encoding is converted to 16-bit integers first, like the system of 2020 did: wider
//! integers keep their top 16 bits; floats are scaled by 32768, rounded to nearest (ties to even)
//! and clipped.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;

use super::container::{self, Container};
use super::encoding::{MAX_FRAMES, Mixer};
use super::{decode_media, decode_wav};

/// Lowest accepted sample rate, in Hz.
pub const MIN_SAMPLE_RATE: u32 = 1_000;
/// Highest accepted sample rate, in Hz.
pub const MAX_SAMPLE_RATE: u32 = 768_000;
/// Highest accepted number of channels.
pub const MAX_CHANNELS: u32 = 64;
/// Size of the largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 2 << 30;

/// Longest audio that is decoded; a longer recording is refused. The default is the most that the
/// front ends can analyse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Longest duration, in seconds.
    pub seconds: u32,
    /// Maximum number of samples per channel, at any rate. It bounds the memory.
    pub frames: usize,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            seconds: u32::MAX,
            frames: MAX_FRAMES,
        }
    }
}

impl Limit {
    /// Returns the maximum number of samples per channel at a rate in Hz.
    pub fn frames(self, sample_rate: u32) -> usize {
        let frames = u64::from(self.seconds) * u64::from(sample_rate);
        self.frames
            .min(usize::try_from(frames).unwrap_or(usize::MAX))
    }
}

/// Decoding options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Longest accepted recording.
    pub limit: Limit,
    /// Selected channel, counted from 1; `None` for the mean of all channels.
    pub channel: Option<u32>,
}

/// Parses a channel selection: a number from 1, or `mix` for the mean of all channels.
///
/// # Errors
/// A message that lists the accepted values.
pub fn channel(choice: &str) -> Result<Option<u32>, String> {
    if choice == "mix" {
        return Ok(None);
    }
    let number = choice
        .parse()
        .ok()
        .filter(|n| (1..=MAX_CHANNELS).contains(n));
    number.map(Some).ok_or_else(|| {
        format!("{choice:?} is no channel; give a number from 1 to {MAX_CHANNELS}, or mix")
    })
}

/// Defect of a file that was decoded nevertheless; it may affect the result.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Defect {
    /// Two fields of the header contradict each other.
    #[error("the header contradicts itself: {what}")]
    Header {
        /// The fields, and the value that was used.
        what: String,
    },
    /// The file holds more audio than was decoded.
    #[error("part of the file was left out: {what}")]
    LeftOut {
        /// Place and reason.
        what: String,
    },
    /// The channels are in opposite phase, so that their mean loses the common signal.
    #[error(
        "the channels cancel each other (their mix is {decibels:.0} dB quieter than they are); \
         choose one of them"
    )]
    ChannelsCancel {
        /// Level of the channels above that of the mix, in dB.
        decibels: f64,
    },
}

/// A decoded recording, mixed to mono.
#[derive(Clone, PartialEq)]
pub struct Recording {
    /// Mono samples, 16-bit integers divided by 32768: the mean of the channels, or the selected
    /// one. Never empty, all finite, between -1 and 1.
    pub samples: Vec<f32>,
    /// Frames per second, between [`MIN_SAMPLE_RATE`] and [`MAX_SAMPLE_RATE`].
    pub sample_rate: u32,
    /// Number of channels in the file, 1 to [`MAX_CHANNELS`].
    pub channels: u32,
    /// Selected channel, counted from 1; `None` for the mean of all channels.
    pub channel: Option<u32>,
    /// Container and encoding, such as `wav pcm 24 bit` or `flac`.
    pub format: String,
    /// Number of samples at the largest or smallest 16-bit value, over the selected channels.
    pub clipped: u64,
    /// Set if the file holds less audio than its header states: it was cut short.
    pub truncated: bool,
    /// Number of packets of a compressed file that could not be decoded and were left out.
    pub damaged_packets: usize,
    /// Other defects of the file.
    pub defects: Vec<Defect>,
}

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
        for pair in bytes.chunks_exact(2) {
            mixer.push(i16::from_le_bytes([pair[0], pair[1]]))?;
        }
        Ok(mixer.recording(sample_rate, "wav pcm 16 bit".into()))
    }

    /// Duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }

    /// Returns the fraction of samples at full scale, 0 to 1.
    pub fn clipped_fraction(&self) -> f64 {
        let heard = self.channel.map_or(self.channels, |_| 1);
        let samples = self.samples.len() as f64 * f64::from(heard);
        // The count includes an encoder's padding, which is cut off after counting.
        (self.clipped as f64 / samples).min(1.0)
    }
}

impl fmt::Debug for Recording {
    /// Formats every field except the samples, which appear as their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("frames", &self.samples.len())
            .field("sample_rate", &self.sample_rate)
            .field("channels", &self.channels)
            .field("format", &self.format)
            .field("clipped", &self.clipped)
            .field("truncated", &self.truncated)
            .field("damaged_packets", &self.damaged_packets)
            .field("channel", &self.channel)
            .field("defects", &self.defects)
            .finish_non_exhaustive()
    }
}

/// A recording that could not be decoded, and the reason.
#[derive(Debug, Error)]
#[error("{name}: {fault}")]
pub struct DecodeError {
    /// Path of the file, or the name that the caller gave to the bytes.
    pub name: String,
    /// The reason.
    pub fault: Fault,
}

/// Reason that a recording could not be decoded, with advice for the user.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// No file at this path.
    #[error("no such file; check the path")]
    Missing,
    /// The path is a folder.
    #[error("this is a folder; name a recording in it")]
    Folder,
    /// The operating system cannot read the file.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The file has no bytes.
    #[error("the file is empty (0 bytes); copy or export it again")]
    Empty,
    /// The file is larger than [`MAX_BYTES`].
    #[error("larger than {} MiB; cut it into shorter recordings", limit >> 20)]
    TooLarge {
        /// Maximum number of bytes that are read.
        limit: u64,
    },
    /// The recording has more frames than can be analysed.
    #[error("longer than {frames} samples per channel; cut it into shorter recordings")]
    TooLong {
        /// Maximum number of frames that are decoded.
        frames: usize,
    },
    /// The format is not recognised.
    #[error(
        "not a recording in a known format; {} can be read",
        container::names()
    )]
    NotAudio,
    /// The file ends before its audio begins.
    #[error("cut short inside its header ({0}); copy or export it again")]
    HeaderTruncated(String),
    /// A header field has an invalid value.
    #[error("damaged header: {0}; export it again as 16-bit WAV")]
    BadHeader(String),
    /// The container is known, but its encoding is not supported.
    #[error("{0} cannot be read; convert it first: ffmpeg -i RECORDING -ar 16000 RECORDING.wav")]
    Unsupported(String),
    /// The path is a device, a socket or another special file.
    #[error("neither a file nor a pipe; name a recording")]
    NotAFile,
    /// The file has a header but no audio.
    #[error("no audio samples in it; record or export it again")]
    NoSamples,
    /// The header states a sample rate of 0.
    #[error("its header says a sample rate of 0 Hz; export it again with the right rate")]
    ZeroSampleRate,
    /// The header states a sample rate outside the accepted range.
    #[error(
        "its header says a sample rate of {0} Hz, outside {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}; \
         export it again with the right rate"
    )]
    SampleRate(u32),
    /// The header states no channels.
    #[error("its header says 0 channels; export it again as mono")]
    ZeroChannels,
    /// The file has more than [`MAX_CHANNELS`] channels.
    #[error("{0} channels, at most {MAX_CHANNELS} are accepted; export it as mono")]
    TooManyChannels(u32),
    /// The selected channel does not exist.
    #[error("it has no channel {channel}, only 1 to {channels}; choose one of these")]
    NoSuchChannel {
        /// Selected channel.
        channel: u32,
        /// Number of channels in the file.
        channels: u32,
    },
    /// A float sample is NaN or infinite.
    #[error(
        "sample {frame} of channel {channel} is not a finite number; export it again as 16-bit WAV"
    )]
    NonFinite {
        /// Frame index, from 0.
        frame: usize,
        /// Channel number, from 1.
        channel: usize,
    },
    /// The compressed audio cannot be decoded.
    #[error("damaged audio: {0}; copy or export it again")]
    Damaged(String),
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
    /// A pipe, named or not.
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

/// Checks that the sample rate and the channel count are in the accepted ranges.
pub(crate) fn check_spec(sample_rate: u32, channels: u32) -> Result<(), Fault> {
    match (sample_rate, channels) {
        (0, _) => Err(Fault::ZeroSampleRate),
        (_, 0) => Err(Fault::ZeroChannels),
        (rate, _) if !(MIN_SAMPLE_RATE..=MAX_SAMPLE_RATE).contains(&rate) => {
            Err(Fault::SampleRate(rate))
        }
        (_, n) if n > MAX_CHANNELS => Err(Fault::TooManyChannels(n)),
        _ => Ok(()),
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
