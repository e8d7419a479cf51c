//! A device at work: batch behind batch of recordings.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::networks::{Asked, Given, Networks};
use super::questions::Questions;
use super::{Analysed, DeviceRecognizerError, Outcomes};
use crate::audio::Recording;
use crate::nn::cuda::front_end::{FrontEnd, FrontEndError, Listened};
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, Source, Stream};
use crate::nn::model::Preprocessing;
use crate::nn::{DropoutMode, Model, RunError};
use crate::prediction::Prediction;
use crate::recognizer::listener::{About, Heard, Listener};
use crate::recognizer::networks::{Answer, Question};
use crate::recognizer::{RecognizeError, reference};
use crate::together::Together;

/// A model's front end, if the device has one, and its networks, with the memory for a batch.
#[derive(Debug)]
pub struct Device {
    listener: Arc<Listener>,
    front_end: Option<FrontEnd>,
    networks: Networks,
    questions: Questions,
    at_work: Option<AtWork>,
}

/// What the device has been given.
#[derive(Debug)]
struct AtWork {
    batch: Vec<Remembered>,
    dropout: DropoutMode,
    state: Result<State, CudaRunError>,
}

/// A recording without its samples.
#[derive(Debug)]
struct Remembered {
    about: About,
    name: String,
    /// Unless the device analysed it.
    heard: Option<Heard>,
}

#[derive(Debug)]
enum State {
    /// The device has analysed the recordings itself. Nothing was given if none has a voice.
    Described(Listened, Option<Given>),
    /// The processor has, with these errors.
    Asked(Vec<Option<RecognizeError>>, Option<Given>),
    /// The device had no room for all of them at once.
    InParts(Vec<Result<Prediction, RecognizeError>>),
}

/// A recording with its name.
type Named = (Analysed, String);

impl Device {
    /// For a model with this listener.
    ///
    /// # Errors
    /// When the device fails or has no memory left.
    pub fn new(
        driver: &Arc<dyn Driver>,
        model: &Model,
        listener: &Arc<Listener>,
    ) -> Result<Self, DeviceRecognizerError> {
        let info = model.info();
        let front_end = match info.preprocessing {
            // Beside the networks' first stream.
            Some(Preprocessing::Reference2020) => {
                Some(FrontEnd::new(driver.clone(), Stream::B, info.resampling)?)
            }
            _ => None,
        };
        Ok(Self {
            listener: Arc::clone(listener),
            front_end,
            networks: Networks::new(driver, model)?,
            questions: Questions::default(),
            at_work: None,
        })
    }

    /// What it is, for messages.
    pub fn name(&self) -> String {
        self.networks.driver().name()
    }

    /// Bytes of device memory that the networks' buffers take.
    pub fn held_bytes(&self) -> usize {
        self.networks.held_bytes()
    }

    /// Gives the memory of the batches so far back; nothing is at work.
    pub fn give_back(&mut self) {
        if let Some(front_end) = &mut self.front_end {
            front_end.give_back();
        }
        self.networks.give_back();
        self.questions = Questions::default();
    }

    /// Waits until it does nothing any more, so that what a panic has left meets no buffer that is
    /// used again.
    pub fn settle(&self) {
        for stream in [Stream::A, Stream::B] {
            // What it fails with was asked for by those that the panic met.
            let _ = self.networks.driver().synchronise(stream);
        }
    }

    /// See [`OnDevice::submit`](super::OnDevice::submit); `before` is given the outcomes of the
    /// batch before as soon as they are there.
    pub fn submit(
        &mut self,
        mut batch: Vec<Named>,
        dropout: &DropoutMode,
        before: impl FnOnce(Outcomes),
    ) {
        let listened = self.listen(&batch);
        if let Some(outcomes) = self.finish() {
            before(outcomes);
        }
        let given = listened.and_then(|listened| self.give(listened, &mut batch, dropout));
        let (state, batch) = match given {
            Err(error) if has_no_room(&error) => {
                (self.in_parts(batch, dropout).map(State::InParts), vec![])
            }
            state => (state, remembered(batch)),
        };
        self.at_work = Some(AtWork {
            batch,
            dropout: dropout.clone(),
            state,
        });
    }

    /// See [`OnDevice::finish`](super::OnDevice::finish).
    pub fn finish(&mut self) -> Option<Outcomes> {
        let AtWork {
            batch,
            dropout,
            state,
        } = self.at_work.take()?;
        Some(state.and_then(|state| self.outcomes(batch, state, &dropout)))
    }

    /// What the networks say about recordings that were analysed elsewhere; nothing is at work.
    pub fn ask(
        &mut self,
        questions: &[Question],
        dropout: &DropoutMode,
    ) -> Vec<Result<Answer, CudaRunError>> {
        let mut answers = self.ask_together(questions, dropout);
        if answers.as_ref().is_err_and(has_no_room) {
            self.give_back();
            if questions.len() > 1 {
                let (some, others) = questions.split_at(questions.len() / 2);
                let mut answers = self.ask(some, dropout);
                answers.extend(self.ask(others, dropout));
                return answers;
            }
            answers = self.ask_together(questions, dropout);
        }
        match answers {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => questions.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn ask_together(
        &mut self,
        questions: &[Question],
        dropout: &DropoutMode,
    ) -> Result<Vec<Answer>, CudaRunError> {
        let given = self
            .questions
            .give(&mut self.networks, questions, dropout)?;
        self.take(given)
    }

    /// The front end's first part of the work. Nothing if the device has no front end.
    fn listen(&mut self, batch: &[Named]) -> Result<Option<Listened>, CudaRunError> {
        let Some(front_end) = &mut self.front_end else {
            return Ok(None);
        };
        let recordings: Vec<&Recording> = batch.iter().map(|(a, _)| &a.recording).collect();
        Ok(Some(front_end.listen(&recordings)?))
    }

    /// The rest, and what the networks are asked. What the device has not listened to is analysed
    /// by the processor.
    fn give(
        &mut self,
        listened: Option<Listened>,
        batch: &mut [Named],
        dropout: &DropoutMode,
    ) -> Result<State, CudaRunError> {
        if let (Some(listened), Some(front_end)) = (listened, &mut self.front_end) {
            let given = describe(front_end, &listened, &mut self.networks, dropout)?;
            return Ok(State::Described(listened, given));
        }
        let listener = &self.listener;
        let errors: Vec<Option<RecognizeError>> = batch
            .par_iter_mut()
            .map(|(analysed, name)| {
                if analysed.heard.is_none() {
                    let recording = Cow::Borrowed(&analysed.recording);
                    match listener.hear(recording, name, Together::No) {
                        Ok(heard) => analysed.heard = Some(heard),
                        Err(error) => return Some(error),
                    }
                }
                None
            })
            .collect();
        let heard = batch.iter().filter_map(|(a, _)| a.heard.as_ref());
        let questions: Vec<Question> = heard.map(Heard::question).collect();
        let given = self
            .questions
            .give(&mut self.networks, &questions, dropout)?;
        Ok(State::Asked(errors, given))
    }

    /// The outcomes of a batch that there is no room for, so that the answer for one of its
    /// recordings is the same as without the others: halves of it, down to single recordings.
    fn in_parts(&mut self, mut batch: Vec<Named>, dropout: &DropoutMode) -> Outcomes {
        self.give_back();
        // Masks are given for all recordings together.
        if batch.len() == 1 || matches!(dropout, DropoutMode::Masks(_)) {
            return self.at_last(batch, dropout);
        }
        let others = batch.split_off(batch.len() / 2);
        let mut outcomes = Vec::new();
        for part in [batch, others] {
            self.submit(part, dropout, |_| unreachable!("nothing is at work"));
            if let Some(part) = self.finish() {
                outcomes.extend(part?);
            }
        }
        Ok(outcomes)
    }

    /// The outcomes of what cannot be divided: with all the memory, or else analysed by the
    /// processor.
    fn at_last(&mut self, mut batch: Vec<Named>, dropout: &DropoutMode) -> Outcomes {
        let listened = self.listen(&batch);
        let mut given = listened.and_then(|listened| self.give(listened, &mut batch, dropout));
        if given.as_ref().is_err_and(has_no_room) {
            self.give_back();
            given = self.give(None, &mut batch, dropout);
        }
        let batch = remembered(batch);
        match given {
            Err(error) if has_no_room(&error) => {
                let refused = |r: Remembered| Err(RecognizeError::device(&r.name, &error));
                Ok(batch.into_iter().map(refused).collect())
            }
            given => self.outcomes(batch, given?, dropout),
        }
    }

    fn take(&self, given: Option<Given>) -> Result<Vec<Answer>, CudaRunError> {
        match given {
            None => Ok(Vec::new()),
            Some(given) => self.networks.take(given),
        }
    }

    fn outcomes(&self, batch: Vec<Remembered>, state: State, dropout: &DropoutMode) -> Outcomes {
        let dropout = match self.networks.is_stochastic() {
            true => dropout,
            false => &DropoutMode::Off,
        };
        match (state, &self.front_end) {
            (State::InParts(outcomes), _) => Ok(outcomes),
            (State::Described(listened, given), Some(front_end)) => {
                let answers = self.take(given)?.into_iter();
                let mut answers: Vec<Option<Answer>> = answers.map(Some).collect();
                let heard = front_end.heard(&listened)?;
                let outcomes = batch.iter().zip(heard).map(|(recording, heard)| {
                    let heard = heard.map_err(recording.refused())?;
                    let answer = answers[heard.place.row].take();
                    let answer = answer.expect("every recording has a row of its own");
                    answer.check(&recording.name)?;
                    let known = reference::Known::of_device(heard, &recording.about);
                    let way = self.listener.reference();
                    let way = way.expect("only the system of 2020 has a front end on the device");
                    Ok(way.conclude(&recording.about, &known, answer, dropout))
                });
                Ok(outcomes.collect())
            }
            (State::Asked(errors, given), _) => {
                let mut answers = self.take(given)?.into_iter();
                let outcomes = batch.iter().zip(errors).map(|(recording, error)| {
                    let (None, Some(heard)) = (&error, &recording.heard) else {
                        return Err(error.expect("who is not heard has an error"));
                    };
                    let answer = answers.next().expect("an answer for each that is heard");
                    answer.check(&recording.name)?;
                    let about = &recording.about;
                    Ok(self.listener.conclude(about, heard, answer, dropout))
                });
                Ok(outcomes.collect())
            }
            (State::Described(..), None) => unreachable!("described by this front end"),
        }
    }
}

impl Remembered {
    fn refused(&self) -> impl FnOnce(FrontEndError) -> RecognizeError {
        |error| match error {
            FrontEndError::Audio(error) => RecognizeError::audio(&self.name)(error),
            FrontEndError::Features(error) => RecognizeError::features(&self.name)(error),
        }
    }
}

fn remembered(batch: Vec<Named>) -> Vec<Remembered> {
    let without_samples = |(analysed, name): Named| Remembered {
        about: About::of(&analysed.recording),
        name,
        heard: analysed.heard,
    };
    batch.into_iter().map(without_samples).collect()
}

/// Whether less may be what the device has room for.
fn has_no_room(error: &CudaRunError) -> bool {
    matches!(
        error,
        CudaRunError::Device(DeviceError::Memory { .. })
            | CudaRunError::Run(RunError::TooLarge { .. })
    )
}

/// Nothing if no recording has a voice.
fn describe(
    front_end: &mut FrontEnd,
    listened: &Listened,
    networks: &mut Networks,
    dropout: &DropoutMode,
) -> Result<Option<Given>, CudaRunError> {
    let inputs = front_end.describe(listened)?;
    if inputs.rows == 0 {
        return Ok(None);
    }
    let asked = Asked {
        windows: Source::Device(inputs.window_rows()),
        firsts: inputs.first_windows.clone(),
        whole: inputs.branch_rows().map(Source::Device).into(),
    };
    Ok(Some(networks.give(&asked, dropout)?))
}
