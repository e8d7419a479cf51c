//! Checks that the shape rules share.

use crate::nn::weight::{Weight, WeightId};

/// A problem of one node; the caller adds the node's name.
pub(in crate::nn) type Problem = String;

/// Returns the number of elements of a shape.
pub(super) fn count(shape: &[usize]) -> u64 {
    shape.iter().product::<usize>() as u64
}

/// Formats a shape with `?` for its open dimensions.
pub(in crate::nn) fn open_shape(shape: &[Option<usize>]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|d| d.map_or("?".into(), |d| d.to_string()))
        .collect();
    format!("[{}]", dims.join(", "))
}

/// Returns the input of a layer with exactly one.
pub(super) fn single<'a>(inputs: &[&'a [usize]]) -> Result<&'a [usize], Problem> {
    match *inputs {
        [x] => Ok(x),
        _ => Err(format!("it takes one input, not {}", inputs.len())),
    }
}

/// Returns the first of the numbers of dimensions, that of most layers' output.
pub(super) fn first_rank(inputs: &[usize]) -> usize {
    inputs.first().copied().unwrap_or(0)
}

/// Names the weights of a normalisation that are present.
pub(super) fn scale_and_shift(
    gamma: Option<WeightId>,
    beta: Option<WeightId>,
) -> impl Iterator<Item = (&'static str, WeightId)> {
    let named = [("gamma", gamma), ("beta", beta)].into_iter();
    named.filter_map(|(name, id)| id.map(|id| (name, id)))
}

/// Checks what a normalisation adds to the variance.
pub(super) fn positive_epsilon(epsilon: f32) -> Result<(), Problem> {
    match epsilon.is_finite() && epsilon > 0.0 {
        true => Ok(()),
        false => Err(format!("epsilon is {epsilon}")),
    }
}

/// Returns the length of the last dimension.
pub(super) fn last(x: &[usize]) -> Result<usize, Problem> {
    x.last()
        .copied()
        .ok_or_else(|| "its input is a single number".into())
}

/// Returns the length of dimension `axis`.
pub(super) fn axis_of(axis: usize, x: &[usize]) -> Result<usize, Problem> {
    x.get(axis)
        .copied()
        .ok_or_else(|| format!("axis {axis} is not one of {x:?}"))
}

/// Returns height, width and channels.
pub(super) fn image(x: &[usize]) -> Result<[usize; 3], Problem> {
    x.try_into()
        .map_err(|_| format!("it takes [height, width, channels], not {x:?}"))
}

/// Returns height, width (1 for a sequence) and channels.
pub(in crate::nn) fn spatial(x: &[usize]) -> Result<([usize; 2], usize), Problem> {
    match *x {
        [time, channels] => Ok(([time, 1], channels)),
        [height, width, channels] => Ok(([height, width], channels)),
        _ => Err(format!(
            "it takes [time, channels] or [height, width, channels], not {x:?}"
        )),
    }
}

/// Returns the shape `x` with other spatial dimensions and channels.
pub(super) fn with_spatial(x: &[usize], out: [usize; 2], channels: usize) -> Vec<usize> {
    match x.len() {
        2 => vec![out[0], channels],
        _ => vec![out[0], out[1], channels],
    }
}

/// Checks the shape of a weight.
pub(super) fn expect(part: &str, weight: &Weight, shape: &[usize]) -> Result<(), Problem> {
    if weight.shape == shape {
        return Ok(());
    }
    Err(format!(
        "its {part} ({}) has shape {:?}, {shape:?} is needed",
        weight.name, weight.shape
    ))
}

/// Returns the weights of a layer with a kernel and perhaps a bias, each with its parameter name.
pub(super) fn kernel_and_bias(
    kernel: WeightId,
    bias: Option<WeightId>,
) -> Vec<(&'static str, WeightId)> {
    let bias = bias.map(|id| ("bias", id));
    std::iter::once(("kernel", kernel)).chain(bias).collect()
}

/// Returns the shape `x` without dimension `axis`; at least one other dimension is needed.
pub(super) fn without_axis(axis: usize, x: &[usize]) -> Result<Vec<usize>, Problem> {
    axis_of(axis, x)?;
    if x.len() < 2 {
        return Err(format!("nothing of {x:?} would be left"));
    }
    let mut shape = x.to_vec();
    shape.remove(axis);
    Ok(shape)
}

/// Returns the broadcast shape; dimensions are aligned at the last one, and length 1 is stretched.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}
