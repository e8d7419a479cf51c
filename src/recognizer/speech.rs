//! Which segments of a recording are speech.

use std::sync::Arc;

use super::listener::Heard;
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
    pub fn of(
        &mut self,
        heard: &Heard,
        defects: &[Defect],
        name: &str,
    ) -> Result<Vec<bool>, RecognizeError> {
        let (Some(session), Heard::Utterance(heard)) = (&mut self.session, heard) else {
            return Ok(vec![true; heard.segments()]);
        };
        let mut of_segments = Vec::with_capacity(heard.segments().len());
        for segment in heard.segments() {
            session.run(&[&segment.utterance.stats], 1, &DropoutMode::Off)?;
            of_segments.push(heard.is_voiced() && f64::from(session.output(0)[0]) >= self.least);
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
