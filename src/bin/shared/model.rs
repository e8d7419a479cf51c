//! The model that a program works with: the one that is named, or the built-in one.

use std::path::Path;

use maeum::nn::{Model, bundle};

/// The model at `path`, or the built-in one.
///
/// # Errors
/// Names the file and says what is wrong with it, or that there is no built-in model.
pub fn load(path: Option<&Path>) -> Result<Model, String> {
    match path {
        Some(path) => bundle::load(path).map_err(|e| e.to_string()),
        None => built_in(),
    }
}

#[cfg(feature = "default-model")]
fn built_in() -> Result<Model, String> {
    maeum::default_model::load().map_err(|e| e.to_string())
}

#[cfg(not(feature = "default-model"))]
fn built_in() -> Result<Model, String> {
    Err(
        "this program was built without a model of its own; give one with --model BUNDLE. `convert` \
         makes one from the five Keras files: convert FOLDER_WITH_H5_FILES -o model.safetensors"
            .into(),
    )
}
