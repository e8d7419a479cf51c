//! Flattening of nested models into one graph.

use std::collections::{HashMap, HashSet};

use super::config::{Kind, Model, Source, Spec, Step};
use super::error::Fault;
use super::layers::{Call, MergeMode, Operand, Part};
use super::weights::Assigned;
use crate::nn::graph::{Graph, Input, MAX_NODES, Node, Output, ValueId, WeightId};
use crate::nn::layers::{Concat, Layer, Merge};

/// Flattens `model` with the weights of its leaves.
///
/// # Errors
/// All of `faults`, and the faults found while flattening.
pub fn graph(
    name: String,
    model: &Model,
    assigned: Assigned,
    mut faults: Vec<Fault>,
) -> Result<Graph, Fault> {
    let Assigned {
        leaf_weights,
        weights,
        ..
    } = assigned;
    let inputs: Vec<Input> = model
        .inputs
        .iter()
        .map(|i| Input {
            name: i.name.clone(),
            shape: i.shape.clone(),
        })
        .collect();
    let mut builder = Builder {
        leaf_weights: &leaf_weights,
        used_names: inputs.iter().map(|i| i.name.clone()).collect(),
        ranks: inputs.iter().map(|i| i.shape.len()).collect(),
        nodes: Vec::new(),
        calls: 0,
        faults: Vec::new(),
        is_full: false,
    };
    let operands: Vec<Value> = (0..inputs.len()).map(|i| Some(ValueId(i))).collect();
    let top = Context {
        prefix: String::new(),
        outer: 0,
        training: None,
    };
    let values = builder.model(model, &operands, &top);
    faults.append(&mut builder.faults);
    if let Some(fault) = Fault::all(faults) {
        return Err(fault);
    }
    // A value is unknown only because of a fault, and there were none.
    let outputs = model.outputs.iter().zip(values.into_iter().flatten());
    let graph = Graph {
        name,
        outputs: outputs
            .map(|((name, _), value)| Output {
                name: name.clone(),
                value,
            })
            .collect(),
        inputs,
        nodes: builder.nodes,
        weights,
    };
    graph.validate().map_err(Fault::Graph)?;
    Ok(graph)
}

/// Value in the graph; `None` if a fault prevents it from being computed. Its consumers are not
/// checked.
type Value = Option<ValueId>;

struct Builder<'a> {
    leaf_weights: &'a [Option<Vec<WeightId>>],
    used_names: HashSet<String>,
    /// Number of dimensions of each value, without the batch.
    ranks: Vec<usize>,
    nodes: Vec<Node>,
    calls: usize,
    faults: Vec<Fault>,
    /// Set when the network has exceeded its size limit; flattening then stops.
    is_full: bool,
}

/// Position of a layer in the nested models.
struct Context {
    /// Prefix of node names, such as `body_1/` inside the second use of `body`.
    prefix: String,
    /// Number of enclosing TimeDistributed wrappers.
    outer: usize,
    /// Argument `training` of the enclosing models; a layer's own argument takes precedence.
    training: Option<bool>,
}

impl Builder<'_> {
    /// Lowers a model; returns the values of its outputs.
    fn model(&mut self, model: &Model, inputs: &[Value], context: &Context) -> Vec<Value> {
        let names = step_names(model);
        // Outputs of each step; `None` if even their number is unknown.
        let mut values: Vec<Option<Vec<Value>>> = Vec::with_capacity(model.steps.len());
        // `Err` for an output that does not exist.
        let read = |values: &[Option<Vec<Value>>], source: &Source| match *source {
            Source::Input(i) => inputs.get(i).copied().ok_or(()),
            Source::Step { step, tensor } => match values.get(step) {
                Some(Some(outputs)) => outputs.get(tensor).copied().ok_or(()),
                Some(None) => Ok(None),
                None => Err(()),
            },
        };
        for (step, name) in model.steps.iter().zip(names) {
            let spec = &model.layers[step.layer];
            let operands: Result<Vec<Value>, ()> =
                step.inputs.iter().map(|s| read(&values, s)).collect();
            let Ok(operands) = operands else {
                self.faults
                    .push(spec.fault("it reads an output that its input does not have"));
                values.push(None);
                continue;
            };
            let inside = Context {
                prefix: format!("{}{name}", context.prefix),
                outer: context.outer,
                training: step.training.or(context.training),
            };
            let made = match operands.into_iter().collect::<Option<Vec<ValueId>>>() {
                Some(known) if !self.is_full => self.layer(spec, &known, inside),
                _ => Ok(None),
            };
            values.push(made.unwrap_or_else(|fault| {
                self.faults.push(fault);
                None
            }));
        }
        let outputs = model.outputs.iter().map(|(name, source)| {
            read(&values, source).unwrap_or_else(|()| {
                let problem = format!("its output {name} does not exist");
                self.faults.push(Fault::model(&context.prefix, problem));
                None
            })
        });
        outputs.collect()
    }

    /// Lowers one use of a layer, whose name here is `context.prefix`. `None` if its outputs are
    /// unknown because of an earlier fault.
    fn layer(
        &mut self,
        spec: &Spec,
        inputs: &[ValueId],
        context: Context,
    ) -> Result<Option<Vec<Value>>, Fault> {
        // Nested models can multiply uses without adding a node, so calls are limited too.
        self.calls += 1;
        if self.calls > MAX_NODES || self.nodes.len() >= MAX_NODES {
            self.is_full = true;
            return Err(spec.fault(format!(
                "the flattened network has more than {MAX_NODES} layers"
            )));
        }
        let ranks = inputs
            .iter()
            .map(|v| self.ranks[v.0].checked_sub(context.outer))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| spec.fault("its input has too few dimensions"))?;
        match &spec.kind {
            Kind::Unsupported => Ok(None),
            Kind::Leaf { id, leaf } => {
                let Some(weights) = &self.leaf_weights[*id] else {
                    return Ok(None);
                };
                let call = Call {
                    ranks: &ranks,
                    weights,
                    training: context.training,
                };
                let parts = leaf.lower(&call).map_err(|problem| spec.fault(problem))?;
                let value = self.parts(parts, inputs, &context);
                Ok(Some(vec![Some(value)]))
            }
            Kind::Model(model) => {
                let fits = model.inputs.len() == inputs.len()
                    && model
                        .inputs
                        .iter()
                        .zip(&ranks)
                        .all(|(i, &r)| i.shape.len() == r);
                if !fits {
                    return Err(spec.fault(format!(
                        "it takes inputs of {:?} dimensions without the batch, but is given {ranks:?}",
                        model.inputs.iter().map(|i| i.shape.len()).collect::<Vec<_>>()
                    )));
                }
                let context = Context {
                    prefix: format!("{}/", context.prefix),
                    ..context
                };
                let operands: Vec<Value> = inputs.iter().copied().map(Some).collect();
                Ok(Some(self.model(model, &operands, &context)))
            }
            Kind::TimeDistributed(inner) => {
                if inputs.len() != 1 || ranks[0] < 1 {
                    return Err(spec.fault("it takes one input with a time dimension"));
                }
                let outer = context.outer + 1;
                self.layer(inner, inputs, Context { outer, ..context })
            }
            Kind::Bidirectional {
                forward,
                backward,
                mode,
                sequences,
            } => {
                let mut directions = Vec::with_capacity(2);
                for direction in [forward, backward] {
                    let inside = Context {
                        prefix: format!("{}/{}", context.prefix, direction.name),
                        ..context
                    };
                    let outputs = self.layer(direction, inputs, inside)?.unwrap_or_default();
                    directions.extend(outputs.into_iter().flatten());
                }
                let [first, mut last] = directions[..] else {
                    return Ok(None);
                };
                let rank = if *sequences { 2 } else { 1 };
                if *sequences {
                    let name = format!("{}/reverse", context.prefix);
                    last = self.node(name, Layer::Reverse, &[last], &[rank], context.outer);
                }
                let layer = match *mode {
                    MergeMode::Concat => Layer::Concat(Concat { axis: rank - 1 }),
                    MergeMode::Merge(op) => Layer::Merge(Merge { op }),
                };
                let ranks = [rank, rank];
                let value = self.node(context.prefix, layer, &[first, last], &ranks, context.outer);
                Ok(Some(vec![Some(value)]))
            }
        }
    }

    /// Adds the nodes of one use of a layer; returns the value of the last, or the first input if
    /// there is none.
    fn parts(&mut self, parts: Vec<Part>, inputs: &[ValueId], context: &Context) -> ValueId {
        let last = parts.len().saturating_sub(1);
        let mut values: Vec<ValueId> = Vec::with_capacity(parts.len());
        for (
            i,
            Part {
                layer,
                inputs: reads,
            },
        ) in parts.into_iter().enumerate()
        {
            let name = match i == last {
                true => context.prefix.clone(),
                false => format!("{}/{}", context.prefix, layer.class()),
            };
            let operands: Vec<ValueId> = reads
                .iter()
                .map(|operand| match *operand {
                    Operand::Input(n) => inputs[n],
                    Operand::Part(n) => values[n],
                })
                .collect();
            let ranks: Vec<usize> = operands
                .iter()
                .map(|v| self.ranks[v.0].saturating_sub(context.outer))
                .collect();
            values.push(self.node(name, layer, &operands, &ranks, context.outer));
        }
        values.last().copied().unwrap_or(inputs[0])
    }

    fn node(
        &mut self,
        mut name: String,
        layer: Layer,
        inputs: &[ValueId],
        ranks: &[usize],
        outer: usize,
    ) -> ValueId {
        let mut n = 0;
        let base = name.clone();
        while !self.used_names.insert(name.clone()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        self.ranks.push(layer.rank(ranks) + outer);
        self.nodes.push(Node {
            name,
            layer,
            inputs: inputs.to_vec(),
            outer,
        });
        ValueId(self.ranks.len() - 1)
    }
}

/// Returns a unique name for each step: the layer's name, with `_1`, `_2`, ... for repetitions.
fn step_names(model: &Model) -> Vec<String> {
    let mut used_names: HashSet<String> = model.layers.iter().map(|l| l.name.clone()).collect();
    let mut again: Vec<&Step> = model.steps.iter().filter(|s| s.repetition > 0).collect();
    again.sort_by_key(|s| (s.layer, s.repetition));
    let mut names = HashMap::new();
    for step in again {
        let base = &model.layers[step.layer].name;
        let mut n = step.repetition;
        let mut name = format!("{base}_{n}");
        while !used_names.insert(name.clone()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        names.insert((step.layer, step.repetition), name);
    }
    model
        .steps
        .iter()
        .map(|s| {
            names
                .remove(&(s.layer, s.repetition))
                .unwrap_or_else(|| model.layers[s.layer].name.clone())
        })
        .collect()
}
