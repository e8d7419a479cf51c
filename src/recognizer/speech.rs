//! Detection of the segments that are speech.

use std::sync::Arc;

use super::front_end::Features;
use super::networks::plan;
use super::{RecognizeError, RecognizerError};
use crate::audio::decode::Defect;
use crate::model::{Model, Role};
use crate::nn::{DropoutMode, Plan, Session};

/// A model's speech network, if it has one.
#[derive(Debug)]
pub struct SpeechCheck {
    plan: Option<Arc<Plan>>,
    /// Smallest probability of speech.
    threshold: f64,
}

/// Buffers of a [`SpeechCheck`] for one thread.
#[derive(Debug)]
pub struct SpeechSession {
    session: Option<Session>,
    threshold: f64,
}

impl SpeechCheck {
    /// Plans the speech network of a model, if it has one.
    ///
    /// # Errors
    /// The network cannot be planned.
    pub fn new(model: &Model) -> Result<Self, RecognizerError> {
        let network = model.network(Role::Speech);
        let plan = network.map(|_| plan(model, Role::Speech)).transpose()?;
        Ok(Self {
            plan,
            threshold: model.info().speech_from.unwrap_or(0.0),
        })
    }

    /// Creates the buffers for one thread.
    pub fn session(&self) -> SpeechSession {
        SpeechSession {
            session: self.plan.as_ref().map(Session::new),
            threshold: self.threshold,
        }
    }
}

impl SpeechSession {
    /// Bytes of all buffers.
    pub fn held_bytes(&self) -> usize {
        self.session.as_ref().map_or(0, Session::held_bytes)
    }

    /// Returns for each segment of a recording whether it is speech. Every segment is, if the model has
    /// no speech network.
    ///
    /// # Errors
    /// [`RecognizeError::NoSpeech`] if no segment is speech or the recording has no voice.
    pub fn check(
        &mut self,
        features: &Features,
        defects: &[Defect],
        name: &str,
    ) -> Result<Vec<bool>, RecognizeError> {
        let (Some(session), Features::Utterance(features)) = (&mut self.session, features) else {
            return Ok(vec![true; features.segments()]);
        };
        let mut is_speech = Vec::with_capacity(features.segments().len());
        for segment in features.segments() {
            session.run(&[&segment.utterance.stats], 1, &DropoutMode::Off)?;
            let probability = f64::from(session.output(0)[0]);
            is_speech.push(features.is_voiced() && probability >= self.threshold);
        }
        match is_speech.contains(&true) {
            true => Ok(is_speech),
            false => Err(RecognizeError::NoSpeech {
                name: name.into(),
                cause: defects
                    .iter()
                    .find(|defect| matches!(defect, Defect::ChannelsCancel { .. }))
                    .cloned(),
            }),
        }
    }
}
