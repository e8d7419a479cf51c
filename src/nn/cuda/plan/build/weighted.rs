//! Layers whose weights are laid out for their kernels: convolutions and recurrent layers.

use super::{Builder, Form, apart};
use crate::nn::cuda::ops::{self, Cell, Dense, Op};
use crate::nn::cuda::plan::{After, Constant, Step};
use crate::nn::cuda::tile::{SHARED, Tiling};
use crate::nn::graph::WeightId;
use crate::nn::layer::{Conv, Recurrent};
use crate::nn::shape::{conv_kernel, extent, spatial, window};

impl Builder<'_> {
    pub fn conv(
        &mut self,
        conv: &Conv,
        x: &[usize],
        output: &[usize],
        after: &mut Option<After>,
    ) -> Op {
        let shape = &self.graph.weights[conv.kernel.0].shape;
        let [rows, columns, channels, out] = conv_kernel(shape).expect("validated kernel");
        if [rows, columns] == [1, 1] && conv.strides == [1, 1] {
            let dense = self.dense(conv.kernel, conv.bias, conv.activation, after);
            return Op::Dense(dense);
        }
        let ([height, width], _) = spatial(x).expect("validated input");
        let ([out_height, out_width], _) = spatial(output).expect("validated output");
        let before = |axis: usize, n: usize, size: usize| {
            let span = extent(size, conv.dilation[axis]);
            let (_, before) =
                window(n, span, conv.strides[axis], conv.padding).expect("validated shape");
            before
        };
        let plain = conv.strides == [1, 1] && conv.dilation == [1, 1] && rows == columns;
        let tiling = match plain {
            true => Tiling::new(rows, channels, [out_height, out_width, out]),
            false => None,
        };
        let padded = tiling.map_or(out, |t| t.padded_out);
        Op::Conv(Box::new(ops::Conv {
            input: [height, width, channels],
            output: [out_height, out_width, out],
            size: [rows, columns],
            strides: conv.strides,
            dilation: conv.dilation,
            before: [before(0, height, rows), before(1, width, columns)],
            kernel: match tiling {
                Some(_) => self.tiled_kernel(conv.kernel, [rows * columns, channels, out], padded),
                None => self.plain(conv.kernel, rows * columns * channels * out),
            },
            bias: self.padded(conv.bias, padded),
            tiling,
            relu: apart(conv.activation, out, after),
            affine: None,
            relu_last: false,
            pool: false,
            scaled: false,
        }))
    }

    /// `[taps, in, out]` as `[in, taps, padded]`.
    fn tiled_kernel(
        &mut self,
        id: WeightId,
        [taps, channels, out]: [usize; 3],
        padded: usize,
    ) -> Constant {
        let form = Form::Tiled(padded);
        if let Some(&known) = self.known.get(&(id, form)) {
            return known;
        }
        let data = &self.graph.weights[id.0].data;
        let mut packed = vec![0.0; channels * taps * padded];
        for (i, row) in packed.chunks_exact_mut(padded).enumerate() {
            let (channel, tap) = (i / taps, i % taps);
            row[..out].copy_from_slice(&data[(tap * channels + channel) * out..][..out]);
        }
        let constant = self.constant(packed);
        self.known.insert((id, form), constant);
        constant
    }

    /// A bias followed by zeros, or only zeros.
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

    /// The recurrent part of a layer; the products with its inputs become a step before it, whose
    /// result is the only one of `inputs`.
    pub fn recurrent(
        &mut self,
        r: &Recurrent,
        reset_after: Option<bool>,
        x: &[usize],
        outer: usize,
        drawn: bool,
        inputs: &mut Vec<usize>,
    ) -> ops::Recurrent {
        let kernel = &self.graph.weights[r.kernel.0];
        let (width, count) = (kernel.shape[1], kernel.data.len());
        let recurrent = &self.graph.weights[r.recurrent_kernel.0];
        let (units, recurrent_count) = (recurrent.shape[0], recurrent.data.len());
        let cell = match reset_after {
            None => Cell::Lstm,
            Some(true) => Cell::GruResetAfter,
            Some(false) => Cell::GruResetBefore,
        };
        let projected = self.value(outer * x[0] * width, drawn);
        let product = Dense {
            inputs: x[1],
            units: width,
            kernel: self.plain(r.kernel, count),
            bias: r.bias.map(|b| self.plain(b, width)),
            relu: false,
        };
        self.push(Step {
            op: Op::Dense(product),
            inputs: inputs.clone(),
            output: projected,
            scratch: None,
            outer,
            after: None,
        });
        *inputs = vec![projected];
        let second_bias = |b: WeightId| {
            let data = &self.graph.weights[b.0].data;
            (data.len() > width).then(|| data[width..].to_vec())
        };
        let bias = r.bias.and_then(second_bias);
        let mut planned = ops::Recurrent {
            cell,
            time: x[0],
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
        planned
    }

    /// The layer with memory for its state where that does not fit into a block's shared memory.
    pub fn state(
        &mut self,
        r: ops::Recurrent,
        outer: usize,
        drawn: bool,
        scratch: &mut Option<usize>,
    ) -> Op {
        if r.state() * size_of::<f32>() > SHARED {
            *scratch = Some(self.value(outer * r.state(), drawn));
        }
        Op::Recurrent(r)
    }
}
