//! Fundamental frequency per frame.
//!
//! Method: P. Boersma, "Accurate short-term analysis of the fundamental frequency and the
//! harmonics-to-noise ratio of a sampled sound", IFA Proceedings 17 (1993). The autocorrelation of
//! a windowed frame is divided by that of the window. Dynamic programming selects the path through
//! the candidates of the frames, with Praat's default costs.

use std::collections::VecDeque;
use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};

use super::centred::{Centred, Sample};
use crate::front_end::mel::periodic_hann;
use crate::front_end::{SAMPLE_RATE, pairwise};

/// Samples per window (40 ms): 2.6 periods of the lowest pitch.
const WINDOW: usize = 640;
/// Length of the zero-padded Fourier transform.
const TRANSFORM: usize = 1024;
/// Length of the inverse transform. Only frequencies up to 4 kHz enter it, so lags are at half the
/// sampling rate.
const LAGS: usize = TRANSFORM / 2;
const LAG_RATE: f64 = SAMPLE_RATE as f64 / 2.0;

/// Lowest and highest pitch, in Hz.
const LOWEST: f64 = 65.0;
const HIGHEST: f64 = 600.0;
const LAG_MIN: usize = (LAG_RATE / HIGHEST) as usize;
/// Lag of the lowest pitch, rounded up.
const LAG_MAX: usize = (LAG_RATE / LOWEST) as usize + 1;

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
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    window: Vec<f64>,
    /// Autocorrelation of the window at each lag, relative to lag 0.
    correction: Vec<f64>,
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

/// Buffers of the transforms.
struct Buffers {
    samples: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    forward: Vec<Complex<f64>>,
    power: Vec<Complex<f64>>,
    correlation: Vec<f64>,
    inverse: Vec<Complex<f64>>,
}

impl Tracker {
    pub(super) fn new(planner: &mut RealFftPlanner<f64>) -> Self {
        let mut tracker = Self {
            forward: planner.plan_fft_forward(TRANSFORM),
            inverse: planner.plan_fft_inverse(LAGS),
            window: periodic_hann(WINDOW),
            correction: Vec::new(),
        };
        let mut buffers = tracker.buffers();
        buffers.samples[..WINDOW].copy_from_slice(&tracker.window);
        tracker.correlate(&mut buffers);
        let of_window = &buffers.correlation[..LAG_MAX + 2];
        tracker.correction = of_window.iter().map(|c| c / of_window[0]).collect();
        tracker
    }

    /// Returns the candidates of each frame of `x`.
    pub(super) fn frames<T: Sample>(&self, x: &Centred<'_, T>) -> Vec<PitchFrame> {
        let mut buffers = self.buffers();
        (0..x.frames())
            .map(|t| self.frame(x, t, &mut buffers))
            .collect()
    }

    /// Returns the window, and its autocorrelation at each lag relative to lag 0.
    #[cfg(feature = "cuda")]
    pub(super) fn tables(&self) -> [&[f64]; 2] {
        [&self.window, &self.correction]
    }

    fn buffers(&self) -> Buffers {
        Buffers {
            samples: self.forward.make_input_vec(),
            spectrum: self.forward.make_output_vec(),
            forward: self.forward.make_scratch_vec(),
            power: self.inverse.make_input_vec(),
            correlation: self.inverse.make_output_vec(),
            inverse: self.inverse.make_scratch_vec(),
        }
    }

    /// Computes the autocorrelation of the samples, which are overwritten.
    fn correlate(&self, b: &mut Buffers) {
        self.forward
            .process_with_scratch(&mut b.samples, &mut b.spectrum, &mut b.forward)
            .expect("the buffers were made by this transform");
        for (power, bin) in b.power.iter_mut().zip(&b.spectrum) {
            *power = Complex::new(bin.norm_sqr(), 0.0);
        }
        self.inverse
            .process_with_scratch(&mut b.power, &mut b.correlation, &mut b.inverse)
            .expect("the buffers were made by this transform");
        for c in &mut b.correlation {
            *c /= LAGS as f64;
        }
    }

    fn frame<T: Sample>(&self, x: &Centred<'_, T>, t: usize, b: &mut Buffers) -> PitchFrame {
        let (samples, padding) = b.samples.split_at_mut(WINDOW);
        x.copy_frame(t, samples);
        let mean = pairwise::sum(samples, |x| x) / WINDOW as f64;
        let mut peak = 0.0_f64;
        for (sample, w) in samples.iter_mut().zip(&self.window) {
            let centred = *sample - mean;
            peak = peak.max(centred.abs());
            *sample = centred * w;
        }
        padding.fill(0.0);
        self.correlate(b);
        let energy = b.correlation[0].max(MIN_ENERGY);
        let mut r = [0.0; LAG_MAX + 2];
        for ((r, c), window) in r.iter_mut().zip(&b.correlation).zip(&self.correction) {
            *r = c / energy / window;
        }
        let mut frame = PitchFrame {
            candidates: [ABSENT; CANDIDATES],
            height: 0.0,
            peak,
        };
        for lag in LAG_MIN..=LAG_MAX {
            let [left, middle, right] = [r[lag - 1], r[lag], r[lag + 1]];
            if !(middle > left && middle >= right && middle > 0.5 * VOICING_THRESHOLD) {
                frame.height = frame.height.max(middle.min(1.0));
                continue;
            }
            // Vertex of the parabola through three points. It opens downwards unless the points are
            // equal up to rounding.
            let curvature = left - 2.0 * middle + right;
            let curvature = if curvature == 0.0 { -1.0 } else { curvature };
            let shift = 0.5 * (left - right) / curvature;
            let height = (middle - 0.25 * (left - right) * shift).clamp(0.0, 1.0);
            let frequency = LAG_RATE / (lag as f64 + shift);
            frame.height = frame.height.max(height);
            frame.add(PitchCandidate {
                strength: height - OCTAVE_COST * (HIGHEST / frequency).log2(),
                frequency,
                height,
            });
        }
        frame
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

    fn track(x: &[f64]) -> Pitch {
        let tracker = Tracker::new(&mut RealFftPlanner::new());
        track_pitch(&tracker.frames(&Centred::with_zero_mean(x)))
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
