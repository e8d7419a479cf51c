//! Errors of the conversion of a Keras file.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use crate::nn::GraphError;

/// Maximum number of problems in the message of [`ConvertError::Several`]; it then states how many
/// are omitted.
const MAX_SHOWN: usize = 100;

/// Reason that a Keras file cannot be converted. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The file cannot be read.
    #[error("{file}: {source}; {}", crate::file_advice::to_read(source))]
    Read {
        /// Path of the file, as passed to [`load`](super::load).
        file: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file is not HDF5, is damaged, or holds no model.
    #[error("{file}: {problem}")]
    Format {
        /// Path or name of the file, as passed by the caller.
        file: String,
        /// Description, with advice if there is any.
        problem: String,
    },
    /// The file holds weights without the network that they belong to.
    #[error(
        "{file}: it holds only weights, not the network that they belong to:\n{content}Give its architecture too: where the network is built in Keras, write the text of model.to_json() (or to_yaml()) to a file"
    )]
    WeightsOnly {
        /// Path or name of the file, as passed by the caller.
        file: String,
        /// One line per layer or path, with the names and shapes of its weights.
        content: String,
    },
    /// The description of the layers or of their connections is invalid.
    #[error("{file}: model {model}: {problem}")]
    Model {
        /// Path or name of the file, as passed by the caller.
        file: String,
        /// Path of the model among nested models, `(top)` for the outermost.
        model: String,
        /// The missing, contradictory or unsupported part.
        problem: String,
    },
    /// A layer's class, option or weight is unsupported.
    #[error("{file}: layer {layer} ({class}): {problem}")]
    Layer {
        /// Path or name of the file, as passed by the caller.
        file: String,
        /// Path of the layer, `model_5/conv2d_5` for a layer of a nested model.
        layer: String,
        /// Keras' class name.
        class: String,
        /// The unsupported or inconsistent option, argument or weight.
        problem: String,
    },
    /// The shapes of the layers do not match.
    #[error("{file}: {source}")]
    Graph {
        /// Path or name of the file, as passed by the caller.
        file: String,
        /// The failing node, and the reason.
        source: GraphError,
    },
    /// Several independent problems.
    #[error("{file}: {} things stand in the way of its conversion:{}", .problems.len(), list(.problems))]
    Several {
        /// Path or name of the file, as passed by the caller.
        file: String,
        /// The problems, at least two; each also names the file.
        problems: Vec<Self>,
    },
}

/// Formats one line per problem; layers with the same problem share a line.
fn list(problems: &[ConvertError]) -> String {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    let mut of_layers: HashMap<String, usize> = HashMap::new();
    for problem in problems {
        let (subject, text) = match problem {
            ConvertError::Layer {
                layer,
                class,
                problem,
                ..
            } => (Some(format!("{layer} ({class})")), problem.clone()),
            ConvertError::Model { model, problem, .. } => {
                (None, format!("model {model}: {problem}"))
            }
            ConvertError::Format { problem, .. } => (None, problem.clone()),
            other => (None, other.to_string()),
        };
        let line = match &subject {
            Some(_) => *of_layers.entry(text.clone()).or_insert(lines.len()),
            None => lines.len(),
        };
        match lines.get_mut(line) {
            Some((_, layers)) => layers.extend(subject),
            None => lines.push((text, Vec::from_iter(subject))),
        }
    }
    let mut list = String::new();
    for (problem, layers) in lines.iter().take(MAX_SHOWN) {
        let subject = match layers.len() {
            0 => String::new(),
            1 => format!("layer {}: ", layers[0]),
            _ => format!("layers {}: ", layers.join(", ")),
        };
        // Writing to a String cannot fail.
        let _ = write!(list, "\n  {subject}{problem}");
    }
    if lines.len() > MAX_SHOWN {
        let _ = write!(list, "\n  and {} more", lines.len() - MAX_SHOWN);
    }
    list
}

/// A [`ConvertError`] without the name of its file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    Format(String),
    /// Description of the weights.
    WeightsOnly(String),
    Model {
        model: String,
        problem: String,
    },
    Layer {
        layer: String,
        class: String,
        problem: String,
    },
    Graph(GraphError),
    /// Several faults, at least two.
    Several(Vec<Fault>),
}

impl Fault {
    /// Combines `faults` without duplicates; `None` if there are none.
    pub fn all(faults: Vec<Self>) -> Option<Self> {
        let mut seen = HashSet::new();
        let mut once = faults;
        once.retain(|fault| seen.insert(format!("{fault:?}")));
        match once.len() {
            0 | 1 => once.pop(),
            _ => Some(Self::Several(once)),
        }
    }

    pub fn model(model: &str, problem: impl Into<String>) -> Self {
        Self::Model {
            model: if model.is_empty() { "(top)" } else { model }.into(),
            problem: problem.into(),
        }
    }

    pub fn layer(layer: &str, class: &str, problem: impl Into<String>) -> Self {
        Self::Layer {
            layer: layer.into(),
            class: class.into(),
            problem: problem.into(),
        }
    }

    pub fn in_file(self, file: &str) -> ConvertError {
        let file = file.into();
        match self {
            Self::Format(problem) => ConvertError::Format { file, problem },
            Self::WeightsOnly(content) => ConvertError::WeightsOnly { file, content },
            Self::Model { model, problem } => ConvertError::Model {
                file,
                model,
                problem,
            },
            Self::Layer {
                layer,
                class,
                problem,
            } => ConvertError::Layer {
                file,
                layer,
                class,
                problem,
            },
            Self::Graph(source) => ConvertError::Graph { file, source },
            Self::Several(faults) => ConvertError::Several {
                problems: faults.into_iter().map(|f| f.in_file(&file)).collect(),
                file,
            },
        }
    }
}
