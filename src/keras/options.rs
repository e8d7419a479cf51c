//! Options of one layer, with a check that none is overlooked.
//!
//! Every key of a layer's configuration must be read, be irrelevant at inference, or it is an
//! error: an unknown option could change the result of the layer.
//!
//! Problems are collected so that all are reported at once. A method that finds a problem records
//! it and returns a placeholder; [`Options::finish`] fails later.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::layers::Dialect;
use crate::nn::graph::MAX_ELEMENTS;
use crate::nn::layers::Padding;

/// Keys of any layer that are relevant only for training or for Keras' bookkeeping.
const IRRELEVANT_KEYS: [&str; 9] = [
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
/// Suffixes of keys that are relevant only for training.
const IRRELEVANT_SUFFIXES: [&str; 3] = ["_initializer", "_regularizer", "_constraint"];

/// Problems of a layer, at least one, as text; the caller adds the layer.
#[derive(Debug)]
pub struct Problems(pub Vec<String>);

impl<T: Into<String>> From<T> for Problems {
    fn from(problem: T) -> Self {
        Self(vec![problem.into()])
    }
}

/// Configuration of a layer, and the problems found in it.
pub struct Options<'a> {
    /// Semantics of the file's Keras version.
    pub dialect: Dialect,
    map: &'a Map<String, Value>,
    read_keys: HashSet<&'static str>,
    problems: Vec<String>,
    checks_dtype: bool,
}

impl<'a> Options<'a> {
    pub fn new(map: &'a Map<String, Value>, dialect: Dialect) -> Self {
        Self {
            dialect,
            map,
            read_keys: HashSet::new(),
            problems: Vec::new(),
            checks_dtype: true,
        }
    }

    /// Records a problem.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Returns the value of `found`; otherwise records the problem and returns `placeholder`.
    pub fn or_record<T>(&mut self, found: Result<T, String>, placeholder: T) -> T {
        found.unwrap_or_else(|problem| {
            self.problem(problem);
            placeholder
        })
    }

    /// Returns the result of parsing, unless there are problems. Unread options are a problem only
    /// if parsing completed.
    pub fn finish<T>(mut self, read: Result<T, Problems>) -> Result<T, Problems> {
        match read {
            Ok(value) => self.check_complete().map(|()| value),
            Err(Problems(mut more)) => {
                self.problems.append(&mut more);
                Err(Problems(self.problems))
            }
        }
    }

    /// Returns the value of an option; `None` if it is missing or null.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.read_keys.insert(key);
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// Returns whether an option is stated as null.
    pub fn is_null(&mut self, key: &'static str) -> bool {
        self.read_keys.insert(key);
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// Marks options as irrelevant at inference.
    pub fn ignore(&mut self, keys: &[&'static str]) {
        self.read_keys.extend(keys);
    }

    /// Skips the check of option `dtype`.
    pub fn skip_dtype(&mut self) {
        self.checks_dtype = false;
    }

    /// Fails if there are recorded problems or unread options, or if the data type is not 32 bits
    /// wide.
    fn check_complete(&mut self) -> Result<(), Problems> {
        if self.checks_dtype
            && let Some(dtype) = self.value("dtype")
            && let Err(problem) = computed_in_32_bits(dtype)
        {
            self.problem(problem);
        }
        for (key, value) in self.map {
            let known = self.read_keys.contains(key.as_str())
                || IRRELEVANT_KEYS.contains(&key.as_str())
                || IRRELEVANT_SUFFIXES.iter().any(|s| key.ends_with(s));
            if !known && !value.is_null() {
                let found = brief(value);
                self.problem(format!("option {key:?} is not known (it is {found})"));
            }
        }
        match std::mem::take(&mut self.problems) {
            none if none.is_empty() => Ok(()),
            problems => Err(Problems(problems)),
        }
    }

    /// Records a problem if an option has a value other than the implemented one.
    pub fn only(&mut self, key: &'static str, implemented: Value) {
        if let Some(value) = self.value(key)
            && *value != implemented
        {
            let why = format!("only {implemented} is supported");
            self.problem(unsupported(key, value, &why));
        }
    }

    /// Records a problem if an option is switched on, or set at all.
    pub fn off(&mut self, key: &'static str) {
        match self.value(key) {
            None | Some(Value::Bool(false)) => {}
            Some(value) => self.problem(unsupported(key, value, "this is not supported")),
        }
    }

    /// Reads option `data_format`; returns true if the channels come first.
    pub fn channels_first(&mut self) -> bool {
        match self.value("data_format") {
            None => false,
            Some(Value::String(s)) if s == "channels_last" => false,
            Some(Value::String(s)) if s == "channels_first" => true,
            Some(value) => {
                self.problem(unsupported(
                    "data_format",
                    value,
                    "\"channels_last\" or \"channels_first\" is needed",
                ));
                false
            }
        }
    }

    /// Reads a truth value. A file holds 0 or 1 if the program that made the layer gave those.
    pub fn bool(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else {
            return default;
        };
        let found = match value.as_u64() {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => value
                .as_bool()
                .ok_or_else(|| unsupported(key, value, "true or false is needed")),
        };
        self.or_record(found, default)
    }

    /// Reads a finite number.
    pub fn number(&mut self, key: &'static str) -> Option<f32> {
        let value = self.value(key)?;
        let found = value
            .as_f64()
            .map(|x| x as f32)
            .filter(|x| x.is_finite())
            .ok_or_else(|| unsupported(key, value, "a number is needed"));
        Some(self.or_record(found, 0.0))
    }

    /// Reads a required number.
    pub fn needed_number(&mut self, key: &'static str) -> f32 {
        let found = self.number(key).ok_or_else(|| missing(key));
        self.or_record(found, 0.0)
    }

    /// Reads a string; `None` also for another type, which is recorded.
    pub fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.value(key)?;
        if !value.is_string() {
            self.problem(unsupported(key, value, "a word is needed"));
        }
        value.as_str()
    }

    /// Reads a required positive size.
    pub fn size(&mut self, key: &'static str) -> usize {
        let found = match self.value(key) {
            None => Err(missing(key)),
            Some(value) => {
                size_of(value).ok_or_else(|| unsupported(key, value, "a positive size is needed"))
            }
        };
        self.or_record(found, 1)
    }

    /// Reads one size per dimension: a list, or one number for all.
    pub fn sizes<const N: usize>(&mut self, key: &'static str) -> Option<[usize; N]> {
        let value = self.value(key)?;
        let sizes = match value {
            Value::Array(list) => list
                .iter()
                .map(size_of)
                .collect::<Option<Vec<_>>>()
                .and_then(|v| v.try_into().ok()),
            one => size_of(one).map(|n| [n; N]),
        };
        let sizes =
            sizes.ok_or_else(|| unsupported(key, value, &format!("{N} positive sizes are needed")));
        Some(self.or_record(sizes, [1; N]))
    }

    /// Reads one required size per dimension.
    pub fn needed_sizes<const N: usize>(&mut self, key: &'static str) -> [usize; N] {
        let found = self.sizes(key).ok_or_else(|| missing(key));
        self.or_record(found, [1; N])
    }

    /// Reads a required list of integers; a single integer is a list of one.
    ///
    /// # Errors
    /// If the option is missing or has another type.
    pub fn integers(&mut self, key: &'static str) -> Result<Vec<i64>, String> {
        let value = self.value(key).ok_or_else(|| missing(key))?;
        match value {
            Value::Array(list) => list.iter().map(Value::as_i64).collect(),
            one => one.as_i64().map(|n| vec![n]),
        }
        .ok_or_else(|| unsupported(key, value, "whole numbers are needed"))
    }

    /// Reads option `axis`: an integer, or a list of one; the last axis if it is missing. `only`
    /// describes the supported values.
    pub fn axis(&mut self, only: &str) -> i64 {
        const LAST: i64 = -1;
        if self.value("axis").is_none() {
            return LAST;
        }
        let found = self.integers("axis").and_then(|axes| match *axes {
            [axis] => Ok(axis),
            _ => Err(format!("option \"axis\" is {axes:?}; {only}")),
        });
        self.or_record(found, LAST)
    }

    pub fn padding(&mut self, causal: bool) -> Padding {
        match self.text("padding") {
            None | Some("valid") => Padding::Valid,
            Some("same") => Padding::Same,
            Some("causal") if causal => Padding::Causal,
            Some(other) => {
                self.problem(unsupported(
                    "padding",
                    &other.into(),
                    "this is not supported",
                ));
                Padding::Valid
            }
        }
    }
}

fn size_of(value: &Value) -> Option<usize> {
    let n = usize::try_from(value.as_u64()?).ok()?;
    (1..=MAX_ELEMENTS).contains(&n).then_some(n)
}

/// Checks that a data type (its name, or a policy with that name) is one of those that are computed in
/// `float32`: Keras uses narrower types to save time or memory, and their values fit into `float32`.
pub fn computed_in_32_bits(dtype: &Value) -> Result<(), String> {
    let name = match dtype {
        Value::Object(policy) => policy.get("config").and_then(|c| c.get("name")),
        name => Some(name),
    };
    match name.and_then(Value::as_str) {
        Some("float32" | "float16" | "bfloat16" | "mixed_float16" | "mixed_bfloat16") => Ok(()),
        _ => Err(unsupported(
            "dtype",
            dtype,
            "only floating-point numbers of at most 32 bits are supported: build the network again with dtype=\"float32\", give it these weights (set_weights) and save it with model.save(\"name.h5\")",
        )),
    }
}

pub fn missing(key: &str) -> String {
    format!("option {key:?} is missing")
}

pub fn unsupported(key: &str, found: &Value, why: &str) -> String {
    format!("option {key:?} is {}; {why}", brief(found))
}

/// Formats JSON, truncated for a message.
pub fn brief(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().nth(120) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Converts Keras' `axis` to a dimension without the batch, for a value of `rank` dimensions
/// without the batch. Keras counts the batch, and counts from the end if `axis` is negative.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn truth_values_are_also_zero_and_one() {
        let map = json!({"a": 0, "b": 1, "c": false, "d": true, "e": 2, "f": "true", "g": 1.0});
        let dialect = Dialect {
            legacy_bilinear: None,
            keras3: None,
            old_skipped_outputs: false,
            masked_heads: None,
            mirrored_kernels: false,
        };
        let mut options = Options::new(map.as_object().unwrap(), dialect);
        assert_eq!(
            ["a", "b", "c", "d", "missing"].map(|key| options.bool(key, true)),
            [false, true, false, true, true]
        );
        for key in ["e", "f", "g"] {
            options.bool(key, true);
        }
        let Problems(problems) = options.finish(Ok(())).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("\"e\""), "{problems:?}");
    }
}
