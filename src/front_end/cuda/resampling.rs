//! Resampling of recordings of any rates to 16 kHz on the device.

use std::collections::BTreeMap;
use std::ops::Range;

use super::tables::ConversionCache;
use super::workspace::Workspace;
use super::{THREADS, blocks};
use crate::audio::resample::{INTERMEDIATE_RATE, TARGET_RATE, resampled_len};
use crate::audio::{Recording, Resampling};
use crate::nn::cuda::sources::names;
use crate::nn::cuda::{Arg, DeviceError, bytes};

/// Concatenated signals of a batch of recordings.
pub(in crate::front_end) struct Batch {
    /// Start of each signal, followed by the end of the last.
    starts: Vec<u64>,
}

impl Batch {
    pub(in crate::front_end) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns the range of a recording's signal.
    pub(in crate::front_end) fn range(&self, recording: usize) -> Range<usize> {
        self.starts[recording] as usize..self.starts[recording + 1] as usize
    }

    /// Returns the total number of samples.
    pub(in crate::front_end) fn samples(&self) -> usize {
        total(&self.starts)
    }

    pub(in crate::front_end) fn longest(&self) -> usize {
        let lengths = (0..self.len()).map(|i| self.range(i).len());
        lengths.max().unwrap_or(0)
    }
}

/// Returns the length of the longest signal among the indices `which`.
fn longest(which: &[u32], starts: &[u64]) -> usize {
    let length = |&i: &u32| (starts[i as usize + 1] - starts[i as usize]) as usize;
    which.iter().map(length).max().unwrap_or(0)
}

/// Returns the start offsets of concatenated items of these lengths, followed by the end of the
/// last.
pub(in crate::front_end) fn starts(lengths: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut end = 0;
    let ends = lengths.into_iter().map(|length| {
        end += length;
        end
    });
    [0].into_iter().chain(ends).collect()
}

/// Returns the total length, given the start offsets.
pub(in crate::front_end) fn total(starts: &[u64]) -> usize {
    starts.last().map_or(0, |&end| end as usize)
}

/// Steps of a front end's sample rate conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front_end) enum ResamplingSteps {
    /// Two steps, like [`Resampling::to_target_rate`].
    Two,
    /// One step, like [`Resampling::convert_in_one_step`].
    One,
}

/// Converts recordings to [`TARGET_RATE`], bit-identical to the CPU.
pub(in crate::front_end) struct Resampler {
    resampling: Resampling,
    steps: ResamplingSteps,
    conversions: ConversionCache,
}

impl Resampler {
    pub fn new(resampling: Resampling, steps: ResamplingSteps) -> Self {
        Self {
            resampling,
            steps,
            conversions: ConversionCache::default(),
        }
    }

    pub fn resampling(&self) -> Resampling {
        self.resampling
    }

    /// Returns the number of samples of a recording's converted signal.
    fn len(&self, recording: &Recording) -> usize {
        let (samples, rate) = (recording.samples.len(), recording.sample_rate);
        match self.steps {
            ResamplingSteps::Two => self.resampling.target_len(samples, rate),
            ResamplingSteps::One => self.resampling.one_step_len(samples, rate),
        }
    }

    /// Converts non-empty recordings into `resampled`, and stores their offsets in `starts`.
    pub fn run(
        &mut self,
        work: &mut Workspace,
        recordings: &[&Recording],
    ) -> Result<Batch, DeviceError> {
        self.conversions.evict_if_full();
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
        work.upload("input starts", &inputs)?;
        work.upload("starts", &batch.starts)?;
        work.reserve::<f32>("input", total(&inputs))?;
        // Sized for the largest group of recordings that are converted together.
        work.reserve::<u32>("which", recordings.len())?;
        for (recording, &start) in recordings.iter().zip(&inputs) {
            let (to, at) = (work.memory.get("input"), start as usize * size_of::<f32>());
            work.driver
                .upload(work.stream, bytes(&recording.samples), to, at)?;
        }
        work.reserve::<f32>("resampled", total(&batch.starts))?;
        let mut by_rate = BTreeMap::<u32, Vec<u32>>::new();
        for (i, recording) in recordings.iter().enumerate() {
            by_rate
                .entry(recording.sample_rate)
                .or_default()
                .push(i as u32);
        }
        match (self.resampling, self.steps) {
            (Resampling::Exact, ResamplingSteps::Two) => {
                work.upload("between starts", &between)?;
                work.reserve::<f32>("between", total(&between))?;
                let names = ["input", "input starts", "between", "between starts"];
                for (&rate, which) in &by_rate {
                    self.exact_step(work, names, (rate, INTERMEDIATE_RATE), which, &between)?;
                }
                let names = ["between", "between starts", "resampled", "starts"];
                let all: Vec<u32> = (0..recordings.len() as u32).collect();
                let rates = (INTERMEDIATE_RATE, TARGET_RATE);
                self.exact_step(work, names, rates, &all, &batch.starts)?;
            }
            (resampling, steps) => {
                let names = ["input", "input starts", "resampled", "starts"];
                for (&rate, which) in &by_rate {
                    let unchanged = steps == ResamplingSteps::One && rate == TARGET_RATE;
                    if resampling == Resampling::Exact || unchanged {
                        self.exact_step(work, names, (rate, TARGET_RATE), which, &batch.starts)?;
                    } else {
                        self.fast(work, rate, which, &batch.starts)?;
                    }
                }
            }
        }
        Ok(batch)
    }

    /// Launches one exact conversion step for the recordings `which`. The names are those of the
    /// buffers: input, input starts, output, output starts.
    fn exact_step(
        &mut self,
        work: &mut Workspace,
        [x, x_starts, y, y_starts]: [&'static str; 4],
        (from, to): (u32, u32),
        which: &[u32],
        starts: &[u64],
    ) -> Result<(), DeviceError> {
        let longest = longest(which, starts);
        work.upload("which", which)?;
        let mut args: Vec<Arg> = [y, y_starts, x, x_starts, "which"]
            .map(|name| work.arg(name))
            .into();
        if from == to {
            return work.launch(
                names::RESAMPLE_COPY,
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
        let threads = longest.next_multiple_of(32 * step.phases as usize);
        work.launch(
            names::RESAMPLE_EXACT,
            [blocks(threads), which.len()],
            THREADS,
            args,
        )
    }

    /// Launches the fast conversion of the recordings `which`.
    fn fast(
        &mut self,
        work: &mut Workspace,
        rate: u32,
        which: &[u32],
        starts: &[u64],
    ) -> Result<(), DeviceError> {
        let longest = longest(which, starts);
        work.upload("which", which)?;
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
            Arg::from(fast.phases),
        ]);
        let threads = longest.next_multiple_of(32 * fast.phases as usize);
        work.launch(
            names::RESAMPLE_FAST,
            [blocks(threads), which.len()],
            THREADS,
            args,
        )
    }
}
