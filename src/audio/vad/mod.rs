//! Voice activity detection in frames of 10, 20 or 30 ms.
//!
//! The method is WebRTC's detector (`common_audio/vad`, see `NOTICE`). A frame is decimated to 8
//! kHz and split into six frequency bands. Two adaptive Gaussian mixtures per band, one for noise
//! and one for speech, evaluate the log energy of the band. The fixed-point arithmetic is part of
//! the method: every rounding, wrap-around and narrowing to 16 bits of the C code is reproduced, so
//! the decisions are identical.
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

/// Maximum frame length after decimation: 30 ms at 8 kHz.
const MAX_NARROWBAND: usize = 240;

/// Sample rate that the detector accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleRate {
    /// Native rate of the detector, without decimation.
    Khz8,
    /// Halved once before the detector.
    Khz16,
    /// Halved twice before the detector.
    Khz32,
    /// Decimated by six. Frames of 20 and 30 ms use only their first 10 ms, as in the C code.
    Khz48,
}

impl SampleRate {
    /// Every rate, in ascending order.
    pub const ALL: [Self; 4] = [Self::Khz8, Self::Khz16, Self::Khz32, Self::Khz48];

    /// Returns the rate in Hz.
    pub const fn hz(self) -> u32 {
        self.samples_per_ms() as u32 * 1000
    }

    /// Returns the three frame lengths allowed at this rate, in samples: 10, 20 and 30 ms.
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

/// Strictness of the decision. A stricter mode has fewer false alarms and misses more speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Mode 0, the most lenient.
    Quality,
    /// Mode 1.
    LowBitrate,
    /// Mode 2.
    Aggressive,
    /// Mode 3, the strictest.
    VeryAggressive,
}

impl Mode {
    /// Every mode, from the most lenient to the strictest, indexed by WebRTC's mode number.
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

/// Invalid input of the detector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VadError {
    /// The frame length is not one of [`SampleRate::frame_lengths`].
    #[error(
        "a frame of {length} samples is not 10, 20 or 30 ms at {rate} Hz: give frames of {}, {} or {} samples",
        .allowed[0], .allowed[1], .allowed[2]
    )]
    FrameLength {
        /// Number of samples in the frame.
        length: usize,
        /// Sample rate of the detector, in Hz.
        rate: u32,
        /// Numbers of samples in 10, 20 and 30 ms at this rate.
        allowed: [usize; 3],
    },
    /// The rate in Hz is not one of [`SampleRate::ALL`]; resample first.
    #[error(
        "the voice detector does not take {0} Hz: resample to 8000, 16000, 32000 or 48000 Hz first"
    )]
    SampleRate(u32),
    /// The mode number is above 3, the strictest mode.
    #[error("there is no voice detector mode {0}: choose 0 (lenient) to 3 (strict)")]
    Mode(u8),
}

/// Frame duration, which selects the thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duration {
    Ms10,
    Ms20,
    Ms30,
}

/// Voice activity detector for one stream of frames.
///
/// The state (filters, noise and speech models, hangover) spans the stream, so frames must arrive
/// in order. Another stream needs a new detector or a [`reset`](Self::reset).
#[derive(Debug, Clone)]
pub struct Vad {
    rate: SampleRate,
    mode: Mode,
    decimator: Decimator,
    filterbank: Filterbank,
    detector: Detector,
}

impl Vad {
    /// Creates a detector in its initial state.
    pub fn new(rate: SampleRate, mode: Mode) -> Self {
        Self {
            rate,
            mode,
            decimator: Decimator::new(rate),
            filterbank: Filterbank::default(),
            detector: Detector::new(mode),
        }
    }

    /// Returns the sample rate of the frames.
    pub fn sample_rate(&self) -> SampleRate {
        self.rate
    }

    /// Returns the strictness.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns whether the next frame of the stream is speech. Allocates nothing.
    ///
    /// A pause after speech that is shorter than the hangover (60 to 150 ms, by mode and frame
    /// length) counts as speech.
    ///
    /// # Errors
    /// [`VadError::FrameLength`] unless the frame is 10, 20 or 30 ms long (see
    /// [`SampleRate::frame_lengths`]); the state is then unchanged. The length may vary from frame
    /// to frame.
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

    /// Resets the detector to its initial state, with the same rate and mode.
    pub fn reset(&mut self) {
        *self = Self::new(self.rate, self.mode);
    }
}
