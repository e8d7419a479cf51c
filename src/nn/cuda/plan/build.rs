//! Preparation of CUDA ops: kernel arguments, and weights gathered in one array of constants.

use std::collections::HashMap;

use super::Constant;
use crate::nn::cuda::ops::{After, Broadcast, Dense, Image, Op, Own, Pool};
use crate::nn::graph::{Graph, WeightId};
use crate::nn::layer::{self, Activation, Layer, PoolKind};
use crate::nn::lowering::{Backend, Draft, Parts, Site, folded, stretched};
use crate::nn::shape::{spatial, window};

mod weighted;

/// Alignment of constants in elements, required by the kernels' vector loads.
const ALIGNMENT: usize = 64;

/// Collects the constants of a plan.
pub(super) struct Builder<'a> {
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

impl Backend for Builder<'_> {
    type Own = Own;

    fn own(&mut self, layer: &Layer, site: &mut Site, draft: &mut Draft<Own>) -> Own {
        let x = &*site.items[0];
        let output = &*site.output;
        match layer {
            Layer::Conv(conv) => self.conv(conv, x, output),
            Layer::Dense {
                kernel,
                bias,
                activation,
            } => Own::Dense(self.dense(*kernel, *bias, *activation)),
            Layer::Lstm(r) => self.recurrent(r, None, site, draft),
            Layer::Gru {
                recurrent,
                reset_after,
            } => self.recurrent(recurrent, Some(*reset_after), site, draft),
            Layer::Pool(layer) => pool(layer, x),
            Layer::Upsample {
                factor,
                interpolation,
            } => Own::Upsample {
                image: image(x, output),
                factor: *factor,
                interpolation: *interpolation,
                maps: None,
            },
            Layer::BatchNorm(b) => {
                let (scale, shift) = folded(self.graph, b);
                Own::ScaleShift {
                    channels: scale.len(),
                    scale: self.constant(scale),
                    shift: self.constant(shift),
                }
            }
            Layer::Merge { op } => Own::Merge {
                op: *op,
                joins: (1..site.items.len())
                    .map(|i| match i {
                        1 => broadcast(x, &site.items[1], output),
                        _ => broadcast(output, &site.items[i], output),
                    })
                    .collect(),
            },
            Layer::PRelu { alpha } => {
                let alpha = stretched(self.graph, *alpha, x);
                Own::PRelu {
                    item: alpha.len(),
                    alpha: self.constant(alpha),
                }
            }
            other => unreachable!("{} needs no preparation", other.class()),
        }
    }

    fn combine(parts: &mut Parts<Own>) {
        super::attention::pool(parts);
        super::attention::multiply(parts);
    }

    fn absorb(op: &mut Op, next: &Op) -> bool {
        super::fuse::absorb(op, next)
    }
}

impl<'a> Builder<'a> {
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
        let (relu, after) = apart(activation, units);
        Dense {
            inputs: count / units,
            units,
            kernel: self.plain(kernel, count),
            bias: bias.map(|b| self.plain(b, units)),
            relu,
            after,
        }
    }
}

/// Splits an activation into a fused ReLU and an in-place operation over rows of `last` elements.
fn apart(activation: Activation, last: usize) -> (bool, Option<After>) {
    match activation {
        Activation::Relu => (true, None),
        Activation::Linear => (false, None),
        Activation::Softmax => (false, Some(After::Softmax(last))),
        other => (false, Some(After::Activation(other))),
    }
}

fn pool(pool: &layer::Pool, x: &[usize]) -> Own {
    let ([height, width], channels) = spatial(x).expect("validated input");
    let along = |axis: usize, n| {
        window(n, pool.size[axis], pool.strides[axis], pool.padding).expect("validated shape")
    };
    let (rows, columns) = (along(0, height), along(1, width));
    Own::Pool(Pool {
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
