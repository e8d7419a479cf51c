//! Adaptive Gaussian mixture classifier for the band energies.
//!
//! Method and constants: WebRTC `vad_core.c` and `vad_gmm.c`. "Qn" means n fractional bits. A value
//! is narrowed (`as i16`) exactly where the C code stores it in 16 bits.

use super::filterbank::{BANDS, Features};
use super::minimum::Minimum;
use super::{Duration, Mode};

/// Minimum standard deviation of an adapted Gaussian, Q7.
const MIN_DEVIATION: i16 = 384;
/// Minimum means of the adapted speech Gaussians, Q7.
const MIN_SPEECH_MEAN: [i16; 2] = [640, 768];
/// Adaptation rates: of the means to noise and to speech, Q15 (0.02 and 0.2), and of the noise
/// means to the background level, Q8 (0.6).
const NOISE_RATE: i32 = 655;
const SPEECH_RATE: i32 = 6554;
const BACKGROUND_RATE: i32 = 154;
/// Probability 1, Q14.
const PROBABILITY_ONE: i16 = 1 << 14;
/// Number of consecutive voiced frames above which the longer hangover applies.
const LONG_SPEECH: u8 = 6;

/// Constants of a band.
struct Tuning {
    /// Weight of the band in the global decision.
    weight: i32,
    /// Minimum distance between the means of the speech and the noise model, Q5.
    min_separation: i16,
    /// Upper limits of the means of the two models, Q7.
    max_speech: i16,
    max_noise: i16,
    /// Initial models.
    noise: Mixture,
    speech: Mixture,
}

/// Builds a model of two Gaussians, each (weight Q7, mean Q7, deviation Q7).
const fn mixture(first: (i16, i16, i16), second: (i16, i16, i16)) -> Mixture {
    const fn gaussian((weight, mean, deviation): (i16, i16, i16)) -> Gaussian {
        Gaussian {
            weight,
            mean,
            deviation,
        }
    }
    Mixture([gaussian(first), gaussian(second)])
}

const TUNING: [Tuning; BANDS] = [
    Tuning {
        weight: 6,
        min_separation: 544,
        max_speech: 11392,
        max_noise: 9216,
        noise: mixture((34, 6738, 378), (94, 7646, 474)),
        speech: mixture((48, 8306, 555), (80, 9473, 509)),
    },
    Tuning {
        weight: 8,
        min_separation: 544,
        max_speech: 11392,
        max_noise: 9088,
        noise: mixture((62, 4892, 1064), (66, 3863, 697)),
        speech: mixture((82, 10085, 505), (46, 9571, 828)),
    },
    Tuning {
        weight: 10,
        min_separation: 576,
        max_speech: 11520,
        max_noise: 8960,
        noise: mixture((72, 7065, 493), (56, 7820, 475)),
        speech: mixture((45, 10078, 567), (83, 10879, 492)),
    },
    Tuning {
        weight: 12,
        min_separation: 576,
        max_speech: 11520,
        max_noise: 8832,
        noise: mixture((66, 6715, 582), (62, 7266, 688)),
        speech: mixture((87, 11823, 524), (41, 7581, 1540)),
    },
    Tuning {
        weight: 14,
        min_separation: 576,
        max_speech: 11520,
        max_noise: 8704,
        noise: mixture((53, 6771, 688), (75, 5020, 421)),
        speech: mixture((50, 11843, 585), (78, 8180, 1079)),
    },
    Tuning {
        weight: 16,
        min_separation: 576,
        max_speech: 11520,
        max_noise: 8576,
        noise: mixture((25, 3369, 593), (103, 4362, 455)),
        speech: mixture((47, 6309, 1231), (81, 7483, 850)),
    },
];

/// Decision thresholds, and the hangover in frames.
#[derive(Debug, Clone, Copy)]
struct Thresholds {
    /// Threshold for the log likelihood ratio of one band (times 4).
    local: i32,
    /// Threshold for the weighted sum of the log likelihood ratios.
    global: i32,
    short_hangover: u8,
    long_hangover: u8,
}

impl Thresholds {
    fn of(mode: Mode, duration: Duration) -> Self {
        let i = duration as usize;
        let ([local, global], lenient) = match mode {
            Mode::Quality => ([[24, 21, 24], [57, 48, 57]], true),
            Mode::LowBitrate => ([[37, 32, 37], [100, 80, 100]], true),
            Mode::Aggressive => ([[82, 78, 82], [285, 260, 285]], false),
            Mode::VeryAggressive => ([[94, 94, 94], [1100, 1050, 1100]], false),
        };
        let [short, long] = if lenient {
            [[8, 4, 3], [14, 7, 5]]
        } else {
            [[6, 3, 2], [9, 5, 3]]
        };
        Self {
            local: local[i],
            global: global[i],
            short_hangover: short[i],
            long_hangover: long[i],
        }
    }
}

/// Adaptive likelihood ratio test over the bands, with hangover.
#[derive(Debug, Clone)]
pub(super) struct Detector {
    mode: Mode,
    bands: [Band; BANDS],
    /// Number of frames classified so far, saturated at 3 because later values make no difference.
    classified: u8,
    /// Number of consecutive voiced frames, up to [`LONG_SPEECH`].
    voiced_run: u8,
    /// Remaining frames of the hangover.
    hangover: u8,
}

impl Detector {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            bands: std::array::from_fn(|band| Band::new(&TUNING[band])),
            classified: 0,
            voiced_run: 0,
            hangover: 0,
        }
    }

    /// Returns whether the next frame counts as speech.
    pub(super) fn decide(&mut self, features: &Features, duration: Duration) -> bool {
        let thresholds = Thresholds::of(self.mode, duration);
        let voiced = features.loud && self.classify(&features.bands, &thresholds);
        if voiced {
            if self.voiced_run < LONG_SPEECH {
                self.voiced_run += 1;
                self.hangover = thresholds.short_hangover;
            } else {
                self.hangover = thresholds.long_hangover;
            }
            return true;
        }
        self.voiced_run = 0;
        let held = self.hangover > 0;
        self.hangover = self.hangover.saturating_sub(1);
        held
    }

    /// Applies the likelihood ratio test and then adapts the models to the frame.
    fn classify(&mut self, features: &[i16; BANDS], thresholds: &Thresholds) -> bool {
        let mut sum = 0;
        let mut voiced = false;
        let likelihoods: [_; BANDS] = std::array::from_fn(|i| {
            let (noise, speech) = self.bands[i].likelihood(features[i]);
            // log2 of the ratio, to whole bits.
            let ratio = noise.total.leading_zeros() as i32 - speech.total.leading_zeros() as i32;
            sum += ratio * TUNING[i].weight;
            voiced |= ratio * 4 > thresholds.local;
            (noise, speech)
        });
        voiced |= sum >= thresholds.global;

        // The limit for single speech means in a band is that of the band below.
        let mut speech_limit = 12800;
        for (i, (noise, speech)) in likelihoods.iter().enumerate() {
            let band = &mut self.bands[i];
            let background = band.minimum.update(features[i], self.classified);
            band.adapt_noise(features[i], (!voiced).then_some(noise), background, i);
            if voiced {
                band.adapt_speech(features[i], speech, speech_limit + 640);
            }
            band.separate(&TUNING[i]);
            speech_limit = TUNING[i].max_speech;
        }
        self.classified = (self.classified + 1).min(3);
        voiced
    }
}

/// Models of one frequency band.
#[derive(Debug, Clone)]
struct Band {
    noise: Mixture,
    speech: Mixture,
    minimum: Minimum,
}

impl Band {
    fn new(tuning: &Tuning) -> Self {
        Self {
            noise: tuning.noise.clone(),
            speech: tuning.speech.clone(),
            minimum: Minimum::default(),
        }
    }

    /// Returns the likelihoods of a log energy under the noise and the speech model.
    fn likelihood(&self, feature: i16) -> (Likelihood, Likelihood) {
        (
            // If neither Gaussian explains the value, it counts as noise of the first.
            self.noise.likelihood(feature, [PROBABILITY_ONE, 0]),
            self.speech.likelihood(feature, [0, 0]),
        )
    }

    /// Moves the noise means towards the background level. If the frame was classified as noise
    /// (`likelihoods` is given), adapts the model to it. `band` counts from the lowest.
    fn adapt_noise(
        &mut self,
        feature: i16,
        likelihoods: Option<&Likelihood>,
        background: i16,
        band: usize,
    ) {
        // Q8.
        let mean = (self.noise.mean() >> 6) as i16;
        let gap = ((i32::from(background) << 4) - i32::from(mean)) as i16;
        let correction = ((i32::from(gap) * BACKGROUND_RATE) >> 9) as i16;

        for (k, gaussian) in self.noise.0.iter_mut().enumerate() {
            let before = gaussian.mean;
            let step = likelihoods.map_or(0, |likelihoods| likelihoods.step(k, NOISE_RATE, 22));
            let [min, max] = [k + 5, 72 + k - band].map(|limit| (limit << 7) as i16);
            gaussian.mean = before
                .wrapping_add(step)
                .wrapping_add(correction)
                .clamp(min, max);
            if let Some(likelihoods) = likelihoods {
                let residual = feature.wrapping_sub(before >> 3);
                let share = (likelihoods.responsibilities[k] + 2) >> 2;
                gaussian.widen(likelihoods.growth(k, residual, share) >> 14, 1, 6);
            }
        }
    }

    /// Adapts the speech model to a frame that was classified as speech.
    fn adapt_speech(&mut self, feature: i16, likelihoods: &Likelihood, max_mean: i16) {
        for (k, gaussian) in self.speech.0.iter_mut().enumerate() {
            let before = gaussian.mean;
            // Q8, halved with rounding.
            let step = i32::from(likelihoods.step(k, SPEECH_RATE, 21));
            gaussian.mean = before
                .wrapping_add(((step + 1) >> 1) as i16)
                .clamp(MIN_SPEECH_MEAN[k], max_mean);
            let residual = feature.wrapping_sub(before.wrapping_add(4) >> 3);
            let share = likelihoods.responsibilities[k] >> 2;
            gaussian.widen(likelihoods.growth(k, residual, share) >> 4, 10, 8);
        }
    }

    /// Separates the two models if their means are too close, and limits the means.
    fn separate(&mut self, tuning: &Tuning) {
        let mut noise = self.noise.mean();
        let mut speech = self.speech.mean();
        let distance = ((speech >> 9) as i16).wrapping_sub((noise >> 9) as i16);
        if distance < tuning.min_separation {
            // The speech model moves by four fifths of the missing distance (Q5 to Q7), the noise
            // model by one fifth.
            let missing = i32::from(tuning.min_separation.wrapping_sub(distance));
            self.speech.shift(((13 * missing) >> 2) as i16);
            self.noise
                .shift((((3 * missing) >> 2) as i16).wrapping_neg());
            speech = self.speech.mean();
            noise = self.noise.mean();
        }
        self.speech
            .lower_by((speech >> 7) as i16, tuning.max_speech);
        self.noise.lower_by((noise >> 7) as i16, tuning.max_noise);
    }
}

/// Two weighted Gaussians.
#[derive(Debug, Clone)]
struct Mixture([Gaussian; 2]);

impl Mixture {
    /// Returns the weighted mean, Q14.
    fn mean(&self) -> i32 {
        self.0
            .iter()
            .map(|g| i32::from(g.weight) * i32::from(g.mean))
            .sum()
    }

    fn shift(&mut self, by: i16) {
        for gaussian in &mut self.0 {
            gaussian.mean = gaussian.mean.wrapping_add(by);
        }
    }

    /// Shifts the means down by the excess of `mean` over `max`.
    fn lower_by(&mut self, mean: i16, max: i16) {
        if mean > max {
            self.shift(max.wrapping_sub(mean));
        }
    }

    /// Evaluates the mixture at a log energy. `default_responsibilities` apply if the density is
    /// zero.
    fn likelihood(&self, feature: i16, default_responsibilities: [i16; 2]) -> Likelihood {
        let [first, second] = self.0.each_ref().map(|gaussian| {
            let (density, slope) = gaussian.density(feature);
            (i32::from(gaussian.weight) * density, slope)
        });
        let total = first.0 + second.0;
        let responsibilities = match total >> 12 {
            0 => default_responsibilities,
            whole => {
                let share = (((first.0 >> 12) << 14) / whole) as i16;
                [share, PROBABILITY_ONE - share]
            }
        };
        Likelihood {
            total,
            responsibilities,
            slopes: [first.1, second.1],
        }
    }
}

/// Likelihood of a log energy under a mixture.
struct Likelihood {
    /// Probability density, Q27; never negative.
    total: i32,
    /// Responsibility of each Gaussian: its fraction of the density, Q14.
    responsibilities: [i16; 2],
    /// (x - mean) / deviation^2 of each Gaussian, Q11.
    slopes: [i16; 2],
}

impl Likelihood {
    /// Returns the step of Gaussian `k`'s mean: share * slope * `rate`, without the lowest `bits`.
    fn step(&self, k: usize, rate: i32, bits: u32) -> i16 {
        let gradient =
            ((i32::from(self.responsibilities[k]) * i32::from(self.slopes[k])) >> 11) as i16;
        ((i32::from(gradient) * rate) >> bits) as i16
    }

    /// Returns `share` * (slope * `residual` - 1), Q24: the gradient for the deviation of Gaussian
    /// `k`. Far outside both Gaussians, a full share makes the product wrap around.
    fn growth(&self, k: usize, residual: i16, share: i16) -> i32 {
        let excess = ((i32::from(self.slopes[k]) * i32::from(residual)) >> 3) - (1 << 12);
        i32::from(share).wrapping_mul(excess)
    }
}

/// Normal distribution of a band's log energy.
#[derive(Debug, Clone)]
struct Gaussian {
    /// Weight in the mixture, Q7.
    weight: i16,
    /// Mean, Q7.
    mean: i16,
    /// Standard deviation, Q7; at least 378.
    deviation: i16,
}

impl Gaussian {
    /// Returns `1/s * exp(-(x - m)^2 / (2 s^2))` in Q20 and `(x - m) / s^2` in Q11, for `feature` x
    /// in Q4.
    fn density(&self, feature: i16) -> (i32, i16) {
        let deviation = i32::from(self.deviation);
        // 1/s, Q10, rounded; and 1/s^2, Q14.
        let inverse = ((1 << 17) + (deviation >> 1)) / deviation;
        let inverse_square = (inverse >> 2).pow(2) >> 2;
        let distance = ((i32::from(feature) << 3) - i32::from(self.mean)) as i16;
        let slope = ((inverse_square * i32::from(distance)) >> 10) as i16;
        // Q10.
        let exponent = (i32::from(slope) * i32::from(distance)) >> 9;
        (inverse * exp_minus(exponent), slope)
    }

    /// Adds `growth / (scale * deviation)`, shifted right by `bits` with rounding, to the
    /// deviation.
    fn widen(&mut self, growth: i32, scale: i16, bits: u32) {
        // The divisor is never 0: the deviation is a positive 16-bit number, so ten times it is no
        // multiple of 2^16.
        let divisor = self.deviation.wrapping_mul(scale);
        let change = (growth / i32::from(divisor)) as i16;
        let rounded = change.wrapping_add(1 << (bits - 1)) >> bits;
        self.deviation = self.deviation.wrapping_add(rounded).max(MIN_DEVIATION);
    }
}

/// Approximates exp(-`x`), both Q10: a power of two with a linear mantissa; 0 from 21.5 on.
fn exp_minus(x: i32) -> i32 {
    /// log2(e), Q12.
    const LOG2_E: i32 = 5909;
    if x >= 22005 {
        return 0;
    }
    let exponent = ((LOG2_E.wrapping_mul(x) >> 12) as i16).wrapping_neg();
    let mantissa = 0x400 | (i32::from(exponent) & 0x3ff);
    let shift = (i32::from(!exponent) >> 10) + 1;
    mantissa.wrapping_shr(shift.cast_unsigned())
}
