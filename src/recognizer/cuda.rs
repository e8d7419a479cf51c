//! Many recordings at once on a GPU.

use std::sync::Arc;

use rayon::prelude::*;

use super::networks::{Answer, Question, graph_of};
use super::statistics::column_means;
use super::{Heard, RecognizeError, Recognizer, attention};
use crate::audio::Recording;
use crate::nn::cuda::{CudaPlan, CudaRunError, CudaSession, Driver, PlanError};
use crate::nn::model::Preprocessing;
use crate::nn::{DropoutMode, Model, Role};
use crate::prediction::{Attention, Prediction};

mod shared;

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
}

/// A [`Recognizer`] whose networks run on a device. Recordings are analysed on the processor, in
/// parallel; the networks are asked about all of them together. The answers are those of a
/// [`Worker`](super::Worker) up to the rounding of sums in another order.
#[derive(Debug)]
pub struct OnDevice<'r> {
    recognizer: &'r Recognizer,
    networks: Networks,
}

/// The five networks on a device.
#[derive(Debug)]
struct Networks {
    by_window: bool,
    emotions: usize,
    emotion_windows: CudaSession,
    age: CudaSession,
    gender: CudaSession,
    emotion_features: CudaSession,
    merge: CudaSession,
}

/// A recording that the networks can be asked about.
#[derive(Debug)]
pub struct Analysed {
    recording: Recording,
    heard: Heard,
}

impl Analysed {
    /// Numbers that its recording holds in memory.
    pub fn samples(&self) -> usize {
        self.recording.samples.len()
    }
}

/// Windows that are brought together into memory of the host: 128 MiB of those of 2020.
const WINDOWS_AT_ONCE: usize = 4096;
/// Draws of a recording that are computed together, so that any number of them fits the device.
const DRAWS_AT_ONCE: u32 = 1024;

impl Recognizer {
    /// The networks brought to a device.
    ///
    /// # Errors
    /// When the device fails or has no memory left.
    pub fn on_device(
        &self,
        driver: &Arc<dyn Driver>,
    ) -> Result<OnDevice<'_>, DeviceRecognizerError> {
        Ok(OnDevice {
            recognizer: self,
            networks: Networks::new(driver, &self.model)?,
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

    /// What the networks are asked about a decoded recording; `name` stands for it in errors. It
    /// is the processor's part of the work, for any thread.
    ///
    /// # Errors
    /// When the recording cannot be analysed; the message names it and says what to do.
    pub fn analyse(&self, recording: Recording, name: &str) -> Result<Analysed, RecognizeError> {
        let heard = self.hear(&recording, name)?;
        Ok(Analysed { recording, heard })
    }
}

fn session(
    driver: &Arc<dyn Driver>,
    model: &Model,
    role: Role,
) -> Result<CudaSession, DeviceRecognizerError> {
    let (graph, shapes) = graph_of(model, role)?;
    let plan = CudaPlan::new(driver, &graph, &shapes)?;
    Ok(CudaSession::new(&Arc::new(plan)))
}

impl OnDevice<'_> {
    /// What it runs on, for messages.
    pub fn device(&self) -> String {
        self.networks.merge.plan().driver().name()
    }

    /// The answer for each of some recordings with their names, in their order; they are analysed on
    /// the threads of the rayon pool that this is called in.
    ///
    /// # Errors
    /// When the device fails, or given dropout masks do not fit. A recording that cannot be
    /// analysed has its own error.
    pub fn recognize(
        &mut self,
        recordings: Vec<(Recording, &str)>,
        dropout: &DropoutMode,
    ) -> Result<Vec<Result<Prediction, RecognizeError>>, CudaRunError> {
        let names: Vec<&str> = recordings.iter().map(|(_, name)| *name).collect();
        let recognizer = self.recognizer;
        let analysed: Vec<_> = recordings
            .into_par_iter()
            .map(|(recording, name)| recognizer.analyse(recording, name))
            .collect();
        let good: Vec<(&Analysed, &str)> = analysed
            .iter()
            .zip(names)
            .filter_map(|(analysed, name)| Some((analysed.as_ref().ok()?, name)))
            .collect();
        let mut concluded = self.conclude(&good, dropout)?.into_iter();
        let outcome = |analysed: Result<Analysed, RecognizeError>| {
            analysed.and_then(|_| concluded.next().expect("an answer for each that is good"))
        };
        Ok(analysed.into_iter().map(outcome).collect())
    }

    /// The answer for each of some recordings that were analysed, with their names.
    ///
    /// # Errors
    /// When the device fails, or given dropout masks do not fit.
    pub fn conclude(
        &mut self,
        analysed: &[(&Analysed, &str)],
        dropout: &DropoutMode,
    ) -> Result<Vec<Result<Prediction, RecognizeError>>, CudaRunError> {
        let questions: Vec<Question> = analysed.iter().map(|(a, _)| a.heard.question()).collect();
        let answers = self.networks.ask(&questions, dropout)?;
        Ok(analysed
            .iter()
            .zip(answers)
            .map(|((a, name), answer)| {
                answer.check(name)?;
                Ok(self
                    .recognizer
                    .conclude(&a.recording, &a.heard, answer, dropout))
            })
            .collect())
    }
}

impl Networks {
    fn new(driver: &Arc<dyn Driver>, model: &Model) -> Result<Self, DeviceRecognizerError> {
        let session = |role| session(driver, model, role);
        let info = model.info();
        Ok(Self {
            by_window: info.preprocessing == Some(Preprocessing::Reference2020),
            emotions: info.emotions.len(),
            emotion_windows: session(Role::EmotionWindows)?,
            age: session(Role::Age)?,
            gender: session(Role::Gender)?,
            emotion_features: session(Role::EmotionFeatures)?,
            merge: session(Role::Merge)?,
        })
    }

    /// What the networks say about each of some recordings.
    fn ask(
        &mut self,
        asked: &[Question],
        dropout: &DropoutMode,
    ) -> Result<Vec<Answer>, CudaRunError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers: Vec<Answer> = asked
            .iter()
            .map(|_| Answer {
                windows: Vec::new(),
                attention: Vec::new(),
                age: Vec::new(),
                gender: Vec::new(),
                merged: Vec::new(),
            })
            .collect();
        self.look(asked, &mut answers)?;
        let whole = joined(asked);
        let whole: Vec<&[f32]> = whole.iter().map(|x| &**x).collect();
        if !self.by_window {
            for (session, part) in [(&mut self.age, Part::Age), (&mut self.gender, Part::Gender)] {
                session.run(&whole, asked.len(), &DropoutMode::Off)?;
                hand_out(session.output(0), part, |i| i, asked.len(), &mut answers);
            }
        }
        let means: Vec<Vec<f32>> = answers
            .iter()
            .map(|a| column_means(&a.windows, self.emotions))
            .collect();
        let is_stochastic = self.emotion_features.plan().is_stochastic();
        match *dropout {
            DropoutMode::Draws { n, seed } if is_stochastic => {
                for first in (0..n.get()).step_by(DRAWS_AT_ONCE as usize) {
                    let count = DRAWS_AT_ONCE.min(n.get() - first);
                    let mode = DropoutMode::draws(count, seed);
                    self.draw(first, &whole, &means, &mode, &mut answers)?;
                }
            }
            _ => self.draw(0, &whole, &means, dropout, &mut answers)?,
        }
        Ok(answers)
    }

    /// All windows of all recordings.
    fn look(&mut self, asked: &[Question], answers: &mut [Answer]) -> Result<(), CudaRunError> {
        let (_, shape) = self
            .emotion_windows
            .plan()
            .inputs()
            .next()
            .expect("a network of windows has an input");
        let elements = shape.iter().product::<usize>();
        let row = elements / shape[0];
        let all: Vec<(usize, usize)> = asked
            .iter()
            .enumerate()
            .flat_map(|(i, q)| q.starts.iter().map(move |&start| (i, start)))
            .collect();
        let mut batch = Vec::new();
        for windows in all.chunks(WINDOWS_AT_ONCE) {
            batch.clear();
            for &(i, start) in windows {
                batch.extend_from_slice(&asked[i].sheet[start * row..][..elements]);
            }
            let off = DropoutMode::Off;
            let owner = |window: usize| windows[window].0;
            let mut sessions = vec![(&mut self.emotion_windows, Part::Windows)];
            if self.by_window {
                sessions.push((&mut self.age, Part::Age));
                sessions.push((&mut self.gender, Part::Gender));
            }
            for (session, part) in sessions {
                session.run(&[&batch], windows.len(), &off)?;
                hand_out(session.output(0), part, owner, windows.len(), answers);
            }
            for (window, &(i, _)) in windows.iter().enumerate() {
                let attention = attention_of(&self.emotion_windows, window);
                answers[i].attention.push(attention);
            }
        }
        Ok(())
    }

    /// Some draws of all recordings.
    fn draw(
        &mut self,
        first: u32,
        whole: &[&[f32]],
        means: &[Vec<f32>],
        mode: &DropoutMode,
        answers: &mut [Answer],
    ) -> Result<(), CudaRunError> {
        let recordings = answers.len();
        let features = &mut self.emotion_features;
        features.run_from_draw(first, whole, recordings, mode)?;
        let draws = features.rows() / recordings;
        let repeated: Vec<f32> = means.iter().flat_map(|m| m.repeat(draws)).collect();
        let mut inputs = vec![&*repeated];
        let outputs = 0..features.plan().outputs().len();
        inputs.extend(outputs.map(|k| features.output(k)));
        self.merge
            .run(&inputs, features.rows(), &DropoutMode::Off)?;
        let rows = self.merge.rows();
        let merged = self.merge.output(0);
        hand_out(merged, Part::Merged, |r| r / draws, rows, answers);
        Ok(())
    }
}

/// Which part of an answer.
#[derive(Clone, Copy)]
enum Part {
    Windows,
    Age,
    Gender,
    Merged,
}

/// Appends each of the rows to the answer of the recording that owns it.
fn hand_out(
    output: &[f32],
    part: Part,
    owner: impl Fn(usize) -> usize,
    rows: usize,
    answers: &mut [Answer],
) {
    for (i, row) in output
        .chunks_exact((output.len() / rows).max(1))
        .enumerate()
    {
        let answer = &mut answers[owner(i)];
        let to = match part {
            Part::Windows => &mut answer.windows,
            Part::Age => &mut answer.age,
            Part::Gender => &mut answer.gender,
            Part::Merged => &mut answer.merged,
        };
        to.extend_from_slice(row);
    }
}

/// Each input of the feature network for all recordings, one after the other.
fn joined(asked: &[Question]) -> Vec<Vec<f32>> {
    let inputs = asked.first().map_or(0, |q| q.whole.len());
    (0..inputs)
        .map(|k| asked.iter().flat_map(|q| q.whole[k]).copied().collect())
        .collect()
}

fn attention_of(session: &CudaSession, row: usize) -> Option<Attention> {
    let outputs = session.plan().outputs().enumerate();
    let outputs = outputs.map(|(k, (name, shape))| (name, shape, session.output(k)));
    attention::of_row(outputs, row)
}
