//! Layers that move, repeat or interpolate elements.

use super::op::{OpCall, PlainOp};
use crate::nn::layers::{Interpolation, Resize, Upsample};
use crate::simd::mul_add;

/// Transposes `[.., dims, ..]` so that output dimension `i` is input dimension `order[i]`.
pub(crate) fn permute(shape: &[usize], order: &[usize], input: &[f32], output: &mut [f32]) {
    let item: usize = shape.iter().product();
    let stride = |dim: usize| shape[dim + 1..].iter().product::<usize>();
    for (source, target) in input.chunks_exact(item).zip(output.chunks_exact_mut(item)) {
        let mut target = target.iter_mut();
        copy_dimension(shape, order, &stride, source, 0, &mut target);
    }
}

fn copy_dimension<'a>(
    shape: &[usize],
    order: &[usize],
    stride: &impl Fn(usize) -> usize,
    source: &[f32],
    at: usize,
    target: &mut impl Iterator<Item = &'a mut f32>,
) {
    let Some((&dim, rest)) = order.split_first() else {
        if let Some(t) = target.next() {
            *t = source[at];
        }
        return;
    };
    let step = stride(dim);
    if rest.is_empty() {
        for (i, t) in (0..shape[dim]).zip(target) {
            *t = source[at + i * step];
        }
        return;
    }
    for i in 0..shape[dim] {
        copy_dimension(shape, rest, stride, source, at + i * step, target);
    }
}

/// Reverses the order of the rows of each item `[rows, width]`.
pub(crate) fn reverse(rows: usize, width: usize, input: &[f32], output: &mut [f32]) {
    let items = input.chunks_exact(rows * width);
    for (source, target) in items.zip(output.chunks_exact_mut(rows * width)) {
        for (s, t) in source
            .chunks_exact(width)
            .rev()
            .zip(target.chunks_exact_mut(width))
        {
            t.copy_from_slice(s);
        }
    }
}

/// Repeats each row of `width` elements `count` times.
pub(crate) fn repeat(count: usize, width: usize, input: &[f32], output: &mut [f32]) {
    let rows = input.chunks_exact(width);
    for (row, copies) in rows.zip(output.chunks_exact_mut(width * count)) {
        for copy in copies.chunks_exact_mut(width) {
            copy.copy_from_slice(row);
        }
    }
}

/// Copies rows of `width` elements into output rows of `total` elements, at column `at`.
pub(crate) fn scatter(width: usize, total: usize, at: usize, input: &[f32], output: &mut [f32]) {
    let rows = input.chunks_exact(width);
    for (row, out) in rows.zip(output.chunks_exact_mut(total)) {
        out[at..at + width].copy_from_slice(row);
    }
}

/// Pads images `[height, width, channels]` with zeros to `size` rows and columns.
pub(crate) fn zero_pad(
    image: [usize; 3],
    size: [usize; 2],
    [top, left]: [usize; 2],
    input: &[f32],
    output: &mut [f32],
) {
    let [height, width, channels] = image;
    output.fill(0.0);
    let images = input.chunks_exact(height * width * channels);
    let targets = output.chunks_exact_mut(size[0] * size[1] * channels);
    for (source, target) in images.zip(targets) {
        for (y, row) in source.chunks_exact(width * channels).enumerate() {
            let at = ((top + y) * size[1] + left) * channels;
            target[at..at + row.len()].copy_from_slice(row);
        }
    }
}

/// Interpolation of one output row or column: two source positions and the weight of the second.
#[derive(Debug, Clone, Copy)]
struct Tap {
    lower: usize,
    upper: usize,
    fraction: f32,
}

/// Interpolation of the rows and columns of images.
#[derive(Debug, Clone)]
pub(crate) struct InterpolationPlan {
    image: [usize; 3],
    rows: Vec<Tap>,
    columns: Vec<Tap>,
}

impl InterpolationPlan {
    pub fn upsample(layer: &Upsample, image: [usize; 3]) -> Self {
        let length = |axis: usize| image[axis] * layer.factor[axis];
        Self::new(image, [length(0), length(1)], |axis, i| {
            tap(i, image[axis], layer.factor[axis], layer.interpolation)
        })
    }

    pub fn resize(layer: &Resize, image: [usize; 3]) -> Self {
        Self::new(image, layer.size, |axis, i| {
            let n = image[axis];
            match layer.bilinear {
                true => {
                    let scale = n as f32 / layer.size[axis] as f32;
                    between((i as f32 + 0.5) * scale - 0.5, n)
                }
                false => between(layer.nearest(axis, i, n) as f32, n),
            }
        })
    }

    fn new(image: [usize; 3], size: [usize; 2], tap: impl Fn(usize, usize) -> Tap) -> Self {
        let taps = |axis: usize| (0..size[axis]).map(|i| tap(axis, i)).collect();
        Self {
            image,
            rows: taps(0),
            columns: taps(1),
        }
    }

    fn run(&self, input: &[f32], output: &mut [f32]) {
        let [height, width, channels] = self.image;
        let mut outputs = output.chunks_exact_mut(channels);
        for image in input.chunks_exact(height * width * channels) {
            let pixel = |y: usize, x: usize| &image[(y * width + x) * channels..][..channels];
            for row in &self.rows {
                for column in &self.columns {
                    let out = outputs.next().expect("one output per pair of taps");
                    let (tl, tr) = (
                        pixel(row.lower, column.lower),
                        pixel(row.lower, column.upper),
                    );
                    let (bl, br) = (
                        pixel(row.upper, column.lower),
                        pixel(row.upper, column.upper),
                    );
                    for (c, o) in out.iter_mut().enumerate() {
                        let top = mul_add(tr[c] - tl[c], column.fraction, tl[c]);
                        let bottom = mul_add(br[c] - bl[c], column.fraction, bl[c]);
                        *o = mul_add(bottom - top, row.fraction, top);
                    }
                }
            }
        }
    }
}

impl PlainOp for InterpolationPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        self.run((call.input)(0), call.output);
    }
}

fn tap(i: usize, n: usize, factor: usize, interpolation: Interpolation) -> Tap {
    let source = match interpolation {
        Interpolation::Nearest => (i / factor) as f32,
        Interpolation::BilinearLegacy => i as f32 / factor as f32,
        Interpolation::BilinearHalfPixel => (i as f32 + 0.5) / factor as f32 - 0.5,
    };
    between(source, n)
}

/// Returns the tap for a place between two of `n` samples, or outside of them.
fn between(source: f32, n: usize) -> Tap {
    let floor = source.floor();
    Tap {
        lower: (floor.max(0.0) as usize).min(n - 1),
        upper: ((floor + 1.0) as usize).min(n - 1),
        fraction: source - floor,
    }
}
