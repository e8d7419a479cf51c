//! Why a Keras file cannot be converted.

use crate::nn::GraphError;

/// Why a Keras file cannot be converted. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The operating system does not give the file's bytes.
    #[error("{file}: {source}")]
    Read {
        file: String,
        source: std::io::Error,
    },
    /// Not an HDF5 file, a damaged one, or one that holds no model.
    #[error("{file}: {problem}")]
    Format { file: String, problem: String },
    /// The description of the network's layers and how they are joined.
    #[error("{file}: model {model}: {problem}")]
    Model {
        file: String,
        model: String,
        problem: String,
    },
    /// One layer: its class, one of its options, or its weights.
    #[error("{file}: layer {layer} ({class}): {problem}")]
    Layer {
        file: String,
        /// Its path, `model_5/conv2d_5` for a layer of a nested model.
        layer: String,
        /// Keras' name of the class.
        class: String,
        problem: String,
    },
    /// The layers do not fit each other.
    #[error("{file}: {source}")]
    Graph { file: String, source: GraphError },
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
