//! From decoded recordings to the networks' inputs, which stay on the device.
//!
//! The stages of [`crate::audio`] and [`crate::front_end::legacy2020`], for many recordings of any lengths at once:
//! resampling, clean-up, spectrograms and features run on the device (`kernels/resample.cu`,
//! `clean.cu`, `mel.cu`, `features.cu`). Once in between, the cleaned signals come to the CPU, whose
//! threads tell voice from silence: that is a decision after the other, in every recording. Every sum
//! has the CPU's order, so every number is the CPU's up to the logarithm, the root and the Fourier
//! transform, which are other programs there.
//!
//! That is the system of 2020's [`FrontEnd`]. Of the default networks' ([`UtteranceFrontEnd`](crate::front_end::utterance::cuda::UtteranceFrontEnd)) what
//! is computed frame by frame runs on the device, and the rest on the CPU's threads.

use std::ops::Range;
use std::sync::Arc;

use crate::audio::{Recording, Resampling};
#[cfg(doc)]
use crate::front_end::cuda::MOST_RECORDINGS;
use crate::front_end::cuda::resampling::{Resampler, Route};
use crate::front_end::cuda::tables::MelTables;
use crate::front_end::cuda::workspace::Workspace;
use crate::front_end::cuda::{FrontEndError, bounded};
use crate::front_end::legacy2020::windows::window_starts;
use crate::front_end::{AudioError, FeatureError, Mel};
use crate::nn::cuda::{Buffer, DeviceError, Driver, Rows, Stream};

mod features;
mod signals;

pub use features::Listened;

/// Where a recording's features lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its row in [`Inputs::branches`].
    pub row: usize,
    /// Its rows in [`Inputs::windows`].
    pub windows: Range<usize>,
    /// First frame of each window, as [`Windows::starts`](crate::front_end::legacy2020::Windows::starts).
    pub window_starts: Vec<usize>,
    /// Frames (10 ms) of the kept part.
    pub frames: usize,
    /// Bands whose histogram is all zeros because none of their values lay in its range.
    pub empty_histogram_bands: Vec<usize>,
}

/// What is known of a recording besides its features.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Where the features are.
    pub place: Place,
    /// Which part of the whole 16 kHz signal was kept.
    pub kept: Range<usize>,
    /// Whether it is less than all because speech was told from silence.
    pub trimmed: bool,
    /// Decisions of the voice detector, one per 480 samples of the whole 16 kHz signal.
    pub voiced_frames: Vec<bool>,
    /// Samples of the whole signal at 16 kHz.
    pub total_samples: usize,
    /// The largest sample, by which the signal was divided for the voice detector.
    pub peak: f64,
}

/// A recording at 16 kHz, denoised and pre-emphasised.
#[derive(Debug, Clone, PartialEq)]
pub struct Cleaned {
    /// The signal divided by `peak`; where that is 0 or not finite, it cannot be analysed.
    pub signal: Vec<f64>,
    /// The largest sample.
    pub peak: f64,
}

/// The networks' inputs for a batch of recordings, on the device.
///
/// What is given to the front end's [`Stream`] from here on waits for them; another stream has to
/// wait for that one first, as a session does. They hold until the front end describes another
/// batch.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// Windows of all recordings, `f32 [window_count][200][40]`.
    pub windows: &'a Buffer,
    /// Rows of [`Self::windows`].
    pub window_count: usize,
    /// For each row of [`Self::branches`] the first of its windows, and at the end
    /// [`Self::window_count`].
    pub first_windows: Vec<u32>,
    /// Cosine transform, sine transform and histogram, `f32 [rows][40][40]`, and moments,
    /// `f32 [rows][40][8]`.
    pub branches: [&'a Buffer; 4],
    /// Rows of [`Self::branches`]. A recording whose spectrogram has no features has a row and
    /// windows too, without meaning.
    pub rows: usize,
    /// The power mel spectrograms row by row, `f64 [40][frames]` each.
    pub mel: &'a Buffer,
    /// The front end's stream.
    pub ready: Stream,
}

impl<'a> Inputs<'a> {
    /// [`Self::windows`] for a session.
    pub fn window_rows(&self) -> Rows<'a> {
        Rows::of(self.windows, self.ready)
    }

    /// [`Self::branches`] for a session.
    pub fn branch_rows(&self) -> [Rows<'a>; 4] {
        self.branches.map(|buffer| Rows::of(buffer, self.ready))
    }
}

/// The front end of the system of 2020 on a device.
pub struct FrontEnd {
    work: Workspace,
    resampler: Resampler,
    mel: MelTables,
    /// The signals that the voice detector heard last.
    signals: Vec<f64>,
}

impl std::fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontEnd")
            .field("driver", &self.work.driver.name())
            .field("resampling", &self.resampler.resampling())
            .finish_non_exhaustive()
    }
}

impl FrontEnd {
    /// A front end that works on one stream of a device.
    ///
    /// # Errors
    /// If the device has no room for its tables.
    pub fn new(
        driver: Arc<dyn Driver>,
        stream: Stream,
        resampling: Resampling,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            mel: MelTables::new(&*driver, stream)?,
            work: Workspace::new(driver, stream),
            resampler: Resampler::new(resampling, Route::ByReference),
            signals: Vec::new(),
        })
    }

    /// The inputs for up to [`MOST_RECORDINGS`] recordings, and in their order what is known of
    /// each. A second at 44.1 kHz takes about 0.6 MB of device memory and 0.2 MB of the CPU's.
    ///
    /// These are [`Self::listen`], [`Self::describe`] and [`Self::heard`].
    ///
    /// # Errors
    /// If the device fails or has too little memory. What is wrong with a recording is told in its
    /// place.
    pub fn run(
        &mut self,
        recordings: &[&Recording],
    ) -> Result<(Vec<Result<Heard, FrontEndError>>, Inputs<'_>), DeviceError> {
        let listened = self.listen(recordings)?;
        self.describe(&listened)?;
        let heard = self.heard(&listened)?;
        Ok((heard, self.inputs(listened.frames())))
    }

    /// The way up to the voiced part of up to [`MOST_RECORDINGS`] recordings. It waits for the
    /// cleaned signals; voice is told from silence on the threads of the rayon pool that this is
    /// called in.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn listen(&mut self, recordings: &[&Recording]) -> Result<Listened, DeviceError> {
        let (checks, batch) = self.signals(recordings)?;
        Ok(Listened::new(checks, self.voices(&batch)?))
    }

    /// The inputs for what was listened to last. Returns before they are computed, which begins
    /// when the other stream has done what it was given so far: that may read the last inputs.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn describe(&mut self, listened: &Listened) -> Result<Inputs<'_>, DeviceError> {
        let other = match self.work.stream {
            Stream::A => Stream::B,
            Stream::B => Stream::A,
        };
        self.work.driver.wait(self.work.stream, other)?;
        self.spectrograms(&listened.heard(), listened.frames())?;
        self.summaries(listened.frames())?;
        Ok(self.inputs(listened.frames()))
    }

    /// What is known of each recording when the inputs are computed, which this waits for.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn heard(
        &self,
        listened: &Listened,
    ) -> Result<Vec<Result<Heard, FrontEndError>>, DeviceError> {
        let places = self.places(listened.frames())?;
        Ok(listened.results(places))
    }

    /// The inputs from spectrograms that were computed elsewhere, at most [`MOST_RECORDINGS`].
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn from_mels(
        &mut self,
        mels: &[&Mel],
    ) -> Result<(Vec<Result<Place, FeatureError>>, Inputs<'_>), DeviceError> {
        bounded(mels.len())?;
        let frames: Vec<usize> = mels.iter().map(|mel| mel.frames()).collect();
        self.given(mels, &frames)?;
        self.summaries(&frames)?;
        let places = self.places(&frames)?;
        Ok((places, self.inputs(&frames)))
    }

    /// The signals that the voice detector hears.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn cleaned(
        &mut self,
        recordings: &[&Recording],
    ) -> Result<Vec<Result<Cleaned, AudioError>>, DeviceError> {
        let (checks, batch) = self.signals(recordings)?;
        let (signals, peaks) = self.take_signals(&batch)?;
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

    /// Gives the memory of the batches so far back.
    pub fn give_back(&mut self) {
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
