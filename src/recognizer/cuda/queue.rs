//! Queue in front of a device: recordings of several threads form batches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use super::device::{BatchOutcome, Device};
use super::{
    DeviceFailure, DeviceLimits, DeviceOutcome, DeviceRecognizerError, NamedRecording,
    RecordingOutcome,
};
use crate::front_end::cuda::MOST_RECORDINGS;
use crate::nn::DropoutMode;
use crate::nn::cuda::CudaRunError;
use crate::recognizer::RecognizeError;
use crate::recognizer::networks::{NetworkInputs, NetworkOutputs};

/// A device with its own thread, which forms batches of the waiting recordings.
///
/// A caller waits for its own outcome only, on any thread. A lock around the device would deadlock: a
/// rayon thread that waits for the device's pool may start another job of its own pool, and that job may
/// wait for the same lock.
#[derive(Debug)]
pub struct DeviceQueue {
    /// `None` only while the queue is dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Number of callers in [`DeviceQueue::recognize`] and [`DeviceQueue::run`].
    waiting: AtomicUsize,
}

/// A message to the device's thread.
#[derive(Debug)]
enum Job {
    Recordings(Vec<Request<NamedRecording, RecordingOutcome>>),
    Networks(Request<OwnedInputs, NetworkOutputs>),
}

/// Input of a job with the receiver of its outcome.
#[derive(Debug)]
struct Request<T, A> {
    input: T,
    /// Size as in [`DeviceLimits::floats`].
    floats: usize,
    dropout: DropoutMode,
    reply: Reply<A>,
}

/// Sending half of a [`Pending`]. Dropping it reports an interruption.
#[derive(Debug)]
struct Reply<A> {
    sender: Sender<Result<A, CudaRunError>>,
    is_wanted: Weak<()>,
}

/// An outcome that the device has not computed yet. The device skips a job whose outcome was dropped.
#[derive(Debug)]
struct Pending<A> {
    receiver: Receiver<Result<A, CudaRunError>>,
    _is_wanted: Arc<()>,
}

/// Outcome of a recording that was submitted to a device. Dropping it cancels the recording, unless the
/// device has started it.
#[derive(Debug)]
pub struct PendingPrediction(Pending<RecordingOutcome>);

/// A [`NetworkInputs`] with its own memory.
#[derive(Debug)]
struct OwnedInputs {
    frames: Vec<f32>,
    starts: Vec<usize>,
    whole: Vec<Vec<f32>>,
    descriptors: Vec<f32>,
}

/// Size of a batch while recordings are added.
#[derive(Debug, Default)]
pub(crate) struct BatchSize {
    recordings: usize,
    floats: usize,
}

impl BatchSize {
    /// Adds a recording of this size, unless the batch would exceed the limits; returns whether the
    /// recording was added. An empty batch accepts a recording of any size.
    pub fn try_add(&mut self, floats: usize, limits: &DeviceLimits) -> bool {
        let floats = self.floats.saturating_add(floats);
        let is_within = self.recordings < limits.recordings && floats <= limits.floats;
        let fits = self.recordings == 0 || is_within;
        if fits {
            self.recordings += 1;
            self.floats = floats;
        }
        fits
    }

    /// Returns true if the batch accepts no further recording.
    pub fn is_full(&self, limits: &DeviceLimits) -> bool {
        self.recordings >= limits.recordings || self.floats >= limits.floats
    }
}

impl<T, A> Request<T, A> {
    fn new(input: T, floats: usize, dropout: &DropoutMode) -> (Self, Pending<A>) {
        let (sender, receiver) = mpsc::channel();
        let is_wanted = Arc::new(());
        let request = Self {
            input,
            floats,
            dropout: dropout.clone(),
            reply: Reply {
                sender,
                is_wanted: Arc::downgrade(&is_wanted),
            },
        };
        let pending = Pending {
            receiver,
            _is_wanted: is_wanted,
        };
        (request, pending)
    }
}

impl<A> Reply<A> {
    fn send(&self, outcome: Result<A, CudaRunError>) {
        // A failed send means that the outcome was dropped.
        let _ = self.sender.send(outcome);
    }

    fn is_wanted(&self) -> bool {
        self.is_wanted.strong_count() > 0
    }
}

impl<A> Pending<A> {
    fn wait(self) -> Result<A, DeviceFailure> {
        match self.receiver.recv() {
            Ok(outcome) => outcome.map_err(DeviceFailure::Run),
            Err(_) => Err(DeviceFailure::Interrupted),
        }
    }
}

impl PendingPrediction {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// The outer error is that of the device, the inner one that of the recording.
    pub fn wait(self) -> DeviceOutcome {
        self.0.wait()
    }
}

impl OwnedInputs {
    fn of(inputs: &NetworkInputs) -> Self {
        Self {
            frames: inputs.frames.to_vec(),
            starts: inputs.starts.to_vec(),
            whole: inputs.whole.iter().map(|x| x.to_vec()).collect(),
            descriptors: inputs.descriptors.to_vec(),
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
    /// Starts the thread of an idle device. The CPU part of the front end runs on `threads`.
    ///
    /// # Errors
    /// The operating system cannot start the thread.
    pub(super) fn new(
        device: Device,
        limits: DeviceLimits,
        threads: rayon::ThreadPool,
    ) -> Result<Self, DeviceRecognizerError> {
        let (sender, receiver) = mpsc::channel();
        let device_thread = DeviceThread {
            device,
            limits: DeviceLimits {
                recordings: limits.recordings.min(MOST_RECORDINGS),
                ..limits
            },
            threads,
            recordings: Vec::new(),
            inputs: Vec::new(),
            in_flight: Vec::new(),
            largest_batch: 0,
        };
        let thread = std::thread::Builder::new()
            .name("device".into())
            .spawn(move || device_thread.run(&receiver))
            .map_err(DeviceRecognizerError::Threads)?;
        Ok(Self {
            jobs: Some(sender),
            thread: Some(thread),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Appends recordings of the given sizes (see [`DeviceLimits::floats`]) to the queue and returns their
    /// pending outcomes in order. The device's thread receives them together.
    pub fn submit(
        &self,
        recordings: impl IntoIterator<Item = (NamedRecording, usize)>,
        dropout: &DropoutMode,
    ) -> Vec<PendingPrediction> {
        let request = |(recording, floats)| {
            let (request, pending) = Request::new(recording, floats, dropout);
            (request, PendingPrediction(pending))
        };
        let (requests, pending) = recordings.into_iter().map(request).unzip();
        self.send(Job::Recordings(requests));
        pending
    }

    /// Recognises a recording of this size (see [`DeviceLimits::floats`]) and waits for the outcome.
    ///
    /// # Errors
    /// The recording cannot be analysed, the dropout masks do not fit, or the device fails.
    pub fn recognize(
        &self,
        recording: NamedRecording,
        floats: usize,
        dropout: &DropoutMode,
    ) -> RecordingOutcome {
        let name = recording.name.clone();
        let (request, pending) = Request::new(recording, floats, dropout);
        self.send(Job::Recordings(vec![request]));
        let outcome = self.wait(pending);
        outcome.map_err(|failure| failure.for_recording(&name))?
    }

    /// Runs the networks on one segment of the recording `name` and waits for the outputs.
    ///
    /// # Errors
    /// The dropout masks do not fit, or the device fails.
    pub fn run(
        &self,
        inputs: &NetworkInputs,
        dropout: &DropoutMode,
        name: &str,
    ) -> Result<NetworkOutputs, RecognizeError> {
        let floats = inputs.frames.len();
        let (request, pending) = Request::new(OwnedInputs::of(inputs), floats, dropout);
        self.send(Job::Networks(request));
        let outputs = self.wait(pending);
        outputs.map_err(|failure| failure.for_recording(name))
    }

    /// Number of callers that wait in [`DeviceQueue::recognize`] or [`DeviceQueue::run`].
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // A failed send drops the job, which reports an interruption.
            let _ = jobs.send(job);
        }
    }

    fn wait<A>(&self, pending: Pending<A>) -> Result<A, DeviceFailure> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let outcome = pending.wait();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}

impl Drop for DeviceQueue {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic of the thread already.
            let _ = thread.join();
        }
    }
}

/// State of the device's thread.
struct DeviceThread {
    device: Device,
    limits: DeviceLimits,
    /// Threads of the CPU part of the front end.
    threads: rayon::ThreadPool,
    recordings: Vec<Request<NamedRecording, RecordingOutcome>>,
    inputs: Vec<Request<OwnedInputs, NetworkOutputs>>,
    /// Replies to the recordings of the batch in flight.
    in_flight: Vec<Reply<RecordingOutcome>>,
    /// Floats of the largest batch since memory was released.
    largest_batch: usize,
}

impl DeviceThread {
    /// Processes jobs until the queue is dropped.
    fn run(mut self, receiver: &Receiver<Job>) {
        loop {
            let is_idle = self.recordings.is_empty() && self.inputs.is_empty();
            if is_idle && self.in_flight.is_empty() {
                match receiver.recv() {
                    Ok(first) => self.receive(first),
                    Err(_) => return,
                }
            }
            receiver.try_iter().for_each(|job| self.receive(job));
            if catch_unwind(AssertUnwindSafe(|| self.round())).is_err() {
                // The replies of the interrupted batch were dropped. The batch before may still be in
                // flight.
                let _ = catch_unwind(AssertUnwindSafe(|| self.finish_batch()));
                self.in_flight.clear();
                let _ = catch_unwind(AssertUnwindSafe(|| self.device.synchronise()));
            }
        }
    }

    fn receive(&mut self, job: Job) {
        match job {
            Job::Recordings(requests) => self.recordings.extend(requests),
            Job::Networks(request) => self.inputs.push(request),
        }
    }

    /// Starts a batch of recordings, or finishes the last one; then runs a batch of network inputs.
    fn round(&mut self) {
        match self.recordings.is_empty() {
            true => self.finish_batch(),
            false => self.start_batch(),
        }
        if !self.inputs.is_empty() {
            self.finish_batch();
            self.run_inputs();
        }
    }

    fn start_batch(&mut self) {
        let batch = take_batch(&mut self.recordings, &self.limits);
        let floats = total_floats(&batch);
        let Some(dropout) = batch.first().map(|request| request.dropout.clone()) else {
            return;
        };
        // A long recording must not delay the outcomes of the batch in flight.
        let delays = floats > self.limits.floats && self.limits.kept_bytes.is_some();
        if delays || self.exceeds_kept_memory() {
            self.finish_batch();
        }
        self.largest_batch = self.largest_batch.max(floats);
        let (batch, replies) = batch.into_iter().map(|r| (r.input, r.reply)).unzip();
        let (device, in_flight) = (&mut self.device, &mut self.in_flight);
        self.threads.install(|| {
            device.submit(batch, &dropout, |outcomes| {
                forward(outcomes, &std::mem::take(in_flight));
            });
        });
        self.in_flight = replies;
    }

    /// Waits for the batch in flight and forwards its outcomes.
    fn finish_batch(&mut self) {
        let outcomes = self.device.finish();
        self.release_memory();
        if let Some(outcomes) = outcomes {
            forward(outcomes, &std::mem::take(&mut self.in_flight));
        }
    }

    /// Releases device memory beyond the limits. No batch may be in flight.
    fn release_memory(&mut self) {
        if self.exceeds_kept_memory() {
            self.device.release();
            self.largest_batch = 0;
        }
    }

    fn exceeds_kept_memory(&self) -> bool {
        self.limits.kept_bytes.is_some_and(|kept_bytes| {
            self.largest_batch > self.limits.floats || self.device.held_bytes() > kept_bytes
        })
    }

    fn run_inputs(&mut self) {
        let batch = take_batch(&mut self.inputs, &self.limits);
        let Some(first) = batch.first() else {
            return;
        };
        let inputs: Vec<NetworkInputs> = batch.iter().map(|r| r.input.network_inputs()).collect();
        let outputs = self.device.run(&inputs, &first.dropout);
        self.largest_batch = self.largest_batch.max(total_floats(&batch));
        self.release_memory();
        for (request, outputs) in batch.iter().zip(outputs) {
            request.reply.send(outputs);
        }
    }
}

/// Removes the requests of the next batch: those with the dropout of the first one, in order, within the
/// limits. Dropout masks fit one recording only. Unwanted requests are dropped.
fn take_batch<T, A>(
    requests: &mut Vec<Request<T, A>>,
    limits: &DeviceLimits,
) -> Vec<Request<T, A>> {
    requests.retain(|request| request.reply.is_wanted());
    let dropout = match requests.first().map(|first| &first.dropout) {
        None => return Vec::new(),
        Some(DropoutMode::Masks(_)) => return vec![requests.remove(0)],
        Some(dropout) => dropout.clone(),
    };
    let mut size = BatchSize::default();
    let is_added = |request: &mut Request<T, A>| {
        request.dropout == dropout && size.try_add(request.floats, limits)
    };
    requests.extract_if(.., is_added).collect()
}

fn total_floats<T, A>(batch: &[Request<T, A>]) -> usize {
    let sizes = batch.iter().map(|request| request.floats);
    sizes.fold(0, usize::saturating_add)
}

/// Sends the outcomes of a batch.
fn forward(outcomes: BatchOutcome, replies: &[Reply<RecordingOutcome>]) {
    match outcomes {
        Ok(outcomes) => {
            for (reply, outcome) in replies.iter().zip(outcomes) {
                reply.send(Ok(outcome));
            }
        }
        Err(error) => {
            for reply in replies {
                reply.send(Err(error.clone()));
            }
        }
    }
}
