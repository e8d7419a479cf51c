//! Keras `.h5` files become graphs.
//!
//! [`load`] reads a model that Keras 2 saved with `model.save("name.h5")` (Keras 2.0 to 2.15, with
//! its own backend or inside TensorFlow) and returns it as one flat [`Graph`] with Keras' semantics
//! of inference. Models inside models are flattened; a layer or model that is used several times
//! becomes several nodes that share their weights. Layers that do nothing at inference leave no
//! node.
//!
//! Everything in a file is either converted or refused: an unknown layer class, option, call argument
//! or Python function is an error that names it, and one error lists all of them. Nothing in a file is
//! ever executed.

mod activation;
mod build;
mod config;
mod error;
pub mod hdf5;
mod kind;
pub mod lambda;
mod layers;
mod options;

mod weights;

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use self::error::Fault;
use self::hdf5::H5Model;
use self::layers::Dialect;
use crate::nn::Graph;
use crate::nn::network::Provenance;

pub use self::error::ConvertError;
pub use self::hdf5::pure::silence_caught_panics;
pub(crate) use self::kind::folder as folder_kind;

/// A converted file.
#[derive(Debug, Clone, PartialEq)]
pub struct KerasModel {
    /// The whole model, flattened and validated.
    pub graph: Graph,
    /// The file's name and checksum, and the Keras that wrote it.
    pub provenance: Provenance,
}

/// The largest file that is read: far above any model whose weights fit the limits of a graph.
pub const MAX_FILE: u64 = 4 << 30;

/// Reads a Keras file.
///
/// # Errors
/// The file cannot be read, is no saved Keras 2 model, or holds something that is not supported.
/// Every error names the file; those of a layer also its path, class and option.
pub fn load(path: impl AsRef<Path>) -> Result<KerasModel, ConvertError> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let read = |source| ConvertError::Read {
        file: file.clone(),
        source,
    };
    let format = |problem: &str| Fault::Format(problem.into()).in_file(&file);
    let metadata = fs::metadata(path).map_err(read)?;
    if metadata.is_dir() {
        let problem = kind::folder(path);
        return Err(format(problem.unwrap_or(
            "it is a folder, not a Keras .h5 file; name the file in it",
        )));
    }
    if metadata.len() > MAX_FILE {
        return Err(format(&format!(
            "it has {} bytes, more than the {MAX_FILE} that are read; save it without the optimizer (include_optimizer=False)",
            metadata.len()
        )));
    }
    let bytes = fs::read(path).map_err(read)?;
    let name = path
        .file_name()
        .map_or_else(|| file.clone(), |n| n.to_string_lossy().into_owned());
    convert(&name, bytes).map_err(|fault| fault.in_file(&file))
}

/// Reads a Keras file from memory; `name` is the file name for messages and provenance.
///
/// # Errors
/// See [`load`].
pub fn load_bytes(name: &str, bytes: Vec<u8>) -> Result<KerasModel, ConvertError> {
    convert(name, bytes).map_err(|fault| fault.in_file(name))
}

fn convert(name: &str, bytes: Vec<u8>) -> Result<KerasModel, Fault> {
    kind::check(name, &bytes).map_err(Fault::Format)?;
    let sha256 = hex(&Sha256::digest(&bytes));
    let model = hdf5::pure::read(bytes).map_err(Fault::Format)?;
    let provenance = Provenance {
        file: name.into(),
        sha256,
        keras_version: model.keras_version.clone(),
        backend: model.backend.clone(),
    };
    Ok(KerasModel {
        graph: graph(model, stem(name))?,
        provenance,
    })
}

/// Converts what an HDF5 reader found in file `name`.
///
/// # Errors
/// See [`load`].
pub fn from_content(name: &str, content: H5Model) -> Result<Graph, ConvertError> {
    graph(content, stem(name)).map_err(|fault| fault.in_file(name))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The graph of a model; `name` is used if the file does not name the model.
fn graph(file: H5Model, name: &str) -> Result<Graph, Fault> {
    let dialect = dialect(file.keras_version.as_deref())?;
    let mut faults = Vec::new();
    if let Some(backend) = &file.backend
        && backend != "tensorflow"
    {
        // Theano and CNTK store convolution kernels mirrored.
        faults.push(Fault::Format(format!(
            "it was saved with the backend {backend:?}; load it in Keras with the TensorFlow backend and save it again"
        )));
    }
    let mut parsed = config::parse(&file.config, dialect)?;
    faults.append(&mut parsed.faults);
    let Some(model) = parsed.model else {
        let unnamed = || Fault::model("", "it is not understood");
        return Err(Fault::all(faults).unwrap_or_else(unnamed));
    };
    let mut assigned = weights::assign(&model, parsed.leaves, file.layers);
    faults.append(&mut assigned.faults);
    let name = model.name.clone().unwrap_or_else(|| name.into());
    build::graph(name, &model, assigned, faults)
}

/// Semantics of a version of Keras, where versions differ.
fn dialect(version: Option<&str>) -> Result<Dialect, Fault> {
    let Some(version) = version else {
        return Ok(Dialect {
            legacy_bilinear: None,
        });
    };
    let (numbers, suffix) = version.split_once('-').unwrap_or((version, ""));
    let mut parts = numbers.split('.').map(|n| n.parse::<u32>().ok());
    let major = parts.next().flatten();
    let minor = parts.next().flatten();
    match major {
        Some(2) => Ok(Dialect {
            // Keras with its own backends resized as TensorFlow 1 does until 2.3; the Keras
            // inside TensorFlow calls itself 2.2.4-tf and resizes with half-pixel centres.
            legacy_bilinear: minor.map(|minor| minor < 3 && suffix != "tf"),
        }),
        Some(3..) => Err(Fault::Format(format!(
            "it was saved by Keras {version}; only Keras 2 files are supported: store the arrays in Keras 3 with numpy.savez(\"weights.npz\", *model.get_weights()), build the same network with the package tf_keras, give it the arrays with set_weights and save it with model.save(\"name.h5\")"
        ))),
        _ => Err(Fault::Format(format!(
            "it was saved by Keras {version:?}; only Keras 2 files are supported: load it in Keras 2 and save it again"
        ))),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
