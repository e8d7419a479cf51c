//! What is said about one recording.

use std::ops::Range;

use crate::audio::Defect;
use crate::nn::DropoutMode;

/// A mean over draws and its sample standard deviation (0 for a single draw).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Over the draws.
    pub mean: f64,
    /// Divided by one less than the number of draws; in the unit of the mean.
    pub std: f64,
}

/// The answer for one recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// One weight per emotion, in the order of [`ModelInfo::emotions`]; the means sum to 1.
    ///
    /// [`ModelInfo::emotions`]: crate::model::ModelInfo::emotions
    pub emotions: Vec<Estimate>,
    /// From the windows alone: no draw changes it.
    pub age: Age,
    /// One weight in [0, 1] per gender, in the order of [`ModelInfo::genders`]: the mean over the
    /// windows of independent sigmoids, so their sum is only close to 1.
    ///
    /// [`ModelInfo::genders`]: crate::model::ModelInfo::genders
    pub gender: Vec<f64>,
    /// The stretches of speech that were answered one by one, in order; at least one. The answer for
    /// the recording is their mean, by the seconds of voice in each. A model that reads a recording
    /// as a whole gives a single one.
    pub segments: Vec<Segment>,
    /// What the window networks said about each stretch of time.
    pub windows: Vec<Window>,
    /// What was analysed, and how much of it is speech.
    pub voice: Voice,
    /// Whom the emotions are relative to, if a speaker profile was given.
    pub speaker: Option<Speaker>,
    /// Reasons to trust the answer less; usually none.
    pub warnings: Vec<Warning>,
    /// How forced dropout was treated.
    pub dropout: DropoutMode,
}

impl Prediction {
    /// Index of the largest emotion weight.
    pub fn strongest_emotion(&self) -> usize {
        let means = self.emotions.iter().map(|e| e.mean).enumerate();
        means
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(0, |(i, _)| i)
    }
}

/// How old the speaker sounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Age {
    /// In years: the mean over the windows, or the estimate from the whole recording.
    pub years: f64,
    /// Standard deviation over the windows, in years (0 for a single window); `None` if the model
    /// estimates from the whole recording at once.
    pub spread: Option<f64>,
    /// Mean absolute error on unknown speakers that the model states, in years.
    pub error: Option<f64>,
    /// Where the age lies, if the model predicts an interval.
    pub interval: Option<AgeInterval>,
}

/// Years between which the true age lies as often as `coverage` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgeInterval {
    /// In years.
    pub low: f64,
    /// In years.
    pub high: f64,
    /// Share of unknown speakers whose age lies in theirs, 0 to 1.
    pub coverage: f64,
}

/// What a speaker profile was made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speaker {
    /// Recordings of the speaker.
    pub recordings: u32,
    /// Their speech, in seconds.
    pub seconds: f64,
}

/// A stretch of speech with its own answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Where it lies in the recording's own time, in seconds.
    pub time: Range<f64>,
    /// Seconds of voice in it.
    pub voiced: f64,
    /// As [`Prediction::emotions`].
    pub emotions: Vec<Estimate>,
    /// As [`Prediction::age`].
    pub age: Age,
    /// As [`Prediction::gender`].
    pub gender: Vec<f64>,
    /// Its windows among [`Prediction::windows`].
    pub windows: Range<usize>,
}

/// The groups that the original answer distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgeGroup {
    /// Less than 20 years.
    Under20,
    /// At least 20 and less than 30 years.
    From20To29,
    /// At least 30 and less than 40 years.
    From30To39,
    /// 40 years or more.
    From40,
}

impl Age {
    /// The group of the mean age, which is not rounded first.
    pub fn group(self) -> AgeGroup {
        match self.years {
            years if years >= 40.0 => AgeGroup::From40,
            years if years >= 30.0 => AgeGroup::From30To39,
            years if years >= 20.0 => AgeGroup::From20To29,
            _ => AgeGroup::Under20,
        }
    }
}

/// One window of 2 s (less at the end of a short recording).
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Where it lies in the recording's own time, in seconds.
    pub time: Range<f64>,
    /// Of a model of 2020, the window network's emotion weights before they are merged with the feature
    /// network's; otherwise the window's merged with the features of its segment.
    pub emotions: Vec<f64>,
    /// In years; `None` if the model estimates age from the whole recording.
    pub age: Option<f64>,
    /// In the order of [`Prediction::gender`]; empty if the model estimates gender from the whole recording.
    pub gender: Vec<f64>,
    /// How much the emotion window network attended to each part of the window; `None` if it has
    /// no attention pool.
    pub attention: Option<Attention>,
}

/// How attention is spread over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Seconds that one weight covers.
    pub cell: f64,
    /// From the window's start on; they sum to 1 over the full window.
    pub weights: Vec<f64>,
}

/// What part of a recording was heard as voice.
#[derive(Debug, Clone, PartialEq)]
pub struct Voice {
    /// Duration of the recording in seconds.
    pub duration: f64,
    /// Of the file, in Hz.
    pub sample_rate: u32,
    /// Of the file; the mean of all is analysed, unless one is chosen.
    pub channels: u32,
    /// The one that was chosen, from 1; `None` for the mean of all.
    pub channel: Option<u32>,
    /// Container and encoding of the file.
    pub format: String,
    /// The analysed part, in seconds.
    pub analysed: Range<f64>,
    /// Whether silence was cut off at the ends; if not, all of the recording was analysed.
    pub trimmed: bool,
    /// Stretches heard as speech, in seconds.
    pub speech: Vec<Range<f64>>,
    /// How much of the analysed part was heard as speech, in seconds.
    pub voiced: f64,
}

/// Something about a recording that makes its answer less certain.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Warning {
    /// Too little speech for the networks, which look at windows of 2 s.
    #[error("only {seconds:.2} s of voice; estimates need about 1 s or more")]
    LittleVoice {
        /// Speech in the analysed part.
        seconds: f64,
    },
    /// The voice detector heard no speech in the analysed part.
    #[error("no voice was found; the answer describes whatever is in the recording")]
    NoVoice,
    /// The level was too high when it was recorded or exported: record it again with less.
    #[error("{:.1}% of the samples are at full scale; the recording is clipped", fraction * 100.0)]
    Clipped {
        /// Share of the samples at full scale, 0 to 1.
        fraction: f64,
    },
    /// Longer than the 15 s that the window networks look at; only the feature network hears all of
    /// it.
    #[error("{seconds:.1} s of voice; age, gender and timeline come from its first 15 s")]
    Long {
        /// Length of the analysed part.
        seconds: f64,
    },
    /// Only for models that state their ages, [`AgeScale::valid`](crate::model::AgeScale::valid).
    #[error("the estimated age {years:.0} is outside the {}-{} years that the model was made for", range[0], range[1])]
    AgeOutOfRange {
        /// [`Age::years`].
        years: f64,
        /// Youngest and oldest age, in years.
        range: [f64; 2],
    },
    /// Of a model that states what its largest weight has to be at least.
    #[error("the model is unsure: no emotion has a weight over {:.0}%", probability * 100.0)]
    Unsure {
        /// The largest emotion weight, 0 to 1.
        probability: f64,
    },
    /// The file promises more audio than it holds.
    #[error("the file is cut short; what is there was analysed")]
    Truncated,
    /// Compressed audio that could not be decoded in places.
    #[error("{packets} packets of the file are damaged and were left out")]
    Damaged {
        /// How many were left out.
        packets: usize,
    },
    /// Something else about the file.
    #[error(transparent)]
    File(#[from] Defect),
}

impl Warning {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::LittleVoice { .. } => "little_voice",
            Self::NoVoice => "no_voice",
            Self::Clipped { .. } => "clipped",
            Self::Long { .. } => "long",
            Self::AgeOutOfRange { .. } => "age_out_of_range",
            Self::Unsure { .. } => "unsure",
            Self::Truncated => "truncated",
            Self::Damaged { .. } => "damaged",
            Self::File(Defect::Header { .. }) => "header",
            Self::File(Defect::LeftOut { .. }) => "left_out",
            Self::File(Defect::ChannelsCancel { .. }) => "channels_cancel",
        }
    }
}
