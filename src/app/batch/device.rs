//! Recordings that a device recognises.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};

use super::{Batch, BatchError, Outcome, in_order, pool};
use crate::app::inputs::Input;
use crate::audio::Recording;
use crate::formats::{Code, NoAnswer, is_finite, not_finite};
use crate::nn::DropoutMode;
use crate::nn::cuda::Driver;
use crate::recognizer::{
    DeviceRecognizer, DeviceRecognizerError, NamedRecording, Outcomes, SpeakerProfile,
};

/// Why a batch cannot be brought to a device.
#[derive(Debug, thiserror::Error)]
pub enum OnDeviceError {
    /// The recogniser cannot.
    #[error(transparent)]
    Recognizer(#[from] DeviceRecognizerError),
    /// The device's own threads cannot be had.
    #[error(transparent)]
    Threads(#[from] BatchError),
}

/// What recognises on a device, for one run at a time.
#[derive(Debug)]
pub struct Shared<'r> {
    device: Mutex<DeviceRecognizer<'r>>,
    /// Threads for what the processor does for the device. Those that decode may all be waiting for the
    /// device to take what they have.
    listeners: rayon::ThreadPool,
}

/// Recordings, and numbers that they hold together (256 MiB), that a device is given together at
/// most; the last recording may exceed it. There are up to four batches in memory: one in which
/// voice is told from silence, one that waits, and what comes next.
const RECORDINGS: usize = 256;
const NUMBERS: usize = 1 << 26;

/// Recordings as far as the threads bring them, or what is wrong with them.
type Read = Vec<Result<WithProfile, NoAnswer>>;

/// A recording, and its speaker's profile if there is one.
type WithProfile = (Recording, Option<Arc<SpeakerProfile>>);

/// The device is no longer asked.
struct Stopped;

impl<'r> Batch<'r> {
    /// Lets a device do the work; the threads decode recordings for it. Answers are the same up to
    /// rounding.
    ///
    /// # Errors
    /// When the device fails or has no memory left, or the operating system does not give more threads.
    pub fn on_device(mut self, driver: &Arc<dyn Driver>) -> Result<Self, OnDeviceError> {
        let device = Mutex::new(self.recognizer.on_device(driver)?);
        let listeners = pool(self.pool.current_num_threads())?;
        self.device = Some(Shared { device, listeners });
        Ok(self)
    }

    /// As [`Batch::run`]; while the device works the threads read what comes next.
    pub(super) fn run_on<E: Send>(
        &self,
        shared: &Shared<'r>,
        inputs: &[Input],
        mut each: impl FnMut(&Input, Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut device = shared.device.lock().unwrap_or_else(|e| e.into_inner());
        // What an interrupted run left.
        device.finish();
        // One batch waits while the device has another.
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || self.read_all(inputs, &sender));
            let pipeline = Pipeline {
                device: &mut device,
                shared,
                dropout: &self.dropout,
                inputs,
                given: Vec::new(),
            };
            let answered = pipeline.answer_all(&receiver, &mut each);
            // Whoever still reads stops.
            drop(receiver);
            answered
        })
    }

    /// Reads all recordings and hands them on in batches, in order.
    fn read_all(&self, inputs: &[Input], sender: &SyncSender<Read>) {
        let read = |place: usize, input: &Input| {
            let recording = input.read()?;
            let profile = self.profile_for_device(place, &recording, input.subject());
            Ok((recording, profile))
        };
        let mut batch = Read::new();
        let mut numbers = 0;
        let all = in_order(
            &self.pool,
            inputs,
            || (),
            |(), place, input, _| read(place, input),
            |_, recording: Result<WithProfile, NoAnswer>| {
                let own = recording.as_ref();
                numbers = own
                    .map_or(0, |(r, _)| self.recognizer.numbers_on_device(r))
                    .saturating_add(numbers);
                batch.push(recording);
                if batch.len() < RECORDINGS && numbers < NUMBERS {
                    return Ok(());
                }
                numbers = 0;
                sender.send(std::mem::take(&mut batch)).map_err(|_| Stopped)
            },
        );
        if all.is_ok() {
            // Who has stopped to listen has its reason.
            let _ = sender.send(batch);
        }
    }
}

/// A run on the device: a batch's answers come when it has been given the next one, or there is
/// none yet.
struct Pipeline<'p, 'r> {
    device: &'p mut DeviceRecognizer<'r>,
    shared: &'p Shared<'r>,
    dropout: &'p DropoutMode,
    /// Those that were not given yet.
    inputs: &'p [Input],
    /// Of each recording of the batch that was given last, what was wrong with it before.
    given: Vec<(&'p Input, Option<NoAnswer>)>,
}

impl Pipeline<'_, '_> {
    fn answer_all<E>(
        mut self,
        receiver: &Receiver<Read>,
        each: &mut impl FnMut(&Input, Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let read = match receiver.try_recv() {
                Ok(read) => read,
                Err(_) => {
                    let outcomes = self.device.finish();
                    hand_on(outcomes, std::mem::take(&mut self.given), each)?;
                    match receiver.recv() {
                        Ok(read) => read,
                        Err(_) => return Ok(()),
                    }
                }
            };
            let (own, rest) = self.inputs.split_at(read.len());
            self.inputs = rest;
            let mut recordings = Vec::new();
            let mut given = Vec::new();
            for (input, read) in own.iter().zip(read) {
                let error = match read {
                    Ok((recording, profile)) => {
                        recordings.push(NamedRecording {
                            recording,
                            name: input.subject().to_owned(),
                            profile,
                        });
                        None
                    }
                    Err(error) => Some(error),
                };
                given.push((input, error));
            }
            let (device, dropout) = (&mut *self.device, self.dropout);
            let listeners = &self.shared.listeners;
            let outcomes = listeners.install(|| device.submit(recordings, dropout));
            hand_on(outcomes, std::mem::replace(&mut self.given, given), each)?;
        }
    }
}

/// Hands on the outcomes of a batch, if there is one.
fn hand_on<E>(
    outcomes: Option<Outcomes>,
    given: Vec<(&Input, Option<NoAnswer>)>,
    each: &mut impl FnMut(&Input, Outcome) -> Result<(), E>,
) -> Result<(), E> {
    let mut outcomes = match outcomes {
        Some(outcomes) => outcomes.map(Vec::into_iter),
        None => return Ok(()),
    };
    for (input, error) in given {
        let subject = input.subject();
        let outcome = match (error, &mut outcomes) {
            (Some(error), _) => Err(error),
            (None, Err(e)) => Err(NoAnswer::new(Code::Internal, format!("{subject}: {e}"))),
            (None, Ok(outcomes)) => match outcomes.next() {
                Some(Ok(prediction)) if is_finite(&prediction) => Ok(prediction),
                Some(Ok(_)) => Err(not_finite(subject)),
                Some(Err(error)) => Err(NoAnswer::of(&error, subject)),
                None => unreachable!("an outcome for each recording that was given"),
            },
        };
        each(input, outcome)?;
    }
    Ok(())
}
