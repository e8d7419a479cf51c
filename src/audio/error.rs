//! Errors of decoding, and the checks of a recording's sample rate and channel count.

use std::io;

use thiserror::Error;

use super::file_formats;
use super::recording::{MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE};

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
    /// The file is larger than [`MAX_BYTES`](super::recording::MAX_BYTES).
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
        file_formats::names()
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
