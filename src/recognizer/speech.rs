//! Which segments of a recording are speech.

use std::sync::Arc;

use super::front_end::Features;
use super::networks::planned;
use super::{RecognizeError, RecognizerError};
use crate::audio::decode::Defect;
use crate::model::{Model, Role};
use crate::nn::{DropoutMode, Plan, Session};

/// A model's speech network, if it has one.
#[derive(Debug)]
pub struct SpeechCheck {
    plan: Option<Arc<Plan>>,
    least: f64,
}

/// One thread's buffers for it.
#[derive(Debug)]
pub struct SpeechSession {
    session: Option<Session>,
    least: f64,
}

impl SpeechCheck {
    /// For a speech model.
    ///
    /// # Errors
    /// When its network cannot be planned.
    pub fn new(model: &Model) -> Result<Self, RecognizerError> {
        let network = model.network(Role::Speech);
        let plan = network.map(|_| planned(model, Role::Speech)).transpose()?;
        Ok(Self {
            plan,
            least: model.info().speech_from.unwrap_or(0.0),
        })
    }

    /// One thread's buffers.
    pub fn session(&self) -> SpeechSession {
        SpeechSession {
            session: self.plan.as_ref().map(Session::new),
            least: self.least,
        }
    }
}

impl SpeechSession {
    /// Bytes that the buffers take.
    pub fn held_bytes(&self) -> usize {
        self.session.as_ref().map_or(0, Session::held_bytes)
    }

    /// Whether each segment of a recording is speech. Without a speech network all of them are.
    ///
    /// # Errors
    /// [`RecognizeError::NoSpeech`] if none is, or the recording has no voice.
    pub fn check(
        &mut self,
        features: &Features,
        defects: &[Defect],
        name: &str,
    ) -> Result<Vec<bool>, RecognizeError> {
        let (Some(session), Features::Utterance(features)) = (&mut self.session, features) else {
            return Ok(vec![true; features.segments()]);
        };
        let mut of_segments = Vec::with_capacity(features.segments().len());
        for segment in features.segments() {
            session.run(&[&segment.utterance.stats], 1, &DropoutMode::Off)?;
            of_segments.push(features.is_voiced() && f64::from(session.output(0)[0]) >= self.least);
        }
        match of_segments.contains(&true) {
            true => Ok(of_segments),
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
