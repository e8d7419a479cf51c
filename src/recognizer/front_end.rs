//! The front end of a model: from a recording to the networks' inputs, and from their outputs to the
//! prediction. No network is needed, so it can run while the networks are being loaded.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::networks::{NetworkInputs, NetworkOutputs};
use super::profile::SpeakerProfile;
use super::{RecognizeError, RecognizerError, legacy2020, utterance};
use crate::audio::{Defect, Recording};
use crate::model::{AgeScale, FrontEndKind, ModelInfo, SpeakerScale};
use crate::nn::DropoutMode;
use crate::parallelism::Parallelism;
use crate::prediction::{Age, Prediction, Warning};

/// Front end of a model, usable before the model's networks are loaded.
#[derive(Debug)]
pub struct FrontEnd {
    info: ModelInfo,
    kind: FrontEndKind,
    age: AgeScale,
    /// Made on first use.
    pipeline: OnceLock<Pipeline>,
}

/// Features of a recording, extracted by a [`FrontEnd`], without the recording's samples.
#[derive(Debug)]
pub struct ExtractedFeatures {
    pub(super) recording: RecordingInfo,
    pub(super) features: Features,
}

/// Pipeline of one kind of front end.
#[derive(Debug)]
enum Pipeline {
    Legacy2020(Box<legacy2020::Pipeline>),
    Utterance(Box<utterance::Pipeline>),
}

/// Features of one kind of front end.
#[derive(Debug)]
pub(super) enum Features {
    Legacy2020(Box<legacy2020::Features>),
    Utterance(Box<utterance::Features>),
}

/// Properties of a recording that a prediction reports, without its samples.
#[derive(Debug)]
pub(crate) struct RecordingInfo {
    /// [`Recording::seconds`]
    pub seconds: f64,
    /// [`Recording::clipped_fraction`]
    pub clipped_fraction: f64,
    pub sample_rate: u32,
    pub channels: u32,
    pub channel: Option<u32>,
    pub format: String,
    pub truncated: bool,
    pub damaged_packets: usize,
    pub defects: Vec<Defect>,
}

/// Voice shorter than this, in seconds, gives a warning.
const LITTLE_VOICE: f64 = 1.0;
/// A larger share of full-scale samples gives a warning. A smaller one may be true peaks.
const CLIPPED_SHARE: f64 = 0.001;

impl FrontEnd {
    /// Creates the front end of the model that `info` describes.
    ///
    /// # Errors
    /// [`RecognizerError::NotSpeech`]
    pub fn new(info: &ModelInfo) -> Result<Self, RecognizerError> {
        let not_speech = || RecognizerError::NotSpeech(info.name.clone());
        Ok(Self {
            info: info.clone(),
            kind: info.front_end.ok_or_else(not_speech)?,
            age: info.age.ok_or_else(not_speech)?,
            pipeline: OnceLock::new(),
        })
    }

    fn pipeline(&self) -> &Pipeline {
        let (info, age) = (&self.info, self.age);
        self.pipeline.get_or_init(|| match self.kind {
            FrontEndKind::Legacy2020 => {
                Pipeline::Legacy2020(Box::new(legacy2020::Pipeline::new(info, age)))
            }
            FrontEndKind::Utterance => {
                Pipeline::Utterance(Box::new(utterance::Pipeline::new(info, age)))
            }
        })
    }

    /// Kind of the front end.
    #[cfg(feature = "cuda")]
    pub(super) fn kind(&self) -> FrontEndKind {
        self.kind
    }

    /// Pipeline of the system of 2020, if this is its front end.
    #[cfg(feature = "cuda")]
    pub(super) fn legacy2020(&self) -> Option<&legacy2020::Pipeline> {
        match self.pipeline() {
            Pipeline::Legacy2020(pipeline) => Some(pipeline),
            Pipeline::Utterance(_) => None,
        }
    }

    /// Pipeline of the utterance front end, if this is it.
    #[cfg(feature = "cuda")]
    pub(super) fn utterance(&self) -> Option<&utterance::Pipeline> {
        match self.pipeline() {
            Pipeline::Legacy2020(_) => None,
            Pipeline::Utterance(pipeline) => Some(pipeline),
        }
    }

    /// Extracts the features of a decoded recording and frees its samples as early as possible; `name`
    /// stands for the recording in errors.
    ///
    /// # Errors
    /// The recording cannot be analysed; the message names it and a remedy.
    pub fn extract(
        &self,
        recording: Recording,
        name: &str,
    ) -> Result<ExtractedFeatures, RecognizeError> {
        self.extract_with(Cow::Owned(recording), name, Parallelism::No)
    }

    /// [`FrontEnd::extract`] on all idle threads of the current rayon pool. The features are the same.
    ///
    /// # Errors
    /// As [`FrontEnd::extract`].
    pub fn extract_with_spare_threads(
        &self,
        recording: Recording,
        name: &str,
    ) -> Result<ExtractedFeatures, RecognizeError> {
        self.extract_with(Cow::Owned(recording), name, Parallelism::Yes)
    }

    /// [`FrontEnd::extract`] of an owned or borrowed recording.
    pub(crate) fn extract_with(
        &self,
        recording: Cow<'_, Recording>,
        name: &str,
        parallelism: Parallelism,
    ) -> Result<ExtractedFeatures, RecognizeError> {
        Ok(ExtractedFeatures {
            recording: RecordingInfo::of(&recording),
            features: self.features(recording, name, parallelism)?,
        })
    }

    /// Whether `info` describes the model of this front end.
    pub(super) fn is_for(&self, info: &ModelInfo) -> bool {
        self.info == *info
    }

    pub(super) fn features(
        &self,
        recording: Cow<'_, Recording>,
        name: &str,
        parallelism: Parallelism,
    ) -> Result<Features, RecognizeError> {
        Ok(match self.pipeline() {
            Pipeline::Legacy2020(pipeline) => {
                Features::Legacy2020(Box::new(pipeline.extract(recording, name, parallelism)?))
            }
            Pipeline::Utterance(pipeline) => {
                Features::Utterance(Box::new(pipeline.extract(recording, name, parallelism)?))
            }
        })
    }

    /// Population statistics for speaker profiles, if the model accepts profiles.
    pub(super) fn speaker(&self) -> Option<&SpeakerScale> {
        match self.pipeline() {
            Pipeline::Legacy2020(_) => None,
            Pipeline::Utterance(pipeline) => pipeline.speaker(),
        }
    }

    /// Makes the prediction from the networks' outputs for each segment; `None` stands for a segment
    /// without speech.
    ///
    /// # Panics
    /// The features are of another kind of front end.
    pub(super) fn prediction(
        &self,
        recording: &RecordingInfo,
        features: &Features,
        mut outputs: Vec<Option<NetworkOutputs>>,
        dropout: &DropoutMode,
    ) -> Prediction {
        match (self.pipeline(), features) {
            (Pipeline::Legacy2020(pipeline), Features::Legacy2020(features)) => {
                let outputs = outputs.pop().flatten();
                let outputs = outputs.expect("a recording of this front end is a single segment");
                pipeline.prediction(recording, features.known(), outputs, dropout)
            }
            (Pipeline::Utterance(pipeline), Features::Utterance(features)) => {
                pipeline.prediction(recording, features, outputs, dropout)
            }
            _ => panic!("the features are of another model's front end"),
        }
    }
}

impl Features {
    /// Number of segments.
    pub(super) fn segments(&self) -> usize {
        match self {
            Self::Legacy2020(_) => 1,
            Self::Utterance(features) => features.segments().len(),
        }
    }

    /// Returns the networks' inputs of each segment.
    pub(super) fn network_inputs(&self) -> Vec<NetworkInputs<'_>> {
        match self {
            Self::Legacy2020(features) => vec![features.network_inputs()],
            Self::Utterance(features) => features.network_inputs().collect(),
        }
    }

    /// Makes the inputs of the emotion networks relative to a speaker.
    pub(super) fn adapt(&mut self, profile: &SpeakerProfile, scale: &SpeakerScale) {
        if let Self::Utterance(features) = self {
            features.adapt(profile, scale);
        }
    }

    /// Makes the inputs of the emotion networks relative to the population again.
    pub(super) fn remove_profile(&mut self) {
        if let Self::Utterance(features) = self {
            features.remove_profile();
        }
    }
}

impl RecordingInfo {
    pub(super) fn of(recording: &Recording) -> Self {
        Self {
            seconds: recording.seconds(),
            clipped_fraction: recording.clipped_fraction(),
            sample_rate: recording.sample_rate,
            channels: recording.channels,
            channel: recording.channel,
            format: recording.format.clone(),
            truncated: recording.truncated,
            damaged_packets: recording.damaged_packets,
            defects: recording.defects.clone(),
        }
    }
}

/// Returns the warnings that both front ends share: about the recording, its `voiced` seconds and the age.
pub(super) fn general_warnings(
    recording: &RecordingInfo,
    voiced: f64,
    age: &Age,
    scale: &AgeScale,
) -> Vec<Warning> {
    let clipped = recording.clipped_fraction;
    let mut warnings = Vec::new();
    if voiced == 0.0 {
        warnings.push(Warning::NoVoice);
    } else if voiced < LITTLE_VOICE {
        warnings.push(Warning::LittleVoice { seconds: voiced });
    }
    if clipped > CLIPPED_SHARE {
        warnings.push(Warning::Clipped { fraction: clipped });
    }
    if let Some(range) = scale.valid
        && !(range[0]..=range[1]).contains(&age.years)
    {
        warnings.push(Warning::AgeOutOfRange {
            years: age.years,
            range,
        });
    }
    if recording.truncated {
        warnings.push(Warning::Truncated);
    }
    if recording.damaged_packets > 0 {
        warnings.push(Warning::Damaged {
            packets: recording.damaged_packets,
        });
    }
    warnings.extend(recording.defects.iter().cloned().map(Warning::File));
    warnings
}
