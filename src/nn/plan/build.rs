//! From a graph to a plan.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Op, Plan, PlannedInput, PlannedOutput, Step, Value};
use crate::nn::cpu::Isa;
use crate::nn::cpu::conv::{ConvPlan, Finish};
use crate::nn::cpu::elementwise::Broadcast;
use crate::nn::cpu::gemm::{Epilogue, Packed};
use crate::nn::cpu::layout::UpsamplePlan;
use crate::nn::cpu::pool::PoolPlan;
use crate::nn::cpu::recurrent::{Cell, RecurrentPlan};
use crate::nn::cpu::scaled::{ScaledConv, ScaledWeights};
use crate::nn::graph::{Graph, GraphError, Node, ValueId, WeightId};
use crate::nn::layer::{Activation, Conv, Layer, Recurrent};
use crate::nn::windows::WindowPlan;

/// Of a value that is computed into no buffer.
const NO_SLOT: usize = usize::MAX;

/// A plan in the making.
pub(super) struct Builder<'a> {
    graph: &'a Graph,
    plan: Plan,
    /// For each value of the graph, the planned value that holds it (layers that change nothing
    /// hold none of their own).
    held_by: Vec<usize>,
    packed: HashMap<(WeightId, Option<WeightId>), Arc<Packed>>,
    scaled: HashMap<(WeightId, Option<WeightId>), Arc<ScaledWeights>>,
    spread: HashMap<usize, usize>,
    /// For each planned value, the step that computes it.
    made_by: Vec<Option<usize>>,
}

impl<'a> Builder<'a> {
    pub fn new(
        graph: &'a Graph,
        input_shapes: &[Vec<usize>],
        isa: Isa,
        keeps_all: bool,
    ) -> Result<Self, GraphError> {
        let shapes = graph.infer_shapes(input_shapes)?;
        let values = shapes
            .into_iter()
            .map(|shape| Value {
                elements: shape.iter().product(),
                shape,
                drawn: false,
                slot: NO_SLOT,
            })
            .collect::<Vec<_>>();
        Ok(Self {
            graph,
            made_by: vec![None; values.len()],
            plan: Plan {
                isa,
                inputs: Vec::new(),
                outputs: Vec::new(),
                values,
                slots: 0,
                elements: 0,
                steps: Vec::new(),
                dropouts: 0,
                keeps_all,
                windows: WindowPlan::default(),
            },
            held_by: Vec::new(),
            packed: HashMap::new(),
            scaled: HashMap::new(),
            spread: HashMap::new(),
        })
    }

    pub fn build(mut self) -> Result<Plan, GraphError> {
        for (value, input) in self.graph.inputs.iter().enumerate() {
            self.held_by.push(value);
            self.plan.inputs.push(PlannedInput {
                name: input.name.clone(),
                value,
                elements: self.plan.values[value].elements,
            });
        }
        for (number, node) in self.graph.nodes.iter().enumerate() {
            self.add(number, node);
        }
        let stochastic = self.plan.dropouts > 0;
        for output in &self.graph.outputs {
            let held = self.held_by[output.value.0];
            let value = match stochastic && !self.plan.values[held].drawn {
                true => self.spread(held),
                false => held,
            };
            self.plan.outputs.push(PlannedOutput {
                name: output.name.clone(),
                shape: self.plan.values[output.value.0].shape.clone(),
                value,
            });
        }
        if !self.plan.keeps_all {
            self.plan.fuse();
        }
        self.plan.assign_slots(&self.held_by);
        self.plan.windows = WindowPlan::new(&self.plan);
        Ok(self.plan)
    }

    fn push(&mut self, step: Step) {
        self.made_by[step.output] = Some(self.plan.steps.len());
        self.plan.steps.push(step);
    }

    /// The step that computes a value of the plan.
    fn maker(&self, value: usize) -> Option<&Step> {
        Some(&self.plan.steps[self.made_by[value]?])
    }

    /// The value that repeats `held` for every draw.
    fn spread(&mut self, held: usize) -> usize {
        if let Some(&value) = self.spread.get(&held) {
            return value;
        }
        let value = self.plan.values.len();
        self.plan.values.push(Value {
            drawn: true,
            ..self.plan.values[held].clone()
        });
        self.made_by.push(None);
        self.push(Step {
            op: Op::Spread,
            inputs: vec![held],
            output: value,
            outer: 1,
        });
        self.spread.insert(held, value);
        value
    }

    fn add(&mut self, number: usize, node: &Node) {
        let output = self.graph.output_of(number).0;
        let mut inputs: Vec<usize> = node.inputs.iter().map(|v| self.held_by[v.0]).collect();
        let shape = |v: ValueId| &self.plan.values[v.0].shape;
        let leading = &shape(node.inputs[0])[..node.outer];
        let outer = leading.iter().product();
        let items: Vec<Vec<usize>> = node
            .inputs
            .iter()
            .map(|&v| shape(v)[node.outer..].to_vec())
            .collect();
        let item_out = self.plan.values[output].shape[node.outer..].to_vec();
        let op = match &node.layer {
            Layer::Conv(conv) if outer == 1 => self.scaled_conv(conv, &items[0], &mut inputs),
            _ => None,
        };
        let Some(op) = op.or_else(|| self.op(node, outer, &items, &item_out)) else {
            self.held_by.push(inputs[0]);
            return;
        };
        let makes_draws = matches!(op, Op::Dropout { .. });
        let drawn = inputs.iter().any(|&v| self.plan.values[v].drawn);
        if drawn && !matches!(op, Op::Dropout { .. } | Op::ScaledConv(_)) {
            for input in &mut inputs {
                if !self.plan.values[*input].drawn {
                    *input = self.spread(*input);
                }
            }
        }
        self.plan.values[output].drawn = drawn || makes_draws;
        self.held_by.push(output);
        self.push(Step {
            op,
            inputs,
            output,
            outer,
        });
    }

    /// The convolution of the product of maps and a factor per channel, as one computation of
    /// `inputs`, which become the product's.
    fn scaled_conv(&mut self, conv: &Conv, x: &[usize], inputs: &mut Vec<usize>) -> Option<Op> {
        let product = self.maker(inputs[0])?;
        let (&Op::ChannelMultiply { item, channels }, 1) = (&product.op, product.outer) else {
            return None;
        };
        let relu = match conv.activation {
            Activation::Relu => true,
            Activation::Linear => false,
            _ => return None,
        };
        if item != x.iter().product::<usize>() || Some(&channels) != x.last() {
            return None;
        }
        let mut factors = product.inputs.clone();
        // Maps that are the same in all draws need no copy for each.
        if let Some(Step {
            op: Op::Spread,
            inputs,
            ..
        }) = self.maker(factors[0])
        {
            factors[0] = inputs[0];
        }
        *inputs = factors;
        let weights = &self.graph.weights;
        let kernel = &weights[conv.kernel.0];
        let pack = || {
            let bias = conv.bias.map(|b| &*weights[b.0].data);
            Arc::new(ScaledWeights::new(&kernel.data, &kernel.shape, bias))
        };
        let key = (conv.kernel, conv.bias);
        let packed = self.scaled.entry(key).or_insert_with(pack).clone();
        let mut scaled = ScaledConv::new(conv, &kernel.shape, x, packed);
        if relu {
            scaled.fuse_relu();
        }
        Some(Op::ScaledConv(scaled))
    }

    /// The computation of a validated node, or `None` if it only gives its input another shape.
    fn op(
        &mut self,
        node: &Node,
        outer: usize,
        items: &[Vec<usize>],
        output: &[usize],
    ) -> Option<Op> {
        let x = &*items[0];
        let elements = x.iter().product();
        let last = x.last().copied().unwrap_or(1);
        Some(match &node.layer {
            Layer::Conv(conv) => Op::Conv {
                plan: ConvPlan::new(conv, &self.graph.weights[conv.kernel.0].shape, x),
                packed: self.pack(conv.kernel, conv.bias),
                finish: Finish {
                    epilogue: Epilogue {
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
            Layer::Dense {
                kernel,
                bias,
                activation,
            } => Op::Dense {
                packed: self.pack(*kernel, *bias),
                activation: *activation,
            },
            Layer::Pool(pool) => Op::Pool(PoolPlan::new(pool, x)),
            Layer::GlobalPool { kind, .. } => Op::GlobalPool {
                kind: *kind,
                pixels: elements / last,
                channels: last,
            },
            Layer::Upsample {
                factor,
                interpolation,
            } => Op::Upsample(UpsamplePlan::new(
                [x[0], x[1], x[2]],
                *factor,
                *interpolation,
            )),
            Layer::ZeroPad { top, left, .. } => Op::ZeroPad {
                image: [x[0], x[1], x[2]],
                output: [output[0], output[1]],
                top: *top,
                left: *left,
            },
            Layer::BatchNorm(b) => {
                let of = |id: WeightId, c: usize| f64::from(self.graph.weights[id.0].data[c]);
                let scale: Vec<f64> = (0..last)
                    .map(|c| {
                        let deviation = (of(b.variance, c) + f64::from(b.epsilon)).sqrt();
                        b.gamma.map_or(1.0, |g| of(g, c)) / deviation
                    })
                    .collect();
                Op::ScaleShift {
                    shift: (0..last)
                        .map(|c| {
                            (b.beta.map_or(0.0, |id| of(id, c)) - of(b.mean, c) * scale[c]) as f32
                        })
                        .collect(),
                    scale: scale.into_iter().map(|s| s as f32).collect(),
                }
            }
            Layer::Lstm(r) => self.recurrent(r, Cell::Lstm, x),
            Layer::Gru {
                recurrent,
                reset_after,
            } => {
                let reset_after = *reset_after;
                self.recurrent(recurrent, Cell::Gru { reset_after }, x)
            }
            Layer::Reverse => Op::Reverse {
                rows: x[0],
                width: elements / x[0],
            },
            Layer::Flatten | Layer::Reshape { .. } => return None,
            Layer::Permute { order } => Op::Permute {
                shape: x.to_vec(),
                order: order.clone(),
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
                inputs: items.iter().map(|s| Broadcast::new(s, output)).collect(),
            },
            Layer::Dropout(d) => {
                if !d.forced || d.rate == 0.0 {
                    return None;
                }
                let number = self.plan.dropouts as u32;
                self.plan.dropouts += 1;
                let (pixels, channels) = match d.per_channel {
                    true => (elements / last, last),
                    false => (1, elements),
                };
                Op::Dropout {
                    name: node.name.clone(),
                    number,
                    rate: d.rate,
                    units: outer * channels,
                    pixels,
                    channels,
                }
            }
            Layer::Activation(Activation::Linear) => return None,
            Layer::Activation(function) => Op::Activation {
                function: *function,
                last,
            },
            Layer::Softmax { axis } => Op::SoftmaxAxis {
                n: x[*axis],
                after: x[*axis + 1..].iter().product(),
            },
            Layer::PRelu { alpha } => {
                let alpha = &self.graph.weights[alpha.0];
                let mut full = vec![0.0; elements];
                Broadcast::new(&alpha.shape, x).zip(&alpha.data, &mut full, |o, a| *o = a);
                Op::PRelu { alpha: full }
            }
            Layer::SumAxis { axis } => Op::SumAxis {
                n: x[*axis],
                after: x[*axis + 1..].iter().product(),
            },
            Layer::SpatialMultiply => Op::SpatialMultiply { channels: last },
            Layer::ChannelMultiply => Op::ChannelMultiply {
                item: elements,
                channels: last,
            },
        })
    }

    fn pack(&mut self, kernel: WeightId, bias: Option<WeightId>) -> Arc<Packed> {
        let weights = &self.graph.weights;
        let pack = || {
            let kernel = &weights[kernel.0];
            let channels = *kernel.shape.last().expect("validated kernel");
            let bias = bias.map(|b| &*weights[b.0].data);
            Arc::new(Packed::new(&kernel.data, channels, bias))
        };
        self.packed
            .entry((kernel, bias))
            .or_insert_with(pack)
            .clone()
    }

    fn recurrent(&self, r: &Recurrent, cell: Cell, x: &[usize]) -> Op {
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
        Op::Recurrent(Box::new(RecurrentPlan {
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
        }))
    }
}
