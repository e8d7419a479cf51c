//! Preparation of CUDA ops: kernel arguments, and weights gathered in one array of constants.

use std::collections::HashMap;

use super::Constant;
use crate::nn::cuda::ops::{self, Broadcast, CudaOp, Dense, Image, Op, PRelu, Pool, PostOp};
use crate::nn::graph::{Graph, WeightId};
use crate::nn::layers::shapes::{Problem, spatial};
use crate::nn::layers::windows::window;
use crate::nn::layers::{self, Activation, PoolKind};
use crate::nn::lowering::{
    Backend, BackendLayer, LoweredGraph, NodeContext, PlanBuilder, broadcast_weight,
    fold_batch_norm,
};

mod weighted;

/// Alignment of constants in elements, required by the kernels' vector loads.
const ALIGNMENT: usize = 64;

/// Collects the constants of a plan.
pub(super) struct CudaLowering<'a> {
    pub graph: &'a Graph,
    constants: Vec<f32>,
    /// Offsets of weights already collected, by layout.
    pub known: HashMap<(WeightId, Form), Constant>,
}

/// Layout of a weight in the constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Layout of the graph, first N elements.
    Plain(usize),
    /// `[k, n]` with N padded.
    PaddedRows(usize),
    /// Padded with zeros to this length.
    Padded(usize),
}

impl Backend for CudaLowering<'_> {
    type BackendOp = CudaOp;

    fn lower_layer(
        &mut self,
        layer: BackendLayer,
        node: &mut NodeContext,
        builder: &mut PlanBuilder<CudaOp>,
    ) -> Result<CudaOp, Problem> {
        let x = &*node.items[0];
        let output = &*node.output;
        Ok(match layer {
            BackendLayer::Conv(conv) => self.conv(conv, x, output),
            BackendLayer::Dense(dense) => {
                CudaOp::Dense(self.dense(dense.kernel, dense.bias, dense.activation))
            }
            BackendLayer::Lstm(lstm) => self.recurrent(&lstm.recurrent, None, node, builder),
            BackendLayer::Gru(gru) => {
                self.recurrent(&gru.recurrent, Some(gru.reset_after), node, builder)
            }
            BackendLayer::Pool(layer) => pool(layer, x),
            BackendLayer::Upsample(upsample) => CudaOp::Upsample {
                image: image(x, output),
                factor: upsample.factor,
                interpolation: upsample.interpolation,
                maps: None,
            },
            BackendLayer::BatchNorm(b) => {
                let (scale, shift) = fold_batch_norm(self.graph, b);
                CudaOp::ScaleShift {
                    channels: scale.len(),
                    scale: self.constant(scale),
                    shift: self.constant(shift),
                }
            }
            BackendLayer::Merge(merge) => CudaOp::Merge {
                op: merge.op,
                joins: (1..node.items.len())
                    .map(|i| match i {
                        1 => broadcast(x, &node.items[1], output),
                        _ => broadcast(output, &node.items[i], output),
                    })
                    .collect(),
            },
            BackendLayer::PRelu(prelu) => {
                let alpha = broadcast_weight(self.graph, prelu.alpha, x);
                CudaOp::Plain(Box::new(PRelu {
                    item: alpha.len(),
                    alpha: self.constant(alpha),
                }))
            }
            BackendLayer::Map(map) => CudaOp::Plain(Box::new(ops::Map(map.function))),
            BackendLayer::Slice(slice) => {
                let n = x[slice.axis];
                let (start, count) = slice.range(n);
                CudaOp::Plain(Box::new(ops::Slice {
                    n,
                    after: x[slice.axis + 1..].iter().product(),
                    start,
                    step: slice.step,
                    count,
                }))
            }
            BackendLayer::MeanAxis(mean) => CudaOp::Plain(Box::new(ops::Mean {
                n: x[mean.axis],
                after: x[mean.axis + 1..].iter().product(),
            })),
            BackendLayer::Embedding(embedding) => {
                let table = &self.graph.weights[embedding.table.0];
                let (rows, width) = (table.shape[0], table.shape[1]);
                CudaOp::Plain(Box::new(ops::Embedding {
                    table: self.plain(embedding.table, rows * width),
                    rows,
                    width,
                }))
            }
            BackendLayer::MatMul(product) => CudaOp::Plain(Box::new(ops::MatMul {
                sizes: product.sizes(x, &node.items[1]).expect("validated shapes"),
                transpose_a: product.transpose_a,
                transpose_b: product.transpose_b,
            })),
            BackendLayer::CpuOnly(_) => {
                return Err("this layer has no CUDA kernel; run the network on the CPU".into());
            }
        })
    }

    fn fuse_patterns(lowered: &mut LoweredGraph<CudaOp>) {
        super::attention::pool(lowered);
        super::attention::multiply(lowered);
    }

    fn fuse(op: &mut Op, next: &Op) -> bool {
        super::fuse::fuse(op, next)
    }
}

impl<'a> CudaLowering<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
            constants: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Returns all constants.
    pub fn finish(mut self) -> Vec<f32> {
        // The tiled kernels load, but ignore, elements past the last channel.
        self.constants
            .resize(self.constants.len() + 2 * ALIGNMENT, 0.0);
        self.constants
    }

    /// Appends elements to the constants.
    pub fn constant(&mut self, numbers: impl IntoIterator<Item = f32>) -> Constant {
        let start = self.constants.len().next_multiple_of(ALIGNMENT);
        self.constants.resize(start, 0.0);
        self.constants.extend(numbers);
        Constant(start)
    }

    /// Adds the first `count` elements of a weight in its own layout.
    pub fn plain(&mut self, id: WeightId, count: usize) -> Constant {
        let form = Form::Plain(count);
        if let Some(&known) = self.known.get(&(id, form)) {
            return known;
        }
        let data = self.graph.weights[id.0].data[..count].iter().copied();
        let constant = self.constant(data);
        self.known.insert((id, form), constant);
        constant
    }

    pub fn dense(
        &mut self,
        kernel: WeightId,
        bias: Option<WeightId>,
        activation: Activation,
    ) -> Dense {
        let weight = &self.graph.weights[kernel.0];
        let (units, count) = (weight.shape[weight.shape.len() - 1], weight.data.len());
        let (relu, post_op) = split_activation(activation, units);
        Dense {
            inputs: count / units,
            units,
            kernel: self.plain(kernel, count),
            bias: bias.map(|b| self.plain(b, units)),
            relu,
            post_op,
        }
    }
}

/// Splits an activation into a fused ReLU and an in-place operation over rows of `last` elements.
fn split_activation(activation: Activation, last: usize) -> (bool, Option<PostOp>) {
    match activation {
        Activation::Relu => (true, None),
        Activation::Linear => (false, None),
        Activation::Softmax => (false, Some(PostOp::Softmax(last))),
        other => (false, Some(PostOp::Activation(other))),
    }
}

fn pool(pool: &layers::Pool, x: &[usize]) -> CudaOp {
    let ([height, width], channels) = spatial(x).expect("validated input");
    let along = |axis: usize, n| {
        window(n, pool.size[axis], pool.strides[axis], pool.padding).expect("validated shape")
    };
    let (rows, columns) = (along(0, height), along(1, width));
    CudaOp::Pool(Pool {
        mean: pool.kind == PoolKind::Average,
        image: Image {
            input: [height, width, channels],
            output: [rows.0, columns.0],
        },
        size: pool.size,
        strides: pool.strides,
        before: [rows.1, columns.1],
    })
}

fn image(x: &[usize], output: &[usize]) -> Image {
    Image {
        input: [x[0], x[1], x[2]],
        output: [output[0], output[1]],
    }
}

/// Strides of `part` along each dimension of `full`, 0 along stretched dimensions.
fn strides(part: &[usize], full: &[usize]) -> Vec<usize> {
    let missing = full.len() - part.len();
    let mut strides = vec![0; full.len()];
    let mut step = 1;
    for (d, &n) in part.iter().enumerate().rev() {
        strides[missing + d] = if n == 1 { 0 } else { step };
        step *= n;
    }
    strides
}

fn broadcast(a: &[usize], b: &[usize], full: &[usize]) -> Broadcast {
    let length = |s: &[usize]| s.iter().product::<usize>();
    let items = [length(a), length(b)];
    if a == full && b == full {
        return Broadcast {
            shape: vec![items[0]],
            items,
            strides: [vec![1], vec![1]],
        };
    }
    Broadcast {
        shape: full.to_vec(),
        items,
        strides: [strides(a, full), strides(b, full)],
    }
}
