//! From one recording to one [`Prediction`].

use crate::audio::{AudioError, Recording};
use crate::features::FeatureError;
use crate::nn::model::{BundleInfo, Preprocessing};
use crate::nn::{DropoutMode, GraphError, Model, Role, RunError};
use crate::prediction::Prediction;

#[cfg(feature = "cuda")]
pub use cuda::{Analysed, DeviceRecognizerError, OnDevice, Outcomes};
use networks::{Answer, Plans, Question, Sessions, Together};

mod attention;
#[cfg(feature = "cuda")]
mod cuda;
mod networks;
pub(crate) mod reference;
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
        /// [`BundleInfo::name`].
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
    way: Way,
    plans: Plans,
    #[cfg(feature = "cuda")]
    device: Option<cuda::Shared>,
}

/// The way from a recording to the networks and from there to the answer, by the model's front end.
#[derive(Debug)]
enum Way {
    Reference(Box<reference::Way>),
    Utterance(Box<utterance::Way>),
}

/// What a recording is to the networks.
#[derive(Debug)]
enum Heard {
    Reference(Box<reference::Heard>),
    Utterance(Box<utterance::Heard>),
}

impl Recognizer {
    /// Prepares a speech model.
    ///
    /// # Errors
    /// When it is not one (see [`Model::new`]), or a network other than the emotion features' has
    /// forced dropout.
    pub fn new(model: Model) -> Result<Self, RecognizerError> {
        let info = model.info();
        let not_speech = || RecognizerError::NotSpeech(info.name.clone());
        let front_end = info.preprocessing.ok_or_else(not_speech)?;
        let age = info.age.ok_or_else(not_speech)?;
        for role in Role::SPEECH {
            let network = model.network(role).ok_or_else(not_speech)?;
            if role != Role::EmotionFeatures && network.graph.is_stochastic() {
                return Err(RecognizerError::Dropout {
                    model: info.name.clone(),
                    role,
                });
            }
        }
        let way = match front_end {
            Preprocessing::Reference2020 => {
                Way::Reference(Box::new(reference::Way::new(info, age)))
            }
            Preprocessing::Utterance => Way::Utterance(Box::new(utterance::Way::new(info, age))),
        };
        Ok(Self {
            plans: Plans::new(&model)?,
            model,
            way,
            #[cfg(feature = "cuda")]
            device: None,
        })
    }

    /// All networks, with where they came from.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Labels, age scale and pre-processing of the model.
    pub fn info(&self) -> &BundleInfo {
        self.model.info()
    }

    /// The buffers for one thread.
    pub fn worker(&self) -> Worker<'_> {
        Worker {
            recognizer: self,
            sessions: self.plans.sessions(),
        }
    }

    /// What the networks are to be asked about a recording; `name` stands for it in errors.
    fn hear(&self, recording: &Recording, name: &str) -> Result<Heard, RecognizeError> {
        Ok(match &self.way {
            Way::Reference(way) => Heard::Reference(Box::new(way.hear(recording, name)?)),
            Way::Utterance(way) => Heard::Utterance(Box::new(way.hear(recording, name)?)),
        })
    }

    /// What dropout does to an answer.
    fn drawn_with<'a>(&self, dropout: &'a DropoutMode) -> &'a DropoutMode {
        match self.plans.is_stochastic() {
            true => dropout,
            false => &DropoutMode::Off,
        }
    }

    /// What their answer means.
    fn conclude(
        &self,
        recording: &Recording,
        heard: &Heard,
        answer: Answer,
        dropout: &DropoutMode,
    ) -> Prediction {
        let dropout = self.drawn_with(dropout);
        match (&self.way, heard) {
            (Way::Reference(way), Heard::Reference(heard)) => {
                way.conclude(recording, heard.known(), answer, dropout)
            }
            (Way::Utterance(way), Heard::Utterance(heard)) => {
                way.conclude(recording, heard, answer, dropout)
            }
            _ => unreachable!("heard by this recogniser"),
        }
    }
}

impl Heard {
    fn question(&self) -> Question<'_> {
        match self {
            Self::Reference(heard) => heard.question(),
            Self::Utterance(heard) => heard.question(),
        }
    }
}

/// One thread's way through a [`Recognizer`].
#[derive(Debug)]
pub struct Worker<'r> {
    recognizer: &'r Recognizer,
    sessions: Sessions,
}

impl Worker<'_> {
    /// Lets the networks of one recording run side by side on the threads of the rayon pool that
    /// [`Worker::recognize`] is called in: for when there are fewer recordings than threads. The
    /// answers are the same.
    #[must_use]
    pub fn with_spare_threads(mut self) -> Self {
        self.sessions.together = Together::Yes;
        self
    }

    /// Bytes that the buffers take. They grow with the longest recording and stay: a worker that
    /// lives long is better replaced after a very long one.
    pub fn held_bytes(&self) -> usize {
        self.sessions.held_bytes()
    }

    /// The answer for a decoded recording; `name` stands for it in errors.
    ///
    /// # Errors
    /// When the recording cannot be analysed; the message names it and says what to do.
    pub fn recognize(
        &mut self,
        recording: &Recording,
        name: &str,
        dropout: &DropoutMode,
    ) -> Result<Prediction, RecognizeError> {
        let heard = self.recognizer.hear(recording, name)?;
        let answer = self.ask(&heard.question(), dropout, name)?;
        answer.check(name)?;
        Ok(self.recognizer.conclude(recording, &heard, answer, dropout))
    }

    fn ask(
        &mut self,
        question: &Question,
        dropout: &DropoutMode,
        name: &str,
    ) -> Result<Answer, RecognizeError> {
        #[cfg(feature = "cuda")]
        if let Some(device) = &self.recognizer.device {
            return device.ask(question, dropout, name);
        }
        // Only a device has failures of its own to name the recording in.
        let _ = name;
        Ok(self.sessions.ask(question, dropout)?)
    }
}

/// Row `row` of an output, in `f64`.
fn row(output: &[f32], row: usize, width: usize) -> Vec<f64> {
    output[row * width..][..width]
        .iter()
        .map(|&x| f64::from(x))
        .collect()
}
