//! Layers of kapre 0.1 and 0.2: spectrograms by convolution with stored kernels
//! (<https://github.com/keunwoochoi/kapre>, `kapre.time_frequency` and `kapre.utils` of 0.1.7).

use super::kapre::{all_in_one, channels_first};
use super::{Leaf, Operand, Parts, Slot, SlotShape, chain, map, merge, permute, slot};
use crate::keras::options::{Options, missing, unsupported};
use crate::nn::layers::{
    Activation, Conv, Dense, GlobalPool, InsertAxis, Layer, MapFunction, Merge, MergeOp, PoolKind,
};

/// Parses a layer of this library; `None` for other classes.
pub fn layer(class: &str, o: &mut Options) -> Option<Leaf> {
    Some(match class {
        "Spectrogram" => spectrogram(o, None),
        "Melspectrogram" => {
            let mel = Mel::read(o);
            spectrogram(o, Some(mel))
        }
        "AmplitudeToDB" => amplitude_to_decibel(o),
        "Normalization2D" => normalization(o),
        "Filterbank" => filterbank(o),
        _ => return None,
    })
}

/// Power that is taken of a magnitude.
#[derive(Clone, Copy, PartialEq)]
enum Power {
    Magnitude,
    Square,
}

impl Power {
    fn read(o: &mut Options, key: &'static str) -> Self {
        let power = o.needed_number(key);
        if power != 1.0 && power != 2.0 {
            let found = f64::from(power).into();
            o.problem(unsupported(key, &found, "1 and 2 are supported"));
        }
        match power == 2.0 {
            true => Self::Square,
            false => Self::Magnitude,
        }
    }
}

/// Options of the mel bands.
struct Mel {
    bands: usize,
    power: Power,
    decibel: bool,
}

impl Mel {
    fn read(o: &mut Options) -> Self {
        // The bands are stored as a weight.
        o.ignore(&["sr", "fmin", "fmax", "trainable_fb", "htk", "norm"]);
        Self {
            bands: o.size("n_mels"),
            power: Power::read(o, "power_melgram"),
            decibel: o.bool("return_decibel_melgram", false),
        }
    }
}

/// Limits of [`decibel`] in the spectrogram layers.
const SMALLEST: f32 = 1e-10;
const RANGE: f32 = 80.0;

/// Power spectrogram, and its mel bands, of `[channels, samples]`.
fn spectrogram(o: &mut Options, mel: Option<Mel>) -> Leaf {
    let length = o.size("n_dft");
    let hop = o.size("n_hop");
    let padding = o.padding(false);
    let power = Power::read(o, "power_spectrogram");
    let decibels = o.bool("return_decibel_spectrogram", false);
    // kapre 0.1 and 0.2 always state the format.
    if o.value("image_data_format").is_none() {
        o.problem(missing("image_data_format"));
    }
    let first = channels_first(o, "image_data_format");
    // The stored kernels count, trained or not.
    o.ignore(&["trainable_kernel"]);
    let bins = length / 2 + 1;
    let kernel = [Some(length), Some(1), Some(1), Some(bins)];
    let mut slots = vec![slot("real_kernels", &kernel), slot("imag_kernels", &kernel)];
    slots.extend(mel.as_ref().map(|mel| bands_slot(bins, mel.bands)));
    Leaf::composed(slots, move |call| {
        call.rank_is(2, "a waveform [channels, samples]")?;
        let conv = |n: usize| {
            Layer::Conv(Conv {
                kernel: call.weights[n],
                bias: None,
                strides: [hop, 1],
                dilation: [1, 1],
                padding,
                activation: Activation::Linear,
            })
        };
        let mut parts = Parts::default();
        let mut add = |layer, inputs: &[Operand]| parts.add(layer, inputs);
        // `[samples, channels, 1]`, so that the columns of the image are the channels.
        let columns = add(permute(&[1, 0]), &[Operand::Input(0)]);
        let image = add(Layer::InsertAxis(InsertAxis { axis: 2 }), &[columns]);
        let squares = [0, 1].map(|n| {
            let part = add(conv(n), &[image]);
            add(map(MapFunction::Square), &[part])
        });
        let mut y = add(merge(MergeOp::Add), &squares);
        if power == Power::Magnitude {
            y = add(map(MapFunction::Sqrt), &[y]);
        }
        if decibels {
            y = decibel(&mut add, y, SMALLEST, RANGE);
        }
        if let Some(mel) = &mel {
            let product = Layer::Dense(Dense {
                kernel: call.weights[2],
                bias: None,
                activation: Activation::Linear,
            });
            y = add(product, &[y]);
            if mel.power == Power::Magnitude {
                y = add(map(MapFunction::Sqrt), &[y]);
            }
            if mel.decibel {
                y = decibel(&mut add, y, SMALLEST, RANGE);
            }
        }
        // From `[frames, channels, bins]`.
        let order = if first { [1, 2, 0] } else { [2, 0, 1] };
        add(permute(&order), &[y]);
        Ok(parts.0)
    })
}

/// Creates the weight of the bands, which the library does not name.
fn bands_slot(bins: usize, bands: usize) -> Slot {
    slot("Variable", &[Some(bins), Some(bands)])
}

/// Adds `max(10 log10(max(x, smallest)) - its largest, -range)`.
fn decibel(
    add: &mut impl FnMut(Layer, &[Operand]) -> Operand,
    x: Operand,
    smallest: f32,
    range: f32,
) -> Operand {
    let x = add(map(MapFunction::Maximum(smallest)), &[x]);
    let x = add(map(MapFunction::Log), &[x]);
    let factor = 10.0 / std::f32::consts::LN_10;
    let x = add(map(MapFunction::Multiply(factor)), &[x]);
    let all = add(all_in_one(), &[x]);
    let largest = GlobalPool {
        kind: PoolKind::Max,
        keep_dims: false,
    };
    let largest = add(Layer::GlobalPool(largest), &[all]);
    let op = MergeOp::Subtract;
    let below = add(Layer::Merge(Merge { op }), &[x, largest]);
    add(map(MapFunction::Maximum(-range)), &[below])
}

fn amplitude_to_decibel(o: &mut Options) -> Leaf {
    let smallest = o.needed_number("amin");
    let range = o.needed_number("top_db");
    if smallest <= 0.0 {
        o.problem("option \"amin\" is not positive");
    }
    Leaf::composed(Vec::new(), move |_| {
        let mut parts = Parts::default();
        let mut add = |layer, inputs: &[Operand]| parts.add(layer, inputs);
        decibel(&mut add, Operand::Input(0), smallest, range);
        Ok(parts.0)
    })
}

/// `(x - mean) / (deviation + 1e-10)` of a whole spectrogram.
fn normalization(o: &mut Options) -> Leaf {
    // The class computes the statistics of every other choice over all rows of a batch.
    match o.value("int_axis") {
        Some(axis) if axis.as_i64() == Some(0) => {}
        found => {
            let found = found.cloned().unwrap_or_default();
            o.problem(unsupported(
                "int_axis",
                &found,
                "only 0 is supported (str_axis=\"data_sample\"): with other axes the rows of a batch change each other's results",
            ));
        }
    }
    o.ignore(&["str_axis", "image_data_format"]);
    Leaf::composed(Vec::new(), move |call| {
        call.rank_is(3, "a spectrogram")?;
        let mut parts = Parts::default();
        let mut add = |layer, inputs: &[Operand]| parts.add(layer, inputs);
        let mean = || {
            Layer::GlobalPool(GlobalPool {
                kind: PoolKind::Average,
                keep_dims: false,
            })
        };
        let x = Operand::Input(0);
        let all = add(all_in_one(), &[x]);
        let centre = add(mean(), &[all]);
        let moved = add(merge(MergeOp::Subtract), &[x, centre]);
        let squares = add(map(MapFunction::Square), &[moved]);
        let all = add(all_in_one(), &[squares]);
        let variance = add(mean(), &[all]);
        let deviation = add(map(MapFunction::Sqrt), &[variance]);
        let safe = add(map(MapFunction::Add(1e-10)), &[deviation]);
        let factor = add(map(MapFunction::DivideInto(1.0)), &[safe]);
        add(merge(MergeOp::Multiply), &[moved, factor]);
        Ok(parts.0)
    })
}

/// Product of the frequencies with a stored matrix.
fn filterbank(o: &mut Options) -> Leaf {
    let bands = o.size("n_fbs");
    // The bands are stored as a weight.
    o.ignore(&[
        "sr",
        "init",
        "fmin",
        "fmax",
        "bins_per_octave",
        "trainable_fb",
    ]);
    // The file does not state where the channels are; Keras reads it with the setting of its
    // configuration, channels last unless that was changed.
    let bands = Slot {
        shape: SlotShape::Dims(vec![None, Some(bands)]),
        ..bands_slot(1, bands)
    };
    Leaf::composed(vec![bands], |call| {
        call.rank_is(3, "a spectrogram [frequencies, frames, channels]")?;
        let product = Layer::Dense(Dense {
            kernel: call.weights[0],
            bias: None,
            activation: Activation::Linear,
        });
        let swap = || permute(&[2, 1, 0]);
        Ok(chain(1, [swap(), product, swap()]))
    })
}
