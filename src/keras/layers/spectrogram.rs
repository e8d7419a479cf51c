//! Spectrograms of Keras 3: `MelSpectrogram` and `STFTSpectrogram`.
//!
//! A file stores the options of the mel spectrogram alone, so its window and its matrix are computed here, in the
//! precision of Keras.

use std::f64::consts::PI;

use serde_json::Value;

use super::kapre::{MAX_FILTERS, MAX_LENGTH, constant, map, permute, raise_to_range};
use super::{Leaf, Operand, Parts, slot};
use crate::keras::options::{Options, missing, unsupported};
use crate::nn::layers::{
    Activation, Concat, Conv, Dense, InsertAxis, Layer, MapFunction, Merge, MergeOp, RemoveAxis,
    Reshape, Slice, Stft, SumAxis,
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

fn merge(op: MergeOp) -> Layer {
    Layer::Merge(Merge { op })
}

/// Checked options of a mel spectrogram.
struct MelOptions {
    bins: usize,
    bands: usize,
    sampling_rate: f32,
    lowest: f32,
    highest: f32,
}

/// Mel spectrogram `[bands, frames]` of a waveform `[samples]`.
pub fn mel_spectrogram(o: &mut Options) -> Leaf {
    let fft_length = o.size("fft_length");
    let hop = o.size("sequence_stride");
    let length = match o.value("sequence_length") {
        None => fft_length,
        Some(_) => o.size("sequence_length"),
    };
    if !(2..=MAX_LENGTH).contains(&fft_length) || length > fft_length {
        o.problem(format!(
            "option \"fft_length\" is {fft_length}; 2 to {MAX_LENGTH}, and at least \"sequence_length\" ({length}), are supported"
        ));
    }
    // Hann and Hamming windows are `a - (1 - a) cos(2 pi i / n)`.
    let raised = match o.value("window") {
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
    let bands = o.size("num_mel_bins");
    let lowest = o.needed_number("min_freq");
    let highest = match o.value("max_freq") {
        None => (sampling_rate / 2.0).floor(),
        Some(_) => o.needed_number("max_freq"),
    };
    let bins = fft_length / 2 + 1;
    if bins.saturating_mul(bands) > MAX_FILTERS {
        o.problem(format!(
            "{bands} bands of {bins} frequencies are more than {MAX_FILTERS} factors"
        ));
    }
    if !(sampling_rate > 0.0 && lowest >= 0.0 && highest > lowest) {
        o.problem(format!(
            "options \"sampling_rate\" ({sampling_rate}), \"min_freq\" ({lowest}) and \"max_freq\" ({highest}) must be positive, and the frequencies must rise"
        ));
    }
    let exponent = o.needed_number("mag_exp");
    if exponent <= 0.0 {
        o.problem("option \"mag_exp\" is not positive");
    }
    let decibels = o.bool("power_to_db", true);
    let range = o.needed_number("top_db");
    let smallest = o.needed_number("min_power");
    let reference = o.needed_number("ref_power");
    if smallest <= 0.0 {
        o.problem("option \"min_power\" is not positive");
    }
    let offset = -10.0 * f64::from(smallest.max(reference.abs())).log10();
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(1, "a waveform [samples]")?;
        let mut parts = Parts::default();
        let reach = fft_length / 2;
        let wave = Layer::Reshape(Reshape {
            shape: vec![None, Some(1)],
        });
        let wave = parts.add(wave, &[Operand::Input(0)]);
        // Samples mirrored at the first and at the last one. The shape refuses a recording that is too short.
        let mut mirrored = |start: i64, stop: i64| {
            let exactly = Layer::Reshape(Reshape {
                shape: vec![Some(reach), Some(1)],
            });
            parts.add_chain(wave, [slice(0, start, Some(stop)), exactly, Layer::Reverse])
        };
        let first = mirrored(1, 1 + reach as i64);
        let last = mirrored(-1 - reach as i64, -1);
        let padded = parts.add(concat(0), &[first, wave, last]);
        let stft = Layer::Stft(Stft {
            window: call.weights[0],
            hop,
            fft_length,
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
        // The exponent is that of the root of the power.
        if exponent == 1.0 {
            y = parts.add(map(MapFunction::Sqrt), &[y]);
        } else if exponent != 2.0 {
            let steps = [
                MapFunction::Log,
                MapFunction::Multiply(exponent / 2.0),
                MapFunction::Exp,
            ];
            y = parts.add_chain(y, steps.map(map));
        }
        let bands = Layer::Dense(Dense {
            kernel: call.weights[1],
            bias: None,
            activation: Activation::Linear,
        });
        y = parts.add(bands, &[y]);
        if decibels {
            y = raise_to_range(&mut parts, y, smallest, offset as f32, range);
        }
        parts.add(permute(&[1, 0]), &[y]);
        Ok(parts.0)
    });
    let mel = MelOptions {
        bins,
        bands,
        sampling_rate,
        lowest,
        highest,
    };
    leaf.prepared(move |_| {
        Ok(vec![
            constant(
                "window",
                vec![fft_length],
                window(raised, length, fft_length),
            ),
            constant("mel", vec![mel.bins, mel.bands], mel.matrix()),
        ])
    })
}

/// Periodic window of SciPy (`scipy.signal.get_window`) in the middle of the transform; ones over the whole of it if
/// there is none.
fn window(raised: Option<f64>, length: usize, fft_length: usize) -> Vec<f32> {
    let Some(a) = raised else {
        return vec![1.0; fft_length];
    };
    let mut window = vec![0.0; fft_length];
    let before = (fft_length - length) / 2;
    for (i, value) in window[before..][..length].iter_mut().enumerate() {
        let angle = 2.0 * PI * i as f64 / length as f64;
        *value = match length {
            1 => 1.0,
            _ => (a - (1.0 - a) * angle.cos()) as f32,
        };
    }
    window
}

impl MelOptions {
    /// Returns triangles on the mel scale of HTK, `[bins, bands]`: `linear_to_mel_weight_matrix` of Keras, in 32 bits.
    fn matrix(&self) -> Vec<f32> {
        let mel = |hertz: f32| 1127.0 * f64::from(1.0 + hertz / 700.0).ln() as f32;
        let (low, high) = (mel(self.lowest), mel(self.highest));
        let spaced = |from: f32, to: f32, count: usize, i: usize| match i + 1 == count {
            true => to,
            false => from + i as f32 * ((to - from) / (count - 1) as f32),
        };
        let edge = |i: usize| spaced(low, high, self.bands + 2, i);
        let mut matrix = vec![0.0; self.bins * self.bands];
        // The constant part belongs to no band.
        for (bin, row) in matrix.chunks_exact_mut(self.bands).enumerate().skip(1) {
            let place = mel(spaced(0.0, self.sampling_rate / 2.0, self.bins, bin));
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

/// Part of a spectrum that a spectrogram shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Log,
    Magnitude,
    PowerDensity,
    Real,
    Imaginary,
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
        Some("stft") => Ok(Mode::Both),
        Some(other) => Err(unsupported(
            "mode",
            &other.into(),
            "\"log\", \"magnitude\", \"psd\", \"real\", \"imag\" and \"stft\" are supported",
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
                parts.add_within(conv, &[x], 1)
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
                let joined = parts.add_within(Layer::Flatten, &[frames], 1);
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
