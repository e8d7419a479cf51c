//! A device that several threads give recordings to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::device::{Device, NamedRecording};
use super::{DeviceRecognizerError, Outcomes};
use crate::audio::Recording;
use crate::front_end::cuda::MOST_RECORDINGS;
use crate::nn::DropoutMode;
use crate::nn::cuda::CudaRunError;
use crate::prediction::Prediction;
use crate::recognizer::networks::{NetworkInputs, NetworkOutputs};
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
pub struct DeviceQueue {
    /// There until the end.
    waiting: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Of those that inputs, who has no answer yet.
    unanswered: AtomicUsize,
}

/// A recording's own outcome.
type Recognised = Result<Prediction, RecognizeError>;

#[derive(Debug)]
enum Job {
    Recording(Request<NamedRecording, Recognised>),
    NetworkInputs(Request<OwnedInputs, NetworkOutputs>),
}

/// Something to ask, with the way back to who inputs.
#[derive(Debug)]
struct Request<T, A> {
    inputs: T,
    /// As in [`DeviceLimits::numbers`].
    numbers: usize,
    dropout: DropoutMode,
    reply: Reply<A>,
}

/// A thread that is gone does not hear it.
type Reply<A> = Sender<Result<A, CudaRunError>>;

/// A [`NetworkInputs`] that another thread can ask.
#[derive(Debug)]
struct OwnedInputs {
    frames: Vec<f32>,
    starts: Vec<usize>,
    whole: Vec<Vec<f32>>,
    descriptors: Vec<f32>,
}

impl OwnedInputs {
    fn of(question: &NetworkInputs) -> Self {
        Self {
            frames: question.frames.to_vec(),
            starts: question.starts.to_vec(),
            whole: question.whole.iter().map(|x| x.to_vec()).collect(),
            descriptors: question.descriptors.to_vec(),
        }
    }

    fn network_inputs(&self) -> NetworkInputs<'_> {
        NetworkInputs {
            frames: &self.frames,
            starts: &self.starts,
            whole: self.whole.iter().map(|x| &**x).collect(),
            descriptors: &self.descriptors,
        }
    }
}

impl DeviceQueue {
    /// With a device that has nothing to do.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub(super) fn new(device: Device, limits: DeviceLimits) -> Result<Self, DeviceRecognizerError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|i| format!("listen {i}"))
            .build()
            .map_err(|e| DeviceRecognizerError::Threads(std::io::Error::other(e)))?;
        let (sender, receiver) = mpsc::channel();
        let rounds = DeviceThread {
            device,
            limits: DeviceLimits {
                recordings: limits.recordings.min(MOST_RECORDINGS),
                ..limits
            },
            threads,
            recordings: Vec::new(),
            questions: Vec::new(),
            in_flight: Vec::new(),
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
        let waiting = Job::Recording(Request {
            numbers,
            inputs: NamedRecording {
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
    pub fn run(
        &self,
        question: &NetworkInputs,
        dropout: &DropoutMode,
        name: &str,
    ) -> Result<NetworkOutputs, RecognizeError> {
        let (reply, answer) = mpsc::channel();
        let waiting = Job::NetworkInputs(Request {
            inputs: OwnedInputs::of(question),
            numbers: question.frames.len(),
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
        waiting: Job,
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

impl Drop for DeviceQueue {
    fn drop(&mut self) {
        self.waiting = None;
        if let Some(thread) = self.thread.take() {
            // It has told of its panics.
            let _ = thread.join();
        }
    }
}

/// The device's thread.
struct DeviceThread {
    device: Device,
    limits: DeviceLimits,
    /// Threads for what the processor does for the device.
    threads: rayon::ThreadPool,
    recordings: Vec<Request<NamedRecording, Recognised>>,
    questions: Vec<Request<OwnedInputs, NetworkOutputs>>,
    /// The ways back to those whose recordings the device has.
    in_flight: Vec<Reply<Recognised>>,
    /// Of a batch, since memory was given back.
    most_numbers: usize,
}

impl DeviceThread {
    /// Until nobody is left who could ask.
    fn run(mut self, receiver: &Receiver<Job>) {
        loop {
            let is_idle = self.recordings.is_empty() && self.questions.is_empty();
            if is_idle && self.in_flight.is_empty() {
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
                self.in_flight.clear();
                let _ = catch_unwind(AssertUnwindSafe(|| self.device.synchronise()));
            }
        }
    }

    fn receive(&mut self, waiting: Job) {
        match waiting {
            Job::Recording(asking) => self.recordings.push(asking),
            Job::NetworkInputs(asking) => self.questions.push(asking),
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
            self.run_inputs();
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
        let (batch, replies) = batch.into_iter().map(|w| (w.inputs, w.reply)).unzip();
        let (device, in_flight) = (&mut self.device, &mut self.in_flight);
        self.threads.install(|| {
            device.submit(batch, &dropout, |before| {
                forward(before, std::mem::take(in_flight));
            });
        });
        self.in_flight = replies;
    }

    /// Takes the answers that the device has been inputs for.
    fn conclude(&mut self) {
        let outcomes = self.device.finish();
        self.give_back();
        if let Some(outcomes) = outcomes {
            forward(outcomes, std::mem::take(&mut self.in_flight));
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

    fn run_inputs(&mut self) {
        let asking = together(&mut self.questions, &self.limits);
        let Some(first) = asking.first() else {
            return;
        };
        let questions: Vec<NetworkInputs> =
            asking.iter().map(|w| w.inputs.network_inputs()).collect();
        let answers = self.device.run(&questions, &first.dropout);
        let numbers = asking.iter().fold(0, |n, w| w.numbers.saturating_add(n));
        self.most_numbers = self.most_numbers.max(numbers);
        self.give_back();
        for (waiting, answer) in asking.iter().zip(answers) {
            let _ = waiting.reply.send(answer);
        }
    }
}

/// Takes those that have waited longest and want the same dropout, as far as they fit.
fn together<T, A>(waiting: &mut Vec<Request<T, A>>, limits: &DeviceLimits) -> Vec<Request<T, A>> {
    let dropout = match waiting.first().map(|first| &first.dropout) {
        None => return Vec::new(),
        // PendingOutputs for the rows of one recording.
        Some(DropoutMode::Masks(_)) => return vec![waiting.remove(0)],
        Some(dropout) => dropout.clone(),
    };
    let (mut count, mut numbers) = (0, 0usize);
    let fits = |w: &mut Request<T, A>| {
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
fn forward(outcomes: Outcomes, replies: Vec<Reply<Recognised>>) {
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
