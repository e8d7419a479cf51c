//! Layers of kapre 0.3 and later: spectrograms and mel spectrograms of a waveform
//! (<https://github.com/keunwoochoi/kapre>), and its layers for training.
//!
//! Files store a spectrogram's window and filters as options, so both are computed here, in the
//! precision of TensorFlow and librosa.

use std::f64::consts::PI;

use serde_json::{Map as Json, Value};

use super::{Call, Domain, Leaf, Operand, Part, Parts, chain, map, merge, permute};
use crate::keras::options::{Options, brief, missing, unsupported};
use crate::nn::graph::Weight;
use crate::nn::layers::{
    Activation, Concat, Conv, Dense, GlobalPool, Layer, MapFunction, MergeOp, Padding, PoolKind,
    Reshape, Slice, Stft, SumAxis, ZeroPad,
};

/// Maximum length of a transform and of filters over all frequencies: far above those of any real file,
/// and low enough that a hostile file cannot request all memory.
pub(super) const MAX_LENGTH: usize = 1 << 20;
pub(super) const MAX_FILTERS: usize = 1 << 22;

/// Parses a layer of this library; `None` for other classes.
pub fn layer(class: &str, o: &mut Options) -> Option<Leaf> {
    Some(match class.strip_prefix("Kapre>").unwrap_or(class) {
        "STFT" => stft(o),
        "Magnitude" => magnitude(),
        "Phase" => phase(o),
        "ApplyFilterbank" => apply_filterbank(o),
        "MagnitudeToDecibel" => to_decibel(o),
        "Delta" => delta(o),
        _ => return None,
    })
}

/// Reads a data format; returns true if the channels come first. `default` is the setting of Keras'
/// configuration, which is channels last unless it was changed.
pub(super) fn channels_first(o: &mut Options, key: &'static str) -> bool {
    match o.text(key) {
        Some("channels_first") => true,
        None | Some("channels_last" | "default") => false,
        Some(other) => {
            o.problem(unsupported(
                key,
                &other.into(),
                "\"channels_last\" or \"channels_first\" is needed",
            ));
            false
        }
    }
}

pub(super) fn constant(name: &str, shape: Vec<usize>, data: Vec<f32>) -> Weight {
    Weight {
        name: name.into(),
        shape,
        data,
    }
}

/// Reshapes to samples of one channel, so that a pool over time covers all elements.
pub(super) fn all_in_one() -> Layer {
    let shape = vec![None, Some(1)];
    Layer::Reshape(Reshape { shape })
}

/// `tf.signal.stft` of a waveform.
fn stft(o: &mut Options) -> Leaf {
    let fft_length = o.size("n_fft");
    let frame_length = o.size("win_length");
    let hop = o.size("hop_length");
    let window = o.text("window_name").unwrap_or("hann_window");
    // Hann and Hamming windows are `a - b cos(2 pi i / n)`.
    let raised = match window {
        "hann_window" => [0.5, 0.5],
        "hamming_window" => [0.54, 0.46],
        other => {
            o.problem(unsupported(
                "window_name",
                &other.into(),
                "\"hann_window\" and \"hamming_window\" are supported",
            ));
            [0.5, 0.5]
        }
    };
    if fft_length > MAX_LENGTH {
        o.problem(format!(
            "option \"n_fft\" is {fft_length}, {MAX_LENGTH} is the most"
        ));
    }
    if frame_length > fft_length {
        o.problem(format!(
            "option \"win_length\" is {frame_length}, more than the {fft_length} of \"n_fft\", which is not supported"
        ));
    }
    let pad_begin = match o.bool("pad_begin", false) {
        true => fft_length.saturating_sub(hop),
        false => 0,
    };
    let pad_end = o.bool("pad_end", false);
    let input_first = channels_first(o, "input_data_format");
    let output_first = channels_first(o, "output_data_format");
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(2, "a waveform [samples, channels] or [channels, samples]")?;
        let stft = Layer::Stft(Stft {
            window: call.weights[0],
            hop,
            fft_length,
            pad_begin,
            pad_end,
        });
        let before = input_first.then(|| permute(&[1, 0]));
        let after = output_first.then(|| permute(&[2, 0, 1, 3]));
        Ok(chain(1, before.into_iter().chain([stft]).chain(after)))
    });
    leaf.in_domain(Domain::RealToComplex).prepared(move |_| {
        let window = raised_cosine(frame_length, raised);
        Ok(vec![constant("window", vec![frame_length], window)])
    })
}

/// Periodic window of TensorFlow (`_raised_cosine_window`), in 32 bits. A window of odd length is not
/// periodic there.
fn raised_cosine(length: usize, [a, b]: [f32; 2]) -> Vec<f32> {
    if length == 1 {
        return vec![1.0];
    }
    let period = (length - length % 2) as f32;
    (0..length)
        .map(|i| {
            let angle = (2.0 * PI) as f32 * i as f32 / period;
            a - b * f64::from(angle).cos() as f32
        })
        .collect()
}

/// Magnitude of a complex spectrogram: the root of the sum of the squares of both parts.
fn magnitude() -> Leaf {
    let leaf = Leaf::composed(Vec::new(), |call| {
        let axis = call.ranks[0].checked_sub(1);
        let axis = axis.ok_or("its input has no dimensions")?;
        Ok(chain(
            1,
            [
                map(MapFunction::Square),
                Layer::SumAxis(SumAxis { axis }),
                map(MapFunction::Sqrt),
            ],
        ))
    });
    leaf.in_domain(Domain::ComplexToReal)
}

/// Angle of a complex spectrogram.
fn phase(o: &mut Options) -> Leaf {
    // The name of the option in files differs from that of the layer's argument.
    for key in ["approx_atan_accuracy", "tflite_phase_accuracy"] {
        match o.value(key) {
            None => {}
            Some(Value::Number(terms)) if terms.as_f64() == Some(0.0) => {}
            Some(other) => o.problem(unsupported(key, other, "only the exact angle is supported")),
        }
    }
    let leaf = Leaf::composed(Vec::new(), |_| Ok(chain(1, [Layer::Angle])));
    leaf.in_domain(Domain::ComplexToReal)
}

/// Product of the frequencies with a matrix that follows from the options.
fn apply_filterbank(o: &mut Options) -> Leaf {
    let kind = o.text("type").map(str::to_owned);
    let first = channels_first(o, "data_format");
    let filters = match (kind.as_deref(), o.value("filterbank_kwargs")) {
        (Some("mel"), Some(Value::Object(options))) => mel_filters(options),
        (Some("log"), Some(Value::Object(options))) => log_filters(options),
        (Some("mel" | "log"), _) => Err(missing("filterbank_kwargs")),
        (Some(other), _) => Err(unsupported(
            "type",
            &other.into(),
            "\"mel\" or \"log\" is needed",
        )),
        (None, _) => Err(missing("type")),
    };
    let filters = o.or_record(filters, Filters::none());
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(3, "a spectrogram")?;
        let product = Layer::Dense(Dense {
            kernel: call.weights[0],
            bias: None,
            activation: Activation::Linear,
        });
        Ok(match first {
            true => chain(1, [product]),
            false => chain(1, [permute(&[0, 2, 1]), product, permute(&[0, 2, 1])]),
        })
    });
    leaf.prepared(move |_| {
        let shape = vec![filters.frequencies, filters.bands];
        Ok(vec![constant("filterbank", shape, filters.factors())])
    })
}

/// A checked filterbank.
struct Filters {
    frequencies: usize,
    bands: usize,
    /// Returns the factors of a band by frequency.
    band: Box<dyn Fn(usize) -> Vec<f32> + Send + Sync>,
}

impl Filters {
    /// Returns the placeholder of filters with a problem.
    fn none() -> Self {
        Self {
            frequencies: 0,
            bands: 0,
            band: Box::new(|_| Vec::new()),
        }
    }

    /// Returns all factors, `[frequencies, bands]`.
    fn factors(&self) -> Vec<f32> {
        let by_band: Vec<Vec<f32>> = (0..self.bands).map(&self.band).collect();
        (0..self.frequencies)
            .flat_map(|k| by_band.iter().map(move |band| band[k]))
            .collect()
    }
}

/// Options in `filterbank_kwargs`.
struct FilterOptions<'a>(&'a Json<String, Value>);

impl FilterOptions<'_> {
    fn problem(&self, key: &str, why: &str) -> String {
        let found = self.0.get(key).map_or("missing".into(), brief);
        format!("option \"filterbank_kwargs\": {key:?} is {found}; {why}")
    }

    fn number(&self, key: &str, default: Option<f64>) -> Result<f64, String> {
        match (self.0.get(key), default) {
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (value, _) => value
                .and_then(Value::as_f64)
                .filter(|x| x.is_finite())
                .ok_or_else(|| self.problem(key, "a number is needed")),
        }
    }

    fn size(&self, key: &str, default: Option<usize>) -> Result<usize, String> {
        match (self.0.get(key), default) {
            (None, Some(default)) => Ok(default),
            (value, _) => value
                .and_then(Value::as_u64)
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| (1..=MAX_FILTERS).contains(n))
                .ok_or_else(|| self.problem(key, "a positive size is needed")),
        }
    }

    /// Reads the number of frequencies, and that of bands from `key`.
    fn sizes(&self, key: &str, default: usize) -> Result<[usize; 2], String> {
        let frequencies = self.size("n_freq", None)?;
        let bands = self.size(key, Some(default))?;
        if frequencies < 2 || frequencies.saturating_mul(bands) > MAX_FILTERS {
            return Err(self.problem(
                "n_freq",
                &format!("at least 2, and at most {MAX_FILTERS} times {key:?}, are supported"),
            ));
        }
        Ok([frequencies, bands])
    }

    /// Fails if there are options besides these.
    fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.problem(key, "this option is not known")),
            None => Ok(()),
        }
    }
}

/// Frequencies of the bins, in Hz.
fn bin_frequencies(sample_rate: f64, frequencies: usize) -> Vec<f64> {
    let step = sample_rate / (2 * (frequencies - 1)) as f64;
    (0..frequencies).map(|k| k as f64 * step).collect()
}

/// Triangles on the mel scale (`librosa.filters.mel`).
fn mel_filters(options: &Json<String, Value>) -> Result<Filters, String> {
    let o = FilterOptions(options);
    o.only(&[
        "sample_rate",
        "n_freq",
        "n_mels",
        "f_min",
        "f_max",
        "htk",
        "norm",
    ])?;
    let sample_rate = o.number("sample_rate", None)?;
    let [frequencies, bands] = o.sizes("n_mels", 128)?;
    let f_min = o.number("f_min", Some(0.0))?;
    let f_max = o.number("f_max", Some(sample_rate / 2.0))?;
    let htk = match options.get("htk") {
        None => false,
        Some(value) => value
            .as_bool()
            .ok_or_else(|| o.problem("htk", "true or false is needed"))?,
    };
    let is_normalised = match options.get("norm") {
        None => true,
        Some(Value::Null) => false,
        Some(value) if value == "slaney" => true,
        // A numeric `norm` has another meaning in each of several versions of librosa.
        Some(_) => return Err(o.problem("norm", "\"slaney\" or none is supported")),
    };
    if sample_rate <= 0.0 || f_min < 0.0 || f_max <= f_min {
        return Err(o.problem("f_max", "sampling rate and band limits must rise from 0"));
    }
    let bins = bin_frequencies(sample_rate, frequencies);
    let (low, high) = (mel_of(f_min, htk), mel_of(f_max, htk));
    let edges: Vec<f64> = (0..bands + 2)
        .map(|i| match i == bands + 1 {
            true => high,
            false => low + i as f64 * ((high - low) / (bands + 1) as f64),
        })
        .map(|mel| hertz_of(mel, htk))
        .collect();
    let band = move |band: usize| {
        let [left, centre, right] = [0, 1, 2].map(|i| edges[band + i]);
        let factor = |hertz: &f64| {
            let rising = (hertz - left) / (centre - left);
            let falling = (right - hertz) / (right - centre);
            let triangle = rising.min(falling).max(0.0) as f32;
            match is_normalised {
                true => (f64::from(triangle) * (2.0 / (right - left))) as f32,
                false => triangle,
            }
        };
        bins.iter().map(factor).collect()
    };
    Ok(Filters {
        frequencies,
        bands,
        band: Box::new(band),
    })
}

/// Frequency above which Slaney's mel scale is logarithmic, its mel, and the step of a mel there.
const LOG_HERTZ: f64 = 1000.0;
const LOG_MEL: f64 = 15.0;
const HERTZ_PER_MEL: f64 = 200.0 / 3.0;

fn log_step() -> f64 {
    6.4f64.ln() / 27.0
}

/// Mel scale of Slaney's Auditory Toolbox, or that of HTK.
fn mel_of(hertz: f64, htk: bool) -> f64 {
    if htk {
        2595.0 * (1.0 + hertz / 700.0).log10()
    } else if hertz >= LOG_HERTZ {
        LOG_MEL + (hertz / LOG_HERTZ).ln() / log_step()
    } else {
        hertz / HERTZ_PER_MEL
    }
}

fn hertz_of(mel: f64, htk: bool) -> f64 {
    if htk {
        700.0 * (10f64.powf(mel / 2595.0) - 1.0)
    } else if mel >= LOG_MEL {
        LOG_HERTZ * (log_step() * (mel - LOG_MEL)).exp()
    } else {
        mel * HERTZ_PER_MEL
    }
}

/// Log-normal bands of an octave's fractions (`kapre.backend.filterbank_log`).
fn log_filters(options: &Json<String, Value>) -> Result<Filters, String> {
    /// Hz of the note C1.
    const LOWEST: f64 = 32.703_195_66;
    let o = FilterOptions(options);
    o.only(&[
        "sample_rate",
        "n_freq",
        "n_bins",
        "bins_per_octave",
        "f_min",
        "spread",
    ])?;
    let sample_rate = o.number("sample_rate", None)?;
    let [frequencies, bands] = o.sizes("n_bins", 84)?;
    let per_octave = o.size("bins_per_octave", Some(12))? as f64;
    let f_min = o.number("f_min", Some(LOWEST))?;
    let sigma = o.number("spread", Some(0.125))? / per_octave;
    if sample_rate <= 0.0 || f_min <= 0.0 || sigma <= 0.0 {
        return Err(o.problem("f_min", "positive numbers are needed"));
    }
    let logs: Vec<f64> = bin_frequencies(sample_rate, frequencies)[1..]
        .iter()
        .map(|hertz| hertz.log2())
        .collect();
    let band = move |band: usize| {
        let centre = (f_min * 2f64.powf(band as f64 / per_octave)).log2();
        let factors: Vec<f64> = logs
            .iter()
            .map(|log| (-0.5 * ((log - centre) / sigma).powi(2) - sigma.log2() - log).exp())
            .collect();
        let sum: f64 = factors.iter().sum();
        // librosa does not scale a band of nothing.
        let length = if sum < f64::MIN_POSITIVE { 1.0 } else { sum };
        let scaled = factors.iter().map(|factor| (factor / length) as f32);
        std::iter::once(0.0).chain(scaled).collect()
    };
    Ok(Filters {
        frequencies,
        bands,
        band: Box::new(band),
    })
}

/// Borders of a [`delta`]: `tf.pad`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Border {
    Zeros,
    /// Mirrored with the outermost frame.
    Symmetric,
    /// Mirrored at the outermost frame.
    Reflect,
}

/// Estimate of the derivative along time: the sum of the frames in a window, each times its distance from the
/// centre, over the sum of the squared distances.
fn delta(o: &mut Options) -> Leaf {
    /// Longest window, in frames. Each mirrored frame is a node of the graph.
    const MAX_WINDOW: usize = 65;
    let length = o.size("win_length");
    let fits = length % 2 == 1 && (3..=MAX_WINDOW).contains(&length);
    if !fits {
        o.problem(format!(
            "option \"win_length\" is {length}; odd numbers from 3 to {MAX_WINDOW} are supported"
        ));
    }
    let mode = o.text("mode").map(str::to_lowercase);
    let border = match mode.as_deref() {
        Some("symmetric") => Border::Symmetric,
        Some("reflect") => Border::Reflect,
        Some("constant") => Border::Zeros,
        other => {
            let problem = match other {
                None => missing("mode"),
                Some(other) => unsupported(
                    "mode",
                    &other.into(),
                    "\"symmetric\", \"reflect\" or \"constant\" is needed",
                ),
            };
            o.problem(problem);
            Border::Zeros
        }
    };
    let first = channels_first(o, "data_format");
    let half = length.min(MAX_WINDOW) / 2;
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(3, "[time, frequency, 1]")?;
        let mut parts = padded(half, border);
        let mut add = |layer| {
            let last = Operand::Part(parts.len() - 1);
            parts.push(Part::new(layer, &[last]));
        };
        add(Layer::Conv(Conv {
            kernel: call.weights[0],
            bias: None,
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Valid,
            activation: Activation::Linear,
        }));
        let squares: usize = (1..=half).map(|n| n * n).sum();
        add(map(MapFunction::Divide((2 * squares) as f32)));
        Ok(parts)
    });
    leaf.in_layout(first, 3, true).prepared(move |_| {
        let distances = (0..2 * half + 1).map(|i| i as f32 - half as f32);
        let kernel = vec![2 * half + 1, 1, 1, 1];
        Ok(vec![constant("kernel", kernel, distances.collect())])
    })
}

/// Adds `half` frames at both ends of the first dimension. An input of fewer frames is an error, as in TensorFlow,
/// because every mirrored frame is sliced by itself.
fn padded(half: usize, border: Border) -> Vec<Part> {
    let count = half as i64;
    let skipped = match border {
        Border::Zeros => {
            let layer = Layer::ZeroPad(ZeroPad {
                top: half,
                bottom: half,
                left: 0,
                right: 0,
            });
            return chain(1, [layer]);
        }
        Border::Symmetric => 0,
        Border::Reflect => 1,
    };
    let before = (skipped..skipped + count).rev();
    let behind = (skipped..skipped + count).map(|i| -1 - i);
    let frame = |start: i64| {
        let slice = Layer::Slice(Slice {
            axis: 0,
            start,
            stop: Some(start + 1).filter(|&stop| stop != 0),
            step: 1,
        });
        Part::new(slice, &[Operand::Input(0)])
    };
    let mut parts: Vec<Part> = before.chain(behind).map(frame).collect();
    let frames = |range: std::ops::Range<usize>| range.map(Operand::Part);
    let inputs: Vec<Operand> = frames(0..half)
        .chain([Operand::Input(0)])
        .chain(frames(half..2 * half))
        .collect();
    parts.push(Part::new(Layer::Concat(Concat { axis: 0 }), &inputs));
    parts
}

/// `10 log10(max(x, amin) / max(amin, ref_value))`, at least the largest of the row minus
/// `dynamic_range`.
fn to_decibel(o: &mut Options) -> Leaf {
    let smallest = o.needed_number("amin");
    let reference = o.needed_number("ref_value");
    let range = o.needed_number("dynamic_range");
    if smallest <= 0.0 {
        o.problem("option \"amin\" is not positive");
    }
    let offset = -10.0 * f64::from(smallest.max(reference)).log10();
    Leaf::composed(Vec::new(), move |_: &Call| {
        let mut parts = Parts::default();
        let input = Operand::Input(0);
        decibels(&mut parts, input, smallest, offset as f32, range);
        Ok(parts.0)
    })
}

/// Adds the parts of `10 log10(max(x, smallest)) + offset`, at least the largest of the row minus `range`; returns the
/// last of them.
pub(super) fn decibels(
    parts: &mut Parts,
    x: Operand,
    smallest: f32,
    offset: f32,
    range: f32,
) -> Operand {
    let decibels = [
        MapFunction::Maximum(smallest),
        MapFunction::Log,
        MapFunction::Multiply(10.0 / std::f32::consts::LN_10),
        MapFunction::Add(offset),
    ];
    let decibels = parts.add_chain(x, decibels.map(map));
    let largest = Layer::GlobalPool(GlobalPool {
        kind: PoolKind::Max,
        keep_dims: false,
    });
    let below = map(MapFunction::Add(-range));
    let smallest = parts.add_chain(decibels, [all_in_one(), largest, below]);
    parts.add(merge(MergeOp::Maximum), &[decibels, smallest])
}
