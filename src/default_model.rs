//! The model that is built in, for those who bring none.

use crate::model::Model;
use crate::model::bundle;
use crate::model::bundle::{BundleError, Opened};

/// Name of the built-in model in messages.
pub const NAME: &str = "the built-in model";

/// The bytes of the built-in bundle, `models/default/maeum.safetensors`. What it is and what it
/// may be used for is said in `models/default/MODEL_CARD.md`.
pub const BUNDLE: &[u8] = include_bytes!("../models/default/maeum.safetensors");

/// Reads the built-in model.
///
/// # Errors
/// When the crate was built from a damaged bundle.
pub fn load() -> Result<Model, BundleError> {
    open()?.model()
}

/// Reads the built-in model's description.
///
/// # Errors
/// As [`load`].
pub fn open() -> Result<Opened<'static>, BundleError> {
    bundle::open_bytes(BUNDLE, NAME)
}

/// The card of the built-in model, `models/default/MODEL_CARD.md`.
pub const CARD: &str = include_str!("../models/default/MODEL_CARD.md");
