//! Speaker profiles: statistics of one speaker's recordings.
//!
//! Speakers differ in their usual pitch and timbre, and emotion shows as a deviation from those. A
//! profile holds the mean and standard deviation of the descriptors over recordings of one speaker,
//! without labels. The emotion networks then read descriptors and frames relative to that speaker. The
//! statistics are shrunk towards the population's, more so for fewer recordings.

use serde::{Deserialize, Serialize};

use super::front_end::Features;
use crate::front_end::N_MELS;
use crate::front_end::utterance::{FRAME_VALUES, STATS};
use crate::model::{PROFILE_FRAME_VALUES, SpeakerScale};
use crate::prediction::Speaker;

/// Version of the file format; there is no other one.
const VERSION: u32 = 1;
const FORMAT: &str = "maeum speaker profile";
/// Column of a frame that is positive if the frame is voiced.
const VOICED: usize = N_MELS + 2;
/// Largest magnitude of a value in a profile. It is far above the values of real recordings, and keeps
/// the networks' arithmetic finite.
const LARGEST: f64 = 1e6;
/// Lower bound of a speaker's variance, relative to the population's.
const LEAST_RATIO: f64 = 0.0625;

/// Error of making or using a speaker profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file is not a speaker profile.
    #[error("this is no speaker profile: {0}; make one from recordings of the speaker")]
    Format(String),
    /// The model was trained without profiles.
    #[error("the model {0:?} cannot use speaker profiles; the built-in model can")]
    Unsupported(String),
    /// The profile belongs to another model.
    #[error(
        "the speaker profile was made with another model (SHA-256 {made_with}, this one has {model}); make it again with this model from the same recordings"
    )]
    OtherModel {
        /// SHA-256 of the model that made the profile.
        made_with: String,
        /// SHA-256 of this model.
        model: String,
    },
    /// No recording contains speech.
    #[error("no recording with speech was given to make a speaker profile of")]
    Empty,
}

/// Statistics of one speaker's recordings for one model. They hold no audio, but are personal data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeakerProfile {
    format: String,
    version: u32,
    /// SHA-256 of the model's bundle.
    model: String,
    recordings: u32,
    segments: u32,
    seconds: f64,
    descriptors: Moments,
    /// Means of the mel bands' levels over all frames, and of log2(F0 / 200 Hz) over voiced frames.
    frames: Vec<f64>,
}

/// Mean and standard deviation of each descriptor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moments {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl SpeakerProfile {
    /// Reads the JSON that [`SpeakerProfile::to_json`] writes.
    ///
    /// # Errors
    /// [`ProfileError::Format`] if the text is not a profile, or a value is out of range.
    pub fn from_json(text: &str) -> Result<Self, ProfileError> {
        let profile: Self =
            serde_json::from_str(text).map_err(|e| ProfileError::Format(e.to_string()))?;
        profile.check().map_err(ProfileError::Format)?;
        Ok(profile)
    }

    /// Returns the profile as the text of a JSON file.
    ///
    /// # Panics
    /// Never: a profile holds nothing that JSON cannot express.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("all keys are strings") + "\n"
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT || self.version != VERSION {
            return Err(format!(
                "its format is {:?}, version {}",
                self.format, self.version
            ));
        }
        let lengths = [
            ("descriptors.mean", self.descriptors.mean.len(), STATS),
            (
                "descriptors.deviation",
                self.descriptors.deviation.len(),
                STATS,
            ),
            ("frames", self.frames.len(), PROFILE_FRAME_VALUES),
        ];
        if let Some((field, found, wanted)) = lengths.iter().find(|l| l.1 != l.2) {
            return Err(format!("{field} has {found} numbers instead of {wanted}"));
        }
        let mut means = self.descriptors.mean.iter().chain(&self.frames);
        // NaN fails both comparisons.
        let is_sound = means.all(|x| x.abs() <= LARGEST)
            && (self.descriptors.deviation.iter()).all(|x| (0.0..=LARGEST).contains(x))
            && self.seconds.is_finite()
            && self.seconds > 0.0;
        if !is_sound || self.segments == 0 || self.recordings == 0 {
            return Err("it holds numbers that no recording gives".into());
        }
        Ok(())
    }

    /// SHA-256 of the bundle of the model that made the profile.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Number and length of the recordings in the profile.
    pub fn speaker(&self) -> Speaker {
        Speaker {
            recordings: self.recordings,
            seconds: self.seconds,
        }
    }

    /// Weight of the speaker's means against the population's, 0 to 1.
    fn share(&self, scale: &SpeakerScale) -> f64 {
        let segments = f64::from(self.segments);
        segments / (segments + scale.mean_prior)
    }

    /// Standardises a segment's descriptors by the speaker's mean and variance and returns them in the
    /// population's scale. Mean and variance are shrunk towards the population's, which count as
    /// `mean_prior` and `deviation_prior` segments.
    pub(super) fn adapt_descriptors(&self, scale: &SpeakerScale, values: &[f32]) -> Vec<f32> {
        let (share, segments) = (self.share(scale), f64::from(self.segments));
        let prior = scale.deviation_prior;
        let population = scale.mean.iter().zip(&scale.deviation);
        let own = (self.descriptors.mean.iter()).zip(&self.descriptors.deviation);
        let pairs = values.iter().zip(population).zip(own);
        let adapt = |((&x, (&mean, &deviation)), (&own_mean, &own_deviation))| {
            let x: f32 = x;
            let own = own_deviation / deviation;
            let ratio: f64 = (prior + segments * own * own) / (prior + segments - 1.0);
            let centre = mean + share * (own_mean - mean);
            (mean + (f64::from(x) - centre) / ratio.max(LEAST_RATIO).sqrt()) as f32
        };
        pairs.map(adapt).collect()
    }

    /// Shifts a segment's frames so that the speaker's mean levels and pitch become the population's.
    pub(super) fn adapt_frames(&self, scale: &SpeakerScale, frames: &[f32]) -> Vec<f32> {
        let share = self.share(scale);
        let pairs = scale.frames.iter().zip(&self.frames);
        let shifts: Vec<f64> = pairs.map(|(mean, own)| share * (mean - own)).collect();
        let mut adapted = frames.to_vec();
        for frame in adapted.chunks_exact_mut(FRAME_VALUES) {
            let shifted = match frame[VOICED] > 0.0 {
                true => N_MELS + 1,
                false => N_MELS,
            };
            for (value, shift) in frame[..shifted].iter_mut().zip(&shifts) {
                *value = (f64::from(*value) + shift) as f32;
            }
        }
        adapted
    }
}

/// Accumulates a speaker's recordings into a [`SpeakerProfile`].
#[derive(Debug, Clone)]
pub struct ProfileBuilder {
    recordings: u32,
    segments: u32,
    seconds: f64,
    mean: Vec<f64>,
    /// Sums of squared differences from the mean.
    squares: Vec<f64>,
    /// Sums of the mel bands' levels over all frames.
    levels: Vec<f64>,
    frames: u64,
    pitch: f64,
    voiced: u64,
}

impl Default for ProfileBuilder {
    fn default() -> Self {
        Self {
            recordings: 0,
            segments: 0,
            seconds: 0.0,
            mean: vec![0.0; STATS],
            squares: vec![0.0; STATS],
            levels: vec![0.0; N_MELS],
            frames: 0,
            pitch: 0.0,
            voiced: 0,
        }
    }
}

impl ProfileBuilder {
    /// Adds those segments of a recording that are speech. The `legacy2020` front end has no descriptors
    /// and adds nothing.
    pub(super) fn add(&mut self, features: &Features, is_speech: &[bool]) {
        let Features::Utterance(features) = features else {
            return;
        };
        self.recordings += 1;
        for (segment, _) in (features.segments().iter().zip(is_speech)).filter(|(_, is)| **is) {
            self.add_segment(&segment.utterance.stats, &segment.utterance.frames);
        }
    }

    fn add_segment(&mut self, descriptors: &[f32], frames: &[f32]) {
        self.segments += 1;
        let count = f64::from(self.segments);
        for ((mean, square), &x) in (self.mean.iter_mut())
            .zip(&mut self.squares)
            .zip(descriptors)
        {
            let before = f64::from(x) - *mean;
            *mean += before / count;
            *square += before * (f64::from(x) - *mean);
        }
        for frame in frames.chunks_exact(FRAME_VALUES) {
            self.frames += 1;
            for (sum, &level) in self.levels.iter_mut().zip(&frame[..N_MELS]) {
                *sum += f64::from(level);
            }
            if frame[VOICED] > 0.0 {
                self.voiced += 1;
                self.pitch += f64::from(frame[N_MELS]);
            }
        }
        self.seconds += (frames.len() / FRAME_VALUES) as f64 / 100.0;
    }

    /// Number of recordings.
    pub fn recordings(&self) -> u32 {
        self.recordings
    }

    /// Adds the recordings of another builder.
    pub fn merge(&mut self, other: &Self) {
        if other.segments == 0 {
            return;
        }
        let (own, added) = (f64::from(self.segments), f64::from(other.segments));
        let all = own + added;
        let values = self.mean.iter_mut().zip(&mut self.squares);
        let other_values = other.mean.iter().zip(&other.squares);
        for ((mean, square), (&other_mean, &other_square)) in values.zip(other_values) {
            let difference = other_mean - *mean;
            *mean += difference * added / all;
            *square += other_square + difference * difference * own * added / all;
        }
        self.recordings += other.recordings;
        self.segments += other.segments;
        self.seconds += other.seconds;
        for (sum, &level) in self.levels.iter_mut().zip(&other.levels) {
            *sum += level;
        }
        self.frames += other.frames;
        self.pitch += other.pitch;
        self.voiced += other.voiced;
    }

    /// Returns a builder without the recordings of `part`, all of which this builder contains.
    #[must_use]
    pub fn without(&self, part: &Self) -> Self {
        if part.segments == 0 {
            return self.clone();
        }
        if self.segments <= part.segments {
            return Self::default();
        }
        let (all, removed) = (f64::from(self.segments), f64::from(part.segments));
        let left = all - removed;
        let values = self.mean.iter().zip(&self.squares);
        let parts = part.mean.iter().zip(&part.squares);
        let remaining = values
            .zip(parts)
            .map(|((mean, square), (part_mean, part_square))| {
                let left_mean = mean + (mean - part_mean) * removed / left;
                let difference = part_mean - left_mean;
                let shared = difference * difference * left * removed / all;
                // Rounding may give a negative sum of squares if all segments are equal.
                (left_mean, (square - part_square - shared).max(0.0))
            });
        let (mean, squares) = remaining.unzip();
        let levels = self.levels.iter().zip(&part.levels);
        Self {
            recordings: self.recordings - part.recordings,
            segments: self.segments - part.segments,
            seconds: self.seconds - part.seconds,
            mean,
            squares,
            levels: levels.map(|(all, part)| all - part).collect(),
            frames: self.frames - part.frames,
            pitch: self.pitch - part.pitch,
            voiced: self.voiced - part.voiced,
        }
    }

    /// Makes the profile of the recordings so far, for the model whose bundle has the SHA-256 `model`.
    ///
    /// # Errors
    /// [`ProfileError::Empty`] if no recording contains voice.
    pub fn finish(&self, model: &str) -> Result<SpeakerProfile, ProfileError> {
        if self.segments == 0 {
            return Err(ProfileError::Empty);
        }
        let segments = f64::from(self.segments);
        let levels = self.levels.iter().map(|sum| sum / self.frames as f64);
        Ok(SpeakerProfile {
            format: FORMAT.into(),
            version: VERSION,
            model: model.into(),
            recordings: self.recordings,
            segments: self.segments,
            seconds: self.seconds,
            descriptors: Moments {
                mean: self.mean.clone(),
                deviation: self.squares.iter().map(|s| (s / segments).sqrt()).collect(),
            },
            frames: levels
                .chain([self.pitch / self.voiced.max(1) as f64])
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding error of sums of a few values around 1, added in another order.
    const ROUNDING: f64 = 1e-12;

    /// Recording of three segments with values that depend on `seed`.
    fn recording(seed: u32) -> ProfileBuilder {
        let mut builder = ProfileBuilder {
            recordings: 1,
            ..ProfileBuilder::default()
        };
        for segment in 0..3 {
            let value = |i: usize| ((i as f32 + 1.0) * (seed * 7 + segment + 1) as f32).sin();
            let descriptors: Vec<f32> = (0..STATS).map(value).collect();
            let mut frames: Vec<f32> = (0..4 * FRAME_VALUES).map(value).collect();
            for (i, frame) in frames.chunks_exact_mut(FRAME_VALUES).enumerate() {
                frame[VOICED] = (i % 2) as f32;
            }
            builder.add_segment(&descriptors, &frames);
        }
        builder
    }

    fn assert_close(a: &SpeakerProfile, b: &SpeakerProfile) {
        assert_eq!((a.recordings, a.segments), (b.recordings, b.segments));
        assert!((a.seconds - b.seconds).abs() < ROUNDING);
        let values = |p: &SpeakerProfile| {
            let moments = p.descriptors.mean.iter().chain(&p.descriptors.deviation);
            moments.chain(&p.frames).copied().collect::<Vec<f64>>()
        };
        for (a, b) in values(a).into_iter().zip(values(b)) {
            assert!((a - b).abs() < ROUNDING, "{a} {b}");
        }
    }

    #[test]
    fn removing_a_recording_leaves_the_other_recordings() {
        let all: Vec<ProfileBuilder> = (0..5).map(recording).collect();
        let sum = |of: &[usize]| {
            let mut sum = ProfileBuilder::default();
            of.iter().for_each(|&i| sum.merge(&all[i]));
            sum
        };
        let everything = sum(&[0, 1, 2, 3, 4]);
        assert_eq!(everything.recordings(), 5);
        let others = everything.without(&all[2]).finish("m").unwrap();
        assert_close(&others, &sum(&[0, 1, 3, 4]).finish("m").unwrap());
        let one = sum(&[3]).without(&all[3]);
        assert!(matches!(one.finish("m"), Err(ProfileError::Empty)));
        let nothing = everything.without(&ProfileBuilder::default());
        assert_eq!(
            nothing.finish("m").unwrap(),
            everything.finish("m").unwrap()
        );
    }

    #[test]
    fn equal_segments_leave_no_negative_variance() {
        let one = recording(1);
        let mut twice = one.clone();
        twice.merge(&one);
        assert_close(
            &twice.without(&one).finish("m").unwrap(),
            &one.finish("m").unwrap(),
        );
    }
}
