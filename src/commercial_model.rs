//! The model that is trained on freely licensed recordings alone, for users whose purpose the terms of the
//! default model exclude.

use crate::model::Model;
use crate::model::bundle;
use crate::model::bundle::{BundleError, Opened};

/// Name of the model in messages.
pub const NAME: &str = "the commercial model";

/// Bytes of the bundle `models/commercial/maeum.safetensors`.
pub const BUNDLE: &[u8] = include_bytes!("../models/commercial/maeum.safetensors");

/// Card of the model, `models/commercial/MODEL_CARD.md`: its data, terms and accuracy.
pub const CARD: &str = include_str!("../models/commercial/MODEL_CARD.md");

/// Reads the model.
///
/// # Errors
/// When the crate was built from a damaged bundle.
pub fn load() -> Result<Model, BundleError> {
    open()?.model()
}

/// Reads the model's description.
///
/// # Errors
/// As [`load`].
pub fn open() -> Result<Opened<'static>, BundleError> {
    bundle::open_bytes(BUNDLE, NAME)
}
