//! Decimation of a frame to 8 kHz.
//!
//! Rates of 16 and 32 kHz use two-branch half-band filters with one all-pass section per branch.
//! The rate of 48 kHz uses a sharper chain 48 -> 24 -> 16 -> 8 kHz with three sections per branch.
//!
//! Filters and constants: WebRTC `vad_sp.c`, `resample_by_2_internal.c`, `resample_48khz.c`,
//! `resample_fractional.c`. Loud input overflows in both variants, and the C code lets it wrap
//! around.

use super::{MAX_NARROWBAND, SampleRate};

/// Decimator for one of the accepted rates, with its filter state.
#[derive(Debug, Clone)]
pub(super) enum Decimator {
    Unchanged,
    By2(HalfBand),
    By4([HalfBand; 2]),
    By6(Decimate48k),
}

impl Decimator {
    pub(super) fn new(rate: SampleRate) -> Self {
        match rate {
            SampleRate::Khz8 => Self::Unchanged,
            SampleRate::Khz16 => Self::By2(HalfBand::default()),
            SampleRate::Khz32 => Self::By4(Default::default()),
            SampleRate::Khz48 => Self::By6(Decimate48k::default()),
        }
    }

    /// Returns the frame (10, 20 or 30 ms) at 8 kHz, either unchanged or written into `buffer`.
    pub(super) fn decimate<'a>(
        &mut self,
        frame: &'a [i16],
        buffer: &'a mut [i16; MAX_NARROWBAND],
    ) -> &'a [i16] {
        match self {
            Self::Unchanged => frame,
            Self::By2(half_band) => {
                let out = &mut buffer[..frame.len() / 2];
                half_band.decimate_by_2(frame, out);
                out
            }
            Self::By4([first, second]) => {
                let mut middle = [0; 2 * MAX_NARROWBAND];
                let middle = &mut middle[..frame.len() / 2];
                let out = &mut buffer[..frame.len() / 4];
                first.decimate_by_2(frame, middle);
                second.decimate_by_2(middle, out);
                out
            }
            Self::By6(chain) => {
                let out = &mut buffer[..frame.len() / 6];
                // The C code reads the first 10 ms again for every 10 ms of output (its input
                // pointer never advances), and the decisions depend on it.
                let (first_block, _) = frame
                    .as_chunks::<TEN_MS_48K>()
                    .0
                    .split_first()
                    .expect("the frame length was checked");
                for block in out.as_chunks_mut::<TEN_MS_8K>().0 {
                    chain.decimate(first_block, block);
                }
                out
            }
        }
    }
}

/// Half-band decimator: even and odd samples each pass an all-pass section, and the results are
/// added.
#[derive(Debug, Clone, Default)]
pub(super) struct HalfBand {
    even: i32,
    odd: i32,
}

impl HalfBand {
    /// All-pass coefficients, 0.64 and 0.17 in Q13.
    const EVEN: i32 = 5243;
    const ODD: i32 = 1392;

    fn decimate_by_2(&mut self, input: &[i16], output: &mut [i16]) {
        for (&[even, odd], out) in input.as_chunks().0.iter().zip(output) {
            let upper = Self::section(&mut self.even, Self::EVEN, even.into());
            let lower = Self::section(&mut self.odd, Self::ODD, odd.into());
            *out = upper.wrapping_add(lower);
        }
    }

    /// Returns half of the all-pass section's output. The state stays within 17 bits, so only the
    /// narrowing can overflow.
    fn section(state: &mut i32, coefficient: i32, input: i32) -> i16 {
        let output = ((*state >> 1) + ((coefficient * input) >> 14)) as i16;
        *state = input - ((coefficient * i32::from(output)) >> 12);
        output
    }
}

/// Three cascaded all-pass sections on Q15 samples: one branch of a filter in the 48 kHz chain.
#[derive(Debug, Clone, Default)]
struct Branch([i32; 4]);

/// Coefficients of the three sections of a branch, Q14.
type Coefficients = [i32; 3];
const UPPER: Coefficients = [821, 6110, 12382];
const LOWER: Coefficients = [3050, 9368, 15063];

impl Branch {
    /// Returns half of the filtered sample.
    fn step(&mut self, coefficients: Coefficients, input: i32) -> i32 {
        let [c0, c1, c2] = coefficients;
        let [x0, x1, x2, x3] = self.0;
        let rounded = input.wrapping_sub(x1).wrapping_add(1 << 13) >> 14;
        let y1 = x0.wrapping_add(rounded.wrapping_mul(c0));
        let y2 = x1.wrapping_add(toward_zero(y1.wrapping_sub(x2)).wrapping_mul(c1));
        let y3 = x2.wrapping_add(toward_zero(y2.wrapping_sub(x3)).wrapping_mul(c2));
        self.0 = [input, y1, y2, y3];
        y3 >> 1
    }
}

/// Drops 14 fractional bits. A negative difference is incremented by one, as in the C code, so an
/// exact negative multiple is off by one.
fn toward_zero(difference: i32) -> i32 {
    let floor = difference >> 14;
    floor + i32::from(floor < 0)
}

const TEN_MS_48K: usize = 480;
const TEN_MS_24K: usize = 240;
const TEN_MS_16K: usize = 160;
const TEN_MS_8K: usize = 80;

/// Number of 24 kHz samples from before the block that the step to 16 kHz uses.
const HISTORY: usize = 8;

/// Decimator from 48 to 8 kHz, in blocks of 10 ms.
#[derive(Debug, Clone, Default)]
pub(super) struct Decimate48k {
    to_24k_even: Branch,
    to_24k_odd: Branch,
    low_pass: LowPass,
    history: [i32; HISTORY],
    to_8k_even: Branch,
    to_8k_odd: Branch,
}

impl Decimate48k {
    fn decimate(&mut self, input: &[i16; TEN_MS_48K], output: &mut [i16; TEN_MS_8K]) {
        let mut at_24k = [0; HISTORY + TEN_MS_24K];
        let (history, fresh) = at_24k.split_at_mut(HISTORY);
        history.copy_from_slice(&self.history);
        for (&[even, odd], out) in input.as_chunks().0.iter().zip(fresh.iter_mut()) {
            let [even, odd] = [even, odd].map(|sample| (i32::from(sample) << 15) + (1 << 14));
            *out = self
                .to_24k_even
                .step(LOWER, even)
                .wrapping_add(self.to_24k_odd.step(UPPER, odd));
        }
        self.low_pass.filter(fresh);
        self.history.copy_from_slice(&at_24k[TEN_MS_24K..]);

        let mut at_16k = [0; TEN_MS_16K];
        two_thirds(&at_24k, &mut at_16k);

        for (&[even, odd], out) in at_16k.as_chunks().0.iter().zip(output) {
            let even = self.to_8k_even.step(LOWER, even);
            let odd = self.to_8k_odd.step(UPPER, odd);
            *out = (even.wrapping_add(odd) >> 15).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
    }
}

/// Half-band low-pass filter without decimation. Each output sample is the sum of two branches: one
/// filters the sample itself, the other its neighbour.
#[derive(Debug, Clone, Default)]
struct LowPass {
    even_lower: Branch,
    even_upper: Branch,
    odd_lower: Branch,
    odd_upper: Branch,
    previous_odd: i32,
}

impl LowPass {
    /// Filters in place, from Q15 with rounding offset to integers.
    fn filter(&mut self, samples: &mut [i32]) {
        for pair in samples.as_chunks_mut().0 {
            let [even, odd] = *pair;
            let delayed = std::mem::replace(&mut self.previous_odd, odd);
            *pair = [
                self.even_lower
                    .step(LOWER, delayed)
                    .wrapping_add(self.even_upper.step(UPPER, even))
                    >> 15,
                self.odd_lower
                    .step(LOWER, even)
                    .wrapping_add(self.odd_upper.step(UPPER, odd))
                    >> 15,
            ];
        }
    }
}

/// Converts 24 to 16 kHz: two outputs per three inputs, by an 8-tap filter and its mirror image.
/// The output is Q15 with the rounding offset that the last stage expects.
fn two_thirds(input: &[i32; HISTORY + TEN_MS_24K], output: &mut [i32; TEN_MS_16K]) {
    const TAPS: [i32; HISTORY] = [778, -2050, 1087, 23285, 12903, -3783, 441, 222];
    let blocks = input.windows(HISTORY + 1).step_by(3);
    for (window, out) in blocks.zip(output.as_chunks_mut::<2>().0) {
        *out = [
            dot(&window[..HISTORY], TAPS.iter()),
            dot(&window[1..], TAPS.iter().rev()),
        ];
    }
}

/// Returns the weighted sum plus one half in Q15.
fn dot<'a>(samples: &[i32], taps: impl Iterator<Item = &'a i32>) -> i32 {
    samples.iter().zip(taps).fold(1 << 14, |sum, (&x, &tap)| {
        sum.wrapping_add(tap.wrapping_mul(x))
    })
}
