//! What the networks are asked about a recording: the part of recognising that needs no network.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::networks::{Answer, Question};
use super::profile::SpeakerProfile;
use super::{RecognizeError, RecognizerError, legacy2020, utterance};
use crate::audio::{Defect, Recording};
use crate::model::{AgeScale, FrontEndKind, ModelInfo, SpeakerScale};
use crate::nn::DropoutMode;
use crate::parallelism::Parallelism;
use crate::prediction::Prediction;

/// A model's front end, which can work before the model's networks are there.
#[derive(Debug)]
pub struct Listener {
    info: ModelInfo,
    front_end: FrontEndKind,
    age: AgeScale,
    /// Made where it is first needed.
    way: OnceLock<Way>,
}

/// A recording as a [`Listener`] understood it, without its samples.
#[derive(Debug)]
pub struct Impression {
    pub(super) about: About,
    pub(super) heard: Heard,
}

/// The way from a recording to the networks and from there to the answer, by the model's front end.
#[derive(Debug)]
enum Way {
    Reference(Box<legacy2020::Way>),
    Utterance(Box<utterance::Way>),
}

/// What a recording is to the networks.
#[derive(Debug)]
pub(super) enum Heard {
    Reference(Box<legacy2020::Heard>),
    Utterance(Box<utterance::Heard>),
}

/// What an answer says about the recording besides what is in its samples.
#[derive(Debug)]
pub(crate) struct About {
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

impl Listener {
    /// For the model that a bundle describes.
    ///
    /// # Errors
    /// [`RecognizerError::NotSpeech`]
    pub fn new(info: &ModelInfo) -> Result<Self, RecognizerError> {
        let not_speech = || RecognizerError::NotSpeech(info.name.clone());
        let front_end = info.front_end.ok_or_else(not_speech)?;
        let age = info.age.ok_or_else(not_speech)?;
        Ok(Self {
            info: info.clone(),
            front_end,
            age,
            way: OnceLock::new(),
        })
    }

    fn way(&self) -> &Way {
        let (info, age) = (&self.info, self.age);
        self.way.get_or_init(|| match self.front_end {
            FrontEndKind::Legacy2020 => Way::Reference(Box::new(legacy2020::Way::new(info, age))),
            FrontEndKind::Utterance => Way::Utterance(Box::new(utterance::Way::new(info, age))),
        })
    }

    /// Which front end it is.
    #[cfg(feature = "cuda")]
    pub(super) fn front_end(&self) -> FrontEndKind {
        self.front_end
    }

    /// The way of a model of 2020, if this is one's front end.
    #[cfg(feature = "cuda")]
    pub(super) fn legacy2020(&self) -> Option<&legacy2020::Way> {
        match self.way() {
            Way::Reference(way) => Some(way),
            Way::Utterance(_) => None,
        }
    }

    /// The way of a model that hears utterances, if this is one's front end.
    #[cfg(feature = "cuda")]
    pub(super) fn utterance(&self) -> Option<&utterance::Way> {
        match self.way() {
            Way::Reference(_) => None,
            Way::Utterance(way) => Some(way),
        }
    }

    /// Listens to a decoded recording, which is dropped as early as can be; `name` stands for it in
    /// errors.
    ///
    /// # Errors
    /// When the recording cannot be analysed; the message names it and says what to do.
    pub fn listen(&self, recording: Recording, name: &str) -> Result<Impression, RecognizeError> {
        self.impression(Cow::Owned(recording), name, Parallelism::No)
    }

    /// [`Listener::listen`] with the help of the threads of the rayon pool that it is called in,
    /// those that have nothing else to do. What is heard is the same.
    ///
    /// # Errors
    /// As [`Listener::listen`].
    pub fn listen_with_spare_threads(
        &self,
        recording: Recording,
        name: &str,
    ) -> Result<Impression, RecognizeError> {
        self.impression(Cow::Owned(recording), name, Parallelism::Yes)
    }

    pub(crate) fn impression(
        &self,
        recording: Cow<'_, Recording>,
        name: &str,
        parallelism: Parallelism,
    ) -> Result<Impression, RecognizeError> {
        Ok(Impression {
            about: About::of(&recording),
            heard: self.hear(recording, name, parallelism)?,
        })
    }

    /// Whether it was made for this model.
    pub(super) fn is_for(&self, info: &ModelInfo) -> bool {
        self.info == *info
    }

    pub(super) fn hear(
        &self,
        recording: Cow<'_, Recording>,
        name: &str,
        parallelism: Parallelism,
    ) -> Result<Heard, RecognizeError> {
        Ok(match self.way() {
            Way::Reference(way) => {
                Heard::Reference(Box::new(way.hear(recording, name, parallelism)?))
            }
            Way::Utterance(way) => {
                Heard::Utterance(Box::new(way.hear(recording, name, parallelism)?))
            }
        })
    }

    /// What profiles of speakers are relative to, if the model was trained for them.
    pub(super) fn speaker(&self) -> Option<&SpeakerScale> {
        match self.way() {
            Way::Reference(_) => None,
            Way::Utterance(way) => way.speaker(),
        }
    }

    /// The answer for a recording, from the networks' outputs for each of its segments; `None` stands
    /// for one that is no speech.
    pub(super) fn conclude(
        &self,
        recording: &About,
        heard: &Heard,
        mut answers: Vec<Option<Answer>>,
        dropout: &DropoutMode,
    ) -> Prediction {
        match (self.way(), heard) {
            (Way::Reference(way), Heard::Reference(heard)) => {
                let answer = answers.pop().flatten();
                let answer = answer.expect("a recording of this front end is a single segment");
                way.conclude(recording, heard.known(), answer, dropout)
            }
            (Way::Utterance(way), Heard::Utterance(heard)) => {
                way.conclude(recording, heard, answers, dropout)
            }
            _ => panic!("the recording was heard by another model's front end"),
        }
    }
}

impl Heard {
    /// How many segments it has.
    pub(super) fn segments(&self) -> usize {
        match self {
            Self::Reference(_) => 1,
            Self::Utterance(heard) => heard.segments().len(),
        }
    }

    /// The networks' inputs, segment by segment.
    pub(super) fn questions(&self) -> Vec<Question<'_>> {
        match self {
            Self::Reference(heard) => vec![heard.question()],
            Self::Utterance(heard) => heard.questions().collect(),
        }
    }

    /// Expresses the inputs of the emotion networks relative to a speaker.
    pub(super) fn adapt(&mut self, profile: &SpeakerProfile, scale: &SpeakerScale) {
        if let Self::Utterance(heard) = self {
            heard.adapt(profile, scale);
        }
    }

    /// Takes the inputs as they are again.
    pub(super) fn forget_speaker(&mut self) {
        if let Self::Utterance(heard) = self {
            heard.forget_speaker();
        }
    }
}

impl About {
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
