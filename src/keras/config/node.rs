//! Uses of a layer as Keras 3 stores them: call arguments with tensors among them.

use serde_json::Value;

use super::wiring::Reference;
use crate::keras::options::brief;

/// Maximum nesting depth of lists in the arguments.
const MAX_DEPTH: usize = 8;

/// Parses `{"args": [...], "kwargs": {...}}`: the references that the use reads, in the order of the
/// arguments, and the argument `training`.
///
/// # Errors
/// If an argument is unsupported.
pub fn call(node: &Value) -> Result<(Vec<Reference<'_>>, Option<bool>), String> {
    let mut inputs = Vec::new();
    let positional = node.get("args").and_then(Value::as_array);
    for argument in positional.into_iter().flatten() {
        tensors(argument, &mut inputs, 0)?;
    }
    let mut training = None;
    let keywords = node.get("kwargs").and_then(Value::as_object);
    for (key, value) in keywords.into_iter().flatten() {
        match (&**key, value) {
            (_, Value::Null) => {}
            ("training", Value::Bool(on)) => training = Some(*on),
            ("inputs" | "x" | "query", value) if inputs.is_empty() => {
                tensors(value, &mut inputs, 0)?;
            }
            ("value" | "key", _) => {}
            _ => return Err(unsupported(&format!("{key}={}", shown(value)))),
        }
    }
    // After the query.
    for key in ["value", "key"] {
        match node.get("kwargs").and_then(|k| k.get(key)) {
            None | Some(Value::Null) => {}
            Some(value) => tensors(value, &mut inputs, 0)?,
        }
    }
    match inputs.is_empty() {
        true => Err("it is used without an input".into()),
        false => Ok((inputs, training)),
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
