//! CUDA front end of the system of 2020: decoded recordings to network inputs that stay on the
//! device.
//!
//! The front end runs the stages of [`crate::audio`] and [`crate::front_end::legacy2020`] for a
//! batch of recordings of any lengths. Resampling, clean-up, spectrograms and features run on the
//! device (`kernels/resample.cu`, `clean.cu`, `mel.cu`, `features.cu`). VoicedSignal activity
//! detection is sequential within a recording, so the cleaned signals are downloaded once and CPU
//! threads process them.
//!
//! Every sum has the CPU's order. Results equal the CPU's except for the logarithm, the root and
//! the Fourier transform, whose device implementations differ.
//!
//! [`crate::front_end::utterance::cuda`] is the equivalent for the default networks; there only the
//! per-frame computations run on the device.

use std::ops::Range;
use std::sync::Arc;

use crate::audio::{Recording, Resampling};
#[cfg(doc)]
use crate::front_end::cuda::MOST_RECORDINGS;
use crate::front_end::cuda::resampling::{Resampler, ResamplingSteps};
use crate::front_end::cuda::tables::MelTables;
use crate::front_end::cuda::workspace::Workspace;
use crate::front_end::cuda::{FrontEndError, bounded};
use crate::front_end::legacy2020::windows::window_starts;
use crate::front_end::{AudioError, FeatureError, Mel};
use crate::nn::cuda::{Buffer, DeviceError, Driver, Rows, Stream};

mod features;
mod signals;

pub use features::VoicedBatch;

/// Rows of a recording's features in [`Inputs`].
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureLocation {
    /// Row in [`Inputs::branches`].
    pub row: usize,
    /// Rows in [`Inputs::windows`].
    pub windows: Range<usize>,
    /// First frame of each window, as
    /// [`Windows::starts`](crate::front_end::legacy2020::Windows::starts).
    pub window_starts: Vec<usize>,
    /// Number of frames (10 ms) of the kept part.
    pub frames: usize,
    /// Bands without a value in the histogram's range; their histograms are zero.
    pub empty_histogram_bands: Vec<usize>,
}

/// Result of analysing one recording: the location of its features, and the voice activity.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingFeatures {
    /// Location of the features.
    pub location: FeatureLocation,
    /// Samples of the 16 kHz signal that were kept.
    pub kept: Range<usize>,
    /// Set if the signal was trimmed to its voiced part.
    pub trimmed: bool,
    /// Decisions of the voice detector, one per 480 samples of the whole 16 kHz signal.
    pub voiced_frames: Vec<bool>,
    /// Number of samples of the whole signal at 16 kHz.
    pub total_samples: usize,
    /// Largest sample, by which the signal was divided for the voice detector.
    pub peak: f64,
}

/// Denoised and pre-emphasised recording at 16 kHz.
#[derive(Debug, Clone, PartialEq)]
pub struct Cleaned {
    /// Signal divided by `peak`. If `peak` is 0 or not finite, the signal cannot be analysed.
    pub signal: Vec<f64>,
    /// The largest sample.
    pub peak: f64,
}

/// Network inputs for a batch of recordings, on the device.
///
/// Work that is submitted later to the front end's [`Stream`] waits for the inputs. Another stream
/// must first wait for that stream, as a session does. The inputs are valid until the front end
/// computes another batch.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// Windows of all recordings, `f32 [window_count][200][40]`.
    pub windows: &'a Buffer,
    /// Number of rows of [`Self::windows`].
    pub window_count: usize,
    /// First window of each row of [`Self::branches`], followed by [`Self::window_count`].
    pub first_windows: Vec<u32>,
    /// Cosine transform, sine transform and histogram, `f32 [rows][40][40]`, and moments, `f32
    /// [rows][40][8]`.
    pub branches: [&'a Buffer; 4],
    /// Number of rows of [`Self::branches`]. A recording whose features cannot be computed also has
    /// a row and windows, with undefined values.
    pub rows: usize,
    /// Power mel spectrograms, concatenated, `f64 [40][frames]` each.
    pub mel: &'a Buffer,
    /// Stream of the front end.
    pub ready: Stream,
}

impl<'a> Inputs<'a> {
    /// Returns [`Self::windows`] as session input.
    pub fn window_rows(&self) -> Rows<'a> {
        Rows::of(self.windows, self.ready)
    }

    /// Returns [`Self::branches`] as session inputs.
    pub fn branch_rows(&self) -> [Rows<'a>; 4] {
        self.branches.map(|buffer| Rows::of(buffer, self.ready))
    }
}

/// Front end of the system of 2020 on a device.
pub struct CudaFrontEnd {
    work: Workspace,
    resampler: Resampler,
    mel: MelTables,
    /// Signals of the last batch, for the voice detector; kept to reuse the allocation.
    signals: Vec<f64>,
}

impl std::fmt::Debug for CudaFrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        crate::front_end::cuda::debug(&self.work, &self.resampler, f)
    }
}

impl CudaFrontEnd {
    /// Creates a front end that works on one stream of a device.
    ///
    /// # Errors
    /// If the device has no memory for the tables.
    pub fn new(
        driver: Arc<dyn Driver>,
        stream: Stream,
        resampling: Resampling,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            mel: MelTables::new(&*driver, stream)?,
            work: Workspace::new(driver, stream),
            resampler: Resampler::new(resampling, ResamplingSteps::Two),
            signals: Vec::new(),
        })
    }

    /// Computes the inputs of up to [`MOST_RECORDINGS`] recordings, and returns the result of each
    /// in order. One second at 44.1 kHz takes about 0.6 MB of device memory and 0.2 MB of host
    /// memory.
    ///
    /// The method combines [`Self::detect_voice`], [`Self::compute_features`] and
    /// [`Self::recording_features`].
    ///
    /// # Errors
    /// If the device fails or runs out of memory. An error of a single recording is its result.
    pub fn run(
        &mut self,
        recordings: &[&Recording],
    ) -> Result<(Vec<Result<RecordingFeatures, FrontEndError>>, Inputs<'_>), DeviceError> {
        let batch = self.detect_voice(recordings)?;
        self.compute_features(&batch)?;
        let features = self.recording_features(&batch)?;
        Ok((features, self.inputs(batch.frames())))
    }

    /// Resamples, cleans and trims up to [`MOST_RECORDINGS`] recordings. It waits for the cleaned
    /// signals; voice activity detection runs on the current rayon pool.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub fn detect_voice(&mut self, recordings: &[&Recording]) -> Result<VoicedBatch, DeviceError> {
        let (checks, batch) = self.clean_recordings(recordings)?;
        Ok(VoicedBatch::new(checks, self.detect(&batch)?))
    }

    /// Computes the inputs for the last voiced batch. It returns before they are complete. The
    /// computation starts after the work already submitted to the other stream, which may still
    /// read the previous inputs.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub fn compute_features(&mut self, batch: &VoicedBatch) -> Result<Inputs<'_>, DeviceError> {
        let other = match self.work.stream {
            Stream::A => Stream::B,
            Stream::B => Stream::A,
        };
        self.work.driver.wait(self.work.stream, other)?;
        self.spectrograms(&batch.voiced(), batch.frames())?;
        self.summaries(batch.frames())?;
        Ok(self.inputs(batch.frames()))
    }

    /// Returns the result of each recording, after waiting for the inputs.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub fn recording_features(
        &self,
        batch: &VoicedBatch,
    ) -> Result<Vec<Result<RecordingFeatures, FrontEndError>>, DeviceError> {
        let locations = self.locations(batch.frames())?;
        Ok(batch.results(locations))
    }

    /// Computes the inputs from at most [`MOST_RECORDINGS`] existing spectrograms.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub fn from_mels(
        &mut self,
        mels: &[&Mel],
    ) -> Result<(Vec<Result<FeatureLocation, FeatureError>>, Inputs<'_>), DeviceError> {
        bounded(mels.len())?;
        let frames: Vec<usize> = mels.iter().map(|mel| mel.frames()).collect();
        self.upload_mels(mels, &frames)?;
        self.summaries(&frames)?;
        let locations = self.locations(&frames)?;
        Ok((locations, self.inputs(&frames)))
    }

    /// Returns the cleaned signals, which are the voice detector's input.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub fn cleaned(
        &mut self,
        recordings: &[&Recording],
    ) -> Result<Vec<Result<Cleaned, AudioError>>, DeviceError> {
        let (checks, batch) = self.clean_recordings(recordings)?;
        let (signals, peaks) = self.download_signals(&batch)?;
        let mut usable = 0..;
        let results = checks.into_iter().map(|check| {
            check?;
            let own = usable.next().expect("the range is endless");
            Ok(Cleaned {
                signal: signals[batch.range(own)].to_vec(),
                peak: peaks[own],
            })
        });
        Ok(results.collect())
    }

    /// Releases the memory of previous batches.
    pub fn release(&mut self) {
        self.work.memory.clear();
        self.signals = Vec::new();
    }

    fn inputs(&self, frames: &[usize]) -> Inputs<'_> {
        let windows = frames.iter().map(|&n| window_starts(n).len() as u32);
        let first_windows: Vec<u32> = [0]
            .into_iter()
            .chain(windows.scan(0, |end, count| {
                *end += count;
                Some(*end)
            }))
            .collect();
        Inputs {
            windows: self.work.memory.get("windows"),
            window_count: first_windows[frames.len()] as usize,
            first_windows,
            branches: ["dct", "dst", "histogram", "moments"].map(|name| self.work.memory.get(name)),
            rows: frames.len(),
            mel: self.work.memory.get("mel"),
            ready: self.work.stream,
        }
    }
}
