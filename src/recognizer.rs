//! Recognition of emotion, age and gender: a recording becomes a [`Prediction`].

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::audio::Recording;
use crate::audio::decode::Defect;
use crate::front_end::AudioError;
use crate::front_end::FeatureError;
use crate::model::ModelInfo;
use crate::model::{Model, Role};
use crate::nn::{DropoutMode, GraphError, RunError};
use crate::parallelism::Parallelism;
use crate::prediction::Prediction;

#[cfg(feature = "cuda")]
pub(crate) use cuda::BatchSize;
#[cfg(feature = "cuda")]
pub use cuda::{
    DeviceFailure, DeviceLimits, DeviceOutcome, DeviceRecognizer, DeviceRecognizerError,
    NamedRecording, PendingPrediction,
};
pub use front_end::{ExtractedFeatures, FrontEnd};
use networks::{NetworkInputs, NetworkOutputs, Plans, Sessions};
pub use profile::{ProfileBuilder, ProfileError, SpeakerProfile};
use speech::{SpeechCheck, SpeechSession};

mod attention;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod front_end;
pub(crate) mod legacy2020;
mod networks;
mod per_role;
mod profile;
mod speech;
mod statistics;
pub(crate) mod utterance;

/// Error of recognising one recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecognizeError {
    /// The decoded recording cannot be analysed.
    #[error("{name}: {source}")]
    Audio {
        /// The caller's name of the recording.
        name: String,
        /// The fault of the recording and a remedy.
        source: AudioError,
    },
    /// The features cannot be computed.
    #[error("{name}: {source}")]
    Features {
        /// The caller's name of the recording.
        name: String,
        /// The fault of the signal and a remedy.
        source: FeatureError,
    },
    /// The recording contains sound, but no speech.
    #[error(
        "{name}: no speech was found in this recording{}",
        cause.as_ref().map(|cause| format!("; {cause}")).unwrap_or_default()
    )]
    NoSpeech {
        /// The caller's name of the recording.
        name: String,
        /// Possible cause: the recording's channels cancel each other.
        cause: Option<Defect>,
    },
    /// An output of a network is not finite.
    #[error("{name}: the {role} network gives no finite number for this recording")]
    NotFinite {
        /// The caller's name of the recording.
        name: String,
        /// Role of the network.
        role: Role,
    },
    /// The device that runs the networks fails.
    #[error("{name}: the networks gave no answer: {problem}")]
    Device {
        /// The caller's name of the recording.
        name: String,
        /// Message of the device.
        problem: String,
    },
    /// A network refuses the dropout masks because their shapes do not fit.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl RecognizeError {
    /// Returns the conversion of a front end's error for the recording `name`.
    fn audio(name: &str) -> impl FnOnce(AudioError) -> Self {
        let name = name.to_owned();
        |source| Self::Audio { name, source }
    }

    /// Converts a device's error for the recording `name`.
    #[cfg(feature = "cuda")]
    fn device(name: &str, error: &crate::nn::cuda::CudaRunError) -> Self {
        match error {
            crate::nn::cuda::CudaRunError::Run(error) => Self::Run(error.clone()),
            crate::nn::cuda::CudaRunError::Device(error) => Self::Device {
                name: name.into(),
                problem: error.to_string(),
            },
        }
    }

    /// Returns the conversion of a feature extractor's error for the recording `name`.
    fn features(name: &str) -> impl FnOnce(FeatureError) -> Self {
        let name = name.to_owned();
        |source| Self::Features { name, source }
    }
}

/// Error of preparing a model for recognition.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecognizerError {
    /// The model of this name has no speech networks, no age scale or no front end.
    #[error(
        "the model {0:?} is no speech model: it was converted from a single network. Convert the five files (emotion windows, age, gender, emotion features, merge) into one bundle"
    )]
    NotSpeech(String),
    /// A network other than [`Role::EmotionFeatures`] has dropout that stays on. Draws are made of that
    /// network alone.
    #[error(
        "the model {model:?} has dropout that stays on in its {role} network; only the emotion_features network may have it"
    )]
    Dropout {
        /// [`ModelInfo::name`].
        model: String,
        /// Role of the network.
        role: Role,
    },
    /// A network cannot be planned for the shapes of its inputs.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Model prepared for recognition, shared between threads.
#[derive(Debug)]
pub struct Recognizer {
    model: Model,
    front_end: Arc<FrontEnd>,
    plans: Plans,
    speech: SpeechCheck,
    /// Mode of forced dropout of [`Recognizer::predict`] where its caller has none of its own.
    dropout: DropoutMode,
    /// Buffers of [`Recognizer::predict`] that no call uses at the moment.
    idle: Mutex<Vec<(Sessions, SpeechSession)>>,
    threads: Option<Arc<rayon::ThreadPool>>,
    #[cfg(feature = "cuda")]
    device: Option<cuda::DeviceQueue>,
}

/// Buffers that grew larger than this with a long recording are freed after use, in bytes.
const MOST_IDLE_BYTES: usize = 32 << 20;

impl Recognizer {
    /// Prepares a speech model.
    ///
    /// # Errors
    /// The model is no speech model (see [`Model::new`]), or a network other than
    /// [`Role::EmotionFeatures`] has dropout that stays on.
    pub fn new(model: Model) -> Result<Self, RecognizerError> {
        let front_end = FrontEnd::new(model.info())?;
        Self::with_front_end(model, Arc::new(front_end))
    }

    /// [`Recognizer::new`] with an existing front end. A front end of another model is replaced.
    ///
    /// # Errors
    /// As [`Recognizer::new`].
    pub fn with_front_end(model: Model, front_end: Arc<FrontEnd>) -> Result<Self, RecognizerError> {
        let info = model.info();
        let front_end = match front_end.is_for(info) {
            true => front_end,
            false => Arc::new(FrontEnd::new(info)?),
        };
        for role in Role::SPEECH {
            let network = model.network(role);
            let network = network.ok_or_else(|| RecognizerError::NotSpeech(info.name.clone()))?;
            if role != Role::EmotionFeatures && network.graph.is_stochastic() {
                return Err(RecognizerError::Dropout {
                    model: info.name.clone(),
                    role,
                });
            }
        }
        Ok(Self {
            plans: Plans::new(&model)?,
            speech: SpeechCheck::new(&model)?,
            model,
            front_end,
            dropout: DropoutMode::Off,
            idle: Mutex::default(),
            threads: None,
            #[cfg(feature = "cuda")]
            device: None,
        })
    }

    /// The model with all networks and their provenance.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Labels, scales and front end of the model.
    pub fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    /// Front end of the model.
    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }

    /// Sets the mode of forced dropout of [`Recognizer::recognize`](crate::library); off by default.
    #[must_use]
    pub fn with_dropout(mut self, dropout: DropoutMode) -> Self {
        self.dropout = dropout;
        self
    }

    /// Mode of forced dropout where a call has none of its own.
    pub fn dropout(&self) -> &DropoutMode {
        &self.dropout
    }

    /// Sets the threads for many recordings.
    pub(crate) fn with_threads(mut self, threads: Arc<rayon::ThreadPool>) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Threads for many recordings; the global pool if there are none.
    pub(crate) fn threads(&self) -> Option<&rayon::ThreadPool> {
        self.threads.as_deref()
    }

    /// Recognises a recording with buffers that calls share one after the other.
    ///
    /// # Errors
    /// As [`Worker::recognize`].
    pub(crate) fn predict(
        &self,
        recording: &Recording,
        name: &str,
        options: Options,
    ) -> Result<Prediction, RecognizeError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let (sessions, speech) =
            taken.unwrap_or_else(|| (self.plans.sessions(), self.speech.session()));
        let mut worker = Worker {
            recognizer: self,
            sessions,
            speech,
        };
        let outcome = worker.recognize(recording, name, options);
        if worker.held_bytes() <= MOST_IDLE_BYTES {
            idle().push((worker.sessions, worker.speech));
        }
        outcome
    }

    /// Creates the buffers for one thread.
    pub fn worker(&self) -> Worker<'_> {
        Worker {
            recognizer: self,
            sessions: self.plans.sessions(),
            speech: self.speech.session(),
        }
    }

    /// Makes a speaker profile of recordings from which this model's [`FrontEnd`] has extracted features.
    ///
    /// # Errors
    /// No recording contains voice, or the model accepts no profiles.
    pub fn profile(&self, builder: &ProfileBuilder) -> Result<SpeakerProfile, ProfileError> {
        if self.front_end.speaker().is_none() {
            return Err(ProfileError::Unsupported(self.info().name.clone()));
        }
        builder.finish(self.model.identity())
    }

    /// Checks that a profile was made with this model.
    ///
    /// # Errors
    /// The profile was made with another model, or the model accepts no profiles.
    pub fn check_profile(&self, profile: &SpeakerProfile) -> Result<(), ProfileError> {
        if self.front_end.speaker().is_none() {
            return Err(ProfileError::Unsupported(self.info().name.clone()));
        }
        match profile.model() == self.model.identity() {
            true => Ok(()),
            false => Err(ProfileError::OtherModel {
                made_with: profile.model().into(),
                model: self.model.identity().into(),
            }),
        }
    }

    /// Dropout mode in effect: off for a model without dropout that stays on.
    pub(crate) fn effective_dropout<'a>(&self, dropout: &'a DropoutMode) -> &'a DropoutMode {
        match self.plans.is_stochastic() {
            true => dropout,
            false => &DropoutMode::Off,
        }
    }
}

/// Options of recognising one recording.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Treatment of dropout that a model keeps on.
    pub dropout: &'a DropoutMode,
    /// Profile of the speaker, accepted by [`Recognizer::check_profile`]; `None` for emotions relative to
    /// the population.
    pub profile: Option<&'a SpeakerProfile>,
}

impl<'a> From<&'a DropoutMode> for Options<'a> {
    /// Options without a speaker profile.
    fn from(dropout: &'a DropoutMode) -> Self {
        Self {
            dropout,
            profile: None,
        }
    }
}

/// A [`Recognizer`] with the buffers of one thread.
#[derive(Debug)]
pub struct Worker<'r> {
    recognizer: &'r Recognizer,
    sessions: Sessions,
    speech: SpeechSession,
}

impl Worker<'_> {
    /// Runs the networks of one recording in parallel, on the threads of the current rayon pool. This is
    /// faster if there are fewer recordings than threads; predictions are the same.
    #[must_use]
    pub fn with_spare_threads(mut self) -> Self {
        self.sessions.parallelism = Parallelism::Yes;
        self
    }

    /// Bytes of all buffers. Buffers grow with the longest recording and never shrink: replace a worker
    /// after a very long recording.
    pub fn held_bytes(&self) -> usize {
        self.sessions.held_bytes() + self.speech.held_bytes()
    }

    /// Recognises a decoded recording; `name` stands for it in errors.
    ///
    /// # Errors
    /// The recording cannot be analysed; the message names it and a remedy.
    pub fn recognize<'a>(
        &mut self,
        recording: &Recording,
        name: &str,
        options: impl Into<Options<'a>>,
    ) -> Result<Prediction, RecognizeError> {
        self.recognize_cow(Cow::Borrowed(recording), name, options.into())
    }

    /// [`Worker::recognize`] for an owned recording. Its samples are freed once they are resampled.
    ///
    /// # Errors
    /// As [`Worker::recognize`].
    pub fn recognize_owned<'a>(
        &mut self,
        recording: Recording,
        name: &str,
        options: impl Into<Options<'a>>,
    ) -> Result<Prediction, RecognizeError> {
        self.recognize_cow(Cow::Owned(recording), name, options.into())
    }

    fn recognize_cow(
        &mut self,
        recording: Cow<'_, Recording>,
        name: &str,
        options: Options,
    ) -> Result<Prediction, RecognizeError> {
        let recognizer = self.recognizer;
        #[cfg(feature = "cuda")]
        if let Some(device) = &recognizer.device {
            let floats = recognizer.floats_on_device(&recording);
            let recording = cuda::NamedRecording {
                recording: recording.into_owned(),
                name: name.to_owned(),
                profile: options.profile.cloned().map(Arc::new),
            };
            return device.recognize(recording, floats, options.dropout);
        }
        let parallelism = self.sessions.parallelism;
        let mut features = recognizer
            .front_end
            .extract_with(recording, name, parallelism)?;
        self.recognize_features(&mut features, name, options)
    }

    /// Runs the networks on features from a [`FrontEnd`] of the same model. The features can be used
    /// again, for example with another profile.
    ///
    /// # Errors
    /// As [`Worker::recognize`].
    ///
    /// # Panics
    /// The features are of another kind of front end.
    pub fn recognize_features<'a>(
        &mut self,
        features: &mut ExtractedFeatures,
        name: &str,
        options: impl Into<Options<'a>>,
    ) -> Result<Prediction, RecognizeError> {
        let ExtractedFeatures {
            recording,
            features,
        } = features;
        let Options { dropout, profile } = options.into();
        let is_speech = self.speech.check(features, &recording.defects, name)?;
        match (profile, self.recognizer.front_end.speaker()) {
            (Some(profile), Some(scale)) => features.adapt(profile, scale),
            _ => features.remove_profile(),
        }
        let mut outputs = Vec::with_capacity(is_speech.len());
        for (inputs, is_speech) in features.network_inputs().iter().zip(is_speech) {
            outputs.push(match is_speech {
                true => Some(self.run(inputs, dropout, name)?),
                false => None,
            });
        }
        let dropout = self.recognizer.effective_dropout(dropout);
        let front_end = &self.recognizer.front_end;
        front_end.prediction(recording, name, features.analysis(), outputs, dropout)
    }

    /// Adds the speech of a recording to the statistics of its speaker. A recording that
    /// [`Worker::recognize`] refuses as no speech is refused here as well.
    ///
    /// # Errors
    /// [`RecognizeError::NoSpeech`], or a failure of the speech network.
    pub fn add_to_profile(
        &mut self,
        builder: &mut ProfileBuilder,
        features: &ExtractedFeatures,
        name: &str,
    ) -> Result<(), RecognizeError> {
        let ExtractedFeatures {
            recording,
            features,
        } = features;
        let is_speech = self.speech.check(features, &recording.defects, name)?;
        builder.add(features, &is_speech);
        Ok(())
    }

    /// Runs the networks on one segment, on the device if there is one.
    fn run(
        &mut self,
        inputs: &NetworkInputs,
        dropout: &DropoutMode,
        name: &str,
    ) -> Result<NetworkOutputs, RecognizeError> {
        #[cfg(feature = "cuda")]
        if let Some(device) = &self.recognizer.device {
            return device.run(inputs, dropout, name);
        }
        #[cfg(not(feature = "cuda"))]
        let _ = name;
        Ok(self.sessions.run(inputs, dropout)?)
    }
}

/// Returns row `row` of an output in `f64`.
fn row(output: &[f32], row: usize, width: usize) -> Vec<f64> {
    output[row * width..][..width]
        .iter()
        .map(|&x| f64::from(x))
        .collect()
}
