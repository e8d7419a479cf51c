//! Model of a program: from a file, or the built-in one.

use std::path::Path;

use crate::model::Model;
use crate::model::bundle;
use crate::model::bundle::Opened;

/// Loads the model at `path`, or the built-in one.
///
/// # Errors
/// The message names the file and its problem. Without `path`, an error means that there is no
/// built-in model.
pub fn load(path: Option<&Path>) -> Result<Model, String> {
    open(path)?.model().map_err(|e| e.to_string())
}

/// Reads the description of the model at `path`, or of the built-in one.
///
/// # Errors
/// Same as [`load`].
pub fn open(path: Option<&Path>) -> Result<Opened<'static>, String> {
    match path {
        Some(path) => bundle::open(path).map_err(|e| e.to_string()),
        None => built_in(),
    }
}

#[cfg(feature = "default-model")]
fn built_in() -> Result<Opened<'static>, String> {
    crate::default_model::open().map_err(|e| e.to_string())
}

#[cfg(not(feature = "default-model"))]
fn built_in() -> Result<Opened<'static>, String> {
    Err(
        "this program was built without a model of its own; give one with --model BUNDLE. `convert` \
         makes one from the five Keras files: convert FOLDER_WITH_H5_FILES -o model.safetensors"
            .into(),
    )
}
