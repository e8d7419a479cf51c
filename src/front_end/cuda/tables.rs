//! Constant tables of the front-end kernels, computed by the CPU code so that both use the same
//! values, and cached on the device.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::f64::consts::PI;
use std::sync::Arc;

use crate::audio::resample::{Filter, Polyphase, TARGET_RATE, gcd, ratio};
use crate::front_end::FRAME_SAMPLES;
use crate::front_end::legacy2020::summaries;
use crate::front_end::mel::{filters, periodic_hann};
use crate::front_end::utterance::UtteranceExtractor;
use crate::nn::cuda::{Buffer, DeviceError, Driver, Number, Stream, bytes};

/// Interval, in outputs, of the stored times; the kernel accumulates the increments in between.
const TIMES_STEP: usize = 32;
/// Maximum number of phases computed side by side; see `kernels/resample.cu`. With more, only a
/// very long recording would fill a warp.
const MAX_PHASES: u32 = 1024;
/// Maximum number of cached conversions.
const MAX_CACHED: usize = 16;

/// Uploads values into a new buffer.
pub(in crate::front_end) fn upload_constant<T: Number>(
    driver: &dyn Driver,
    stream: Stream,
    values: &[T],
) -> Result<Buffer, DeviceError> {
    let buffer = driver.allocate(size_of_val(values))?;
    driver.upload(stream, bytes(values), &buffer, 0)?;
    Ok(buffer)
}

/// Returns the distance between outputs that share weights; 1 if sharing does not help.
fn phases(p: u32) -> u32 {
    if p <= MAX_PHASES { p } else { 1 }
}

/// Returns cosine and sine of `parts` equal divisions of a turn.
fn circle(parts: usize) -> Vec<f64> {
    let part = |i: usize| {
        let (sin, cos) = (2.0 * PI * i as f64 / parts as f64).sin_cos();
        [cos, sin]
    };
    (0..parts).flat_map(part).collect()
}

/// Window, transform and filters of the mel spectrogram.
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
            hann: upload_constant(driver, stream, &periodic_hann(FRAME_SAMPLES))?,
            circle: upload_constant(driver, stream, &circle)?,
            first_bins: upload_constant(driver, stream, &first_bins)?,
            weight_starts: upload_constant(driver, stream, &weight_starts)?,
            weights: upload_constant(driver, stream, &weights)?,
        })
    }
}

/// Length of the pitch transform; the window covers its first samples.
const PITCH_TRANSFORM: usize = 1024;

/// Window and transforms of the pitch analysis.
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
            window: upload_constant(driver, stream, window)?,
            correction: upload_constant(driver, stream, correction)?,
            circle: upload_constant(driver, stream, &circle(PITCH_TRANSFORM))?,
            cosines: upload_constant(driver, stream, &cosines)?,
        })
    }
}

/// Tables of one step of the exact conversion.
pub(in crate::front_end) struct Exact {
    pub filter: Arc<Filter>,
    pub taps: Buffer,
    /// Time of every [`TIMES_STEP`]th output.
    pub times: Buffer,
    /// Number of outputs that the times cover.
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
        // Rounding up leaves room for slightly longer recordings later.
        let reach = outputs.next_power_of_two();
        let mut time = 0.0f64;
        let times: Vec<f64> = (0..reach.div_ceil(TIMES_STEP))
            .map(|_| {
                let first = time;
                // Each addition rounds, so they are repeated one by one as on the CPU.
                (0..TIMES_STEP).for_each(|_| time += filter.increment);
                first
            })
            .collect();
        Ok(Self {
            taps: upload_constant(driver, stream, filter.taps.as_flattened())?,
            times: upload_constant(driver, stream, &times)?,
            reach,
            phases: phases(to / gcd(from, to)),
            filter,
        })
    }
}

/// Tables of the fast conversion.
pub(in crate::front_end) struct Fast {
    pub table: Arc<Polyphase>,
    pub weights: Buffer,
    /// Number of weights per row.
    pub width: usize,
    pub phases: u32,
}

impl Fast {
    fn new(driver: &dyn Driver, stream: Stream, from: u32) -> Result<Self, DeviceError> {
        let table = Polyphase::of(from, TARGET_RATE);
        let weights = table.weights.as_flattened();
        Ok(Self {
            weights: upload_constant(driver, stream, weights)?,
            width: weights.len() / (table.rows as usize + 1),
            phases: phases(table.outputs as u32),
            table,
        })
    }
}

/// Cache of conversion tables, by their rates.
#[derive(Default)]
pub(in crate::front_end) struct ConversionCache {
    exact: HashMap<(u32, u32), Exact>,
    fast: HashMap<u32, Fast>,
}

impl ConversionCache {
    /// Clears the cache if it has grown too large; freeing a buffer waits for the work that uses
    /// it.
    pub fn evict_if_full(&mut self) {
        if self.exact.len() + self.fast.len() > MAX_CACHED {
            *self = Self::default();
        }
    }

    /// Returns the tables of an exact step between two rates, for at least `outputs` outputs.
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

    /// Returns the tables of the fast conversion from a rate to [`TARGET_RATE`].
    pub fn fast(
        &mut self,
        driver: &dyn Driver,
        stream: Stream,
        from: u32,
    ) -> Result<&Fast, DeviceError> {
        Ok(match self.fast.entry(from) {
            Entry::Occupied(cached) => cached.into_mut(),
            Entry::Vacant(place) => place.insert(Fast::new(driver, stream, from)?),
        })
    }
}

/// Returns the quarter circles of the cosine transforms, one per distinct number of frames, and the
/// offset of each recording's quarter.
pub(in crate::front_end) fn quarters(frames: &[usize]) -> (Vec<f64>, Vec<u64>) {
    let mut offsets = HashMap::new();
    let mut all = Vec::new();
    let starts = frames
        .iter()
        .map(|&count| {
            *offsets.entry(count).or_insert_with(|| {
                let start = all.len() as u64;
                all.extend(summaries::quarter_circle(count));
                start
            })
        })
        .collect();
    (all, starts)
}
