//! Convolutions, pooling, upsampling and padding.

use serde_json::{Value, json};

use super::{Leaf, bias_slot, slot};
use crate::keras::activation;
use crate::keras::options::{Options, missing, unsupported};
use crate::nn::layers::{
    Conv, GlobalPool, Interpolation, Layer, Pool, PoolKind, Upsample, ZeroPad,
};

/// Describes the input of a layer over `spatial` dimensions, for messages.
fn takes(spatial: usize) -> &'static str {
    match spatial {
        1 => "[time, channels]",
        _ => "[height, width, channels]",
    }
}

/// Returns one value per spatial dimension as the pair that the graph stores.
fn pair<const N: usize>(sizes: [usize; N]) -> [usize; 2] {
    [sizes[0], sizes.get(1).copied().unwrap_or(1)]
}

pub fn conv<const N: usize>(o: &mut Options) -> Leaf {
    o.channels_last();
    o.only("groups", json!(1));
    let filters = o.size("filters");
    let kernel = o.needed_sizes::<N>("kernel_size");
    let strides = pair(o.sizes::<N>("strides").unwrap_or([1; N]));
    let dilation = pair(o.sizes::<N>("dilation_rate").unwrap_or([1; N]));
    let padding = o.padding(N == 1);
    let activation = activation::option(o, "activation");
    let mut dims: Vec<Option<usize>> = kernel.map(Some).to_vec();
    dims.extend([None, Some(filters)]);
    let mut slots = vec![slot("kernel", &dims)];
    slots.extend(bias_slot(o, &[Some(filters)]));
    Leaf::weighted(slots, move |call| {
        call.rank_is(N + 1, takes(N))?;
        Ok(Some(Layer::Conv(Conv {
            kernel: call.weights[0],
            bias: call.weights.get(1).copied(),
            strides,
            dilation,
            padding,
            activation,
        })))
    })
}

pub fn pool<const N: usize>(o: &mut Options, kind: PoolKind) -> Leaf {
    o.channels_last();
    let size = o.needed_sizes::<N>("pool_size");
    let strides = pair(o.sizes::<N>("strides").unwrap_or(size));
    let pool = Pool {
        kind,
        size: pair(size),
        strides,
        padding: o.padding(false),
    };
    Leaf::plain(move |call| {
        call.rank_is(N + 1, takes(N))?;
        Ok(Some(Layer::Pool(pool.clone())))
    })
}

pub fn global_pool(o: &mut Options, kind: PoolKind, rank: usize) -> Leaf {
    o.channels_last();
    let keep_dims = o.bool("keepdims", false);
    Leaf::plain(move |call| {
        call.rank_is(rank, takes(rank - 1))?;
        Ok(Some(Layer::GlobalPool(GlobalPool { kind, keep_dims })))
    })
}

pub fn upsample(o: &mut Options) -> Leaf {
    o.channels_last();
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
    Leaf::plain(move |call| {
        call.rank_is(3, takes(2))?;
        Ok(Some(Layer::Upsample(Upsample {
            factor,
            interpolation,
        })))
    })
}

pub fn zero_pad(o: &mut Options) -> Leaf {
    o.channels_last();
    let sides = match o.value("padding") {
        None => Err(missing("padding")),
        Some(value) => borders(value).ok_or_else(|| {
            unsupported("padding", value, "[[top, bottom], [left, right]] is needed")
        }),
    };
    let [[top, bottom], [left, right]] = o.or_record(sides, [[0; 2]; 2]);
    Leaf::plain(move |call| {
        call.rank_is(3, takes(2))?;
        Ok(Some(Layer::ZeroPad(ZeroPad {
            top,
            bottom,
            left,
            right,
        })))
    })
}

/// Parses a padding: one number for all sides, one per dimension, or two per dimension.
fn borders(value: &Value) -> Option<[[usize; 2]; 2]> {
    let count = |v: &Value| usize::try_from(v.as_u64()?).ok();
    let sides = |v: &Value| match v.as_array().map(Vec::as_slice) {
        Some([a, b]) => Some([count(a)?, count(b)?]),
        Some(_) => None,
        None => count(v).map(|n| [n, n]),
    };
    match value.as_array().map(Vec::as_slice) {
        Some([rows, columns]) => Some([sides(rows)?, sides(columns)?]),
        Some(_) => None,
        None => Some([sides(value)?; 2]),
    }
}
