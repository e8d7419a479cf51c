//! Batches on a GPU.

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};

use super::{Batch, BatchError, Outcome, in_order, pool};
use crate::app::inputs::Input;
use crate::formats::{ErrorCode, RecordingError};
use crate::nn::cuda::Driver;
use crate::recognizer::{
    BatchSize, DeviceFailure, DeviceLimits, DeviceRecognizer, DeviceRecognizerError,
    NamedRecording, PendingPrediction,
};

/// Error when a batch cannot use a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnDeviceError {
    /// The recogniser cannot use the device.
    #[error(transparent)]
    Recognizer(#[from] DeviceRecognizerError),
    /// The CPU threads cannot be started.
    #[error(transparent)]
    Threads(#[from] BatchError),
}

/// Capacity in batches of the channel of pending outcomes. It bounds the batches that are submitted and
/// not finished to three: the receiver waits for the first one, the second one is in the channel, and the
/// sender of the third one is blocked. The threads decode a fourth batch meanwhile. The limits of the
/// device bound each batch.
const WAITING_BATCHES: usize = 1;

/// Decoded recordings of a batch in input order, or their errors.
type Decoded = Vec<Result<NamedRecording, RecordingError>>;

/// Pending outcomes of a batch in input order, or the errors of its recordings.
type Submitted = Vec<Result<PendingPrediction, RecordingError>>;

/// Error when the receiver of the outcomes has stopped.
struct Stopped;

impl<'r> Batch<'r> {
    /// Moves feature extraction and networks to a device; the threads only decode recordings.
    /// Predictions are equal up to rounding.
    ///
    /// # Errors
    /// The device fails or has too little memory, or the operating system cannot start the threads.
    pub fn on_device(mut self, driver: &Arc<dyn Driver>) -> Result<Self, OnDeviceError> {
        // The decoding threads cannot take the device's CPU part: all of them may wait for the device.
        let threads = pool(self.pool.current_num_threads())?;
        let limits = DeviceLimits::throughput();
        self.device = Some(self.recognizer.on_device_with(driver, limits, threads)?);
        Ok(self)
    }

    /// Runs [`Batch::run`] on the device while the threads decode the next recordings.
    pub(super) fn run_on<E: Send>(
        &self,
        device: &DeviceRecognizer<'r>,
        inputs: &[Input],
        mut each: impl FnMut(&Input, Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let (sender, receiver) = mpsc::sync_channel(WAITING_BATCHES);
        std::thread::scope(|scope| {
            scope.spawn(move || self.submit_all(device, inputs, &sender));
            // An error of `each` drops the receiver. That stops the decoding threads, and cancels the
            // recordings that the device has not started.
            for (input, outcome) in inputs.iter().zip(receiver.into_iter().flatten()) {
                each(input, Self::wait(outcome, input.subject()))?;
            }
            Ok(())
        })
    }

    /// Decodes all recordings and submits them to the device in batches, in input order.
    fn submit_all(
        &self,
        device: &DeviceRecognizer<'r>,
        inputs: &[Input],
        sender: &SyncSender<Submitted>,
    ) {
        let decode = |place: usize, input: &Input| -> Result<NamedRecording, RecordingError> {
            let recording = input.read()?;
            let profile = self.profile_for_device(place, &recording, input.subject());
            Ok(NamedRecording {
                recording,
                name: input.subject().to_owned(),
                profile,
            })
        };
        let mut size = BatchSize::default();
        let mut batch = Decoded::new();
        let submit = |batch: &mut Decoded| {
            let submitted = self.submit(device, std::mem::take(batch));
            sender.send(submitted).map_err(|_| Stopped)
        };
        let all: Result<(), Stopped> = in_order(
            &self.pool,
            inputs,
            || (),
            |(), place, input, _| decode(place, input),
            |_, decoded| {
                let floats = decoded.as_ref().map_or(0, |named| {
                    self.recognizer.floats_on_device(&named.recording)
                });
                let limits = device.limits();
                if !size.try_add(floats, limits) {
                    submit(&mut batch)?;
                    size = BatchSize::default();
                    size.try_add(floats, limits);
                }
                batch.push(decoded);
                if size.is_full(limits) {
                    submit(&mut batch)?;
                    size = BatchSize::default();
                }
                Ok(())
            },
        );
        if all.is_ok() {
            // A failed send means that the receiver has returned its error.
            let _ = submit(&mut batch);
        }
    }

    /// Submits the recordings of a batch that were decoded.
    fn submit(&self, device: &DeviceRecognizer<'r>, batch: Decoded) -> Submitted {
        let mut recordings = Vec::with_capacity(batch.len());
        let decoded: Vec<Result<(), RecordingError>> = batch
            .into_iter()
            .map(|decoded| decoded.map(|recording| recordings.push(recording)))
            .collect();
        let mut pending = device.submit(recordings, &self.dropout).into_iter();
        let outcomes = decoded.into_iter().map(|decoded| {
            decoded.map(|()| pending.next().expect("every recording has an outcome"))
        });
        outcomes.collect()
    }

    /// Waits for the outcome of a recording.
    fn wait(submitted: Result<PendingPrediction, RecordingError>, subject: &str) -> Outcome {
        match submitted?.wait() {
            Ok(outcome) => Self::checked(outcome, subject),
            Err(DeviceFailure::Run(error)) => Err(RecordingError::new(
                ErrorCode::Internal,
                format!("{subject}: {error}"),
            )),
            Err(failure) => Err(RecordingError::from_recognizer(
                &failure.for_recording(subject),
                subject,
            )),
        }
    }
}
