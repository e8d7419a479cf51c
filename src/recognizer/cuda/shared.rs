//! A device that several threads give recordings to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::device::{Device, Named};
use super::{DeviceRecognizerError, Outcomes};
use crate::audio::Recording;
use crate::front_end::cuda::MOST_RECORDINGS;
use crate::nn::DropoutMode;
use crate::nn::cuda::CudaRunError;
use crate::prediction::Prediction;
use crate::recognizer::networks::{Answer, Question};
use crate::recognizer::{Options, RecognizeError};

/// How much [`Recognizer::use_device`](crate::Recognizer::use_device) gives a device at a time, and
/// how much memory it leaves there. What does not fit waits for the next batch, where it is the
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Recordings of a batch.
    pub recordings: usize,
    /// Numbers of four bytes that the samples of a batch, and also their signals at 16 kHz, have at
    /// most. A recording that has more goes alone, and the memory for it is given back.
    pub numbers: usize,
    /// Bytes of device memory that the networks keep from batch to batch.
    pub kept_bytes: usize,
}

impl Default for DeviceLimits {
    /// 256 recordings and 64 MiB of samples, which are six minutes at 44.1 kHz: who asks with a few
    /// seconds should not have to wait for more. The networks keep 1 GiB: those of 2020 take 0.9 GB
    /// for so much with 32 draws.
    fn default() -> Self {
        Self {
            recordings: 256,
            numbers: 1 << 24,
            kept_bytes: 1 << 30,
        }
    }
}

/// A device with a thread of its own, which takes what waits and sends the answers.
///
/// Who asks only waits for its own answer, on any thread: holding a lock while the device's rayon
/// threads work would let a thread of another rayon pool begin work that waits for the same lock.
#[derive(Debug)]
pub struct Shared {
    /// There until the end.
    waiting: Option<Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
    /// Of those that asked, who has no answer yet.
    unanswered: AtomicUsize,
}

/// A recording's own outcome.
type Recognised = Result<Prediction, RecognizeError>;

#[derive(Debug)]
enum Waiting {
    Recording(Asking<Named, Recognised>),
    Question(Asking<Owned, Answer>),
}

/// Something to ask, with the way back to who asked.
#[derive(Debug)]
struct Asking<T, A> {
    asked: T,
    /// As in [`DeviceLimits::numbers`].
    numbers: usize,
    dropout: DropoutMode,
    reply: Reply<A>,
}

/// A thread that is gone does not hear it.
type Reply<A> = Sender<Result<A, CudaRunError>>;

/// A [`Question`] that another thread can ask.
#[derive(Debug)]
struct Owned {
    sheet: Vec<f32>,
    starts: Vec<usize>,
    whole: Vec<Vec<f32>>,
    descriptors: Vec<f32>,
}

impl Owned {
    fn of(question: &Question) -> Self {
        Self {
            sheet: question.sheet.to_vec(),
            starts: question.starts.to_vec(),
            whole: question.whole.iter().map(|x| x.to_vec()).collect(),
            descriptors: question.descriptors.to_vec(),
        }
    }

    fn question(&self) -> Question<'_> {
        Question {
            sheet: &self.sheet,
            starts: &self.starts,
            whole: self.whole.iter().map(|x| &**x).collect(),
            descriptors: &self.descriptors,
        }
    }
}

impl Shared {
    /// With a device that has nothing to do.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub(super) fn new(device: Device, limits: DeviceLimits) -> Result<Self, DeviceRecognizerError> {
        let listeners = rayon::ThreadPoolBuilder::new()
            .thread_name(|i| format!("listen {i}"))
            .build()
            .map_err(|e| DeviceRecognizerError::Threads(std::io::Error::other(e)))?;
        let (sender, receiver) = mpsc::channel();
        let rounds = Rounds {
            device,
            limits: DeviceLimits {
                recordings: limits.recordings.min(MOST_RECORDINGS),
                ..limits
            },
            listeners,
            recordings: Vec::new(),
            questions: Vec::new(),
            at_work: Vec::new(),
            most_numbers: 0,
        };
        let thread = std::thread::Builder::new()
            .name("device".into())
            .spawn(move || rounds.run(&receiver))
            .map_err(DeviceRecognizerError::Threads)?;
        Ok(Self {
            waiting: Some(sender),
            thread: Some(thread),
            unanswered: AtomicUsize::new(0),
        })
    }

    /// The answer for a recording of so many numbers (see [`DeviceLimits::numbers`]), called `name` in
    /// errors.
    ///
    /// # Errors
    /// When the recording cannot be analysed, given dropout masks do not fit, or the device fails.
    pub fn recognize(
        &self,
        recording: Recording,
        numbers: usize,
        name: &str,
        options: Options,
    ) -> Result<Prediction, RecognizeError> {
        let (reply, answer) = mpsc::channel();
        let waiting = Waiting::Recording(Asking {
            numbers,
            asked: Named {
                recording,
                name: name.to_owned(),
                profile: options.profile.cloned().map(Arc::new),
            },
            dropout: options.dropout.clone(),
            reply,
        });
        self.wait(waiting, &answer, name)?
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
        let waiting = Waiting::Question(Asking {
            asked: Owned::of(question),
            numbers: question.sheet.len(),
            dropout: dropout.clone(),
            reply,
        });
        self.wait(waiting, &answer, name)
    }

    /// Those that wait for the device or for what it has of theirs.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    fn wait<A>(
        &self,
        waiting: Waiting,
        answer: &Receiver<Result<A, CudaRunError>>,
        name: &str,
    ) -> Result<A, RecognizeError> {
        // Where nobody takes it, the way back is gone too.
        if let Some(sender) = &self.waiting {
            let _ = sender.send(waiting);
        }
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        let answer = answer.recv();
        self.unanswered.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Ok(answer) => answer.map_err(|error| RecognizeError::device(name, &error)),
            Err(_) => Err(RecognizeError::Device {
                name: name.into(),
                problem: "they were interrupted; try again".into(),
            }),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.waiting = None;
        if let Some(thread) = self.thread.take() {
            // It has told of its panics.
            let _ = thread.join();
        }
    }
}

/// The device's thread.
struct Rounds {
    device: Device,
    limits: DeviceLimits,
    /// Threads for what the processor does for the device.
    listeners: rayon::ThreadPool,
    recordings: Vec<Asking<Named, Recognised>>,
    questions: Vec<Asking<Owned, Answer>>,
    /// The ways back to those whose recordings the device has.
    at_work: Vec<Reply<Recognised>>,
    /// Of a batch, since memory was given back.
    most_numbers: usize,
}

impl Rounds {
    /// Until nobody is left who could ask.
    fn run(mut self, receiver: &Receiver<Waiting>) {
        loop {
            let is_idle = self.recordings.is_empty() && self.questions.is_empty();
            if is_idle && self.at_work.is_empty() {
                match receiver.recv() {
                    Ok(first) => self.receive(first),
                    Err(_) => return,
                }
            }
            receiver.try_iter().for_each(|w| self.receive(w));
            if catch_unwind(AssertUnwindSafe(|| self.round())).is_err() {
                // Those whose recordings it met find their way back gone. The batch before may be
                // there still.
                let _ = catch_unwind(AssertUnwindSafe(|| self.conclude()));
                self.at_work.clear();
                let _ = catch_unwind(AssertUnwindSafe(|| self.device.settle()));
            }
        }
    }

    fn receive(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Recording(asking) => self.recordings.push(asking),
            Waiting::Question(asking) => self.questions.push(asking),
        }
    }

    /// A batch of recordings, or the answers to the last one; then a batch of questions.
    fn round(&mut self) {
        match self.recordings.is_empty() {
            true => self.conclude(),
            false => self.submit(),
        }
        if !self.questions.is_empty() {
            self.conclude();
            self.ask();
        }
    }

    fn submit(&mut self) {
        let batch = together(&mut self.recordings, &self.limits);
        let numbers = batch.iter().fold(0, |n, w| w.numbers.saturating_add(n));
        let Some(dropout) = batch.first().map(|w| w.dropout.clone()) else {
            return;
        };
        // Nobody whose answer is nearly there should wait for a long recording.
        if numbers > self.limits.numbers || self.holds_much() {
            self.conclude();
        }
        self.most_numbers = self.most_numbers.max(numbers);
        let (batch, replies) = batch.into_iter().map(|w| (w.asked, w.reply)).unzip();
        let (device, at_work) = (&mut self.device, &mut self.at_work);
        self.listeners.install(|| {
            device.submit(batch, &dropout, |before| {
                hand_on(before, std::mem::take(at_work));
            });
        });
        self.at_work = replies;
    }

    /// Takes the answers that the device has been asked for.
    fn conclude(&mut self) {
        let outcomes = self.device.finish();
        self.give_back();
        if let Some(outcomes) = outcomes {
            hand_on(outcomes, std::mem::take(&mut self.at_work));
        }
    }

    /// Gives memory back if it is much; nothing is at work.
    fn give_back(&mut self) {
        if self.holds_much() {
            self.device.give_back();
            self.most_numbers = 0;
        }
    }

    fn holds_much(&self) -> bool {
        self.most_numbers > self.limits.numbers || self.device.held_bytes() > self.limits.kept_bytes
    }

    fn ask(&mut self) {
        let asking = together(&mut self.questions, &self.limits);
        let Some(first) = asking.first() else {
            return;
        };
        let questions: Vec<Question> = asking.iter().map(|w| w.asked.question()).collect();
        let answers = self.device.ask(&questions, &first.dropout);
        let numbers = asking.iter().fold(0, |n, w| w.numbers.saturating_add(n));
        self.most_numbers = self.most_numbers.max(numbers);
        self.give_back();
        for (waiting, answer) in asking.iter().zip(answers) {
            let _ = waiting.reply.send(answer);
        }
    }
}

/// Takes those that have waited longest and want the same dropout, as far as they fit.
fn together<T, A>(waiting: &mut Vec<Asking<T, A>>, limits: &DeviceLimits) -> Vec<Asking<T, A>> {
    let dropout = match waiting.first().map(|first| &first.dropout) {
        None => return Vec::new(),
        // Given for the rows of one recording.
        Some(DropoutMode::Masks(_)) => return vec![waiting.remove(0)],
        Some(dropout) => dropout.clone(),
    };
    let (mut count, mut numbers) = (0, 0usize);
    let fits = |w: &mut Asking<T, A>| {
        let all = numbers.saturating_add(w.numbers);
        let is_full = count >= limits.recordings || all > limits.numbers;
        let fits = w.dropout == dropout && (count == 0 || !is_full);
        if fits {
            (count, numbers) = (count + 1, all);
        }
        fits
    };
    waiting.extract_if(.., fits).collect()
}

/// Hands on the outcomes of a batch.
fn hand_on(outcomes: Outcomes, replies: Vec<Reply<Recognised>>) {
    match outcomes {
        Ok(outcomes) => {
            for (reply, outcome) in replies.iter().zip(outcomes) {
                let _ = reply.send(Ok(outcome));
            }
        }
        Err(error) => {
            for reply in &replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}
