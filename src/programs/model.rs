//! Model of a program: a built-in one, or a bundle.

use std::fmt;
use std::path::Path;

use crate::model::Model;
use crate::model::bundle;
use crate::model::bundle::Opened;

/// Meaning of the option `--model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// The default model.
    Default,
    /// The model that is trained on freely licensed recordings alone.
    Commercial,
    /// A bundle.
    File(&'a Path),
}

impl<'a> Source<'a> {
    /// Interprets the option: `default` and `commercial` are names, everything else is a path. Without
    /// the option it is the default model, or the commercial one if only that is built in.
    pub fn new(option: Option<&'a Path>) -> Self {
        let only_commercial =
            cfg!(feature = "commercial-model") && !cfg!(feature = "default-model");
        match option.map(|path| (path, path.to_str())) {
            None if only_commercial => Self::Commercial,
            None | Some((_, Some("default"))) => Self::Default,
            Some((_, Some("commercial"))) => Self::Commercial,
            Some((path, _)) => Self::File(path),
        }
    }

    /// Returns the path of a bundle.
    pub fn path(self) -> Option<&'a Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Default | Self::Commercial => None,
        }
    }

    /// Returns the card of a built-in model.
    #[cfg(feature = "serve")]
    pub fn card(self) -> Option<&'static str> {
        match self {
            #[cfg(feature = "default-model")]
            Self::Default => Some(crate::default_model::CARD),
            #[cfg(feature = "commercial-model")]
            Self::Commercial => Some(crate::commercial_model::CARD),
            _ => None,
        }
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the built-in model"),
            Self::Commercial => f.write_str("the commercial model"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Loads the model of the option `--model`.
///
/// # Errors
/// The message names the file and its problem, or says that the model is not built in.
pub fn load(option: Option<&Path>) -> Result<Model, String> {
    open(option)?.model().map_err(|e| e.to_string())
}

/// Reads the description of the model of the option `--model`.
///
/// # Errors
/// Same as [`load`].
pub fn open(option: Option<&Path>) -> Result<Opened<'static>, String> {
    match Source::new(option) {
        Source::Default => default(),
        Source::Commercial => commercial(),
        Source::File(path) => bundle::open(path).map_err(|e| e.to_string()),
    }
}

#[cfg(feature = "default-model")]
fn default() -> Result<Opened<'static>, String> {
    crate::default_model::open().map_err(|e| e.to_string())
}

#[cfg(not(feature = "default-model"))]
fn default() -> Result<Opened<'static>, String> {
    Err(
        "this program was built without a model of its own; give one with --model BUNDLE. `convert` \
         makes one from the five Keras files: convert FOLDER_WITH_H5_FILES -o model.safetensors"
            .into(),
    )
}

#[cfg(feature = "commercial-model")]
fn commercial() -> Result<Opened<'static>, String> {
    crate::commercial_model::open().map_err(|e| e.to_string())
}

#[cfg(not(feature = "commercial-model"))]
fn commercial() -> Result<Opened<'static>, String> {
    Err(
        "this program was built without the commercial model; build it with `cargo build --release \
         --features commercial-model`, or give its bundle, models/commercial/maeum.safetensors, \
         after --model. A file named commercial in this folder is ./commercial"
            .into(),
    )
}
