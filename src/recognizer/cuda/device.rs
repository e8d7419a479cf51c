//! A device at work: batch behind batch of recordings.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::inputs::InputBuffers;
use super::networks::{DeviceInputs, Networks, PendingOutputs};
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
use crate::recognizer::front_end::{self, Features, RecordingInfo};
use crate::recognizer::networks::{NetworkInputs, NetworkOutputs};
use crate::recognizer::profile::SpeakerProfile;
use crate::recognizer::speech::{SpeechCheck, SpeechSession};
use crate::recognizer::{RecognizeError, legacy2020, utterance};

/// A model's front end and its networks, with the memory for a batch.
#[derive(Debug)]
pub struct Device {
    cpu_front_end: Arc<front_end::FrontEnd>,
    front_end: DeviceFrontEnd,
    networks: Networks,
    /// On the processor: it decides what the networks are inputs.
    speech: SpeechSession,
    questions: InputBuffers,
    in_flight: Option<InFlight>,
}

/// The front ends, each beside the networks' first stream.
#[derive(Debug)]
enum DeviceFrontEnd {
    Legacy2020(Box<FrontEnd>),
    Utterance(Box<UtteranceFrontEnd>),
}

/// What a front end has found out about a batch before the networks are inputs.
#[derive(Debug)]
enum FrontEndOutput {
    /// Where voice is; the networks' inputs come from the device's own part of the signals.
    Voices(Listened),
    /// All of it, told by the processor from the device's frames.
    All(Vec<Result<Features, FrontEndError>>),
}

/// What the device has been given.
#[derive(Debug)]
struct InFlight {
    batch: Vec<PendingRecording>,
    dropout: DropoutMode,
    state: Result<State, CudaRunError>,
}

/// A recording without its samples.
#[derive(Debug)]
struct PendingRecording {
    about: RecordingInfo,
    name: String,
}

#[derive(Debug)]
enum State {
    /// The networks' inputs are on the device alone. Nothing was given if no recording has a voice.
    Described(Listened, Option<PendingOutputs>),
    /// They were brought there, of those that could be analysed.
    DeviceInputs(Vec<Result<Spoken, RecognizeError>>, Option<PendingOutputs>),
    /// The device had no room for all of them at once.
    InParts(Vec<Result<Prediction, RecognizeError>>),
}

/// A recording's inputs, and which of its segments are speech.
type Spoken = (Features, Vec<bool>);

/// A recording with its name, and its speaker's profile if there is one.
#[derive(Debug)]
pub struct NamedRecording {
    /// Decoded.
    pub recording: Recording,
    /// What errors call it.
    pub name: String,
    /// One that [`Recognizer::check_profile`](crate::Recognizer::check_profile) accepts.
    pub profile: Option<Arc<SpeakerProfile>>,
}

impl From<(Recording, String)> for NamedRecording {
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
    /// For a model with this front end.
    ///
    /// # Errors
    /// When the device fails or has no memory left.
    pub fn new(
        driver: &Arc<dyn Driver>,
        model: &Model,
        cpu_front_end: &Arc<front_end::FrontEnd>,
    ) -> Result<Self, DeviceRecognizerError> {
        let (resampling, stream) = (model.info().resampling, Stream::B);
        let front_end = match cpu_front_end.kind() {
            FrontEndKind::Legacy2020 => {
                let front_end = FrontEnd::new(driver.clone(), stream, resampling)?;
                DeviceFrontEnd::Legacy2020(Box::new(front_end))
            }
            FrontEndKind::Utterance => {
                let front_end = UtteranceFrontEnd::new(driver.clone(), stream, resampling)?;
                DeviceFrontEnd::Utterance(Box::new(front_end))
            }
        };
        Ok(Self {
            cpu_front_end: Arc::clone(cpu_front_end),
            front_end,
            networks: Networks::new(driver, model)?,
            speech: SpeechCheck::new(model)?.session(),
            questions: InputBuffers::default(),
            in_flight: None,
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
            DeviceFrontEnd::Legacy2020(front_end) => front_end.give_back(),
            DeviceFrontEnd::Utterance(front_end) => front_end.give_back(),
        }
        self.networks.give_back();
        self.questions = InputBuffers::default();
    }

    /// Waits until it does nothing any more, so that what a panic has left meets no buffer that is
    /// used again.
    pub fn synchronise(&self) {
        for stream in [Stream::A, Stream::B] {
            // What it fails with was inputs for by those that the panic met.
            let _ = self.networks.driver().synchronise(stream);
        }
    }

    /// See [`DeviceRecognizer::submit`](super::DeviceRecognizer::submit); `before` is given the outcomes of the
    /// batch before as soon as they are there.
    pub fn submit(
        &mut self,
        batch: Vec<NamedRecording>,
        dropout: &DropoutMode,
        before: impl FnOnce(Outcomes),
    ) {
        let front_end_output = self.listen(&batch);
        if let Some(outcomes) = self.finish() {
            before(outcomes);
        }
        let given = front_end_output
            .and_then(|front_end_output| self.give(Some(front_end_output), &batch, dropout));
        let (state, batch) = match given {
            Err(error) if has_no_room(&error) => {
                (self.in_parts(batch, dropout).map(State::InParts), vec![])
            }
            state => (state, pending(batch)),
        };
        self.in_flight = Some(InFlight {
            batch,
            dropout: dropout.clone(),
            state,
        });
    }

    /// See [`DeviceRecognizer::finish`](super::DeviceRecognizer::finish).
    pub fn finish(&mut self) -> Option<Outcomes> {
        let InFlight {
            batch,
            dropout,
            state,
        } = self.in_flight.take()?;
        Some(state.and_then(|state| self.outcomes(batch, state, &dropout)))
    }

    /// What the networks say about recordings that were analysed elsewhere; nothing is at work.
    pub fn run(
        &mut self,
        questions: &[NetworkInputs],
        dropout: &DropoutMode,
    ) -> Vec<Result<NetworkOutputs, CudaRunError>> {
        let mut answers = self.run_batch(questions, dropout);
        if answers.as_ref().is_err_and(has_no_room) {
            self.give_back();
            if questions.len() > 1 {
                let (some, others) = questions.split_at(questions.len() / 2);
                let mut answers = self.run(some, dropout);
                answers.extend(self.run(others, dropout));
                return answers;
            }
            answers = self.run_batch(questions, dropout);
        }
        match answers {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => questions.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn run_batch(
        &mut self,
        questions: &[NetworkInputs],
        dropout: &DropoutMode,
    ) -> Result<Vec<NetworkOutputs>, CudaRunError> {
        let given = self
            .questions
            .give(&mut self.networks, questions, dropout)?;
        self.take(given)
    }

    /// The front end's part of the work before the networks are inputs.
    fn listen(&mut self, batch: &[NamedRecording]) -> Result<FrontEndOutput, CudaRunError> {
        let recordings: Vec<&Recording> = batch.iter().map(|named| &named.recording).collect();
        Ok(match &mut self.front_end {
            DeviceFrontEnd::Legacy2020(front_end) => {
                FrontEndOutput::Voices(front_end.listen(&recordings)?)
            }
            DeviceFrontEnd::Utterance(front_end) => {
                let pipeline = of_utterances(&self.cpu_front_end);
                let extractor = pipeline.extractor();
                let analysed = front_end
                    .analyse_segments(extractor, &recordings)?
                    .into_par_iter();
                let heard = |segments| Features::Utterance(Box::new(pipeline.inputs(segments)));
                FrontEndOutput::All(analysed.map(|result| result.map(heard)).collect())
            }
        })
    }

    /// The rest, and what the networks are inputs. What no front end has found out about is analysed by the
    /// processor.
    fn give(
        &mut self,
        front_end_output: Option<FrontEndOutput>,
        batch: &[NamedRecording],
        dropout: &DropoutMode,
    ) -> Result<State, CudaRunError> {
        let heard: Vec<Result<Features, RecognizeError>> =
            match (front_end_output, &mut self.front_end) {
                (Some(FrontEndOutput::Voices(listened)), DeviceFrontEnd::Legacy2020(front_end)) => {
                    let given = describe(front_end, &listened, &mut self.networks, dropout)?;
                    return Ok(State::Described(listened, given));
                }
                (Some(FrontEndOutput::Voices(_)), _) => unreachable!("told by this front end"),
                (Some(FrontEndOutput::All(heard)), _) => {
                    let pairs = heard.into_iter().zip(batch);
                    pairs
                        .map(|(heard, named)| heard.map_err(refused(&named.name)))
                        .collect()
                }
                (None, _) => {
                    let cpu_front_end = &self.cpu_front_end;
                    let hear = |named: &NamedRecording| {
                        let recording = Cow::Borrowed(&named.recording);
                        cpu_front_end.features(recording, &named.name, Parallelism::No)
                    };
                    batch.par_iter().map(hear).collect()
                }
            };
        let (cpu_front_end, speech) = (&self.cpu_front_end, &mut self.speech);
        let spoken = heard.into_iter().zip(batch).map(|(heard, named)| {
            let mut heard = heard?;
            let is_speech = speech.check(&heard, &named.recording.defects, &named.name)?;
            if let (Some(profile), Some(scale)) = (&named.profile, cpu_front_end.speaker()) {
                heard.adapt(profile, scale);
            }
            Ok((heard, is_speech))
        });
        let heard: Vec<Result<Spoken, RecognizeError>> = spoken.collect();
        let good = heard.iter().flatten().flat_map(|(heard, is_speech)| {
            let pairs = heard.network_inputs().into_iter().zip(is_speech);
            pairs.filter_map(|(question, is_speech)| is_speech.then_some(question))
        });
        let questions: Vec<NetworkInputs> = good.collect();
        let given = self
            .questions
            .give(&mut self.networks, &questions, dropout)?;
        Ok(State::DeviceInputs(heard, given))
    }

    /// The outcomes of a batch that there is no room for, so that the answer for one of its
    /// recordings is the same as without the others: halves of it, down to single recordings.
    fn in_parts(&mut self, mut batch: Vec<NamedRecording>, dropout: &DropoutMode) -> Outcomes {
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
    fn at_last(&mut self, batch: Vec<NamedRecording>, dropout: &DropoutMode) -> Outcomes {
        let front_end_output = self.listen(&batch);
        let mut given = front_end_output
            .and_then(|front_end_output| self.give(Some(front_end_output), &batch, dropout));
        if given.as_ref().is_err_and(has_no_room) {
            self.give_back();
            given = self.give(None, &batch, dropout);
        }
        let batch = pending(batch);
        match given {
            Err(error) if has_no_room(&error) => {
                let refused = |r: PendingRecording| Err(RecognizeError::device(&r.name, &error));
                Ok(batch.into_iter().map(refused).collect())
            }
            given => self.outcomes(batch, given?, dropout),
        }
    }

    fn take(&self, given: Option<PendingOutputs>) -> Result<Vec<NetworkOutputs>, CudaRunError> {
        match given {
            None => Ok(Vec::new()),
            Some(given) => self.networks.take(given),
        }
    }

    fn outcomes(
        &self,
        batch: Vec<PendingRecording>,
        state: State,
        dropout: &DropoutMode,
    ) -> Outcomes {
        let dropout = match self.networks.is_stochastic() {
            true => dropout,
            false => &DropoutMode::Off,
        };
        match (state, &self.front_end) {
            (State::InParts(outcomes), _) => Ok(outcomes),
            (State::Described(listened, given), DeviceFrontEnd::Legacy2020(front_end)) => {
                let answers = self.take(given)?.into_iter();
                let mut answers: Vec<Option<NetworkOutputs>> = answers.map(Some).collect();
                let heard = front_end.heard(&listened)?;
                let outcomes = batch.iter().zip(heard).map(|(recording, heard)| {
                    let heard = heard.map_err(refused(&recording.name))?;
                    let answer = answers[heard.place.row].take();
                    let answer = answer.expect("every recording has a row of its own");
                    answer.check(&recording.name)?;
                    let known = legacy2020::Known::of_device(heard, &recording.about);
                    let pipeline = self.cpu_front_end.legacy2020();
                    let pipeline = pipeline.expect("both front ends are of the same model");
                    Ok(pipeline.prediction(&recording.about, &known, answer, dropout))
                });
                Ok(outcomes.collect())
            }
            (State::Described(..), _) => unreachable!("described by this front end"),
            (State::DeviceInputs(heard, given), _) => {
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
                    Ok(self
                        .cpu_front_end
                        .prediction(about, &heard, answers, dropout))
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

fn pending(batch: Vec<NamedRecording>) -> Vec<PendingRecording> {
    let without_samples = |named: NamedRecording| PendingRecording {
        about: RecordingInfo::of(&named.recording),
        name: named.name,
    };
    batch.into_iter().map(without_samples).collect()
}

fn of_utterances(cpu_front_end: &front_end::FrontEnd) -> &utterance::Pipeline {
    let pipeline = cpu_front_end.utterance();
    pipeline.expect("both front ends are of the same model")
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
) -> Result<Option<PendingOutputs>, CudaRunError> {
    let inputs = front_end.describe(listened)?;
    if inputs.rows == 0 {
        return Ok(None);
    }
    let inputs = DeviceInputs {
        windows: Source::Device(inputs.window_rows()),
        firsts: inputs.first_windows.clone(),
        whole: inputs.branch_rows().map(Source::Device).into(),
        descriptors: None,
    };
    Ok(Some(networks.give(&inputs, dropout)?))
}
