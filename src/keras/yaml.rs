//! Reader of the YAML that Keras' `to_yaml` writes, as a JSON value.
//!
//! The parser library returns events and builds no values, so depth, number of values and
//! expansion of aliases are bounded here. Plain scalars are resolved by the rules of PyYAML, which
//! wrote them (YAML 1.1).

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

/// Maximum nesting depth.
const MAX_DEPTH: usize = 100;
/// Maximum number of values, with those that aliases repeat.
const MAX_VALUES: usize = 1 << 20;
/// Maximum number of bytes of text that aliases repeat.
const MAX_REPEATED: usize = 16 << 20;

/// Parses a document.
///
/// # Errors
/// If the text is no YAML, has tags of Python objects, or exceeds a limit.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| e.to_string())?;
        builder
            .event(event)
            .map_err(|problem| format!("line {}: {problem}", span.start.line()))?;
    }
    builder.root.ok_or_else(|| "it is empty".into())
}

/// A collection whose end has not been read.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

#[derive(Default)]
struct Builder {
    root: Option<Value>,
    /// Open collections, outermost first, each with its anchor (0 for none).
    stack: Vec<(usize, Open)>,
    /// Anchored values, each with its measure.
    anchors: HashMap<usize, (Value, Measure)>,
    values: usize,
    repeated: usize,
}

/// Size of a value.
#[derive(Clone, Copy, Default)]
struct Measure {
    depth: usize,
    values: usize,
    bytes: usize,
}

impl Measure {
    /// Measures a value, whose depth is at most [`MAX_DEPTH`].
    fn of(value: &Value) -> Self {
        let (own, parts): (usize, Vec<Self>) = match value {
            Value::Array(items) => (0, items.iter().map(Self::of).collect()),
            Value::Object(map) => (
                map.keys().map(String::len).sum(),
                map.values().map(Self::of).collect(),
            ),
            Value::String(text) => (text.len(), Vec::new()),
            _ => (0, Vec::new()),
        };
        parts.into_iter().fold(
            Self {
                depth: 1,
                values: 1,
                bytes: own,
            },
            |sum, part| Self {
                depth: sum.depth.max(part.depth + 1),
                values: sum.values + part.values,
                bytes: sum.bytes + part.bytes,
            },
        )
    }
}

impl Builder {
    fn event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("it holds more than one document".into())
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), &["seq", "python/tuple", "python/list"])?;
                self.open(anchor, Open::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), &["map", "omap", "python/dict"])?;
                self.open(anchor, Open::Map(Map::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (anchor, value) = match self.stack.pop() {
                    Some((anchor, Open::List(items))) => (anchor, Value::Array(items)),
                    Some((anchor, Open::Map(map, _))) => (anchor, Value::Object(map)),
                    None => return Err("a collection ends that did not begin".into()),
                };
                self.place(anchor, value)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1)?;
                let value = scalar(&text, style, tag.as_deref())?;
                self.place(anchor, value)
            }
            Event::Alias(anchor) => {
                const INCOMPLETE: &str = "an alias refers to a value that is not complete";
                let measure = self.anchors.get(&anchor).ok_or(INCOMPLETE)?.1;
                if self.stack.len() + measure.depth > MAX_DEPTH {
                    return Err(too_deep());
                }
                self.repeat(measure)?;
                let value = self.anchors.get(&anchor).map(|(value, _)| value.clone());
                self.place(0, value.ok_or(INCOMPLETE)?)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values = self.values.saturating_add(values);
        match self.values > MAX_VALUES {
            true => Err(format!("it has more than {MAX_VALUES} values")),
            false => Ok(()),
        }
    }

    /// Counts a copy of a value.
    fn repeat(&mut self, measure: Measure) -> Result<(), String> {
        self.count(measure.values)?;
        self.repeated = self.repeated.saturating_add(measure.bytes);
        match self.repeated > MAX_REPEATED {
            true => Err("its anchors and aliases repeat too much text".into()),
            false => Ok(()),
        }
    }

    fn open(&mut self, anchor: usize, collection: Open) -> Result<(), String> {
        self.count(1)?;
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.stack.push((anchor, collection));
        Ok(())
    }

    fn place(&mut self, anchor: usize, value: Value) -> Result<(), String> {
        if anchor != 0 {
            let measure = Measure::of(&value);
            self.repeat(measure)?;
            self.anchors.insert(anchor, (value.clone(), measure));
        }
        match self.stack.last_mut() {
            None => self.root = Some(value),
            Some((_, Open::List(items))) => items.push(value),
            Some((_, Open::Map(map, key))) => match key.take() {
                None => *key = Some(key_text(value)?),
                Some(key) => {
                    if map.contains_key(&key) {
                        return Err(format!("the key {key:?} occurs twice in one mapping"));
                    }
                    map.insert(key, value);
                }
            },
        }
        Ok(())
    }
}

fn too_deep() -> String {
    format!("it is nested more than {MAX_DEPTH} levels deep")
}

/// Checks that a tag is one of those that keep the meaning of the value.
fn check_tag(tag: Option<&Tag>, known: &[&str]) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.is_yaml_core_schema() && known.contains(&&*tag.suffix) => Ok(()),
        Some(tag) => Err(format!(
            "the tag {:?} stands for an object, which is not read",
            format!("{}{}", tag.handle, tag.suffix)
                .chars()
                .take(80)
                .collect::<String>()
        )),
    }
}

fn key_text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(_) | Value::Object(_) => Err("a key is a collection".into()),
        other => Ok(other.to_string()),
    }
}

/// Resolves a scalar.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    const KNOWN: [&str; 9] = [
        "str",
        "null",
        "bool",
        "int",
        "float",
        "python/unicode",
        "python/str",
        "python/long",
        "python/none",
    ];
    check_tag(tag, &KNOWN)?;
    let is_text =
        tag.is_some_and(|t| matches!(&*t.suffix, "str" | "python/unicode" | "python/str"));
    if is_text || (tag.is_none() && style != ScalarStyle::Plain) {
        return Ok(text.into());
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => true.into(),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => false.into(),
        _ => number(text).map_or_else(|| text.into(), Value::Number),
    })
}

/// Parses a decimal number: an integer, or a float with a point. `None` for text, and for infinity
/// and NaN, which no option of a layer has.
fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let plain = text.strip_prefix('+').unwrap_or(text);
        let signed = plain.parse::<i64>().ok().map(Number::from);
        return signed.or_else(|| plain.parse::<u64>().ok().map(Number::from));
    }
    text.contains('.')
        .then(|| text.parse::<f64>().ok())
        .flatten()
        .and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_forms_that_pyyaml_writes_are_read() {
        // yaml.dump of nested values with shared lists, tuples and Python 2 text.
        let text = "\
config:
- class_name: Conv2D
  config:
    kernel_size: &id001 !!python/tuple [3, 3]
    strides: *id001
    rate: 1.0e-07
    name: !!python/unicode 'conv'
    quoted: 'true'
    bias: true
    none: null
    empty: {}
    number: -12
    version: 2.2.4
    exponent: 1e-3
keras_version: 2.2.4
";
        let expected = json!({
            "config": [{"class_name": "Conv2D", "config": {
                "kernel_size": [3, 3], "strides": [3, 3], "rate": 1e-7, "name": "conv",
                "quoted": "true", "bias": true, "none": null, "empty": {}, "number": -12,
                "version": "2.2.4", "exponent": "1e-3",
            }}],
            "keras_version": "2.2.4",
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn hostile_documents_are_errors() {
        let says = |text: &str, part: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        // Each line repeats the previous one nine times.
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let before = format!("*a{}", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", [&*before; 9].join(", "));
        }
        says(&bomb, "more than 1048576 values");
        let long = format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(1 << 16),
            ["*a"; 300].join(", ")
        );
        says(&long, "repeat too much text");
        says(&"- ".repeat(5_000), "levels deep");
        says(&"[".repeat(5_000), "recursion limit");
        // Each level is nested in the previous one through an alias alone.
        let mut chain = "a0: &a0 [x]\n".to_owned();
        for n in 1..200 {
            chain += &format!("a{n}: &a{n} [*a{}]\n", n - 1);
        }
        says(&chain, "levels deep");
        says("a: &a [*a]\n", "not complete");
        says("a: !!python/object/apply:os.system ['true']\n", "os.system");
        says("a: !!python/name:os.system\n", "os.system");
        says("{a: 1, a: 2}", "twice");
        says("{[1]: 2}", "key is a collection");
        says("--- 1\n--- 2\n", "more than one document");
        says("a: [1\nb", "");
        says("", "empty");
    }
}
