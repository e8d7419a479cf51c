//! Uses of a layer as Keras 3 stores them: call arguments with tensors among them.

use serde_json::Value;

use super::functional::reference;
use super::wiring::Reference;
use crate::keras::layers::{Argument, Operation};
use crate::keras::options::brief;

/// Maximum nesting depth of lists in the arguments.
const MAX_DEPTH: usize = 8;
/// Maximum number of tensors in the list that an operation joins.
const MAX_TENSORS: usize = 64;

/// Arguments of a use.
#[derive(Default)]
pub struct Call<'a> {
    /// References that the use reads, in the order of the arguments, and then the masks of those in
    /// `masks`.
    pub inputs: Vec<Reference<'a>>,
    /// Inputs whose masks are call arguments, by index.
    pub masks: Vec<usize>,
    pub training: Option<bool>,
}

/// Parses `{"args": [...], "kwargs": {...}}`.
///
/// # Errors
/// If an argument is unsupported.
pub fn call(node: &Value) -> Result<Call<'_>, String> {
    let mut inputs = Vec::new();
    let positional = node.get("args").and_then(Value::as_array);
    for argument in positional.into_iter().flatten() {
        tensors(argument, &mut inputs, 0)?;
    }
    let mut training = None;
    let mut masks = Vec::new();
    let keywords = node.get("kwargs").and_then(Value::as_object);
    for (key, value) in keywords.into_iter().flatten() {
        match (&**key, value) {
            (_, Value::Null) => {}
            ("training", Value::Bool(on)) => training = Some(*on),
            ("mask", Value::Array(list)) => {
                for (input, value) in list.iter().enumerate().filter(|(_, v)| !v.is_null()) {
                    masks.push((input, mask(key, value)?));
                }
            }
            ("mask", value) => masks.push((0, mask(key, value)?)),
            ("inputs" | "x" | "query", value) if inputs.is_empty() => {
                tensors(value, &mut inputs, 0)?;
            }
            ("value" | "key" | "initial_state", _) => {}
            _ => return Err(unsupported(&format!("{key}={}", shown(value)))),
        }
    }
    // After the query or the sequence.
    for key in ["value", "key", "initial_state"] {
        match node.get("kwargs").and_then(|k| k.get(key)) {
            None | Some(Value::Null) => {}
            Some(value) => tensors(value, &mut inputs, 0)?,
        }
    }
    if inputs.is_empty() {
        return Err("it is used without an input".into());
    }
    if let Some((input, _)) = masks.iter().find(|(input, _)| *input >= inputs.len()) {
        return Err(format!(
            "it is called with a mask of input {input}, which it does not have"
        ));
    }
    let (masks, tensors): (Vec<usize>, Vec<Reference>) = masks.into_iter().unzip();
    inputs.extend(tensors);
    Ok(Call {
        inputs,
        masks,
        training,
    })
}

/// Parses a mask.
fn mask<'a>(key: &str, value: &'a Value) -> Result<Reference<'a>, String> {
    tensor(value)
        .flatten()
        .ok_or_else(|| unsupported(&format!("{key}={}", shown(value))))
}

/// Parses the only use of an operation: its arguments, and the references to the tensors among them.
///
/// # Errors
/// If it is used several times or not at all, or the arguments have another form.
pub fn operation<'a>(
    name: &'a str,
    inbound: &'a Value,
) -> Result<(Operation<'a>, Vec<Reference<'a>>), String> {
    let wrong = || format!("its inbound_nodes {} cannot be read", brief(inbound));
    let node = match inbound.as_array().map(Vec::as_slice) {
        Some([node]) => node,
        Some([]) => return Err("it is used without an input".into()),
        _ => return Err(wrong()),
    };
    let mut references = Vec::new();
    let mut operation = Operation {
        name,
        positional: Vec::new(),
        keywords: Vec::new(),
        tensors: 0,
    };
    let mut argument = |value: &'a Value, found: Option<Reference<'a>>| match found {
        Some(reference) => {
            references.push(reference);
            Argument::Tensor(references.len() - 1)
        }
        None => Argument::Constant(value),
    };
    // Arguments that have no effect on the result.
    let has_effect = |key: &str, value: &Value| {
        !value.is_null() && key != "name" && (key, value) != ("conjugate", &Value::Bool(false))
    };
    if let Some(arguments) = node.get("args").and_then(Value::as_array) {
        for value in arguments {
            // A list of tensors is the only argument of a concatenation.
            let tensors = value.as_array().filter(|_| arguments.len() == 1);
            for value in tensors.map_or(std::slice::from_ref(value), Vec::as_slice) {
                let argument = argument(value, tensor(value).flatten());
                operation.positional.push(argument);
            }
        }
        for (key, value) in node
            .get("kwargs")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if has_effect(key, value) {
                let argument = argument(value, tensor(value).flatten());
                operation.keywords.push((key, argument));
            }
        }
    } else {
        // A single record may appear without an enclosing list. Several are the list that is the first
        // argument; each holds the other arguments.
        let records = match node.as_array().map(Vec::as_slice) {
            Some([first, ..]) if first.is_string() => std::slice::from_ref(node),
            Some(records @ [_, ..]) if records.len() <= MAX_TENSORS => records,
            _ => return Err(wrong()),
        };
        for record in records {
            let first = match record.as_array().map(Vec::as_slice) {
                Some([name, _, value, ..]) if name == "_CONSTANT_VALUE" => argument(value, None),
                _ => argument(record, Some(reference(record).ok_or_else(wrong)?.0)),
            };
            operation.positional.push(first);
        }
        for (key, value) in records[0]
            .get(3)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if has_effect(key, value) {
                let argument = argument(value, reference(value).map(|(r, _)| r));
                operation.keywords.push((key, argument));
            }
        }
    }
    operation.tensors = references.len();
    match references.is_empty() {
        true => Err("it is used without an input".into()),
        false => Ok((operation, references)),
    }
}

fn unsupported(argument: &str) -> String {
    format!("it is called with the argument {argument}; this is not supported")
}

/// Describes an argument: a tensor by its layer.
fn shown(value: &Value) -> String {
    match tensor(value) {
        Some(Some(reference)) => format!("(output of {})", reference.layer),
        _ => brief(value),
    }
}

/// Appends the tensors of an argument, which may be a list or a tuple.
fn tensors<'a>(
    value: &'a Value,
    found: &mut Vec<Reference<'a>>,
    depth: usize,
) -> Result<(), String> {
    let items = match value {
        Value::Array(items) => Some(items),
        Value::Object(object) if object.get("class_name").is_some_and(|c| c == "__tuple__") => {
            let config = object.get("config").unwrap_or(value);
            config.get("items").and_then(Value::as_array)
        }
        _ => None,
    };
    match (items, tensor(value)) {
        (Some(items), _) if depth < MAX_DEPTH => items
            .iter()
            .try_for_each(|item| tensors(item, found, depth + 1)),
        (_, Some(Some(reference))) => {
            found.push(reference);
            Ok(())
        }
        _ => Err(unsupported(&brief(value))),
    }
}

/// Parses a tensor: `None` if the value is none, `Some(None)` if it has no valid origin.
fn tensor(value: &Value) -> Option<Option<Reference<'_>>> {
    let is_tensor = value
        .get("class_name")
        .is_some_and(|c| c == "__keras_tensor__");
    is_tensor.then(|| {
        let history = value.get("config")?.get("keras_history")?.as_array()?;
        let number = |i: usize| usize::try_from(history.get(i)?.as_u64()?).ok();
        Some(Reference {
            layer: history.first()?.as_str()?,
            node: number(1)?,
            tensor: number(2)?,
        })
    })
}
