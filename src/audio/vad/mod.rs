//! Voice activity: does a frame of 10, 20 or 30 ms hold speech?
//!
//! The method is the detector of WebRTC (`common_audio/vad`, see `NOTICE`): the frame is brought to
//! 8 kHz, split into six frequency bands, and the log energy of each band is judged by two Gaussian
//! mixtures, one for noise and one for speech, which adapt to what they hear. Its fixed-point
//! arithmetic is part of the method, so every rounding, wrap-around and narrowing to 16 bits of the C
//! code is reproduced, and the decisions are the same bit for bit.
//!
//! ```
//! use maeum::audio::vad::{Mode, SampleRate, Vad};
//!
//! let mut vad = Vad::new(SampleRate::Khz16, Mode::Aggressive);
//! assert!(!vad.is_speech(&[0; 480])?);
//! # Ok::<(), maeum::audio::vad::VadError>(())
//! ```

mod decimate;
mod filterbank;
mod gmm;
mod minimum;

use decimate::Decimator;
use filterbank::Filterbank;
use gmm::Detector;

/// The longest frame after decimation: 30 ms at 8 kHz.
const MAX_NARROWBAND: usize = 240;

/// A sampling rate that the detector accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleRate {
    /// The detector's own rate; nothing is resampled.
    Khz8,
    /// Halved once before the detector.
    Khz16,
    /// Halved twice before the detector.
    Khz32,
    /// In frames of 20 and 30 ms only the first 10 ms are heard, as in the C code.
    Khz48,
}

impl SampleRate {
    /// Every rate, in rising order.
    pub const ALL: [Self; 4] = [Self::Khz8, Self::Khz16, Self::Khz32, Self::Khz48];

    /// Samples per second.
    pub const fn hz(self) -> u32 {
        self.samples_per_ms() as u32 * 1000
    }

    /// The three frame lengths allowed at this rate, in samples: 10, 20 and 30 ms.
    pub const fn frame_lengths(self) -> [usize; 3] {
        let ms = self.samples_per_ms();
        [10 * ms, 20 * ms, 30 * ms]
    }

    const fn samples_per_ms(self) -> usize {
        match self {
            Self::Khz8 => 8,
            Self::Khz16 => 16,
            Self::Khz32 => 32,
            Self::Khz48 => 48,
        }
    }
}

impl TryFrom<u32> for SampleRate {
    type Error = VadError;

    fn try_from(hz: u32) -> Result<Self, VadError> {
        Self::ALL
            .into_iter()
            .find(|rate| rate.hz() == hz)
            .ok_or(VadError::SampleRate(hz))
    }
}

/// How much it takes to call a frame speech: the stricter, the fewer false alarms and the more
/// missed speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// 0: the most lenient.
    Quality,
    /// 1
    LowBitrate,
    /// 2
    Aggressive,
    /// 3: the strictest.
    VeryAggressive,
}

impl Mode {
    /// Every mode, from the most lenient to the strictest; the index is WebRTC's number for it.
    pub const ALL: [Self; 4] = [
        Self::Quality,
        Self::LowBitrate,
        Self::Aggressive,
        Self::VeryAggressive,
    ];
}

impl TryFrom<u8> for Mode {
    type Error = VadError;

    fn try_from(number: u8) -> Result<Self, VadError> {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .ok_or(VadError::Mode(number))
    }
}

/// What the detector cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VadError {
    /// A frame of a length that [`SampleRate::frame_lengths`] does not list.
    #[error(
        "a frame of {length} samples is not 10, 20 or 30 ms at {rate} Hz: give frames of {}, {} or {} samples",
        .allowed[0], .allowed[1], .allowed[2]
    )]
    FrameLength {
        /// Samples in the frame that was given.
        length: usize,
        /// The detector's rate, in Hz.
        rate: u32,
        /// Samples in 10, 20 and 30 ms at this rate.
        allowed: [usize; 3],
    },
    /// A rate in Hz that is none of [`SampleRate::ALL`]; resample first.
    #[error(
        "the voice detector does not take {0} Hz: resample to 8000, 16000, 32000 or 48000 Hz first"
    )]
    SampleRate(u32),
    /// A number above 3, the strictest mode.
    #[error("there is no voice detector mode {0}: choose 0 (lenient) to 3 (strict)")]
    Mode(u8),
}

/// The frame's duration, which selects the thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duration {
    Ms10,
    Ms20,
    Ms30,
}

/// A voice activity detector for one stream of frames.
///
/// It remembers the stream (filter states, noise and speech models, hangover), so frames must come
/// in order, and another stream needs a fresh detector or a [`reset`](Self::reset).
#[derive(Debug, Clone)]
pub struct Vad {
    rate: SampleRate,
    mode: Mode,
    decimator: Decimator,
    filterbank: Filterbank,
    detector: Detector,
}

impl Vad {
    /// A detector that has heard nothing yet.
    pub fn new(rate: SampleRate, mode: Mode) -> Self {
        Self {
            rate,
            mode,
            decimator: Decimator::new(rate),
            filterbank: Filterbank::default(),
            detector: Detector::new(mode),
        }
    }

    /// The rate that frames are taken at.
    pub fn sample_rate(&self) -> SampleRate {
        self.rate
    }

    /// How strict the detector is.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the next frame of the stream holds speech. Allocates nothing.
    ///
    /// A pause shorter than the hangover (60 to 150 ms, by mode and frame length) after speech still
    /// counts as speech.
    ///
    /// # Errors
    /// [`VadError::FrameLength`] unless the frame is 10, 20 or 30 ms long, that is, one of
    /// [`SampleRate::frame_lengths`]; the state is then left as it was. Lengths may alternate.
    pub fn is_speech(&mut self, frame: &[i16]) -> Result<bool, VadError> {
        let allowed = self.rate.frame_lengths();
        let duration = match allowed.iter().position(|&length| length == frame.len()) {
            Some(0) => Duration::Ms10,
            Some(1) => Duration::Ms20,
            Some(_) => Duration::Ms30,
            None => {
                return Err(VadError::FrameLength {
                    length: frame.len(),
                    rate: self.rate.hz(),
                    allowed,
                });
            }
        };
        let mut buffer = [0; MAX_NARROWBAND];
        let narrowband = self.decimator.decimate(frame, &mut buffer);
        let features = self.filterbank.analyse(narrowband);
        Ok(self.detector.decide(&features, duration))
    }

    /// Forgets the stream; rate and mode stay.
    pub fn reset(&mut self) {
        *self = Self::new(self.rate, self.mode);
    }
}
