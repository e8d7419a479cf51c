//! Why a Keras file cannot be converted.

use crate::nn::GraphError;

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
}

impl Fault {
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
        }
    }
}
