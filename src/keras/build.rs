//! Flattening of nested models into one graph.

use std::collections::{HashMap, HashSet};

use super::config::{Kind, Model, Source, Spec, Step};
use super::error::Fault;
use super::layers::{Call, Dialect, Domain, Lowered, Masking, MergeMode, Operand, Part};
use super::weights::Assigned;
use crate::nn::graph::{Graph, Input, MAX_NODES, Node, Output, ValueId, WeightId};
use crate::nn::layers::{Activation, Concat, Layer, Merge, MergeOp};

/// Flattens `model` with the weights of its leaves.
///
/// # Errors
/// All of `faults`, and the faults found while flattening.
pub fn graph(
    name: String,
    model: &Model,
    assigned: Assigned,
    dialect: Dialect,
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
        masks: HashMap::new(),
        complex: HashSet::new(),
        stateful: HashSet::new(),
        dialect,
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
    let outputs = values.iter().zip(&model.outputs);
    for (_, (name, _)) in outputs.filter(|(v, _)| v.is_some_and(|v| builder.complex.contains(&v))) {
        let problem = format!("its output {name} is complex; only real outputs are supported");
        builder.faults.push(Fault::model("", problem));
    }
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
    /// Masks of the values that have one.
    masks: HashMap<ValueId, ValueId>,
    /// Complex values; see [`Domain`].
    complex: HashSet<ValueId>,
    /// Stateful leaves that have been used.
    stateful: HashSet<usize>,
    dialect: Dialect,
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
                Some(known) if !self.is_full => self.with_masks(spec, &known, &step.masks, inside),
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

    /// Lowers one use of a layer. The last of `operands` are the masks of the inputs `masked`.
    fn with_masks(
        &mut self,
        spec: &Spec,
        operands: &[ValueId],
        masked: &[usize],
        context: Context,
    ) -> Result<Option<Vec<Value>>, Fault> {
        let (inputs, masks) = operands.split_at(operands.len().saturating_sub(masked.len()));
        let mut given: HashMap<ValueId, ValueId> = HashMap::new();
        for (&input, &mask) in masked.iter().zip(masks) {
            let Some(&input) = inputs.get(input) else {
                return Err(spec.fault("it has a mask of an input that it does not have"));
            };
            if self.ranks[mask.0] != 1 {
                return Err(spec.fault("its mask has other dimensions than [time]"));
            }
            if given.insert(input, mask).is_some_and(|other| other != mask) {
                return Err(spec.fault("it reads one value with different masks"));
            }
        }
        let own: Vec<(ValueId, Option<ValueId>)> = given
            .into_iter()
            .map(|(input, mask)| (input, self.masks.insert(input, mask)))
            .collect();
        let made = self.layer(spec, inputs, context);
        for (input, mask) in own {
            match mask {
                Some(mask) => self.masks.insert(input, mask),
                None => self.masks.remove(&input),
            };
        }
        made
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
                let is_complex = inputs.iter().any(|v| self.complex.contains(v));
                match (is_complex, leaf.domain) {
                    (true, Domain::Real | Domain::RealToComplex) => {
                        return Err(spec.fault(
                            "its input is complex, which is supported for kapre's Magnitude and Phase only",
                        ));
                    }
                    (false, Domain::ComplexToReal) => {
                        return Err(spec.fault("its input is not complex, which it needs"));
                    }
                    _ => {}
                }
                let masks: Vec<bool> = inputs.iter().map(|v| self.masks.contains_key(v)).collect();
                let call = Call {
                    ranks: &ranks,
                    weights,
                    masks: &masks,
                    training: context.training,
                };
                let lowered = leaf.lower(&call).map_err(|problem| spec.fault(problem))?;
                if lowered.parts.iter().any(|part| part.layer.is_stateful()) {
                    if context.outer > 0 {
                        return Err(spec.fault(
                            "it is stateful and inside of a TimeDistributed layer, whose steps continue each other in it; build the model with stateful=False, or without TimeDistributed",
                        ));
                    }
                    if !self.stateful.insert(*id) {
                        return Err(spec.fault(
                            "it is stateful and used more than once, so that each use continues the one before it; build the model with a layer for each use",
                        ));
                    }
                }
                let outputs = self.parts(lowered, leaf.masking, inputs, &context);
                let outputs = outputs.map_err(|problem| spec.fault(problem))?;
                if leaf.domain == Domain::RealToComplex {
                    self.complex.extend(&outputs);
                }
                Ok(Some(outputs.into_iter().map(Some).collect()))
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
                let mask = self.time_distributed_mask(inner, inputs[0]);
                let mask = mask.map_err(|problem| spec.fault(problem))?;
                // The inner layer has none of the outer steps' mask.
                let hidden = self.masks.remove(&inputs[0]);
                let outputs = self.layer(inner, inputs, Context { outer, ..context });
                self.masks.extend(hidden.map(|mask| (inputs[0], mask)));
                let Some(outputs) = outputs? else {
                    return Ok(None);
                };
                for output in outputs.iter().flatten().filter(|v| **v != inputs[0]) {
                    if self.masks.contains_key(output) {
                        return Err(
                            spec.fault("its inner layer creates a mask, which is not supported")
                        );
                    }
                    self.masks.extend(mask.map(|mask| (*output, mask)));
                }
                Ok(Some(outputs))
            }
            Kind::Bidirectional {
                forward,
                backward,
                mode,
                sequences,
            } => {
                let Some((&sequence, states)) = inputs.split_first() else {
                    return Err(spec.fault("it has no input"));
                };
                if !states.len().is_multiple_of(2) {
                    return Err(spec.fault(format!(
                        "it has {} initial states, which are no two equal halves",
                        states.len()
                    )));
                }
                let mask = self.masks.get(&sequence).copied();
                // The first half of the states is that of the forward direction.
                let (ahead, back) = states.split_at(states.len() / 2);
                let mut directions = Vec::with_capacity(2);
                let mut last_states = Vec::new();
                for (direction, states) in [(forward, ahead), (backward, back)] {
                    let inside = Context {
                        prefix: format!("{}/{}", context.prefix, direction.name),
                        ..context
                    };
                    let inputs = [&[sequence], states].concat();
                    let outputs = self.layer(direction, &inputs, inside)?.unwrap_or_default();
                    let mut outputs = outputs.into_iter();
                    directions.extend(outputs.next().flatten());
                    last_states.extend(outputs);
                }
                let [first, mut last] = directions[..] else {
                    return Ok(None);
                };
                let rank = if *sequences { 2 } else { 1 };
                if *sequences {
                    let name = format!("{}/reverse", context.prefix);
                    last = self.node(name, Layer::Reverse, &[last], context.outer);
                }
                let layer = match *mode {
                    MergeMode::Concat => Some(Layer::Concat(Concat { axis: rank - 1 })),
                    MergeMode::Merge(op) => Some(Layer::Merge(Merge { op })),
                    MergeMode::Separate => None,
                };
                let values = match layer {
                    Some(layer) => {
                        vec![self.node(context.prefix, layer, &[first, last], context.outer)]
                    }
                    None => vec![first, last],
                };
                for &value in values.iter().filter(|_| *sequences) {
                    self.masks.extend(mask.map(|mask| (value, mask)));
                }
                let mut outputs: Vec<Value> = values.into_iter().map(Some).collect();
                outputs.extend(last_states);
                Ok(Some(outputs))
            }
        }
    }

    /// Adds the nodes of one use of a layer; returns its outputs.
    fn parts(
        &mut self,
        lowered: Lowered,
        masking: Masking,
        inputs: &[ValueId],
        context: &Context,
    ) -> Result<Vec<ValueId>, String> {
        let Lowered {
            parts,
            outputs,
            mask,
        } = lowered;
        let outputs = match (&*outputs, parts.len().checked_sub(1)) {
            ([], Some(last)) => vec![Operand::Part(last)],
            ([], None) => vec![Operand::Input(0)],
            _ => outputs,
        };
        let mut values: Vec<ValueId> = Vec::with_capacity(parts.len());
        for (
            i,
            Part {
                layer,
                inputs: reads,
                outer,
            },
        ) in parts.into_iter().enumerate()
        {
            let name = match outputs[0] == Operand::Part(i) {
                true => context.prefix.clone(),
                false => format!("{}/{}", context.prefix, layer.class()),
            };
            let operands: Vec<ValueId> = reads
                .iter()
                .map(|&operand| self.operand(operand, inputs, &values))
                .collect();
            values.push(self.node(name, layer, &operands, context.outer + outer));
        }
        let created = mask.map(|mask| self.operand(mask, inputs, &values));
        let mut outputs: Vec<ValueId> = outputs
            .iter()
            .map(|&output| self.operand(output, inputs, &values))
            .collect();
        let masks: Vec<Option<ValueId>> =
            inputs.iter().map(|v| self.masks.get(v).copied()).collect();
        let mask = match masking {
            _ if created.is_some() => created,
            Masking::Passes => masks[0],
            Masking::Stops | Masking::Reads | Masking::Refuses(_) => None,
            Masking::Merges => self.merged_mask(&masks, context)?,
            Masking::Concatenates { axis } => {
                let rank = self.ranks[inputs[0].0].saturating_sub(context.outer);
                let along_time = axis == 1 || axis == -(rank as i64);
                match along_time && rank > 1 && masks.iter().any(Option::is_some) {
                    true => Some(self.joined_mask(&masks, context)?),
                    false => self.merged_mask(&masks, context)?,
                }
            }
        };
        if outputs[0] == inputs[0] && mask != masks[0] {
            // A value has one mask, so a copy gets the other mask.
            let same = Layer::Activation(Activation::Linear);
            outputs[0] = self.node(context.prefix.clone(), same, &[inputs[0]], context.outer);
        }
        self.masks.extend(mask.map(|mask| (outputs[0], mask)));
        Ok(outputs)
    }

    fn operand(&self, operand: Operand, inputs: &[ValueId], parts: &[ValueId]) -> ValueId {
        match operand {
            Operand::Input(n) => inputs[n],
            Operand::Part(n) => parts[n],
            Operand::Mask(n) => self.masks[&inputs[n]],
        }
    }

    /// Returns the mask of an element-wise combination of values with these masks: the steps that no
    /// mask skips.
    fn merged_mask(
        &mut self,
        masks: &[Option<ValueId>],
        context: &Context,
    ) -> Result<Option<ValueId>, String> {
        let mut present: Vec<ValueId> = masks.iter().flatten().copied().collect();
        let is_partial = present.len() < masks.len();
        present.sort_unstable();
        present.dedup();
        if present.is_empty() || (present.len() == 1 && !is_partial) {
            return Ok(present.first().copied());
        }
        if self.dialect.keras3.is_some_and(|minor| minor > 0) {
            return Err(
                "its inputs have different masks, which versions of Keras 3 combine in different ways".into(),
            );
        }
        if let [one] = *present {
            return Ok(Some(one));
        }
        let op = MergeOp::Minimum;
        let name = format!("{}/mask", context.prefix);
        let layer = Layer::Merge(Merge { op });
        Ok(Some(self.node(name, layer, &present, context.outer)))
    }

    /// Returns the mask of a concatenation along the time.
    fn joined_mask(
        &mut self,
        masks: &[Option<ValueId>],
        context: &Context,
    ) -> Result<ValueId, String> {
        let all: Option<Vec<ValueId>> = masks.iter().copied().collect();
        let all = all.ok_or("some of its inputs have a mask; all or none may have one")?;
        let name = format!("{}/mask", context.prefix);
        let layer = Layer::Concat(Concat { axis: 0 });
        Ok(self.node(name, layer, &all, context.outer))
    }

    /// Returns the mask of the output of a TimeDistributed layer.
    fn time_distributed_mask(
        &self,
        inner: &Spec,
        input: ValueId,
    ) -> Result<Option<ValueId>, String> {
        let Some(&mask) = self.masks.get(&input) else {
            return Ok(None);
        };
        let passes = match &inner.kind {
            Kind::Leaf { leaf, .. } => match leaf.masking {
                Masking::Passes => true,
                // Keras 2 cannot build such a model.
                Masking::Stops => self.dialect.keras3.is_some(),
                _ => false,
            },
            _ => false,
        };
        match passes {
            true => Ok(Some(mask)),
            false => Err(format!(
                "its input has a mask, which is not supported around a {}",
                inner.class
            )),
        }
    }

    fn node(
        &mut self,
        mut name: String,
        layer: Layer,
        inputs: &[ValueId],
        outer: usize,
    ) -> ValueId {
        let mut n = 0;
        let base = name.clone();
        while !self.used_names.insert(name.clone()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        let ranks: Vec<usize> = inputs
            .iter()
            .map(|v| self.ranks[v.0].saturating_sub(outer))
            .collect();
        self.ranks.push(layer.rank(&ranks) + outer);
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
