//! Why a Keras file cannot be converted.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use crate::nn::GraphError;

/// The most problems that the message of [`ConvertError::Several`] shows; it says how many more
/// there are.
const SHOWN: usize = 100;

/// Why a Keras file cannot be converted. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The operating system does not give the file's bytes.
    #[error("{file}: {source}")]
    Read {
        /// Path of the file, as it was given to [`load`](super::load).
        file: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Not an HDF5 file, a damaged one, or one that holds no model.
    #[error("{file}: {problem}")]
    Format {
        /// The file's path or name, as it was given.
        file: String,
        /// What is wrong and, where there is one, the way out.
        problem: String,
    },
    /// The description of the network's layers and how they are joined.
    #[error("{file}: model {model}: {problem}")]
    Model {
        /// The file's path or name, as it was given.
        file: String,
        /// Its path among nested models, `(top)` for the outermost.
        model: String,
        /// What is missing, contradictory or not supported.
        problem: String,
    },
    /// One layer: its class, one of its options, or its weights.
    #[error("{file}: layer {layer} ({class}): {problem}")]
    Layer {
        /// The file's path or name, as it was given.
        file: String,
        /// Its path, `model_5/conv2d_5` for a layer of a nested model.
        layer: String,
        /// Keras' name of the class.
        class: String,
        /// The option, argument or weight that is not supported or does not fit.
        problem: String,
    },
    /// The layers do not fit each other.
    #[error("{file}: {source}")]
    Graph {
        /// The file's path or name, as it was given.
        file: String,
        /// The node that does not fit, and why.
        source: GraphError,
    },
    /// Several problems, none of which follows from another.
    #[error("{file}: {} things stand in the way of its conversion:{}", .problems.len(), list(.problems))]
    Several {
        /// The file's path or name, as it was given.
        file: String,
        /// All of them, at least two; each names the file as well.
        problems: Vec<Self>,
    },
}

/// A line for each problem; layers with the same problem share one.
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
    for (problem, layers) in lines.iter().take(SHOWN) {
        let subject = match layers.len() {
            0 => String::new(),
            1 => format!("layer {}: ", layers[0]),
            _ => format!("layers {}: ", layers.join(", ")),
        };
        // Writing to a String cannot fail.
        let _ = write!(list, "\n  {subject}{problem}");
    }
    if lines.len() > SHOWN {
        let _ = write!(list, "\n  and {} more", lines.len() - SHOWN);
    }
    list
}

/// A [`ConvertError`] whose file is still to be named.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    Format(String),
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
    /// At least two of the others.
    Several(Vec<Fault>),
}

impl Fault {
    /// All of `faults`, each once; `None` if there are none.
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
