//! The options of one layer, read so that none can be overlooked.
//!
//! Every key of a layer's configuration is either asked for, known not to matter at inference, or
//! an error: an option that this program does not know could change what the layer computes.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::nn::graph::MAX_ELEMENTS;
use crate::nn::layer::Padding;

/// Keys of any layer that only matter for training or for Keras' own bookkeeping.
const NEUTRAL: [&str; 9] = [
    "name",
    "trainable",
    "batch_input_shape",
    "batch_shape",
    "build_config",
    "module",
    "registered_name",
    "seed",
    "input_dtype",
];
/// The same, by the end of the key.
const NEUTRAL_SUFFIXES: [&str; 3] = ["_initializer", "_regularizer", "_constraint"];

/// A layer's configuration; problems are described in words, the caller adds the layer.
pub struct Options<'a> {
    map: &'a Map<String, Value>,
    seen: HashSet<&'static str>,
}

impl<'a> Options<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Self {
        let seen = HashSet::new();
        Self { map, seen }
    }

    /// The value of an option, or `None` if it is missing or null.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.seen.insert(key);
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// Options that do not matter at inference.
    pub fn ignore(&mut self, keys: &[&'static str]) {
        self.seen.extend(keys);
    }

    /// Fails if an option is left that nobody asked for, or if numbers are not 32 bits wide.
    pub fn finish(&mut self) -> Result<(), String> {
        if let Some(dtype) = self.value("dtype") {
            float32(dtype)?;
        }
        for (key, value) in self.map {
            let known = self.seen.contains(key.as_str())
                || NEUTRAL.contains(&key.as_str())
                || NEUTRAL_SUFFIXES.iter().any(|s| key.ends_with(s));
            if !known && !value.is_null() {
                return Err(format!(
                    "option {key:?} is not known (it is {})",
                    brief(value)
                ));
            }
        }
        Ok(())
    }

    /// Fails unless an option is missing or has the one value that is implemented.
    pub fn only(&mut self, key: &'static str, implemented: Value) -> Result<(), String> {
        match self.value(key) {
            Some(value) if *value != implemented => Err(unsupported(
                key,
                value,
                &format!("only {implemented} is supported"),
            )),
            _ => Ok(()),
        }
    }

    /// Fails if an option is switched on (or set at all).
    pub fn off(&mut self, key: &'static str) -> Result<(), String> {
        match self.value(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(value) => Err(unsupported(key, value, "this is not supported")),
        }
    }

    pub fn channels_last(&mut self) -> Result<(), String> {
        match self.value("data_format") {
            None => Ok(()),
            Some(Value::String(s)) if s == "channels_last" => Ok(()),
            Some(value) => Err(unsupported(
                "data_format",
                value,
                "only \"channels_last\" is supported; rebuild the model with channels last",
            )),
        }
    }

    pub fn bool(&mut self, key: &'static str, default: bool) -> Result<bool, String> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| unsupported(key, value, "true or false is needed")),
        }
    }

    /// A finite number.
    pub fn number(&mut self, key: &'static str) -> Result<Option<f32>, String> {
        self.value(key)
            .map(|value| {
                value
                    .as_f64()
                    .map(|x| x as f32)
                    .filter(|x| x.is_finite())
                    .ok_or_else(|| unsupported(key, value, "a number is needed"))
            })
            .transpose()
    }

    /// A number that must be given.
    pub fn needed_number(&mut self, key: &'static str) -> Result<f32, String> {
        self.number(key)?.ok_or_else(|| missing(key))
    }

    pub fn text(&mut self, key: &'static str) -> Result<Option<&'a str>, String> {
        self.value(key)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| unsupported(key, value, "a word is needed"))
            })
            .transpose()
    }

    /// A positive size that must be given.
    pub fn size(&mut self, key: &'static str) -> Result<usize, String> {
        let value = self.value(key).ok_or_else(|| missing(key))?;
        size_of(value).ok_or_else(|| unsupported(key, value, "a positive size is needed"))
    }

    /// One size per dimension: a list, or one number for all.
    pub fn sizes<const N: usize>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<[usize; N]>, String> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let sizes = match value {
            Value::Array(list) => list
                .iter()
                .map(size_of)
                .collect::<Option<Vec<_>>>()
                .and_then(|v| v.try_into().ok()),
            one => size_of(one).map(|n| [n; N]),
        };
        sizes
            .map(Some)
            .ok_or_else(|| unsupported(key, value, &format!("{N} positive sizes are needed")))
    }

    /// A list of whole numbers that must be given; one number is a list of one.
    pub fn integers(&mut self, key: &'static str) -> Result<Vec<i64>, String> {
        let value = self.value(key).ok_or_else(|| missing(key))?;
        match value {
            Value::Array(list) => list.iter().map(Value::as_i64).collect(),
            one => one.as_i64().map(|n| vec![n]),
        }
        .ok_or_else(|| unsupported(key, value, "whole numbers are needed"))
    }

    pub fn padding(&mut self, causal: bool) -> Result<Padding, String> {
        match self.text("padding")? {
            None | Some("valid") => Ok(Padding::Valid),
            Some("same") => Ok(Padding::Same),
            Some("causal") if causal => Ok(Padding::Causal),
            Some(other) => Err(unsupported(
                "padding",
                &other.into(),
                "this is not supported",
            )),
        }
    }
}

fn size_of(value: &Value) -> Option<usize> {
    let n = usize::try_from(value.as_u64()?).ok()?;
    (1..=MAX_ELEMENTS).contains(&n).then_some(n)
}

/// Fails unless a data type (its name, or a policy that has it) is `float32`.
pub fn float32(dtype: &Value) -> Result<(), String> {
    let name = match dtype {
        Value::Object(policy) => policy.get("config").and_then(|c| c.get("name")),
        name => Some(name),
    };
    match name.and_then(Value::as_str) {
        Some("float32") => Ok(()),
        _ => Err(unsupported("dtype", dtype, "only \"float32\" is supported")),
    }
}

pub fn missing(key: &str) -> String {
    format!("option {key:?} is missing")
}

pub fn unsupported(key: &str, found: &Value, why: &str) -> String {
    format!("option {key:?} is {}; {why}", brief(found))
}

/// JSON, cut to what fits in a message.
pub fn brief(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().nth(120) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// The dimension (counted without the batch) that Keras' `axis` means for a value of `rank`
/// dimensions without the batch: Keras counts the batch, and from the end if negative.
pub fn dimension(axis: i64, rank: usize) -> Result<usize, String> {
    let total = rank as i64 + 1;
    let counted = if axis < 0 {
        axis.saturating_add(total)
    } else {
        axis
    };
    match counted {
        0 => Err(format!("axis {axis} is the batch")),
        n if (1..total).contains(&n) => Ok(n as usize - 1),
        _ => Err(format!(
            "axis {axis} is not one of the {total} dimensions of its input (the batch included)"
        )),
    }
}
