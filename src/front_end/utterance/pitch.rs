//! Fundamental frequency per frame.
//!
//! Method: P. Boersma, "Accurate short-term analysis of the fundamental frequency and the
//! harmonics-to-noise ratio of a sampled sound", IFA Proceedings 17 (1993). The autocorrelation of
//! a windowed frame is divided by that of the window. Dynamic programming selects the path through
//! the candidates of the frames, with Praat's default costs.

use std::collections::VecDeque;

use super::columns::{Columns, FRAME};
use crate::front_end::SAMPLE_RATE;
use crate::front_end::fourier::{Bin, RealPower, Transform, ZERO, turn};
use crate::front_end::mel::periodic_hann;
use crate::simd::doubles::{DOUBLES, Doubles, Register, Row};
use crate::simd::lanes::Lanes;
use crate::simd::{Isa, Kernel};

/// Samples per window (40 ms): 2.6 periods of the lowest pitch.
const WINDOW: usize = 640;
/// Length of the zero-padded Fourier transform.
const TRANSFORM: usize = 1024;
/// Transform of the even samples plus `i` times the odd samples.
type HalfTransform = Transform<8, 8, 8>;
/// Frequencies that enter the inverse transform: up to 4 kHz, so that lags are at half the sampling
/// rate.
const BINS: usize = TRANSFORM / 4 + 1;
const LAG_RATE: f64 = SAMPLE_RATE as f64 / 2.0;
/// Inverse transform, to the even lags plus `i` times the odd lags.
type LagTransform = Transform<8, 8, 4>;
/// Factor of the computed autocorrelation: the inverse transform's length and that of [`RealPower`].
const CORRELATION_SCALE: f64 = (TRANSFORM / 2 * 4) as f64;

const _: () =
    assert!(HalfTransform::LENGTH * 2 == TRANSFORM && LagTransform::LENGTH * 4 == TRANSFORM);
const _: () = assert!(WINDOW == FRAME && WINDOW == LEAF * SUMS);
const _: () = assert!(LAGS.is_multiple_of(2) && LAGS <= LagTransform::LENGTH / 2);

/// Lowest and highest pitch, in Hz.
const LOWEST: f64 = 65.0;
const HIGHEST: f64 = 600.0;
const LAG_MIN: usize = (LAG_RATE / HIGHEST) as usize;
/// Lag of the lowest pitch, rounded up.
const LAG_MAX: usize = (LAG_RATE / LOWEST) as usize + 1;
/// Number of computed lags.
const LAGS: usize = LAG_MAX + 2;
/// Samples that are summed without halving, and their interleaved sums; see [`pairwise`].
///
/// [`pairwise`]: crate::front_end::pairwise
const LEAF: usize = 80;
const SUMS: usize = 8;

/// Number of voiced candidates per frame.
const CANDIDATES: usize = 5;
/// Number of states of the path: state 0 is unvoiced, state `i` is candidate `i - 1`.
const STATES: usize = CANDIDATES + 1;

const VOICING_THRESHOLD: f64 = 0.45;
const SILENCE_THRESHOLD: f64 = 0.03;
/// Cost per octave below the highest pitch: of equal peaks, the shorter period wins.
const OCTAVE_COST: f64 = 0.01;
const OCTAVE_JUMP_COST: f64 = 0.35;
const VOICED_UNVOICED_COST: f64 = 0.14;
/// Frames on either side over which a frame's loudness is normalised (2.5 s). Speech far away in a
/// recording does not change the silence decision here.
const LOUDNESS_RADIUS: usize = 250;
/// Minimum divisor of an autocorrelation.
const MIN_ENERGY: f64 = 1e-20;

/// Pitch of each frame.
pub(super) struct Pitch {
    /// Fundamental frequency in Hz, 0 if unvoiced.
    pub(super) f0: Vec<f64>,
    /// Height of the chosen autocorrelation peak, or of the highest value if unvoiced; 0 to 1.
    pub(super) height: Vec<f64>,
}

/// Pitch tracker: transforms and window.
#[derive(Clone)]
pub(super) struct Tracker {
    transform: HalfTransform,
    power: RealPower,
    inverse: LagTransform,
    /// Factors of the inverse transform.
    turns: Vec<[f64; 2]>,
    window: Vec<f64>,
    /// Autocorrelation of the window at each lag, relative to lag 0, and its reciprocal.
    correction: Vec<f64>,
    inverse_correction: Vec<f64>,
}

/// Pitch candidate of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PitchCandidate {
    /// Height, reduced slightly for each octave below the highest pitch; minus infinity for an
    /// unused entry.
    pub strength: f64,
    /// Frequency in Hz.
    pub frequency: f64,
    /// Height of the autocorrelation peak, 0 to 1.
    pub height: f64,
}

/// Unused candidate. No path contains it, because the unvoiced state always scores higher.
const ABSENT: PitchCandidate = PitchCandidate {
    strength: f64::NEG_INFINITY,
    frequency: HIGHEST,
    height: 0.0,
};

/// Pitch candidates of a frame, from its own samples.
#[derive(Debug, Clone, PartialEq)]
pub struct PitchFrame {
    /// Candidates, strongest first.
    pub candidates: [PitchCandidate; CANDIDATES],
    /// Highest value of the autocorrelation, 0 to 1.
    pub height: f64,
    /// Largest magnitude of the samples.
    pub peak: f64,
}

/// Buffers of the analysis.
pub(super) struct Buffers {
    data: Vec<Bin>,
    power: [Row; BINS],
    correlation: [Row; LAGS],
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            data: vec![ZERO; HalfTransform::LENGTH],
            power: [Row::ZERO; BINS],
            correlation: [Row::ZERO; LAGS],
        }
    }
}

impl Tracker {
    pub(super) fn new(isa: Isa) -> Self {
        let transform = HalfTransform::new();
        let mut tracker = Self {
            power: RealPower::of(&transform),
            transform,
            inverse: LagTransform::new(),
            turns: (0..LagTransform::LENGTH)
                .map(|k| turn(k, TRANSFORM / 2))
                .collect(),
            window: periodic_hann(WINDOW),
            inverse_correction: Vec::new(),
            correction: Vec::new(),
        };
        let mut buffers = Buffers::new();
        for (bin, pair) in buffers.data.iter_mut().zip(tracker.window.as_chunks().0) {
            let pair: &[f64; 2] = pair;
            *bin = pair.map(|x| Row([x; DOUBLES]));
        }
        isa.dispatch(Correlate(&tracker, &mut buffers));
        let of_window = buffers.correlation.map(|c| c.0[0]);
        tracker.correction = of_window.iter().map(|c| c / of_window[0]).collect();
        tracker.inverse_correction = tracker.correction.iter().map(|c| 1.0 / c).collect();
        tracker
    }

    /// Returns the window, and its autocorrelation at each lag relative to lag 0.
    #[cfg(feature = "cuda")]
    pub(super) fn tables(&self) -> [&[f64]; 2] {
        [&self.window, &self.correction]
    }

    /// Appends the candidates of `count` frames of a group of a block, at most eight.
    #[inline(always)]
    pub(super) fn run<D: Doubles>(
        &self,
        columns: &Columns,
        group: usize,
        count: usize,
        b: &mut Buffers,
        out: &mut Vec<PitchFrame>,
    ) {
        let mut peaks = [0.0; DOUBLES];
        for first in (0..DOUBLES).step_by(D::Register::ELEMENTS) {
            self.window::<D::Register>(columns, group, first, b, &mut peaks);
        }
        self.correlate::<D>(b);
        let energy = b.correlation[0].0;
        let scale = D::load(&energy.map(|c| 1.0 / c.max(CORRELATION_SCALE * MIN_ENERGY)));
        for (c, correction) in b.correlation.iter_mut().zip(&self.inverse_correction) {
            let scaled = D::load(&c.0).mul(scale).mul(D::splat(*correction));
            scaled.store(&mut c.0);
        }
        let mut frames = peaks.map(|peak| PitchFrame {
            candidates: [ABSENT; CANDIDATES],
            height: 0.0,
            peak,
        });
        for first in (0..DOUBLES).step_by(D::Register::ELEMENTS) {
            find_peaks::<D::Register>(&b.correlation, first, &mut frames);
        }
        out.extend(frames.into_iter().take(count));
    }

    /// Writes the windowed samples of some frames of a group, without their mean, and their largest
    /// magnitudes.
    #[inline(always)]
    fn window<R: Register>(
        &self,
        columns: &Columns,
        group: usize,
        first: usize,
        b: &mut Buffers,
        peaks: &mut [f64; DOUBLES],
    ) {
        let zero = R::splat(0.0);
        let mut mean = [0.0; DOUBLES];
        pairwise_sum::<R>(columns, group, first).store(&mut mean, first);
        let mean = R::load(&mean.map(|sum| sum / WINDOW as f64), first);
        let (mut highest, mut lowest) = (zero, zero);
        for (i, (bin, window)) in b.data.iter_mut().zip(self.window.as_chunks().0).enumerate() {
            let window: &[f64; 2] = window;
            for part in 0..2 {
                let sample = R::load(columns.signal(group, 2 * i + part), first);
                let centred = sample.sub(mean);
                highest = highest.max(centred);
                lowest = lowest.max(zero.sub(centred));
                let windowed = centred.mul(R::splat(window[part]));
                windowed.store(&mut bin[part].0, first);
            }
        }
        highest.max(lowest).store(peaks, first);
    }

    /// Computes [`CORRELATION_SCALE`] times the autocorrelation of the samples in `data`.
    #[inline(always)]
    fn correlate<D: Doubles>(&self, b: &mut Buffers) {
        self.transform.run::<D>(&mut b.data, WINDOW / 2);
        self.power.run::<D>(&b.data, &mut b.power);
        // The transform of the power, which is real and symmetric, so that its even lags are the real
        // parts of a transform of half the length and its odd lags the imaginary parts.
        for (k, (bin, [cos, sin])) in b.data.iter_mut().zip(&self.turns).enumerate() {
            for first in (0..DOUBLES).step_by(D::Register::ELEMENTS) {
                let low = D::Register::load(&b.power[k].0, first);
                let high = D::Register::load(&b.power[BINS - 1 - k].0, first);
                let difference = low.sub(high);
                let odd = difference.mul(D::Register::splat(*sin));
                low.add(high).sub(odd).store(&mut bin[0].0, first);
                let even = difference.mul(D::Register::splat(*cos));
                even.store(&mut bin[1].0, first);
            }
        }
        let data = &mut b.data[..LagTransform::LENGTH];
        self.inverse.run_low::<D>(data);
        for (k, pair) in b.correlation.chunks_exact_mut(2).enumerate() {
            pair.copy_from_slice(&data[LagTransform::place(k)]);
        }
    }
}

/// Computes the autocorrelation of the samples in the buffers.
struct Correlate<'a>(&'a Tracker, &'a mut Buffers);

impl Kernel for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MR: usize>(self) {
        self.0.correlate::<V::Doubles>(self.1);
    }
}

/// Returns the sum of the [`WINDOW`] samples of some frames of a group in the order of
/// [`pairwise`](crate::front_end::pairwise).
#[inline(always)]
fn pairwise_sum<R: Register>(columns: &Columns, group: usize, first: usize) -> R {
    let mut leaves = [R::splat(0.0); WINDOW / LEAF];
    for (i, leaf) in leaves.iter_mut().enumerate() {
        let mut sums = [R::splat(0.0); SUMS];
        for start in (i * LEAF..(i + 1) * LEAF).step_by(SUMS) {
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(R::load(columns.signal(group, start + k), first));
            }
        }
        *leaf = sum_as_tree(sums);
    }
    sum_as_tree(leaves)
}

#[inline(always)]
fn sum_as_tree<R: Register>([a, b, c, d, e, f, g, h]: [R; SUMS]) -> R {
    let (left, right) = (a.add(b).add(c.add(d)), e.add(f).add(g.add(h)));
    left.add(right)
}

/// Adds the peaks of the autocorrelation to the candidates of some frames.
#[inline(always)]
fn find_peaks<R: Register>(r: &[Row; LAGS], first: usize, frames: &mut [PitchFrame; DOUBLES]) {
    let threshold = R::splat(0.5 * VOICING_THRESHOLD);
    let mut highest = R::splat(0.0);
    let mut left = R::load(&r[LAG_MIN - 1].0, first);
    let mut middle = R::load(&r[LAG_MIN].0, first);
    for lag in LAG_MIN..=LAG_MAX {
        let right = R::load(&r[lag + 1].0, first);
        highest = highest.max(middle);
        let rises = middle.larger(left) & middle.larger(threshold);
        let mut peaks = rises & !right.larger(middle);
        while peaks != 0 {
            let lane = first + peaks.trailing_zeros() as usize;
            frames[lane].add_peak(lag, [lag - 1, lag, lag + 1].map(|lag| r[lag].0[lane]));
            peaks &= peaks - 1;
        }
        (left, middle) = (middle, right);
    }
    let mut heights = [0.0; DOUBLES];
    highest.store(&mut heights, first);
    for (frame, height) in frames.iter_mut().zip(heights) {
        frame.height = frame.height.max(height.min(1.0));
    }
}

impl PitchFrame {
    /// Number of values of a frame in the device's layout: strength, frequency and height of each
    /// candidate, then the frame's height and peak.
    #[cfg(feature = "cuda")]
    pub(crate) const VALUES: usize = 3 * CANDIDATES + 2;

    /// Creates a frame from values in the device's layout.
    #[cfg(feature = "cuda")]
    pub(crate) fn of(values: &[f64; Self::VALUES]) -> Self {
        Self {
            candidates: std::array::from_fn(|i| PitchCandidate {
                strength: values[3 * i],
                frequency: values[3 * i + 1],
                height: values[3 * i + 2],
            }),
            height: values[3 * CANDIDATES],
            peak: values[3 * CANDIDATES + 1],
        }
    }

    /// Adds the peak at a lag, given the autocorrelation before, at and after it.
    fn add_peak(&mut self, lag: usize, [left, middle, right]: [f64; 3]) {
        // Vertex of the parabola through three points. It opens downwards unless the points are
        // equal up to rounding.
        let curvature = left - 2.0 * middle + right;
        let curvature = if curvature == 0.0 { -1.0 } else { curvature };
        let shift = 0.5 * (left - right) / curvature;
        let height = (middle - 0.25 * (left - right) * shift).clamp(0.0, 1.0);
        let frequency = LAG_RATE / (lag as f64 + shift);
        self.height = self.height.max(height);
        self.add(PitchCandidate {
            strength: height - OCTAVE_COST * (HIGHEST / frequency).log2(),
            frequency,
            height,
        });
    }

    /// Inserts a candidate; keeps the strongest, and of equal candidates the earlier.
    fn add(&mut self, candidate: PitchCandidate) {
        let weaker = |c: &PitchCandidate| candidate.strength > c.strength;
        if let Some(at) = self.candidates.iter().position(weaker) {
            self.candidates[at..].rotate_right(1);
            self.candidates[at] = candidate;
        }
    }
}

/// Returns the pitch of each frame along the best path.
pub(super) fn track_pitch(frames: &[PitchFrame]) -> Pitch {
    let path = best_path(frames);
    let mut pitch = Pitch {
        f0: Vec::with_capacity(frames.len()),
        height: Vec::with_capacity(frames.len()),
    };
    for (frame, state) in frames.iter().zip(path) {
        let (f0, height) = match state.checked_sub(1) {
            None => (0.0, frame.height),
            Some(i) => (frame.candidates[i].frequency, frame.candidates[i].height),
        };
        pitch.f0.push(f0);
        pitch.height.push(height);
    }
    pitch
}

/// Returns the largest peak within [`LOUDNESS_RADIUS`] frames of each frame.
fn loudest_around(frames: &[PitchFrame]) -> Vec<f64> {
    // Indices of frames whose peak exceeds all later peaks so far, loudest first (sliding-window
    // maximum).
    let mut largest: VecDeque<usize> = VecDeque::new();
    let mut added = 0;
    (0..frames.len())
        .map(|t| {
            while added < frames.len().min(t + LOUDNESS_RADIUS + 1) {
                while let Some(&last) = largest.back()
                    && frames[last].peak <= frames[added].peak
                {
                    largest.pop_back();
                }
                largest.push_back(added);
                added += 1;
            }
            while largest[0] + LOUDNESS_RADIUS < t {
                largest.pop_front();
            }
            frames[largest[0]].peak
        })
        .collect()
}

/// Returns the state of each frame on the path with the largest sum of strengths minus costs; among
/// equal paths, the one through the lower states.
fn best_path(frames: &[PitchFrame]) -> Vec<usize> {
    let loudest = loudest_around(frames);
    let mut score = [0.0; STATES];
    let mut octaves = [0.0; STATES];
    let mut back: Vec<[u8; STATES]> = Vec::with_capacity(frames.len());
    for (t, frame) in frames.iter().enumerate() {
        let loudness = match loudest[t] > 0.0 {
            true => frame.peak / loudest[t],
            false => 0.0,
        };
        let quiet = 2.0 - loudness * (1.0 + VOICING_THRESHOLD) / SILENCE_THRESHOLD;
        let mut local = [VOICING_THRESHOLD + quiet.max(0.0); STATES];
        let mut here = [0.0; STATES];
        for (i, candidate) in frame.candidates.iter().enumerate() {
            local[i + 1] = candidate.strength;
            here[i + 1] = candidate.frequency.log2();
        }
        if t == 0 {
            score = local;
        } else {
            let mut from = [0_u8; STATES];
            let mut next = [0.0; STATES];
            for to in 0..STATES {
                let mut best = f64::NEG_INFINITY;
                for previous in 0..STATES {
                    let cost = match (previous, to) {
                        (0, 0) => 0.0,
                        (0, _) | (_, 0) => VOICED_UNVOICED_COST,
                        _ => OCTAVE_JUMP_COST * (octaves[previous] - here[to]).abs(),
                    };
                    let total = score[previous] - cost;
                    if total > best {
                        best = total;
                        from[to] = previous as u8;
                    }
                }
                next[to] = best + local[to];
            }
            back.push(from);
            score = next;
        }
        octaves = here;
    }
    let mut state = 0;
    for i in 1..STATES {
        if score[i] > score[state] {
            state = i;
        }
    }
    let mut path = vec![state; frames.len()];
    for t in (1..frames.len()).rev() {
        path[t - 1] = usize::from(back[t - 1][path[t]]);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front_end::utterance::analysis::Analysis;
    use crate::front_end::utterance::centred::Centred;

    fn track(x: &[f64]) -> Pitch {
        let frames = Analysis::new(Isa::best()).run(&Centred::with_zero_mean(x));
        track_pitch(&frames.pitch)
    }

    #[test]
    fn a_harmonic_tone_has_its_pitch() {
        for hz in [80.0, 123.4, 200.0, 430.0] {
            let x: Vec<f64> = (0..8000)
                .map(|i| {
                    let turn = std::f64::consts::TAU * hz * f64::from(i) / SAMPLE_RATE as f64;
                    (1..=5)
                        .map(|h| (turn * f64::from(h)).sin() / f64::from(h))
                        .sum()
                })
                .collect();
            let pitch = track(&x);
            for (t, f0) in pitch.f0[3..47].iter().enumerate() {
                assert!((f0 / hz - 1.0).abs() < 0.01, "{hz} Hz, frame {t}: {f0}");
            }
            assert!(pitch.height[3..47].iter().all(|r| *r > 0.9), "{hz} Hz");
        }
    }

    #[test]
    fn silence_is_unvoiced() {
        let pitch = track(&[0.0; 4000]);
        assert!(pitch.f0.iter().chain(&pitch.height).all(|v| *v == 0.0));
    }

    #[test]
    fn the_earlier_of_equal_candidates_comes_first() {
        let mut frame = PitchFrame {
            candidates: [ABSENT; CANDIDATES],
            height: 0.0,
            peak: 0.0,
        };
        for (i, strength) in [0.5, 0.7, 0.5, 0.9, 0.5, 0.5, 0.6].into_iter().enumerate() {
            frame.add(PitchCandidate {
                strength,
                frequency: i as f64,
                height: 0.0,
            });
        }
        assert_eq!(
            frame.candidates.map(|c| c.frequency as usize),
            [3, 1, 6, 0, 2]
        );
    }
}
