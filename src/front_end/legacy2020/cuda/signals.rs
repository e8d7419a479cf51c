//! Resampling and clean-up of recordings on the device.

use rayon::prelude::*;

use super::CudaFrontEnd;
use crate::audio::Recording;
use crate::front_end::AudioError;
use crate::front_end::cuda::resampling::Batch;
use crate::front_end::cuda::{THREADS, blocks, bounded};
use crate::front_end::legacy2020::prepare;
use crate::nn::cuda::sources::names;
use crate::nn::cuda::{Arg, DeviceError};

/// Number of blocks that share the search for a recording's largest sample.
const PEAK_BLOCKS: u32 = 64;

impl CudaFrontEnd {
    /// Resamples and cleans the recordings that can be analysed into `signal`, divided by their
    /// `peak`. Returns the check of every recording, and the batch of those that passed.
    pub(super) fn clean_recordings(
        &mut self,
        recordings: &[&Recording],
    ) -> Result<(Vec<Result<(), AudioError>>, Batch), DeviceError> {
        bounded(recordings.len())?;
        let resampling = self.resampler.resampling();
        let checks: Vec<_> = recordings
            .par_iter()
            .map(|r| prepare::check(r, resampling))
            .collect();
        let usable: Vec<&Recording> = recordings
            .iter()
            .zip(&checks)
            .filter_map(|(r, check)| check.is_ok().then_some(*r))
            .collect();
        let batch = self.resampler.run(&mut self.work, &usable)?;
        if batch.len() > 0 {
            self.clean(&batch)?;
        }
        Ok((checks, batch))
    }

    fn clean(&mut self, batch: &Batch) -> Result<(), DeviceError> {
        let count = batch.len();
        self.work.reserve::<f64>("signal", batch.samples())?;
        self.work.reserve::<f64>("noise", count)?;
        self.work
            .reserve::<f64>("largest", count * PEAK_BLOCKS as usize)?;
        self.work.reserve::<f64>("peak", count)?;
        let args = ["noise", "resampled", "starts"].map(|name| self.work.arg(name));
        self.work
            .launch(names::CLEAN_NOISE, [count, 1], THREADS, args.into())?;
        let args =
            ["signal", "largest", "resampled", "starts", "noise"].map(|name| self.work.arg(name));
        self.work.launch(
            names::CLEAN_FILTER,
            [PEAK_BLOCKS as usize, count],
            THREADS,
            args.into(),
        )?;
        let args = vec![
            self.work.arg("peak"),
            self.work.arg("largest"),
            Arg::from(count as u32),
            Arg::from(PEAK_BLOCKS),
        ];
        self.work
            .launch(names::CLEAN_PEAK, [blocks(count), 1], THREADS, args)?;
        let args = ["signal", "starts", "peak"].map(|name| self.work.arg(name));
        let grid = [blocks(batch.longest()), count];
        self.work
            .launch(names::CLEAN_NORMALIZE, grid, THREADS, args.into())
    }

    /// Downloads the concatenated cleaned signals, and their largest samples.
    pub(super) fn download_signals(
        &self,
        batch: &Batch,
    ) -> Result<(Vec<f64>, Vec<f64>), DeviceError> {
        match batch.len() {
            0 => Ok((Vec::new(), Vec::new())),
            n => Ok((
                self.work.download("signal", batch.samples())?,
                self.work.download("peak", n)?,
            )),
        }
    }
}
