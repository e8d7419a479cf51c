//! Decoded recordings, decoding options, and the limits of both.

use std::fmt;

use thiserror::Error;

/// Lowest accepted sample rate, in Hz.
pub const MIN_SAMPLE_RATE: u32 = 1_000;
/// Highest accepted sample rate, in Hz.
pub const MAX_SAMPLE_RATE: u32 = 768_000;
/// Highest accepted number of channels.
pub const MAX_CHANNELS: u32 = 64;
/// Size of the largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 2 << 30;

/// Maximum number of frames in a recording: 4.6 hours at 16 kHz, 1.5 hours at 48 kHz, 1 GiB as mono
/// float32. It bounds the output of highly compressed silence.
pub const MAX_FRAMES: usize = 1 << 28;

/// Maximum number of recordings per file that are decoded; each costs a decoder and a list entry.
pub const MAX_RECORDINGS: usize = 10_000;

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
#[non_exhaustive]
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
    /// Returns the duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }

    /// Returns the fraction of samples at full scale, 0 to 1.
    pub fn clipped_fraction(&self) -> f64 {
        let mixed = self.channel.map_or(self.channels, |_| 1);
        let samples = self.samples.len() as f64 * f64::from(mixed);
        // The count includes an encoder's padding, which is cut off after counting.
        (self.clipped as f64 / samples).min(1.0)
    }
}

impl fmt::Debug for Recording {
    /// Formats every field except the samples, which appear as a count.
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
