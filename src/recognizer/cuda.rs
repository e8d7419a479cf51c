//! Recognition on a GPU, in batches of recordings.

use std::sync::Arc;

use super::profile::SpeakerProfile;
use super::{RecognizeError, Recognizer};
use crate::audio::Recording;
use crate::nn::DropoutMode;
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, PlanError};
use crate::prediction::Prediction;

mod device;
mod inputs;
mod networks;
mod queue;

use device::Device;
pub(crate) use queue::BatchSize;
pub(super) use queue::DeviceQueue;
pub use queue::PendingPrediction;

/// Error of preparing a recogniser for a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceRecognizerError {
    /// A network is missing.
    #[error(transparent)]
    Recognizer(#[from] super::RecognizerError),
    /// A network cannot be planned for the device.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The device fails, or has too little memory for the front end's tables.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The operating system cannot start the threads of the device's CPU part.
    #[error("cannot start the threads that serve the device: {0}")]
    Threads(std::io::Error),
}

/// Error of the device that a recording's batch met.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceFailure {
    /// The device fails, or the dropout masks do not fit.
    #[error(transparent)]
    Run(#[from] CudaRunError),
    /// A panic interrupted the batch.
    #[error("they were interrupted; try again")]
    Interrupted,
}

impl DeviceFailure {
    /// Converts the failure into the error of the recording `name`.
    pub fn for_recording(&self, name: &str) -> RecognizeError {
        match self {
            Self::Run(error) => RecognizeError::device(name, error),
            Self::Interrupted => RecognizeError::Device {
                name: name.into(),
                problem: self.to_string(),
            },
        }
    }
}

/// Prediction for one recording, or its error.
pub(crate) type RecordingOutcome = Result<Prediction, RecognizeError>;

/// Outcome of one recording on a device. The outer error is that of the device, the inner one that of the
/// recording.
pub type DeviceOutcome = Result<Result<Prediction, RecognizeError>, DeviceFailure>;

/// Limits of a device's batches and of the memory that it keeps between them. A recording that exceeds the
/// limits of a batch waits for the next one, where it is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Largest number of recordings in a batch.
    pub recordings: usize,
    /// Largest size of a batch in 32-bit floats: of the samples, and of the signals at 16 kHz, where a
    /// 64-bit value counts twice. A larger recording is a batch of its own.
    pub floats: usize,
    /// Bytes of device memory that the networks keep between batches. The memory of a batch beyond
    /// `floats` is released too, and such a batch starts only after the batch before has finished.
    /// `None` keeps all memory and overlaps all batches.
    pub kept_bytes: Option<usize>,
}

impl Default for DeviceLimits {
    /// Limits for short waits, for example in a server: 256 recordings and 64 MiB of samples, which are
    /// six minutes at 44.1 kHz. The networks keep 1 GiB; those of 2020 need 0.9 GB for such a batch with
    /// 32 draws.
    fn default() -> Self {
        Self {
            recordings: 256,
            floats: 1 << 24,
            kept_bytes: Some(1 << 30),
        }
    }
}

impl DeviceLimits {
    /// Limits for high throughput, for many recordings that are available from the start: 256 recordings
    /// and 256 MiB of samples. All memory is kept.
    #[must_use]
    pub fn throughput() -> Self {
        Self {
            recordings: 256,
            floats: 1 << 26,
            kept_bytes: None,
        }
    }
}

/// A decoded recording with its name, and optionally its speaker's profile.
#[derive(Debug)]
pub struct NamedRecording {
    /// Decoded recording.
    pub recording: Recording,
    /// Name of the recording in errors.
    pub name: String,
    /// Profile of the speaker, accepted by [`Recognizer::check_profile`].
    pub profile: Option<Arc<SpeakerProfile>>,
}

impl From<(Recording, String)> for NamedRecording {
    /// A recording without a speaker profile.
    fn from((recording, name): (Recording, String)) -> Self {
        Self {
            recording,
            name,
            profile: None,
        }
    }
}

/// A [`Recognizer`] on a device, for many recordings.
///
/// Samples are uploaded, outputs of the networks are downloaded. The CPU computes the parts that are
/// sequential within a recording, in parallel over recordings: voice activity detection for models of
/// 2020; the pitch path and the descriptors for models with the utterance front end. Predictions equal
/// those of a [`Worker`](super::Worker) up to rounding.
#[derive(Debug)]
pub struct DeviceRecognizer<'r> {
    recognizer: &'r Recognizer,
    queue: DeviceQueue,
    limits: DeviceLimits,
    device: String,
}

impl Recognizer {
    /// Prepares this recogniser for a device, with [`DeviceLimits::throughput`].
    ///
    /// # Errors
    /// The device fails or has too little memory, or the operating system cannot start threads.
    pub fn on_device(
        &self,
        driver: &Arc<dyn Driver>,
    ) -> Result<DeviceRecognizer<'_>, DeviceRecognizerError> {
        self.on_device_with(driver, DeviceLimits::throughput(), device_threads()?)
    }

    /// [`Recognizer::on_device`] with the given limits and threads for the CPU part.
    pub(crate) fn on_device_with(
        &self,
        driver: &Arc<dyn Driver>,
        limits: DeviceLimits,
        threads: rayon::ThreadPool,
    ) -> Result<DeviceRecognizer<'_>, DeviceRecognizerError> {
        let device = Device::new(driver, &self.model, &self.front_end)?;
        Ok(DeviceRecognizer {
            recognizer: self,
            queue: DeviceQueue::new(device, limits, threads)?,
            limits,
            device: driver.name(),
        })
    }

    /// Makes all [`Worker`](super::Worker)s use a device. Recordings of several workers share a batch if
    /// they wait at the same time. [`Recognizer::on_device`] is faster for many recordings that are
    /// available from the start.
    ///
    /// # Errors
    /// The device fails or has too little memory, or the operating system cannot start threads.
    pub fn use_device(&mut self, driver: &Arc<dyn Driver>) -> Result<(), DeviceRecognizerError> {
        self.use_device_within(driver, DeviceLimits::default())
    }

    /// [`Recognizer::use_device`] with other limits.
    ///
    /// # Errors
    /// As [`Recognizer::use_device`].
    pub fn use_device_within(
        &mut self,
        driver: &Arc<dyn Driver>,
        limits: DeviceLimits,
    ) -> Result<(), DeviceRecognizerError> {
        let device = Device::new(driver, &self.model, &self.front_end)?;
        self.device = Some(DeviceQueue::new(device, limits, device_threads()?)?);
        Ok(())
    }

    /// Number of [`Worker`](super::Worker)s that wait for an outcome of the device.
    pub fn waiting_for_device(&self) -> usize {
        self.device.as_ref().map_or(0, DeviceQueue::waiting)
    }

    /// Size of a recording on a device, as in [`DeviceLimits::floats`].
    pub fn floats_on_device(&self, recording: &Recording) -> usize {
        let samples = recording.samples.len();
        let resampling = self.info().resampling;
        let signal = resampling
            .target_len(samples, recording.sample_rate.max(1))
            .saturating_mul(size_of::<f64>() / size_of::<f32>());
        samples.max(signal)
    }
}

impl DeviceRecognizer<'_> {
    /// Name of the device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Limits of the batches.
    pub(crate) fn limits(&self) -> &DeviceLimits {
        &self.limits
    }

    /// Submits recordings together and returns their pending outcomes in order, without waiting. A batch
    /// may combine recordings of several calls. The recordings stay in memory until the device has
    /// uploaded them.
    pub fn submit(
        &self,
        recordings: Vec<NamedRecording>,
        dropout: &DropoutMode,
    ) -> Vec<PendingPrediction> {
        let recordings = recordings.into_iter().map(|named| {
            let floats = self.recognizer.floats_on_device(&named.recording);
            (named, floats)
        });
        self.queue.submit(recordings, dropout)
    }

    /// Recognises recordings with their names and returns the outcomes in order.
    pub fn recognize(
        &self,
        recordings: Vec<(Recording, &str)>,
        dropout: &DropoutMode,
    ) -> Vec<Result<Prediction, RecognizeError>> {
        let (recordings, names): (Vec<NamedRecording>, Vec<&str>) = recordings
            .into_iter()
            .map(|(recording, name)| ((recording, name.to_owned()).into(), name))
            .unzip();
        let pending = self.submit(recordings, dropout).into_iter();
        let outcomes = pending.zip(names).map(|(pending, name)| {
            let outcome = pending.wait();
            outcome.map_err(|failure| failure.for_recording(name))?
        });
        outcomes.collect()
    }
}

/// Starts the threads of a device's CPU part, one per CPU.
fn device_threads() -> Result<rayon::ThreadPool, DeviceRecognizerError> {
    rayon::ThreadPoolBuilder::new()
        .thread_name(|i| format!("front end {i}"))
        .build()
        .map_err(|e| DeviceRecognizerError::Threads(std::io::Error::other(e)))
}
