//! Networks on a device that several threads ask.

use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::networks::Networks;
use super::questions::Questions;
use crate::nn::DropoutMode;
use crate::nn::cuda::CudaRunError;
use crate::recognizer::RecognizeError;
use crate::recognizer::networks::{Answer, Question};

/// Whoever gets the device takes the questions of all that wait for it.
#[derive(Debug)]
pub struct Shared {
    networks: Mutex<(Networks, Questions)>,
    waiting: Mutex<Vec<Waiting>>,
}

/// A question with the way back to who asked.
#[derive(Debug)]
struct Waiting {
    question: Owned,
    dropout: DropoutMode,
    reply: Sender<Result<Answer, CudaRunError>>,
}

/// A [`Question`] that another thread can ask.
#[derive(Debug)]
struct Owned {
    sheet: Vec<f32>,
    starts: Vec<usize>,
    whole: Vec<Vec<f32>>,
}

impl Owned {
    fn of(question: &Question) -> Self {
        Self {
            sheet: question.sheet.to_vec(),
            starts: question.starts.to_vec(),
            whole: question.whole.iter().map(|x| x.to_vec()).collect(),
        }
    }

    fn question(&self) -> Question<'_> {
        Question {
            sheet: &self.sheet,
            starts: &self.starts,
            whole: self.whole.iter().map(|x| &**x).collect(),
        }
    }
}

/// What a panic leaves is overwritten by the next run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// For these networks.
    pub(super) fn new(networks: Networks) -> Self {
        Self {
            networks: Mutex::new((networks, Questions::default())),
            waiting: Mutex::default(),
        }
    }

    /// What the networks say about one recording, called `name` in errors.
    ///
    /// # Errors
    /// When given dropout masks do not fit, or the device fails.
    pub fn ask(
        &self,
        question: &Question,
        dropout: &DropoutMode,
        name: &str,
    ) -> Result<Answer, RecognizeError> {
        let (reply, answer) = mpsc::channel();
        lock(&self.waiting).push(Waiting {
            question: Owned::of(question),
            dropout: dropout.clone(),
            reply,
        });
        {
            let mut networks = lock(&self.networks);
            // This question is still here, or who had the device before has answered it.
            let waiting = std::mem::take(&mut *lock(&self.waiting));
            answer_all(&mut networks, waiting);
        }
        let failed = |problem: String| RecognizeError::Device {
            name: name.into(),
            problem,
        };
        match answer.recv() {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(CudaRunError::Run(error))) => Err(RecognizeError::Run(error)),
            Ok(Err(CudaRunError::Device(error))) => Err(failed(error.to_string())),
            // The thread that took the question panicked.
            Err(_) => Err(failed("the networks were interrupted; try again".into())),
        }
    }
}

/// Answers all that wait, together where they want the same dropout.
fn answer_all((networks, memory): &mut (Networks, Questions), mut waiting: Vec<Waiting>) {
    while let Some(first) = waiting.first() {
        let dropout = first.dropout.clone();
        let together: Vec<Waiting> = match dropout {
            // Given for the rows of one question.
            DropoutMode::Masks(_) => vec![waiting.remove(0)],
            _ => waiting.extract_if(.., |w| w.dropout == dropout).collect(),
        };
        let questions: Vec<Question> = together.iter().map(|w| w.question.question()).collect();
        // A thread that is gone does not hear it.
        let given = memory.give(networks, &questions, &dropout);
        let answers = given.and_then(|given| match given {
            Some(given) => networks.take(given),
            None => Ok(Vec::new()),
        });
        match answers {
            Ok(answers) => {
                for (waiting, answer) in together.iter().zip(answers) {
                    let _ = waiting.reply.send(Ok(answer));
                }
            }
            Err(error) => {
                for waiting in &together {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
            }
        }
    }
}
