//! Shape rules: the output shape of each layer.

use super::{Problem, open_shape};
use crate::nn::graph::{Graph, MAX_ELEMENTS, Weight, WeightId};
use crate::nn::layer::{Conv, Layer, MergeOp, Padding, Pool, Recurrent};

/// Returns the output shape of `layer`, or the reason that its inputs or weights do not fit.
pub(super) fn item_shape(
    graph: &Graph,
    layer: &Layer,
    inputs: &[&[usize]],
) -> Result<Vec<usize>, Problem> {
    let weight = |id: WeightId| &graph.weights[id.0];
    // The input of a layer with exactly one.
    let single = || match *inputs {
        [x] => Ok(x),
        _ => Err(format!("it takes one input, not {}", inputs.len())),
    };
    match layer {
        Layer::Conv(conv) => {
            conv_shape(conv, weight(conv.kernel), conv.bias.map(weight), single()?)
        }
        Layer::Pool(pool) => pool_shape(pool, single()?),
        Layer::GlobalPool { keep_dims, .. } => {
            let x = single()?;
            let (_, channels) = spatial(x)?;
            let mut shape = vec![1; if *keep_dims { x.len() - 1 } else { 0 }];
            shape.push(channels);
            Ok(shape)
        }
        Layer::Upsample { factor, .. } => {
            let [h, w, c] = image(single()?)?;
            Ok(vec![
                scaled_length(h, factor[0])?,
                scaled_length(w, factor[1])?,
                c,
            ])
        }
        Layer::ZeroPad {
            top,
            bottom,
            left,
            right,
        } => {
            let [h, w, c] = image(single()?)?;
            let h = h.checked_add(*top).and_then(|h| h.checked_add(*bottom));
            let w = w.checked_add(*left).and_then(|w| w.checked_add(*right));
            match (h, w) {
                (Some(h), Some(w)) => Ok(vec![h, w, c]),
                _ => Err("the padding is too large".into()),
            }
        }
        Layer::BatchNorm(b) => {
            let x = single()?;
            let channels = last(x)?;
            if !(b.epsilon.is_finite() && b.epsilon >= 0.0) {
                return Err(format!("epsilon is {}", b.epsilon));
            }
            for (part, id) in layer.weights() {
                expect(part, weight(id), &[channels])?;
            }
            let variance = weight(b.variance);
            match variance.data.iter().find(|&&v| v + b.epsilon <= 0.0) {
                Some(v) => Err(format!(
                    "its variance ({}) holds {v}: there is no square root of that plus epsilon {}",
                    variance.name, b.epsilon
                )),
                None => Ok(x.to_vec()),
            }
        }
        Layer::Dense { kernel, bias, .. } => {
            let x = single()?;
            let inputs = last(x)?;
            let units = weight(*kernel).shape.last().copied().unwrap_or(0);
            expect("kernel", weight(*kernel), &[inputs, units])?;
            if let Some(bias) = bias {
                expect("bias", weight(*bias), &[units])?;
            }
            Ok([&x[..x.len() - 1], &[units]].concat())
        }
        Layer::Lstm(r) => recurrent(graph, r, 4, false, single()?),
        Layer::Gru {
            recurrent: r,
            reset_after,
        } => recurrent(graph, r, 3, *reset_after, single()?),
        Layer::Flatten => Ok(vec![single()?.iter().product()]),
        Layer::Reshape { shape } => reshape(shape, single()?),
        Layer::Permute { order } => {
            let x = single()?;
            let mut seen = vec![false; x.len()];
            let valid = order.len() == x.len()
                && order
                    .iter()
                    .all(|&d| d < x.len() && !std::mem::replace(&mut seen[d], true));
            if !valid {
                return Err(format!(
                    "{order:?} is no permutation of the dimensions of {x:?}"
                ));
            }
            Ok(order.iter().map(|&d| x[d]).collect())
        }
        Layer::RepeatVector { count } => match single()? {
            [channels] => Ok(vec![*count, *channels]),
            x => Err(format!("it takes a vector, not {x:?}")),
        },
        Layer::Dropout(d) => {
            let x = single()?;
            if !(0.0..1.0).contains(&d.rate) {
                return Err(format!("rate {} is not in [0, 1)", d.rate));
            }
            last(x)?;
            Ok(x.to_vec())
        }
        Layer::Reverse | Layer::Activation(_) => {
            let x = single()?;
            last(x)?;
            Ok(x.to_vec())
        }
        Layer::Softmax { axis } => {
            let x = single()?;
            axis_of(*axis, x)?;
            Ok(x.to_vec())
        }
        Layer::PRelu { alpha } => {
            let x = single()?;
            let alpha = weight(*alpha);
            match broadcast(x, &alpha.shape) {
                Some(shape) if shape == x => Ok(shape),
                _ => Err(format!(
                    "alpha ({}) has shape {:?}, which does not fit {x:?}",
                    alpha.name, alpha.shape
                )),
            }
        }
        Layer::SumAxis { axis } => {
            let x = single()?;
            axis_of(*axis, x)?;
            if x.len() < 2 {
                return Err(format!("nothing of {x:?} would be left"));
            }
            let mut shape = x.to_vec();
            shape.remove(*axis);
            Ok(shape)
        }
        Layer::Concat { axis } => concat(*axis, inputs),
        Layer::Merge { op } => merge(*op, inputs),
        Layer::SpatialMultiply => attention(inputs, |[h, w, _]| vec![h, w, 1]),
        Layer::ChannelMultiply => attention(inputs, |[_, _, c]| vec![c]),
    }
}

fn last(x: &[usize]) -> Result<usize, Problem> {
    x.last()
        .copied()
        .ok_or_else(|| "its input is a single number".into())
}

fn axis_of(axis: usize, x: &[usize]) -> Result<usize, Problem> {
    x.get(axis)
        .copied()
        .ok_or_else(|| format!("axis {axis} is not one of {x:?}"))
}

fn scaled_length(n: usize, factor: usize) -> Result<usize, Problem> {
    n.checked_mul(factor)
        .filter(|&n| n > 0)
        .ok_or_else(|| format!("the factor {factor} does not fit length {n}"))
}

fn image(x: &[usize]) -> Result<[usize; 3], Problem> {
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

fn expect(part: &str, weight: &Weight, shape: &[usize]) -> Result<(), Problem> {
    if weight.shape == shape {
        return Ok(());
    }
    Err(format!(
        "its {part} ({}) has shape {:?}, {shape:?} is needed",
        weight.name, weight.shape
    ))
}

/// Returns the number of samples that a window of `size` with `dilation` spans.
pub(in crate::nn) fn extent(size: usize, dilation: usize) -> usize {
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

fn windowed(
    x: &[usize],
    size: [usize; 2],
    strides: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
) -> Result<[usize; 2], Problem> {
    let ([height, width], _) = spatial(x)?;
    let one_dimensional = x.len() == 2;
    for v in [size, strides, dilation].concat() {
        if !(1..=MAX_ELEMENTS).contains(&v) {
            return Err(format!(
                "size {size:?}, strides {strides:?}, dilation {dilation:?}"
            ));
        }
    }
    if one_dimensional && (size[1] != 1 || strides[1] != 1 || dilation[1] != 1) {
        return Err(format!(
            "its window has two dimensions, its input {x:?} one"
        ));
    }
    if padding == Padding::Causal && !one_dimensional {
        return Err(format!("causal padding needs [time, channels], not {x:?}"));
    }
    let mut out = [0; 2];
    for (axis, n) in [height, width].into_iter().enumerate() {
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

fn with_spatial(x: &[usize], out: [usize; 2], channels: usize) -> Vec<usize> {
    match x.len() {
        2 => vec![out[0], channels],
        _ => vec![out[0], out[1], channels],
    }
}

/// Returns kernel height, width (1 for a sequence), input channels and output channels.
pub(in crate::nn) fn conv_kernel(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [length, cin, cout] => Some([length, 1, cin, cout]),
        [height, width, cin, cout] => Some([height, width, cin, cout]),
        _ => None,
    }
}

fn conv_shape(
    conv: &Conv,
    kernel: &Weight,
    bias: Option<&Weight>,
    x: &[usize],
) -> Result<Vec<usize>, Problem> {
    let (_, channels) = spatial(x)?;
    let fits = kernel.shape.len() == x.len() + 1;
    let Some([height, width, cin, cout]) = conv_kernel(&kernel.shape).filter(|_| fits) else {
        return Err(format!(
            "its kernel ({}) has shape {:?}, which does not fit input {x:?}",
            kernel.name, kernel.shape
        ));
    };
    if cin != channels {
        return Err(format!(
            "its kernel ({}) takes {cin} channels, its input {x:?} has {channels}",
            kernel.name
        ));
    }
    if let Some(bias) = bias {
        expect("bias", bias, &[cout])?;
    }
    let out = windowed(
        x,
        [height, width],
        conv.strides,
        conv.dilation,
        conv.padding,
    )?;
    Ok(with_spatial(x, out, cout))
}

fn pool_shape(pool: &Pool, x: &[usize]) -> Result<Vec<usize>, Problem> {
    if pool.padding == Padding::Causal {
        return Err("pooling has no causal padding".into());
    }
    let (_, channels) = spatial(x)?;
    let out = windowed(x, pool.size, pool.strides, [1, 1], pool.padding)?;
    Ok(with_spatial(x, out, channels))
}

fn recurrent(
    graph: &Graph,
    r: &Recurrent,
    gates: usize,
    two_biases: bool,
    x: &[usize],
) -> Result<Vec<usize>, Problem> {
    let &[time, channels] = x else {
        return Err(format!("it takes [time, channels], not {x:?}"));
    };
    let kernel = &graph.weights[r.kernel.0];
    let width = kernel.shape.last().copied().unwrap_or(0);
    let units = width / gates;
    if units * gates != width || units == 0 {
        return Err(format!(
            "its kernel ({}) has shape {:?}, whose last dimension is no multiple of {gates} gates",
            kernel.name, kernel.shape
        ));
    }
    expect("kernel", kernel, &[channels, width])?;
    expect(
        "recurrent kernel",
        &graph.weights[r.recurrent_kernel.0],
        &[units, width],
    )?;
    if let Some(bias) = r.bias {
        let bias = &graph.weights[bias.0];
        match two_biases {
            true => expect("bias", bias, &[2, width])?,
            false => expect("bias", bias, &[width])?,
        }
    }
    Ok(match r.return_sequences {
        true => vec![time, units],
        false => vec![units],
    })
}

fn reshape(target: &[Option<usize>], x: &[usize]) -> Result<Vec<usize>, Problem> {
    let total: usize = x.iter().product();
    let known = target
        .iter()
        .flatten()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .unwrap_or(0);
    let open = target.iter().filter(|d| d.is_none()).count();
    let fits = match open {
        0 => known == total,
        1 => known > 0 && total.is_multiple_of(known),
        _ => false,
    };
    if !fits {
        return Err(format!("{x:?} cannot become {}", open_shape(target)));
    }
    Ok(target.iter().map(|d| d.unwrap_or(total / known)).collect())
}

fn concat(axis: usize, inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    let mut shape = inputs[0].to_vec();
    axis_of(axis, &shape)?;
    for x in &inputs[1..] {
        let fits =
            x.len() == shape.len() && (0..shape.len()).all(|d| d == axis || x[d] == shape[d]);
        if !fits {
            return Err(format!(
                "{x:?} cannot be joined to {shape:?} along axis {axis}"
            ));
        }
        shape[axis] = shape[axis]
            .checked_add(x[axis])
            .ok_or("the joined dimension is too large")?;
    }
    Ok(shape)
}

/// Returns the broadcast shape; dimensions are aligned at the last one, and length 1 is stretched.
pub(in crate::nn) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
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

fn merge(op: MergeOp, inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    if inputs.len() < 2 || (op == MergeOp::Subtract && inputs.len() != 2) {
        return Err(format!("it cannot take {} inputs", inputs.len()));
    }
    let mut shape = inputs[0].to_vec();
    for x in &inputs[1..] {
        shape = broadcast(&shape, x)
            .ok_or_else(|| format!("{x:?} cannot be broadcast against {shape:?}"))?;
    }
    Ok(shape)
}

/// Shape of maps times attention weights, whose shape must be `wanted(maps)`.
fn attention(
    inputs: &[&[usize]],
    wanted: impl Fn([usize; 3]) -> Vec<usize>,
) -> Result<Vec<usize>, Problem> {
    let &[maps, weights] = inputs else {
        return Err(format!(
            "it takes maps and attention, not {} inputs",
            inputs.len()
        ));
    };
    let wanted = wanted(image(maps)?);
    match *weights == *wanted {
        true => Ok(maps.to_vec()),
        false => Err(format!(
            "attention for maps {maps:?} is {wanted:?}, not {weights:?}"
        )),
    }
}
