//! A device at work: batch behind batch of recordings.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::networks::{Asked, Given, Networks};
use super::questions::Questions;
use super::{DeviceRecognizerError, Outcomes};
use crate::audio::Recording;
use crate::front_end::cuda::FrontEndError;
use crate::front_end::legacy2020::cuda::{FrontEnd, Listened};
use crate::front_end::utterance::cuda::UtteranceFrontEnd;
use crate::model::FrontEndKind;
use crate::model::Model;
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, Source, Stream};
use crate::nn::{DropoutMode, RunError};
use crate::parallelism::Parallelism;
use crate::prediction::Prediction;
use crate::recognizer::listener::{About, Heard, Listener};
use crate::recognizer::networks::{Answer, Question};
use crate::recognizer::profile::SpeakerProfile;
use crate::recognizer::speech::{SpeechCheck, SpeechSession};
use crate::recognizer::{RecognizeError, legacy2020, utterance};

/// A model's front end and its networks, with the memory for a batch.
#[derive(Debug)]
pub struct Device {
    listener: Arc<Listener>,
    front_end: DeviceFrontEnd,
    networks: Networks,
    /// On the processor: it decides what the networks are asked.
    speech: SpeechSession,
    questions: Questions,
    at_work: Option<AtWork>,
}

/// The front ends, each beside the networks' first stream.
#[derive(Debug)]
enum DeviceFrontEnd {
    Reference(Box<FrontEnd>),
    Utterance(Box<UtteranceFrontEnd>),
}

/// What a front end has found out about a batch before the networks are asked.
#[derive(Debug)]
enum FoundOut {
    /// Where voice is; the networks' inputs come from the device's own part of the signals.
    Voices(Listened),
    /// All of it, told by the processor from the device's frames.
    All(Vec<Result<Heard, FrontEndError>>),
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
}

#[derive(Debug)]
enum State {
    /// The networks' inputs are on the device alone. Nothing was given if no recording has a voice.
    Described(Listened, Option<Given>),
    /// They were brought there, of those that could be analysed.
    Asked(Vec<Result<Spoken, RecognizeError>>, Option<Given>),
    /// The device had no room for all of them at once.
    InParts(Vec<Result<Prediction, RecognizeError>>),
}

/// A recording's inputs, and which of its segments are speech.
type Spoken = (Heard, Vec<bool>);

/// A recording with its name, and its speaker's profile if there is one.
#[derive(Debug)]
pub struct Named {
    /// Decoded.
    pub recording: Recording,
    /// What errors call it.
    pub name: String,
    /// One that [`Recognizer::check_profile`](crate::Recognizer::check_profile) accepts.
    pub profile: Option<Arc<SpeakerProfile>>,
}

impl From<(Recording, String)> for Named {
    /// Without a speaker profile.
    fn from((recording, name): (Recording, String)) -> Self {
        Self {
            recording,
            name,
            profile: None,
        }
    }
}

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
        let (resampling, stream) = (model.info().resampling, Stream::B);
        let front_end = match listener.front_end() {
            FrontEndKind::Legacy2020 => {
                let front_end = FrontEnd::new(driver.clone(), stream, resampling)?;
                DeviceFrontEnd::Reference(Box::new(front_end))
            }
            FrontEndKind::Utterance => {
                let front_end = UtteranceFrontEnd::new(driver.clone(), stream, resampling)?;
                DeviceFrontEnd::Utterance(Box::new(front_end))
            }
        };
        Ok(Self {
            listener: Arc::clone(listener),
            front_end,
            networks: Networks::new(driver, model)?,
            speech: SpeechCheck::new(model)?.session(),
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
        match &mut self.front_end {
            DeviceFrontEnd::Reference(front_end) => front_end.give_back(),
            DeviceFrontEnd::Utterance(front_end) => front_end.give_back(),
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
        batch: Vec<Named>,
        dropout: &DropoutMode,
        before: impl FnOnce(Outcomes),
    ) {
        let found_out = self.listen(&batch);
        if let Some(outcomes) = self.finish() {
            before(outcomes);
        }
        let given = found_out.and_then(|found_out| self.give(Some(found_out), &batch, dropout));
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

    /// The front end's part of the work before the networks are asked.
    fn listen(&mut self, batch: &[Named]) -> Result<FoundOut, CudaRunError> {
        let recordings: Vec<&Recording> = batch.iter().map(|named| &named.recording).collect();
        Ok(match &mut self.front_end {
            DeviceFrontEnd::Reference(front_end) => {
                FoundOut::Voices(front_end.listen(&recordings)?)
            }
            DeviceFrontEnd::Utterance(front_end) => {
                let way = of_utterances(&self.listener);
                let extractor = way.extractor();
                let analysed = front_end
                    .analyse_segments(extractor, &recordings)?
                    .into_par_iter();
                let heard = |segments| Heard::Utterance(Box::new(way.inputs(segments)));
                FoundOut::All(analysed.map(|result| result.map(heard)).collect())
            }
        })
    }

    /// The rest, and what the networks are asked. What no front end has found out about is analysed by the
    /// processor.
    fn give(
        &mut self,
        found_out: Option<FoundOut>,
        batch: &[Named],
        dropout: &DropoutMode,
    ) -> Result<State, CudaRunError> {
        let heard: Vec<Result<Heard, RecognizeError>> = match (found_out, &mut self.front_end) {
            (Some(FoundOut::Voices(listened)), DeviceFrontEnd::Reference(front_end)) => {
                let given = describe(front_end, &listened, &mut self.networks, dropout)?;
                return Ok(State::Described(listened, given));
            }
            (Some(FoundOut::Voices(_)), _) => unreachable!("told by this front end"),
            (Some(FoundOut::All(heard)), _) => {
                let pairs = heard.into_iter().zip(batch);
                pairs
                    .map(|(heard, named)| heard.map_err(refused(&named.name)))
                    .collect()
            }
            (None, _) => {
                let listener = &self.listener;
                let hear = |named: &Named| {
                    let recording = Cow::Borrowed(&named.recording);
                    listener.hear(recording, &named.name, Parallelism::No)
                };
                batch.par_iter().map(hear).collect()
            }
        };
        let (listener, speech) = (&self.listener, &mut self.speech);
        let spoken = heard.into_iter().zip(batch).map(|(heard, named)| {
            let mut heard = heard?;
            let is_speech = speech.of(&heard, &named.recording.defects, &named.name)?;
            if let (Some(profile), Some(scale)) = (&named.profile, listener.speaker()) {
                heard.adapt(profile, scale);
            }
            Ok((heard, is_speech))
        });
        let heard: Vec<Result<Spoken, RecognizeError>> = spoken.collect();
        let good = heard.iter().flatten().flat_map(|(heard, is_speech)| {
            let pairs = heard.questions().into_iter().zip(is_speech);
            pairs.filter_map(|(question, is_speech)| is_speech.then_some(question))
        });
        let questions: Vec<Question> = good.collect();
        let given = self
            .questions
            .give(&mut self.networks, &questions, dropout)?;
        Ok(State::Asked(heard, given))
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
    fn at_last(&mut self, batch: Vec<Named>, dropout: &DropoutMode) -> Outcomes {
        let found_out = self.listen(&batch);
        let mut given = found_out.and_then(|found_out| self.give(Some(found_out), &batch, dropout));
        if given.as_ref().is_err_and(has_no_room) {
            self.give_back();
            given = self.give(None, &batch, dropout);
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
            (State::Described(listened, given), DeviceFrontEnd::Reference(front_end)) => {
                let answers = self.take(given)?.into_iter();
                let mut answers: Vec<Option<Answer>> = answers.map(Some).collect();
                let heard = front_end.heard(&listened)?;
                let outcomes = batch.iter().zip(heard).map(|(recording, heard)| {
                    let heard = heard.map_err(refused(&recording.name))?;
                    let answer = answers[heard.place.row].take();
                    let answer = answer.expect("every recording has a row of its own");
                    answer.check(&recording.name)?;
                    let known = legacy2020::Known::of_device(heard, &recording.about);
                    let way = self.listener.legacy2020();
                    let way = way.expect("the listener is of the same model as the front end");
                    Ok(way.conclude(&recording.about, &known, answer, dropout))
                });
                Ok(outcomes.collect())
            }
            (State::Described(..), _) => unreachable!("described by this front end"),
            (State::Asked(heard, given), _) => {
                let mut answers = self.take(given)?.into_iter();
                let outcomes = batch.iter().zip(heard).map(|(recording, heard)| {
                    let (heard, is_speech) = heard?;
                    let of_segment = |is_speech: bool| {
                        let answer = is_speech.then(|| answers.next());
                        answer.map(|a| a.expect("an answer for each segment of speech"))
                    };
                    let answers: Vec<_> = is_speech.into_iter().map(of_segment).collect();
                    for answer in answers.iter().flatten() {
                        answer.check(&recording.name)?;
                    }
                    let about = &recording.about;
                    Ok(self.listener.conclude(about, &heard, answers, dropout))
                });
                Ok(outcomes.collect())
            }
        }
    }
}

/// What is wrong with the recording `name`.
fn refused(name: &str) -> impl FnOnce(FrontEndError) -> RecognizeError {
    move |error| match error {
        FrontEndError::Audio(error) => RecognizeError::audio(name)(error),
        FrontEndError::Features(error) => RecognizeError::features(name)(error),
    }
}

fn remembered(batch: Vec<Named>) -> Vec<Remembered> {
    let without_samples = |named: Named| Remembered {
        about: About::of(&named.recording),
        name: named.name,
    };
    batch.into_iter().map(without_samples).collect()
}

fn of_utterances(listener: &Listener) -> &utterance::Way {
    let way = listener.utterance();
    way.expect("the listener is of the same model as the front end")
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
        descriptors: None,
    };
    Ok(Some(networks.give(&asked, dropout)?))
}
