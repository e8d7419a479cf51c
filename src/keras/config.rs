//! The architecture in a file's JSON: models, wrappers and layers, and which reads which.

mod functional;
mod sequential;
mod wiring;

use serde_json::{Map, Value};

use super::error::Fault;
use super::layers::{self, Bidirectional, Dialect, Leaf, MergeMode};
use super::options::{Options, brief};
use crate::nn::graph::{MAX_ELEMENTS, MAX_NODES, MAX_RANK};

/// How deeply models and wrappers may be nested.
const MAX_DEPTH: usize = 16;

/// A model: layers, and their uses in the order of computation.
pub struct Model {
    /// The name in the configuration; older files have none for a Sequential.
    pub name: Option<String>,
    pub inputs: Vec<InputSpec>,
    pub layers: Vec<Spec>,
    /// Every step reads only inputs and steps before it.
    pub steps: Vec<Step>,
    pub outputs: Vec<(String, Source)>,
    /// Whether the model knew its inputs before it was used in another.
    pub built_with_inputs: bool,
}

pub struct InputSpec {
    pub name: String,
    pub shape: Vec<Option<usize>>,
}

/// One use of a layer.
pub struct Step {
    /// Index into [`Model::layers`].
    pub layer: usize,
    /// 0 for its first use.
    pub repetition: usize,
    pub inputs: Vec<Source>,
    /// The call argument `training`, if given.
    pub training: Option<bool>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Input(usize),
    Step { step: usize, tensor: usize },
}

/// A layer, a wrapper or a model inside a model.
pub struct Spec {
    pub name: String,
    /// With the models around it, for messages and weights: `model_5/conv2d_5`.
    pub path: String,
    pub class: String,
    pub trainable: bool,
    pub kind: Kind,
}

pub enum Kind {
    Model(Model),
    TimeDistributed(Box<Spec>),
    Bidirectional {
        forward: Box<Spec>,
        backward: Box<Spec>,
        mode: MergeMode,
        sequences: bool,
    },
    Leaf {
        /// Numbers the leaves of a file.
        id: usize,
        leaf: Leaf,
    },
}

impl Spec {
    /// A [`Fault`] of this layer.
    pub fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault::layer(&self.path, &self.class, problem)
    }
}

/// The model and the number of its leaves.
pub fn parse(json: &str, dialect: Dialect) -> Result<(Model, usize), Fault> {
    let root: Value = serde_json::from_str(json)
        .map_err(|e| Fault::Format(format!("its model_config is no valid JSON: {e}")))?;
    let class = root.get("class_name").and_then(Value::as_str);
    let (Some(class), Some(config)) = (class, root.get("config")) else {
        return Err(Fault::Format(
            "its model_config has no class_name and config".into(),
        ));
    };
    let mut parser = Parser {
        dialect,
        leaves: 0,
        specs: 0,
    };
    match parser.model(class, config, "", 0) {
        Some(model) => Ok((model?, parser.leaves)),
        None => Err(Fault::model(
            "",
            format!(
                "it is a {}, but only Sequential and functional models are supported",
                brief(&class.into())
            ),
        )),
    }
}

struct Parser {
    dialect: Dialect,
    leaves: usize,
    specs: usize,
}

impl Parser {
    /// A model, or `None` if `class` is none.
    fn model(
        &mut self,
        class: &str,
        config: &Value,
        path: &str,
        depth: usize,
    ) -> Option<Result<Model, Fault>> {
        match class {
            "Model" | "Functional" => Some(self.functional(config, path, depth)),
            "Sequential" => Some(self.sequential(config, path, depth)),
            _ => None,
        }
    }

    /// `path` is that of the model around it.
    fn spec(
        &mut self,
        name: &str,
        class: &str,
        config: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Spec, Fault> {
        let path = match path {
            "" => name.to_owned(),
            _ => format!("{path}/{name}"),
        };
        let fail = |problem: String| Fault::layer(&path, class, problem);
        self.specs += 1;
        if depth > MAX_DEPTH || self.specs > MAX_NODES {
            return Err(fail(format!(
                "there are more than {MAX_DEPTH} models inside each other or more than {MAX_NODES} layers"
            )));
        }
        let trainable = config
            .get("trainable")
            .and_then(Value::as_bool)
            .unwrap_or(true);
        let kind = match (self.model(class, config, &path, depth + 1), class) {
            (Some(model), _) => Kind::Model(model?),
            (None, "TimeDistributed") => {
                let map = object(config).map_err(&fail)?;
                let o = &mut Options::new(map);
                let found = o.value("layer").unwrap_or(&Value::Null);
                o.finish().map_err(&fail)?;
                let (inner_class, inner_config) = record(found).map_err(&fail)?;
                let inner = inner_config
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or("layer");
                let inner = self.spec(inner, inner_class, inner_config, &path, depth + 1)?;
                Kind::TimeDistributed(Box::new(inner))
            }
            (None, "Bidirectional") => {
                let map = object(config).map_err(&fail)?;
                let parsed = Bidirectional::parse(map).map_err(&fail)?;
                let mut direction = |name: &str, config: Map<String, Value>| {
                    let config = Value::Object(config);
                    self.spec(name, &parsed.class, &config, &path, depth + 1)
                        .map(Box::new)
                };
                Kind::Bidirectional {
                    forward: direction("forward", parsed.forward)?,
                    backward: direction("backward", parsed.backward)?,
                    mode: parsed.mode,
                    sequences: parsed.sequences,
                }
            }
            (None, _) => {
                // The class first: the configuration of an unknown one is of no interest.
                let empty = Map::new();
                let map = config.as_object().unwrap_or(&empty);
                let leaf = layers::parse(class, map, self.dialect).map_err(&fail)?;
                self.leaves += 1;
                Kind::Leaf {
                    id: self.leaves - 1,
                    leaf,
                }
            }
        };
        Ok(Spec {
            name: name.into(),
            path,
            class: class.into(),
            trainable,
            kind,
        })
    }
}

fn object(config: &Value) -> Result<&Map<String, Value>, String> {
    config
        .as_object()
        .ok_or_else(|| format!("its configuration is {}", brief(config)))
}

/// Class and configuration of a serialised layer.
fn record(value: &Value) -> Result<(&str, &Value), String> {
    let class = value.get("class_name").and_then(Value::as_str);
    match (class, value.get("config")) {
        (Some(class), Some(config)) => Ok((class, config)),
        _ => Err(format!(
            "{} is no layer with class_name and config",
            brief(value)
        )),
    }
}

/// Reads an InputLayer.
fn input(name: &str, config: &Value, path: &str) -> Result<InputSpec, Fault> {
    let read = || -> Result<Vec<Option<usize>>, String> {
        let o = &mut Options::new(object(config)?);
        for key in ["sparse", "ragged", "optional", "type_spec"] {
            o.off(key)?;
        }
        o.finish()?;
        let shape = batch_shape(config).ok_or("option \"batch_input_shape\" is missing")?;
        input_shape(shape)
    };
    let full = match path {
        "" => name.to_owned(),
        _ => format!("{path}/{name}"),
    };
    Ok(InputSpec {
        name: name.into(),
        shape: read().map_err(|problem| Fault::layer(&full, "InputLayer", problem))?,
    })
}

fn batch_shape(config: &Value) -> Option<&Value> {
    ["batch_input_shape", "batch_shape"]
        .iter()
        .filter_map(|key| config.get(key))
        .find(|v| !v.is_null())
}

/// A shape without its first dimension, the batch.
fn input_shape(value: &Value) -> Result<Vec<Option<usize>>, String> {
    let dim = |v: &Value| match v {
        Value::Null => Some(None),
        v => usize::try_from(v.as_u64()?)
            .ok()
            .filter(|d| (1..=MAX_ELEMENTS).contains(d))
            .map(Some),
    };
    match value.as_array().map(Vec::as_slice) {
        Some([_batch, dims @ ..]) if (1..=MAX_RANK).contains(&dims.len()) => {
            dims.iter().map(dim).collect()
        }
        _ => None,
    }
    .ok_or_else(|| {
        format!(
            "the input shape {} is not [batch, dimension, ...] with 1 to {MAX_RANK} dimensions",
            brief(value)
        )
    })
}
