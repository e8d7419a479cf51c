//! From nested models to one flat graph.

use std::collections::{HashMap, HashSet};

use super::config::{Kind, Model, Source, Spec, Step};
use super::error::Fault;
use super::layers::{Call, MergeMode};
use crate::nn::graph::{Graph, Input, MAX_NODES, Node, Output, ValueId, Weight, WeightId};
use crate::nn::layer::Layer;

/// Flattens `model` with the weights of its leaves.
pub fn graph(
    name: String,
    model: &Model,
    leaf_weights: &[Vec<WeightId>],
    weights: Vec<Weight>,
) -> Result<Graph, Fault> {
    let inputs: Vec<Input> = model
        .inputs
        .iter()
        .map(|i| Input {
            name: i.name.clone(),
            shape: i.shape.clone(),
        })
        .collect();
    let mut builder = Builder {
        leaf_weights,
        taken: inputs.iter().map(|i| i.name.clone()).collect(),
        ranks: inputs.iter().map(|i| i.shape.len()).collect(),
        nodes: Vec::new(),
        calls: 0,
    };
    let given: Vec<ValueId> = (0..inputs.len()).map(ValueId).collect();
    let top = Context {
        prefix: String::new(),
        outer: 0,
        training: None,
    };
    let values = builder.model(model, &given, &top)?;
    let outputs = model.outputs.iter().zip(values);
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

struct Builder<'a> {
    leaf_weights: &'a [Vec<WeightId>],
    taken: HashSet<String>,
    /// Dimensions of each value, without the batch.
    ranks: Vec<usize>,
    nodes: Vec<Node>,
    calls: usize,
}

/// Where in the nesting a layer is used.
struct Context {
    /// What names of nodes begin with, `body_1/` inside the second use of `body`.
    prefix: String,
    /// TimeDistributed wrappers around.
    outer: usize,
    /// `training` of the models around; a layer's own argument comes first.
    training: Option<bool>,
}

impl Builder<'_> {
    fn model(
        &mut self,
        model: &Model,
        inputs: &[ValueId],
        context: &Context,
    ) -> Result<Vec<ValueId>, Fault> {
        let names = step_names(model);
        let mut values: Vec<Vec<ValueId>> = Vec::with_capacity(model.steps.len());
        let read = |values: &[Vec<ValueId>], source: &Source| match *source {
            Source::Input(i) => inputs.get(i).copied(),
            Source::Step { step, tensor } => values.get(step)?.get(tensor).copied(),
        };
        for (step, name) in model.steps.iter().zip(names) {
            let spec = &model.layers[step.layer];
            let given = step
                .inputs
                .iter()
                .map(|source| read(&values, source))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| spec.fault("it reads an output that its input does not have"))?;
            let inside = Context {
                prefix: format!("{}{name}", context.prefix),
                outer: context.outer,
                training: step.training.or(context.training),
            };
            values.push(self.layer(spec, &given, inside)?);
        }
        model
            .outputs
            .iter()
            .map(|(name, source)| {
                read(&values, source).ok_or_else(|| {
                    Fault::model(&context.prefix, format!("its output {name} does not exist"))
                })
            })
            .collect()
    }

    /// One use of a layer; `context.prefix` is its own name here.
    fn layer(
        &mut self,
        spec: &Spec,
        inputs: &[ValueId],
        context: Context,
    ) -> Result<Vec<ValueId>, Fault> {
        // Models inside models can multiply uses without adding a single node.
        self.calls += 1;
        if self.calls > MAX_NODES || self.nodes.len() >= MAX_NODES {
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
            Kind::Leaf { id, leaf } => {
                let call = Call {
                    ranks: &ranks,
                    weights: &self.leaf_weights[*id],
                    training: context.training,
                };
                let layer = leaf.lower(&call).map_err(|problem| spec.fault(problem))?;
                Ok(vec![match layer {
                    Some(layer) => self.node(context.prefix, layer, inputs, &ranks, context.outer),
                    None => inputs[0],
                }])
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
                self.model(model, inputs, &context)
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
                    directions.extend(self.layer(direction, inputs, inside)?);
                }
                let rank = if *sequences { 2 } else { 1 };
                if let ([_, last], true) = (&mut *directions, *sequences) {
                    let name = format!("{}/reverse", context.prefix);
                    *last = self.node(name, Layer::Reverse, &[*last], &[rank], context.outer);
                }
                let layer = match *mode {
                    MergeMode::Concat => Layer::Concat { axis: rank - 1 },
                    MergeMode::Merge(op) => Layer::Merge { op },
                };
                let ranks = [rank, rank];
                Ok(vec![self.node(
                    context.prefix,
                    layer,
                    &directions,
                    &ranks,
                    context.outer,
                )])
            }
        }
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
        while !self.taken.insert(name.clone()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        self.ranks.push(rank(&layer, ranks) + outer);
        self.nodes.push(Node {
            name,
            layer,
            inputs: inputs.to_vec(),
            outer,
        });
        ValueId(self.ranks.len() - 1)
    }
}

/// Dimensions of a layer's output.
fn rank(layer: &Layer, inputs: &[usize]) -> usize {
    let first = inputs.first().copied().unwrap_or(0);
    match layer {
        Layer::GlobalPool {
            keep_dims: false, ..
        }
        | Layer::Flatten => 1,
        Layer::Lstm(r) | Layer::Gru { recurrent: r, .. } => 1 + usize::from(r.return_sequences),
        Layer::Reshape { shape } => shape.len(),
        Layer::RepeatVector { .. } => 2,
        Layer::Merge { .. } => inputs.iter().copied().max().unwrap_or(0),
        Layer::SumAxis { .. } => first.saturating_sub(1),
        Layer::GlobalPool {
            keep_dims: true, ..
        }
        | Layer::Conv(_)
        | Layer::Pool(_)
        | Layer::Upsample { .. }
        | Layer::ZeroPad { .. }
        | Layer::BatchNorm(_)
        | Layer::Dense { .. }
        | Layer::Reverse
        | Layer::Permute { .. }
        | Layer::Concat { .. }
        | Layer::Dropout(_)
        | Layer::Activation(_)
        | Layer::Softmax { .. }
        | Layer::PRelu { .. }
        | Layer::SpatialMultiply
        | Layer::ChannelMultiply => first,
    }
}

/// A name for each step: the layer's, then with `_1`, `_2`, ... that no other layer has.
fn step_names(model: &Model) -> Vec<String> {
    let mut taken: HashSet<String> = model.layers.iter().map(|l| l.name.clone()).collect();
    let mut again: Vec<&Step> = model.steps.iter().filter(|s| s.repetition > 0).collect();
    again.sort_by_key(|s| (s.layer, s.repetition));
    let mut names = HashMap::new();
    for step in again {
        let base = &model.layers[step.layer].name;
        let mut n = step.repetition;
        let mut name = format!("{base}_{n}");
        while !taken.insert(name.clone()) {
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
