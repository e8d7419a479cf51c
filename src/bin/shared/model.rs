//! The model that a program works with: the one that is named, or the built-in one.

use std::path::Path;

use maeum::model::Model;
use maeum::model::bundle;
use maeum::model::bundle::Opened;

/// The model at `path`, or the built-in one.
///
/// # Errors
/// Names the file and says what is wrong with it, or that there is no built-in model.
pub fn load(path: Option<&Path>) -> Result<Model, String> {
    open(path)?.model().map_err(|e| e.to_string())
}

/// The description of the model at `path`, or of the built-in one.
///
/// # Errors
/// As [`load`].
pub fn open(path: Option<&Path>) -> Result<Opened<'static>, String> {
    match path {
        Some(path) => bundle::open(path).map_err(|e| e.to_string()),
        None => built_in(),
    }
}

#[cfg(feature = "default-model")]
fn built_in() -> Result<Opened<'static>, String> {
    maeum::default_model::open().map_err(|e| e.to_string())
}

#[cfg(not(feature = "default-model"))]
fn built_in() -> Result<Opened<'static>, String> {
    Err(
        "this program was built without a model of its own; give one with --model BUNDLE. `convert` \
         makes one from the five Keras files: convert FOLDER_WITH_H5_FILES -o model.safetensors"
            .into(),
    )
}
