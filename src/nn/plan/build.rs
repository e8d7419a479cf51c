//! Preparation of CPU ops: packed weights and kernel parameters.

use std::collections::HashMap;
use std::sync::Arc;

use super::{CpuOp, Op, Step};
use crate::nn::cpu::axes::{MeanPlan, SlicePlan};
use crate::nn::cpu::channel_scaled::{ChannelScaledConv, ChannelScaledWeights};
use crate::nn::cpu::conv::{ConvEpilogue, ConvPlan};
use crate::nn::cpu::conv_lstm::ConvLstmPlan;
use crate::nn::cpu::conv3d::Conv3dPlan;
use crate::nn::cpu::dense::{DensePlan, DenseWeights};
use crate::nn::cpu::depthwise::DepthwisePlan;
use crate::nn::cpu::elementwise::{Broadcast, MergePlan, PReluPlan};
use crate::nn::cpu::gemm::{Epilogue, Packed};
use crate::nn::cpu::group_norm::GroupNormPlan;
use crate::nn::cpu::layer_norm::LayerNormPlan;
use crate::nn::cpu::layout::InterpolationPlan;
use crate::nn::cpu::map::{AnglePlan, MapPlan};
use crate::nn::cpu::mat_mul::MatMulPlan;
use crate::nn::cpu::op::PlainOp;
use crate::nn::cpu::pool::PoolPlan;
use crate::nn::cpu::quantised::QuantisedMatrix;
use crate::nn::cpu::recurrent::{Cell, RecurrentPlan};
use crate::nn::cpu::simple_rnn::SimpleRnnPlan;
use crate::nn::cpu::stateful::{CellPlan, StatefulPlan};
use crate::nn::cpu::stft::{StftPlan, turns};
use crate::nn::cpu::table::EmbeddingPlan;
use crate::nn::cpu::transposed::TransposedPlan;
use crate::nn::graph::{Graph, WeightId};
use crate::nn::layers::shapes::Problem;
use crate::nn::layers::{Activation, Conv, Gru, Lstm, Recurrent, RnnCell, SimpleRnn, conv_kernel};
use crate::nn::lowering::{
    Backend, BackendLayer, CpuOnly, NodeContext, PlanBuilder, broadcast_weight, fold_batch_norm,
};

/// Packs the weights of a graph; nodes that share a weight share its packed copy.
pub(super) struct CpuLowering<'a> {
    graph: &'a Graph,
    packed: HashMap<(WeightId, Option<WeightId>), Arc<Packed>>,
    scaled: HashMap<(WeightId, Option<WeightId>), Arc<ChannelScaledWeights>>,
    quantised: HashMap<(WeightId, Option<WeightId>), Option<Arc<QuantisedMatrix>>>,
}

impl Backend for CpuLowering<'_> {
    type BackendOp = CpuOp;

    fn lower_layer(
        &mut self,
        layer: BackendLayer,
        node: &mut NodeContext,
        builder: &mut PlanBuilder<CpuOp>,
    ) -> Result<CpuOp, Problem> {
        if let BackendLayer::Conv(conv) = layer
            && let Some(scaled) = self.scaled_conv(conv, node, builder)
        {
            return Ok(CpuOp::ChannelScaledConv(scaled));
        }
        Ok(self.prepare(layer, &node.items, &node.output))
    }

    fn accepts_draw_invariant(op: &CpuOp) -> bool {
        matches!(op, CpuOp::ChannelScaledConv(_))
    }

    fn fuse(op: &mut Op, next: &Op) -> bool {
        match op {
            Op::Backend(op) => op.fuse(next),
            _ => false,
        }
    }
}

impl<'a> CpuLowering<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
            packed: HashMap::new(),
            scaled: HashMap::new(),
            quantised: HashMap::new(),
        }
    }

    /// Merges a `ChannelMultiply` and the convolution that reads it into one op on the inputs of
    /// the former, if its attributes allow it.
    fn scaled_conv(
        &mut self,
        conv: &Conv,
        node: &mut NodeContext,
        builder: &PlanBuilder<CpuOp>,
    ) -> Option<ChannelScaledConv> {
        let x = &*node.items[0];
        let product = builder.producer(node.inputs[0])?;
        let (&Op::ChannelMultiply { item, channels }, 1) = (&product.op, product.outer) else {
            return None;
        };
        let relu = match conv.activation {
            Activation::Relu => true,
            Activation::Linear => false,
            _ => return None,
        };
        if node.outer != 1 || item != x.iter().product::<usize>() || Some(&channels) != x.last() {
            return None;
        }
        node.inputs.clone_from(&product.inputs);
        // Draw-invariant maps are not broadcast.
        if let Some(Step {
            op: Op::BroadcastDraws,
            inputs,
            ..
        }) = builder.producer(node.inputs[0])
        {
            node.inputs[0] = inputs[0];
        }
        let weights = &self.graph.weights;
        let kernel = &weights[conv.kernel.0];
        let pack = || {
            let bias = conv.bias.map(|b| &*weights[b.0].data);
            Arc::new(ChannelScaledWeights::new(&kernel.data, &kernel.shape, bias))
        };
        let key = (conv.kernel, conv.bias);
        let packed = self.scaled.entry(key).or_insert_with(pack).clone();
        let mut scaled = ChannelScaledConv::new(conv, &kernel.shape, x, packed);
        if relu {
            scaled.fuse_relu();
        }
        Some(scaled)
    }

    fn prepare(&mut self, layer: BackendLayer, items: &[Vec<usize>], output: &[usize]) -> CpuOp {
        let x = &*items[0];
        match layer {
            BackendLayer::Conv(conv) => CpuOp::Conv {
                plan: ConvPlan::new(conv, &self.graph.weights[conv.kernel.0].shape, x),
                packed: self.pack(conv.kernel, conv.bias),
                epilogue: ConvEpilogue {
                    pointwise: Epilogue {
                        relu: conv.activation == Activation::Relu,
                        ..Epilogue::default()
                    },
                    pool: None,
                },
                activation: match conv.activation {
                    Activation::Relu => Activation::Linear,
                    other => other,
                },
                channels: output[output.len() - 1],
            },
            BackendLayer::Dense(dense) => plain(DensePlan {
                weights: self.dense_weights(dense.kernel, dense.bias),
                activation: dense.activation,
            }),
            BackendLayer::Pool(pool) => CpuOp::Pool(PoolPlan::new(pool, x)),
            BackendLayer::Upsample(upsample) => {
                plain(InterpolationPlan::upsample(upsample, [x[0], x[1], x[2]]))
            }
            BackendLayer::BatchNorm(b) => {
                let (scale, shift) = fold_batch_norm(self.graph, b);
                CpuOp::ScaleShift { scale, shift }
            }
            BackendLayer::Lstm(lstm) => plain(self.lstm(lstm, x)),
            BackendLayer::Gru(gru) => plain(self.gru(gru, x)),
            BackendLayer::Merge(merge) => plain(MergePlan {
                op: merge.op,
                inputs: items.iter().map(|s| Broadcast::new(s, output)).collect(),
            }),
            BackendLayer::PRelu(prelu) => plain(PReluPlan {
                alpha: broadcast_weight(self.graph, prelu.alpha, x),
            }),
            BackendLayer::Embedding(embedding) => {
                let table = &self.graph.weights[embedding.table.0];
                plain(EmbeddingPlan {
                    table: table.data.clone(),
                    width: table.shape[1],
                })
            }
            BackendLayer::Map(map) => plain(MapPlan(map.function)),
            BackendLayer::Slice(slice) => {
                let n = x[slice.axis];
                let (start, count) = slice.range(n);
                CpuOp::Slice(SlicePlan {
                    n,
                    after: x[slice.axis + 1..].iter().product(),
                    start,
                    step: slice.step,
                    count,
                })
            }
            BackendLayer::MeanAxis(mean) => plain(MeanPlan {
                n: x[mean.axis],
                after: x[mean.axis + 1..].iter().product(),
            }),
            BackendLayer::MatMul(product) => {
                let [m, k, n] = product.sizes(x, &items[1]).expect("validated shapes");
                plain(MatMulPlan {
                    m,
                    k,
                    n,
                    transpose_a: product.transpose_a,
                    transpose_b: product.transpose_b,
                })
            }
            BackendLayer::CpuOnly(layer) => self.cpu_only(layer, items, output),
        }
    }

    fn cpu_only(&self, layer: CpuOnly, items: &[Vec<usize>], output: &[usize]) -> CpuOp {
        let x = &*items[0];
        let weight = |id: WeightId| &self.graph.weights[id.0];
        let data = |id: Option<WeightId>| id.map(|id| &*weight(id).data);
        let spatial = |id: WeightId| {
            let [height, width, _, _] = conv_kernel(&weight(id).shape).expect("validated kernel");
            [height, width]
        };
        match layer {
            CpuOnly::DepthwiseConv(conv) => plain(DepthwisePlan::new(
                conv,
                spatial(conv.kernel),
                &weight(conv.kernel).data,
                data(conv.bias),
                x,
                output[output.len() - 1],
            )),
            CpuOnly::ConvTranspose(conv) => plain(TransposedPlan::new(
                conv,
                spatial(conv.kernel),
                &weight(conv.kernel).data,
                data(conv.bias),
                x,
                output[output.len() - 1],
            )),
            CpuOnly::Conv3d(conv) => {
                let kernel = weight(conv.kernel);
                plain(Conv3dPlan::new(
                    conv,
                    &kernel.shape,
                    &kernel.data,
                    data(conv.bias),
                    x,
                ))
            }
            CpuOnly::ConvLstm(layer) => {
                let kernels = [layer.kernel, layer.recurrent_kernel].map(weight);
                plain(ConvLstmPlan::new(
                    layer,
                    kernels,
                    data(layer.bias),
                    x,
                    output,
                ))
            }
            CpuOnly::Resize(resize) => plain(InterpolationPlan::resize(resize, [x[0], x[1], x[2]])),
            CpuOnly::LayerNorm(norm) => {
                let n = x[x.len() - norm.dims..].iter().product();
                plain(LayerNormPlan {
                    gamma: data(norm.gamma).map_or_else(|| vec![1.0; n], <[f32]>::to_vec),
                    beta: data(norm.beta).map_or_else(|| vec![0.0; n], <[f32]>::to_vec),
                    epsilon: norm.epsilon,
                })
            }
            CpuOnly::GroupNorm(norm) => {
                let channels = x[x.len() - 1];
                plain(GroupNormPlan {
                    pixels: x[..x.len() - 1].iter().product(),
                    groups: norm.groups_of(channels),
                    gamma: data(norm.gamma).map_or_else(|| vec![1.0; channels], <[f32]>::to_vec),
                    beta: data(norm.beta).map_or_else(|| vec![0.0; channels], <[f32]>::to_vec),
                    epsilon: norm.epsilon,
                })
            }
            CpuOnly::SimpleRnn(rnn) => plain(self.simple_rnn(rnn, x)),
            CpuOnly::Stft(stft) => plain(StftPlan {
                samples: x[0],
                channels: x[1],
                frames: output[0],
                hop: stft.hop,
                pad_begin: stft.pad_begin,
                window: weight(stft.window).data.iter().map(|&w| w.into()).collect(),
                turns: turns(stft.fft_length),
            }),
            CpuOnly::Angle => plain(AnglePlan),
            CpuOnly::StatefulRnn(stateful) => plain(StatefulPlan {
                cell: match &stateful.cell {
                    RnnCell::Lstm(lstm) => CellPlan::Gated(Box::new(self.lstm(lstm, x)), 2),
                    RnnCell::Gru(gru) => CellPlan::Gated(Box::new(self.gru(gru, x)), 1),
                    RnnCell::SimpleRnn(rnn) => CellPlan::Simple(Box::new(self.simple_rnn(rnn, x))),
                },
                masked: stateful.masked,
                zero_skipped_output: stateful.zero_skipped_output,
                initial_state: stateful.initial_state,
                return_state: stateful.return_state,
            }),
        }
    }

    fn dense_weights(&mut self, kernel: WeightId, bias: Option<WeightId>) -> DenseWeights {
        let graph = self.graph;
        let quantise = || {
            let (weights, channels, bias) = matrix(graph, kernel, bias);
            QuantisedMatrix::new(weights, channels, bias).map(Arc::new)
        };
        match self
            .quantised
            .entry((kernel, bias))
            .or_insert_with(quantise)
        {
            Some(matrix) => DenseWeights::Quantised(matrix.clone()),
            None => DenseWeights::Single(self.pack(kernel, bias)),
        }
    }

    fn pack(&mut self, kernel: WeightId, bias: Option<WeightId>) -> Arc<Packed> {
        let graph = self.graph;
        let pack = || {
            let (weights, channels, bias) = matrix(graph, kernel, bias);
            Arc::new(Packed::new(weights, channels, bias))
        };
        self.packed
            .entry((kernel, bias))
            .or_insert_with(pack)
            .clone()
    }

    fn lstm(&self, lstm: &Lstm, x: &[usize]) -> RecurrentPlan {
        self.recurrent(&lstm.recurrent, Cell::Lstm, x)
    }

    fn gru(&self, gru: &Gru, x: &[usize]) -> RecurrentPlan {
        let reset_after = gru.reset_after;
        self.recurrent(&gru.recurrent, Cell::Gru { reset_after }, x)
    }

    fn simple_rnn(&self, rnn: &SimpleRnn, x: &[usize]) -> SimpleRnnPlan {
        let data = |id: WeightId| self.graph.weights[id.0].data.clone();
        let units = self.graph.weights[rnn.recurrent_kernel.0].shape[0];
        SimpleRnnPlan {
            time: x[0],
            channels: x[1],
            kernel: data(rnn.kernel),
            recurrent: data(rnn.recurrent_kernel),
            bias: rnn.bias.map_or_else(|| vec![0.0; units], data),
            activation: rnn.activation,
            return_sequences: rnn.return_sequences,
            go_backwards: rnn.go_backwards,
        }
    }

    fn recurrent(&self, r: &Recurrent, cell: Cell, x: &[usize]) -> RecurrentPlan {
        let weights = &self.graph.weights;
        let kernel = &weights[r.kernel.0];
        let recurrent = &weights[r.recurrent_kernel.0].data;
        let width = kernel.shape[1];
        let units = weights[r.recurrent_kernel.0].shape[0];
        let bias = r.bias.map(|b| &*weights[b.0].data);
        let columns = |from: usize, to: usize| -> Vec<f32> {
            recurrent
                .chunks_exact(width)
                .flat_map(|row| &row[from..to])
                .copied()
                .collect()
        };
        let (recurrent, candidate) = match cell {
            Cell::Lstm => (Packed::new(recurrent, width, None), None),
            Cell::Gru { reset_after: true } => {
                let bias = bias.map(|b| &b[width..]);
                (Packed::new(recurrent, width, bias), None)
            }
            Cell::Gru { reset_after: false } => (
                Packed::new(&columns(0, 2 * units), 2 * units, None),
                Some(Packed::new(&columns(2 * units, width), units, None)),
            ),
        };
        RecurrentPlan {
            cell,
            time: x[0],
            units,
            activation: r.activation,
            recurrent_activation: r.recurrent_activation,
            return_sequences: r.return_sequences,
            go_backwards: r.go_backwards,
            kernel: Packed::new(&kernel.data, width, bias.map(|b| &b[..width])),
            recurrent,
            candidate,
        }
    }
}

fn plain(op: impl PlainOp + 'static) -> CpuOp {
    CpuOp::Plain(Box::new(op))
}

/// Returns the elements of a kernel, its number of output channels, and its bias.
fn matrix(
    graph: &Graph,
    kernel: WeightId,
    bias: Option<WeightId>,
) -> (&[f32], usize, Option<&[f32]>) {
    let data = |id: WeightId| &*graph.weights[id.0].data;
    let channels = graph.weights[kernel.0].shape.last();
    let channels = *channels.expect("validated kernel");
    (data(kernel), channels, bias.map(data))
}
