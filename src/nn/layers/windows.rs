//! Geometry of convolution and pooling windows.

use serde::{Deserialize, Serialize};

use super::shapes::{Problem, spatial};
use crate::nn::limits::MAX_ELEMENTS;

/// Padding at the borders of a windowed layer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// No padding: `floor((n - extent) / stride) + 1` outputs.
    Valid,
    /// `ceil(n / stride)` outputs; the padding is split evenly, an odd sample goes to the end.
    /// Convolutions pad with zeros; pooling excludes the padding from the maximum and from the
    /// mean's count.
    Same,
    /// `extent - 1` zeros at the start (one-dimensional convolutions only).
    Causal,
}

/// Returns the number of samples that a window of `size` with `dilation` spans.
pub(crate) fn extent(size: usize, dilation: usize) -> usize {
    (size - 1) * dilation + 1
}

/// Returns the output length of a window over `n` samples and the padding before the first sample,
/// or `None` if there is no output. `extent` and `stride` are positive.
pub(in crate::nn) fn window(
    n: usize,
    extent: usize,
    stride: usize,
    padding: Padding,
) -> Option<(usize, usize)> {
    let (length, before) = match padding {
        Padding::Valid => ((n.checked_sub(extent)?) / stride + 1, 0),
        Padding::Causal => ((n - 1) / stride + 1, extent - 1),
        Padding::Same => {
            let length = n.div_ceil(stride);
            let needed = ((length - 1) * stride + extent).saturating_sub(n);
            (length, needed / 2)
        }
    };
    Some((length, before))
}

/// Returns the number of samples with the zeros that windows of `extent` read before and behind them.
pub(super) fn padded(n: usize, extent: usize, stride: usize, padding: Padding) -> usize {
    match window(n, extent, stride, padding) {
        Some((length, before)) if padding != Padding::Valid => {
            ((length - 1) * stride + extent).max(before + n)
        }
        _ => n,
    }
}

/// Returns the spatial output shape of windows over `x`, after checking their options.
pub(super) fn windowed(
    x: &[usize],
    size: [usize; 2],
    strides: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
) -> Result<[usize; 2], Problem> {
    let (pixels, _) = spatial(x)?;
    let one_dimensional = x.len() == 2;
    if one_dimensional && (size[1] != 1 || strides[1] != 1 || dilation[1] != 1) {
        return Err(format!(
            "its window has two dimensions, its input {x:?} one"
        ));
    }
    if padding == Padding::Causal && !one_dimensional {
        return Err(format!("causal padding needs [time, channels], not {x:?}"));
    }
    window_lengths(pixels, size, strides, dilation, padding)
}

/// Returns the output length along every spatial dimension, after checking the options.
pub(super) fn window_lengths<const N: usize>(
    samples: [usize; N],
    size: [usize; N],
    strides: [usize; N],
    dilation: [usize; N],
    padding: Padding,
) -> Result<[usize; N], Problem> {
    for v in size.into_iter().chain(strides).chain(dilation) {
        if !(1..=MAX_ELEMENTS).contains(&v) {
            return Err(format!(
                "size {size:?}, strides {strides:?}, dilation {dilation:?}"
            ));
        }
    }
    let mut out = [0; N];
    for (axis, n) in samples.into_iter().enumerate() {
        let span = (size[axis] - 1)
            .checked_mul(dilation[axis])
            .filter(|&s| s < MAX_ELEMENTS)
            .ok_or("the window is too large")?
            + 1;
        out[axis] = window(n, span, strides[axis], padding)
            .ok_or_else(|| format!("a window of {span} does not fit into {n} samples"))?
            .0;
    }
    Ok(out)
}
