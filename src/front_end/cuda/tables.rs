//! What the front end's kernels read besides the recordings: computed by the CPU's own code, so that
//! both work with the same numbers, and kept on the device.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::f64::consts::PI;
use std::sync::Arc;

use crate::audio::resample::{Filter, Polyphase, TARGET_RATE, gcd, ratio};
use crate::front_end::FRAME_SAMPLES;
use crate::front_end::legacy2020::transforms;
use crate::front_end::mel::{filters, periodic_hann};
use crate::front_end::utterance::UtteranceExtractor;
use crate::nn::cuda::{Buffer, DeviceError, Driver, Number, Stream, bytes};

/// Every how many outputs their time is kept; the kernel adds up the rest.
const TIMES_STEP: usize = 32;
/// Outputs so many apart, at most, are computed side by side; see `kernels/resample.cu`. With more,
/// a recording would have to be long to fill a warp.
const MOST_PHASES: u32 = 1024;
/// Conversions that are kept.
const KEPT: usize = 16;

/// Puts numbers into a buffer of their own.
pub(in crate::front_end) fn constant<T: Number>(
    driver: &dyn Driver,
    stream: Stream,
    numbers: &[T],
) -> Result<Buffer, DeviceError> {
    let buffer = driver.allocate(size_of_val(numbers))?;
    driver.upload(stream, bytes(numbers), &buffer, 0)?;
    Ok(buffer)
}

/// How many outputs apart those lie that meet the same weights, 1 where that does not help.
fn phases(p: u32) -> u32 {
    if p <= MOST_PHASES { p } else { 1 }
}

/// Cosine and sine of so many parts of a turn.
fn circle(parts: usize) -> Vec<f64> {
    let part = |i: usize| {
        let (sin, cos) = (2.0 * PI * i as f64 / parts as f64).sin_cos();
        [cos, sin]
    };
    (0..parts).flat_map(part).collect()
}

/// The window, transform and filters of the mel spectrogram.
pub(in crate::front_end) struct MelTables {
    pub hann: Buffer,
    /// Cosine and sine of 400ths of a turn.
    pub circle: Buffer,
    pub first_bins: Buffer,
    pub weight_starts: Buffer,
    pub weights: Buffer,
}

impl MelTables {
    pub fn new(driver: &dyn Driver, stream: Stream) -> Result<Self, DeviceError> {
        let circle = circle(FRAME_SAMPLES);
        let (mut first_bins, mut weight_starts, mut weights) = (vec![], vec![0u32], vec![]);
        for filter in filters() {
            first_bins.push(filter.first as u32);
            weights.extend(filter.weights);
            weight_starts.push(weights.len() as u32);
        }
        Ok(Self {
            hann: constant(driver, stream, &periodic_hann(FRAME_SAMPLES))?,
            circle: constant(driver, stream, &circle)?,
            first_bins: constant(driver, stream, &first_bins)?,
            weight_starts: constant(driver, stream, &weight_starts)?,
            weights: constant(driver, stream, &weights)?,
        })
    }
}

/// Samples of the pitch's transform, whose first ones are those under the window.
const PITCH_TRANSFORM: usize = 1024;

/// The window and transforms of the pitch.
pub(in crate::front_end) struct PitchTables {
    pub window: Buffer,
    /// Autocorrelation of the window.
    pub correction: Buffer,
    /// Cosine and sine of 1024ths of a turn.
    pub circle: Buffer,
    /// Cosine of 512ths of a turn.
    pub cosines: Buffer,
}

impl PitchTables {
    pub fn new(driver: &dyn Driver, stream: Stream) -> Result<Self, DeviceError> {
        let extractor = UtteranceExtractor::new();
        let [window, correction] = extractor.pitch_tables();
        let cosines: Vec<f64> = circle(PITCH_TRANSFORM / 2).into_iter().step_by(2).collect();
        Ok(Self {
            window: constant(driver, stream, window)?,
            correction: constant(driver, stream, correction)?,
            circle: constant(driver, stream, &circle(PITCH_TRANSFORM))?,
            cosines: constant(driver, stream, &cosines)?,
        })
    }
}

/// One step of the exact conversion.
pub(in crate::front_end) struct Exact {
    pub filter: Arc<Filter>,
    pub taps: Buffer,
    /// Times of every [`TIMES_STEP`]th output, as far as asked for.
    pub times: Buffer,
    /// Outputs that they are enough for.
    reach: usize,
    pub phases: u32,
}

impl Exact {
    fn new(
        driver: &dyn Driver,
        stream: Stream,
        (from, to): (u32, u32),
        outputs: usize,
    ) -> Result<Self, DeviceError> {
        let filter = Filter::of(ratio(from, to));
        // Room for somewhat longer recordings that come later.
        let reach = outputs.next_power_of_two();
        let mut time = 0.0f64;
        let times: Vec<f64> = (0..reach.div_ceil(TIMES_STEP))
            .map(|_| {
                let first = time;
                // The same additions, one by one, as on the CPU: each is rounded.
                (0..TIMES_STEP).for_each(|_| time += filter.increment);
                first
            })
            .collect();
        Ok(Self {
            taps: constant(driver, stream, filter.taps.as_flattened())?,
            times: constant(driver, stream, &times)?,
            reach,
            phases: phases(to / gcd(from, to)),
            filter,
        })
    }
}

/// The direct conversion.
pub(in crate::front_end) struct Fast {
    pub table: Arc<Polyphase>,
    pub weights: Buffer,
    /// Weights of a row.
    pub width: usize,
    pub together: u32,
}

impl Fast {
    fn new(driver: &dyn Driver, stream: Stream, from: u32) -> Result<Self, DeviceError> {
        let table = Polyphase::of(from, TARGET_RATE);
        let weights = table.weights.as_flattened();
        Ok(Self {
            weights: constant(driver, stream, weights)?,
            width: weights.len() / (table.rows as usize + 1),
            together: phases(table.outputs as u32),
            table,
        })
    }
}

/// The conversions that were used last, by their rates.
#[derive(Default)]
pub(in crate::front_end) struct Conversions {
    exact: HashMap<(u32, u32), Exact>,
    fast: HashMap<u32, Fast>,
}

impl Conversions {
    /// Forgets all of them when they have become many; the device waits for what is still in use.
    pub fn bound(&mut self) {
        if self.exact.len() + self.fast.len() > KEPT {
            *self = Self::default();
        }
    }

    /// The exact step between two rates, for up to `outputs` of them.
    pub fn exact(
        &mut self,
        driver: &dyn Driver,
        stream: Stream,
        rates: (u32, u32),
        outputs: usize,
    ) -> Result<&Exact, DeviceError> {
        if self.exact.get(&rates).is_none_or(|e| e.reach < outputs) {
            let step = Exact::new(driver, stream, rates, outputs)?;
            self.exact.insert(rates, step);
        }
        Ok(&self.exact[&rates])
    }

    /// The direct conversion from a rate to [`TARGET_RATE`].
    pub fn fast(
        &mut self,
        driver: &dyn Driver,
        stream: Stream,
        from: u32,
    ) -> Result<&Fast, DeviceError> {
        Ok(match self.fast.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Fast::new(driver, stream, from)?),
        })
    }
}

/// Quarters of circles for the cosine transforms, one for each number of frames, and where in them
/// each recording's begins.
pub(in crate::front_end) fn quarters(frames: &[usize]) -> (Vec<f64>, Vec<u64>) {
    let mut known = HashMap::new();
    let mut all = Vec::new();
    let starts = frames
        .iter()
        .map(|&count| {
            *known.entry(count).or_insert_with(|| {
                let start = all.len() as u64;
                all.extend(transforms::quarter_circle(count));
                start
            })
        })
        .collect();
    (all, starts)
}
