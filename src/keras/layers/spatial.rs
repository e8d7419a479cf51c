//! Convolutions, pooling, upsampling and padding.

use serde_json::{Value, json};

use super::{Leaf, Operand, Part, Parts, bias_slot, chain, map, merge, slot};
use crate::keras::activation;
use crate::keras::options::{Options, missing, unsupported};
use crate::nn::graph::MAX_ELEMENTS;
use crate::nn::graph::{Weight, WeightId};
use crate::nn::layers::{
    Activation, Conv, ConvTranspose, DepthwiseConv, GlobalPool, InsertAxis, Interpolation, Layer,
    MapFunction, MergeOp, Padding, Pool, PoolKind, RemoveAxis, Resize, Slice, SumAxis, Upsample,
    ZeroPad,
};

/// Describes the input of a layer over `spatial` dimensions, for messages.
pub(super) fn takes(spatial: usize) -> &'static str {
    match spatial {
        1 => "[time, channels]",
        2 => "[height, width, channels]",
        _ => "[depth, height, width, channels]",
    }
}

/// Returns one value per spatial dimension as the pair that the graph stores.
pub(super) fn pair<const N: usize>(sizes: [usize; N]) -> [usize; 2] {
    [sizes[0], sizes.get(1).copied().unwrap_or(1)]
}

/// Options that the convolutions of one to three dimensions share.
#[derive(Clone, Copy)]
pub(super) struct ConvOptions<const N: usize> {
    channels_first: bool,
    groups: usize,
    filters: usize,
    pub kernel: [usize; N],
    pub strides: [usize; N],
    pub dilation: [usize; N],
    pub padding: Padding,
    pub activation: Activation,
}

impl<const N: usize> ConvOptions<N> {
    pub fn read(o: &mut Options) -> Self {
        let channels_first = o.channels_first();
        let groups = match o.value("groups") {
            None => 1,
            Some(_) => o.size("groups"),
        };
        let filters = o.size("filters");
        if !filters.is_multiple_of(groups) {
            o.problem(format!(
                "{filters} filters cannot be divided among {groups} groups"
            ));
        }
        Self {
            channels_first,
            groups,
            filters,
            kernel: o.needed_sizes("kernel_size"),
            strides: o.sizes("strides").unwrap_or([1; N]),
            dilation: o.sizes("dilation_rate").unwrap_or([1; N]),
            padding: o.padding(N == 1),
            activation: activation::option(o, "activation"),
        }
    }

    /// Creates the layer that `make` returns for a kernel and a bias.
    pub fn leaf(
        self,
        o: &mut Options,
        make: impl Fn(Self, WeightId, Option<WeightId>) -> Layer + Send + Sync + 'static,
    ) -> Leaf {
        let mut dims: Vec<Option<usize>> = self.kernel.map(Some).to_vec();
        dims.extend([None, Some(self.filters)]);
        let mut slots = vec![slot("kernel", &dims)];
        slots.extend(bias_slot(o, &[Some(self.filters)]));
        let leaf = Leaf::weighted(slots, move |call| {
            call.rank_is(N + 1, takes(N))?;
            let bias = call.weights.get(1).copied();
            Ok(Some(make(self, call.weights[0], bias)))
        });
        let (groups, mirrored) = (self.groups, o.dialect.mirrored_kernels);
        let leaf = match (groups, mirrored) {
            (1, false) => leaf,
            _ => leaf.prepared(move |weights| {
                let weights = if mirrored { turned(weights) } else { weights };
                match groups {
                    1 => Ok(weights),
                    _ => ungrouped(weights, groups),
                }
            }),
        };
        leaf.in_layout(self.channels_first, N + 1, true)
    }
}

pub fn conv<const N: usize>(o: &mut Options) -> Leaf {
    ConvOptions::<N>::read(o).leaf(o, |options, kernel, bias| {
        Layer::Conv(Conv {
            kernel,
            bias,
            strides: pair(options.strides),
            dilation: pair(options.dilation),
            padding: options.padding,
            activation: options.activation,
        })
    })
}

/// Mirrors the spatial dimensions of a kernel, the first weight: `convert_kernel` of Keras' conv_utils.py.
fn turned(mut weights: Vec<Weight>) -> Vec<Weight> {
    if let Some(Weight { shape, data, .. }) = weights.first_mut()
        && let [.., inputs, filters] = **shape
    {
        let tap = (inputs * filters).max(1);
        *data = data.rchunks(tap).flatten().copied().collect();
    }
    weights
}

/// Expands the kernel of a grouped convolution to one whose filters read every channel, with zeros for
/// those of other groups.
fn ungrouped(mut weights: Vec<Weight>, groups: usize) -> Result<Vec<Weight>, String> {
    let kernel = &mut weights[0];
    let [.., inputs, filters] = *kernel.shape else {
        return Ok(weights);
    };
    let channels = inputs * groups;
    let taps = kernel.data.len() / (inputs * filters).max(1);
    let elements = taps
        .checked_mul(channels)
        .and_then(|n| n.checked_mul(filters))
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or("its kernel is too large for a convolution of all groups together")?;
    let mut data = vec![0.0; elements];
    for (i, &value) in kernel.data.iter().enumerate() {
        let (row, filter) = (i / filters, i % filters);
        let (tap, channel) = (row / inputs, row % inputs);
        let group = filter / (filters / groups);
        data[(tap * channels + group * inputs + channel) * filters + filter] = value;
    }
    kernel.data = data;
    let at = kernel.shape.len() - 2;
    kernel.shape[at] = channels;
    Ok(weights)
}

pub fn pool<const N: usize>(o: &mut Options, kind: PoolKind) -> Leaf {
    let first = o.channels_first();
    let size = o.needed_sizes::<N>("pool_size");
    let strides = pair(o.sizes::<N>("strides").unwrap_or(size));
    let pool = Pool {
        kind,
        size: pair(size),
        strides,
        padding: o.padding(false),
    };
    let leaf = Leaf::plain(move |call| {
        call.rank_is(N + 1, takes(N))?;
        Ok(Some(Layer::Pool(pool.clone())))
    });
    leaf.in_layout(first, N + 1, true)
}

pub fn global_pool(o: &mut Options, kind: PoolKind, rank: usize) -> Leaf {
    let first = o.channels_first();
    let keep_dims = o.bool("keepdims", false);
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(rank, takes(rank - 1))?;
        // The class of two dimensions, and that of the maximum, ignore masks.
        if kind == PoolKind::Average && rank == 2 && call.masks[0] {
            if first || keep_dims {
                return Err(
                    "its input has a mask, which is supported without keepdims and for channels_last only".into(),
                );
            }
            return Ok(masked_mean());
        }
        Ok(chain(
            1,
            [Layer::GlobalPool(GlobalPool { kind, keep_dims })],
        ))
    });
    leaf.in_layout(first, rank, keep_dims)
}

/// Returns the nodes of the mean over the steps that the mask of `[time, channels]` does not skip.
fn masked_mean() -> Vec<Part> {
    let sum = || Layer::SumAxis(SumAxis { axis: 0 });
    let column = Layer::InsertAxis(InsertAxis { axis: 1 });
    let mut parts = Parts::default();
    let mask = parts.add(column, &[Operand::Mask(0)]);
    let kept = parts.add(merge(MergeOp::Multiply), &[Operand::Input(0), mask]);
    let total = parts.add(sum(), &[kept]);
    let inverse = map(MapFunction::DivideInto(1.0));
    let inverse_count = parts.add_chain(mask, [sum(), inverse]);
    parts.add(merge(MergeOp::Multiply), &[total, inverse_count]);
    parts.0
}

pub fn upsample(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let factor = o.needed_sizes::<2>("size");
    let interpolation = match o.text("interpolation") {
        None | Some("nearest") => Interpolation::Nearest,
        Some("bilinear") => match o.dialect.legacy_bilinear {
            Some(true) => Interpolation::BilinearLegacy,
            Some(false) => Interpolation::BilinearHalfPixel,
            None => {
                o.problem("option \"interpolation\" is \"bilinear\", which changed with Keras 2.3, but the file does not say which version wrote it (attribute keras_version)");
                Interpolation::Nearest
            }
        },
        Some(other) => {
            o.problem(unsupported(
                "interpolation",
                &other.into(),
                "only \"nearest\" and \"bilinear\" are supported",
            ));
            Interpolation::Nearest
        }
    };
    let leaf = Leaf::plain(move |call| {
        call.rank_is(3, takes(2))?;
        Ok(Some(Layer::Upsample(Upsample {
            factor,
            interpolation,
        })))
    });
    leaf.in_layout(first, 3, true)
}

pub fn resize(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let size = [o.size("height"), o.size("width")];
    let bilinear = match o.text("interpolation") {
        Some("bilinear") => Ok(true),
        Some("nearest") => Ok(false),
        Some(other) => Err(unsupported(
            "interpolation",
            &other.into(),
            "only \"nearest\" and \"bilinear\" are supported",
        )),
        None => Err(missing("interpolation")),
    };
    let bilinear = o.or_record(bilinear, true);
    for key in ["crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"] {
        o.off(key);
    }
    // Options of padding, and of the base class.
    o.ignore(&["fill_mode", "fill_value", "factor", "bounding_box_format"]);
    let leaf = Leaf::plain(move |call| {
        call.rank_is(3, takes(2))?;
        Ok(Some(Layer::Resize(Resize { size, bilinear })))
    });
    leaf.in_layout(first, 3, true)
}

pub fn zero_pad(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let sides = match o.value("padding") {
        None => Err(missing("padding")),
        Some(value) => {
            borders(value).ok_or_else(|| unsupported("padding", value, needed_borders(2)))
        }
    };
    let [[top, bottom], [left, right]] = o.or_record(sides, [[0; 2]; 2]);
    let leaf = Leaf::plain(move |call| {
        call.rank_is(3, takes(2))?;
        Ok(Some(Layer::ZeroPad(ZeroPad {
            top,
            bottom,
            left,
            right,
        })))
    });
    leaf.in_layout(first, 3, true)
}

/// Describes the sides of a padding or a cropping, for messages.
pub(super) fn needed_borders(spatial: usize) -> &'static str {
    match spatial {
        1 => "[start, end] is needed",
        2 => "[[top, bottom], [left, right]] is needed",
        _ => "[[front, back], [top, bottom], [left, right]] is needed",
    }
}

/// Parses a padding or a cropping: one number for all sides, one per dimension, or two per dimension.
pub(super) fn borders<const N: usize>(value: &Value) -> Option<[[usize; 2]; N]> {
    match value.as_array() {
        Some(dimensions) => {
            let sides: Option<Vec<[usize; 2]>> = dimensions.iter().map(pair_of).collect();
            sides?.try_into().ok()
        }
        None => pair_of(value).map(|sides| [sides; N]),
    }
}

/// Reads the options that separable and depthwise convolutions share.
fn depthwise_options<const N: usize>(o: &mut Options) -> ([usize; N], DepthwiseConv) {
    o.only("groups", json!(1));
    if o.dialect.mirrored_kernels {
        o.problem("the file was saved with the backend \"theano\", whose kernels Keras does not convert for this class; train the network with the TensorFlow backend");
    }
    let size = o.needed_sizes::<N>("kernel_size");
    let layer = DepthwiseConv {
        kernel: WeightId(0),
        bias: None,
        strides: pair(o.sizes::<N>("strides").unwrap_or([1; N])),
        dilation: pair(o.sizes::<N>("dilation_rate").unwrap_or([1; N])),
        padding: o.padding(N == 1),
        activation: Activation::Linear,
    };
    (size, layer)
}

/// Returns the shape of a depthwise kernel.
fn depthwise_dims<const N: usize>(o: &mut Options, size: [usize; N]) -> Vec<Option<usize>> {
    let multiplier = match o.value("depth_multiplier") {
        None => 1,
        Some(_) => o.size("depth_multiplier"),
    };
    let mut dims: Vec<Option<usize>> = size.map(Some).to_vec();
    dims.extend([None, Some(multiplier)]);
    dims
}

pub fn depthwise_conv<const N: usize>(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let (size, options) = depthwise_options::<N>(o);
    let dims = depthwise_dims(o, size);
    let activation = activation::option(o, "activation");
    o.ignore(&["filters"]);
    // Keras 3 renamed the variable.
    let kernel = match o.dialect.keras3 {
        Some(_) => "kernel",
        None => "depthwise_kernel",
    };
    let mut slots = vec![slot(kernel, &dims)];
    slots.extend(bias_slot(o, &[None]));
    let leaf = Leaf::weighted(slots, move |call| {
        call.rank_is(N + 1, takes(N))?;
        Ok(Some(Layer::DepthwiseConv(DepthwiseConv {
            kernel: call.weights[0],
            bias: call.weights.get(1).copied(),
            activation,
            ..options.clone()
        })))
    });
    leaf.in_layout(first, N + 1, true)
}

pub fn separable_conv<const N: usize>(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let (size, options) = depthwise_options::<N>(o);
    let dims = depthwise_dims(o, size);
    let filters = o.size("filters");
    let activation = activation::option(o, "activation");
    let mut pointwise: Vec<Option<usize>> = vec![Some(1); N];
    pointwise.extend([None, Some(filters)]);
    let mut slots = vec![
        slot("depthwise_kernel", &dims),
        slot("pointwise_kernel", &pointwise),
    ];
    slots.extend(bias_slot(o, &[Some(filters)]));
    let leaf = Leaf::composed(slots, move |call| {
        call.rank_is(N + 1, takes(N))?;
        let depthwise = DepthwiseConv {
            kernel: call.weights[0],
            ..options.clone()
        };
        let pointwise = Conv {
            kernel: call.weights[1],
            bias: call.weights.get(2).copied(),
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Valid,
            activation,
        };
        Ok(chain(
            1,
            [Layer::DepthwiseConv(depthwise), Layer::Conv(pointwise)],
        ))
    });
    leaf.in_layout(first, N + 1, true)
}

pub fn conv_transpose<const N: usize>(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    o.only("groups", json!(1));
    let output_padding = match o.value("output_padding") {
        None => None,
        Some(value) => {
            let added = o.integers("output_padding").and_then(|added| {
                let added: Option<Vec<usize>> =
                    added.iter().map(|&n| usize::try_from(n).ok()).collect();
                match (N, added.as_deref()) {
                    (1, Some(&[n])) => Ok([n, 0]),
                    (2, Some(&[n])) => Ok([n; 2]),
                    (2, Some(&[rows, columns])) => Ok([rows, columns]),
                    _ => Err(unsupported(
                        "output_padding",
                        value,
                        &format!("{N} numbers are needed"),
                    )),
                }
            });
            Some(o.or_record(added, [0; 2]))
        }
    };
    let filters = o.size("filters");
    let kernel = o.needed_sizes::<N>("kernel_size");
    let strides = pair(o.sizes::<N>("strides").unwrap_or([1; N]));
    let dilation = pair(o.sizes::<N>("dilation_rate").unwrap_or([1; N]));
    let padding = o.padding(false);
    let activation = activation::option(o, "activation");
    let mut dims: Vec<Option<usize>> = kernel.map(Some).to_vec();
    dims.extend([Some(filters), None]);
    let mut slots = vec![slot("kernel", &dims)];
    slots.extend(bias_slot(o, &[Some(filters)]));
    let leaf = Leaf::weighted(slots, move |call| {
        call.rank_is(N + 1, takes(N))?;
        Ok(Some(Layer::ConvTranspose(ConvTranspose {
            kernel: call.weights[0],
            bias: call.weights.get(1).copied(),
            strides,
            dilation,
            padding,
            output_padding,
            activation,
        })))
    });
    let leaf = match o.dialect.mirrored_kernels {
        true => leaf.prepared(|weights| Ok(turned(weights))),
        false => leaf,
    };
    leaf.in_layout(first, N + 1, true)
}

pub fn crop<const N: usize>(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let sides = match o.value("cropping") {
        None => Err(missing("cropping")),
        // A list of two is one per side in one dimension, and one per dimension in two.
        Some(value) => match N {
            1 => pair_of(value).map(|side| [side; N]),
            _ => borders::<N>(value),
        }
        .ok_or_else(|| unsupported("cropping", value, needed_borders(N))),
    };
    let sides = o.or_record(sides, [[0; 2]; N]);
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(N + 1, takes(N))?;
        let slices = sides.iter().enumerate();
        let slices = slices.filter(|(_, side)| **side != [0, 0]);
        Ok(chain(
            1,
            slices.map(|(axis, &[start, end])| {
                Layer::Slice(Slice {
                    axis,
                    start: start as i64,
                    stop: (end > 0).then_some(-(end as i64)),
                    step: 1,
                })
            }),
        ))
    });
    leaf.in_layout(first, N + 1, true)
}

/// Parses the two sides of one dimension: one number for both, or two.
fn pair_of(value: &Value) -> Option<[usize; 2]> {
    let count = |v: &Value| {
        usize::try_from(v.as_u64()?)
            .ok()
            .filter(|&n| n <= MAX_ELEMENTS)
    };
    match value.as_array().map(Vec::as_slice) {
        Some([one]) => count(one).map(|n| [n, n]),
        Some([a, b]) => Some([count(a)?, count(b)?]),
        Some(_) => None,
        None => count(value).map(|n| [n, n]),
    }
}

/// Returns a layer over images that is applied to `[time, 1, channels]`.
fn over_time(layer: Layer) -> Vec<Part> {
    chain(
        1,
        [
            Layer::InsertAxis(InsertAxis { axis: 1 }),
            layer,
            Layer::RemoveAxis(RemoveAxis { axis: 1 }),
        ],
    )
}

pub fn zero_pad_1d(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let sides = match o.value("padding") {
        None => Err(missing("padding")),
        Some(value) => {
            pair_of(value).ok_or_else(|| unsupported("padding", value, needed_borders(1)))
        }
    };
    let [top, bottom] = o.or_record(sides, [0; 2]);
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(2, takes(1))?;
        Ok(over_time(Layer::ZeroPad(ZeroPad {
            top,
            bottom,
            left: 0,
            right: 0,
        })))
    });
    leaf.in_layout(first, 2, true)
}

pub fn upsample_1d(o: &mut Options) -> Leaf {
    let [size] = o.needed_sizes::<1>("size");
    Leaf::composed(Vec::new(), move |call| {
        call.rank_is(2, takes(1))?;
        Ok(over_time(Layer::Upsample(Upsample {
            factor: [size, 1],
            interpolation: Interpolation::Nearest,
        })))
    })
}
