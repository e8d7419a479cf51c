//! The options of one layer, read so that none can be overlooked.
//!
//! Every key of a layer's configuration is either asked for, known not to matter at inference, or
//! an error: an option that this program does not know could change what the layer computes.
//!
//! Problems are collected, so that all of them can be told at once: a method that finds one notes it
//! and gives a value that serves until [`Options::finish`] fails.

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

/// What is wrong with a layer, at least one thing, each described in words; the caller adds the
/// layer.
#[derive(Debug)]
pub struct Problems(pub Vec<String>);

impl<T: Into<String>> From<T> for Problems {
    fn from(problem: T) -> Self {
        Self(vec![problem.into()])
    }
}

/// A layer's configuration and the problems found in it.
pub struct Options<'a> {
    map: &'a Map<String, Value>,
    seen: HashSet<&'static str>,
    problems: Vec<String>,
}

impl<'a> Options<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Self {
        Self {
            map,
            seen: HashSet::new(),
            problems: Vec::new(),
        }
    }

    /// Notes a problem.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// The value of `found`, or else `stand_in` and a note.
    pub fn or_note<T>(&mut self, found: Result<T, String>, stand_in: T) -> T {
        found.unwrap_or_else(|problem| {
            self.problem(problem);
            stand_in
        })
    }

    /// What was read, unless there are problems. Options that nobody asked for are one, but only if
    /// reading came to its end.
    pub fn conclude<T>(mut self, read: Result<T, Problems>) -> Result<T, Problems> {
        match read {
            Ok(value) => self.finish().map(|()| value),
            Err(Problems(mut more)) => {
                self.problems.append(&mut more);
                Err(Problems(self.problems))
            }
        }
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

    /// Fails if there were problems, if an option is left that nobody asked for, or if numbers are
    /// not 32 bits wide.
    fn finish(&mut self) -> Result<(), Problems> {
        if let Some(dtype) = self.value("dtype")
            && let Err(problem) = float32(dtype)
        {
            self.problem(problem);
        }
        for (key, value) in self.map {
            let known = self.seen.contains(key.as_str())
                || NEUTRAL.contains(&key.as_str())
                || NEUTRAL_SUFFIXES.iter().any(|s| key.ends_with(s));
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

    /// Notes an option that has another value than the one that is implemented.
    pub fn only(&mut self, key: &'static str, implemented: Value) {
        if let Some(value) = self.value(key)
            && *value != implemented
        {
            let why = format!("only {implemented} is supported");
            self.problem(unsupported(key, value, &why));
        }
    }

    /// Notes an option that is switched on (or set at all).
    pub fn off(&mut self, key: &'static str) {
        match self.value(key) {
            None | Some(Value::Bool(false)) => {}
            Some(value) => self.problem(unsupported(key, value, "this is not supported")),
        }
    }

    pub fn channels_last(&mut self) {
        match self.value("data_format") {
            None => {}
            Some(Value::String(s)) if s == "channels_last" => {}
            Some(value) => self.problem(unsupported(
                "data_format",
                value,
                "only \"channels_last\" is supported; rebuild the model with channels last",
            )),
        }
    }

    pub fn bool(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else {
            return default;
        };
        let found = value
            .as_bool()
            .ok_or_else(|| unsupported(key, value, "true or false is needed"));
        self.or_note(found, default)
    }

    /// A finite number.
    pub fn number(&mut self, key: &'static str) -> Option<f32> {
        let value = self.value(key)?;
        let found = value
            .as_f64()
            .map(|x| x as f32)
            .filter(|x| x.is_finite())
            .ok_or_else(|| unsupported(key, value, "a number is needed"));
        Some(self.or_note(found, 0.0))
    }

    /// A number that must be given.
    pub fn needed_number(&mut self, key: &'static str) -> f32 {
        let found = self.number(key).ok_or_else(|| missing(key));
        self.or_note(found, 0.0)
    }

    /// A word; `None` as well if something else stands there.
    pub fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let value = self.value(key)?;
        if !value.is_string() {
            self.problem(unsupported(key, value, "a word is needed"));
        }
        value.as_str()
    }

    /// A positive size that must be given.
    pub fn size(&mut self, key: &'static str) -> usize {
        let found = match self.value(key) {
            None => Err(missing(key)),
            Some(value) => {
                size_of(value).ok_or_else(|| unsupported(key, value, "a positive size is needed"))
            }
        };
        self.or_note(found, 1)
    }

    /// One size per dimension: a list, or one number for all.
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
        Some(self.or_note(sizes, [1; N]))
    }

    /// One size per dimension that must be given.
    pub fn needed_sizes<const N: usize>(&mut self, key: &'static str) -> [usize; N] {
        let found = self.sizes(key).ok_or_else(|| missing(key));
        self.or_note(found, [1; N])
    }

    /// A list of whole numbers that must be given; one number is a list of one.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn integers(&mut self, key: &'static str) -> Result<Vec<i64>, String> {
        let value = self.value(key).ok_or_else(|| missing(key))?;
        match value {
            Value::Array(list) => list.iter().map(Value::as_i64).collect(),
            one => one.as_i64().map(|n| vec![n]),
        }
        .ok_or_else(|| unsupported(key, value, "whole numbers are needed"))
    }

    /// Option `axis`, one whole number or a list of one; the last axis if it is missing. `only` says
    /// what is supported.
    pub fn axis(&mut self, only: &str) -> i64 {
        const LAST: i64 = -1;
        if self.value("axis").is_none() {
            return LAST;
        }
        let found = self.integers("axis").and_then(|axes| match *axes {
            [axis] => Ok(axis),
            _ => Err(format!("option \"axis\" is {axes:?}; {only}")),
        });
        self.or_note(found, LAST)
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

/// Fails unless a data type (its name, or a policy that has it) is `float32`.
pub fn float32(dtype: &Value) -> Result<(), String> {
    let name = match dtype {
        Value::Object(policy) => policy.get("config").and_then(|c| c.get("name")),
        name => Some(name),
    };
    let why = match name.and_then(Value::as_str) {
        Some("float32") => return Ok(()),
        // The weights of such a model are stored in 32 bits; only the computation is narrower.
        Some("mixed_float16" | "mixed_bfloat16") => {
            "only \"float32\" is supported: build the network again with this policy left out (tf.keras.mixed_precision.set_global_policy(\"float32\")), load the weights of this file into it with load_weights, which have 32 bits already, and save it with model.save(\"name.h5\")"
        }
        _ => {
            "only \"float32\" is supported: build the network again with dtype=\"float32\", give it these weights (set_weights) and save it with model.save(\"name.h5\")"
        }
    };
    Err(unsupported("dtype", dtype, why))
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
