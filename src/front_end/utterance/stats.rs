//! Recording-wide descriptors: input of the statistics networks.

use std::f64::consts::PI;
use std::ops::Range;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::describe::{
    count, delta, deviation, mean, mean_and_deviation, percentiles, runs, select_runs, thirds,
};
use super::levels::Levels;
use super::{Contours, prosody};
use crate::front_end::mel::periodic_hann;
use crate::front_end::{N_MELS, pairwise};
use crate::simd::lanes::Lanes;
use crate::simd::{Isa, Kernel};

/// Number of descriptors of a recording.
pub const STATS: usize = 770;

/// The groups of descriptors in their order, with the number of values of each. The values of
/// `mel_*` are mel bands (levels, see the module), those of `cep_*` the first 20 coefficients of
/// the orthonormal type-II cosine transform of a frame's levels. Deviations are the population's;
/// `d` is the slope over five frames, `dd` the slope of that.
///
/// | group | values |
/// |---|---|
/// | `*_mean`, `*_std`, `*_p10`, `*_p50`, `*_p90` | mean, deviation and percentiles over the active frames |
/// | `*_dstd`, `*_dabs`, `*_ddstd` | deviation of d, mean of its magnitude, deviation of dd |
/// | `*_vmean`, `*_vstd` | mean and deviation over the frames that are active and voiced (under five of them: active) |
/// | `mel_skew`, `mel_kurt` | mean third and fourth power of the deviation from the mean in units of the deviation (at least 1e-3) |
/// | `trend` | 8 groups of 5 bands: mean of the last third of the active frames minus that of the first |
/// | `energy` | in dB relative to the loud frames: mean, deviation, percentiles 5, 25, 50, 75 of the active frames; d: deviation, mean magnitude, mean where rising; its percentiles 95 and 5 over all frames |
/// | `modulation` | 8 bands of modulation frequency (edges 1, 2, 3, 5, 8, 12, 18, 28, 64 of 128 bins of 0.78 Hz), in each 8 groups of 5 bands and the energy: `ln(power + 0.01)` of windows of 128 frames every 64 |
/// | `rhythm` | ln of the duration in s; voiced share, active share, voiced per active frame; voiced runs (30 ms or more) per second; their mean, deviation and maximum in s; mean and deviation of the gaps between them; pauses per second, longest pause in s |
/// | `f0` | in semitones re 100 Hz over the voiced runs: mean, deviation, percentiles 5, 20, 50, 80, 95, the ranges 5 to 95 and 20 to 80; steps between frames (at most 6): mean magnitude, deviation, mean change, median magnitude; slopes of the runs in semitones per second (at most 100): mean weighted by length, the same of magnitudes, deviation of the runs' means, last, largest and smallest slope; last third minus first third, skewness. 0 without a voiced run |
/// | `hnr` | harmonics to noise in dB over the voiced runs: mean, deviation, percentiles 10, 50, 90; correlation of pitch and energy; mean and deviation of the autocorrelation's peak over the active frames. 0 without a voiced run |
/// | `balance` | over the voiced runs (without one: the active frames) mean, deviation, percentiles 10 and 90 of: centroid over the bands (-1 to 1), ln(bands 0-9 / 10-19), ln(bands 0-19 / 20-39), slope over the bands; then mean and deviation of the change between active frames |
pub const STAT_GROUPS: [(&str, usize); 26] = [
    ("mel_mean", N_MELS),
    ("mel_std", N_MELS),
    ("mel_p10", N_MELS),
    ("mel_p50", N_MELS),
    ("mel_p90", N_MELS),
    ("mel_dstd", N_MELS),
    ("mel_dabs", N_MELS),
    ("mel_ddstd", N_MELS),
    ("mel_vmean", N_MELS),
    ("mel_vstd", N_MELS),
    ("mel_skew", N_MELS),
    ("mel_kurt", N_MELS),
    ("cep_mean", CEPSTRUM),
    ("cep_std", CEPSTRUM),
    ("cep_p10", CEPSTRUM),
    ("cep_p90", CEPSTRUM),
    ("cep_dstd", CEPSTRUM),
    ("cep_vmean", CEPSTRUM),
    ("cep_vstd", CEPSTRUM),
    ("trend", GROUPS),
    ("energy", 11),
    ("modulation", MODULATION_BANDS * MODULATION_TRACKS),
    ("rhythm", prosody::RHYTHM),
    ("f0", prosody::F0),
    ("hnr", prosody::HNR),
    ("balance", 18),
];

/// Number of groups with a value per mel band. They come first, beginning with the mean levels.
pub const MEL_GROUPS: usize = 12;

const _: () = {
    assert!(STAT_GROUPS[MEL_GROUPS - 1].1 == N_MELS && STAT_GROUPS[MEL_GROUPS].1 != N_MELS);
    let (mut sum, mut i) = (0, 0);
    while i < STAT_GROUPS.len() {
        sum += STAT_GROUPS[i].1;
        i += 1;
    }
    assert!(sum == STATS);
};

/// Number of coefficients of a frame's cosine transform.
const CEPSTRUM: usize = 20;
/// Number of groups of adjacent mel bands.
const GROUPS: usize = 8;
const GROUP_BANDS: usize = N_MELS / GROUPS;
/// Minimum number of voiced frames; with fewer, all active frames are used instead.
const MIN_VOICED: usize = 5;
/// Minimum deviation that a band's values are divided by.
const MIN_DEVIATION: f64 = 1e-3;

/// Number of frames per modulation window.
const MODULATION_WINDOW: usize = 128;
/// Edges of the modulation bands, in bins of the modulation spectrum.
const MODULATION_EDGES: [usize; 9] = [1, 2, 3, 5, 8, 12, 18, 28, 64];
const MODULATION_BANDS: usize = MODULATION_EDGES.len() - 1;
/// Number of modulation tracks: the groups of bands, then the energy.
const MODULATION_TRACKS: usize = GROUPS + 1;
const MODULATION_FLOOR: f64 = 1e-2;
/// Minimum energy of a frame in the modulation, in dB.
const MODULATION_MIN_DB: f64 = -40.0;
/// dB per neper, about 20 / ln 10.
const MODULATION_DB: f64 = 8.7;

/// Tables and transforms for the descriptors.
#[derive(Clone)]
pub(super) struct DescriptorExtractor {
    isa: Isa,
    /// Cosine transform matrix, `[CEPSTRUM][N_MELS]`.
    cosines: Vec<[f64; N_MELS]>,
    fft: Arc<dyn RealToComplex<f64>>,
    hann: Vec<f64>,
    /// Position of each band, -1 to 1.
    position: [f64; N_MELS],
}

impl DescriptorExtractor {
    pub(super) fn new(isa: Isa, planner: &mut RealFftPlanner<f64>) -> Self {
        let bands = N_MELS as f64;
        let cosine = |k: usize, band: usize| {
            let scale = if k == 0 { 1.0 } else { 2.0 } / bands;
            scale.sqrt() * (PI * k as f64 * (2 * band + 1) as f64 / (2.0 * bands)).cos()
        };
        Self {
            isa,
            cosines: (0..CEPSTRUM)
                .map(|k| std::array::from_fn(|band| cosine(k, band)))
                .collect(),
            fft: planner.plan_fft_forward(MODULATION_WINDOW),
            hann: periodic_hann(MODULATION_WINDOW),
            position: std::array::from_fn(|band| 2.0 * band as f64 / (bands - 1.0) - 1.0),
        }
    }

    /// Computes the [`STATS`] descriptors.
    pub(super) fn compute(&self, c: &Contours) -> Vec<f64> {
        self.isa.dispatch(Compute(self, c))
    }

    /// Computes [`Self::compute`] for the instruction set of the kernel that it is inlined into.
    #[inline(always)]
    fn compute_inlined(&self, c: &Contours) -> Vec<f64> {
        let voiced: Vec<bool> =
            c.f0.iter()
                .zip(&c.active)
                .map(|(f0, active)| *f0 > 0.0 && *active)
                .collect();
        let voiced_or_active = if count(&voiced) >= MIN_VOICED {
            &voiced
        } else {
            &c.active
        };
        let parts = Parts {
            active: &runs(&c.active),
            voiced_or_active: &runs(voiced_or_active),
        };
        let bands = &c.levels.bands;
        let mut b = Buffers::default();
        let mut out = Vec::with_capacity(STATS);
        let mut active_bands = Vec::with_capacity(N_MELS);
        let mut of_bands = [[0.0; 12]; N_MELS];
        for (statistics, track) in of_bands.iter_mut().zip(bands) {
            *statistics = band(track, parts, &mut b);
            active_bands.push(std::mem::take(&mut b.active));
        }
        append_by_statistic(&of_bands, &mut out);
        let mut of_cepstrum = [[0.0; 7]; CEPSTRUM];
        let cepstrum = self.cepstrum(bands);
        for (statistics, track) in of_cepstrum.iter_mut().zip(&cepstrum) {
            *statistics = coefficient(track, parts, &mut b);
        }
        append_by_statistic(&of_cepstrum, &mut out);
        let groups = group_means(bands);
        for track in &groups {
            select_runs(track, parts.active, &mut b.active);
            out.push(thirds(&b.active));
        }
        out.extend(energy(&c.energy, parts, &mut b));
        out.extend(self.modulation(groups, &c.energy));
        let runs = prosody::voiced_runs(&voiced);
        out.extend(prosody::rhythm(&voiced, &c.active, &runs));
        out.extend(prosody::f0(&c.f0, &runs));
        out.extend(prosody::hnr(c, &runs));
        let of_voice = if runs.is_empty() { parts.active } else { &runs };
        out.extend(self.balance(&c.levels, of_voice));
        out.extend(flux(&active_bands));
        out
    }

    /// Computes the [`CEPSTRUM`] cepstral tracks.
    #[inline(always)]
    fn cepstrum(&self, bands: &[Vec<f64>]) -> Vec<Vec<f64>> {
        /// Number of frames that stay in registers while all bands are added.
        const BLOCK: usize = 64;
        let frames = bands[0].len();
        let mut tracks = vec![vec![0.0; frames]; CEPSTRUM];
        for start in (0..frames).step_by(BLOCK) {
            let part = start..frames.min(start + BLOCK);
            for (track, cosines) in tracks.iter_mut().zip(&self.cosines) {
                let mut sums = [0.0; BLOCK];
                for (band, cosine) in bands.iter().zip(cosines) {
                    for (sum, v) in sums.iter_mut().zip(&band[part.clone()]) {
                        *sum += v * cosine;
                    }
                }
                track[part.clone()].copy_from_slice(&sums[..part.len()]);
            }
        }
        tracks
    }

    /// Returns the log power of each modulation band and track, bands outermost.
    fn modulation(&self, mut tracks: Vec<Vec<f64>>, energy: &[f64]) -> Vec<f64> {
        let decibels = |e: &f64| e.max(MODULATION_MIN_DB) / MODULATION_DB;
        tracks.push(energy.iter().map(decibels).collect());
        let mut out = vec![0.0; MODULATION_BANDS * MODULATION_TRACKS];
        let mut windowed = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        for (column, mut track) in tracks.into_iter().enumerate() {
            let mean = mean(&track);
            for v in &mut track {
                *v -= mean;
            }
            if track.len() < MODULATION_WINDOW {
                track.resize(MODULATION_WINDOW, 0.0);
            }
            let mut power = [0.0; MODULATION_WINDOW / 2 + 1];
            let windows = track.windows(MODULATION_WINDOW);
            let windows = windows.step_by(MODULATION_WINDOW / 2);
            let count = windows.len() as f64;
            for window in windows {
                for ((out, v), w) in windowed.iter_mut().zip(window).zip(&self.hann) {
                    *out = v * w;
                }
                self.fft
                    .process_with_scratch(&mut windowed, &mut spectrum, &mut scratch)
                    .expect("the buffers were made by this transform");
                for (sum, bin) in power.iter_mut().zip(&spectrum) {
                    *sum += bin.norm_sqr();
                }
            }
            for (row, edges) in MODULATION_EDGES.windows(2).enumerate() {
                let bins = &power[edges[0]..edges[1]];
                let power = bins.iter().sum::<f64>() / count / bins.len() as f64;
                out[row * MODULATION_TRACKS + column] = (power + MODULATION_FLOOR).ln();
            }
        }
        out
    }

    /// Describes centroid, two ratios and slope of the levels in the frames of `runs`.
    #[inline(always)]
    fn balance(&self, levels: &Levels, runs: &[Range<usize>]) -> Vec<f64> {
        /// Number of frames whose sums stay in the cache.
        const BLOCK: usize = 64;
        let spread = self.position.iter().map(|p| p * p).sum::<f64>() / N_MELS as f64;
        let ratio = |above: f64, below: f64| ((above + 1e-6) / (below + 1e-6)).ln();
        let mut tracks: [Vec<f64>; 4] = Default::default();
        let blocks = runs.iter().flat_map(|run| {
            let starts = run.clone().step_by(BLOCK);
            starts.map(|start| start..run.end.min(start + BLOCK))
        });
        for block in blocks {
            let (mut moments, mut slopes) = ([0.0; BLOCK], [0.0; BLOCK]);
            let mut quarters = [[0.0; BLOCK]; 4];
            let tracks_of = levels.powers.iter().zip(&levels.bands).zip(&self.position);
            for (band, ((powers, levels), position)) in tracks_of.enumerate() {
                let quarter = &mut quarters[band / (N_MELS / 4)];
                let (powers, levels) = (&powers[block.clone()], &levels[block.clone()]);
                for (i, (power, level)) in powers.iter().zip(levels).enumerate() {
                    quarter[i] += power;
                    moments[i] += power * position;
                    slopes[i] += level * position;
                }
            }
            for i in 0..block.len() {
                let [first, second, third, fourth] = [0, 1, 2, 3].map(|q| quarters[q][i]);
                let (low, high) = (first + second, third + fourth);
                tracks[0].push(moments[i] / (low + high + 1e-9));
                tracks[1].push(ratio(first, second));
                tracks[2].push(ratio(low, high));
                tracks[3].push(slopes[i] / N_MELS as f64 / spread);
            }
        }
        let mut out = Vec::with_capacity(4 * tracks.len());
        for track in &tracks {
            let (mean, deviation) = mean_and_deviation(track);
            out.extend([mean, deviation]);
            out.extend(percentiles(track, [10.0, 90.0]));
        }
        out
    }
}

/// Computes the descriptors.
struct Compute<'a>(&'a DescriptorExtractor, &'a Contours);

impl Kernel for Compute<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run<V: Lanes, const MR: usize>(self) -> Vec<f64> {
        self.0.compute_inlined(self.1)
    }
}

/// Frames that statistics are taken over.
#[derive(Clone, Copy)]
struct Parts<'a> {
    active: &'a [Range<usize>],
    voiced_or_active: &'a [Range<usize>],
}

/// Buffers of the statistics of a track.
#[derive(Default)]
struct Buffers {
    active: Vec<f64>,
    slopes: Vec<f64>,
    steps: Vec<f64>,
    curves: Vec<f64>,
    selected: Vec<f64>,
}

/// Appends all tracks' values of the first statistic, then of the second, and so on.
fn append_by_statistic<const N: usize>(tracks: &[[f64; N]], out: &mut Vec<f64>) {
    for i in 0..N {
        out.extend(tracks.iter().map(|statistics| statistics[i]));
    }
}

/// Computes the twelve statistics of a mel band, and leaves its active values in the buffer.
#[inline(always)]
fn band(track: &[f64], parts: Parts, b: &mut Buffers) -> [f64; 12] {
    select_runs(track, parts.active, &mut b.active);
    let (mean, deviation) = mean_and_deviation(&b.active);
    let [p10, p50, p90] = percentiles(&b.active, [10.0, 50.0, 90.0]);
    delta(track, &mut b.slopes);
    select_runs(&b.slopes, parts.active, &mut b.steps);
    let magnitude = pairwise::sum(&b.steps, f64::abs) / b.steps.len().max(1) as f64;
    delta(&b.slopes, &mut b.curves);
    select_runs(&b.curves, parts.active, &mut b.selected);
    let curvature = self::deviation(&b.selected);
    select_runs(track, parts.voiced_or_active, &mut b.selected);
    let voice = mean_and_deviation(&b.selected);
    let unit = deviation.max(MIN_DEVIATION);
    let count = b.active.len().max(1) as f64;
    let square = |v: f64| v * v;
    let third = pairwise::sum(&b.active, |v| (v - mean) / unit * square((v - mean) / unit));
    let fourth = pairwise::sum(&b.active, |v| square(square((v - mean) / unit)));
    [
        mean,
        deviation,
        p10,
        p50,
        p90,
        self::deviation(&b.steps),
        magnitude,
        curvature,
        voice.0,
        voice.1,
        third / count,
        fourth / count,
    ]
}

/// Computes the seven statistics of a cepstral coefficient.
#[inline(always)]
fn coefficient(track: &[f64], parts: Parts, b: &mut Buffers) -> [f64; 7] {
    select_runs(track, parts.active, &mut b.active);
    let (mean, deviation) = mean_and_deviation(&b.active);
    let [p10, p90] = percentiles(&b.active, [10.0, 90.0]);
    delta(track, &mut b.slopes);
    select_runs(&b.slopes, parts.active, &mut b.steps);
    select_runs(track, parts.voiced_or_active, &mut b.selected);
    let voice = mean_and_deviation(&b.selected);
    let slopes = self::deviation(&b.steps);
    [mean, deviation, p10, p90, slopes, voice.0, voice.1]
}

/// Returns the mean of each group of adjacent bands, per frame.
#[inline(always)]
fn group_means(bands: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut groups = vec![vec![0.0; bands[0].len()]; GROUPS];
    for (group, bands) in groups.iter_mut().zip(bands.chunks_exact(GROUP_BANDS)) {
        for band in bands {
            for (sum, level) in group.iter_mut().zip(band) {
                *sum += level;
            }
        }
        for sum in group {
            *sum /= GROUP_BANDS as f64;
        }
    }
    groups
}

#[inline(always)]
fn energy(track: &[f64], parts: Parts, b: &mut Buffers) -> Vec<f64> {
    select_runs(track, parts.active, &mut b.active);
    let (mean, deviation) = mean_and_deviation(&b.active);
    delta(track, &mut b.slopes);
    select_runs(&b.slopes, parts.active, &mut b.steps);
    let rising: Vec<f64> = b.steps.iter().copied().filter(|s| *s > 0.0).collect();
    let mut out = vec![mean, deviation];
    out.extend(percentiles(&b.active, [5.0, 25.0, 50.0, 75.0]));
    let magnitude = pairwise::sum(&b.steps, f64::abs) / b.steps.len().max(1) as f64;
    out.extend([self::deviation(&b.steps), magnitude, self::mean(&rising)]);
    out.extend(percentiles(&b.slopes, [95.0, 5.0]));
    out
}

/// Returns mean and deviation of the root mean square change between consecutive active frames, given
/// the active values of each band.
#[inline(always)]
fn flux(bands: &[Vec<f64>]) -> [f64; 2] {
    let mut changes = vec![0.0; bands[0].len().saturating_sub(1)];
    for band in bands.iter().filter(|band| !band.is_empty()) {
        for (sum, (before, after)) in changes.iter_mut().zip(band.iter().zip(&band[1..])) {
            *sum += (after - before) * (after - before);
        }
    }
    for change in &mut changes {
        *change = (*change / bands.len() as f64).sqrt();
    }
    mean_and_deviation(&changes).into()
}
