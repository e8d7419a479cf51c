//! From recordings to cleaned signals on the device.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::{Arg, DeviceError, FrontEnd, THREADS, blocks, starts, total};
use crate::audio::resample::{INTERMEDIATE_RATE, TARGET_RATE, resampled_len};
use crate::audio::{AudioError, Recording, Resampling, frontend};
use crate::nn::cuda::bytes;

/// Blocks among which a recording is divided to find its largest sample.
const PARTS: u32 = 64;

/// Recordings whose signals lie one behind the other.
pub(super) struct Batch {
    /// Where each signal starts, and where the last one ends.
    starts: Vec<u64>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where a recording's signal lies.
    pub(super) fn range(&self, recording: usize) -> Range<usize> {
        self.starts[recording] as usize..self.starts[recording + 1] as usize
    }

    /// All their samples.
    pub(super) fn samples(&self) -> usize {
        total(&self.starts)
    }

    fn longest(&self) -> usize {
        let lengths = (0..self.len()).map(|i| self.range(i).len());
        lengths.max().unwrap_or(0)
    }
}

/// The longest of those in `which`.
fn longest(which: &[u32], starts: &[u64]) -> usize {
    let length = |&i: &u32| (starts[i as usize + 1] - starts[i as usize]) as usize;
    which.iter().map(length).max().unwrap_or(0)
}

impl FrontEnd {
    /// Resamples and cleans what can be analysed of some recordings, into the memory `signal`,
    /// divided by their `peak`. Tells of each recording whether it is in the batch.
    pub(super) fn signals(
        &mut self,
        recordings: &[&Recording],
    ) -> Result<(Vec<Result<(), AudioError>>, Batch), DeviceError> {
        self.begin(recordings.len())?;
        let checks: Vec<_> = recordings
            .par_iter()
            .map(|r| frontend::check(r, self.resampling))
            .collect();
        let usable: Vec<&Recording> = recordings
            .iter()
            .zip(&checks)
            .filter_map(|(r, check)| check.is_ok().then_some(*r))
            .collect();
        Ok((checks, self.batch(&usable)?))
    }

    fn batch(&mut self, recordings: &[&Recording]) -> Result<Batch, DeviceError> {
        let lengths = |length: &dyn Fn(&Recording) -> usize| {
            starts(recordings.iter().map(|r| length(r) as u64))
        };
        let resampling = self.resampling;
        let inputs = lengths(&|r| r.samples.len());
        let between =
            lengths(&|r| resampled_len(r.samples.len(), r.sample_rate, INTERMEDIATE_RATE));
        let signals = lengths(&|r| resampling.target_len(r.samples.len(), r.sample_rate));
        let batch = Batch { starts: signals };
        if recordings.is_empty() {
            return Ok(batch);
        }
        self.put("input starts", &inputs)?;
        self.put("starts", &batch.starts)?;
        self.room::<f32>("input", total(&inputs))?;
        // As long as the longest of those that take turns in it.
        self.room::<u32>("which", recordings.len())?;
        for (recording, &start) in recordings.iter().zip(&inputs) {
            let (to, at) = (self.memory.get("input"), start as usize * size_of::<f32>());
            self.driver
                .upload(self.stream, bytes(&recording.samples), to, at)?;
        }
        self.room::<f32>("resampled", total(&batch.starts))?;
        let mut by_rate = BTreeMap::<u32, Vec<u32>>::new();
        for (i, recording) in recordings.iter().enumerate() {
            by_rate
                .entry(recording.sample_rate)
                .or_default()
                .push(i as u32);
        }
        match resampling {
            Resampling::Exact => {
                self.put("between starts", &between)?;
                self.room::<f32>("between", total(&between))?;
                let names = ["input", "input starts", "between", "between starts"];
                for (rate, which) in &by_rate {
                    self.step(names, (*rate, INTERMEDIATE_RATE), which, &between)?;
                }
                let names = ["between", "between starts", "resampled", "starts"];
                let all: Vec<u32> = (0..recordings.len() as u32).collect();
                let rates = (INTERMEDIATE_RATE, TARGET_RATE);
                self.step(names, rates, &all, &batch.starts)?;
            }
            Resampling::Fast => {
                for (rate, which) in &by_rate {
                    self.directly(*rate, which, &batch.starts)?;
                }
            }
        }
        self.clean(&batch)?;
        Ok(batch)
    }

    /// One step of the exact conversion, of the recordings in `which`. The names are those of the
    /// memory: from where, with which starts, to where, with which starts.
    fn step(
        &mut self,
        [x, x_starts, y, y_starts]: [&'static str; 4],
        (from, to): (u32, u32),
        which: &[u32],
        starts: &[u64],
    ) -> Result<(), DeviceError> {
        let longest = longest(which, starts);
        self.put("which", which)?;
        let mut args: Vec<Arg> = [y, y_starts, x, x_starts, "which"]
            .map(|name| self.arg(name))
            .into();
        if from == to {
            return self.launch(
                "resample_copy",
                [blocks(longest), which.len()],
                THREADS,
                args,
            );
        }
        let conversions = &mut self.conversions;
        let step = conversions.exact(&*self.driver, self.stream, (from, to), longest)?;
        let filter = &step.filter;
        args.extend([
            Arg::from(&step.times),
            Arg::from(&step.taps),
            Arg::from(filter.ratio),
            Arg::from(filter.scale),
            Arg::from(filter.increment),
            Arg::from(filter.row as i32),
            Arg::from(filter.step as i32),
            Arg::from(step.phases),
        ]);
        let places = longest.next_multiple_of(32 * step.phases as usize);
        self.launch(
            "resample_exact",
            [blocks(places), which.len()],
            THREADS,
            args,
        )
    }

    /// The direct conversion of the recordings in `which`.
    fn directly(&mut self, rate: u32, which: &[u32], starts: &[u64]) -> Result<(), DeviceError> {
        let longest = longest(which, starts);
        self.put("which", which)?;
        let mut args: Vec<Arg> = ["resampled", "starts", "input", "input starts", "which"]
            .map(|name| self.arg(name))
            .into();
        let fast = self.conversions.fast(&*self.driver, self.stream, rate)?;
        args.extend([
            Arg::from(&fast.weights),
            Arg::from(fast.table.outputs as u32),
            Arg::from(fast.table.inputs as u32),
            Arg::from(fast.table.rows as u32),
            Arg::from(fast.table.before as i32),
            Arg::from(fast.width as i32),
            Arg::from(fast.together),
        ]);
        let places = longest.next_multiple_of(32 * fast.together as usize);
        self.launch(
            "resample_fast",
            [blocks(places), which.len()],
            THREADS,
            args,
        )
    }

    fn clean(&mut self, batch: &Batch) -> Result<(), DeviceError> {
        let count = batch.len();
        self.room::<f64>("signal", total(&batch.starts))?;
        self.room::<f64>("noise", count)?;
        self.room::<f64>("largest", count * PARTS as usize)?;
        self.room::<f64>("peak", count)?;
        let args = ["noise", "resampled", "starts"].map(|name| self.arg(name));
        self.launch("clean_noise", [count, 1], THREADS, args.into())?;
        let args = ["signal", "largest", "resampled", "starts", "noise"].map(|name| self.arg(name));
        self.launch(
            "clean_filter",
            [PARTS as usize, count],
            THREADS,
            args.into(),
        )?;
        let args = vec![
            self.arg("peak"),
            self.arg("largest"),
            Arg::from(count as u32),
            Arg::from(PARTS),
        ];
        self.launch("clean_peak", [blocks(count), 1], THREADS, args)?;
        let args = ["signal", "starts", "peak"].map(|name| self.arg(name));
        let grid = [blocks(batch.longest()), count];
        self.launch("clean_normalize", grid, THREADS, args.into())
    }

    /// The cleaned signals one behind the other, and their largest samples.
    pub(super) fn take_signals(&self, batch: &Batch) -> Result<(Vec<f64>, Vec<f64>), DeviceError> {
        match batch.len() {
            0 => Ok((Vec::new(), Vec::new())),
            n => Ok((
                self.take("signal", total(&batch.starts))?,
                self.take("peak", n)?,
            )),
        }
    }
}
