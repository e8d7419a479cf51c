//! Lowering of a graph's nodes to steps.

use std::collections::HashMap;

use super::{
    Backend, Graph, GraphError, LoweredGraph, Lowering, NO_SLOT, NodeShapes, Op, PlannedInput,
    PlannedOutput, Step, Value,
};
use crate::nn::graph::Node;
use crate::nn::layers::shapes::Problem;

/// Shapes and planned values around the node being lowered.
pub(in crate::nn) struct NodeContext {
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
pub(in crate::nn) struct PlanBuilder<W> {
    lowered: LoweredGraph<W>,
    /// The step that computes each planned value.
    producers: HashMap<usize, usize>,
    /// The broadcast copy of each draw-invariant value.
    broadcast: HashMap<usize, usize>,
}

/// Lowers a graph for inputs of the given shapes and assigns a slot to each value.
pub(in crate::nn) fn lower<B: Backend>(
    backend: &mut B,
    graph: &Graph,
    input_shapes: &[Vec<usize>],
    keeps_all: bool,
) -> Result<LoweredGraph<B::BackendOp>, GraphError> {
    let values: Vec<Value> = graph
        .infer_shapes(input_shapes)?
        .into_iter()
        .map(|shape| Value {
            elements: shape.iter().product(),
            shape,
            per_draw: false,
            slot: NO_SLOT,
        })
        .collect();
    let inputs = graph.inputs.iter().enumerate();
    let mut builder = PlanBuilder {
        lowered: LoweredGraph {
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
        producers: HashMap::new(),
        broadcast: HashMap::new(),
    };
    // The planned value that stores each value of the graph: an identity layer stores none of its
    // own.
    let mut stored_in: Vec<usize> = (0..graph.inputs.len()).collect();
    for (number, node) in graph.nodes.iter().enumerate() {
        let stored = builder
            .add(backend, node, graph.output_of(number).0, &stored_in)
            .map_err(|problem| GraphError::Node {
                graph: graph.name.clone(),
                node: node.name.clone(),
                class: node.layer.class(),
                problem,
            })?;
        stored_in.push(stored);
    }
    let stochastic = builder.lowered.dropouts > 0;
    for output in &graph.outputs {
        let stored = stored_in[output.value.0];
        let value = match stochastic && !builder.lowered.values[stored].per_draw {
            true => builder.broadcast_draws(stored),
            false => stored,
        };
        builder.lowered.outputs.push(PlannedOutput {
            name: output.name.clone(),
            shape: builder.lowered.values[output.value.0].shape.clone(),
            value,
        });
    }
    let mut lowered = builder.lowered;
    if !keeps_all {
        lowered.fuse::<B>();
    }
    lowered.assign_slots(&stored_in);
    Ok(lowered)
}

impl<W> PlanBuilder<W> {
    /// Adds an intermediate value.
    pub fn value(&mut self, elements: usize, per_draw: bool) -> usize {
        self.lowered.values.push(Value {
            shape: vec![elements],
            elements,
            per_draw,
            slot: NO_SLOT,
        });
        self.lowered.values.len() - 1
    }

    pub fn push(&mut self, step: Step<W>) {
        self.producers.insert(step.output, self.lowered.steps.len());
        self.lowered.steps.push(step);
    }

    pub fn is_per_draw(&self, value: usize) -> bool {
        self.lowered.values[value].per_draw
    }

    /// Returns the step that computes a planned value.
    pub fn producer(&self, value: usize) -> Option<&Step<W>> {
        Some(&self.lowered.steps[*self.producers.get(&value)?])
    }

    /// Returns the value that repeats `stored` for every draw.
    fn broadcast_draws(&mut self, stored: usize) -> usize {
        if let Some(&value) = self.broadcast.get(&stored) {
            return value;
        }
        let value = self.value(self.lowered.values[stored].elements, true);
        self.push(Step {
            op: Op::BroadcastDraws,
            inputs: vec![stored],
            output: value,
            second: None,
            outer: 1,
        });
        self.broadcast.insert(stored, value);
        value
    }

    /// Adds the step that computes value `output`; returns the planned value that stores it.
    fn add<B: Backend<BackendOp = W>>(
        &mut self,
        backend: &mut B,
        node: &Node,
        output: usize,
        stored_in: &[usize],
    ) -> Result<usize, Problem> {
        let values = &self.lowered.values;
        let item = |value: usize| values[value].shape[node.outer..].to_vec();
        let mut context = NodeContext {
            items: node.inputs.iter().map(|v| item(v.0)).collect(),
            output: item(output),
            outer: values[node.inputs[0].0].shape[..node.outer]
                .iter()
                .product(),
            inputs: node.inputs.iter().map(|v| stored_in[v.0]).collect(),
            second: None,
        };
        let shapes = NodeShapes {
            name: &node.name,
            items: &context.items,
            output: &context.output,
            outer: context.outer,
            dropouts: self.lowered.dropouts,
        };
        let op = match node.layer.lower(&shapes) {
            Lowering::Identity => return Ok(context.inputs[0]),
            Lowering::Common(op) => op,
            Lowering::Backend(layer) => {
                Op::Backend(backend.lower_layer(layer, &mut context, self)?)
            }
        };
        let per_draw = context.inputs.iter().any(|&v| self.is_per_draw(v));
        let accepts_draw_invariant = match &op {
            Op::Dropout(_) => true,
            Op::Backend(op) => B::accepts_draw_invariant(op),
            _ => false,
        };
        if per_draw && !accepts_draw_invariant {
            for input in &mut context.inputs {
                if !self.is_per_draw(*input) {
                    *input = self.broadcast_draws(*input);
                }
            }
        }
        let is_dropout = matches!(op, Op::Dropout(_));
        self.lowered.dropouts += usize::from(is_dropout);
        self.lowered.values[output].per_draw = per_draw || is_dropout;
        self.push(Step {
            op,
            inputs: context.inputs,
            output,
            second: context.second,
            outer: context.outer,
        });
        Ok(output)
    }
}

impl<W> LoweredGraph<W> {
    /// Assigns a slot to every value; slots of dead values are reused.
    ///
    /// `stored_in` maps each value of the graph to the planned value that stores it.
    fn assign_slots(&mut self, stored_in: &[usize]) {
        let mut last_use = vec![None; self.values.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for &value in &step.inputs {
                last_use[value] = Some(i);
            }
            // A result without readers is dead immediately.
            for value in [step.output].into_iter().chain(step.second) {
                last_use[value].get_or_insert(i);
            }
        }
        for output in &self.outputs {
            last_use[output.value] = None;
        }
        let mut free: Vec<usize> = Vec::new();
        let mut used = 0;
        let mut slot = |free: &mut Vec<usize>| {
            free.pop().unwrap_or_else(|| {
                used += 1;
                used - 1
            })
        };
        for input in &self.inputs {
            self.values[input.value].slot = slot(&mut free);
        }
        for (i, step) in self.steps.iter().enumerate() {
            let mut touched = vec![step.output];
            touched.extend(step.second);
            for &value in &touched {
                self.values[value].slot = slot(&mut free);
            }
            if self.keeps_all {
                continue;
            }
            touched.extend(&step.inputs);
            touched.sort_unstable();
            touched.dedup();
            for value in touched {
                if last_use[value] == Some(i) {
                    free.push(self.values[value].slot);
                }
            }
        }
        self.slots = used;
        if self.keeps_all {
            // A value stored in another one is read through it.
            for (value, &stored) in stored_in.iter().enumerate() {
                self.values[value].slot = self.values[stored].slot;
                self.values[value].per_draw = self.values[stored].per_draw;
            }
        }
    }
}
