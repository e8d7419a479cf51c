//! From recordings to cleaned signals on the device.

use rayon::prelude::*;

use super::FrontEnd;
use crate::audio::Recording;
use crate::front_end::AudioError;
use crate::front_end::cuda::resampling::Batch;
use crate::front_end::cuda::{THREADS, blocks, bounded};
use crate::front_end::legacy2020::prepare;
use crate::nn::cuda::{Arg, DeviceError};

/// Blocks among which a recording is divided to find its largest sample.
const PARTS: u32 = 64;

impl FrontEnd {
    /// Resamples and cleans what can be analysed of some recordings, into the memory `signal`,
    /// divided by their `peak`. Tells of each recording whether it is in the batch.
    pub(super) fn signals(
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
        self.work.room::<f64>("signal", batch.samples())?;
        self.work.room::<f64>("noise", count)?;
        self.work.room::<f64>("largest", count * PARTS as usize)?;
        self.work.room::<f64>("peak", count)?;
        let args = ["noise", "resampled", "starts"].map(|name| self.work.arg(name));
        self.work
            .launch("clean_noise", [count, 1], THREADS, args.into())?;
        let args =
            ["signal", "largest", "resampled", "starts", "noise"].map(|name| self.work.arg(name));
        self.work.launch(
            "clean_filter",
            [PARTS as usize, count],
            THREADS,
            args.into(),
        )?;
        let args = vec![
            self.work.arg("peak"),
            self.work.arg("largest"),
            Arg::from(count as u32),
            Arg::from(PARTS),
        ];
        self.work
            .launch("clean_peak", [blocks(count), 1], THREADS, args)?;
        let args = ["signal", "starts", "peak"].map(|name| self.work.arg(name));
        let grid = [blocks(batch.longest()), count];
        self.work
            .launch("clean_normalize", grid, THREADS, args.into())
    }

    /// The cleaned signals one behind the other, and their largest samples.
    pub(super) fn take_signals(&self, batch: &Batch) -> Result<(Vec<f64>, Vec<f64>), DeviceError> {
        match batch.len() {
            0 => Ok((Vec::new(), Vec::new())),
            n => Ok((
                self.work.take("signal", batch.samples())?,
                self.work.take("peak", n)?,
            )),
        }
    }
}
