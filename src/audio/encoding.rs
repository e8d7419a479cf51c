//! Conversion of file sample encodings to 16-bit integers, and of channels to mono.

use super::error::Fault;
use super::recording::{Defect, MAX_FRAMES, Recording};

/// Converts a finite float sample (full scale 1.0) to 16 bits: rounded to nearest, ties to even,
/// clipped.
#[inline]
pub fn from_float(x: f64) -> i16 {
    // Adding the bias leaves no fractional bits, so the addition itself rounds ties to even.
    ((x * 32768.0).clamp(-32768.0, 32767.0) + ROUNDING_BIAS - ROUNDING_BIAS) as i16
}

/// 1.5 * 2^52: floats between 2^52 and 2^53 have no fractional bits.
const ROUNDING_BIAS: f64 = 6_755_399_441_055_744.0;

/// Decodes a G.711 A-law code to a 16-bit sample.
pub fn from_a_law(code: u8) -> i16 {
    // G.711 inverts every other bit for transmission.
    let code = code ^ 0x55;
    let mantissa = i16::from(code & 0x0f) << 4 | 8;
    let magnitude = match code >> 4 & 7 {
        0 => mantissa,
        segment => (mantissa | 0x100) << (segment - 1),
    };
    if code & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// Decodes a G.711 mu-law code to a 16-bit sample.
pub fn from_mu_law(code: u8) -> i16 {
    const BIAS: i16 = 132;
    let code = !code;
    let magnitude = ((i16::from(code & 0x0f) << 3 | BIAS) << (code >> 4 & 7)) - BIAS;
    if code & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// Mixes interleaved 16-bit samples into a mono float32 signal.
///
/// Each sample is divided by 32768. A frame becomes the mean over its channels, or the selected
/// channel. The integer sum is exact in float32, so the result equals the float32 mean in any order
/// of summation.
pub struct Mixer {
    channels: usize,
    /// Selected channel, counted from 0.
    selected: Option<usize>,
    filled: usize,
    sum: i32,
    /// Number of channels in a frame's sum.
    channels_in_sum: f32,
    mono: Vec<f32>,
    clipped: u64,
    limit: usize,
    /// Sums of squares over several channels: of the samples, and of the frame sums.
    power: (u64, u64),
}

fn square(x: i32) -> u64 {
    u64::from(x.unsigned_abs()).pow(2)
}

/// Number of samples per part; the clipped samples of a part are counted in 16 bits.
const CLIPPING_PART: usize = 1 << 15;

/// Power of a mix relative to that of independent channels, below which the channels count as
/// cancelling: -10 dB.
const CANCELLATION: f64 = 0.1;

impl Mixer {
    /// Creates a mixer for `channels` (1 to 64), or for one `channel` of them, counted from 1. It
    /// accepts at most `limit` frames and reserves memory for `frames`, which the caller has
    /// bounded.
    ///
    /// # Errors
    /// If the selected channel does not exist.
    pub fn new(
        channels: u32,
        channel: Option<u32>,
        frames: usize,
        limit: usize,
    ) -> Result<Self, Fault> {
        if let Some(channel) = channel
            && !(1..=channels).contains(&channel)
        {
            return Err(Fault::NoSuchChannel { channel, channels });
        }
        let limit = limit.min(MAX_FRAMES);
        let mono = Vec::with_capacity(frames.min(limit));
        let channels_in_sum = if channel.is_some() { 1 } else { channels };
        Ok(Self {
            channels: channels as usize,
            selected: channel.map(|channel| channel as usize - 1),
            filled: 0,
            sum: 0,
            channels_in_sum: channels_in_sum as f32,
            mono,
            clipped: 0,
            limit,
            power: (0, 0),
        })
    }

    /// Takes the next interleaved sample.
    #[inline]
    pub fn push(&mut self, sample: i16) -> Result<(), Fault> {
        if self.channels == 1 {
            self.clipped += u64::from(sample == i16::MAX || sample == i16::MIN);
            return self.frame(f32::from(sample) / 32768.0);
        }
        if self.selected.is_none_or(|selected| selected == self.filled) {
            self.clipped += u64::from(sample == i16::MAX || sample == i16::MIN);
            self.sum += i32::from(sample);
        }
        self.power.0 = self.power.0.saturating_add(square(sample.into()));
        self.filled += 1;
        if self.filled == self.channels {
            self.frame(self.sum as f32 / 32768.0 / self.channels_in_sum)?;
            self.power.1 = self.power.1.saturating_add(square(self.sum));
            (self.sum, self.filled) = (0, 0);
        }
        Ok(())
    }

    /// Takes the next interleaved samples, each decoded by `value`.
    ///
    /// # Errors
    /// The errors of [`Self::push`].
    #[inline]
    pub fn push_all<T: Copy>(
        &mut self,
        samples: &[T],
        value: impl Fn(T) -> i16,
    ) -> Result<(), Fault> {
        if !self.takes_mono(samples.len()) {
            return samples.iter().try_for_each(|&s| self.push(value(s)));
        }
        // Loops without an early end, so that the compiler vectorises them.
        let is_clipped = |&s: &T| [i16::MAX, i16::MIN].contains(&value(s));
        for part in samples.chunks(CLIPPING_PART) {
            let clipped: u16 = part.iter().map(|s| u16::from(is_clipped(s))).sum();
            self.clipped += u64::from(clipped);
        }
        let scaled = samples.iter().map(|&s| f32::from(value(s)) / 32768.0);
        self.mono.extend(scaled);
        Ok(())
    }

    /// Takes the next interleaved samples as floats, each decoded by `value`.
    ///
    /// # Errors
    /// The errors of [`Self::push_float`].
    #[inline]
    pub fn push_all_floats<T: Copy>(
        &mut self,
        samples: &[T],
        value: impl Fn(T) -> f64,
    ) -> Result<(), Fault> {
        let all_finite = || {
            samples
                .iter()
                .fold(true, |all, &s| all & value(s).is_finite())
        };
        if self.takes_mono(samples.len()) && all_finite() {
            return self.push_all(samples, |s| from_float(value(s)));
        }
        samples.iter().try_for_each(|&s| self.push_float(value(s)))
    }

    /// Returns true if `samples` samples are as many frames, all within the limit.
    fn takes_mono(&self, samples: usize) -> bool {
        self.channels == 1 && samples <= self.limit - self.mono.len()
    }

    #[inline]
    fn frame(&mut self, sample: f32) -> Result<(), Fault> {
        if self.mono.len() >= self.limit {
            return Err(Fault::TooLong { frames: self.limit });
        }
        self.mono.push(sample);
        Ok(())
    }

    /// Takes the next interleaved sample as a float; a non-finite one is an error.
    #[inline]
    pub fn push_float(&mut self, sample: f64) -> Result<(), Fault> {
        if !sample.is_finite() {
            return Err(Fault::NonFinite {
                frame: self.mono.len(),
                channel: self.filled + 1,
            });
        }
        self.push(from_float(sample))
    }

    /// Returns the number of channels.
    pub fn channels(&self) -> u32 {
        self.channels as u32
    }

    /// Returns the number of complete frames so far.
    pub fn frames(&self) -> usize {
        self.mono.len()
    }

    /// Returns the mono signal as a recording; an incomplete frame is dropped.
    pub fn recording(self, sample_rate: u32, format: String) -> Recording {
        let cancelled = self.cancelled();
        Recording {
            samples: self.mono,
            sample_rate,
            channels: self.channels as u32,
            channel: self.selected.map(|selected| selected as u32 + 1),
            format,
            clipped: self.clipped,
            truncated: false,
            damaged_packets: 0,
            defects: cancelled
                .map(|decibels| Defect::ChannelsCancel { decibels })
                .into_iter()
                .collect(),
        }
    }

    /// Returns the level of the channels above that of their mix, in dB, if they cancel each other.
    fn cancelled(&self) -> Option<f64> {
        if self.selected.is_some() || self.channels < 2 || self.power.0 == 0 {
            return None;
        }
        // For independent channels the two sums are equal.
        let share = self.power.1 as f64 / self.power.0 as f64;
        let decibels = -10.0 * (share.max(1e-9) / self.channels as f64).log10();
        (share < CANCELLATION).then_some(decibels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_recordings_are_refused() {
        let mut mixer = Mixer::new(2, None, 1 << 24, 3).unwrap();
        for _ in 0..6 {
            mixer.push(1).unwrap();
        }
        mixer.push(1).unwrap();
        let fault = mixer.push(1).unwrap_err();
        assert!(matches!(fault, Fault::TooLong { frames: 3 }), "{fault}");
        assert_eq!(mixer.frames(), 3);
    }

    #[test]
    fn samples_together_are_taken_like_single_ones() {
        let values = [0, 1, -1, i16::MAX, i16::MIN, 256, -256, i16::MAX - 1];
        let samples: Vec<i16> = values
            .into_iter()
            .cycle()
            .take(3 * CLIPPING_PART + 4)
            .collect();
        let bytes: Vec<[u8; 2]> = samples.iter().map(|s| s.to_le_bytes()).collect();
        for channels in [1, 2] {
            let mixer = || Mixer::new(channels, None, 0, samples.len()).unwrap();
            let (mut single, mut together) = (mixer(), mixer());
            samples.iter().for_each(|s| single.push(*s).unwrap());
            let (first, rest) = bytes.split_at(10);
            together.push_all(first, i16::from_le_bytes).unwrap();
            together.push_all(rest, i16::from_le_bytes).unwrap();
            let mut floats = mixer();
            let scaled = |s: i16| f64::from(s) / 32768.0;
            floats.push_all_floats(&samples, scaled).unwrap();
            let [single, together, floats] =
                [single, together, floats].map(|m| m.recording(8_000, String::new()));
            assert!(single == together, "{channels} channels");
            assert!(single == floats, "{channels} channels");
        }
        let short = || Mixer::new(1, None, 0, 3).unwrap();
        let fault = short().push_all(&bytes, i16::from_le_bytes).unwrap_err();
        assert!(matches!(fault, Fault::TooLong { frames: 3 }), "{fault}");
        let floats = |values: &[f64]| short().push_all_floats(values, |x| x).unwrap_err();
        let fault = floats(&[0.0, f64::NAN]);
        let wanted = Fault::NonFinite {
            frame: 1,
            channel: 1,
        };
        assert_eq!(fault.to_string(), wanted.to_string());
        let fault = floats(&[0.0, 0.0, 0.0, 0.0, f64::NAN]);
        assert!(matches!(fault, Fault::TooLong { frames: 3 }), "{fault}");
    }

    #[test]
    fn floats_are_rounded_to_even_and_clipped() {
        for n in -70_000..70_000 {
            let x = f64::from(n) / 65536.0;
            let expected = (x * 32768.0).round_ties_even().clamp(-32768.0, 32767.0);
            assert_eq!(f64::from(from_float(x)), expected, "{n} / 65536");
        }
        for (x, expected) in [(0.49 / 32768.0, 0), (1e300, 32767), (-1e300, -32768)] {
            assert_eq!(from_float(x), expected, "{x}");
        }
    }

    #[test]
    fn g711_has_its_tabulated_extremes() {
        // ITU-T G.711, tables 1 and 2, scaled to 16 bits.
        for (code, expected) in [(0xAA, 32256), (0x2A, -32256), (0xD5, 8), (0x55, -8)] {
            assert_eq!(from_a_law(code), expected, "{code:#x}");
        }
        for (code, expected) in [(0x80, 32124), (0x00, -32124), (0xFF, 0), (0x7F, 0)] {
            assert_eq!(from_mu_law(code), expected, "{code:#x}");
        }
    }
}
