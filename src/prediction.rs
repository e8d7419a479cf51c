//! Estimates for one recording.

use std::ops::Range;

use crate::audio::Defect;
use crate::nn::DropoutMode;

/// Mean over draws and their sample standard deviation (0 for a single draw).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Mean over the draws.
    pub mean: f64,
    /// Sample standard deviation, in the unit of the mean: the divisor is the number of draws minus
    /// one.
    pub std: f64,
}

/// Result for one recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// One weight per emotion, in the order of [`ModelInfo::emotions`]; the means sum to 1.
    ///
    /// [`ModelInfo::emotions`]: crate::model::ModelInfo::emotions
    pub emotions: Vec<Estimate>,
    /// Age of the speaker; independent of the draws.
    pub age: Age,
    /// One weight in [0, 1] per gender, in the order of [`ModelInfo::genders`].
    ///
    /// Each weight is the mean over the windows of an independent sigmoid, so the sum is only close
    /// to 1.
    ///
    /// [`ModelInfo::genders`]: crate::model::ModelInfo::genders
    pub gender: Vec<f64>,
    /// Segments of speech with their own estimates, in order; at least one.
    ///
    /// The estimates for the recording are the segments' mean, weighted by voiced seconds. A model
    /// that does not divide recordings has a single segment.
    pub segments: Vec<Segment>,
    /// Estimates per window.
    pub windows: Vec<Window>,
    /// Analysed part and its speech.
    pub voice: Voice,
    /// Speaker profile that the emotions are relative to, if one was given.
    pub speaker: Option<Speaker>,
    /// Reasons for less confidence in the estimates; usually none.
    pub warnings: Vec<Warning>,
    /// Mode of forced dropout.
    pub dropout: DropoutMode,
}

impl Prediction {
    /// Returns the index of the largest emotion weight.
    pub fn strongest_emotion(&self) -> usize {
        let means = self.emotions.iter().map(|e| e.mean).enumerate();
        means
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(0, |(i, _)| i)
    }

    /// Adds `start` seconds to all times, which turns the times of a part that starts there into those of the whole
    /// recording.
    pub fn shift(&mut self, start: f64) {
        let spans = self.voice.speech.iter_mut();
        for span in spans
            .chain([&mut self.voice.analysed])
            .chain(self.windows.iter_mut().map(|w| &mut w.time))
            .chain(self.segments.iter_mut().map(|s| &mut s.time))
        {
            *span = span.start + start..span.end + start;
        }
    }
}

/// Age that the speaker sounds like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Age {
    /// Age in years: the mean over the windows, or the estimate from the whole recording.
    pub years: f64,
    /// Standard deviation over the windows, in years (0 for a single window); `None` if the model
    /// estimates age from the whole recording.
    pub spread: Option<f64>,
    /// Mean absolute error on unknown speakers in years, if stated by the model.
    pub error: Option<f64>,
    /// Interval of the age, if the model predicts one.
    pub interval: Option<AgeInterval>,
}

/// Interval that contains the true age with the probability `coverage`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgeInterval {
    /// Lower bound in years.
    pub low: f64,
    /// Upper bound in years.
    pub high: f64,
    /// Share of unknown speakers whose age is in their interval, 0 to 1.
    pub coverage: f64,
}

/// Source of a speaker profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speaker {
    /// Number of recordings of the speaker.
    pub recordings: u32,
    /// Seconds of speech in these recordings.
    pub seconds: f64,
}

/// Segment of speech with its own estimates.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Start and end in the recording, in seconds.
    pub time: Range<f64>,
    /// Voiced seconds in the segment.
    pub voiced: f64,
    /// Emotion weights, like [`Prediction::emotions`].
    pub emotions: Vec<Estimate>,
    /// Age, like [`Prediction::age`].
    pub age: Age,
    /// Gender weights, like [`Prediction::gender`].
    pub gender: Vec<f64>,
    /// Indices of its windows in [`Prediction::windows`].
    pub windows: Range<usize>,
}

/// Age groups of the 2020 system.
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
    /// Returns the group of the age without rounding it first.
    pub fn group(self) -> AgeGroup {
        match self.years {
            years if years >= 40.0 => AgeGroup::From40,
            years if years >= 30.0 => AgeGroup::From30To39,
            years if years >= 20.0 => AgeGroup::From20To29,
            _ => AgeGroup::Under20,
        }
    }
}

/// Estimates for one window of 2 s (less at the end of a short recording).
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Start and end in the recording, in seconds.
    pub time: Range<f64>,
    /// Emotion weights.
    ///
    /// A model of 2020 has the window network's weights before they are merged with the feature
    /// network's. Other models have the window's weights merged with the features of its segment.
    pub emotions: Vec<f64>,
    /// Age in years; `None` if the model estimates age from the whole recording.
    pub age: Option<f64>,
    /// Weights in the order of [`Prediction::gender`]; empty if the model estimates gender from the
    /// whole recording.
    pub gender: Vec<f64>,
    /// Attention of the emotion window network; `None` if it has no attention pool.
    pub attention: Option<Attention>,
}

/// Attention weights over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Seconds per weight.
    pub cell: f64,
    /// Weights from the window's start on; they sum to 1 over the full window.
    pub weights: Vec<f64>,
}

/// Audio properties, analysed part and speech of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Voice {
    /// Duration of the recording in seconds.
    pub duration: f64,
    /// Sample rate of the file in Hz.
    pub sample_rate: u32,
    /// Number of channels of the file; their mean is analysed unless one is selected.
    pub channels: u32,
    /// Selected channel, from 1; `None` for the mean of all.
    pub channel: Option<u32>,
    /// Container and encoding of the file.
    pub format: String,
    /// Analysed part, in seconds.
    pub analysed: Range<f64>,
    /// True if silence at the ends was trimmed; otherwise the whole recording is analysed.
    pub trimmed: bool,
    /// Stretches of speech, in seconds.
    pub speech: Vec<Range<f64>>,
    /// Seconds of speech in the analysed part.
    pub voiced: f64,
}

/// Reason for less confidence in the estimates.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// Speech is too short for the networks, whose windows are 2 s long.
    #[error("only {seconds:.2} s of voice; estimates need about 1 s or more")]
    LittleVoice {
        /// Seconds of speech in the analysed part.
        seconds: f64,
    },
    /// The voice activity detector found no speech in the analysed part.
    #[error("no voice was found; the answer describes whatever is in the recording")]
    NoVoice,
    /// The level was too high at recording or export.
    #[error("{:.1}% of the samples are at full scale; the recording is clipped", fraction * 100.0)]
    Clipped {
        /// Share of the samples at full scale, 0 to 1.
        fraction: f64,
    },
    /// The recording is longer than the 15 s that the window networks analyse; only the feature
    /// network covers all of it.
    #[error("{seconds:.1} s of voice; age, gender and timeline come from its first 15 s")]
    Long {
        /// Length of the analysed part in seconds.
        seconds: f64,
    },
    /// The estimated age is outside [`AgeScale::valid`](crate::model::AgeScale::valid); only for models that
    /// state that range.
    #[error("the estimated age {years:.0} is outside the {}-{} years that the model was made for", range[0], range[1])]
    AgeOutOfRange {
        /// Estimated age, [`Age::years`].
        years: f64,
        /// Youngest and oldest age in years.
        range: [f64; 2],
    },
    /// The largest weight is below the threshold that the model states.
    #[error("the model is unsure: no emotion has a weight over {:.0}%", probability * 100.0)]
    Unsure {
        /// Largest emotion weight, 0 to 1.
        probability: f64,
    },
    /// The file is shorter than its header states.
    #[error("the file is cut short; what is there was analysed")]
    Truncated,
    /// Some packets of compressed audio could not be decoded.
    #[error("{packets} packets of the file are damaged and were left out")]
    Damaged {
        /// Number of skipped packets.
        packets: usize,
    },
    /// Defect of the file.
    #[error(transparent)]
    File(#[from] Defect),
}

impl Warning {
    /// Returns the stable serialised name.
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
