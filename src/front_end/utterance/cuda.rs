//! The default networks' front end on a device.
//!
//! Resampling, mel power and the pitch's candidates, which are each frame's own, are computed there
//! (`kernels/resample.cu`, `level.cu`, `utterance.cu`) and come to the CPU once. What is decided one
//! after the other or over the whole recording (what is loud enough, the path through the candidates,
//! the descriptors) is the CPU's own code, on its threads. Signals and their means are the CPU's to the
//! bit; the Fourier transforms add in another order, so the frames' values are the CPU's but for the
//! rounding of double precision.

use std::borrow::Cow;
use std::mem::take;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rayon::prelude::*;

use crate::audio::{Recording, Resampling};
use crate::front_end::cuda::resampling::{Batch, Resampler, Route, starts, total};
use crate::front_end::cuda::tables::{MelTables, PitchTables};
use crate::front_end::cuda::workspace::Workspace;
use crate::front_end::cuda::{FrontEndError, bounded};
use crate::front_end::utterance::{
    Frames, PitchFrame, Segments, Utterance, UtteranceExtractor, check,
};
use crate::front_end::{AudioError, FeatureError, HOP, N_MELS, is_silent};
use crate::nn::cuda::{Arg, Buffer, DeviceError, Driver, Stream};

/// Threads of `signal_level`, whose sums are laid out for them.
const LEVEL_THREADS: u32 = 256;
/// Frames that a block of `utterance_power` analyses at a time, and its threads.
const POWER_FRAMES: usize = 4;
const POWER_THREADS: u32 = 224;
/// Those of `utterance_pitch`.
const PITCH_FRAMES: usize = 2;
const PITCH_THREADS: u32 = 288;
/// Blocks that keep any device busy. Where there are more frames, a block takes more turns, for all of
/// which it reads its tables once.
const ENOUGH_BLOCKS: usize = 2048;
/// Turns of a block, if the recording has frames for them.
const TURNS: RangeInclusive<usize> = 2..=8;
/// Blocks of a recording at most: later frames are taken in turns.
const MOST_BLOCKS: usize = 4096;

/// The default networks' front end on a device.
pub struct UtteranceFrontEnd {
    work: Workspace,
    resampler: Resampler,
    mel: MelTables,
    pitch: PitchTables,
    /// The frames that came last: mel power, and the pitch's candidates.
    powers: Vec<f64>,
    pitches: Vec<f64>,
}

impl std::fmt::Debug for UtteranceFrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UtteranceFrontEnd")
            .field("driver", &self.work.driver.name())
            .field("resampling", &self.resampler.resampling())
            .finish_non_exhaustive()
    }
}

impl UtteranceFrontEnd {
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
            pitch: PitchTables::new(&*driver, stream)?,
            work: Workspace::new(driver, stream),
            resampler: Resampler::new(resampling, Route::Straight),
            powers: Vec::new(),
            pitches: Vec::new(),
        })
    }

    /// Analyses up to [`MOST_RECORDINGS`](crate::front_end::cuda::MOST_RECORDINGS) recordings; the results are in their
    /// order. It waits for the frames. What is told of whole recordings is computed on the threads of
    /// the rayon pool that this is called in, of one recording while the next one's frames come. A
    /// second at 44.1 kHz takes about 0.3 MB of device memory and 0.05 MB of the CPU's.
    ///
    /// # Errors
    /// If the device fails or has too little memory. What is wrong with a recording is told in its
    /// place.
    pub fn analyse(
        &mut self,
        extractor: &UtteranceExtractor,
        recordings: &[&Recording],
    ) -> Result<Vec<Result<Utterance, FrontEndError>>, DeviceError> {
        self.each(recordings, |frames| extractor.conclude(frames))
    }

    /// [`Self::analyse`] with [`UtteranceExtractor::conclude_segments`].
    ///
    /// # Errors
    /// As [`Self::analyse`].
    pub fn analyse_segments(
        &mut self,
        extractor: &UtteranceExtractor,
        recordings: &[&Recording],
    ) -> Result<Vec<Result<Segments, FrontEndError>>, DeviceError> {
        self.each(recordings, |frames| extractor.conclude_segments(frames))
    }

    /// The values of each recording's frames, as [`UtteranceExtractor::frames`] gives them for a signal;
    /// otherwise as [`Self::analyse`].
    ///
    /// # Errors
    /// As [`Self::analyse`].
    pub fn frames(
        &mut self,
        recordings: &[&Recording],
    ) -> Result<Vec<Result<Frames<'static>, FrontEndError>>, DeviceError> {
        self.each(recordings, |frames| Ok(frames.into_owned()))
    }

    /// Gives the memory of the batches so far back.
    pub fn give_back(&mut self) {
        self.work.memory.clear();
        self.powers = Vec::new();
        self.pitches = Vec::new();
    }

    /// What `conclude` makes of each recording's frames, on the CPU's threads.
    fn each<T: Send>(
        &mut self,
        recordings: &[&Recording],
        conclude: impl Fn(Frames<'_>) -> Result<T, FeatureError> + Sync,
    ) -> Result<Vec<Result<T, FrontEndError>>, DeviceError> {
        bounded(recordings.len())?;
        let silent: Vec<bool> = recordings.par_iter().map(|r| is_silent(r)).collect();
        let heard: Vec<&Recording> = recordings
            .iter()
            .zip(&silent)
            .filter_map(|(r, silent)| (!silent).then_some(*r))
            .collect();
        let mut concluded = match heard.is_empty() {
            true => Vec::new(),
            false => {
                let batch = self.resampler.run(&mut self.work, &heard)?;
                let frames = frame_starts(&batch);
                self.give(&batch, &frames)?;
                let levels = self.levels(&batch)?;
                self.take(&frames, levels, &conclude)?
            }
        }
        .into_iter();
        let result = |silent: &bool| match silent {
            true => Err(AudioError::Silence.into()),
            false => {
                let result = concluded.next().expect("one for each that is heard");
                result.map_err(FrontEndError::from)
            }
        };
        Ok(silent.iter().map(result).collect())
    }

    /// Gives the device what there is to compute of the signals, into the memory `mean`, `found`, `power`
    /// and `pitch`.
    fn give(&mut self, batch: &Batch, frames: &[u64]) -> Result<(), DeviceError> {
        let (work, recordings) = (&mut self.work, batch.len());
        work.put("frame starts", frames)?;
        work.room::<f64>("mean", recordings)?;
        work.room::<u64>("found", 2 * recordings)?;
        work.room::<f64>("power", N_MELS * total(frames))?;
        work.room::<f64>("pitch", PitchFrame::VALUES * total(frames))?;
        let args = ["mean", "found", "resampled", "starts"].map(|name| work.arg(name));
        work.launch("signal_level", [recordings, 1], LEVEL_THREADS, args.into())?;
        let (mel, pitch) = (&self.mel, &self.pitch);
        let mel = [
            &mel.hann,
            &mel.circle,
            &mel.first_bins,
            &mel.weight_starts,
            &mel.weights,
        ];
        let pitch = [
            &pitch.window,
            &pitch.correction,
            &pitch.circle,
            &pitch.cosines,
        ];
        let args = |to, tables: &[&Buffer]| -> Vec<Arg> {
            let names = [to, "resampled", "starts", "mean", "frame starts"];
            let names = names.into_iter().map(|name| work.arg(name));
            names.chain(tables.iter().copied().map(Arg::from)).collect()
        };
        let grid = grid_of(frames, POWER_FRAMES);
        work.launch("utterance_power", grid, POWER_THREADS, args("power", &mel))?;
        let grid = grid_of(frames, PITCH_FRAMES);
        work.launch(
            "utterance_pitch",
            grid,
            PITCH_THREADS,
            args("pitch", &pitch),
        )
    }

    /// Whether each signal can be analysed.
    fn levels(&self, batch: &Batch) -> Result<Vec<Result<(), FeatureError>>, DeviceError> {
        let found: Vec<u64> = self.work.take("found", 2 * batch.len())?;
        let level = |(recording, found): (usize, &[u64])| {
            let range = batch.range(recording);
            let not_finite = match found[0] {
                u64::MAX => None,
                index => {
                    let (index, mut value) = (index as usize, [0.0f32]);
                    let at = range.start + index;
                    self.work.take_into("resampled", at, &mut value)?;
                    Some((index, f64::from(value[0])))
                }
            };
            let differ = found[1] != 0;
            Ok(check(range.len(), || not_finite, || !differ))
        };
        found.chunks_exact(2).enumerate().map(level).collect()
    }

    /// Takes the frames of those recordings that can be analysed, and gives them to `conclude`, on the
    /// CPU's threads while the next ones come.
    fn take<T: Send>(
        &mut self,
        frames: &[u64],
        levels: Vec<Result<(), FeatureError>>,
        conclude: &(impl Fn(Frames<'_>) -> Result<T, FeatureError> + Sync),
    ) -> Result<Vec<Result<T, FeatureError>>, DeviceError> {
        let (mut powers, mut pitches) = (take(&mut self.powers), take(&mut self.pitches));
        powers.resize(powers.len().max(N_MELS * total(frames)), 0.0);
        pitches.resize(pitches.len().max(PitchFrame::VALUES * total(frames)), 0.0);
        let mut concluded: Vec<_> = levels
            .into_iter()
            .map(|level| level.err().map(Err))
            .collect();
        let work = &self.work;
        let done = rayon::in_place_scope(|scope| {
            let (mut powers, mut pitches) = (&mut *powers, &mut *pitches);
            for (result, range) in concluded.iter_mut().zip(frames.windows(2)) {
                if result.is_some() {
                    continue;
                }
                let (first, count) = (range[0] as usize, (range[1] - range[0]) as usize);
                let (power, pitch);
                (power, powers) = powers.split_at_mut(N_MELS * count);
                (pitch, pitches) = pitches.split_at_mut(PitchFrame::VALUES * count);
                work.take_into("power", N_MELS * first, power)?;
                work.take_into("pitch", PitchFrame::VALUES * first, pitch)?;
                let (power, pitch) = (&*power, &*pitch);
                scope.spawn(move |_| {
                    let (pitch, _) = pitch.as_chunks();
                    let pitch = pitch.iter().map(PitchFrame::of).collect();
                    *result = Some(conclude(Frames::new(Cow::Borrowed(power), pitch)));
                });
            }
            Ok(())
        });
        (self.powers, self.pitches) = (powers, pitches);
        done?;
        let concluded = concluded.into_iter();
        Ok(concluded.map(|r| r.expect("one for each")).collect())
    }
}

/// Where the frames of each signal start, and where the last ones end.
fn frame_starts(batch: &Batch) -> Vec<u64> {
    starts((0..batch.len()).map(|i| 1 + (batch.range(i).len() / HOP) as u64))
}

/// Blocks that analyse so many frames at a time, for each recording.
fn grid_of(frames: &[u64], together: usize) -> [usize; 2] {
    let turns = total(frames) / (together * ENOUGH_BLOCKS);
    let longest = frames.windows(2).map(|pair| pair[1] - pair[0]).max();
    let groups = (longest.unwrap_or(1) as usize)
        .div_ceil(together * turns.clamp(*TURNS.start(), *TURNS.end()));
    [groups.min(MOST_BLOCKS), frames.len() - 1]
}
