//! Convolutions and recurrent layers, whose weights have kernel-specific layouts.

use super::{CudaLowering, Form, split_activation};
use crate::nn::cuda::ops::{self, Cell, CudaOp, Dense, Op};
use crate::nn::cuda::plan::{Constant, Step};
use crate::nn::cuda::tile::{SHARED, Shape, Tiling};
use crate::nn::graph::WeightId;
use crate::nn::layers::conv_kernel;
use crate::nn::layers::shapes::spatial;
use crate::nn::layers::windows::{extent, window};
use crate::nn::layers::{Conv, Recurrent};
use crate::nn::lowering::{NodeContext, PlanBuilder};

impl CudaLowering<'_> {
    pub fn conv(&mut self, conv: &Conv, x: &[usize], output: &[usize]) -> CudaOp {
        let shape = &self.graph.weights[conv.kernel.0].shape;
        let [rows, columns, channels, out] = conv_kernel(shape).expect("validated kernel");
        if [rows, columns] == [1, 1] && conv.strides == [1, 1] {
            return CudaOp::Dense(self.dense(conv.kernel, conv.bias, conv.activation));
        }
        let ([height, width], _) = spatial(x).expect("validated input");
        let ([out_height, out_width], _) = spatial(output).expect("validated output");
        let before = |axis: usize, n: usize, size: usize| {
            let span = extent(size, conv.dilation[axis]);
            let (_, before) =
                window(n, span, conv.strides[axis], conv.padding).expect("validated shape");
            before
        };
        let tiling = Tiling::new(&Shape {
            channels,
            output: [out_height, out_width, out],
            size: [rows, columns],
            strides: conv.strides,
            dilation: conv.dilation,
        });
        let padded = tiling.map_or(out, |t| t.padded_out);
        let (relu, post_op) = split_activation(conv.activation, out);
        CudaOp::Conv(Box::new(ops::Conv {
            input: [height, width, channels],
            output: [out_height, out_width, out],
            size: [rows, columns],
            strides: conv.strides,
            dilation: conv.dilation,
            before: [before(0, height, rows), before(1, width, columns)],
            kernel: match tiling {
                Some(_) => self.padded_kernel(conv.kernel, rows * columns * channels, padded),
                None => self.plain(conv.kernel, rows * columns * channels * out),
            },
            bias: self.padded(conv.bias, padded),
            tiling,
            relu,
            affine: None,
            relu_last: false,
            pool: false,
            scaled: false,
            post_op,
        }))
    }

    /// Pads `[k, out]` to `[k, padded]`.
    fn padded_kernel(&mut self, id: WeightId, terms: usize, padded: usize) -> Constant {
        let form = Form::PaddedRows(padded);
        if let Some(&known) = self.known.get(&(id, form)) {
            return known;
        }
        let data = &self.graph.weights[id.0].data;
        let mut packed = vec![0.0; terms * padded];
        let rows = data.chunks_exact((data.len() / terms).max(1));
        for (to, row) in packed.chunks_exact_mut(padded).zip(rows) {
            to[..row.len()].copy_from_slice(row);
        }
        let constant = self.constant(packed);
        self.known.insert((id, form), constant);
        constant
    }

    /// Pads a bias with zeros; without a bias all elements are zero.
    fn padded(&mut self, id: Option<WeightId>, length: usize) -> Constant {
        let form = Form::Padded(length);
        if let Some(&known) = id.and_then(|id| self.known.get(&(id, form))) {
            return known;
        }
        let mut data = id.map_or(Vec::new(), |id| self.graph.weights[id.0].data.clone());
        data.resize(length, 0.0);
        let constant = self.constant(data);
        if let Some(id) = id {
            self.known.insert((id, form), constant);
        }
        constant
    }

    /// Plans the recurrent part of a layer. The products with its inputs become a preceding step.
    /// State that exceeds a block's shared memory becomes a second output of the step.
    pub fn recurrent(
        &mut self,
        r: &Recurrent,
        reset_after: Option<bool>,
        node: &mut NodeContext,
        builder: &mut PlanBuilder<CudaOp>,
    ) -> CudaOp {
        let kernel = &self.graph.weights[r.kernel.0];
        let (width, count) = (kernel.shape[1], kernel.data.len());
        let recurrent = &self.graph.weights[r.recurrent_kernel.0];
        let (units, recurrent_count) = (recurrent.shape[0], recurrent.data.len());
        let cell = match reset_after {
            None => Cell::Lstm,
            Some(true) => Cell::GruResetAfter,
            Some(false) => Cell::GruResetBefore,
        };
        let (time, outer) = (node.items[0][0], node.outer);
        let per_draw = builder.is_per_draw(node.inputs[0]);
        let projected = builder.value(outer * time * width, per_draw);
        let product = Dense {
            inputs: node.items[0][1],
            units: width,
            kernel: self.plain(r.kernel, count),
            bias: r.bias.map(|b| self.plain(b, width)),
            relu: false,
            post_op: None,
        };
        builder.push(Step {
            op: Op::Backend(CudaOp::Dense(product)),
            inputs: std::mem::replace(&mut node.inputs, vec![projected]),
            output: projected,
            second: None,
            outer,
        });
        let second_bias = |b: WeightId| {
            let data = &self.graph.weights[b.0].data;
            (data.len() > width).then(|| data[width..].to_vec())
        };
        let bias = r.bias.and_then(second_bias);
        let mut planned = ops::Recurrent {
            cell,
            time,
            units,
            activation: r.activation,
            recurrent_activation: r.recurrent_activation,
            return_sequences: r.return_sequences,
            go_backwards: r.go_backwards,
            kernel: self.plain(r.recurrent_kernel, recurrent_count),
            bias: bias.map(|b| self.constant(b)),
            group: 1,
        };
        let room = SHARED / size_of::<f32>() / planned.state();
        planned.group = room.clamp(1, 4);
        if room == 0 {
            node.second = Some(builder.value(outer * planned.state(), per_draw));
        }
        CudaOp::Plain(Box::new(planned))
    }
}
