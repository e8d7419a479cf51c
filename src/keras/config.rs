//! Architecture in a file's JSON: models, wrappers, layers and their connections.

mod functional;
mod node;
mod sequential;
mod wiring;

use serde_json::{Map, Value};

use super::error::Fault;
use super::layers::{self, Bidirectional, Dialect, Leaf, MergeMode};
use super::options::{Options, Problems, brief, missing};
use crate::nn::graph::{MAX_ELEMENTS, MAX_NODES, MAX_RANK};

/// Maximum nesting depth of models and wrappers.
const MAX_DEPTH: usize = 16;

/// A model: its layers, and their uses in topological order.
pub struct Model {
    /// Name in the configuration; a Sequential in older files has none.
    pub name: Option<String>,
    pub inputs: Vec<InputSpec>,
    pub layers: Vec<Spec>,
    /// Uses of layers. A step reads only inputs and earlier steps.
    pub steps: Vec<Step>,
    pub outputs: Vec<(String, Source)>,
    /// Set if the model was built with inputs before its first use in another model.
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
    /// Index among the uses of the same layer, from 0.
    pub repetition: usize,
    /// The inputs, and then the masks of those in `masks`.
    pub inputs: Vec<Source>,
    /// Inputs whose masks are call arguments, by index.
    pub masks: Vec<usize>,
    /// Call argument `training`, if present.
    pub training: Option<bool>,
}

/// Origin of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Input(usize),
    Step { step: usize, tensor: usize },
}

/// A layer, wrapper or nested model.
pub struct Spec {
    pub name: String,
    /// Name with those of the enclosing models, for messages and weights: `model_5/conv2d_5`.
    pub path: String,
    pub class: String,
    pub trainable: bool,
    /// Set for an operation of Keras 3 that is no layer.
    pub is_operation: bool,
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
        /// Index of the leaf within the file.
        id: usize,
        leaf: Leaf,
    },
    /// An unsupported layer, whose fault is already recorded.
    Unsupported,
}

impl Spec {
    /// Builds a [`Fault`] of this layer.
    pub fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault::layer(&self.path, &self.class, problem)
    }
}

/// A parsed model, the number of its leaves, and the faults.
pub struct Parsed {
    /// `None` if the layers or their connections are invalid; the faults state the reason.
    pub model: Option<Model>,
    pub leaves: usize,
    pub faults: Vec<Fault>,
}

/// Parses the text of an architecture.
///
/// # Errors
/// If the text is no JSON.
pub fn root(json: &str) -> Result<Value, Fault> {
    serde_json::from_str(json)
        .map_err(|e| Fault::Format(format!("its model_config is no valid JSON: {e}")))
}

/// Parses the architecture of a file.
///
/// # Errors
/// If the value describes no model.
pub fn parse(root: &Value, dialect: Dialect) -> Result<Parsed, Fault> {
    let class = root.get("class_name").and_then(Value::as_str);
    let (Some(class), Some(config)) = (class, root.get("config")) else {
        return Err(Fault::Format(
            "its model_config has no class_name and config".into(),
        ));
    };
    if !is_model(class) {
        return Err(Fault::model(
            "",
            format!(
                "it is a {}, but only Sequential and functional models are supported; build the network as one of these in Keras 2, load the weights into it and save it with model.save(\"name.h5\")",
                brief(&class.into())
            ),
        ));
    }
    let mut parser = Parser {
        dialect,
        leaves: 0,
        specs: 0,
        faults: Vec::new(),
    };
    let model = parser.model(class, config, "", 0);
    Ok(Parsed {
        model,
        leaves: parser.leaves,
        faults: parser.faults,
    })
}

fn is_model(class: &str) -> bool {
    matches!(class, "Model" | "Functional" | "Sequential")
}

struct Parser {
    dialect: Dialect,
    leaves: usize,
    specs: usize,
    faults: Vec<Fault>,
}

impl Parser {
    /// Returns the value of `found`; records the fault and returns `None` if there is none.
    fn or_record_fault<T>(&mut self, found: Result<T, Fault>) -> Option<T> {
        found.map_err(|fault| self.faults.push(fault)).ok()
    }

    /// Parses a model. `None` if its layers or their connections are invalid.
    fn model(&mut self, class: &str, config: &Value, path: &str, depth: usize) -> Option<Model> {
        match class {
            "Sequential" => self.sequential(config, path, depth),
            _ => self.functional(config, path, depth),
        }
    }

    /// Parses a layer; an unsupported one becomes [`Kind::Unsupported`]. `path` is that of the
    /// enclosing model.
    fn spec(&mut self, name: &str, class: &str, config: &Value, path: &str, depth: usize) -> Spec {
        let path = match path {
            "" => name.to_owned(),
            _ => format!("{path}/{name}"),
        };
        let trainable = config
            .get("trainable")
            .and_then(Value::as_bool)
            .unwrap_or(true);
        self.specs += 1;
        let kind = if depth > MAX_DEPTH || self.specs > MAX_NODES {
            self.faults.push(Fault::layer(&path, class, format!(
                "there are more than {MAX_DEPTH} models inside each other or more than {MAX_NODES} layers"
            )));
            None
        } else {
            self.kind(class, config, &path, depth)
        };
        Spec {
            name: name.into(),
            path,
            class: class.into(),
            trainable,
            is_operation: false,
            kind: kind.unwrap_or(Kind::Unsupported),
        }
    }

    fn kind(&mut self, class: &str, config: &Value, path: &str, depth: usize) -> Option<Kind> {
        let found = match class {
            _ if is_model(class) => {
                return self.model(class, config, path, depth + 1).map(Kind::Model);
            }
            "TimeDistributed" => wrapped(config, self.dialect).map(|(inner_class, inner)| {
                let name = inner.get("name").and_then(Value::as_str);
                let name = name.unwrap_or("layer");
                let spec = self.spec(name, inner_class, inner, path, depth + 1);
                Kind::TimeDistributed(Box::new(spec))
            }),
            "Bidirectional" => object(config)
                .map_err(Problems::from)
                .and_then(|config| Bidirectional::parse(config, self.dialect))
                .map(|parsed| {
                    let mut direction = |name: &str, config: Map<String, Value>| {
                        let config = Value::Object(config);
                        Box::new(self.spec(name, &parsed.class, &config, path, depth + 1))
                    };
                    Kind::Bidirectional {
                        forward: direction("forward", parsed.forward),
                        backward: direction("backward", parsed.backward),
                        mode: parsed.mode,
                        sequences: parsed.sequences,
                    }
                }),
            _ => {
                // The class is checked first: the configuration of an unknown class is not parsed.
                let empty = Map::new();
                let map = config.as_object().unwrap_or(&empty);
                layers::parse(class, map, self.dialect).map(|leaf| {
                    self.leaves += 1;
                    Kind::Leaf {
                        id: self.leaves - 1,
                        leaf,
                    }
                })
            }
        };
        match found {
            Ok(kind) => Some(kind),
            Err(Problems(problems)) => {
                let faults = problems.into_iter().map(|p| Fault::layer(path, class, p));
                self.faults.extend(faults);
                None
            }
        }
    }
}

/// Returns class and configuration of the layer inside a TimeDistributed.
fn wrapped(config: &Value, dialect: Dialect) -> Result<(&str, &Value), Problems> {
    let mut options = Options::new(object(config)?, dialect);
    let found = options.value("layer").unwrap_or(&Value::Null);
    options.finish(record(found).map_err(Problems::from))
}

fn object(config: &Value) -> Result<&Map<String, Value>, String> {
    config
        .as_object()
        .ok_or_else(|| format!("its configuration is {}", brief(config)))
}

/// Returns class and configuration of a serialised layer.
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

/// Parses an InputLayer.
fn input(name: &str, config: &Value, path: &str, dialect: Dialect) -> Result<InputSpec, Fault> {
    let read = || -> Result<Vec<Option<usize>>, Problems> {
        let mut o = Options::new(object(config)?, dialect);
        for key in ["sparse", "ragged", "optional", "type_spec"] {
            o.off(key);
        }
        // Inputs of integer type, such as the indices of an embedding, are passed as `f32`.
        let whole = ["int8", "int16", "int32", "int64", "uint8", "bool"];
        let is_whole = |d: &Value| d.as_str().is_some_and(|d| whole.contains(&d));
        if config.get("dtype").is_some_and(is_whole) {
            o.ignore(&["dtype"]);
            o.skip_dtype();
        }
        let shape = batch_shape(config)
            .ok_or_else(|| missing("batch_input_shape"))
            .and_then(input_shape);
        o.finish(shape.map_err(Problems::from))
    };
    let full = match path {
        "" => name.to_owned(),
        _ => format!("{path}/{name}"),
    };
    let shape = read()
        .map_err(|Problems(problems)| Fault::layer(&full, "InputLayer", problems.join("; ")))?;
    Ok(InputSpec {
        name: name.into(),
        shape,
    })
}

fn batch_shape(config: &Value) -> Option<&Value> {
    ["batch_input_shape", "batch_shape"]
        .iter()
        .filter_map(|key| config.get(key))
        .find(|v| !v.is_null())
}

/// Parses a shape without its first dimension, the batch.
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
