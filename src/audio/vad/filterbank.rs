//! Six-band filter bank for 8 kHz frames, with the log energy of each band.
//!
//! Filters and constants: WebRTC `vad_filterbank.c`, `energy.c`, `get_scaling_square.c`. Samples
//! have 16 bits throughout; full-scale input overflows, and the C code lets it wrap around.

use super::MAX_NARROWBAND;

/// Number of frequency bands.
pub(super) const BANDS: usize = 6;

/// Minimum energy of a classified frame (exclusive); quieter frames are non-speech.
const MIN_ENERGY: i16 = 10;

/// Features of one frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    /// Log energies of 80-250, 250-500, 500-1000, 1000-2000, 2000-3000 and 3000-4000 Hz: 160
    /// log10(energy) plus a constant per band, never negative.
    pub(super) bands: [i16; BANDS],
    /// Set if the frame's energy suffices for classification.
    pub(super) loud: bool,
}

/// Tree of band splits, with its filter state.
#[derive(Debug, Clone, Default)]
pub(super) struct Filterbank {
    at_2000: Split,
    at_3000: Split,
    at_1000: Split,
    at_500: Split,
    at_250: Split,
    high_pass: HighPass,
}

impl Filterbank {
    /// Computes the features of 80, 160 or 240 samples.
    pub(super) fn analyse(&mut self, frame: &[i16]) -> Features {
        const HALF: usize = MAX_NARROWBAND / 2;
        let n = frame.len();
        let (mut above, mut below) = ([0; HALF], [0; HALF]);
        let (above, below) = (&mut above[..n / 2], &mut below[..n / 2]);
        let (mut high, mut low) = ([0; HALF / 2], [0; HALF / 2]);
        let (high, low) = (&mut high[..n / 4], &mut low[..n / 4]);
        let mut meter = EnergyMeter::default();

        // The order matters: the meter stops accumulating once the total exceeds the minimum
        // energy.
        self.at_2000.split(frame, above, below);
        self.at_3000.split(above, high, low);
        let to_4000 = meter.log_energy(high, 176);
        let to_3000 = meter.log_energy(low, 176);

        self.at_1000.split(below, high, low);
        let to_2000 = meter.log_energy(high, 176);

        let (above, below) = (&mut above[..n / 8], &mut below[..n / 8]);
        self.at_500.split(low, above, below);
        let to_1000 = meter.log_energy(above, 272);

        let (high, low) = (&mut high[..n / 16], &mut low[..n / 16]);
        self.at_250.split(below, high, low);
        let to_500 = meter.log_energy(high, 368);

        self.high_pass.filter(low);
        let to_250 = meter.log_energy(low, 368);

        Features {
            bands: [to_250, to_500, to_1000, to_2000, to_3000, to_4000],
            loud: meter.total > MIN_ENERGY,
        }
    }
}

/// Splits a signal into its upper and lower half band at half the rate. Even and odd samples each
/// pass an all-pass section; the difference is the upper half, the sum the lower half.
#[derive(Debug, Clone, Default)]
struct Split {
    even: i16,
    odd: i16,
}

impl Split {
    /// All-pass coefficients, 0.64 and 0.17 in Q15.
    const EVEN: i32 = 20972;
    const ODD: i32 = 5571;

    fn split(&mut self, input: &[i16], upper: &mut [i16], lower: &mut [i16]) {
        // Within a frame, the states have 16 more bits than between frames.
        let mut even_state = i32::from(self.even) << 16;
        let mut odd_state = i32::from(self.odd) << 16;
        let halves = upper.iter_mut().zip(lower);
        for (&[even, odd], (upper, lower)) in input.as_chunks().0.iter().zip(halves) {
            let even = all_pass(&mut even_state, Self::EVEN, even.into());
            let odd = all_pass(&mut odd_state, Self::ODD, odd.into());
            *upper = even.wrapping_sub(odd);
            *lower = even.wrapping_add(odd);
        }
        self.even = (even_state >> 16) as i16;
        self.odd = (odd_state >> 16) as i16;
    }
}

/// Returns half of an all-pass section's output. The state is Q15 of the halved signal.
fn all_pass(state: &mut i32, coefficient: i32, input: i32) -> i16 {
    let output = (state.wrapping_add(coefficient * input) >> 16) as i16;
    *state = ((input << 14) - coefficient * i32::from(output)).wrapping_mul(2);
    output
}

/// High-pass filter at 80 Hz for a signal sampled at 500 Hz.
#[derive(Debug, Clone, Default)]
struct HighPass {
    inputs: [i16; 2],
    outputs: [i16; 2],
}

impl HighPass {
    /// Filter coefficients in Q14; the pole at lag 0 is 1.
    const ZEROS: [i32; 3] = [6631, -13262, 6631];
    const POLES: [i32; 2] = [-7756, 5620];

    /// Filters in place. The sums stay within 31 bits; the narrowing can wrap.
    fn filter(&mut self, samples: &mut [i16]) {
        for sample in samples {
            let [x1, x2] = self.inputs.map(i32::from);
            let [y1, y2] = self.outputs.map(i32::from);
            let sum =
                Self::ZEROS[0] * i32::from(*sample) + Self::ZEROS[1] * x1 + Self::ZEROS[2] * x2
                    - Self::POLES[0] * y1
                    - Self::POLES[1] * y2;
            let output = (sum >> 14) as i16;
            self.inputs = [*sample, self.inputs[0]];
            self.outputs = [output, self.outputs[0]];
            *sample = output;
        }
    }
}

/// Log energy computation that also accumulates the total energy of the frame.
#[derive(Debug, Default)]
struct EnergyMeter {
    /// Sum of the energies, accumulated only until it exceeds [`MIN_ENERGY`].
    total: i16,
}

impl EnergyMeter {
    /// Returns 160 log10(energy) + `offset`, with log2 linear between powers of two; `offset` alone
    /// for an energy below one.
    fn log_energy(&mut self, samples: &[i16], offset: i16) -> i16 {
        /// 160 log10(2), Q9.
        const LOG_UNIT: i32 = 24660;
        let Some((mantissa, exponent)) = energy(samples) else {
            return offset;
        };
        // 14 plus the fractional part of log2, Q10.
        let log2 = (14 << 10) + ((mantissa & 0x3fff) >> 4);
        let log = ((LOG_UNIT * log2) >> 19) + ((exponent * LOG_UNIT) >> 9);
        if self.total <= MIN_ENERGY {
            self.total += if exponent >= 0 {
                MIN_ENERGY + 1
            } else {
                (mantissa >> -exponent) as i16
            };
        }
        log.max(0) as i16 + offset
    }
}

/// Returns the energy as `mantissa * 2^exponent` with a mantissa of exactly 15 bits; `None` if it
/// is 0.
fn energy(samples: &[i16]) -> Option<(i32, i32)> {
    // -32768 stays negative under `wrapping_abs`, so it does not count towards the headroom, and
    // the sum can wrap.
    let peak = samples
        .iter()
        .map(|sample| sample.wrapping_abs())
        .fold(-1, i16::max);
    let scaling = headroom_shift(peak, samples.len());
    let sum = samples
        .iter()
        .map(|&sample| (i32::from(sample) * i32::from(sample)) >> scaling)
        .fold(0, i32::wrapping_add)
        .cast_unsigned();
    if sum == 0 {
        return None;
    }
    let normalizing = 17 - sum.leading_zeros() as i32;
    let mantissa = if normalizing < 0 {
        sum << -normalizing
    } else {
        sum >> normalizing
    };
    Some((mantissa.cast_signed(), scaling + normalizing))
}

/// Returns the right shift of squares up to `peak`^2 that makes `count` of them fit in 31 bits.
fn headroom_shift(peak: i16, count: usize) -> i32 {
    if peak == 0 {
        return 0;
    }
    let square = i32::from(peak) * i32::from(peak);
    let free = square.leading_zeros() as i32 - 1;
    let needed = (usize::BITS - count.leading_zeros()) as i32;
    (needed - free).max(0)
}
