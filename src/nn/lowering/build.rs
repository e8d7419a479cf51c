//! Lowering of a graph's nodes to steps.

use std::collections::HashMap;

use super::{
    Backend, Dropout, Graph, GraphError, NO_SLOT, Op, Parts, PlannedInput, PlannedOutput, Step,
    Value,
};
use crate::nn::graph::Node;
use crate::nn::layer::{Activation, Layer};

/// Shapes and planned values around the node being lowered.
pub(in crate::nn) struct Site {
    /// Input shapes, without the dimensions that count as batch.
    pub items: Vec<Vec<usize>>,
    pub output: Vec<usize>,
    /// Product of the dimensions that count as batch.
    pub outer: usize,
    /// Planned values that the step reads.
    pub inputs: Vec<usize>,
    /// See [`Step::second`].
    pub second: Option<usize>,
}

/// A lowered graph under construction.
pub(in crate::nn) struct Draft<W> {
    parts: Parts<W>,
    /// The step that computes each planned value.
    made_by: HashMap<usize, usize>,
    /// The broadcast copy of each draw-invariant value.
    spread: HashMap<usize, usize>,
}

/// Lowers a graph for inputs of the given shapes and assigns a slot to each value.
pub(in crate::nn) fn lower<B: Backend>(
    backend: &mut B,
    graph: &Graph,
    input_shapes: &[Vec<usize>],
    keeps_all: bool,
) -> Result<Parts<B::Own>, GraphError> {
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
    let inputs = graph.inputs.iter().enumerate();
    let mut draft = Draft {
        parts: Parts {
            inputs: inputs
                .map(|(value, input)| PlannedInput {
                    name: input.name.clone(),
                    value,
                    elements: values[value].elements,
                })
                .collect(),
            outputs: Vec::new(),
            slots: 0,
            steps: Vec::new(),
            dropouts: 0,
            keeps_all,
            graph_values: values.len(),
            values,
        },
        made_by: HashMap::new(),
        spread: HashMap::new(),
    };
    // The planned value that stores each value of the graph: an identity layer stores none of its
    // own.
    let mut held_by: Vec<usize> = (0..graph.inputs.len()).collect();
    for (number, node) in graph.nodes.iter().enumerate() {
        let held = draft.add(backend, node, graph.output_of(number).0, &held_by);
        held_by.push(held);
    }
    let stochastic = draft.parts.dropouts > 0;
    for output in &graph.outputs {
        let held = held_by[output.value.0];
        let value = match stochastic && !draft.parts.values[held].drawn {
            true => draft.spread(held),
            false => held,
        };
        draft.parts.outputs.push(PlannedOutput {
            name: output.name.clone(),
            shape: draft.parts.values[output.value.0].shape.clone(),
            value,
        });
    }
    let mut parts = draft.parts;
    if !keeps_all {
        parts.fuse::<B>();
    }
    parts.assign_slots(&held_by);
    Ok(parts)
}

impl<W> Draft<W> {
    /// Adds an intermediate value.
    pub fn value(&mut self, elements: usize, drawn: bool) -> usize {
        self.parts.values.push(Value {
            shape: vec![elements],
            elements,
            drawn,
            slot: NO_SLOT,
        });
        self.parts.values.len() - 1
    }

    pub fn push(&mut self, step: Step<W>) {
        self.made_by.insert(step.output, self.parts.steps.len());
        self.parts.steps.push(step);
    }

    pub fn is_drawn(&self, value: usize) -> bool {
        self.parts.values[value].drawn
    }

    /// Returns the step that computes a planned value.
    pub fn maker(&self, value: usize) -> Option<&Step<W>> {
        Some(&self.parts.steps[*self.made_by.get(&value)?])
    }

    /// Returns the value that repeats `stored` for every draw.
    fn spread(&mut self, held: usize) -> usize {
        if let Some(&value) = self.spread.get(&held) {
            return value;
        }
        let value = self.value(self.parts.values[held].elements, true);
        self.push(Step {
            op: Op::Spread,
            inputs: vec![held],
            output: value,
            second: None,
            outer: 1,
        });
        self.spread.insert(held, value);
        value
    }

    /// Adds the step that computes value `output`; returns the planned value that stores it.
    fn add<B: Backend<Own = W>>(
        &mut self,
        backend: &mut B,
        node: &Node,
        output: usize,
        held_by: &[usize],
    ) -> usize {
        let values = &self.parts.values;
        let item = |value: usize| values[value].shape[node.outer..].to_vec();
        let mut site = Site {
            items: node.inputs.iter().map(|v| item(v.0)).collect(),
            output: item(output),
            outer: values[node.inputs[0].0].shape[..node.outer]
                .iter()
                .product(),
            inputs: node.inputs.iter().map(|v| held_by[v.0]).collect(),
            second: None,
        };
        if changes_nothing(&node.layer) {
            return site.inputs[0];
        }
        let op = match self.plain(node, &site) {
            Some(op) => op,
            None => Op::Own(backend.own(&node.layer, &mut site, self)),
        };
        let drawn = site.inputs.iter().any(|&v| self.is_drawn(v));
        let mixes_draws = match &op {
            Op::Dropout(_) => true,
            Op::Own(own) => B::mixes_draws(own),
            _ => false,
        };
        if drawn && !mixes_draws {
            for input in &mut site.inputs {
                if !self.is_drawn(*input) {
                    *input = self.spread(*input);
                }
            }
        }
        self.parts.values[output].drawn = drawn || matches!(op, Op::Dropout(_));
        self.push(Step {
            op,
            inputs: site.inputs,
            output,
            second: site.second,
            outer: site.outer,
        });
        output
    }

    /// Classifies a validated node: identity, op common to all back ends, or op of the back end.
    fn plain(&mut self, node: &Node, site: &Site) -> Option<Op<W>> {
        let x = &*site.items[0];
        let elements: usize = x.iter().product();
        let last = x.last().copied().unwrap_or(1);
        let after = |axis: usize| x[axis + 1..].iter().product();
        Some(match &node.layer {
            Layer::GlobalPool { kind, .. } => Op::GlobalPool {
                kind: *kind,
                pixels: elements / last,
                channels: last,
            },
            Layer::ZeroPad { top, left, .. } => Op::ZeroPad {
                image: [x[0], x[1], x[2]],
                output: [site.output[0], site.output[1]],
                top: *top,
                left: *left,
            },
            Layer::Reverse => Op::Reverse {
                rows: x[0],
                width: elements / x[0],
            },
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
                    widths: site.items.iter().map(|s| width(s)).collect(),
                    total: width(&site.output),
                }
            }
            Layer::Dropout(d) => {
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
                    units: site.outer * channels,
                    pixels,
                    channels,
                })
            }
            Layer::Activation(function) => Op::Activation {
                function: *function,
                last,
            },
            Layer::Softmax { axis } => Op::Softmax {
                n: x[*axis],
                after: after(*axis),
            },
            Layer::SumAxis { axis } => Op::SumAxis {
                n: x[*axis],
                after: after(*axis),
            },
            Layer::SpatialMultiply => Op::SpatialMultiply { channels: last },
            Layer::ChannelMultiply => Op::ChannelMultiply {
                item: elements,
                channels: last,
            },
            Layer::Flatten | Layer::Reshape { .. } => unreachable!("changes nothing"),
            Layer::Conv(_)
            | Layer::Dense { .. }
            | Layer::Lstm(_)
            | Layer::Gru { .. }
            | Layer::Pool(_)
            | Layer::Upsample { .. }
            | Layer::BatchNorm(_)
            | Layer::Merge { .. }
            | Layer::PRelu { .. } => return None,
        })
    }
}

fn changes_nothing(layer: &Layer) -> bool {
    match layer {
        Layer::Flatten | Layer::Reshape { .. } | Layer::Activation(Activation::Linear) => true,
        Layer::Dropout(d) => !d.forced || d.rate == 0.0,
        _ => false,
    }
}
