//! Functional models: each layer lists the layer outputs that it reads.

use std::collections::HashMap;

use serde_json::Value;

use super::node::Call;
use super::wiring::{LayerUse, NamedEntity, Reference, Wiring};
use super::{InputSpec, Kind, Model, Parser, Spec, input, is_model, layers, node, record};
use crate::keras::error::Fault;
use crate::keras::options::{Problems, brief};
use crate::nn::graph::MAX_NODES;

impl Parser {
    pub(super) fn functional(&mut self, config: &Value, path: &str, depth: usize) -> Option<Model> {
        let found = self.joined(config, path, depth);
        self.or_record_fault(found).flatten()
    }

    /// Returns true for an operation that is no layer: those of TensorFlow in Keras 2, and in Keras 3,
    /// where they have no options that every layer has.
    fn is_operation(&self, class: &str, config: &Value) -> bool {
        match self.dialect.keras3 {
            None => matches!(class, "TFOpLambda" | "SlicingOpLambda"),
            Some(_) => {
                !is_model(class)
                    && config.get("dtype").is_none_or(Value::is_null)
                    && config.get("trainable").is_none()
            }
        }
    }

    /// Parses an operation that is no layer, and the references that it reads. `None` if it is
    /// unsupported; the fault is then recorded.
    fn operation<'a>(
        &mut self,
        name: &str,
        class: &str,
        config: &'a Value,
        inbound: &'a Value,
        path: &str,
    ) -> Option<(Spec, Vec<Reference<'a>>)> {
        let path = match path {
            "" => name.to_owned(),
            _ => format!("{path}/{name}"),
        };
        self.specs += 1;
        let parse = || -> Result<_, Problems> {
            let options = config
                .as_object()
                .ok_or_else(|| format!("its configuration is {}", brief(config)))?;
            // Keras 2 names the function of TensorFlow in an option.
            let function = options.get("function").and_then(Value::as_str);
            let (operation, inputs) = node::operation(function.unwrap_or_default(), inbound)?;
            let leaf = match function {
                Some(_) => operation.leaf()?,
                None => layers::operation(class, options, operation, self.dialect)?,
            };
            Ok((leaf, inputs))
        };
        match parse() {
            Ok((leaf, inputs)) => {
                self.leaves += 1;
                let id = self.leaves - 1;
                let spec = Spec {
                    name: name.into(),
                    path,
                    class: class.into(),
                    trainable: true,
                    is_operation: self.dialect.keras3.is_some(),
                    kind: Kind::Leaf { id, leaf },
                };
                Some((spec, inputs))
            }
            Err(Problems(problems)) => {
                let faults = problems.into_iter().map(|p| Fault::layer(&path, class, p));
                self.faults.extend(faults);
                None
            }
        }
    }

    /// Parses a functional model. `None` if a layer or its connections are unsupported; the fault
    /// is then recorded.
    fn joined(&mut self, config: &Value, path: &str, depth: usize) -> Result<Option<Model>, Fault> {
        let fail = |problem: String| Fault::model(path, problem);
        let list = config
            .get("layers")
            .and_then(Value::as_array)
            .ok_or_else(|| fail("its configuration has no list of layers".into()))?;
        let mut complete = true;
        let mut declared: Vec<InputSpec> = Vec::new();
        let mut layers: Vec<Spec> = Vec::new();
        let mut uses: Vec<LayerUse> = Vec::new();
        let mut names: HashMap<&str, NamedEntity> = HashMap::new();
        for value in list {
            let (class, layer) = record(value).map_err(&fail)?;
            let name = [value, layer]
                .into_iter()
                .find_map(|v| v.get("name")?.as_str())
                .ok_or_else(|| fail(format!("a layer of class {class} has no name")))?;
            let named = if class == "InputLayer" {
                let Some(input) = self.or_record_fault(input(name, layer, path, self.dialect))
                else {
                    complete = false;
                    continue;
                };
                declared.push(input);
                NamedEntity::Input(declared.len() - 1)
            } else {
                let inbound = value.get("inbound_nodes").unwrap_or(&Value::Null);
                let (spec, calls) = if self.is_operation(class, layer) {
                    let Some((spec, inputs)) = self.operation(name, class, layer, inbound, path)
                    else {
                        complete = false;
                        continue;
                    };
                    let call = Call {
                        inputs,
                        ..Call::default()
                    };
                    (spec, vec![call])
                } else {
                    let spec = self.spec(name, class, layer, path, depth);
                    let calls = calls(inbound).map_err(|problem| spec.fault(problem));
                    let Some(calls) = self.or_record_fault(calls) else {
                        complete = false;
                        continue;
                    };
                    (spec, calls)
                };
                for (repetition, call) in calls.into_iter().enumerate() {
                    uses.push(LayerUse {
                        layer: layers.len(),
                        repetition,
                        inputs: call.inputs,
                        masks: call.masks,
                        training: call.training,
                    });
                }
                layers.push(spec);
                NamedEntity::Layer(layers.len() - 1)
            };
            if names.insert(name, named).is_some() {
                return Err(fail(format!("two of its layers are named {name:?}")));
            }
        }
        if !complete {
            return Ok(None);
        }
        if uses.len() > MAX_NODES {
            return Err(fail(format!(
                "its layers are used more than {MAX_NODES} times"
            )));
        }
        let input_refs = list_of_references(config, "input_layers").map_err(&fail)?;
        let output_refs = list_of_references(config, "output_layers").map_err(&fail)?;
        let mut order = Vec::new();
        for r in &input_refs {
            match names.get(r.layer) {
                Some(&NamedEntity::Input(i)) if !order.contains(&i) => order.push(i),
                _ => {
                    let problem = format!("its input {:?} is not an input layer", r.layer);
                    return Err(fail(problem));
                }
            }
        }
        let wiring = Wiring::new(&layers, &uses, &names, &order, &output_refs, self.dialect);
        let (steps, outputs) = wiring.sort_topologically(&output_refs).map_err(&fail)?;
        let outputs = unique_names(&output_refs)
            .into_iter()
            .zip(outputs)
            .collect();
        let mut slots: Vec<Option<InputSpec>> = declared.into_iter().map(Some).collect();
        Ok(Some(Model {
            name: config.get("name").and_then(Value::as_str).map(Into::into),
            inputs: order.iter().filter_map(|&i| slots[i].take()).collect(),
            outputs,
            layers,
            steps,
            built_with_inputs: true,
        }))
    }
}

/// Returns the names of the outputs: the layer's name, with `_1`, `_2`, ... for further outputs of
/// the same layer.
fn unique_names(references: &[Reference]) -> Vec<String> {
    let mut taken: HashMap<String, usize> =
        references.iter().map(|r| (r.layer.to_owned(), 0)).collect();
    let mut given = std::collections::HashSet::new();
    let mut names = Vec::with_capacity(references.len());
    for r in references {
        let mut name = r.layer.to_owned();
        let mut n = taken.get(r.layer).copied().unwrap_or(0);
        while !given.insert(name.clone()) {
            n += 1;
            name = format!("{}_{n}", r.layer);
        }
        taken.insert(r.layer.to_owned(), n);
        names.push(name);
    }
    names
}

/// Parses the uses of a layer.
fn calls(inbound: &Value) -> Result<Vec<Call<'_>>, String> {
    let wrong = || format!("its inbound_nodes {} cannot be read", brief(inbound));
    let nodes = match inbound {
        Value::Null => &[][..],
        Value::Array(nodes) => nodes,
        _ => return Err(wrong()),
    };
    nodes
        .iter()
        .map(|node| {
            if node.is_object() {
                return node::call(node);
            }
            let records = match node.as_array() {
                // A single input may appear without an enclosing list.
                Some(one) if one.first().is_some_and(Value::is_string) => {
                    std::slice::from_ref(node)
                }
                Some(many) => many,
                None => return Err(wrong()),
            };
            let mut training = None;
            let mut inputs = Vec::new();
            let mut mask = None;
            for r in records {
                let (read, arguments) = reference(r).ok_or_else(|| {
                    format!("it reads {}, which is no output of a layer", brief(r))
                })?;
                inputs.push(read);
                if let Some(arguments) = arguments {
                    call_arguments(arguments, &mut training)?;
                    // Further inputs of an attention layer.
                    let more = ["value", "key"].iter().filter_map(|k| arguments.get(k));
                    inputs.extend(more.filter_map(reference).map(|(r, _)| r));
                    mask = arguments.get("mask").and_then(reference).or(mask);
                }
            }
            if inputs.is_empty() {
                return Err("it is used without an input".into());
            }
            let masks = Vec::from_iter(mask.as_ref().map(|_| 0));
            inputs.extend(mask.map(|(r, _)| r));
            Ok(Call {
                inputs,
                masks,
                training,
            })
        })
        .collect()
}

fn call_arguments(arguments: &Value, training: &mut Option<bool>) -> Result<(), String> {
    let map = match arguments {
        Value::Null => return Ok(()),
        Value::Object(map) => map,
        other => return Err(format!("its call arguments are {}", brief(other))),
    };
    for (key, value) in map {
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("value" | "key" | "mask", input) if reference(input).is_some() => {}
            ("training", Value::Bool(on)) => *training = Some(*on),
            // Keras saves `training=1` as the number.
            ("training", Value::Number(n)) if n.as_u64().is_some_and(|n| n <= 1) => {
                *training = Some(n.as_u64() == Some(1));
            }
            _ => {
                return Err(format!(
                    "it is called with the argument {key}={}; this is not supported",
                    brief(value)
                ));
            }
        }
    }
    Ok(())
}

/// Parses `[layer, node, tensor]`, with or without call arguments.
pub(super) fn reference(value: &Value) -> Option<(Reference<'_>, Option<&Value>)> {
    let parts = value.as_array()?;
    let number = |i: usize| usize::try_from(parts.get(i)?.as_u64()?).ok();
    let reference = Reference {
        layer: parts.first()?.as_str()?,
        node: number(1)?,
        tensor: number(2)?,
    };
    (parts.len() <= 4).then_some((reference, parts.get(3)))
}

/// Parses `input_layers` or `output_layers`: a list of references, a single one, or in Keras 3 an
/// object of them, whose order is that of the sorted keys.
fn list_of_references<'a>(config: &'a Value, key: &str) -> Result<Vec<Reference<'a>>, String> {
    let value = config.get(key).unwrap_or(&Value::Null);
    let wrong = || format!("its {key} {} cannot be read", brief(value));
    if let Value::Object(map) = value {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort_unstable();
        return keys
            .iter()
            .map(|key| {
                let found = map.get(*key).and_then(reference);
                found.map(|(r, _)| r).ok_or_else(wrong)
            })
            .collect();
    }
    let records = match value.as_array() {
        Some(one) if one.first().is_some_and(Value::is_string) => std::slice::from_ref(value),
        Some(many) if !many.is_empty() && many.len() <= MAX_NODES => many,
        _ => return Err(wrong()),
    };
    records
        .iter()
        .map(|r| reference(r).map(|(r, _)| r).ok_or_else(wrong))
        .collect()
}
