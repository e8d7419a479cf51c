//! InteriorOutputs sums of the bit-exact resampler, in resampy's order of rounding.
//!
//! An output sample is a chain of dependent roundings, so only independent chains keep the
//! processor busy. If the two rates have a ratio of small integers `p : q`, output samples `p`
//! apart lie `q` input samples apart. They use the same rows of the filter table, at offsets that
//! differ only by rounding. These samples are computed together, one per SIMD lane, and share one
//! read of the table.

use super::filter::Filter;
use crate::parallelism::Parallelism;
use crate::simd::doubles::{DOUBLES, Doubles};
use crate::simd::lanes::Lanes;
use crate::simd::{Isa, Kernel};

/// Number of output samples computed together if each uses different table rows.
const CHAINS: usize = 8;

/// Number of inputs per lane that are transposed at a time, in addition to the filter's length. It
/// bounds the memory for every rate and duration.
const INPUTS_AT_A_TIME: usize = 1024;
/// Minimum output samples per lane: transposing the inputs costs as much as a few output samples.
const MIN_LANE_OUTPUTS: usize = 64;
/// Minimum number of lanes in use; with fewer, separate chains are faster.
const MIN_LANES: usize = 3;
/// Maximum output samples per lane: beyond it, two lanes' times could drift apart by an input
/// sample.
const MAX_LANE_OUTPUTS: usize = 1 << 16;
/// Granularity, in lanes, of the division between threads. It fills the registers of every
/// instruction set.
const LANES_PER_TASK: usize = 4 * DOUBLES;
/// Extra inputs on either side of the range of the first lane, because the times of the other lanes
/// round differently.
const EXTRA_INPUTS: usize = 2;

/// Computes `out` from `x`, which must not be empty unless `out` is. `steps` are the coprime
/// integers `(p, q)` whose quotient is [`Filter::ratio`].
pub(super) fn run(
    isa: Isa,
    filter: &Filter,
    steps: (usize, usize),
    x: &[f32],
    out: &mut [f32],
    parallelism: Parallelism,
) {
    let (p, q) = steps;
    let repeats = MIN_LANE_OUTPUTS.div_ceil(p);
    let (outputs, inputs) = (p * repeats, q * repeats);
    // Interior samples, for which every tap of the table meets an input.
    let (row, end) = (filter.row, x.len());
    let mut time = 0.0f64;
    let mut at = 0;
    while at < out.len() && time as usize + 1 < row {
        time += filter.increment;
        at += 1;
    }
    let start = at;
    let mut times = Vec::new();
    while at < out.len() && time as usize + row < end {
        if (at - start).is_multiple_of(outputs) {
            times.push(time);
        }
        time += filter.increment;
        at += 1;
    }
    let (head, rest) = out.split_at_mut(start);
    let (inner, tail) = rest.split_at_mut(at - start);
    chains(filter, x, 0.0, head);
    if times.len() < MIN_LANES || outputs > MAX_LANE_OUTPUTS {
        let first = times.first().copied().unwrap_or(time);
        chains(filter, x, first, inner);
    } else {
        let inner = InteriorOutputs {
            filter,
            x,
            out: inner,
            outputs,
            inputs,
            times: &times,
        };
        inner.run_on(isa, parallelism);
    }
    chains(filter, x, time, tail);
}

/// Computes `out`, whose first sample lies at `time`, with [`CHAINS`] samples in parallel.
pub(super) fn chains(filter: &Filter, x: &[f32], mut time: f64, out: &mut [f32]) {
    // -0.0 is the only addend that leaves every float unchanged.
    let mut products = vec![[-0.0f64; CHAINS]; 2 * filter.row];
    for block in out.chunks_mut(CHAINS) {
        let (mut left_taps, mut right_taps) = (0, 0);
        products.fill([-0.0; CHAINS]);
        let (left, right) = products.split_at_mut(filter.row);
        for lane in 0..block.len() {
            let n = (time as usize).min(x.len() - 1);
            let frac = filter.scale * (time - n as f64);
            let wing = filter.wing(frac, n + 1);
            left_taps = left_taps.max(wing.taps.len());
            for ((p, [v, s]), x) in left.iter_mut().zip(wing.taps).zip(x[..=n].iter().rev()) {
                p[lane] = (v + wing.eta * s) * f64::from(*x);
            }
            let wing = filter.wing(filter.scale - frac, x.len() - n - 1);
            right_taps = right_taps.max(wing.taps.len());
            for ((p, [v, s]), x) in right.iter_mut().zip(wing.taps).zip(&x[n + 1..]) {
                p[lane] = (v + wing.eta * s) * f64::from(*x);
            }
            time += filter.increment;
        }
        let mut acc = [0.0f32; CHAINS];
        for tap in left[..left_taps].iter().chain(&right[..right_taps]) {
            for (acc, p) in acc.iter_mut().zip(tap) {
                *acc = (f64::from(*acc) + p) as f32;
            }
        }
        block.copy_from_slice(&acc[..block.len()]);
    }
}

/// Output samples for which every tap meets an input.
struct InteriorOutputs<'a> {
    filter: &'a Filter,
    x: &'a [f32],
    out: &'a mut [f32],
    /// Output samples per lane, and the number of input samples between lanes.
    outputs: usize,
    inputs: usize,
    /// Input position of every `outputs`-th output sample.
    times: &'a [f64],
}

impl Kernel for InteriorOutputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(mut self) {
        let mut lane = 0;
        while lane < self.times.len() {
            let left = (self.times.len() - lane).div_ceil(DOUBLES);
            let most = <V::Doubles as Doubles>::BLOCKS;
            // Use no more blocks than the remaining lanes fill.
            lane += match left.min(most) {
                4.. => self.lanes::<V::Doubles, 4>(lane),
                2.. => self.lanes::<V::Doubles, 2>(lane),
                _ => self.lanes::<V::Doubles, 1>(lane),
            };
        }
    }
}

/// Returns the number of the `outputs` samples per lane whose inputs are transposed at a time.
fn stretch(filter: &Filter, outputs: usize) -> usize {
    outputs
        .min((INPUTS_AT_A_TIME as f64 / filter.increment) as usize)
        .max(1)
}

/// Returns the number of inputs per lane that `stretch` output samples need.
fn input_rows(filter: &Filter, stretch: usize) -> usize {
    (stretch as f64 * filter.increment) as usize + 2 * (filter.row + EXTRA_INPUTS)
}

/// `N` blocks of lanes.
type Blocks<const N: usize> = [[f64; DOUBLES]; N];

/// Table alignment of an output sample. Lanes with equal alignment are computed together.
#[derive(Clone, Copy, PartialEq)]
struct TapAlignment {
    /// First input after the sample, relative to the lane's first.
    input: f64,
    /// Table entries at which the left and the right wing start.
    left: f64,
    right: f64,
}

impl InteriorOutputs<'_> {
    /// Computes all samples; several threads divide them in groups of full registers.
    fn run_on(self, isa: Isa, parallelism: Parallelism) {
        let parts = self.times.len() / LANES_PER_TASK;
        if parallelism == Parallelism::No || parts < 2 {
            return isa.dispatch(self);
        }
        let lanes = parts / 2 * LANES_PER_TASK;
        let (times, later) = self.times.split_at(lanes);
        let (out, behind) = self.out.split_at_mut(lanes * self.outputs);
        let first = InteriorOutputs { times, out, ..self };
        let second = InteriorOutputs {
            times: later,
            out: behind,
            ..self
        };
        parallelism.join(
            || first.run_on(isa, parallelism),
            || second.run_on(isa, parallelism),
        );
    }

    /// Computes the lanes from `first` on; returns their number.
    #[inline(always)]
    fn lanes<D: Doubles, const N: usize>(&mut self, first: usize) -> usize {
        let count = (N * DOUBLES).min(self.times.len() - first);
        // Unused lanes repeat the first lane.
        let source = |lane: usize| if lane < count { lane } else { 0 };
        let mut times: Blocks<N> = std::array::from_fn(|n| {
            std::array::from_fn(|i| self.times[first + source(n * DOUBLES + i)])
        });
        let outputs = self.outputs;
        let stretch = stretch(self.filter, outputs);
        let mut inputs_by_lane = vec![[[0.0; DOUBLES]; N]; input_rows(self.filter, stretch)];
        for from in (0..outputs).step_by(stretch) {
            let base = times[0][0] as usize;
            let bases: Blocks<N> = std::array::from_fn(|n| {
                std::array::from_fn(|i| (base + source(n * DOUBLES + i) * self.inputs) as f64)
            });
            for lane in 0..N * DOUBLES {
                let start = base + source(lane) * self.inputs;
                self.transpose(
                    start,
                    |row| &mut row[lane / DOUBLES][lane % DOUBLES],
                    &mut inputs_by_lane,
                );
            }
            for j in from..outputs.min(from + stretch) {
                self.sample::<D, N>(&mut times, &bases, &inputs_by_lane, |out, lane, y| {
                    let at = (first + lane) * outputs + j;
                    if lane < count && at < out.len() {
                        out[at] = y as f32;
                    }
                });
            }
        }
        count
    }

    /// Fills one lane of the transposed inputs. The first entry is the input [`Self::margin`]
    /// before `start`; inputs outside the signal are zero.
    #[inline(always)]
    fn transpose<T>(
        &self,
        start: usize,
        lane: impl Fn(&mut T) -> &mut f64,
        inputs_by_lane: &mut [T],
    ) {
        let before = self.margin().saturating_sub(start);
        let x = self
            .x
            .get(start.saturating_sub(self.margin())..)
            .unwrap_or(&[]);
        let (outside, inside) = inputs_by_lane.split_at_mut(before.min(inputs_by_lane.len()));
        outside.iter_mut().for_each(|row| *lane(row) = 0.0);
        let (inside, behind) = inside.split_at_mut(x.len().min(inside.len()));
        for (row, x) in inside.iter_mut().zip(x) {
            *lane(row) = f64::from(*x);
        }
        behind.iter_mut().for_each(|row| *lane(row) = 0.0);
    }

    /// Returns the number of inputs transposed before a lane's first.
    fn margin(&self) -> usize {
        self.filter.row + EXTRA_INPUTS - 1
    }

    /// Computes one output sample per lane, passes it to `store`, and advances the times.
    #[inline(always)]
    fn sample<D: Doubles, const N: usize>(
        &mut self,
        times: &mut Blocks<N>,
        bases: &Blocks<N>,
        inputs_by_lane: &[Blocks<N>],
        mut store: impl FnMut(&mut [f32], usize, f64),
    ) {
        let filter = self.filter;
        let mut input = [[0.0; DOUBLES]; N];
        let mut left = [[0.0; DOUBLES]; N];
        let mut right = [[0.0; DOUBLES]; N];
        let mut left_eta = [[0.0; DOUBLES]; N];
        let mut right_eta = [[0.0; DOUBLES]; N];
        for n in 0..N {
            for i in 0..DOUBLES {
                let time = times[n][i];
                let whole = time.trunc();
                let frac = filter.scale * (time - whole);
                let index = Filter::index(frac);
                input[n][i] = whole - bases[n][i];
                left[n][i] = index.trunc();
                left_eta[n][i] = index - left[n][i];
                let index = Filter::index(filter.scale - frac);
                right[n][i] = index.trunc();
                right_eta[n][i] = index - right[n][i];
                times[n][i] = time + filter.increment;
            }
        }
        let alignment_of = |lane: usize| TapAlignment {
            input: input[lane / DOUBLES][lane % DOUBLES],
            left: left[lane / DOUBLES][lane % DOUBLES],
            right: right[lane / DOUBLES][lane % DOUBLES],
        };
        let mut different = 0;
        for n in 0..N {
            for i in 0..DOUBLES {
                different |= input[n][i].to_bits() ^ input[0][0].to_bits();
                different |= left[n][i].to_bits() ^ left[0][0].to_bits();
                different |= right[n][i].to_bits() ^ right[0][0].to_bits();
            }
        }
        let mut pending: u64 = (1 << (N * DOUBLES)) - 1;
        while pending != 0 {
            let alignment = alignment_of(pending.trailing_zeros() as usize);
            let mut aligned = pending;
            if different != 0 {
                let same = (0..N * DOUBLES).filter(|lane| alignment_of(*lane) == alignment);
                aligned &= same.fold(0, |lanes, lane| lanes | 1 << lane);
            }
            let sums = self.sums::<D, N>(alignment, &left_eta, &right_eta, inputs_by_lane);
            for lane in (0..N * DOUBLES).filter(|lane| aligned >> lane & 1 == 1) {
                store(self.out, lane, sums[lane / DOUBLES][lane % DOUBLES]);
            }
            pending &= !aligned;
        }
    }

    #[inline(always)]
    fn sums<D: Doubles, const N: usize>(
        &self,
        alignment: TapAlignment,
        left_eta: &Blocks<N>,
        right_eta: &Blocks<N>,
        inputs_by_lane: &[Blocks<N>],
    ) -> Blocks<N> {
        // The time of a lane is at most one input outside the range of the lane.
        let after = (alignment.input + 1.0) as usize + self.margin();
        let (before, after) = inputs_by_lane.split_at(after.min(inputs_by_lane.len()));
        let mut sums = [D::splat(0.0); N];
        let taps = self.filter.taps(alignment.left as usize);
        add_wing(&mut sums, left_eta, taps, before.iter().rev());
        let taps = self.filter.taps(alignment.right as usize);
        add_wing(&mut sums, right_eta, taps, after);
        let mut out = [[0.0; DOUBLES]; N];
        for (out, sum) in out.iter_mut().zip(sums) {
            sum.store(out);
        }
        out
    }
}

/// Adds the products of a wing's taps and `inputs`, in tap order.
#[inline(always)]
fn add_wing<'a, D: Doubles, const N: usize>(
    sums: &mut [D; N],
    eta: &Blocks<N>,
    taps: &[[f64; 2]],
    inputs: impl IntoIterator<Item = &'a Blocks<N>>,
) {
    let eta: [D; N] = std::array::from_fn(|n| D::load(&eta[n]));
    let mut acc = *sums;
    for ([value, slope], x) in taps.iter().zip(inputs) {
        let (value, slope) = (D::splat(*value), D::splat(*slope));
        for n in 0..N {
            let product = value.add(eta[n].mul(slope)).mul(D::load(&x[n]));
            acc[n] = acc[n].add(product).to_single();
        }
    }
    *sums = acc;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_inputs_are_bounded_by_the_filter() {
        for rate in [
            1_000u32, 8_000, 16_000, 44_100, 44_101, 96_000, 767_999, 768_000,
        ] {
            let filter = Filter::of(16_000.0 / f64::from(rate));
            for outputs in [64, 441, MAX_LANE_OUTPUTS] {
                let stretch = stretch(&filter, outputs);
                let rows = input_rows(&filter, stretch);
                assert!((1..=outputs).contains(&stretch), "{rate} Hz: {stretch}");
                let bound = INPUTS_AT_A_TIME.max(rate.div_ceil(16_000) as usize)
                    + 2 * (filter.row + EXTRA_INPUTS);
                assert!(rows <= bound, "{rate} Hz: {rows} of {bound}");
            }
        }
    }
}
