//! Convolutions, pooling, upsampling and padding of three dimensions.
//!
//! All but the convolution consist of the same operation on the images and then along the depth.

use super::spatial::{ConvOptions, borders, needed_borders, takes};
use super::{Leaf, Operand, Part, Parts, permute};
use crate::keras::options::{Options, missing, unsupported};
use crate::nn::layers::windows::extent;
use crate::nn::layers::{
    Conv3d, GlobalPool, InsertAxis, Interpolation, Layer, Padding, Pool, PoolKind, Upsample,
    ZeroPad,
};

/// Number of dimensions of an input.
const RANK: usize = 4;

pub fn conv(o: &mut Options) -> Leaf {
    let options = ConvOptions::<3>::read(o);
    check_places(
        o,
        options.padding,
        options.kernel,
        options.strides,
        options.dilation,
    );
    options.leaf(o, |options, kernel, bias| {
        Layer::Conv3d(Conv3d {
            kernel,
            bias,
            strides: options.strides,
            dilation: options.dilation,
            padding: options.padding,
            activation: options.activation,
        })
    })
}

/// Refuses same padding with strides of the window's extent and two more: TensorFlow's kernels for the CPU then skip the
/// first samples of an input whose length is a multiple of the strides, and those for the GPU do not. Keras 3 stores models
/// for all backends.
fn check_places(
    o: &mut Options,
    padding: Padding,
    size: [usize; 3],
    strides: [usize; 3],
    dilation: [usize; 3],
) {
    let skips = (0..3).any(|axis| strides[axis] >= extent(size[axis], dilation[axis]) + 2);
    if skips && padding == Padding::Same && o.dialect.keras3.is_none() {
        o.problem(format!(
            "with strides {strides:?} over windows of {size:?} and same padding, TensorFlow's kernels for the CPU and the GPU read different samples; use smaller strides, or valid padding"
        ));
    }
}

/// Returns the parts that apply `images` to every image and then `depth` to `[depth, width, channels]` at every
/// height.
fn in_turn(images: Layer, depth: Layer) -> Vec<Part> {
    let swap = || permute(&[1, 0, 2, 3]);
    let mut parts = Parts::default();
    let images = parts.add_to_each(images, Operand::Input(0));
    let rows = parts.add(swap(), &[images]);
    let rows = parts.add_to_each(depth, rows);
    parts.add(swap(), &[rows]);
    parts.0
}

pub fn pool(o: &mut Options, kind: PoolKind) -> Leaf {
    let first = o.channels_first();
    let size = o.needed_sizes::<3>("pool_size");
    let strides = o.sizes::<3>("strides").unwrap_or(size);
    let padding = o.padding(false);
    check_places(o, padding, size, strides, [1; 3]);
    let over = move |size: [usize; 2], strides: [usize; 2]| {
        Layer::Pool(Pool {
            kind,
            size,
            strides,
            padding,
        })
    };
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(RANK, takes(3))?;
        // The mean of the means: as many samples lie in every image of a window.
        Ok(in_turn(
            over([size[1], size[2]], [strides[1], strides[2]]),
            over([size[0], 1], [strides[0], 1]),
        ))
    });
    leaf.in_layout(first, RANK, true)
}

pub fn global_pool(o: &mut Options, kind: PoolKind) -> Leaf {
    let first = o.channels_first();
    let keep_dims = o.bool("keepdims", false);
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(RANK, takes(3))?;
        let pool = || {
            Layer::GlobalPool(GlobalPool {
                kind,
                keep_dims: false,
            })
        };
        let mut parts = Parts::default();
        let by_image = parts.add_to_each(pool(), Operand::Input(0));
        let pooled = parts.add(pool(), &[by_image]);
        if keep_dims {
            let axis = || Layer::InsertAxis(InsertAxis { axis: 0 });
            parts.add_chain(pooled, [axis(), axis(), axis()]);
        }
        Ok(parts.0)
    });
    leaf.in_layout(first, RANK, keep_dims)
}

pub fn upsample(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let factor = o.needed_sizes::<3>("size");
    let by = |factor: [usize; 2]| {
        Layer::Upsample(Upsample {
            factor,
            interpolation: Interpolation::Nearest,
        })
    };
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(RANK, takes(3))?;
        Ok(in_turn(by([factor[1], factor[2]]), by([factor[0], 1])))
    });
    leaf.in_layout(first, RANK, true)
}

pub fn zero_pad(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    let sides = match o.value("padding") {
        None => Err(missing("padding")),
        Some(value) => {
            borders::<3>(value).ok_or_else(|| unsupported("padding", value, needed_borders(3)))
        }
    };
    let [depth, rows, columns] = o.or_record(sides, [[0; 2]; 3]);
    let around = |[top, bottom]: [usize; 2], [left, right]: [usize; 2]| {
        Layer::ZeroPad(ZeroPad {
            top,
            bottom,
            left,
            right,
        })
    };
    let leaf = Leaf::composed(Vec::new(), move |call| {
        call.rank_is(RANK, takes(3))?;
        Ok(in_turn(around(rows, columns), around(depth, [0; 2])))
    });
    leaf.in_layout(first, RANK, true)
}
