//! Layers over windows and images. The operators of ONNX have the channels first.

use super::super::builder::transposed;
use super::Attribute::{Int, Ints, Text};
use super::{Attribute, NodeContext, Problem};
use crate::nn::WeightId;
use crate::nn::layers::{
    Activation, Conv, Conv3d, ConvTranspose, DepthwiseConv, Interpolation, Padding, Pool, PoolKind,
    Resize, Upsample,
};

/// Sizes of windows along one or two dimensions.
struct Windows {
    size: Vec<usize>,
    strides: Vec<usize>,
    dilation: Vec<usize>,
    padding: Padding,
}

/// Padding in the form of an operator.
enum Pads {
    /// Samples before all dimensions, then behind them.
    Explicit(Vec<i64>),
    /// `auto_pad` of this name: the length is open.
    Automatic(&'static str),
}

impl NodeContext<'_, '_> {
    pub(super) fn conv(&mut self, conv: &Conv) -> Result<String, Problem> {
        let size = self.window_size(conv.kernel);
        let windows = Windows {
            strides: conv.strides[..size.len()].to_vec(),
            dilation: conv.dilation[..size.len()].to_vec(),
            padding: conv.padding,
            size,
        };
        self.convolution(conv.kernel, conv.bias, conv.activation, &windows)
    }

    pub(super) fn conv3d(&mut self, conv: &Conv3d) -> Result<String, Problem> {
        let windows = Windows {
            size: self.window_size(conv.kernel),
            strides: conv.strides.to_vec(),
            dilation: conv.dilation.to_vec(),
            padding: conv.padding,
        };
        self.convolution(conv.kernel, conv.bias, conv.activation, &windows)
    }

    /// Returns the spatial dimensions of a kernel.
    fn window_size(&self, kernel: WeightId) -> Vec<usize> {
        let shape = &self.weight(kernel).shape;
        shape[..shape.len() - 2].to_vec()
    }

    fn convolution(
        &mut self,
        kernel: WeightId,
        bias: Option<WeightId>,
        activation: Activation,
        windows: &Windows,
    ) -> Result<String, Problem> {
        let spatial = windows.size.len();
        let kernel = self.builder.weight(kernel, "Conv", |shape, data| {
            // `[.., in, out]` to `[out, in, ..]`.
            let order: Vec<usize> = [spatial + 1, spatial]
                .into_iter()
                .chain(0..spatial)
                .collect();
            transposed(shape, data, &order)
        });
        let pads = self.pads(windows)?;
        Ok(self.windowed(bias, activation, |context, x, bias| {
            let inputs: Vec<&str> = [x, &*kernel].into_iter().chain(bias).collect();
            context.over_windows("Conv", &inputs, windows, &pads, &[])
        }))
    }

    pub(super) fn depthwise_conv(&mut self, conv: &DepthwiseConv) -> Result<String, Problem> {
        let shape = self.weight(conv.kernel).shape.clone();
        let spatial = shape.len() - 2;
        let channels = shape[spatial];
        let windows = Windows {
            size: shape[..spatial].to_vec(),
            strides: conv.strides[..spatial].to_vec(),
            dilation: conv.dilation[..spatial].to_vec(),
            padding: conv.padding,
        };
        let kernel = self
            .builder
            .weight(conv.kernel, "depthwise", |shape, data| {
                // `[.., channels, multiplier]` to `[channels * multiplier, 1, ..]`.
                let order: Vec<usize> = [spatial, spatial + 1]
                    .into_iter()
                    .chain(0..spatial)
                    .collect();
                let (shape, data) = transposed(shape, data, &order);
                let filters = shape[0] * shape[1];
                ([&[filters, 1], &shape[2..]].concat(), data)
            });
        let pads = self.pads(&windows)?;
        let groups = channels as i64;
        Ok(
            self.windowed(conv.bias, conv.activation, |context, x, bias| {
                let inputs: Vec<&str> = [x, &*kernel].into_iter().chain(bias).collect();
                let options = [("group", Int(groups))];
                context.over_windows("Conv", &inputs, &windows, &pads, &options)
            }),
        )
    }

    pub(super) fn conv_transpose(&mut self, conv: &ConvTranspose) -> Result<String, Problem> {
        let shape = self.weight(conv.kernel).shape.clone();
        let spatial = shape.len() - 2;
        let (size, strides) = (&shape[..spatial], &conv.strides[..spatial]);
        let kernel = self
            .builder
            .weight(conv.kernel, "ConvTranspose", |shape, data| {
                // `[.., out, in]` to `[in, out, ..]`.
                let order: Vec<usize> = [spatial + 1, spatial]
                    .into_iter()
                    .chain(0..spatial)
                    .collect();
                transposed(shape, data, &order)
            });
        // Without padding the operator returns `(n - 1) * stride + extent` samples. The difference to
        // the layer's length is the same for every length.
        let (mut before, mut behind, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, (&size, &stride)) in size.iter().zip(strides).enumerate() {
            let extent = (size - 1) * conv.dilation[axis] + 1;
            let (cut, more) = match (conv.padding, conv.output_padding) {
                (Padding::Same, None) => {
                    (extent.saturating_sub(stride), stride.saturating_sub(extent))
                }
                (Padding::Same, Some(padding)) => {
                    let length = extent % 2 + padding[axis];
                    (extent.saturating_sub(length), length.saturating_sub(extent))
                }
                (_, None) => (0, stride.saturating_sub(extent)),
                (_, Some(padding)) => (0, padding[axis]),
            };
            if more >= stride.max(conv.dilation[axis]) {
                return Err("its output padding is as large as its strides".into());
            }
            before.push((cut / 2) as i64);
            behind.push((cut - cut / 2) as i64);
            added.push(more as i64);
        }
        let dilation: Vec<i64> = conv.dilation[..spatial].iter().map(|&n| n as i64).collect();
        let pads = [before, behind].concat();
        let strides: Vec<i64> = strides.iter().map(|&n| n as i64).collect();
        Ok(
            self.windowed(conv.bias, conv.activation, |context, x, bias| {
                let inputs: Vec<&str> = [x, &*kernel].into_iter().chain(bias).collect();
                let attributes = [
                    ("strides", Ints(&strides)),
                    ("pads", Ints(&pads)),
                    ("dilations", Ints(&dilation)),
                    ("output_padding", Ints(&added)),
                ];
                context.add("ConvTranspose", &inputs, &attributes)
            }),
        )
    }

    pub(super) fn pool(&mut self, pool: &Pool) -> Result<String, Problem> {
        let spatial = self.shapes[0].len() - 1;
        let windows = Windows {
            size: pool.size[..spatial].to_vec(),
            strides: pool.strides[..spatial].to_vec(),
            dilation: vec![1; spatial],
            padding: pool.padding,
        };
        let op = match pool.kind {
            PoolKind::Max => "MaxPool",
            PoolKind::Average => "AveragePool",
        };
        let pads = self.pads(&windows)?;
        Ok(self.windowed(None, Activation::Linear, |context, x, _| {
            context.over_windows(op, &[x], &windows, &pads, &[])
        }))
    }

    pub(super) fn upsample(&mut self, upsample: &Upsample) -> String {
        let (mode, coordinates) = match upsample.interpolation {
            Interpolation::Nearest => ("nearest", "asymmetric"),
            Interpolation::BilinearLegacy => ("linear", "asymmetric"),
            Interpolation::BilinearHalfPixel => ("linear", "half_pixel"),
        };
        let [rows, columns] = upsample.factor.map(|n| n as f32);
        self.windowed(None, Activation::Linear, |context, x, _| {
            let factors = context.constant("factors", &[1.0, 1.0, rows, columns]);
            let attributes = [
                ("mode", Text(mode)),
                ("coordinate_transformation_mode", Text(coordinates)),
                ("nearest_mode", Text("floor")),
            ];
            context.add("Resize", &[x, "", &factors], &attributes)
        })
    }

    pub(super) fn resize(&mut self, resize: &Resize) -> String {
        if !resize.bilinear
            && let [Some(height), Some(width), _] = *self.shapes[0]
        {
            return self.nearest(resize, [height, width]);
        }
        let size = resize.size.map(|n| n as i64);
        // The nearest sample is `floor((i + 0.5) * n / size)`.
        let (mode, nearest) = match resize.bilinear {
            true => ("linear", "floor"),
            false => ("nearest", "round_prefer_ceil"),
        };
        self.windowed(None, Activation::Linear, |context, x, _| {
            let leading = context.add("Shape", &[x], &[("start", Int(0)), ("end", Int(2))]);
            let size = context.builder.integers(&size);
            let sizes = context.add("Concat", &[&leading, &size], &[("axis", Int(0))]);
            let attributes = [
                ("mode", Text(mode)),
                ("coordinate_transformation_mode", Text("half_pixel")),
                ("nearest_mode", Text(nearest)),
            ];
            context.add("Resize", &[x, "", "", &sizes], &attributes)
        })
    }

    /// Copies the nearest rows and columns by stored indices, because runtimes differ in which of two equally near ones they
    /// take.
    fn nearest(&mut self, resize: &Resize, image: [usize; 2]) -> String {
        let mut y = self.inputs[0].clone();
        for (axis, samples) in image.into_iter().enumerate() {
            let numbers = (0..resize.size[axis]).map(|i| resize.nearest(axis, i, samples) as i64);
            let numbers = self.builder.integers(&numbers.collect::<Vec<_>>());
            y = self.add("Gather", &[&y, &numbers], &[("axis", Int(axis as i64 + 1))]);
        }
        y
    }

    /// Adds an operator with the channels first between two transpositions. An activation follows
    /// the operator, where a runtime can join them.
    fn windowed(
        &mut self,
        bias: Option<WeightId>,
        activation: Activation,
        operator: impl FnOnce(&mut Self, &str, Option<&str>) -> String,
    ) -> String {
        let rank = self.shapes[0].len() as i64 + 1;
        let first: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        let last: Vec<i64> = std::iter::once(0).chain(2..rank).chain([1]).collect();
        let x = self.inputs[0].clone();
        let x = self.add("Transpose", &[&x], &[("perm", Ints(&first))]);
        let bias = bias.map(|bias| self.stored(bias));
        let mut y = operator(self, &x, bias.as_deref());
        // A softmax runs along the last dimension, the channels.
        if activation != Activation::Softmax {
            y = self.activation(activation, y);
        }
        let y = self.add("Transpose", &[&y], &[("perm", Ints(&last))]);
        match activation {
            Activation::Softmax => self.activation(activation, y),
            _ => y,
        }
    }

    /// Adds an operator over windows.
    fn over_windows(
        &mut self,
        op: &str,
        inputs: &[&str],
        windows: &Windows,
        pads: &Pads,
        options: &[(&str, Attribute)],
    ) -> String {
        let integers = |values: &[usize]| values.iter().map(|&n| n as i64).collect::<Vec<_>>();
        let size = integers(&windows.size);
        let strides = integers(&windows.strides);
        let dilation = integers(&windows.dilation);
        let mut attributes = vec![
            ("kernel_shape", Ints(&size)),
            ("strides", Ints(&strides)),
            match pads {
                Pads::Explicit(pads) => ("pads", Ints(pads)),
                Pads::Automatic(name) => ("auto_pad", Text(name)),
            },
        ];
        // The average has no dilation in this opset.
        if op == "Conv" {
            attributes.push(("dilations", Ints(&dilation)));
        }
        attributes.extend(options);
        self.add(op, inputs, &attributes)
    }

    /// Returns the padding for the node's input. Its sum is `(outputs - 1) * stride + extent - n`, an
    /// odd sample being behind.
    fn pads(&self, windows: &Windows) -> Result<Pads, Problem> {
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        for (axis, n) in self.shapes[0][..windows.size.len()].iter().enumerate() {
            let stride = windows.strides[axis];
            let extent = (windows.size[axis] - 1) * windows.dilation[axis] + 1;
            let (first, second) = match (windows.padding, n) {
                (Padding::Valid, _) => (0, 0),
                (Padding::Causal, _) => (extent - 1, 0),
                (Padding::Same, Some(n)) => {
                    let covered = (n.div_ceil(stride) - 1) * stride + extent;
                    let needed = covered.saturating_sub(*n);
                    (needed / 2, needed - needed / 2)
                }
                (Padding::Same, None) if stride == 1 => {
                    ((extent - 1) / 2, extent - 1 - (extent - 1) / 2)
                }
                (Padding::Same, None) if windows.dilation.iter().all(|&d| d == 1) => {
                    return Ok(Pads::Automatic("SAME_UPPER"));
                }
                (Padding::Same, None) => {
                    return Err("strides with a dilation need a fixed length of the input".into());
                }
            };
            before.push(first as i64);
            behind.push(second as i64);
        }
        Ok(Pads::Explicit([before, behind].concat()))
    }
}
