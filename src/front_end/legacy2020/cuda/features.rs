//! VoicedSignal activity detection on the CPU, and features of the cleaned signals on the device.

use super::{CudaFrontEnd, FeatureLocation, RecordingFeatures};
use crate::front_end::AudioError;
use crate::front_end::cuda::resampling::{Batch, starts};
use crate::front_end::cuda::{FrontEndError, THREADS, blocks, tables};
use crate::front_end::legacy2020::prepare;
use crate::front_end::legacy2020::prepare::Voiced;
use crate::front_end::legacy2020::windows::window_starts;
use crate::front_end::legacy2020::{COEFFICIENTS, HISTOGRAM_BINS, MOMENTS, Windows};
use crate::front_end::{FeatureError, HOP, Mel, N_MELS};
use crate::nn::cuda::sources::names;
use crate::nn::cuda::{Arg, DeviceError, bytes};

/// Maximum number of blocks of `mel_spectrogram` per recording; beyond it, a block processes
/// several groups of frames.
const MAX_MEL_BLOCKS: usize = 4096;
/// Frames that a block of `mel_spectrogram` transforms at a time, and its threads.
const MEL_FRAMES: usize = 4;
const MEL_THREADS: u32 = 224;
/// Coefficients per block of `feature_transforms`, and its threads: one per band, coefficient and
/// transform.
const COEFFICIENTS_PER_BLOCK: usize = 4;
const TRANSFORMS_THREADS: u32 = (2 * COEFFICIENTS_PER_BLOCK * N_MELS) as u32;
/// Threads per block of `feature_histogram`, which has few values.
const HISTOGRAM_THREADS: u32 = 128;

/// Voiced part of a recording.
#[derive(Debug)]
pub(super) struct VoicedSignal {
    voiced: Voiced,
    /// Number of samples of the whole signal, and its offset in the batch.
    samples: usize,
    start: u64,
    peak: f64,
}

impl VoicedSignal {
    /// Returns the number of frames of the kept part.
    fn frames(&self) -> usize {
        1 + self.voiced.kept.len() / HOP
    }

    fn recording_features(&self, location: FeatureLocation) -> RecordingFeatures {
        let Voiced {
            frames,
            kept,
            trimmed,
        } = self.voiced.clone();
        RecordingFeatures {
            location,
            kept,
            trimmed,
            voiced_frames: frames,
            total_samples: self.samples,
            peak: self.peak,
        }
    }
}

/// Batch of recordings after voice activity detection.
#[derive(Debug)]
pub struct VoicedBatch {
    checks: Vec<Result<(), AudioError>>,
    /// One result per recording that passed its check.
    voices: Vec<Result<VoicedSignal, AudioError>>,
    /// Number of frames of each recording with a voice.
    frames: Vec<usize>,
}

impl VoicedBatch {
    pub(super) fn new(
        checks: Vec<Result<(), AudioError>>,
        voices: Vec<Result<VoicedSignal, AudioError>>,
    ) -> Self {
        Self {
            checks,
            frames: voices.iter().flatten().map(VoicedSignal::frames).collect(),
            voices,
        }
    }

    /// Returns the number of frames (10 ms) of the kept part of each recording with features, in
    /// row order.
    pub fn frames(&self) -> &[usize] {
        &self.frames
    }

    pub(super) fn voiced(&self) -> Vec<&VoicedSignal> {
        self.voices.iter().flatten().collect()
    }

    /// Returns one result per recording, given the feature locations of those with a voice.
    pub(super) fn results(
        &self,
        locations: Vec<Result<FeatureLocation, FeatureError>>,
    ) -> Vec<Result<RecordingFeatures, FrontEndError>> {
        let (mut voices, mut locations) = (self.voices.iter(), locations.into_iter());
        let result = |check: &Result<(), AudioError>| {
            check.clone()?;
            let voice = voices.next().expect("one for each usable recording");
            let voice = voice.as_ref().map_err(AudioError::clone)?;
            let location = locations.next().expect("one for each voice");
            Ok(voice.recording_features(location?))
        };
        self.checks.iter().map(result).collect()
    }
}

/// Detects the voiced part of a signal that was divided by its `peak` and starts at `start` in the
/// batch.
fn voiced_signal(signal: &[f64], start: usize, peak: f64) -> Result<VoicedSignal, AudioError> {
    if peak == 0.0 || !peak.is_finite() || !signal.iter().all(|x| x.is_finite()) {
        return Err(AudioError::NoPeak);
    }
    Ok(VoicedSignal {
        voiced: prepare::voiced(signal, &mut prepare::detector())?,
        samples: signal.len(),
        start: start as u64,
        peak,
    })
}

impl CudaFrontEnd {
    /// Detects voice on the CPU threads, each signal while the next one is downloaded.
    pub(super) fn detect(
        &mut self,
        batch: &Batch,
    ) -> Result<Vec<Result<VoicedSignal, AudioError>>, DeviceError> {
        let mut voices: Vec<_> = std::iter::repeat_with(|| None).take(batch.len()).collect();
        let peaks: Vec<f64> = match batch.len() {
            0 => return Ok(Vec::new()),
            count => self.work.download("peak", count)?,
        };
        let mut signals = std::mem::take(&mut self.signals);
        signals.resize(signals.len().max(batch.samples()), 0.0);
        let done = rayon::in_place_scope(|scope| {
            let (mut signals, mut voices) = (&mut *signals, &mut *voices);
            for (recording, &peak) in peaks.iter().enumerate() {
                let range = batch.range(recording);
                let (signal, later) = signals.split_at_mut(range.len());
                let (voice, others) = voices.split_at_mut(1);
                (signals, voices) = (later, others);
                self.work.download_into("signal", range.start, signal)?;
                let signal = &*signal;
                scope.spawn(move |_| voice[0] = Some(voiced_signal(signal, range.start, peak)));
            }
            Ok(())
        });
        self.signals = signals;
        done?;
        let voices = voices.into_iter();
        Ok(voices.map(|v| v.expect("one for each signal")).collect())
    }

    /// Computes the spectrograms of the voiced parts into `mel`, with `frame starts` and the first
    /// `too loud` frame of each.
    pub(super) fn spectrograms(
        &mut self,
        voices: &[&VoicedSignal],
        frames: &[usize],
    ) -> Result<(), DeviceError> {
        self.reserve_spectrograms(frames)?;
        if voices.is_empty() {
            return Ok(());
        }
        let starts: Vec<u64> = voices.iter().map(|v| v.start).collect();
        self.work.upload("voice starts", &starts)?;
        let kept: Vec<u64> = voices
            .iter()
            .flat_map(|v| [v.voiced.kept.start as u64, v.voiced.kept.len() as u64])
            .collect();
        self.work.upload("kept", &kept)?;
        let peaks: Vec<f64> = voices.iter().map(|v| v.peak).collect();
        self.work.upload("voice peaks", &peaks)?;
        let mut args: Vec<Arg> = [
            "mel",
            "too loud",
            "signal",
            "voice starts",
            "kept",
            "voice peaks",
            "frame starts",
        ]
        .map(|name| self.work.arg(name))
        .into();
        let mel = &self.mel;
        let tables = [
            &mel.hann,
            &mel.circle,
            &mel.first_bins,
            &mel.weight_starts,
            &mel.weights,
        ];
        args.extend(tables.map(Arg::from));
        let longest = frames.iter().copied().max().unwrap_or(1);
        let groups = longest.div_ceil(MEL_FRAMES).min(MAX_MEL_BLOCKS);
        self.work.launch(
            names::MEL_SPECTROGRAM,
            [groups, voices.len()],
            MEL_THREADS,
            args,
        )
    }

    /// Uploads existing spectrograms in place of those that [`Self::spectrograms`] computes.
    pub(super) fn upload_mels(
        &mut self,
        mels: &[&Mel],
        frames: &[usize],
    ) -> Result<(), DeviceError> {
        self.reserve_spectrograms(frames)?;
        let mut at = 0;
        for mel in mels {
            let work = &self.work;
            work.driver
                .upload(work.stream, bytes(mel.data()), work.memory.get("mel"), at)?;
            at += size_of_val(mel.data());
        }
        Ok(())
    }

    fn reserve_spectrograms(&mut self, frames: &[usize]) -> Result<(), DeviceError> {
        self.work
            .reserve::<f64>("mel", N_MELS * frames.iter().sum::<usize>())?;
        self.work
            .upload("frame starts", &starts(frames.iter().map(|&n| n as u64)))?;
        self.work.upload("too loud", &vec![u32::MAX; frames.len()])
    }

    /// Computes the features of the spectrograms into `windows`, `dct`, `dst`, `histogram` and
    /// `moments`.
    pub(super) fn summaries(&mut self, frames: &[usize]) -> Result<(), DeviceError> {
        let (rows, all) = (frames.len(), frames.iter().sum::<usize>());
        let window_starts: Vec<Vec<usize>> = frames.iter().map(|&n| window_starts(n)).collect();
        let windows: usize = window_starts.iter().map(Vec::len).sum();
        self.work
            .reserve::<f32>("windows", windows * Windows::VALUES)?;
        for name in ["dct", "dst"] {
            self.work
                .reserve::<f32>(name, rows * N_MELS * COEFFICIENTS)?;
        }
        self.work
            .reserve::<f32>("histogram", rows * N_MELS * HISTOGRAM_BINS)?;
        self.work
            .reserve::<f32>("moments", rows * N_MELS * MOMENTS)?;
        if rows == 0 {
            return Ok(());
        }
        self.work.reserve::<f64>("log mel", N_MELS * all)?;
        self.work.reserve::<f64>("spread", 2 * rows)?;
        self.work.reserve::<u8>("empty", rows * N_MELS)?;
        let args = ["spread", "mel", "frame starts"].map(|name| self.work.arg(name));
        self.work
            .launch(names::FEATURE_SPREAD, [rows, 1], THREADS, args.into())?;
        self.cut_windows(&window_starts)?;
        let mut args: Vec<Arg> = ["log mel", "mel"].map(|name| self.work.arg(name)).into();
        args.push(Arg::from((N_MELS * all) as u64));
        self.work
            .launch(names::FEATURE_LOG, [blocks(N_MELS * all), 1], THREADS, args)?;
        let (quarters, quarter_starts) = tables::quarters(frames);
        self.work.upload("quarters", &quarters)?;
        self.work.upload("quarter starts", &quarter_starts)?;
        let names = [
            "dct",
            "dst",
            "log mel",
            "frame starts",
            "quarters",
            "quarter starts",
        ];
        let args = names.map(|name| self.work.arg(name));
        let grid = [COEFFICIENTS / COEFFICIENTS_PER_BLOCK, rows];
        self.work.launch(
            names::FEATURE_TRANSFORMS,
            grid,
            TRANSFORMS_THREADS,
            args.into(),
        )?;
        let args =
            ["histogram", "empty", "log mel", "frame starts"].map(|name| self.work.arg(name));
        self.work.launch(
            names::FEATURE_HISTOGRAM,
            [N_MELS, rows],
            HISTOGRAM_THREADS,
            args.into(),
        )?;
        let args = ["moments", "log mel", "frame starts"].map(|name| self.work.arg(name));
        self.work
            .launch(names::FEATURE_MOMENTS, [N_MELS, rows], THREADS, args.into())
    }

    /// Returns the locations of the features of the last batch, after waiting for them.
    pub(super) fn locations(
        &self,
        frames: &[usize],
    ) -> Result<Vec<Result<FeatureLocation, FeatureError>>, DeviceError> {
        let rows = frames.len();
        if rows == 0 {
            return Ok(Vec::new());
        }
        let too_loud: Vec<u32> = self.work.download("too loud", rows)?;
        let spread: Vec<f64> = self.work.download("spread", 2 * rows)?;
        let empty: Vec<u8> = self.work.download("empty", rows * N_MELS)?;
        let mut first = 0;
        let location = |(row, &count): (usize, &usize)| {
            let window_starts = window_starts(count);
            let windows = first..first + window_starts.len();
            first = windows.end;
            if too_loud[row] != u32::MAX {
                let frame = too_loud[row] as usize;
                return Err(FeatureError::TooLoud { frame });
            }
            if spread[2 * row + 1] == 0.0 {
                let value = spread[2 * row];
                return Err(FeatureError::Constant { value });
            }
            let empty = &empty[row * N_MELS..][..N_MELS];
            Ok(FeatureLocation {
                row,
                windows,
                window_starts,
                frames: count,
                empty_histogram_bands: (0..N_MELS).filter(|&band| empty[band] != 0).collect(),
            })
        };
        Ok(frames.iter().enumerate().map(location).collect())
    }

    fn cut_windows(&mut self, window_starts: &[Vec<usize>]) -> Result<(), DeviceError> {
        let recordings: Vec<u32> = window_starts
            .iter()
            .zip(0u32..)
            .flat_map(|(starts, i)| starts.iter().map(move |_| i))
            .collect();
        let starts: Vec<u32> = window_starts.iter().flatten().map(|&s| s as u32).collect();
        self.work.upload("window recordings", &recordings)?;
        self.work.upload("window starts", &starts)?;
        let names = [
            "windows",
            "mel",
            "frame starts",
            "spread",
            "window recordings",
            "window starts",
        ];
        let args = names.map(|name| self.work.arg(name));
        self.work.launch(
            names::FEATURE_WINDOWS,
            [starts.len(), 1],
            THREADS,
            args.into(),
        )
    }
}
