//! Batches on a GPU.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};

use super::{Batch, BatchError, Outcome, in_order, pool};
use crate::app::inputs::Input;
use crate::audio::Recording;
use crate::formats::{ErrorCode, RecordingError, is_finite, not_finite};
use crate::nn::DropoutMode;
use crate::nn::cuda::Driver;
use crate::recognizer::{
    DeviceRecognizer, DeviceRecognizerError, NamedRecording, Outcomes, SpeakerProfile,
};

/// Error when a batch cannot use a device.
#[derive(Debug, thiserror::Error)]
pub enum OnDeviceError {
    /// The recogniser cannot use the device.
    #[error(transparent)]
    Recognizer(#[from] DeviceRecognizerError),
    /// The CPU threads cannot be started.
    #[error(transparent)]
    Threads(#[from] BatchError),
}

/// Device recogniser of a batch, for one run at a time.
#[derive(Debug)]
pub struct DeviceState<'r> {
    device: Mutex<DeviceRecognizer<'r>>,
    /// Threads for the CPU part of the device's work. The decoding threads cannot take it: all of
    /// them may be waiting for the device.
    cpu_pool: rayon::ThreadPool,
}

/// Maximum number of recordings in one device batch.
///
/// Up to four batches are in memory: one in voice activity detection, one on the device, one in the
/// channel and one being read.
const MAX_RECORDINGS: usize = 256;
/// Maximum number of 32-bit floats in one device batch (256 MiB); the last recording may exceed it.
const MAX_FLOATS: usize = 1 << 26;

/// Decoded recordings of one device batch, or their errors.
type DecodedBatch = Vec<Result<ProfiledRecording, RecordingError>>;

/// Recording with its speaker's profile, if it has one.
type ProfiledRecording = (Recording, Option<Arc<SpeakerProfile>>);

/// Error when the receiver of the recordings has stopped.
struct Stopped;

impl<'r> Batch<'r> {
    /// Moves feature extraction and networks to a device; the threads only decode recordings.
    /// Predictions are equal up to rounding.
    ///
    /// # Errors
    /// When the device fails or has too little memory, or the operating system cannot start the
    /// threads.
    pub fn on_device(mut self, driver: &Arc<dyn Driver>) -> Result<Self, OnDeviceError> {
        let device = Mutex::new(self.recognizer.on_device(driver)?);
        let cpu_pool = pool(self.pool.current_num_threads())?;
        self.device = Some(DeviceState { device, cpu_pool });
        Ok(self)
    }

    /// Runs [`Batch::run`] on the device while the threads decode the next recordings.
    pub(super) fn run_on<E: Send>(
        &self,
        state: &DeviceState<'r>,
        inputs: &[Input],
        mut each: impl FnMut(&Input, Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut device = state.device.lock().unwrap_or_else(|e| e.into_inner());
        // An interrupted run may have left a batch on the device.
        device.finish();
        // One batch waits in the channel while another is on the device.
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || self.decode_all(inputs, &sender));
            let pipeline = Pipeline {
                device: &mut device,
                state,
                dropout: &self.dropout,
                inputs,
                submitted: Vec::new(),
            };
            let outcome = pipeline.run(&receiver, &mut each);
            // A closed channel stops the reading threads.
            drop(receiver);
            outcome
        })
    }

    /// Decodes all recordings and sends them in batches, in order.
    fn decode_all(&self, inputs: &[Input], sender: &SyncSender<DecodedBatch>) {
        let read = |place: usize, input: &Input| {
            let recording = input.read()?;
            let profile = self.profile_for_device(place, &recording, input.subject());
            Ok((recording, profile))
        };
        let mut batch = DecodedBatch::new();
        let mut floats = 0;
        let all = in_order(
            &self.pool,
            inputs,
            || (),
            |(), place, input, _| read(place, input),
            |_, recording: Result<ProfiledRecording, RecordingError>| {
                let own = recording.as_ref();
                floats = own
                    .map_or(0, |(r, _)| self.recognizer.numbers_on_device(r))
                    .saturating_add(floats);
                batch.push(recording);
                if batch.len() < MAX_RECORDINGS && floats < MAX_FLOATS {
                    return Ok(());
                }
                floats = 0;
                sender.send(std::mem::take(&mut batch)).map_err(|_| Stopped)
            },
        );
        if all.is_ok() {
            // The receiver stops only after an error, which it returns.
            let _ = sender.send(batch);
        }
    }
}

/// Run on the device. The outcomes of a batch arrive when the next one is submitted, or when no
/// batch is ready.
struct Pipeline<'p, 'r> {
    device: &'p mut DeviceRecognizer<'r>,
    state: &'p DeviceState<'r>,
    dropout: &'p DropoutMode,
    /// Inputs not yet submitted.
    inputs: &'p [Input],
    /// Inputs of the last submitted batch, each with its decoding error if there is one.
    submitted: Vec<(&'p Input, Option<RecordingError>)>,
}

impl Pipeline<'_, '_> {
    fn run<E>(
        mut self,
        receiver: &Receiver<DecodedBatch>,
        each: &mut impl FnMut(&Input, Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let decoded = match receiver.try_recv() {
                Ok(read) => read,
                Err(_) => {
                    let outcomes = self.device.finish();
                    forward(outcomes, std::mem::take(&mut self.submitted), each)?;
                    match receiver.recv() {
                        Ok(read) => read,
                        Err(_) => return Ok(()),
                    }
                }
            };
            let (batch_inputs, remaining) = self.inputs.split_at(decoded.len());
            self.inputs = remaining;
            let mut recordings = Vec::new();
            let mut submitted = Vec::new();
            for (input, read) in batch_inputs.iter().zip(decoded) {
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
                submitted.push((input, error));
            }
            let (device, dropout) = (&mut *self.device, self.dropout);
            let cpu_pool = &self.state.cpu_pool;
            let outcomes = cpu_pool.install(|| device.submit(recordings, dropout));
            forward(
                outcomes,
                std::mem::replace(&mut self.submitted, submitted),
                each,
            )?;
        }
    }
}

/// Forwards the outcomes of a batch, if there are any, to `each`.
fn forward<E>(
    outcomes: Option<Outcomes>,
    submitted: Vec<(&Input, Option<RecordingError>)>,
    each: &mut impl FnMut(&Input, Outcome) -> Result<(), E>,
) -> Result<(), E> {
    let mut outcomes = match outcomes {
        Some(outcomes) => outcomes.map(Vec::into_iter),
        None => return Ok(()),
    };
    for (input, error) in submitted {
        let subject = input.subject();
        let outcome = match (error, &mut outcomes) {
            (Some(error), _) => Err(error),
            (None, Err(e)) => Err(RecordingError::new(
                ErrorCode::Internal,
                format!("{subject}: {e}"),
            )),
            (None, Ok(outcomes)) => match outcomes.next() {
                Some(Ok(prediction)) if is_finite(&prediction) => Ok(prediction),
                Some(Ok(_)) => Err(not_finite(subject)),
                Some(Err(error)) => Err(RecordingError::from_recognizer(&error, subject)),
                None => unreachable!("an outcome for each recording that was given"),
            },
        };
        each(input, outcome)?;
    }
    Ok(())
}
