//! From cleaned signals to features on the device; voice is told from silence on the CPU.

use super::{FrontEnd, Heard, Place};
use crate::front_end::AudioError;
use crate::front_end::cuda::resampling::{Batch, starts};
use crate::front_end::cuda::{FrontEndError, THREADS, blocks, tables};
use crate::front_end::legacy2020::prepare;
use crate::front_end::legacy2020::prepare::Voiced;
use crate::front_end::legacy2020::windows::window_starts;
use crate::front_end::legacy2020::{COEFFICIENTS, HISTOGRAM_BINS, MOMENTS, Windows};
use crate::front_end::{FeatureError, HOP, Mel, N_MELS};
use crate::nn::cuda::{Arg, DeviceError, bytes};

/// Blocks of `mel_spectrogram` for a recording at most: later frames are taken in turns.
const MOST_MEL_BLOCKS: usize = 4096;
/// Frames that a block of `mel_spectrogram` transforms at a time, and its threads.
const MEL_FRAMES: usize = 4;
const MEL_THREADS: u32 = 224;
/// Coefficients of a block of `feature_transforms`, and its threads: one for each band, coefficient
/// and transform.
const TRANSFORMS_TOGETHER: usize = 4;
const TRANSFORMS_THREADS: u32 = (2 * TRANSFORMS_TOGETHER * N_MELS) as u32;
/// Threads of a block of `feature_histogram`, which has few values.
const HISTOGRAM_THREADS: u32 = 128;

/// What is voiced in a recording.
#[derive(Debug)]
pub(super) struct Voice {
    voiced: Voiced,
    /// Samples of the whole signal, and where it starts in the batch.
    samples: usize,
    start: u64,
    peak: f64,
}

impl Voice {
    /// Frames of the kept part.
    fn frames(&self) -> usize {
        1 + self.voiced.kept.len() / HOP
    }

    fn heard(&self, place: Place) -> Heard {
        let Voiced {
            frames,
            kept,
            trimmed,
        } = self.voiced.clone();
        Heard {
            place,
            kept,
            trimmed,
            voiced_frames: frames,
            total_samples: self.samples,
            peak: self.peak,
        }
    }
}

/// Recordings in which voice was told from silence, and what is known of each so far.
#[derive(Debug)]
pub struct Listened {
    checks: Vec<Result<(), AudioError>>,
    /// One for each that passed its check.
    voices: Vec<Result<Voice, AudioError>>,
    /// Of each that has a voice.
    frames: Vec<usize>,
}

impl Listened {
    pub(super) fn new(
        checks: Vec<Result<(), AudioError>>,
        voices: Vec<Result<Voice, AudioError>>,
    ) -> Self {
        Self {
            checks,
            frames: voices.iter().flatten().map(Voice::frames).collect(),
            voices,
        }
    }

    /// Frames (10 ms) of the kept part of each recording that has features, in the order of the
    /// inputs' rows.
    pub fn frames(&self) -> &[usize] {
        &self.frames
    }

    pub(super) fn heard(&self) -> Vec<&Voice> {
        self.voices.iter().flatten().collect()
    }

    /// In the order of all recordings, with the places of those that have a voice.
    pub(super) fn results(
        &self,
        places: Vec<Result<Place, FeatureError>>,
    ) -> Vec<Result<Heard, FrontEndError>> {
        let (mut voices, mut places) = (self.voices.iter(), places.into_iter());
        let result = |check: &Result<(), AudioError>| {
            check.clone()?;
            let voice = voices.next().expect("one for each usable recording");
            let voice = voice.as_ref().map_err(AudioError::clone)?;
            let place = places.next().expect("one for each voice");
            Ok(voice.heard(place?))
        };
        self.checks.iter().map(result).collect()
    }
}

/// Tells voice from silence in a signal that was divided by its `peak` and starts at `start`.
fn voice_of(signal: &[f64], start: usize, peak: f64) -> Result<Voice, AudioError> {
    if peak == 0.0 || !peak.is_finite() || !signal.iter().all(|x| x.is_finite()) {
        return Err(AudioError::NoPeak);
    }
    Ok(Voice {
        voiced: prepare::voiced(signal, &mut prepare::detector())?,
        samples: signal.len(),
        start: start as u64,
        peak,
    })
}

impl FrontEnd {
    /// Tells voice from silence, on the CPU's threads, in what has come from the device while the
    /// next signals come.
    pub(super) fn voices(
        &mut self,
        batch: &Batch,
    ) -> Result<Vec<Result<Voice, AudioError>>, DeviceError> {
        let mut voices: Vec<_> = std::iter::repeat_with(|| None).take(batch.len()).collect();
        let peaks: Vec<f64> = match batch.len() {
            0 => return Ok(Vec::new()),
            count => self.work.take("peak", count)?,
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
                self.work.take_into("signal", range.start, signal)?;
                let signal = &*signal;
                scope.spawn(move |_| voice[0] = Some(voice_of(signal, range.start, peak)));
            }
            Ok(())
        });
        self.signals = signals;
        done?;
        let voices = voices.into_iter();
        Ok(voices.map(|v| v.expect("one for each signal")).collect())
    }

    /// The spectrograms of what is voiced, into the memory `mel`, with their `frame starts` and the
    /// first frames that are `too loud`.
    pub(super) fn spectrograms(
        &mut self,
        voices: &[&Voice],
        frames: &[usize],
    ) -> Result<(), DeviceError> {
        self.spectrogram_room(frames)?;
        if voices.is_empty() {
            return Ok(());
        }
        let starts: Vec<u64> = voices.iter().map(|v| v.start).collect();
        self.work.put("voice starts", &starts)?;
        let kept: Vec<u64> = voices
            .iter()
            .flat_map(|v| [v.voiced.kept.start as u64, v.voiced.kept.len() as u64])
            .collect();
        self.work.put("kept", &kept)?;
        let peaks: Vec<f64> = voices.iter().map(|v| v.peak).collect();
        self.work.put("voice peaks", &peaks)?;
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
        let groups = longest.div_ceil(MEL_FRAMES).min(MOST_MEL_BLOCKS);
        self.work
            .launch("mel_spectrogram", [groups, voices.len()], MEL_THREADS, args)
    }

    /// Given spectrograms, where [`Self::spectrograms`] has its own.
    pub(super) fn given(&mut self, mels: &[&Mel], frames: &[usize]) -> Result<(), DeviceError> {
        self.spectrogram_room(frames)?;
        let mut at = 0;
        for mel in mels {
            let work = &self.work;
            work.driver
                .upload(work.stream, bytes(mel.data()), work.memory.get("mel"), at)?;
            at += size_of_val(mel.data());
        }
        Ok(())
    }

    fn spectrogram_room(&mut self, frames: &[usize]) -> Result<(), DeviceError> {
        self.work
            .room::<f64>("mel", N_MELS * frames.iter().sum::<usize>())?;
        self.work
            .put("frame starts", &starts(frames.iter().map(|&n| n as u64)))?;
        self.work.put("too loud", &vec![u32::MAX; frames.len()])
    }

    /// The features of the spectrograms, into the memory `windows`, `dct`, `dst`, `histogram` and
    /// `moments`.
    pub(super) fn summaries(&mut self, frames: &[usize]) -> Result<(), DeviceError> {
        let (rows, all) = (frames.len(), frames.iter().sum::<usize>());
        let window_starts: Vec<Vec<usize>> = frames.iter().map(|&n| window_starts(n)).collect();
        let windows: usize = window_starts.iter().map(Vec::len).sum();
        self.work
            .room::<f32>("windows", windows * Windows::VALUES)?;
        for name in ["dct", "dst"] {
            self.work.room::<f32>(name, rows * N_MELS * COEFFICIENTS)?;
        }
        self.work
            .room::<f32>("histogram", rows * N_MELS * HISTOGRAM_BINS)?;
        self.work.room::<f32>("moments", rows * N_MELS * MOMENTS)?;
        if rows == 0 {
            return Ok(());
        }
        self.work.room::<f64>("log mel", N_MELS * all)?;
        self.work.room::<f64>("spread", 2 * rows)?;
        self.work.room::<u8>("empty", rows * N_MELS)?;
        let args = ["spread", "mel", "frame starts"].map(|name| self.work.arg(name));
        self.work
            .launch("feature_spread", [rows, 1], THREADS, args.into())?;
        self.windows(&window_starts)?;
        let mut args: Vec<Arg> = ["log mel", "mel"].map(|name| self.work.arg(name)).into();
        args.push(Arg::from((N_MELS * all) as u64));
        self.work
            .launch("feature_log", [blocks(N_MELS * all), 1], THREADS, args)?;
        let (quarters, quarter_starts) = tables::quarters(frames);
        self.work.put("quarters", &quarters)?;
        self.work.put("quarter starts", &quarter_starts)?;
        let names = [
            "dct",
            "dst",
            "log mel",
            "frame starts",
            "quarters",
            "quarter starts",
        ];
        let args = names.map(|name| self.work.arg(name));
        let grid = [COEFFICIENTS / TRANSFORMS_TOGETHER, rows];
        self.work
            .launch("feature_transforms", grid, TRANSFORMS_THREADS, args.into())?;
        let args =
            ["histogram", "empty", "log mel", "frame starts"].map(|name| self.work.arg(name));
        self.work.launch(
            "feature_histogram",
            [N_MELS, rows],
            HISTOGRAM_THREADS,
            args.into(),
        )?;
        let args = ["moments", "log mel", "frame starts"].map(|name| self.work.arg(name));
        self.work
            .launch("feature_moments", [N_MELS, rows], THREADS, args.into())
    }

    /// Where the features lie that are computed last, which this waits for.
    pub(super) fn places(
        &self,
        frames: &[usize],
    ) -> Result<Vec<Result<Place, FeatureError>>, DeviceError> {
        let rows = frames.len();
        if rows == 0 {
            return Ok(Vec::new());
        }
        let too_loud: Vec<u32> = self.work.take("too loud", rows)?;
        let spread: Vec<f64> = self.work.take("spread", 2 * rows)?;
        let empty: Vec<u8> = self.work.take("empty", rows * N_MELS)?;
        let mut first = 0;
        let place = |(row, &count): (usize, &usize)| {
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
            Ok(Place {
                row,
                windows,
                window_starts,
                frames: count,
                empty_histogram_bands: (0..N_MELS).filter(|&band| empty[band] != 0).collect(),
            })
        };
        Ok(frames.iter().enumerate().map(place).collect())
    }

    fn windows(&mut self, window_starts: &[Vec<usize>]) -> Result<(), DeviceError> {
        let recordings: Vec<u32> = window_starts
            .iter()
            .zip(0u32..)
            .flat_map(|(starts, i)| starts.iter().map(move |_| i))
            .collect();
        let starts: Vec<u32> = window_starts.iter().flatten().map(|&s| s as u32).collect();
        self.work.put("window recordings", &recordings)?;
        self.work.put("window starts", &starts)?;
        let names = [
            "windows",
            "mel",
            "frame starts",
            "spread",
            "window recordings",
            "window starts",
        ];
        let args = names.map(|name| self.work.arg(name));
        self.work
            .launch("feature_windows", [starts.len(), 1], THREADS, args.into())
    }
}
