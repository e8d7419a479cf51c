//! Many recordings at once on a GPU.

use std::sync::Arc;

use rayon::prelude::*;

use super::listener::{About, Heard};
use super::networks::{Answer, Question};
use super::{RecognizeError, Recognizer, attention, reference};
use crate::audio::Recording;
use crate::nn::DropoutMode;
use crate::nn::cuda::front_end::{FrontEnd, FrontEndError, Listened, MOST_RECORDINGS};
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, PlanError, Source, Stream};
use crate::nn::model::Preprocessing;
use crate::prediction::Prediction;

mod networks;
mod questions;
mod shared;

use networks::{Asked, Given, Networks};
use questions::Questions;
pub(super) use shared::Shared;

/// Why a recogniser cannot be brought to a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceRecognizerError {
    /// A network is missing.
    #[error(transparent)]
    Recognizer(#[from] super::RecognizerError),
    /// A network cannot be planned for the device.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The device has no room for the front end's tables.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A [`Recognizer`] whose work is done on a device, for many recordings together.
///
/// Of the system of 2020 all of it is, but telling voice from silence: the samples go to the device,
/// the answers come back. Of other models the processor analyses the recordings, in parallel, and
/// the device has the networks. The answers are those of a [`Worker`](super::Worker) up to the
/// rounding of sums in another order, and of the logarithm and the root.
#[derive(Debug)]
pub struct OnDevice<'r> {
    recognizer: &'r Recognizer,
    networks: Networks,
    questions: Questions,
    front_end: Option<FrontEnd>,
    at_work: Option<AtWork>,
}

/// A recording that a device can be asked about.
#[derive(Debug)]
pub struct Analysed {
    recording: Recording,
    /// Unless the device analyses it.
    heard: Option<Heard>,
    numbers: usize,
}

impl Analysed {
    /// Numbers of four bytes that its recording, and also its signal at 16 kHz, take in memory at
    /// most.
    pub fn numbers(&self) -> usize {
        self.numbers
    }
}

/// The outcome for each recording of a batch, or why the device failed.
pub type Outcomes = Result<Vec<Result<Prediction, RecognizeError>>, CudaRunError>;

/// Recordings, and numbers that they hold together (512 MiB), that [`OnDevice::recognize`] gives the
/// device together at most; the last recording may exceed it.
const RECORDINGS: usize = 1024;
const NUMBERS: usize = 1 << 27;
const _: () = assert!(RECORDINGS <= MOST_RECORDINGS);

/// What the device has been given.
#[derive(Debug)]
struct AtWork {
    batch: Vec<(Analysed, String)>,
    dropout: DropoutMode,
    state: Result<State, CudaRunError>,
}

#[derive(Debug)]
enum State {
    /// The device has analysed the recordings itself. Nothing was given if none has a voice.
    Described(Listened, Option<Given>),
    /// The processor has, with these errors.
    Asked(Vec<Option<RecognizeError>>, Option<Given>),
}

impl Recognizer {
    /// The recogniser brought to a device.
    ///
    /// # Errors
    /// When the device fails or has no memory left.
    pub fn on_device(
        &self,
        driver: &Arc<dyn Driver>,
    ) -> Result<OnDevice<'_>, DeviceRecognizerError> {
        let info = self.info();
        let front_end = match info.preprocessing {
            // Beside the networks' first stream.
            Some(Preprocessing::Reference2020) => {
                Some(FrontEnd::new(driver.clone(), Stream::B, info.resampling)?)
            }
            _ => None,
        };
        Ok(OnDevice {
            recognizer: self,
            networks: Networks::new(driver, &self.model)?,
            questions: Questions::default(),
            front_end,
            at_work: None,
        })
    }

    /// Lets the networks of all [`Worker`](super::Worker)s run on a device: those that ask at the
    /// same time are answered together. Many recordings that are there from the beginning are
    /// better given to [`Recognizer::on_device`].
    ///
    /// # Errors
    /// When the device fails or has no memory left.
    pub fn use_device(&mut self, driver: &Arc<dyn Driver>) -> Result<(), DeviceRecognizerError> {
        self.device = Some(Shared::new(Networks::new(driver, &self.model)?));
        Ok(())
    }

    /// The processor's part of the work for a device, on any thread: of the system of 2020 none.
    /// `name` stands for the recording in errors.
    ///
    /// # Errors
    /// When the recording cannot be analysed; the message names it and says what to do.
    pub fn analyse(&self, recording: Recording, name: &str) -> Result<Analysed, RecognizeError> {
        let heard = match self.listener.reference() {
            Some(_) => None,
            None => Some(self.hear(&recording, name)?),
        };
        let samples = recording.samples.len();
        let resampling = self.info().resampling;
        // The signal is of `f64`.
        let signal = resampling
            .target_len(samples, recording.sample_rate)
            .saturating_mul(2);
        Ok(Analysed {
            numbers: samples.max(signal),
            recording,
            heard,
        })
    }
}

impl OnDevice<'_> {
    /// What it runs on, for messages.
    pub fn device(&self) -> String {
        self.networks.driver().name()
    }

    /// The answer for each of some recordings with their names, in their order; the processor's part
    /// is done on the threads of the rayon pool that this is called in.
    ///
    /// # Errors
    /// When the device fails, or given dropout masks do not fit. A recording that cannot be
    /// analysed has its own error.
    pub fn recognize(
        &mut self,
        recordings: Vec<(Recording, &str)>,
        dropout: &DropoutMode,
    ) -> Outcomes {
        let recognizer = self.recognizer;
        let analysed: Vec<_> = recordings
            .into_par_iter()
            .map(|(recording, name)| Ok((recognizer.analyse(recording, name)?, name.to_owned())))
            .collect();
        let mut errors = Vec::new();
        let mut good = Vec::new();
        for analysed in analysed {
            errors.push(match analysed {
                Ok(recording) => {
                    good.push(recording);
                    None
                }
                Err(error) => Some(error),
            });
        }
        // What an earlier caller left.
        self.finish();
        let mut concluded = Vec::new();
        let mut good = good.into_iter().peekable();
        while good.peek().is_some() {
            let mut numbers = 0;
            let mut batch = Vec::new();
            while let Some(next) = good.next_if(|_| numbers < NUMBERS && batch.len() < RECORDINGS) {
                numbers = next.0.numbers().saturating_add(numbers);
                batch.push(next);
            }
            if let Some(outcomes) = self.submit(batch, dropout) {
                concluded.extend(outcomes?);
            }
        }
        if let Some(outcomes) = self.finish() {
            concluded.extend(outcomes?);
        }
        let mut concluded = concluded.into_iter();
        let outcome = |error: Option<RecognizeError>| match error {
            Some(error) => Err(error),
            None => concluded.next().expect("an answer for each that is good"),
        };
        Ok(errors.into_iter().map(outcome).collect())
    }

    /// Gives the device a batch of at most [`MOST_RECORDINGS`] recordings with their names, and
    /// takes the outcomes of the batch before, if there is one. While the device asks the networks
    /// about that one, it cleans the recordings of this one, and the processor tells voice from
    /// silence in them, on the threads of the rayon pool that this is called in.
    pub fn submit(
        &mut self,
        batch: Vec<(Analysed, String)>,
        dropout: &DropoutMode,
    ) -> Option<Outcomes> {
        let listened = match &mut self.front_end {
            None => Ok(None),
            Some(front_end) => {
                let recordings: Vec<&Recording> = batch.iter().map(|(a, _)| &a.recording).collect();
                listen(front_end, &recordings)
            }
        };
        let before = self.finish();
        let mut batch = batch;
        let state = listened.and_then(|listened| self.give(listened, &mut batch, dropout));
        self.at_work = Some(AtWork {
            batch,
            dropout: dropout.clone(),
            state,
        });
        before
    }

    /// The outcomes of the batch that was given last, if they were not taken.
    pub fn finish(&mut self) -> Option<Outcomes> {
        let AtWork {
            batch,
            dropout,
            state,
        } = self.at_work.take()?;
        Some(state.and_then(|state| self.outcomes(&batch, state, &dropout)))
    }

    fn give(
        &mut self,
        listened: Option<Listened>,
        batch: &mut [(Analysed, String)],
        dropout: &DropoutMode,
    ) -> Result<State, CudaRunError> {
        if let (Some(listened), Some(front_end)) = (listened, &mut self.front_end) {
            match describe(front_end, &listened, &mut self.networks, dropout) {
                Err(CudaRunError::Device(DeviceError::Memory { .. })) => front_end.give_back(),
                given => return Ok(State::Described(listened, given?)),
            }
        }
        // The processor does what the device has no front end or no room for.
        let recognizer = self.recognizer;
        let errors: Vec<Option<RecognizeError>> = batch
            .par_iter_mut()
            .map(|(analysed, name)| {
                if analysed.heard.is_none() {
                    match recognizer.hear(&analysed.recording, name) {
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

    fn outcomes(
        &self,
        batch: &[(Analysed, String)],
        state: State,
        dropout: &DropoutMode,
    ) -> Outcomes {
        let take = |given: Option<Given>| match given {
            None => Ok(Vec::new()),
            Some(given) => self.networks.take(given),
        };
        match (state, &self.front_end) {
            (State::Described(listened, given), Some(front_end)) => {
                let mut answers: Vec<Option<Answer>> = take(given)?.into_iter().map(Some).collect();
                let heard = front_end.heard(&listened)?;
                let outcomes = batch.iter().zip(heard).map(|((analysed, name), heard)| {
                    let heard = heard.map_err(|error| match error {
                        FrontEndError::Audio(error) => RecognizeError::audio(name)(error),
                        FrontEndError::Features(error) => RecognizeError::features(name)(error),
                    })?;
                    let answer = answers[heard.place.row].take();
                    let answer = answer.expect("every recording has a row of its own");
                    answer.check(name)?;
                    let known = reference::Known::of_device(heard, &analysed.recording);
                    Ok(self.conclude(&analysed.recording, &known, answer, dropout))
                });
                Ok(outcomes.collect())
            }
            (State::Asked(errors, given), _) => {
                let mut answers = take(given)?.into_iter();
                let outcomes = batch.iter().zip(errors).map(|((analysed, name), error)| {
                    let (None, Some(heard)) = (&error, &analysed.heard) else {
                        return Err(error.expect("who is not heard has an error"));
                    };
                    let answer = answers.next().expect("an answer for each that is heard");
                    answer.check(name)?;
                    let recording = &analysed.recording;
                    Ok(self.recognizer.conclude(recording, heard, answer, dropout))
                });
                Ok(outcomes.collect())
            }
            (State::Described(..), None) => unreachable!("described by this front end"),
        }
    }

    fn conclude(
        &self,
        recording: &Recording,
        known: &reference::Known,
        answer: Answer,
        dropout: &DropoutMode,
    ) -> Prediction {
        let way = self.recognizer.listener.reference();
        way.expect("only the system of 2020 has a front end on the device")
            .conclude(
                &About::of(recording),
                known,
                answer,
                self.recognizer.drawn_with(dropout),
            )
    }
}

/// Nothing if the device has no room.
fn listen(
    front_end: &mut FrontEnd,
    recordings: &[&Recording],
) -> Result<Option<Listened>, CudaRunError> {
    match front_end.listen(recordings) {
        Ok(listened) => Ok(Some(listened)),
        Err(DeviceError::Memory { .. }) => {
            front_end.give_back();
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
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
