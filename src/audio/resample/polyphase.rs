//! Polyphase sample rate conversion in one step with precomputed weights.
//!
//! Method: R. E. Crochiere, L. R. Rabiner, "Multirate Digital Signal Processing", 1983. The filter
//! is the ideal form of the exact resampler's: a sinc with cut-off [`ROLLOFF`] under a Kaiser
//! window over 64 zero crossings on each side, stretched to the lower of the two rates.
//!
//! Output samples take `p` different phases between two inputs, where `p` is the new rate divided
//! by the greatest common divisor of the rates. Each phase has a row of weights. If `p` rows would
//! not fit the cache, the table has fewer rows and adjacent rows are interpolated linearly.

use std::f64::consts::PI;
use std::sync::{Arc, Mutex, PoisonError};

use super::filter::{BETA, ROLLOFF, ZEROS, bessel_i0};
use super::gcd;
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::{Isa, Kernel};

/// Maximum number of weights per table (1 MiB). It allows 2,048 phases per zero crossing of the
/// sinc; linear interpolation between these errs by 3e-7.
const MAX_WEIGHTS: usize = 1 << 18;
/// Maximum number of inputs per output that the filter is stretched over; larger ratios alias. It
/// bounds the table for extreme rates.
const MAX_STRETCH: f64 = 512.0;
/// Number of tables cached for later recordings.
const CACHED_TABLES: usize = 2;
/// Number of terms of the Bessel function's power series; the first omitted term is below 1e-15 of
/// the sum.
const WINDOW_TERMS: usize = 32;

/// One vector of a row of weights.
type Block = [f32; LANES];

/// Weight table for one pair of rates.
pub(crate) struct Polyphase {
    from: u32,
    to: u32,
    /// The new and the old rate, divided by their greatest common divisor.
    pub(crate) outputs: u64,
    pub(crate) inputs: u64,
    /// Rows of weights per input; if there are more phases than rows, rows are interpolated.
    pub(crate) rows: u64,
    /// Number of inputs at or before the output sample.
    pub(crate) before: usize,
    /// Blocks per row.
    pub(crate) blocks: usize,
    /// Weights `[rows + 1][blocks]`; the last row is the first row shifted by one input.
    pub(crate) weights: Vec<Block>,
}

impl Polyphase {
    /// Returns the table for two rates, from the cache if possible.
    pub(crate) fn of(from: u32, to: u32) -> Arc<Self> {
        static TABLES: Mutex<Vec<Arc<Polyphase>>> = Mutex::new(Vec::new());
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let matches = |table: &Arc<Self>| (table.from, table.to) == (from, to);
        let table = match tables.iter().position(matches) {
            Some(at) => tables.remove(at),
            None => Arc::new(Self::new(from, to)),
        };
        if tables.len() == CACHED_TABLES {
            tables.remove(0);
        }
        tables.push(Arc::clone(&table));
        table
    }

    fn new(from: u32, to: u32) -> Self {
        let divisor = gcd(from, to);
        let (outputs, inputs) = (u64::from(to / divisor), u64::from(from / divisor));
        let stretch = (f64::from(from) / f64::from(to)).clamp(1.0, MAX_STRETCH);
        let before = (ZEROS as f64 * stretch).ceil() as usize;
        let blocks = (2 * before).div_ceil(LANES);
        let most = (MAX_WEIGHTS / (blocks * LANES)).max(1) as u64;
        let rows = outputs.min(most);
        let window = Window::new();
        let mut weights = Vec::with_capacity((rows as usize + 1) * blocks);
        let mut row = vec![0.0; blocks * LANES];
        for phase in 0..=rows {
            fill(
                &window,
                stretch,
                phase as f64 / rows as f64,
                before,
                &mut row,
            );
            let (packed, _) = row.as_chunks::<LANES>();
            weights.extend(packed.iter().map(|block| block.map(|w| w as f32)));
        }
        Self {
            from,
            to,
            outputs,
            inputs,
            rows,
            before,
            blocks,
            weights,
        }
    }

    /// Returns the output length for `n` samples: `n * to / from`, rounded up.
    pub(super) fn len(n: usize, from: u32, to: u32) -> usize {
        (n as u128 * u128::from(to)).div_ceil(u128::from(from)) as usize
    }

    pub(super) fn run(&self, isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; Self::len(x.len(), self.from, self.to)];
        isa.dispatch(Convert {
            table: self,
            x,
            out: &mut out,
        });
        out
    }

    fn row(&self, index: usize) -> &[Block] {
        &self.weights[index * self.blocks..][..self.blocks]
    }
}

/// Writes the weights for an output at `phase` (0 to 1) after an input, which has the weight
/// `before - 1`.
fn fill(window: &Window, stretch: f64, phase: f64, before: usize, row: &mut [f64]) {
    let crossings = |i: usize| (phase + (before - 1) as f64 - i as f64) / stretch;
    // The sines of a row follow by rotation; their error stays near 1e-16 times the row length.
    let (mut sin, mut cos) = (PI * ROLLOFF * crossings(0)).sin_cos();
    let (step_sin, step_cos) = (PI * ROLLOFF / stretch).sin_cos();
    for (i, weight) in row.iter_mut().enumerate() {
        let at = crossings(i);
        let angle = PI * ROLLOFF * at;
        // Near the centre of the sinc, the rounding of the rotation would dominate.
        let sinc = if angle.abs() < 1e-3 {
            1.0 - angle * angle / 6.0
        } else {
            sin / angle
        };
        *weight = ROLLOFF / stretch * sinc;
        (sin, cos) = (
            sin * step_cos - cos * step_sin,
            cos * step_cos + sin * step_sin,
        );
    }
    for (i, weight) in row.iter_mut().enumerate() {
        *weight *= window.at(crossings(i) / ZEROS as f64);
    }
}

/// Kaiser window as a polynomial.
struct Window {
    coefficients: [f64; WINDOW_TERMS],
}

impl Window {
    fn new() -> Self {
        let [norm] = bessel_i0([BETA]);
        let mut term = 1.0 / norm;
        let coefficients = std::array::from_fn(|k| {
            if k > 0 {
                term *= BETA * BETA / 4.0 / (k * k) as f64;
            }
            term
        });
        Self { coefficients }
    }

    /// Evaluates the window at `edge`, which is -1 and 1 at its ends; 0 outside.
    fn at(&self, edge: f64) -> f64 {
        let inside = 1.0 - edge * edge;
        if inside <= 0.0 {
            return 0.0;
        }
        let horner = |sum, c: &f64| sum * inside + c;
        self.coefficients.iter().rev().fold(0.0, horner)
    }
}

struct Convert<'a> {
    table: &'a Polyphase,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        let Self { table, x, out } = self;
        let width = table.blocks * LANES;
        let mut edge = vec![0.0; width];
        // The output lies `phase / outputs` after input `n`.
        let (mut n, mut phase) = (0usize, 0u64);
        let (whole, part) = (
            (table.inputs / table.outputs) as usize,
            table.inputs % table.outputs,
        );
        for out in out {
            let inside = (n + 1).checked_sub(table.before);
            let inputs = match inside.and_then(|start| x.get(start..start + width)) {
                Some(inputs) => inputs,
                None => {
                    for (i, value) in edge.iter_mut().enumerate() {
                        let at = (n + 1 + i).checked_sub(table.before);
                        *value = at.and_then(|at| x.get(at)).copied().unwrap_or(0.0);
                    }
                    &edge
                }
            };
            let (inputs, _) = inputs.as_chunks::<LANES>();
            *out = if table.rows == table.outputs {
                dot::<V>(table.row(phase as usize), inputs)
            } else {
                let row = phase as f64 / table.outputs as f64 * table.rows as f64;
                let index = row as usize;
                let low = dot::<V>(table.row(index), inputs);
                let high = dot::<V>(table.row(index + 1), inputs);
                (row - index as f64) as f32 * (high - low) + low
            };
            n += whole;
            phase += part;
            if phase >= table.outputs {
                phase -= table.outputs;
                n += 1;
            }
        }
    }
}

/// Dot product, summed in the same order on every instruction set.
#[inline(always)]
fn dot<V: Lanes>(weights: &[Block], inputs: &[Block]) -> f32 {
    let mut sums = V::zero();
    for (w, x) in weights.iter().zip(inputs) {
        sums = V::load(w).mul_add_lanes(V::load(x), sums);
    }
    let mut lanes = [0.0; LANES];
    sums.store(&mut lanes);
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tolerance for signals within -1 and 1: 6e-8 per rounding in a sum of up to 24 terms per
    /// lane, plus 3e-7 for interpolated rows.
    const TOLERANCE: f64 = 1e-6;

    /// Filter value from its definition.
    fn h(distance: f64, stretch: f64) -> f64 {
        let crossings = distance / stretch;
        let edge = crossings / 64.0;
        if edge.abs() >= 1.0 {
            return 0.0;
        }
        let angle = PI * ROLLOFF * crossings;
        let sinc = if angle == 0.0 {
            1.0
        } else {
            angle.sin() / angle
        };
        let window = bessel_i0([BETA * (1.0 - edge * edge).sqrt()])[0] / bessel_i0([BETA])[0];
        ROLLOFF / stretch * sinc * window
    }

    fn naive(x: &[f32], from: u32, to: u32) -> Vec<f64> {
        let stretch = (f64::from(from) / f64::from(to)).max(1.0);
        let reach = (64.0 * stretch).ceil() as i64 + 1;
        let count = (x.len() as u64 * u64::from(to)).div_ceil(u64::from(from));
        (0..count)
            .map(|m| {
                let n = (m * u64::from(from) / u64::from(to)) as i64;
                let part = (m * u64::from(from) % u64::from(to)) as f64 / f64::from(to);
                (n - reach..=n + reach)
                    .filter_map(|k| Some((k, *x.get(usize::try_from(k).ok()?)?)))
                    .map(|(k, x)| f64::from(x) * h((n - k) as f64 + part, stretch))
                    .sum()
            })
            .collect()
    }

    fn convert(x: &[f32], from: u32, to: u32) -> Vec<f32> {
        Polyphase::new(from, to).run(Isa::best(), x)
    }

    fn sine(hz: f64, rate: u32, n: usize) -> Vec<f32> {
        let turn = 2.0 * PI * hz / f64::from(rate);
        (0..n).map(|i| (turn * i as f64).sin() as f32).collect()
    }

    /// Root mean square times the square root of 2, excluding the ends.
    fn amplitude(y: &[f32]) -> f64 {
        let middle = &y[y.len() / 4..y.len() * 3 / 4];
        let power: f64 = middle.iter().map(|y| f64::from(*y).powi(2)).sum();
        (2.0 * power / middle.len() as f64).sqrt()
    }

    #[test]
    fn the_pass_band_is_flat_and_aliases_are_removed() {
        for from in [22_050, 44_100, 44_101, 48_000, 96_000] {
            for hz in [50.0, 1000.0, 4000.0, 7000.0] {
                let error = amplitude(&convert(&sine(hz, from, from as usize / 2), from, 16_000));
                // The partial period at the cut contributes an error of 1e-3 to the sine's power.
                assert!(
                    (error - 1.0).abs() < 2e-3,
                    "{from} Hz: {hz} Hz comes out as {error}"
                );
            }
            for hz in [8_300.0, 9_000.0, 10_500.0] {
                let left = amplitude(&convert(&sine(hz, from, from as usize / 2), from, 16_000));
                println!("{from} Hz: {hz} Hz passes at {:.1} dB", 20.0 * left.log10());
                assert!(left < 1e-5, "{from} Hz: {hz} Hz comes out as {left:e}");
            }
        }
    }

    #[test]
    fn tables_are_bounded() {
        for (from, to) in [
            (44_101, 16_000),
            (767_999, 16_000),
            (1_000, 15_999),
            (u32::MAX, 1),
            (1, u32::MAX),
        ] {
            let table = Polyphase::new(from, to);
            let numbers = table.weights.len() * LANES;
            let row = table.blocks * LANES;
            assert!(
                numbers <= MAX_WEIGHTS + 2 * row,
                "{from} to {to}: {numbers}"
            );
            assert!(row <= 2 * (64 * 512 + LANES), "{from} to {to}: {row}");
        }
    }

    #[test]
    fn empty_and_silent_signals_stay_so() {
        assert!(convert(&[], 44_100, 16_000).is_empty());
        assert_eq!(convert(&[0.0; 100], 8_000, 16_000), [0.0; 200]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_the_definition_on_every_instruction_set(
            x in prop::collection::vec(-1.0f32..1.0, 0..600),
            from in prop_oneof![
                prop::sample::select(vec![8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]),
                1_000u32..=200_000,
            ],
        ) {
            let table = Polyphase::new(from, 16_000);
            let ours = table.run(Isa::best(), &x);
            let expected = naive(&x, from, 16_000);
            prop_assert_eq!(ours.len(), expected.len());
            for (i, (a, b)) in ours.iter().zip(&expected).enumerate() {
                prop_assert!((f64::from(*a) - b).abs() <= TOLERANCE, "{}: {} against {}", i, a, b);
            }
            for isa in Isa::available() {
                let same = table.run(isa, &x).iter().zip(&ours).all(|(a, b)| a.to_bits() == b.to_bits());
                prop_assert!(same, "{}", isa.name());
            }
        }
    }
}
