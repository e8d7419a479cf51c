//! Windowed and global pooling.

use crate::nn::layers::windows::window;
use crate::nn::layers::{Pool, PoolKind};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::{Isa, Kernel};

/// A pooling layer with everything that does not depend on the data.
#[derive(Debug, Clone)]
pub(crate) struct PoolPlan {
    kind: PoolKind,
    input: [usize; 3],
    output: [usize; 2],
    before: [usize; 2],
    size: [usize; 2],
    strides: [usize; 2],
}

impl PoolPlan {
    /// Plans a validated layer for its input's shape.
    pub fn new(pool: &Pool, input: &[usize]) -> Self {
        let (height, width, channels) = match *input {
            [time, channels] => (time, 1, channels),
            [height, width, channels] => (height, width, channels),
            _ => unreachable!("validated input"),
        };
        let mut plan = Self {
            kind: pool.kind,
            input: [height, width, channels],
            output: [0; 2],
            before: [0; 2],
            size: pool.size,
            strides: pool.strides,
        };
        for axis in 0..2 {
            let n = plan.input[axis];
            let (length, before) = window(n, pool.size[axis], pool.strides[axis], pool.padding)
                .expect("validated shape");
            plan.output[axis] = length;
            plan.before[axis] = before;
        }
        plan
    }

    /// Returns the window size if this is max pooling whose windows neither overlap nor reach
    /// padding, else `None`.
    pub fn non_overlapping_max(&self) -> Option<[usize; 2]> {
        let fits = |axis: usize| {
            self.before[axis] == 0 && self.output[axis] * self.size[axis] <= self.input[axis]
        };
        let plain = self.kind == PoolKind::Max && self.strides == self.size;
        (plain && fits(0) && fits(1)).then_some(self.size)
    }

    /// Returns rows, columns and channels of an image.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    pub fn run(&self, isa: Isa, input: &[f32], output: &mut [f32]) {
        if let Some(size) = self.non_overlapping_max() {
            let [height, width, channels] = self.input;
            let [rows, columns] = self.output;
            let images = input.chunks_exact(height * width * channels);
            for (image, out) in images.zip(output.chunks_exact_mut(rows * columns * channels)) {
                max_pool_rows(isa, size, width, channels, image, out);
            }
            return;
        }
        isa.dispatch(Run {
            plan: self,
            input,
            output,
        });
    }

    /// Returns the input range covered by window `i` along `axis`.
    #[inline(always)]
    fn range(&self, axis: usize, i: usize) -> std::ops::Range<usize> {
        let start = i * self.strides[axis];
        let from = start.saturating_sub(self.before[axis]);
        let to = (start + self.size[axis]).saturating_sub(self.before[axis]);
        from..to.min(self.input[axis])
    }
}

struct Run<'a> {
    plan: &'a PoolPlan,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let plan = self.plan;
        let [height, width, channels] = plan.input;
        let mut outputs = self.output.chunks_exact_mut(channels);
        for image in self.input.chunks_exact(height * width * channels) {
            for oy in 0..plan.output[0] {
                for ox in 0..plan.output[1] {
                    let out = outputs.next().expect("one output per window");
                    let (rows, columns) = (plan.range(0, oy), plan.range(1, ox));
                    let count = rows.len() * columns.len();
                    let pixels = rows.flat_map(|y| columns.clone().map(move |x| y * width + x));
                    pool(plan.kind, image, channels, pixels, count, out);
                }
            }
        }
    }
}

/// Pools the given pixels of an image, channel by channel.
#[inline(always)]
fn pool(
    kind: PoolKind,
    image: &[f32],
    channels: usize,
    pixels: impl Iterator<Item = usize>,
    count: usize,
    out: &mut [f32],
) {
    match kind {
        PoolKind::Max => {
            out.fill(f32::NEG_INFINITY);
            for pixel in pixels {
                for (o, &x) in out.iter_mut().zip(&image[pixel * channels..][..channels]) {
                    *o = if x > *o { x } else { *o };
                }
            }
        }
        PoolKind::Average => {
            out.fill(0.0);
            for pixel in pixels {
                for (o, &x) in out.iter_mut().zip(&image[pixel * channels..][..channels]) {
                    *o += x;
                }
            }
            let count = count as f32;
            for o in out {
                *o /= count;
            }
        }
    }
}

/// Max-pools rows of `width` pixels over non-overlapping windows of `size`. Incomplete windows are
/// dropped.
pub(crate) fn max_pool_rows(
    isa: Isa,
    size: [usize; 2],
    width: usize,
    channels: usize,
    input: &[f32],
    output: &mut [f32],
) {
    isa.dispatch(MaxRows {
        size,
        width,
        channels,
        input,
        output,
    });
}

struct MaxRows<'a> {
    size: [usize; 2],
    width: usize,
    channels: usize,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for MaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let [height, width] = self.size;
        let channels = self.channels;
        let pitch = self.width * channels;
        let bands = self.input.chunks_exact(height * pitch);
        let lines = self.output.chunks_exact_mut(self.width / width * channels);
        for (band, line) in bands.zip(lines) {
            if (height, width) == (2, 2) {
                let (top, bottom) = band.split_at(pitch);
                match channels {
                    HALF => max_of_half_blocks::<V>(top, bottom, line),
                    16 => max_of_fours::<V, 16>(top, bottom, line),
                    32 => max_of_fours::<V, 32>(top, bottom, line),
                    64 => max_of_fours::<V, 64>(top, bottom, line),
                    _ => {
                        let tops = top.chunks_exact(2 * channels);
                        let pairs = tops.zip(bottom.chunks_exact(2 * channels));
                        for ((top, bottom), out) in pairs.zip(line.chunks_exact_mut(channels)) {
                            max_of_four::<V>(top, bottom, out);
                        }
                    }
                }
                continue;
            }
            for (x, out) in line.chunks_exact_mut(channels).enumerate() {
                let rows = (0..height).map(|y| y * pitch / channels + x * width);
                let pixels = rows.flat_map(|from| from..from + width);
                pool(PoolKind::Max, band, channels, pixels, height * width, out);
            }
        }
    }
}

/// Runs [`max_of_four`] along two rows of pixels of `CHANNELS` channels. The constant length lets
/// the compiler unroll it.
#[inline(always)]
fn max_of_fours<V: Lanes, const CHANNELS: usize>(top: &[f32], bottom: &[f32], out: &mut [f32]) {
    let top = top.as_chunks::<CHANNELS>().0.as_chunks::<2>().0;
    let bottom = bottom.as_chunks::<CHANNELS>().0.as_chunks::<2>().0;
    let out = out.as_chunks_mut::<CHANNELS>().0;
    for ((top, bottom), out) in top.iter().zip(bottom).zip(out) {
        max_of_four::<V>(top.as_flattened(), bottom.as_flattened(), out);
    }
}

/// Half a block of lanes.
const HALF: usize = LANES / 2;

/// Runs [`max_of_four`] along two rows of pixels of half a block of channels. The other half of the
/// lanes belongs to the next pixel, whose own store overwrites it.
#[inline(always)]
fn max_of_half_blocks<V: Lanes>(top: &[f32], bottom: &[f32], out: &mut [f32]) {
    let last = (out.len() / HALF).saturating_sub(1);
    let lowest = V::load(&[f32::NEG_INFINITY; LANES]);
    let block = |row: &[f32], from: usize| {
        V::load(row[from..].first_chunk().expect("there is one more pixel"))
    };
    for x in 0..last {
        let (left, right) = (2 * HALF * x, 2 * HALF * x + HALF);
        let most = block(top, left).max(lowest);
        let most = block(top, right).max(most);
        let most = block(bottom, left).max(most);
        let most = block(bottom, right).max(most);
        let out = out[HALF * x..].first_chunk_mut();
        most.store(out.expect("there is one more pixel"));
    }
    let pixels = 2 * HALF * last..2 * HALF * (last + 1);
    max_of_four::<V>(
        &top[pixels.clone()],
        &bottom[pixels],
        &mut out[HALF * last..],
    );
}

/// Computes the maximum of 2 x 2 pixels in the order of [`pool`].
#[inline(always)]
fn max_of_four<V: Lanes>(top: &[f32], bottom: &[f32], out: &mut [f32]) {
    let larger = |m: f32, x: f32| if x > m { x } else { m };
    let most = |pixels: [f32; 4]| pixels.into_iter().fold(f32::NEG_INFINITY, larger);
    let (a, b) = top.split_at(out.len());
    let (c, d) = bottom.split_at(out.len());
    let lowest = V::load(&[f32::NEG_INFINITY; LANES]);
    let whole = a
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(b.as_chunks::<LANES>().0);
    let whole = whole
        .zip(c.as_chunks::<LANES>().0)
        .zip(d.as_chunks::<LANES>().0);
    for ((((a, b), c), d), out) in whole.zip(out.as_chunks_mut::<LANES>().0) {
        let most = V::load(a).max(lowest);
        let most = V::load(c).max(V::load(b).max(most));
        V::load(d).max(most).store(out);
    }
    for i in out.len() / LANES * LANES..out.len() {
        out[i] = most([a[i], b[i], c[i], d[i]]);
    }
}

/// Pools all `pixels` pixels of each item into one.
pub(crate) fn global_pool(
    kind: PoolKind,
    pixels: usize,
    channels: usize,
    input: &[f32],
    output: &mut [f32],
) {
    let images = input.chunks_exact(pixels * channels);
    for (image, out) in images.zip(output.chunks_exact_mut(channels)) {
        pool(kind, image, channels, 0..pixels, pixels, out);
    }
}
