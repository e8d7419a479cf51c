//! Recordings of any rates to signals of 16 kHz, on the device.

use std::collections::BTreeMap;
use std::ops::Range;

use super::tables::Conversions;
use super::workspace::Workspace;
use super::{THREADS, blocks};
use crate::audio::resample::{INTERMEDIATE_RATE, TARGET_RATE, resampled_len};
use crate::audio::{Recording, Resampling};
use crate::nn::cuda::{Arg, DeviceError, bytes};

/// Recordings whose signals lie one behind the other.
pub(in crate::front_end) struct Batch {
    /// Where each signal starts, and where the last one ends.
    starts: Vec<u64>,
}

impl Batch {
    pub(in crate::front_end) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where a recording's signal lies.
    pub(in crate::front_end) fn range(&self, recording: usize) -> Range<usize> {
        self.starts[recording] as usize..self.starts[recording + 1] as usize
    }

    /// All their samples.
    pub(in crate::front_end) fn samples(&self) -> usize {
        total(&self.starts)
    }

    pub(in crate::front_end) fn longest(&self) -> usize {
        let lengths = (0..self.len()).map(|i| self.range(i).len());
        lengths.max().unwrap_or(0)
    }
}

/// The longest of those in `which`.
fn longest(which: &[u32], starts: &[u64]) -> usize {
    let length = |&i: &u32| (starts[i as usize + 1] - starts[i as usize]) as usize;
    which.iter().map(length).max().unwrap_or(0)
}

/// Where things of these lengths start if they lie one behind the other, and where the last one ends.
pub(in crate::front_end) fn starts(lengths: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut end = 0;
    let ends = lengths.into_iter().map(|length| {
        end += length;
        end
    });
    [0].into_iter().chain(ends).collect()
}

/// All their lengths together.
pub(in crate::front_end) fn total(starts: &[u64]) -> usize {
    starts.last().map_or(0, |&end| end as usize)
}

/// Which way a front end's recordings take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front_end) enum Route {
    /// [`Resampling::to_target_rate`]
    ByReference,
    /// [`Resampling::convert_in_one_step`]
    Straight,
}

/// Brings recordings to [`TARGET_RATE`], each sample the CPU's to the bit.
pub(in crate::front_end) struct Resampler {
    resampling: Resampling,
    route: Route,
    conversions: Conversions,
}

impl Resampler {
    pub fn new(resampling: Resampling, route: Route) -> Self {
        Self {
            resampling,
            route,
            conversions: Conversions::default(),
        }
    }

    pub fn resampling(&self) -> Resampling {
        self.resampling
    }

    /// Samples of a recording's signal.
    fn len(&self, recording: &Recording) -> usize {
        let (samples, rate) = (recording.samples.len(), recording.sample_rate);
        match self.route {
            Route::ByReference => self.resampling.target_len(samples, rate),
            Route::Straight => self.resampling.one_step_len(samples, rate),
        }
    }

    /// Puts the signals of some recordings, none of them empty, into the memory `resampled`, and where
    /// they lie into `starts`.
    pub fn run(
        &mut self,
        work: &mut Workspace,
        recordings: &[&Recording],
    ) -> Result<Batch, DeviceError> {
        self.conversions.bound();
        let lengths = |length: &dyn Fn(&Recording) -> usize| {
            starts(recordings.iter().map(|r| length(r) as u64))
        };
        let inputs = lengths(&|r| r.samples.len());
        let between =
            lengths(&|r| resampled_len(r.samples.len(), r.sample_rate, INTERMEDIATE_RATE));
        let batch = Batch {
            starts: lengths(&|r| self.len(r)),
        };
        if recordings.is_empty() {
            return Ok(batch);
        }
        work.put("input starts", &inputs)?;
        work.put("starts", &batch.starts)?;
        work.room::<f32>("input", total(&inputs))?;
        // As long as the longest of those that take turns in it.
        work.room::<u32>("which", recordings.len())?;
        for (recording, &start) in recordings.iter().zip(&inputs) {
            let (to, at) = (work.memory.get("input"), start as usize * size_of::<f32>());
            work.driver
                .upload(work.stream, bytes(&recording.samples), to, at)?;
        }
        work.room::<f32>("resampled", total(&batch.starts))?;
        let mut by_rate = BTreeMap::<u32, Vec<u32>>::new();
        for (i, recording) in recordings.iter().enumerate() {
            by_rate
                .entry(recording.sample_rate)
                .or_default()
                .push(i as u32);
        }
        match (self.resampling, self.route) {
            (Resampling::Exact, Route::ByReference) => {
                work.put("between starts", &between)?;
                work.room::<f32>("between", total(&between))?;
                let names = ["input", "input starts", "between", "between starts"];
                for (&rate, which) in &by_rate {
                    self.step(work, names, (rate, INTERMEDIATE_RATE), which, &between)?;
                }
                let names = ["between", "between starts", "resampled", "starts"];
                let all: Vec<u32> = (0..recordings.len() as u32).collect();
                let rates = (INTERMEDIATE_RATE, TARGET_RATE);
                self.step(work, names, rates, &all, &batch.starts)?;
            }
            (resampling, route) => {
                let names = ["input", "input starts", "resampled", "starts"];
                for (&rate, which) in &by_rate {
                    let as_it_is = route == Route::Straight && rate == TARGET_RATE;
                    if resampling == Resampling::Exact || as_it_is {
                        self.step(work, names, (rate, TARGET_RATE), which, &batch.starts)?;
                    } else {
                        self.directly(work, rate, which, &batch.starts)?;
                    }
                }
            }
        }
        Ok(batch)
    }

    /// One step of the exact conversion, of the recordings in `which`. The names are those of the
    /// memory: from where, with which starts, to where, with which starts.
    fn step(
        &mut self,
        work: &mut Workspace,
        [x, x_starts, y, y_starts]: [&'static str; 4],
        (from, to): (u32, u32),
        which: &[u32],
        starts: &[u64],
    ) -> Result<(), DeviceError> {
        let longest = longest(which, starts);
        work.put("which", which)?;
        let mut args: Vec<Arg> = [y, y_starts, x, x_starts, "which"]
            .map(|name| work.arg(name))
            .into();
        if from == to {
            return work.launch(
                "resample_copy",
                [blocks(longest), which.len()],
                THREADS,
                args,
            );
        }
        let conversions = &mut self.conversions;
        let step = conversions.exact(&*work.driver, work.stream, (from, to), longest)?;
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
        work.launch(
            "resample_exact",
            [blocks(places), which.len()],
            THREADS,
            args,
        )
    }

    /// The direct conversion of the recordings in `which`.
    fn directly(
        &mut self,
        work: &mut Workspace,
        rate: u32,
        which: &[u32],
        starts: &[u64],
    ) -> Result<(), DeviceError> {
        let longest = longest(which, starts);
        work.put("which", which)?;
        let mut args: Vec<Arg> = ["resampled", "starts", "input", "input starts", "which"]
            .map(|name| work.arg(name))
            .into();
        let fast = self.conversions.fast(&*work.driver, work.stream, rate)?;
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
        work.launch(
            "resample_fast",
            [blocks(places), which.len()],
            THREADS,
            args,
        )
    }
}
