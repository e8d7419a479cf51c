//! Spectrograms of Keras 3: `MelSpectrogram` and `STFTSpectrogram`.
//!
//! A file stores the options of the mel spectrogram alone, so its window and its matrix are computed here, in the
//! precision of Keras.

use std::f64::consts::PI;
use std::sync::Arc;

use serde_json::Value;

use super::kapre::{MAX_FILTERS, MAX_LENGTH, constant, decibels};
use super::{Leaf, Operand, Part, Parts, map, merge, permute, slot};
use crate::keras::options::{Options, missing, unsupported};
use crate::nn::graph::WeightId;
use crate::nn::layers::{
    Activation, Concat, Conv, Dense, InsertAxis, Layer, MapFunction, MergeOp, RemoveAxis, Reshape,
    Slice, Stft, SumAxis,
};

/// `keras.config.epsilon()`, unless it was changed. Files do not state it.
const EPSILON: f32 = 1e-7;

fn slice(axis: usize, start: i64, stop: Option<i64>) -> Layer {
    Layer::Slice(Slice {
        axis,
        start,
        stop,
        step: 1,
    })
}

fn concat(axis: usize) -> Layer {
    Layer::Concat(Concat { axis })
}

/// Options of a mel spectrogram.
struct MelOptions {
    fft_length: usize,
    hop: usize,
    window_length: usize,
    /// The `a` of a window `a - (1 - a) cos(2 pi i / n)`: a Hann or Hamming window.
    window: Option<f64>,
    sampling_rate: f32,
    bands: usize,
    lowest: f32,
    highest: f32,
    /// Exponent of the magnitudes.
    exponent: f32,
    decibels: Option<DecibelOptions>,
}

#[derive(Clone, Copy)]
struct DecibelOptions {
    smallest: f32,
    offset: f32,
    range: f32,
}

/// Mel spectrogram `[bands, frames]` of a waveform `[samples]`.
pub fn mel_spectrogram(o: &mut Options) -> Leaf {
    let options = Arc::new(MelOptions::read(o));
    let of_parts = options.clone();
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(1, "a waveform [samples]")?;
        Ok(of_parts.parts(call.weights[0], call.weights[1]))
    });
    leaf.prepared(move |_| {
        let shape = vec![options.bins(), options.bands];
        Ok(vec![
            constant("window", vec![options.fft_length], options.window()),
            constant("mel", shape, options.matrix()),
        ])
    })
}

impl MelOptions {
    fn read(o: &mut Options) -> Self {
        let fft_length = o.size("fft_length");
        let window_length = match o.value("sequence_length") {
            None => fft_length,
            Some(_) => o.size("sequence_length"),
        };
        if !(2..=MAX_LENGTH).contains(&fft_length) || window_length > fft_length {
            o.problem(format!(
                "option \"fft_length\" is {fft_length}; 2 to {MAX_LENGTH}, and at least \"sequence_length\" ({window_length}), are supported"
            ));
        }
        let window = match o.value("window") {
            None => None,
            Some(Value::String(name)) if name == "hann" => Some(0.5),
            Some(Value::String(name)) if name == "hamming" => Some(0.54),
            Some(other) => {
                o.problem(unsupported(
                    "window",
                    other,
                    "\"hann\", \"hamming\" and none are supported",
                ));
                None
            }
        };
        let sampling_rate = o.needed_number("sampling_rate");
        let options = Self {
            fft_length,
            hop: o.size("sequence_stride"),
            window_length,
            window,
            sampling_rate,
            bands: o.size("num_mel_bins"),
            lowest: o.needed_number("min_freq"),
            highest: match o.value("max_freq") {
                None => (sampling_rate / 2.0).floor(),
                Some(_) => o.needed_number("max_freq"),
            },
            exponent: o.needed_number("mag_exp"),
            decibels: DecibelOptions::read(o),
        };
        options.check(o);
        options
    }

    fn check(&self, o: &mut Options) {
        let (bins, bands) = (self.bins(), self.bands);
        if bins.saturating_mul(bands) > MAX_FILTERS {
            o.problem(format!(
                "{bands} bands of {bins} frequencies are more than {MAX_FILTERS} factors"
            ));
        }
        let (rate, lowest, highest) = (self.sampling_rate, self.lowest, self.highest);
        if !(rate > 0.0 && lowest >= 0.0 && highest > lowest) {
            o.problem(format!(
                "options \"sampling_rate\" ({rate}), \"min_freq\" ({lowest}) and \"max_freq\" ({highest}) must be positive, and the frequencies must rise"
            ));
        }
        if self.exponent <= 0.0 {
            o.problem("option \"mag_exp\" is not positive");
        }
    }

    fn bins(&self) -> usize {
        self.fft_length / 2 + 1
    }

    fn parts(&self, window: WeightId, matrix: WeightId) -> Vec<Part> {
        let mut parts = Parts::default();
        let padded = mirrored(&mut parts, self.fft_length / 2);
        let stft = Layer::Stft(Stft {
            window,
            hop: self.hop,
            fft_length: self.fft_length,
            pad_begin: 0,
            pad_end: false,
        });
        let power = [
            stft,
            map(MapFunction::Square),
            Layer::SumAxis(SumAxis { axis: 3 }),
            Layer::RemoveAxis(RemoveAxis { axis: 2 }),
        ];
        let mut y = parts.add_chain(padded, power);
        // The magnitude is the root of the power.
        if self.exponent == 1.0 {
            y = parts.add(map(MapFunction::Sqrt), &[y]);
        } else if self.exponent != 2.0 {
            let steps = [
                MapFunction::Log,
                MapFunction::Multiply(self.exponent / 2.0),
                MapFunction::Exp,
            ];
            y = parts.add_chain(y, steps.map(map));
        }
        let bands = Layer::Dense(Dense {
            kernel: matrix,
            bias: None,
            activation: Activation::Linear,
        });
        y = parts.add(bands, &[y]);
        if let Some(d) = self.decibels {
            y = decibels(&mut parts, y, d.smallest, d.offset, d.range);
        }
        parts.add(permute(&[1, 0]), &[y]);
        parts.0
    }

    /// Returns the factors of a frame: SciPy's periodic window (`scipy.signal.get_window`) in the middle of zeros. Without
    /// a window every factor is 1.
    fn window(&self) -> Vec<f32> {
        let length = self.window_length;
        let Some(a) = self.window else {
            return vec![1.0; self.fft_length];
        };
        let mut window = vec![0.0; self.fft_length];
        let before = (self.fft_length - length) / 2;
        for (i, value) in window[before..][..length].iter_mut().enumerate() {
            let angle = 2.0 * PI * i as f64 / length as f64;
            *value = match length {
                1 => 1.0,
                _ => (a - (1.0 - a) * angle.cos()) as f32,
            };
        }
        window
    }

    /// Returns triangles on the mel scale of HTK, `[bins, bands]`: `linear_to_mel_weight_matrix` of Keras, in 32 bits.
    fn matrix(&self) -> Vec<f32> {
        let mel = |hertz: f32| 1127.0 * f64::from(1.0 + hertz / 700.0).ln() as f32;
        let (low, high) = (mel(self.lowest), mel(self.highest));
        let spaced = |from: f32, to: f32, count: usize, i: usize| match i + 1 == count {
            true => to,
            false => from + i as f32 * ((to - from) / (count - 1) as f32),
        };
        let edge = |i: usize| spaced(low, high, self.bands + 2, i);
        let bins = self.bins();
        let mut matrix = vec![0.0; bins * self.bands];
        // The constant part belongs to no band.
        for (bin, row) in matrix.chunks_exact_mut(self.bands).enumerate().skip(1) {
            let place = mel(spaced(0.0, self.sampling_rate / 2.0, bins, bin));
            for (band, factor) in row.iter_mut().enumerate() {
                let [lower, centre, upper] = [0, 1, 2].map(|i| edge(band + i));
                let rising = (place - lower) / (centre - lower);
                let falling = (upper - place) / (upper - centre);
                *factor = rising.min(falling).max(0.0);
            }
        }
        matrix
    }
}

impl DecibelOptions {
    /// Returns `None` if the power is not converted.
    fn read(o: &mut Options) -> Option<Self> {
        let is_used = o.bool("power_to_db", true);
        let range = o.needed_number("top_db");
        let smallest = o.needed_number("min_power");
        let reference = o.needed_number("ref_power");
        if smallest <= 0.0 {
            o.problem("option \"min_power\" is not positive");
        }
        let offset = -10.0 * f64::from(smallest.max(reference.abs())).log10();
        is_used.then_some(Self {
            smallest,
            offset: offset as f32,
            range,
        })
    }
}

/// Adds the parts of a waveform as a column, with `reach` samples mirrored at its first and at its last one.
fn mirrored(parts: &mut Parts, reach: usize) -> Operand {
    let column = |length| {
        let shape = vec![length, Some(1)];
        Layer::Reshape(Reshape { shape })
    };
    let wave = parts.add(column(None), &[Operand::Input(0)]);
    // The shape refuses a waveform of too few samples.
    let mut end = |start: i64, stop: i64| {
        let steps = [
            slice(0, start, Some(stop)),
            column(Some(reach)),
            Layer::Reverse,
        ];
        parts.add_chain(wave, steps)
    };
    let first = end(1, 1 + reach as i64);
    let last = end(-1 - reach as i64, -1);
    parts.add(concat(0), &[first, wave, last])
}

/// Part of a spectrum that a spectrogram shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Log,
    Magnitude,
    PowerDensity,
    Real,
    Imaginary,
    Angle,
    Both,
}

/// Spectrogram of `[samples, channels]` by convolutions with stored kernels.
pub fn stft_spectrogram(o: &mut Options) -> Leaf {
    let mode = match o.text("mode") {
        Some("log") => Ok(Mode::Log),
        Some("magnitude") => Ok(Mode::Magnitude),
        Some("psd") => Ok(Mode::PowerDensity),
        Some("real") => Ok(Mode::Real),
        Some("imag") => Ok(Mode::Imaginary),
        Some("angle") => Ok(Mode::Angle),
        Some("stft") => Ok(Mode::Both),
        Some(other) => Err(unsupported(
            "mode",
            &other.into(),
            "\"log\", \"magnitude\", \"psd\", \"real\", \"imag\", \"angle\" and \"stft\" are supported",
        )),
        None => Err(missing("mode")),
    };
    let mode = o.or_record(mode, Mode::Log);
    let length = o.size("frame_length");
    let step = match o.value("frame_step") {
        None => (length / 2).max(1),
        Some(_) => o.size("frame_step"),
    };
    let fft_length = match o.value("fft_length") {
        None => length.checked_next_power_of_two().unwrap_or(length),
        Some(_) => o.size("fft_length"),
    };
    let padding = o.padding(false);
    let expand_dims = o.bool("expand_dims", false);
    let first = o.channels_first();
    // The kernels are stored.
    o.ignore(&["window", "periodic", "scaling"]);
    let bins = fft_length / 2 + 1;
    let kernel = |part| slot(part, &[Some(length), Some(1), Some(bins)]);
    let mut slots = Vec::new();
    if mode != Mode::Imaginary {
        slots.push(kernel("real_kernel"));
    }
    if mode != Mode::Real {
        slots.push(kernel("imag_kernel"));
    }
    Leaf::composed(slots, move |call| {
        call.rank_is(2, "a waveform [samples, channels]")?;
        let mut parts = Parts::default();
        let mut x = Operand::Input(0);
        if !first {
            x = parts.add(permute(&[1, 0]), &[x]);
        }
        x = parts.add(Layer::InsertAxis(InsertAxis { axis: 2 }), &[x]);
        // `[channels, frames, bins]` of each kernel.
        let spectra: Vec<Operand> = call
            .weights
            .iter()
            .map(|&kernel| {
                let conv = Layer::Conv(Conv {
                    kernel,
                    bias: None,
                    strides: [step, 1],
                    dilation: [1, 1],
                    padding,
                    activation: Activation::Linear,
                });
                parts.add_to_each(conv, x)
            })
            .collect();
        let power = |parts: &mut Parts| {
            let squares: Vec<Operand> = spectra
                .iter()
                .map(|&part| parts.add(map(MapFunction::Square), &[part]))
                .collect();
            parts.add(merge(MergeOp::Add), &squares)
        };
        let y = match mode {
            Mode::Real | Mode::Imaginary => spectra[0],
            Mode::Both => parts.add(concat(2), &spectra),
            Mode::Angle => {
                let mut column =
                    |&part: &Operand| parts.add(Layer::InsertAxis(InsertAxis { axis: 3 }), &[part]);
                let columns: Vec<Operand> = spectra.iter().map(&mut column).collect();
                let pairs = parts.add(concat(3), &columns);
                parts.add(Layer::Angle, &[pairs])
            }
            Mode::PowerDensity => {
                let power = power(&mut parts);
                both_sides(&mut parts, power, bins)
            }
            Mode::Log | Mode::Magnitude => {
                let power = power(&mut parts);
                let floor = || MapFunction::Maximum(EPSILON);
                let root = parts.add_chain(power, [floor(), MapFunction::Sqrt].map(map));
                match mode {
                    Mode::Log => parts.add_chain(root, [floor(), MapFunction::Log].map(map)),
                    _ => root,
                }
            }
        };
        match (expand_dims, first) {
            (true, true) => {}
            (true, false) => {
                parts.add(permute(&[1, 2, 0]), &[y]);
            }
            (false, _) => {
                let frames = parts.add(permute(&[1, 0, 2]), &[y]);
                let joined = parts.add_to_each(Layer::Flatten, frames);
                if first {
                    parts.add(permute(&[1, 0]), &[joined]);
                }
            }
        }
        Ok(parts.0)
    })
}

/// Doubles all frequencies but the first and the last, which have no counterpart of negative frequency.
fn both_sides(parts: &mut Parts, power: Operand, bins: usize) -> Operand {
    if bins < 3 {
        return power;
    }
    let first = parts.add(slice(2, 0, Some(1)), &[power]);
    let middle = parts.add_chain(
        power,
        [slice(2, 1, Some(-1)), map(MapFunction::Multiply(2.0))],
    );
    let last = parts.add(slice(2, -1, None), &[power]);
    parts.add(concat(2), &[first, middle, last])
}
