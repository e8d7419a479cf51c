//! From a graph to a plan.

use std::collections::HashMap;

use super::{After, Constant, NO_SLOT, Parts, PlannedInput, PlannedOutput, Step, Value};
use crate::nn::cuda::ops::{Broadcast, Dense, Dropout, Image, Op, Pool};
use crate::nn::graph::{Graph, GraphError, Node, ValueId, WeightId};
use crate::nn::layer::{Activation, BatchNorm, Layer, PoolKind};
use crate::nn::shape::{spatial, window};

mod weighted;

/// Constants begin at multiples of so many numbers, as the vector loads of the kernels need.
const ALIGNMENT: usize = 64;

/// A plan in the making.
pub(super) struct Builder<'a> {
    pub graph: &'a Graph,
    parts: Parts,
    constants: Vec<f32>,
    /// Weights that are already among the constants, by how they are laid out there.
    pub known: HashMap<(WeightId, Form), Constant>,
    /// For each value of the graph, the planned value that holds it (layers that change nothing
    /// hold none of their own).
    held_by: Vec<usize>,
    spread: HashMap<usize, usize>,
}

/// How a weight is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// As in the graph, the first so many numbers.
    Plain(usize),
    /// `[in, rows, columns, padded out]`
    Tiled(usize),
    /// Zeros up to so many numbers.
    Padded(usize),
}

impl<'a> Builder<'a> {
    pub fn new(
        graph: &'a Graph,
        input_shapes: &[Vec<usize>],
        keeps_all: bool,
    ) -> Result<Self, GraphError> {
        let values: Vec<Value> = graph
            .infer_shapes(input_shapes)?
            .into_iter()
            .map(|shape| Value {
                elements: shape.iter().product(),
                shape,
                drawn: false,
                slot: NO_SLOT,
            })
            .collect();
        Ok(Self {
            graph,
            parts: Parts {
                graph_values: values.len(),
                values,
                keeps_all,
                ..Parts::default()
            },
            constants: Vec::new(),
            known: HashMap::new(),
            held_by: Vec::new(),
            spread: HashMap::new(),
        })
    }

    /// The plan and its constants.
    pub fn build(mut self) -> (Parts, Vec<f32>) {
        for (value, input) in self.graph.inputs.iter().enumerate() {
            self.held_by.push(value);
            self.parts.inputs.push(PlannedInput {
                name: input.name.clone(),
                value,
                elements: self.parts.values[value].elements,
            });
        }
        for (number, node) in self.graph.nodes.iter().enumerate() {
            self.add(number, node);
        }
        let stochastic = self.parts.dropouts > 0;
        for output in &self.graph.outputs {
            let held = self.held_by[output.value.0];
            let value = match stochastic && !self.parts.values[held].drawn {
                true => self.spread(held),
                false => held,
            };
            self.parts.outputs.push(PlannedOutput {
                name: output.name.clone(),
                shape: self.parts.values[output.value.0].shape.clone(),
                value,
            });
        }
        if !self.parts.keeps_all {
            self.parts.fuse();
        }
        self.parts.assign_slots(&self.held_by);
        // The tiled kernels read, but do not use, numbers behind the last channel.
        self.constants
            .resize(self.constants.len() + 2 * ALIGNMENT, 0.0);
        (self.parts, self.constants)
    }

    /// Adds numbers to the constants.
    pub fn constant(&mut self, numbers: impl IntoIterator<Item = f32>) -> Constant {
        let start = self.constants.len().next_multiple_of(ALIGNMENT);
        self.constants.resize(start, 0.0);
        self.constants.extend(numbers);
        Constant(start)
    }

    /// A weight as it is, its first `count` numbers.
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

    /// A value that only the plan knows.
    pub fn value(&mut self, elements: usize, drawn: bool) -> usize {
        self.parts.values.push(Value {
            shape: vec![elements],
            elements,
            drawn,
            slot: NO_SLOT,
        });
        self.parts.values.len() - 1
    }

    /// The value that repeats `held` for every draw.
    fn spread(&mut self, held: usize) -> usize {
        if let Some(&value) = self.spread.get(&held) {
            return value;
        }
        let value = self.value(self.parts.values[held].elements, true);
        self.parts.steps.push(Step {
            op: Op::Spread,
            inputs: vec![held],
            output: value,
            scratch: None,
            outer: 1,
            after: None,
        });
        self.spread.insert(held, value);
        value
    }

    fn add(&mut self, number: usize, node: &Node) {
        let output = self.graph.output_of(number).0;
        let mut inputs: Vec<usize> = node.inputs.iter().map(|v| self.held_by[v.0]).collect();
        let shape = |v: ValueId| &self.parts.values[v.0].shape;
        let leading = &shape(node.inputs[0])[..node.outer];
        let outer: usize = leading.iter().product();
        let items: Vec<Vec<usize>> = node
            .inputs
            .iter()
            .map(|&v| shape(v)[node.outer..].to_vec())
            .collect();
        let item_out = self.parts.values[output].shape[node.outer..].to_vec();
        let makes_draws = matches!(&node.layer, Layer::Dropout(d) if d.forced && d.rate != 0.0);
        let drawn = inputs.iter().any(|&v| self.parts.values[v].drawn);
        if drawn && !makes_draws {
            for input in &mut inputs {
                if !self.parts.values[*input].drawn {
                    *input = self.spread(*input);
                }
            }
        }
        let drawn = drawn || makes_draws;
        let mut after = None;
        let mut scratch = None;
        let op = match &node.layer {
            Layer::Conv(conv) => self.conv(conv, &items[0], &item_out, &mut after),
            Layer::Dense {
                kernel,
                bias,
                activation,
            } => Op::Dense(self.dense(*kernel, *bias, *activation, &mut after)),
            Layer::Lstm(r) => {
                let op = self.recurrent(r, None, &items[0], outer, drawn, &mut inputs);
                self.state(op, outer, drawn, &mut scratch)
            }
            Layer::Gru {
                recurrent: r,
                reset_after,
            } => {
                let op =
                    self.recurrent(r, Some(*reset_after), &items[0], outer, drawn, &mut inputs);
                self.state(op, outer, drawn, &mut scratch)
            }
            _ => match self.op(node, outer, &items, &item_out) {
                Some(op) => op,
                None => {
                    self.held_by.push(inputs[0]);
                    return;
                }
            },
        };
        self.parts.values[output].drawn = drawn;
        self.held_by.push(output);
        self.push(Step {
            op,
            inputs,
            output,
            scratch,
            outer,
            after,
        });
    }

    pub fn push(&mut self, step: Step) {
        self.parts.steps.push(step);
    }

    /// The computation of a validated node that has no large weights, or `None` if it only gives
    /// its input another shape.
    fn op(
        &mut self,
        node: &Node,
        outer: usize,
        items: &[Vec<usize>],
        output: &[usize],
    ) -> Option<Op> {
        let x = &*items[0];
        let elements: usize = x.iter().product();
        let last = x.last().copied().unwrap_or(1);
        let after = |axis: usize| x[axis + 1..].iter().product::<usize>();
        Some(match &node.layer {
            Layer::Conv(_) | Layer::Dense { .. } | Layer::Lstm(_) | Layer::Gru { .. } => {
                unreachable!("planned by itself")
            }
            Layer::Pool(pool) => {
                let ([height, width], channels) = spatial(x).expect("validated input");
                let along = |axis: usize, n| {
                    window(n, pool.size[axis], pool.strides[axis], pool.padding)
                        .expect("validated shape")
                };
                let (rows, columns) = (along(0, height), along(1, width));
                Op::Pool(Pool {
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
            Layer::GlobalPool { kind, .. } => Op::GlobalPool {
                mean: *kind == PoolKind::Average,
                pixels: elements / last,
                channels: last,
            },
            Layer::Upsample {
                factor,
                interpolation,
            } => Op::Upsample {
                image: image(x, output),
                factor: *factor,
                interpolation: *interpolation,
            },
            Layer::ZeroPad { top, left, .. } => Op::ZeroPad {
                image: image(x, output),
                top: *top,
                left: *left,
            },
            Layer::BatchNorm(b) => self.batch_norm(b, last),
            Layer::Reverse => Op::Reverse {
                rows: x[0],
                width: elements / x[0],
            },
            Layer::Flatten | Layer::Reshape { .. } | Layer::Activation(Activation::Linear) => {
                return None;
            }
            Layer::Permute { order } => Op::Permute {
                shape: output.to_vec(),
                strides: order.iter().map(|&d| after(d)).collect(),
            },
            Layer::RepeatVector { count } => Op::Repeat {
                count: *count,
                width: last,
            },
            Layer::Concat { axis } => {
                let width = |s: &[usize]| s[*axis..].iter().product();
                Op::Concat {
                    widths: items.iter().map(|s| width(s)).collect(),
                    total: width(output),
                }
            }
            Layer::Merge { op } => Op::Merge {
                op: *op,
                joins: (1..items.len())
                    .map(|i| match i {
                        1 => broadcast(&items[0], &items[1], output),
                        _ => broadcast(output, &items[i], output),
                    })
                    .collect(),
            },
            Layer::Dropout(d) => {
                if !d.forced || d.rate == 0.0 {
                    return None;
                }
                let number = self.parts.dropouts as u32;
                self.parts.dropouts += 1;
                let (pixels, channels) = match d.per_channel {
                    true => (elements / last, last),
                    false => (1, elements),
                };
                Op::Dropout(Dropout {
                    name: node.name.clone(),
                    number,
                    rate: d.rate,
                    units: outer * channels,
                    pixels,
                    channels,
                })
            }
            Layer::Activation(Activation::Softmax) => Op::Softmax { n: last, after: 1 },
            Layer::Activation(function) => Op::Activation(*function),
            Layer::Softmax { axis } => Op::Softmax {
                n: x[*axis],
                after: after(*axis),
            },
            Layer::PRelu { alpha } => {
                let alpha = &self.graph.weights[alpha.0];
                let strides = strides(&alpha.shape, x);
                let slope = |i: usize| {
                    let mut rest = i;
                    let mut at = 0;
                    for (n, stride) in x.iter().zip(&strides).rev() {
                        at += rest % n * stride;
                        rest /= n;
                    }
                    alpha.data[at]
                };
                Op::PRelu {
                    alpha: self.constant((0..elements).map(slope)),
                    item: elements,
                }
            }
            Layer::SumAxis { axis } => Op::SumAxis {
                n: x[*axis],
                after: after(*axis),
            },
            Layer::SpatialMultiply => Op::SpatialMultiply { channels: last },
            Layer::ChannelMultiply => Op::ChannelMultiply {
                item: elements,
                channels: last,
            },
        })
    }

    /// `x * scale + shift`, computed in `f64` as the CPU's engine does.
    fn batch_norm(&mut self, b: &BatchNorm, channels: usize) -> Op {
        let weights = &self.graph.weights;
        let of = |id: WeightId, c: usize| f64::from(weights[id.0].data[c]);
        let scale: Vec<f64> = (0..channels)
            .map(|c| {
                let deviation = (of(b.variance, c) + f64::from(b.epsilon)).sqrt();
                b.gamma.map_or(1.0, |g| of(g, c)) / deviation
            })
            .collect();
        let shift: Vec<f32> = (0..channels)
            .map(|c| (b.beta.map_or(0.0, |id| of(id, c)) - of(b.mean, c) * scale[c]) as f32)
            .collect();
        Op::ScaleShift {
            scale: self.constant(scale.into_iter().map(|s| s as f32)),
            shift: self.constant(shift),
            channels,
        }
    }

    pub fn dense(
        &mut self,
        kernel: WeightId,
        bias: Option<WeightId>,
        activation: Activation,
        after: &mut Option<After>,
    ) -> Dense {
        let weight = &self.graph.weights[kernel.0];
        let (units, count) = (weight.shape[weight.shape.len() - 1], weight.data.len());
        Dense {
            inputs: count / units,
            units,
            kernel: self.plain(kernel, count),
            bias: bias.map(|b| self.plain(b, units)),
            relu: apart(activation, units, after),
        }
    }
}

/// Whether the function is ReLU; any other is done after the step, over rows of `last` numbers.
fn apart(activation: Activation, last: usize, after: &mut Option<After>) -> bool {
    *after = match activation {
        Activation::Relu => return true,
        Activation::Linear => None,
        Activation::Softmax => Some(After::Softmax(last)),
        other => Some(After::Activation(other)),
    };
    false
}

fn image(x: &[usize], output: &[usize]) -> Image {
    Image {
        input: [x[0], x[1], x[2]],
        output: [output[0], output[1]],
    }
}

/// How far neighbours of `part` are apart along each dimension of `full`, 0 where it is stretched.
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
