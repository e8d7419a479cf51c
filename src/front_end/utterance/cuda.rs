//! CUDA front end of the default networks.
//!
//! Resampling, mel power and pitch candidates are independent per frame. They are computed on the
//! device (`kernels/resample.cu`, `level.cu`, `utterance.cu`) and downloaded once. Sequential or
//! recording-wide steps (activity, pitch path, descriptors) use the CPU code on the CPU's threads.
//!
//! Signals and their means are bit-identical to the CPU's. The Fourier transforms add in another
//! order, so frame values agree within double precision rounding.

use std::borrow::Cow;
use std::mem::take;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rayon::prelude::*;

use crate::audio::{Recording, Resampling};
use crate::front_end::cuda::resampling::{Batch, Resampler, ResamplingSteps, starts, total};
use crate::front_end::cuda::tables::{MelTables, PitchTables};
use crate::front_end::cuda::workspace::Workspace;
use crate::front_end::cuda::{FrontEndError, bounded};
use crate::front_end::utterance::{
    Frames, PitchFrame, Segments, Utterance, UtteranceExtractor, check,
};
use crate::front_end::{FeatureError, HOP, N_MELS, check as check_recording};
use crate::nn::cuda::sources::names;
use crate::nn::cuda::{Arg, Buffer, DeviceError, Driver, Stream};

/// Threads per block of `signal_level`; its summation order depends on this number.
const LEVEL_THREADS: u32 = 256;
/// Frames that a block of `utterance_power` analyses at a time, and its threads.
const POWER_FRAMES: usize = 4;
const POWER_THREADS: u32 = 224;
/// Frames that a block of `utterance_pitch` analyses at a time, and its threads.
const PITCH_FRAMES: usize = 2;
const PITCH_THREADS: u32 = 288;
/// Number of blocks that occupies any device. With more frames, a block processes several groups,
/// for which it loads its tables once.
const SATURATING_BLOCKS: usize = 2048;
/// Number of frame groups per block, if the recording has enough frames.
const GROUPS_PER_BLOCK: RangeInclusive<usize> = 2..=8;
/// Maximum number of blocks per recording; beyond it, a block processes more groups.
const MAX_BLOCKS: usize = 4096;

/// Front end of the default networks on a device.
pub struct CudaFrontEnd {
    work: Workspace,
    resampler: Resampler,
    mel: MelTables,
    pitch: PitchTables,
    /// Last downloaded frames: mel power, and pitch candidates.
    powers: Vec<f64>,
    pitches: Vec<f64>,
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
            pitch: PitchTables::new(&*driver, stream)?,
            work: Workspace::new(driver, stream),
            resampler: Resampler::new(resampling, ResamplingSteps::One),
            powers: Vec::new(),
            pitches: Vec::new(),
        })
    }

    /// Analyses up to [`MOST_RECORDINGS`](crate::front_end::cuda::MOST_RECORDINGS) recordings; the
    /// results are in their order.
    ///
    /// The method waits for the frame values. Recording-wide steps run on the current rayon pool,
    /// for one recording while the frames of the next are downloaded. One second at 44.1 kHz takes
    /// about 0.3 MB of device memory and 0.05 MB of host memory.
    ///
    /// # Errors
    /// If the device fails or runs out of memory. An error of a single recording is its result.
    pub fn analyse(
        &mut self,
        extractor: &UtteranceExtractor,
        recordings: &[&Recording],
    ) -> Result<Vec<Result<Utterance, FrontEndError>>, DeviceError> {
        self.analyse_each(recordings, |frames| extractor.utterance_from_frames(frames))
    }

    /// Analyses recordings like [`Self::analyse`], by [`UtteranceExtractor::segments_from_frames`].
    ///
    /// # Errors
    /// The errors of [`Self::analyse`].
    pub fn analyse_segments(
        &mut self,
        extractor: &UtteranceExtractor,
        recordings: &[&Recording],
    ) -> Result<Vec<Result<Segments, FrontEndError>>, DeviceError> {
        self.analyse_each(recordings, |frames| extractor.segments_from_frames(frames))
    }

    /// Returns the frame values of each recording, equivalent to [`UtteranceExtractor::frames`].
    ///
    /// # Errors
    /// The errors of [`Self::analyse`].
    pub fn frames(
        &mut self,
        recordings: &[&Recording],
    ) -> Result<Vec<Result<Frames<'static>, FrontEndError>>, DeviceError> {
        self.analyse_each(recordings, |frames| Ok(frames.into_owned()))
    }

    /// Releases the memory of previous batches.
    pub fn release(&mut self) {
        self.work.memory.clear();
        self.powers = Vec::new();
        self.pitches = Vec::new();
    }

    /// Applies `conclude` to each recording's frames, on the CPU's threads.
    fn analyse_each<T: Send>(
        &mut self,
        recordings: &[&Recording],
        conclude: impl Fn(Frames<'_>) -> Result<T, FeatureError> + Sync,
    ) -> Result<Vec<Result<T, FrontEndError>>, DeviceError> {
        bounded(recordings.len())?;
        let checks: Vec<_> = recordings.par_iter().map(|r| check_recording(r)).collect();
        let audible: Vec<&Recording> = recordings
            .iter()
            .zip(&checks)
            .filter_map(|(r, check)| check.is_ok().then_some(*r))
            .collect();
        let mut concluded = match audible.is_empty() {
            true => Vec::new(),
            false => {
                let batch = self.resampler.run(&mut self.work, &audible)?;
                let frames = frame_starts(&batch);
                self.launch_frames(&batch, &frames)?;
                let levels = self.levels(&batch)?;
                self.conclude_frames(&frames, levels, &conclude)?
            }
        }
        .into_iter();
        let results = checks.into_iter().map(|check| {
            check?;
            let result = concluded.next().expect("one for each audible recording");
            result.map_err(FrontEndError::from)
        });
        Ok(results.collect())
    }

    /// Launches the per-frame computations into `mean`, `found`, `power` and `pitch`.
    fn launch_frames(&mut self, batch: &Batch, frames: &[u64]) -> Result<(), DeviceError> {
        let (work, recordings) = (&mut self.work, batch.len());
        work.upload("frame starts", frames)?;
        work.reserve::<f64>("mean", recordings)?;
        work.reserve::<u64>("found", 2 * recordings)?;
        work.reserve::<f64>("power", N_MELS * total(frames))?;
        work.reserve::<f64>("pitch", PitchFrame::VALUES * total(frames))?;
        let args = ["mean", "found", "resampled", "starts"].map(|name| work.arg(name));
        work.launch(
            names::SIGNAL_LEVEL,
            [recordings, 1],
            LEVEL_THREADS,
            args.into(),
        )?;
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
        let grid = block_grid(frames, POWER_FRAMES);
        work.launch(
            names::UTTERANCE_POWER,
            grid,
            POWER_THREADS,
            args("power", &mel),
        )?;
        let grid = block_grid(frames, PITCH_FRAMES);
        work.launch(
            names::UTTERANCE_PITCH,
            grid,
            PITCH_THREADS,
            args("pitch", &pitch),
        )
    }

    /// Returns whether each signal can be analysed.
    fn levels(&self, batch: &Batch) -> Result<Vec<Result<(), FeatureError>>, DeviceError> {
        let found: Vec<u64> = self.work.download("found", 2 * batch.len())?;
        let level = |(recording, found): (usize, &[u64])| {
            let range = batch.range(recording);
            let not_finite = match found[0] {
                u64::MAX => None,
                index => {
                    let (index, mut value) = (index as usize, [0.0f32]);
                    let at = range.start + index;
                    self.work.download_into("resampled", at, &mut value)?;
                    Some((index, f64::from(value[0])))
                }
            };
            let differ = found[1] != 0;
            Ok(check(range.len(), || not_finite, || !differ))
        };
        found.chunks_exact(2).enumerate().map(level).collect()
    }

    /// Downloads the frames of the recordings that can be analysed, and applies `conclude` on the
    /// CPU's threads during the next download.
    fn conclude_frames<T: Send>(
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
                work.download_into("power", N_MELS * first, power)?;
                work.download_into("pitch", PitchFrame::VALUES * first, pitch)?;
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

/// Returns the frame offset of each signal, followed by the total number of frames.
fn frame_starts(batch: &Batch) -> Vec<u64> {
    starts((0..batch.len()).map(|i| 1 + (batch.range(i).len() / HOP) as u64))
}

/// Returns the grid whose blocks analyse `frames_at_a_time` frames, for each recording.
fn block_grid(frames: &[u64], frames_at_a_time: usize) -> [usize; 2] {
    let groups_per_block = total(frames) / (frames_at_a_time * SATURATING_BLOCKS);
    let longest = frames.windows(2).map(|pair| pair[1] - pair[0]).max();
    let groups = (longest.unwrap_or(1) as usize).div_ceil(
        frames_at_a_time
            * groups_per_block.clamp(*GROUPS_PER_BLOCK.start(), *GROUPS_PER_BLOCK.end()),
    );
    [groups.min(MAX_BLOCKS), frames.len() - 1]
}
