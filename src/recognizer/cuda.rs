//! Many recordings at once on a GPU.

use std::sync::Arc;

use rayon::prelude::*;

use super::listener::Heard;
use super::{RecognizeError, Recognizer};
use crate::audio::Recording;
use crate::nn::DropoutMode;
use crate::nn::cuda::front_end::MOST_RECORDINGS;
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, PlanError};
use crate::prediction::Prediction;

mod device;
mod networks;
mod questions;
mod shared;

use device::Device;
pub use shared::DeviceLimits;
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
    /// The device has no room for the front end's tables.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The operating system gives no threads for what the processor does for a device.
    #[error("cannot start the threads that serve the device: {0}")]
    Threads(std::io::Error),
}

/// A [`Recognizer`] whose work is done on a device, for many recordings together.
///
/// Of the system of 2020 all of it is, but telling voice from silence: the samples go to the device,
/// the answers come back. Of other models the processor analyses the recordings, in parallel, and
/// the device has the networks. The answers are those of a [`Worker`](super::Worker) up to the
/// rounding of sums in another order, and of the logarithm and the root.
#[derive(Debug)]
pub struct OnDevice<'r> {
    recognizer: &'r Recognizer,
    device: Device,
}

/// A recording that a device can be asked about.
#[derive(Debug)]
pub struct Analysed {
    recording: Recording,
    /// Unless the device analyses it.
    heard: Option<Heard>,
    numbers: usize,
}

impl Analysed {
    /// Numbers of four bytes that its recording, and also its signal at 16 kHz, take in memory at
    /// most.
    pub fn numbers(&self) -> usize {
        self.numbers
    }
}

/// The outcome for each recording of a batch, or why the device failed.
pub type Outcomes = Result<Vec<Result<Prediction, RecognizeError>>, CudaRunError>;

/// Recordings, and numbers that they hold together (512 MiB), that [`OnDevice::recognize`] gives the
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
    ) -> Result<OnDevice<'_>, DeviceRecognizerError> {
        Ok(OnDevice {
            recognizer: self,
            device: Device::new(driver, &self.model, &self.listener)?,
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
        let device = Device::new(driver, &self.model, &self.listener)?;
        self.device = Some(Shared::new(device, limits)?);
        Ok(())
    }

    /// How many [`Worker`](super::Worker)s wait for the device, or for what it has of theirs.
    pub fn waiting_for_device(&self) -> usize {
        self.device.as_ref().map_or(0, Shared::unanswered)
    }

    /// What [`Worker`](super::Worker)s give whole recordings to.
    pub(super) fn listening_device(&self) -> Option<&Shared> {
        self.device.as_ref().filter(|_| self.device_listens())
    }

    /// Whether a device analyses the recordings of this model.
    fn device_listens(&self) -> bool {
        self.listener.reference().is_some()
    }

    /// The processor's part of the work for a device, on any thread: of the system of 2020 none.
    /// `name` stands for the recording in errors.
    ///
    /// # Errors
    /// When the recording cannot be analysed; the message names it and says what to do.
    pub fn analyse(&self, recording: Recording, name: &str) -> Result<Analysed, RecognizeError> {
        let heard = match self.device_listens() {
            true => None,
            false => Some(self.hear(&recording, name)?),
        };
        let samples = recording.samples.len();
        let resampling = self.info().resampling;
        // The signal is of `f64`.
        let signal = resampling
            .target_len(samples, recording.sample_rate)
            .saturating_mul(2);
        Ok(Analysed {
            numbers: samples.max(signal),
            recording,
            heard,
        })
    }
}

impl OnDevice<'_> {
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
        let recognizer = self.recognizer;
        let analysed: Vec<_> = recordings
            .into_par_iter()
            .map(|(recording, name)| Ok((recognizer.analyse(recording, name)?, name.to_owned())))
            .collect();
        let mut errors = Vec::new();
        let mut good = Vec::new();
        for analysed in analysed {
            errors.push(match analysed {
                Ok(recording) => {
                    good.push(recording);
                    None
                }
                Err(error) => Some(error),
            });
        }
        // What an earlier caller left.
        self.finish();
        let mut concluded = Vec::new();
        let mut good = good.into_iter().peekable();
        while good.peek().is_some() {
            let mut numbers = 0;
            let mut batch = Vec::new();
            while let Some(next) = good.next_if(|_| numbers < NUMBERS && batch.len() < RECORDINGS) {
                numbers = next.0.numbers().saturating_add(numbers);
                batch.push(next);
            }
            if let Some(outcomes) = self.submit(batch, dropout) {
                concluded.extend(outcomes?);
            }
        }
        if let Some(outcomes) = self.finish() {
            concluded.extend(outcomes?);
        }
        let mut concluded = concluded.into_iter();
        let outcome = |error: Option<RecognizeError>| match error {
            Some(error) => Err(error),
            None => concluded.next().expect("an answer for each that is good"),
        };
        Ok(errors.into_iter().map(outcome).collect())
    }

    /// Gives the device a batch of at most [`MOST_RECORDINGS`] recordings with their names, and
    /// takes the outcomes of the batch before, if there is one. While the device asks the networks
    /// about that one, it cleans the recordings of this one, and the processor tells voice from
    /// silence in them, on the threads of the rayon pool that this is called in.
    pub fn submit(
        &mut self,
        batch: Vec<(Analysed, String)>,
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
