//! Lambda layers: Python functions that a file carries as compiled code.
//!
//! The code is never run. It is parsed as data and recognised if it is an expression of known
//! functions (`K.sum(x, axis=1)`, `tf.squeeze(x, [2]) * 0.5`, `x[:, -1]`), or `Spatial_multiply(x)` or
//! `Channel_multiply(x)`. Any other code is refused with a description.

pub mod bytecode;
pub mod marshal;
pub mod program;

use serde_json::Value;

use self::bytecode::call_of_x;
use self::marshal::{Code, Object, shortened};
use super::Leaf;
use crate::keras::options::{Options, brief, dimension, missing, unsupported};
use crate::nn::layers::{Layer, SumAxis};

/// Function of a Lambda layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Sum over an axis in Keras' numbering (0 is the batch, -1 the last).
    SumAxis(i64),
    /// `x[0] * x[1]`, with the attention `[height, width, 1]` broadcast over the channels.
    SpatialMultiply,
    /// `x[0] * x[1]`, with the attention `[channels]` broadcast over the positions.
    ChannelMultiply,
}

/// Recognises a marshalled code object.
///
/// # Errors
/// If the bytes are not a code object of Python 3.5 to 3.13, or it computes something else. The
/// message then shows its names, constants, argument count, source file and line.
pub fn recognise(marshalled: &[u8]) -> Result<Function, String> {
    let code = code(marshalled)?;
    function(&code).ok_or_else(|| unknown(&code))
}

/// Parses a marshalled code object.
fn code(marshalled: &[u8]) -> Result<Code, String> {
    marshal::code(marshalled).map_err(|problem| match is_python_2(marshalled) {
        true => "its function was compiled by Python 2, whose code is not read; build the network again in Keras 2 under Python 3, give it these weights (load_weights) and save it with model.save(\"name.h5\")".into(),
        false => format!("its function is no code object of Python 3.5 to 3.13 ({problem})"),
    })
}

fn unknown(code: &Code) -> String {
    format!(
        "its function is not one of those that are recognised (sums, means, slices, arithmetic with constants and similar; Spatial_multiply, Channel_multiply); found: {}",
        describe(code)
    )
}

/// Flags of `*args` and `**kwargs` (0x04, 0x08), generators and coroutines (0x20, 0x80, 0x100, 0x200).
const UNUSUAL: u32 = 0x3ac;

/// Returns whether a code object has the fields of Python 2: four integers before the bytecode,
/// fewer than in Python 3.
fn is_python_2(marshalled: &[u8]) -> bool {
    const BYTECODE_AT: usize = 1 + 4 * 4;
    marshalled.first() == Some(&b'c') && marshalled.get(BYTECODE_AT) == Some(&b's')
}

fn function(code: &Code) -> Option<Function> {
    let simple = code.arguments == 1
        && code.keyword_only == 0
        && code.shared == 0
        && code.locals.len() == 1
        && code.flags & UNUSUAL == 0;
    if !simple {
        return None;
    }
    let call = call_of_x(code)?;
    match (&*call.function, &*call.positional, &*call.keywords) {
        (["Spatial_multiply"], [], []) => Some(Function::SpatialMultiply),
        (["Channel_multiply"], [], []) => Some(Function::ChannelMultiply),
        (path, [axis], []) | (path, [], [("axis", axis)]) if is_sum(path) => match axis {
            Object::Int(axis) => Some(Function::SumAxis(*axis)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether a dotted name is the sum of Keras' backend or of TensorFlow, under its usual
/// import names.
fn is_sum(path: &[&str]) -> bool {
    matches!(
        path,
        ["K" | "backend", "sum"]
            | ["keras", "backend", "sum"]
            | ["keras", "K", "sum"]
            | ["tf" | "tensorflow", "keras", "backend", "sum"]
            | ["tf" | "tensorflow", "reduce_sum"]
            | ["tf" | "tensorflow", "math", "reduce_sum"]
    )
}

fn describe(code: &Code) -> String {
    let list = |items: Vec<String>| {
        let more = if items.len() > 12 { ", ..." } else { "" };
        format!(
            "{}{more}",
            items.into_iter().take(12).collect::<Vec<_>>().join(", ")
        )
    };
    format!(
        "{} with {} argument(s), names ({}), constants ({}), from {:?} line {}",
        shortened(&code.name),
        code.arguments,
        list(code.names.iter().map(|n| shortened(n)).collect()),
        list(code.constants.iter().map(|c| c.brief()).collect()),
        shortened(&code.file),
        code.line
    )
}

/// Parses a layer of class `Lambda`.
///
/// # Errors
/// If the function is not recognised, or has a closure.
pub fn layer(o: &mut Options) -> Result<Leaf, String> {
    // Keras needs the stored output shape only to rebuild the function.
    o.ignore(&["output_shape", "output_shape_type", "output_shape_module"]);
    match o.text("function_type") {
        None | Some("lambda") => {}
        Some(kind) => {
            let found = o.value("function").unwrap_or(&Value::Null);
            return Err(format!(
                "its function is the {kind} {}, which the file names but does not hold",
                brief(found)
            ));
        }
    }
    let none = serde_json::Map::new();
    let arguments = match o.value("arguments") {
        Some(Value::Object(arguments)) => arguments,
        None => &none,
        Some(other) => {
            o.problem(unsupported("arguments", other, "named values are needed"));
            &none
        }
    };
    o.off("mask");
    let found = o.value("function").ok_or_else(|| missing("function"))?;
    let stored = stored(found)?;
    let code = code(&code_bytes(stored.code)?)?;
    if let Some(function) = function(&code)
        && arguments.is_empty()
        && stored.defaults.is_empty()
    {
        return Ok(known(function));
    }
    let program = bound_arguments(&code, arguments, stored.defaults)
        .and_then(|bound| program::translate(&*bytecode::expression(&code)?, &bound));
    let Some(program) = program else {
        return Err(unknown(&code));
    };
    let wanted = program.inputs;
    let leaf = program.leaf(move |call| match call.ranks.len() {
        inputs if inputs == wanted => Ok(()),
        inputs => Err(format!(
            "its function takes {wanted} input(s), but it has {inputs}"
        )),
    });
    Ok(leaf.with_input_list())
}

/// Makes the layer of one of the functions of [`Function`].
fn known(function: Function) -> Leaf {
    let leaf = Leaf::plain(move |call| {
        let inputs = call.ranks.len();
        let wanted = if let Function::SumAxis(_) = function {
            1
        } else {
            2
        };
        if inputs != wanted {
            return Err(format!(
                "its function takes {wanted} input(s), but it has {inputs}"
            ));
        }
        Ok(Some(match function {
            Function::SumAxis(axis) => Layer::SumAxis(SumAxis {
                axis: dimension(axis, call.ranks[0])?,
            }),
            Function::SpatialMultiply => Layer::SpatialMultiply,
            Function::ChannelMultiply => Layer::ChannelMultiply,
        }))
    });
    leaf.with_input_list()
}

/// Returns the value of each argument after the first, `None` for one that the code does not use with
/// a value: those given by name, and the defaults of the last arguments. `None` if the function has
/// other kinds of arguments, or one is missing or unknown.
fn bound_arguments(
    code: &Code,
    arguments: &serde_json::Map<String, Value>,
    defaults: &[Value],
) -> Option<Vec<Option<Value>>> {
    let count = usize::try_from(code.arguments).ok()?;
    let unusual = code.keyword_only != 0 || code.shared != 0 || code.flags & UNUSUAL != 0;
    if unusual || count == 0 || count > code.locals.len() {
        return None;
    }
    let names = &code.locals[1..count];
    if arguments.keys().any(|key| !names.contains(key)) {
        return None;
    }
    let without_default = count.checked_sub(defaults.len())?;
    (1..count)
        .map(|i| {
            let default = i.checked_sub(without_default).map(|i| &defaults[i]);
            let value = arguments.get(&code.locals[i]).or(default);
            value.map(|value| Some(value.clone()))
        })
        .collect()
}

/// Stored function.
struct Stored<'a> {
    code: &'a str,
    /// Defaults of the last arguments.
    defaults: &'a [Value],
}

/// Returns the code of a function without closure: `[code, defaults, null]`, or since Keras 2.13
/// `{"class_name": "__lambda__", "config": {"code": ...}}`.
fn stored(function: &Value) -> Result<Stored<'_>, String> {
    let (code, defaults, closure) = match function {
        Value::Array(parts) => (parts.first(), parts.get(1), parts.get(2)),
        Value::Object(object) => match object.get("config") {
            Some(Value::Object(config)) => (
                config.get("code"),
                config.get("defaults"),
                config.get("closure"),
            ),
            _ => (None, None, None),
        },
        _ => (None, None, None),
    };
    if let Some(closure) = closure
        && !is_empty(closure)
    {
        return Err(format!(
            "its function has closure {}; this is not supported",
            brief(closure)
        ));
    }
    let defaults = match defaults {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(defaults)) => defaults,
        Some(other) => return Err(format!("its function has defaults {}", brief(other))),
    };
    let code = code
        .and_then(Value::as_str)
        .ok_or_else(|| unsupported("function", function, "a Python code object is needed"))?;
    Ok(Stored { code, defaults })
}

/// Decodes the text of a code object: base64, or one character per byte as in Keras 2.0.
fn code_bytes(text: &str) -> Result<Vec<u8>, String> {
    base64(text).or_else(|_| {
        let bytes = raw_unicode_escape(text);
        // A marshalled code object begins with this letter, with or without the highest bit.
        match bytes.first().is_some_and(|b| b & 0x7f == b'c') {
            true => Ok(bytes),
            false => Err("its function is neither base64 nor the code of a Python function".into()),
        }
    })
}

/// Encodes text like Python's codec of that name, which inverts Keras 2.0's conversion of code to
/// text. That conversion maps each byte to a character, except that `\u` or `\U` with its digits
/// becomes one character.
fn raw_unicode_escape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            byte @ 0..=0xff => bytes.push(byte as u8),
            short @ 0x100..=0xffff => bytes.extend(format!("\\u{short:04x}").bytes()),
            long => bytes.extend(format!("\\U{long:08x}").bytes()),
        }
    }
    bytes
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Decodes base64 (RFC 4648); line breaks are allowed.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    const WRONG: &str = "its function is not valid base64";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut group, mut digits, mut padding) = (0u32, 0, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace()) {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                0
            }
            _ => return Err(WRONG.into()),
        };
        if padding > 0 && c != b'=' {
            return Err(WRONG.into());
        }
        group = group << 6 | u32::from(digit);
        digits += 1;
        if digits == 4 {
            let [_, three @ ..] = group.to_be_bytes();
            bytes.extend_from_slice(&three[..3usize.checked_sub(padding).ok_or(WRONG)?]);
            (group, digits) = (0, 0);
        }
    }
    match digits {
        0 if padding <= 2 => Ok(bytes),
        _ => Err(WRONG.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9v\nYmFyCg==\n", "foobar\n"),
        ] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes(), "{text:?}");
        }
        for wrong in ["Zg=", "Z", "Zg==Zg==", "====", "Zm9v====", "Zm9-"] {
            assert!(base64(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn raw_code_is_encoded_as_python_does() {
        // print(list("c\x00\xe3\u1234\U0001f600".encode("raw_unicode_escape")))
        let bytes = raw_unicode_escape("c\0\u{e3}\u{1234}\u{1f600}");
        assert_eq!(bytes, b"c\0\xe3\\u1234\\U0001f600");
    }
}
