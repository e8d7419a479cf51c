//! Keras files become graphs.
//!
//! [`load`] reads a model that Keras saved with `model.save("name.h5")` (Keras 2.0 to 3) or
//! `model.save("name.keras")` (Keras 2.12 to 3) and returns it as one flat [`Graph`] with the
//! semantics of inference of the Keras that saved it. [`load_with_architecture`] reads the weights of
//! `save_weights` and the architecture of `to_json` or `to_yaml`. Models inside models are
//! flattened; a layer or model that is used several times becomes several nodes that share their
//! weights. Layers that do nothing at inference leave no node.
//!
//! Everything in a file is either converted or refused: an unknown layer class, option, call argument
//! or Python function is an error that names it, and one error lists all of them. Nothing in a file is
//! ever executed.

mod activation;
mod architecture;
mod archive;
mod build;
mod config;
mod error;
pub mod hdf5;
mod kind;
mod layers;
mod options;
mod weights;
mod yaml;

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use self::architecture::Architecture;
use self::error::Fault;
use self::hdf5::{H5Content, H5Model, H5Weights, StoredWeights};
use self::kind::Container;
use self::layers::Dialect;
use self::weights::Matching;
use crate::nn::Graph;
use crate::nn::network::Provenance;

pub use self::error::ConvertError;
pub use self::hdf5::pure::silence_caught_panics;
pub(crate) use self::kind::folder as folder_kind;
pub use self::layers::lambda;

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
/// The file cannot be read, is no saved Keras model, or holds something that is not supported.
/// Every error names the file; those of a layer also its path, class and option.
pub fn load(path: impl AsRef<Path>) -> Result<KerasModel, ConvertError> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let bytes = read_file(path)?;
    convert(&file_name(path), bytes).map_err(|fault| fault.in_file(&file))
}

/// Reads a file of weights, and the architecture of their network from another file.
///
/// # Errors
/// The errors of [`load`]; also if the weights and the layers of the architecture do not match.
pub fn load_with_architecture(
    weights: impl AsRef<Path>,
    architecture: impl AsRef<Path>,
) -> Result<KerasModel, ConvertError> {
    let (weights, architecture) = (weights.as_ref(), architecture.as_ref());
    let text = {
        let file = architecture.display().to_string();
        let read = |source| ConvertError::Read {
            file: file.clone(),
            source,
        };
        let length = fs::metadata(architecture).map_err(read)?.len();
        if length > architecture::MAX_TEXT {
            let most = architecture::MAX_TEXT;
            let problem = format!("it has {length} bytes, more than the {most} of an architecture");
            return Err(Fault::Format(problem).in_file(&file));
        }
        let text = fs::read(architecture).map_err(read)?;
        architecture::parse(&text).map_err(|p| Fault::Format(p).in_file(&file))?
    };
    let file = weights.display().to_string();
    let bytes = read_file(weights)?;
    convert_with(&file_name(weights), bytes, text).map_err(|fault| fault.in_file(&file))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// Reads the bytes of a file that may be a Keras file.
fn read_file(path: &Path) -> Result<Vec<u8>, ConvertError> {
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
            "it is a folder, not a Keras file; name the file in it",
        )));
    }
    if metadata.len() > MAX_FILE {
        return Err(format(&format!(
            "it has {} bytes, more than the {MAX_FILE} that are read; save it without the optimizer (include_optimizer=False)",
            metadata.len()
        )));
    }
    fs::read(path).map_err(read)
}

/// Reads a Keras file from memory; `name` is the file name for messages and provenance.
///
/// # Errors
/// See [`load`].
pub fn load_bytes(name: &str, bytes: Vec<u8>) -> Result<KerasModel, ConvertError> {
    convert(name, bytes).map_err(|fault| fault.in_file(name))
}

/// Reads a file of weights from memory, and the text of the architecture of their network.
///
/// # Errors
/// See [`load_with_architecture`]; an error of the architecture names it as `architecture`.
pub fn load_bytes_with_architecture(
    name: &str,
    bytes: Vec<u8>,
    architecture: &[u8],
) -> Result<KerasModel, ConvertError> {
    let text = architecture::parse(architecture)
        .map_err(|problem| Fault::Format(problem).in_file("architecture"))?;
    convert_with(name, bytes, text).map_err(|fault| fault.in_file(name))
}

/// Network and weights of a file, before they are interpreted.
struct Content {
    config: String,
    keras_version: Option<String>,
    backend: Option<String>,
    weights: StoredWeights,
    matching: Matching,
}

impl From<H5Model> for Content {
    fn from(model: H5Model) -> Self {
        Self {
            config: model.config,
            keras_version: model.keras_version,
            backend: model.backend,
            weights: StoredWeights::ByLayer(model.layers),
            matching: Matching::ByName,
        }
    }
}

fn convert(name: &str, bytes: Vec<u8>) -> Result<KerasModel, Fault> {
    let container = kind::container(name, &bytes).map_err(Fault::Format)?;
    let sha256 = hex(&Sha256::digest(&bytes));
    let content = match container {
        Container::Hdf5 => match hdf5::pure::read_any(bytes).map_err(Fault::Format)? {
            H5Content::Model(model) => model.into(),
            H5Content::Weights(found) => return Err(Fault::WeightsOnly(listing(&found.weights))),
        },
        Container::Zip => unpacked(&bytes).map_err(Fault::Format)?,
    };
    finish(name, sha256, content)
}

/// Reads a `.keras` archive.
fn unpacked(bytes: &[u8]) -> Result<Content, String> {
    let archive = archive::read(bytes)
        .map_err(|problem| format!("it is a zip archive, as .keras files are, but {problem}"))?
        .ok_or(
            "it is a zip archive without config.json, so no .keras file; only Keras models are read",
        )?;
    let found = hdf5::pure::read_weights(archive.weights)
        .map_err(|problem| format!("its model.weights.h5: {problem}"))?;
    Ok(Content {
        config: archive.config,
        keras_version: archive.keras_version,
        backend: found.backend,
        weights: found.weights,
        matching: Matching::ByName,
    })
}

fn convert_with(name: &str, bytes: Vec<u8>, network: Architecture) -> Result<KerasModel, Fault> {
    let container = kind::container(name, &bytes).map_err(Fault::Format)?;
    let sha256 = hex(&Sha256::digest(&bytes));
    let found = match container {
        Container::Hdf5 => hdf5::pure::read_weights(bytes).map_err(Fault::Format)?,
        Container::Zip => {
            let content = unpacked(&bytes).map_err(Fault::Format)?;
            H5Weights {
                keras_version: content.keras_version,
                backend: content.backend,
                weights: content.weights,
            }
        }
    };
    let content = Content {
        config: network.config,
        // The architecture determines the meaning of the layers.
        keras_version: network.keras_version.or(found.keras_version),
        backend: found.backend.or(network.backend),
        weights: found.weights,
        matching: Matching::ByNameOrOrder,
    };
    finish(name, sha256, content)
}

fn finish(name: &str, sha256: String, content: Content) -> Result<KerasModel, Fault> {
    let provenance = Provenance {
        file: name.into(),
        sha256,
        keras_version: content.keras_version.clone(),
        backend: content.backend.clone(),
    };
    Ok(KerasModel {
        graph: graph(content, stem(name))?,
        provenance,
    })
}

/// Lists the owners of weights, one per line, with names and shapes.
fn listing(weights: &StoredWeights) -> String {
    const SHOWN: usize = 60;
    const SHOWN_WEIGHTS: usize = 12;
    let owners: Vec<_> = weights
        .groups()
        .iter()
        .filter(|g| !g.1.is_empty())
        .collect();
    let mut text = String::new();
    for (owner, weights) in owners.iter().take(SHOWN) {
        let part = |w: &hdf5::H5Weight| {
            let name = w.name.rsplit('/').next().unwrap_or(&w.name);
            format!("{} {:?}", name.trim_end_matches(":0"), w.shape)
        };
        let shown: Vec<String> = weights.iter().take(SHOWN_WEIGHTS).map(part).collect();
        let more = match weights.len().checked_sub(SHOWN_WEIGHTS) {
            Some(n @ 1..) => format!(" and {n} more"),
            _ => String::new(),
        };
        text += &format!("  {owner}: {}{more}\n", shown.join(", "));
    }
    if owners.len() > SHOWN {
        text += &format!("  and {} more\n", owners.len() - SHOWN);
    }
    text
}

/// Converts what an HDF5 reader found in file `name`.
///
/// # Errors
/// See [`load`].
pub fn from_content(name: &str, content: H5Model) -> Result<Graph, ConvertError> {
    graph(content.into(), stem(name)).map_err(|fault| fault.in_file(name))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The graph of a model; `name` is used if the file does not name the model.
fn graph(file: Content, name: &str) -> Result<Graph, Fault> {
    let root = config::root(&file.config)?;
    let mut dialect = dialect(file.keras_version.as_deref(), &root)?;
    let mut faults = Vec::new();
    // All backends of Keras 3 store the same.
    if let Some(backend) = &file.backend
        && dialect.keras3.is_none()
    {
        match &**backend {
            "tensorflow" | "cntk" => {}
            "theano" => dialect.mirrored_kernels = true,
            _ => faults.push(Fault::Format(format!(
                "it was saved with the backend {backend:?}; load it in Keras with the TensorFlow backend and save it again"
            ))),
        }
    }
    let mut parsed = config::parse(&root, dialect)?;
    faults.append(&mut parsed.faults);
    let Some(model) = parsed.model else {
        let unnamed = || Fault::model("", "it is not understood");
        return Err(Fault::all(faults).unwrap_or_else(unnamed));
    };
    let mut assigned = weights::assign(&model, parsed.leaves, file.weights, file.matching);
    faults.append(&mut assigned.faults);
    let name = model.name.clone().unwrap_or_else(|| name.into());
    build::graph(name, &model, assigned, dialect, faults)
}

/// Semantics of a version of Keras, where versions differ. `root` is the configuration.
fn dialect(version: Option<&str>, root: &Value) -> Result<Dialect, Fault> {
    let Some(version) = version else {
        // The architectures of Keras 3 name the module of each class; earlier versions that do so
        // state their version.
        let is_3 = root.get("module").is_some();
        return Ok(Dialect {
            legacy_bilinear: is_3.then_some(false),
            keras3: is_3.then_some(u32::MAX),
            old_skipped_outputs: !is_3,
            masked_heads: None,
            mirrored_kernels: false,
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
            keras3: None,
            old_skipped_outputs: minor.is_none_or(|minor| minor < 4),
            masked_heads: minor.map(|minor| minor >= 10),
            mirrored_kernels: false,
        }),
        Some(3) => Ok(Dialect {
            legacy_bilinear: Some(false),
            keras3: Some(minor.unwrap_or(u32::MAX)),
            old_skipped_outputs: false,
            masked_heads: None,
            mirrored_kernels: false,
        }),
        Some(4..) => Err(Fault::Format(format!(
            "it was saved by Keras {version}; only files of Keras 2 and 3 are supported: build the network in Keras 3, give it the weights with set_weights and save it with model.save(\"name.keras\")"
        ))),
        _ => Err(Fault::Format(format!(
            "it was saved by Keras {version:?}; only files of Keras 2 and 3 are supported: load it in Keras 2 and save it again"
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
