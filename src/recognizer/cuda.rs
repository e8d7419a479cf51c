//! Many recordings at once on a GPU.

use std::sync::Arc;

use super::{RecognizeError, Recognizer};
use crate::audio::Recording;
use crate::front_end::cuda::MOST_RECORDINGS;
use crate::nn::DropoutMode;
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, PlanError};
use crate::prediction::Prediction;

mod device;
mod inputs;
mod networks;
mod queue;

use device::Device;
pub use device::NamedRecording;
pub use queue::DeviceLimits;
pub(super) use queue::DeviceQueue;

/// Why a recogniser cannot be brought to a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceRecognizerError {
    /// A network is missing.
    #[error(transparent)]
    Recognizer(#[from] super::RecognizerError),
    /// A network cannot be planned for the device.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The device has no room for the front end's tables.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The operating system gives no threads for what the processor does for a device.
    #[error("cannot start the threads that serve the device: {0}")]
    Threads(std::io::Error),
}

/// A [`Recognizer`] whose work is done on a device, for many recordings together.
///
/// The samples go to the device, the answers come back. What is decided one after the other in a
/// recording is the processor's part, in parallel: of the system of 2020, telling voice from silence; of
/// the other front end, the path of the pitch and what describes the recording as a whole. The answers are
/// those of a [`Worker`](super::Worker) up to the rounding of the features' sums, of the logarithm and of
/// the root.
#[derive(Debug)]
pub struct DeviceRecognizer<'r> {
    recognizer: &'r Recognizer,
    device: Device,
}

/// The outcome for each recording of a batch, or why the device failed.
pub type Outcomes = Result<Vec<Result<Prediction, RecognizeError>>, CudaRunError>;

/// Recordings, and numbers that they hold together (512 MiB), that [`DeviceRecognizer::recognize`] gives the
/// device together at most; the last recording may exceed it.
const RECORDINGS: usize = 1024;
const NUMBERS: usize = 1 << 27;
const _: () = assert!(RECORDINGS <= MOST_RECORDINGS);

impl Recognizer {
    /// The recogniser brought to a device.
    ///
    /// # Errors
    /// When the device fails or has no memory left.
    pub fn on_device(
        &self,
        driver: &Arc<dyn Driver>,
    ) -> Result<DeviceRecognizer<'_>, DeviceRecognizerError> {
        Ok(DeviceRecognizer {
            recognizer: self,
            device: Device::new(driver, &self.model, &self.front_end)?,
        })
    }

    /// Lets a device do the work of all [`Worker`](super::Worker)s: recordings that are there at the
    /// same time go there together, as with [`Recognizer::on_device`]. That is better for many that
    /// are there from the beginning.
    ///
    /// # Errors
    /// When the device fails or has no memory left, or the operating system gives no threads.
    pub fn use_device(&mut self, driver: &Arc<dyn Driver>) -> Result<(), DeviceRecognizerError> {
        self.use_device_within(driver, DeviceLimits::default())
    }

    /// [`Recognizer::use_device`] with limits of one's own.
    ///
    /// # Errors
    /// As [`Recognizer::use_device`].
    pub fn use_device_within(
        &mut self,
        driver: &Arc<dyn Driver>,
        limits: DeviceLimits,
    ) -> Result<(), DeviceRecognizerError> {
        let device = Device::new(driver, &self.model, &self.front_end)?;
        self.device = Some(DeviceQueue::new(device, limits)?);
        Ok(())
    }

    /// How many [`Worker`](super::Worker)s wait for the device, or for what it has of theirs.
    pub fn waiting_for_device(&self) -> usize {
        self.device.as_ref().map_or(0, DeviceQueue::unanswered)
    }

    /// Numbers of four bytes that a recording, and also its signal at 16 kHz, takes in a device's memory
    /// and the processor's at most.
    pub fn numbers_on_device(&self, recording: &Recording) -> usize {
        let samples = recording.samples.len();
        let resampling = self.info().resampling;
        // The signal is of `f64`.
        let signal = resampling
            .target_len(samples, recording.sample_rate)
            .saturating_mul(2);
        samples.max(signal)
    }
}

impl DeviceRecognizer<'_> {
    /// What it runs on, for messages.
    pub fn device(&self) -> String {
        self.device.name()
    }

    /// The answer for each of some recordings with their names, in their order; the processor's part
    /// is done on the threads of the rayon pool that this is called in.
    ///
    /// # Errors
    /// When the device fails, or given dropout masks do not fit. A recording that cannot be
    /// analysed has its own error.
    pub fn recognize(
        &mut self,
        recordings: Vec<(Recording, &str)>,
        dropout: &DropoutMode,
    ) -> Outcomes {
        // What an earlier caller left.
        self.finish();
        let mut outcomes = Vec::new();
        let mut recordings = recordings.into_iter().peekable();
        while recordings.peek().is_some() {
            let mut numbers = 0usize;
            let mut batch = Vec::new();
            while numbers < NUMBERS
                && batch.len() < RECORDINGS
                && let Some((recording, name)) = recordings.next()
            {
                let own = self.recognizer.numbers_on_device(&recording);
                numbers = numbers.saturating_add(own);
                batch.push((recording, name.to_owned()).into());
            }
            if let Some(before) = self.submit(batch, dropout) {
                outcomes.extend(before?);
            }
        }
        if let Some(last) = self.finish() {
            outcomes.extend(last?);
        }
        Ok(outcomes)
    }

    /// Gives the device a batch of at most [`MOST_RECORDINGS`] recordings with their names, and
    /// takes the outcomes of the batch before, if there is one. While the networks look at that one, the
    /// front end listens to this one, and the processor does its part, on the threads of the rayon
    /// pool that this is called in.
    pub fn submit(
        &mut self,
        batch: Vec<NamedRecording>,
        dropout: &DropoutMode,
    ) -> Option<Outcomes> {
        let mut before = None;
        self.device
            .submit(batch, dropout, |outcomes| before = Some(outcomes));
        before
    }

    /// The outcomes of the batch that was given last, if they were not taken.
    pub fn finish(&mut self) -> Option<Outcomes> {
        self.device.finish()
    }
}
