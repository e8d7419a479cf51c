//! Minimum arithmetic and memory traffic of a launch, derived from its arguments.

use super::driver::{Arg, Launch};
use super::sources::names;

/// Minimum work of a launch, independent of its implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// `f32` operations, a multiply-add counting two and a function such as `tanh` one.
    /// [`cost::flops`](crate::nn::cost::flops) uses the same rules; products with zero padding are
    /// included. `None` if unknown.
    pub flops: Option<u64>,
    /// Bytes of the inputs, weights and outputs; each element in use counts once.
    pub bytes: u64,
    /// True if `bytes` is exact. Otherwise it is an upper bound: all bytes from the kernel's
    /// pointer arguments to the ends of their buffers.
    pub exact: bool,
}

impl Work {
    /// Returns the work of a launch; `behind` returns the bytes from an address to the end of its
    /// buffer.
    pub fn of(launch: &Launch, behind: impl Fn(u64) -> u64) -> Self {
        match counted(launch) {
            Some((flops, numbers)) => Self {
                flops: Some(flops),
                bytes: 4 * numbers,
                exact: true,
            },
            None => Self {
                flops: None,
                bytes: launch.args.iter().flat_map(pointers).map(behind).sum(),
                exact: false,
            },
        }
    }
}

/// Returns the addresses in an argument. A struct's pointers come first; its other members are
/// smaller than any address.
fn pointers(arg: &Arg) -> Vec<u64> {
    match arg {
        Arg::Pointer(address) => vec![*address],
        Arg::Struct(words) => words.clone(),
        _ => Vec::new(),
    }
}

/// Returns operations and 32-bit elements of the kernels whose arguments determine them.
fn counted(launch: &Launch) -> Option<(u64, u64)> {
    let args = &*launch.args;
    let at = |i: usize| number(args.get(i)?);
    let sizes = |i: usize| u32_members(args.get(i)?);
    // The last argument of most kernels is the number of output elements.
    let last = number(args.last()?);
    Some(match launch.kernel {
        names::CONV | names::CONV_TILED | names::CONV_5_OF_1 | names::CONV_3_OF_1 => {
            convolution(args.first()?)?
        }
        names::DENSE_WIDE | names::DENSE_NARROW => dense(args.first()?)?,
        names::RECURRENT | names::LSTM_64 | names::LSTM_32 | names::GRU_48 => {
            recurrent(args.first()?)?
        }
        names::ACTIVATE | names::MAP => (last?, 2 * last?),
        names::SCALE_SHIFT => (2 * last?, 2 * last? + 2 * at(4)?),
        names::PRELU => (2 * last?, 2 * last? + at(3)?),
        names::SPATIAL_MULTIPLY => (last?, 2 * last? + last?.checked_div(at(3)?)?),
        names::CHANNEL_MULTIPLY => {
            let factors = last?.checked_div(at(3)?)? * at(4)?;
            (last?, 2 * last? + factors)
        }
        names::REVERSE | names::PERMUTE | names::PLACE | names::SLICE => (0, 2 * last?),
        names::REPEAT => (0, last? + last?.checked_div(at(2)?)?),
        names::SOFTMAX_ROWS | names::SOFTMAX_AXIS => {
            let all = at(2)? * last?;
            (3 * all, 2 * all)
        }
        names::SUM_AXIS | names::MEAN_AXIS => {
            let all = at(2)? * last?;
            (all, all + last?)
        }
        names::GLOBAL_POOL => {
            let all = at(3)? * last?;
            (all, all + last?)
        }
        names::MERGE => {
            let [_, item, a, b, ..] = sizes(3)?;
            (last?, last?.checked_div(item)? * (item + a + b))
        }
        names::POOL => {
            let [height, width, channels, down, across, rows, columns, ..] = sizes(2)?;
            let items = last?.checked_div(down * across * channels)?;
            let input = items * height * width * channels;
            (last? * rows * columns, last? + input)
        }
        names::UPSAMPLE | names::ZERO_PAD => {
            let [height, width, channels, down, across, ..] = sizes(2)?;
            let items = last?.checked_div(down * across * channels)?;
            let each = if launch.kernel == names::UPSAMPLE {
                6
            } else {
                0
            };
            (each * last?, last? + items * height * width * channels)
        }
        names::UPSAMPLE_MULTIPLY => {
            let [height, width, channels, down, across, ..] = sizes(3)?;
            let maps = at(7)?;
            let pixels = last?.checked_div(maps.div_ceil(4))?;
            let items = pixels.checked_div(down * across)?;
            let input = items * height * width * channels;
            (6 * pixels + pixels * maps, input + 2 * pixels * maps)
        }
        names::ATTENTION_POOL => {
            let [n, width, _, _, scores, weights, ..] = sizes(4)?;
            let items = u64::from(launch.grid[0]).checked_div(width.div_ceil(32))?;
            let given_out = match args.get(2)? {
                Arg::Pointer(0) => 0,
                _ => n * weights,
            };
            // Softmax, product and sum of each element.
            let numbers = scores + n * width + given_out + width;
            (items * 5 * n * width, items * numbers)
        }
        _ => return None,
    })
}

fn number(arg: &Arg) -> Option<u64> {
    match arg {
        Arg::U32(n) => Some(u64::from(*n)),
        _ => None,
    }
}

/// Members of a struct of 32-bit integers, padded with zeros.
fn u32_members(arg: &Arg) -> Option<[u64; 8]> {
    let Arg::Words(all) = arg else { return None };
    let mut words = all
        .iter()
        .map(|&n| u64::from(n))
        .chain(std::iter::repeat(0));
    Some(std::array::from_fn(|_| words.next().unwrap_or(0)))
}

/// Returns, for each pointer of a struct, whether it is null, followed by the struct's 32-bit
/// members.
fn members(arg: &Arg, pointers: usize) -> Option<(Vec<bool>, Vec<u64>)> {
    let Arg::Struct(all) = arg else { return None };
    let (first, rest) = all.split_at_checked(pointers)?;
    let nulls = first.iter().map(|&p| p == 0).collect();
    let halves = |w: &u64| [*w & 0xffff_ffff, *w >> 32];
    Some((nulls, rest.iter().flat_map(halves).collect()))
}

/// Work of the convolution kernels (struct `Arguments` in conv.cuh).
fn convolution(arg: &Arg) -> Option<(u64, u64)> {
    let (nulls, words) = members(arg, 7)?;
    let [
        items,
        height,
        width,
        channels,
        out_height,
        out_width,
        out,
        rows,
        columns,
        ..,
    ] = *words
    else {
        return None;
    };
    let &[relu, affine, relu_last, pool, copies] = words.get(15..20)? else {
        return None;
    };
    let outputs = items * out_height * out_width * out;
    let terms = rows * columns * channels;
    let pooled = items * (out_height / 2) * (out_width / 2) * out;
    let flops = outputs * (2 * terms + 1 + relu + 2 * affine + relu_last) + pool * 4 * pooled;
    let factors = if nulls[1] { 0 } else { items * channels };
    let input = items / copies.max(1) * height * width * channels;
    let weights = terms * out + out * (1 + 2 * affine);
    let written = if pool == 0 { outputs } else { pooled };
    Some((flops, input + factors + weights + written))
}

/// Work of the dense kernels (struct `Arguments` in dense.cu).
fn dense(arg: &Arg) -> Option<(u64, u64)> {
    let (nulls, words) = members(arg, 4)?;
    let &[rectify, rows, inputs, units] = words.get(..4)? else {
        return None;
    };
    let bias = u64::from(!nulls[2]);
    Some((
        rows * units * (2 * inputs + bias + rectify),
        rows * inputs + inputs * units + bias * units + rows * units,
    ))
}

/// Work of the recurrent kernels (struct `Arguments` in recurrent.cu), without the input products,
/// which are a separate kernel.
fn recurrent(arg: &Arg) -> Option<(u64, u64)> {
    let (nulls, words) = members(arg, 5)?;
    let &[cell, items, time, units, sequences, ..] = &*words else {
        return None;
    };
    let width = units * if cell == 0 { 4 } else { 3 };
    let steps = items * time;
    let bias = if nulls[2] { 0 } else { width };
    let written = units * if sequences == 0 { items } else { steps };
    Some((
        steps * (2 * units * width + 3 * width),
        steps * width + units * width + bias + written,
    ))
}
