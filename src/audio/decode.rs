//! Files and bytes to mono samples.
//!
//! WAV is read by this crate itself (PCM of any width, float, A-law, mu-law; headers that lie
//! about their length are corrected); FLAC, MP3, AAC, Ogg Vorbis, AIFF, M4A and ADPCM go through
//! symphonia, and Opus through ropus. Several recordings in one file, one behind the other, are
//! decoded as one. Whatever the encoding, samples are brought to 16-bit integers first, as the
//! reference does: wider integers keep their top 16 bits, floats are scaled by 32768, rounded to
//! nearest (ties to even) and clipped.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;

use super::container::{self, Container};
use super::encoding::{MAX_FRAMES, Mixer};
use super::{decode_media, decode_wav};

/// Lowest sample rate that is accepted, in Hz.
pub const MIN_SAMPLE_RATE: u32 = 1_000;
/// Highest sample rate that is accepted, in Hz.
pub const MAX_SAMPLE_RATE: u32 = 768_000;
/// Most channels that are accepted.
pub const MAX_CHANNELS: u32 = 64;
/// Largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 2 << 30;

/// How much audio is decoded before a recording is refused as too long. The default is what can be
/// analysed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Longest duration, in seconds.
    pub seconds: u32,
    /// Most samples per channel, at whatever rate: what bounds the memory.
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
    /// Samples per channel at a rate in Hz.
    pub fn frames(self, sample_rate: u32) -> usize {
        let frames = u64::from(self.seconds) * u64::from(sample_rate);
        self.frames
            .min(usize::try_from(frames).unwrap_or(usize::MAX))
    }
}

/// Decoding options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Longest recording that is accepted.
    pub limit: Limit,
    /// Selected channel, counted from 1; `None` for the mean of all.
    pub channel: Option<u32>,
}

/// Parses a channel selection: a number from 1, or `mix` for the mean of all.
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

/// Something about a file that an answer should be read with.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Defect {
    /// Two fields of the header cannot both be true.
    #[error("the header contradicts itself: {what}")]
    Header {
        /// The fields and the value that was used.
        what: String,
    },
    /// The file holds more audio than was decoded.
    #[error("part of the file was left out: {what}")]
    LeftOut {
        /// Place and reason.
        what: String,
    },
    /// The channels are in opposite phase: their mean is what they do not have in common.
    #[error(
        "the channels cancel each other (their mix is {decibels:.0} dB quieter than they are); \
         choose one of them"
    )]
    ChannelsCancel {
        /// Level of the channels over that of the mix.
        decibels: f64,
    },
}

/// A decoded recording, mixed to mono.
#[derive(Clone, PartialEq)]
pub struct Recording {
    /// Mono samples, 16-bit integers divided by 32768; the mean of several channels, or the chosen
    /// one.
    /// Never empty, all finite, between -1 and 1.
    pub samples: Vec<f32>,
    /// Frames per second, between [`MIN_SAMPLE_RATE`] and [`MAX_SAMPLE_RATE`].
    pub sample_rate: u32,
    /// Channels of the file, 1 to [`MAX_CHANNELS`].
    pub channels: u32,
    /// The channel that was chosen, from 1; `None` for the mean of all.
    pub channel: Option<u32>,
    /// Container and encoding, such as `wav pcm 24 bit` or `flac`.
    pub format: String,
    /// Number of samples, counted over the selected channels, at the largest or smallest 16-bit value.
    pub clipped: u64,
    /// The file promises more audio than it holds: it was cut short.
    pub truncated: bool,
    /// Packets of a compressed file that could not be decoded and were left out.
    pub damaged_packets: usize,
    /// Other defects of the file.
    pub defects: Vec<Defect>,
}

impl Recording {
    /// What a 16-bit mono WAV file of these samples, little-endian pairs of bytes, decodes to. A
    /// last odd byte is left out.
    ///
    /// # Errors
    /// When there is no sample, the sample rate makes no sense or there are too many of them.
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

    /// The share of samples at full scale, 0 to 1.
    pub fn clipped_fraction(&self) -> f64 {
        let heard = self.channel.map_or(self.channels, |_| 1);
        let samples = self.samples.len() as f64 * f64::from(heard);
        // The count includes an encoder's padding, which is cut off later.
        (self.clipped as f64 / samples).min(1.0)
    }
}

impl fmt::Debug for Recording {
    /// Everything but the samples, of which only the number is shown.
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

/// A recording that could not be decoded: which one, and why.
#[derive(Debug, Error)]
#[error("{name}: {fault}")]
pub struct DecodeError {
    /// Path of the file, or what the caller called the bytes.
    pub name: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a recording, and the way out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing at this path.
    #[error("no such file; check the path")]
    Missing,
    /// A folder.
    #[error("this is a folder; name a recording in it")]
    Folder,
    /// The operating system refuses to read it.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// Zero bytes.
    #[error("the file is empty (0 bytes); copy or export it again")]
    Empty,
    /// More than [`MAX_BYTES`].
    #[error("larger than {} MiB; cut it into shorter recordings", limit >> 20)]
    TooLarge {
        /// The most bytes that are read.
        limit: u64,
    },
    /// More frames than can be analysed.
    #[error("longer than {frames} samples per channel; cut it into shorter recordings")]
    TooLong {
        /// The most frames that are decoded.
        frames: usize,
    },
    /// No known format.
    #[error(
        "not a recording in a known format; {} can be read",
        container::names()
    )]
    NotAudio,
    /// The file ends before its audio begins.
    #[error("cut short inside its header ({0}); copy or export it again")]
    HeaderTruncated(String),
    /// A header field that makes no sense.
    #[error("damaged header: {0}; export it again as 16-bit WAV")]
    BadHeader(String),
    /// A known container with an encoding that is not supported.
    #[error("{0} cannot be read; convert it first: ffmpeg -i RECORDING -ar 16000 RECORDING.wav")]
    Unsupported(String),
    /// A device, socket or the like.
    #[error("neither a file nor a pipe; name a recording")]
    NotAFile,
    /// Header without audio.
    #[error("no audio samples in it; record or export it again")]
    NoSamples,
    /// Sample rate 0.
    #[error("its header says a sample rate of 0 Hz; export it again with the right rate")]
    ZeroSampleRate,
    /// A sample rate that no recording has.
    #[error(
        "its header says a sample rate of {0} Hz, outside {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}; \
         export it again with the right rate"
    )]
    SampleRate(u32),
    /// Zero channels.
    #[error("its header says 0 channels; export it again as mono")]
    ZeroChannels,
    /// More than [`MAX_CHANNELS`].
    #[error("{0} channels, at most {MAX_CHANNELS} are accepted; export it as mono")]
    TooManyChannels(u32),
    /// A channel was chosen that is not there.
    #[error("it has no channel {channel}, only 1 to {channels}; choose one of these")]
    NoSuchChannel {
        /// Selected channel.
        channel: u32,
        /// Channels of the file.
        channels: u32,
    },
    /// NaN or infinity.
    #[error(
        "sample {frame} of channel {channel} is not a finite number; export it again as 16-bit WAV"
    )]
    NonFinite {
        /// Frame, from 0.
        frame: usize,
        /// Channel, from 1.
        channel: usize,
    },
    /// Compressed audio that cannot be decoded.
    #[error("damaged audio: {0}; copy or export it again")]
    Damaged(String),
}

/// Decodes the recording at `path`.
pub fn decode_path(path: impl AsRef<Path>) -> Result<Recording, DecodeError> {
    decode_path_with(path, Options::default())
}

/// [`decode_path`] with options. A pipe is read to its end, [`MAX_BYTES`] at most; a device or a
/// socket is refused, since it may have none.
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

/// Decodes what `reader` gives, such as standard input. `name` stands for it in errors.
pub fn decode_reader(reader: impl Read, name: &str) -> Result<Recording, DecodeError> {
    decode_reader_with(reader, name, Options::default())
}

/// [`decode_reader`] with options.
pub fn decode_reader_with(
    reader: impl Read,
    name: &str,
    options: Options,
) -> Result<Recording, DecodeError> {
    decode_from(reader, 0, name, options)
}

/// `stated` bytes are expected.
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
    // One byte more, into which the file's end is read. Without the memory, reading says so.
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

/// Decodes a recording from memory. `name` stands for it in errors.
pub fn decode(bytes: &[u8], name: &str) -> Result<Recording, DecodeError> {
    decode_with(bytes, name, Options::default())
}

/// Decodes a recording from memory and stops with [`Fault::TooLong`] where `limit` is passed.
pub fn decode_within(bytes: &[u8], name: &str, limit: Limit) -> Result<Recording, DecodeError> {
    let channel = None;
    decode_with(bytes, name, Options { limit, channel })
}

/// [`decode`] with options.
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

/// Whether a sample rate and a channel count make sense.
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
