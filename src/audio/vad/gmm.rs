//! Judges the bands by their noise and speech models, and adapts the models to what was heard.
//!
//! Method and constants: WebRTC `vad_core.c` and `vad_gmm.c`. "Qn" means n fractional bits. A value
//! is narrowed (`as i16`) exactly where the C code stores it in 16 bits.

use super::filterbank::{BANDS, Features};
use super::minimum::Minimum;
use super::{Duration, Mode};

/// Smallest deviation a Gaussian may adapt to, Q7.
const MIN_DEVIATION: i16 = 384;
/// Smallest mean a speech Gaussian may adapt to, Q7.
const MIN_SPEECH_MEAN: [i16; 2] = [640, 768];
/// How fast the means follow noise and speech, Q15 (0.02 and 0.2), and the noise means the
/// background, Q8 (0.6).
const NOISE_RATE: i32 = 655;
const SPEECH_RATE: i32 = 6554;
const BACKGROUND_RATE: i32 = 154;
/// The probability 1, Q14.
const CERTAIN: i16 = 1 << 14;
/// After more voiced frames in a row than this, the longer hangover applies.
const LONG_SPEECH: u8 = 6;

/// What is fixed for a band.
struct Tuning {
    /// The band's weight in the global decision.
    weight: i32,
    /// How far apart the mean of the speech and the noise model are kept, Q5.
    min_separation: i16,
    /// Upper limits of the two models' means, Q7.
    max_speech: i16,
    max_noise: i16,
    /// The models before anything was heard.
    noise: Mixture,
    speech: Mixture,
}

/// The two Gaussians of a model, each (weight Q7, mean Q7, deviation Q7).
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

/// What a frame must reach, and for how many frames speech is held afterwards.
#[derive(Debug, Clone, Copy)]
struct Thresholds {
    /// For one band's log likelihood ratio (times 4).
    local: i32,
    /// For the weighted sum of the log likelihood ratios.
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

/// The adaptive likelihood ratio test over the bands, and the hangover.
#[derive(Debug, Clone)]
pub(super) struct Detector {
    mode: Mode,
    bands: [Band; BANDS],
    /// Frames judged so far; counting stops at 3, where it no longer matters.
    heard: u8,
    /// Voiced frames in a row, up to [`LONG_SPEECH`].
    voiced_run: u8,
    /// For how many more frames speech is held.
    hangover: u8,
}

impl Detector {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            bands: std::array::from_fn(|band| Band::new(&TUNING[band])),
            heard: 0,
            voiced_run: 0,
            hangover: 0,
        }
    }

    /// Whether the next frame counts as speech.
    pub(super) fn decide(&mut self, features: &Features, duration: Duration) -> bool {
        let thresholds = Thresholds::of(self.mode, duration);
        let voiced = features.loud && self.judge(&features.bands, &thresholds);
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

    /// The likelihood ratio test, after which the models have learnt from the frame.
    fn judge(&mut self, features: &[i16; BANDS], thresholds: &Thresholds) -> bool {
        let mut sum = 0;
        let mut voiced = false;
        let evidence: [_; BANDS] = std::array::from_fn(|i| {
            let (noise, speech) = self.bands[i].weigh(features[i]);
            // log2 of the ratio, to whole bits.
            let ratio = noise.total.leading_zeros() as i32 - speech.total.leading_zeros() as i32;
            sum += ratio * TUNING[i].weight;
            voiced |= ratio * 4 > thresholds.local;
            (noise, speech)
        });
        voiced |= sum >= thresholds.global;

        // Each band's limit for single speech means is the one of the band before it.
        let mut speech_limit = 12800;
        for (i, (noise, speech)) in evidence.iter().enumerate() {
            let band = &mut self.bands[i];
            let background = band.minimum.update(features[i], self.heard);
            band.learn_noise(features[i], (!voiced).then_some(noise), background, i);
            if voiced {
                band.learn_speech(features[i], speech, speech_limit + 640);
            }
            band.separate(&TUNING[i]);
            speech_limit = TUNING[i].max_speech;
        }
        self.heard = (self.heard + 1).min(3);
        voiced
    }
}

/// One frequency band's models.
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

    /// How well the noise and the speech model explain the log energy.
    fn weigh(&self, feature: i16) -> (Evidence, Evidence) {
        (
            // If nothing explains it, it is still noise of the first kind.
            self.noise.weigh(feature, [CERTAIN, 0]),
            self.speech.weigh(feature, [0, 0]),
        )
    }

    /// Pulls the noise means towards the background level, and, if the frame was found to be noise,
    /// adapts the model to it. `band` counts from the lowest.
    fn learn_noise(
        &mut self,
        feature: i16,
        evidence: Option<&Evidence>,
        background: i16,
        band: usize,
    ) {
        // Q8.
        let mean = (self.noise.mean() >> 6) as i16;
        let gap = ((i32::from(background) << 4) - i32::from(mean)) as i16;
        let correction = ((i32::from(gap) * BACKGROUND_RATE) >> 9) as i16;

        for (k, gaussian) in self.noise.0.iter_mut().enumerate() {
            let before = gaussian.mean;
            let step = evidence.map_or(0, |evidence| evidence.step(k, NOISE_RATE, 22));
            let [min, max] = [k + 5, 72 + k - band].map(|limit| (limit << 7) as i16);
            gaussian.mean = before
                .wrapping_add(step)
                .wrapping_add(correction)
                .clamp(min, max);
            if let Some(evidence) = evidence {
                let residual = feature.wrapping_sub(before >> 3);
                let share = (evidence.shares[k] + 2) >> 2;
                gaussian.widen(evidence.growth(k, residual, share) >> 14, 1, 6);
            }
        }
    }

    /// Adapts the speech model to a frame that was found to be speech.
    fn learn_speech(&mut self, feature: i16, evidence: &Evidence, max_mean: i16) {
        for (k, gaussian) in self.speech.0.iter_mut().enumerate() {
            let before = gaussian.mean;
            // Q8, halved with rounding.
            let step = i32::from(evidence.step(k, SPEECH_RATE, 21));
            gaussian.mean = before
                .wrapping_add(((step + 1) >> 1) as i16)
                .clamp(MIN_SPEECH_MEAN[k], max_mean);
            let residual = feature.wrapping_sub(before.wrapping_add(4) >> 3);
            let share = evidence.shares[k] >> 2;
            gaussian.widen(evidence.growth(k, residual, share) >> 4, 10, 8);
        }
    }

    /// Moves the two models apart if they came too close, and back below their limits.
    fn separate(&mut self, tuning: &Tuning) {
        let mut noise = self.noise.mean();
        let mut speech = self.speech.mean();
        let distance = ((speech >> 9) as i16).wrapping_sub((noise >> 9) as i16);
        if distance < tuning.min_separation {
            // Four fifths of what is missing (Q5) by the speech model, one fifth by the noise, Q7.
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
    /// The weighted mean, Q14.
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

    /// Shifts the means down by as much as `mean` exceeds `max`.
    fn lower_by(&mut self, mean: i16, max: i16) {
        if mean > max {
            self.shift(max.wrapping_sub(mean));
        }
    }

    /// How well the mixture explains the log energy; `unexplained` are the shares if it does not.
    fn weigh(&self, feature: i16, unexplained: [i16; 2]) -> Evidence {
        let [first, second] = self.0.each_ref().map(|gaussian| {
            let (density, slope) = gaussian.density(feature);
            (i32::from(gaussian.weight) * density, slope)
        });
        let total = first.0 + second.0;
        let shares = match total >> 12 {
            0 => unexplained,
            whole => {
                let share = (((first.0 >> 12) << 14) / whole) as i16;
                [share, CERTAIN - share]
            }
        };
        Evidence {
            total,
            shares,
            slopes: [first.1, second.1],
        }
    }
}

/// What a mixture has to say about a log energy.
struct Evidence {
    /// Its probability density, Q27; never negative.
    total: i32,
    /// Which part of that is due to each Gaussian, Q14.
    shares: [i16; 2],
    /// (x - mean) / deviation^2 of each Gaussian, Q11.
    slopes: [i16; 2],
}

impl Evidence {
    /// The step of Gaussian `k`'s mean: share * slope * `rate`, dropping `bits`.
    fn step(&self, k: usize, rate: i32, bits: u32) -> i16 {
        let gradient = ((i32::from(self.shares[k]) * i32::from(self.slopes[k])) >> 11) as i16;
        ((i32::from(gradient) * rate) >> bits) as i16
    }

    /// `share` * (slope * `residual` - 1), Q24: by how much Gaussian `k` is too narrow. Far outside
    /// both Gaussians the share can be full and the product wraps around.
    fn growth(&self, k: usize, residual: i16, share: i16) -> i32 {
        let excess = ((i32::from(self.slopes[k]) * i32::from(residual)) >> 3) - (1 << 12);
        i32::from(share).wrapping_mul(excess)
    }
}

/// A normal distribution of a band's log energy.
#[derive(Debug, Clone)]
struct Gaussian {
    /// Its part of the mixture, Q7.
    weight: i16,
    /// Q7.
    mean: i16,
    /// Q7; at least 378.
    deviation: i16,
}

impl Gaussian {
    /// `1/s * exp(-(x - m)^2 / (2 s^2))`, Q20, and `(x - m) / s^2`, Q11, for `feature` x in Q4.
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

    /// Adds `growth / (scale * deviation)`, dropping `bits` with rounding, to the deviation.
    fn widen(&mut self, growth: i32, scale: i16, bits: u32) {
        // Never 0: the deviation is a positive 16-bit number, so 10 times it is no multiple of 2^16.
        let divisor = self.deviation.wrapping_mul(scale);
        let change = (growth / i32::from(divisor)) as i16;
        let rounded = change.wrapping_add(1 << (bits - 1)) >> bits;
        self.deviation = self.deviation.wrapping_add(rounded).max(MIN_DEVIATION);
    }
}

/// exp(-`x`), both Q10: a power of two with the mantissa linear in between, 0 from 21.5 on.
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
