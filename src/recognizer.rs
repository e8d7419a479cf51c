//! From one recording to one [`Prediction`].

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
pub use cuda::{DeviceLimits, DeviceRecognizer, DeviceRecognizerError, NamedRecording, Outcomes};
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
mod profile;
mod speech;
mod statistics;
pub(crate) mod utterance;

/// Why a recording has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RecognizeError {
    /// What was decoded cannot be analysed.
    #[error("{name}: {source}")]
    Audio {
        /// What the caller calls the recording.
        name: String,
        /// What is wrong with the recording, and what to do.
        source: AudioError,
    },
    /// No features can be computed.
    #[error("{name}: {source}")]
    Features {
        /// What the caller calls the recording.
        name: String,
        /// What is wrong with the signal, and what to do.
        source: FeatureError,
    },
    /// The recording holds sound, but no speech.
    #[error(
        "{name}: no speech was found in this recording{}",
        cause.as_ref().map(|cause| format!("; {cause}")).unwrap_or_default()
    )]
    NoSpeech {
        /// What the caller calls the recording.
        name: String,
        /// Why there may be none, if the recording's channels cancel each other.
        cause: Option<Defect>,
    },
    /// The networks gave a number that is not finite.
    #[error("{name}: the {role} network gives no finite number for this recording")]
    NotFinite {
        /// What the caller calls the recording.
        name: String,
        /// Whose output it is.
        role: Role,
    },
    /// The device that the networks run on fails.
    #[error("{name}: the networks gave no answer: {problem}")]
    Device {
        /// What the caller calls the recording.
        name: String,
        /// What the device says.
        problem: String,
    },
    /// A network refuses to run, because the given dropout masks do not fit it.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl RecognizeError {
    /// For the recording `name`.
    fn audio(name: &str) -> impl FnOnce(AudioError) -> Self {
        let name = name.to_owned();
        |source| Self::Audio { name, source }
    }

    /// For the recording `name`.
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

    /// For the recording `name`.
    fn features(name: &str) -> impl FnOnce(FeatureError) -> Self {
        let name = name.to_owned();
        |source| Self::Features { name, source }
    }
}

/// Why a model cannot recognise speech.
#[derive(Debug, thiserror::Error)]
pub enum RecognizerError {
    /// The name of a model that has no speech networks, no age scale or no pre-processing.
    #[error(
        "the model {0:?} is no speech model: it was converted from a single network. Convert the five files (emotion windows, age, gender, emotion features, merge) into one bundle"
    )]
    NotSpeech(String),
    /// Forced dropout in a network that is computed once; draws are made of
    /// [`Role::EmotionFeatures`] alone.
    #[error(
        "the model {model:?} has dropout that stays on in its {role} network; only the emotion_features network may have it"
    )]
    Dropout {
        /// [`ModelInfo::name`].
        model: String,
        /// The network that has it.
        role: Role,
    },
    /// A network cannot be planned for its inputs' shapes.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// A model ready to recognise speech, shared between threads.
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
    /// When it is not one (see [`Model::new`]), or a network other than the emotion features' has
    /// forced dropout.
    pub fn new(model: Model) -> Result<Self, RecognizerError> {
        let front_end = FrontEnd::new(model.info())?;
        Self::with_front_end(model, Arc::new(front_end))
    }

    /// [`Recognizer::new`] with a front_end that is there already. One that was made for another
    /// model is replaced.
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

    /// All networks, with where they came from.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Labels, age scale and pre-processing of the model.
    pub fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    /// The model's front end.
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

    /// The buffers for one thread.
    pub fn worker(&self) -> Worker<'_> {
        Worker {
            recognizer: self,
            sessions: self.plans.sessions(),
            speech: self.speech.session(),
        }
    }

    /// Makes a profile of a speaker of recordings that this model's [`FrontEnd`] has analysed.
    ///
    /// # Errors
    /// If no recording has a voice, or the model takes no profiles.
    pub fn profile(&self, builder: &ProfileBuilder) -> Result<SpeakerProfile, ProfileError> {
        if self.front_end.speaker().is_none() {
            return Err(ProfileError::Unsupported(self.info().name.clone()));
        }
        builder.finish(self.model.identity())
    }

    /// Checks that a profile was made with this model.
    ///
    /// # Errors
    /// If it was made with another one, or the model takes no profiles.
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
    fn effective_dropout<'a>(&self, dropout: &'a DropoutMode) -> &'a DropoutMode {
        match self.plans.is_stochastic() {
            true => dropout,
            false => &DropoutMode::Off,
        }
    }
}

/// How a recording is recognised.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// What is done with dropout that a model forces on.
    pub dropout: &'a DropoutMode,
    /// Whom the emotions are relative to; one that [`Recognizer::check_profile`] accepts.
    pub profile: Option<&'a SpeakerProfile>,
}

impl<'a> From<&'a DropoutMode> for Options<'a> {
    /// Without a speaker profile.
    fn from(dropout: &'a DropoutMode) -> Self {
        Self {
            dropout,
            profile: None,
        }
    }
}

/// One thread's way through a [`Recognizer`].
#[derive(Debug)]
pub struct Worker<'r> {
    recognizer: &'r Recognizer,
    sessions: Sessions,
    speech: SpeechSession,
}

impl Worker<'_> {
    /// Lets the networks of one recording run side by side on the threads of the rayon pool that
    /// [`Worker::recognize`] is called in: for when there are fewer recordings than threads. The
    /// answers are the same.
    #[must_use]
    pub fn with_spare_threads(mut self) -> Self {
        self.sessions.parallelism = Parallelism::Yes;
        self
    }

    /// Bytes that the buffers take. They grow with the longest recording and stay: a worker that
    /// lives long is better replaced after a very long one.
    pub fn held_bytes(&self) -> usize {
        self.sessions.held_bytes() + self.speech.held_bytes()
    }

    /// The answer for a decoded recording; `name` stands for it in errors.
    ///
    /// # Errors
    /// When the recording cannot be analysed; the message names it and says what to do.
    pub fn recognize<'a>(
        &mut self,
        recording: &Recording,
        name: &str,
        options: impl Into<Options<'a>>,
    ) -> Result<Prediction, RecognizeError> {
        self.recognize_cow(Cow::Borrowed(recording), name, options.into())
    }

    /// [`Worker::recognize`] for a recording that nobody else needs: its samples are dropped as
    /// soon as they are at the front end's rate.
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
            let numbers = recognizer.numbers_on_device(&recording);
            return device.recognize(recording.into_owned(), numbers, name, options);
        }
        let parallelism = self.sessions.parallelism;
        let mut features = recognizer
            .front_end
            .extract_with(recording, name, parallelism)?;
        self.recognize_features(&mut features, name, options)
    }

    /// Runs the networks on features that a [`FrontEnd`] of the same model has extracted. The features
    /// can be used again, for example with another profile.
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
        Ok(front_end.prediction(recording, features, outputs, dropout))
    }

    /// Runs the networks on one segment and checks that the outputs are finite.
    fn run(
        &mut self,
        inputs: &NetworkInputs,
        dropout: &DropoutMode,
        name: &str,
    ) -> Result<NetworkOutputs, RecognizeError> {
        #[cfg(feature = "cuda")]
        let outputs = match &self.recognizer.device {
            Some(device) => device.run(inputs, dropout, name)?,
            None => self.sessions.run(inputs, dropout)?,
        };
        #[cfg(not(feature = "cuda"))]
        let outputs = self.sessions.run(inputs, dropout)?;
        outputs.check(name)?;
        Ok(outputs)
    }
}

/// Row `row` of an output, in `f64`.
fn row(output: &[f32], row: usize, width: usize) -> Vec<f64> {
    output[row * width..][..width]
        .iter()
        .map(|&x| f64::from(x))
        .collect()
}
