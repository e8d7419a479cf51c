//! Models as bundle files.

use std::path::Path;

use super::{Model, ModelInfo, Role};
use crate::nn::bundle as file;

pub use crate::nn::bundle::{BundleError, FORMAT, MAX_FILE, MAX_FLOPS, METADATA_KEY};

/// A bundle whose description was read and whose networks were not. Its owner can prepare a recording
/// for the model while the model is being made.
#[derive(Debug)]
pub struct Opened<'a>(file::Opened<'a, ModelInfo, Role>);

impl Opened<'_> {
    /// Description of the model. Only [`Opened::model`] validates it.
    pub fn info(&self) -> &ModelInfo {
        self.0.metadata()
    }

    /// Reads and checks the networks and makes the model.
    ///
    /// # Errors
    /// Names the bundle and its fault.
    pub fn model(self) -> Result<Model, BundleError> {
        let file = self.0.file().to_owned();
        let bundle = self.0.read()?;
        Model::new(bundle.networks, bundle.metadata)
            .map(|model| model.with_identity(bundle.identity))
            .map_err(|e| BundleError::Inconsistent {
                file,
                problem: e.to_string(),
            })
    }
}

/// Returns the bytes of the bundle file for `model`. The same model gives the same bytes.
pub fn to_bytes(model: &Model) -> Vec<u8> {
    file::to_bytes(model.info(), model.networks())
}

/// Writes the bundle file for `model`: to a new neighbouring file first, then renamed, so that a
/// failure leaves no half-written bundle.
///
/// # Errors
/// The file cannot be written.
pub fn save(model: &Model, path: &Path) -> Result<(), BundleError> {
    file::write(&to_bytes(model), path)
}

/// Reads and checks a bundle file.
///
/// # Errors
/// Names the file and its fault.
pub fn load(path: &Path) -> Result<Model, BundleError> {
    open(path)?.model()
}

/// Reads and checks the bytes of a bundle; `name` stands for it in messages.
///
/// # Errors
/// Names the bundle and its fault.
pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Model, BundleError> {
    open_bytes(bytes, name)?.model()
}

/// Reads a bundle file and its description.
///
/// # Errors
/// Names the file and its fault.
pub fn open(path: &Path) -> Result<Opened<'static>, BundleError> {
    file::open(path).map(Opened)
}

/// Reads the description in the bytes of a bundle; `name` stands for it in messages.
///
/// # Errors
/// Names the bundle and its fault.
pub fn open_bytes<'a>(bytes: &'a [u8], name: &str) -> Result<Opened<'a>, BundleError> {
    file::open_bytes(bytes, name).map(Opened)
}
