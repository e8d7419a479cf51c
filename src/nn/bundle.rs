//! The bundle file: one or more networks and everything needed to use them, as `.safetensors`.
//!
//! The tensors are the weights and each network's self-test pair, stored in the smallest of these types
//! that holds every element exactly: `I8` with one scale per output channel (an own tensor, its name
//! followed by `.scale`), `F16`, `F32`. The metadata entry [`METADATA_KEY`] is a JSON document with the
//! role, graph and provenance of each network, and metadata `M` of the whole bundle that the engine does
//! not interpret. Loading checks everything first: a bundle that loads holds only finite weights and
//! consistent graphs of bounded size.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::graph::{GraphError, Input, Node, Output};
use super::half;
use super::network::{Network, Provenance};
use super::quantised;
use crate::atomic_file;

mod read;

pub use read::{Bundle, Opened};

/// The metadata entry that holds the JSON document.
pub const METADATA_KEY: &str = "maeum";
/// The version of the document that this code writes and reads.
pub const FORMAT: u32 = 1;
/// The largest bundle file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 30;
/// The most networks of one bundle.
pub const MAX_NETWORKS: usize = 6;
/// The most arithmetic a network may need per row: far above any real one of this kind, low
/// enough that a hostile file cannot keep a processor busy for long.
pub const MAX_FLOPS: u64 = 1 << 38;

/// Why a bundle cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The operating system does not give the file's bytes.
    #[error(
        "cannot read the bundle {file}: {source}; {}",
        crate::file_advice::to_read(source)
    )]
    Read {
        /// Path of the file, as it was given.
        file: String,
        /// Cause given by the operating system.
        source: std::io::Error,
    },
    /// The file cannot be created, written or renamed; an older one of that name is as it was.
    #[error(
        "cannot write the bundle {file}: {source}; {}",
        crate::file_advice::to_write(source)
    )]
    Write {
        /// Path of the file, as it was given.
        file: String,
        /// Cause given by the operating system.
        source: std::io::Error,
    },
    /// More than [`MAX_FILE`] bytes.
    #[error("the bundle {file} has {bytes} bytes; at most {MAX_FILE} are read")]
    TooLarge {
        /// Path of the file, as it was given.
        file: String,
        /// Its size.
        bytes: u64,
    },
    /// No safetensors file, or one without the metadata entry [`METADATA_KEY`].
    #[error(
        "{file} is not a maeum bundle: {problem}. Make one from Keras .h5 files with the tool `convert`"
    )]
    NotABundle {
        /// Name of the bundle, its path with [`open`].
        file: String,
        /// Kind of the file, or the missing part.
        problem: String,
    },
    /// The metadata cannot be read, or tensors are missing, superfluous, of another type than
    /// `F32`, `F16` and `I8`, or not finite.
    #[error("the bundle {file} is damaged: {problem}. Convert the original files again")]
    Damaged {
        /// Name of the bundle, its path with [`open`].
        file: String,
        /// The tensor or the part of the metadata, and what is wrong with it.
        problem: String,
    },
    /// Written in another version of the format than [`FORMAT`].
    #[error(
        "the bundle {file} has format {found}, this version reads format {FORMAT}. Convert the original files again"
    )]
    Format {
        /// Name of the bundle, its path with [`open`].
        file: String,
        /// The version that it states.
        found: u32,
    },
    /// A graph is inconsistent or too large.
    #[error("the bundle {file}: {source}")]
    Graph {
        /// Name of the bundle, its path with [`open`].
        file: String,
        /// The graph and node, and what does not fit.
        source: GraphError,
    },
    /// The networks do not fit together, are more than [`MAX_NETWORKS`], or one needs more than
    /// [`MAX_FLOPS`].
    #[error("the bundle {file}: {problem}")]
    Inconsistent {
        /// Name of the bundle, its path with [`open`].
        file: String,
        /// The network, and what is wrong with it.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<M, R> {
    format: u32,
    info: M,
    networks: Vec<NetworkRecord<R>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkRecord<R> {
    role: R,
    name: String,
    inputs: Vec<Input>,
    nodes: Vec<Node>,
    outputs: Vec<Output>,
    weights: Vec<String>,
    provenance: Provenance,
    self_test: Option<SelfTestRecord>,
}

/// Shapes of the self-test's inputs; the elements are tensors of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SelfTestRecord {
    input_shapes: Vec<Vec<usize>>,
}

fn weight_key(network: usize, weight: usize) -> String {
    format!("{network}.weight.{weight}")
}

fn test_key(network: usize, side: &str, index: usize) -> String {
    format!("{network}.self_test.{side}.{index}")
}

fn scale_key(key: &str) -> String {
    format!("{key}.scale")
}

/// Tensor of the file: shape, element type, bytes.
type Stored = (Vec<usize>, Dtype, Vec<u8>);

/// Adds the smallest tensor, or tensor of levels with its scales, that holds these elements exactly.
fn encode(tensors: &mut BTreeMap<String, Stored>, key: String, shape: &[usize], data: &[f32]) {
    let plain = encode_floats(shape, data);
    if let [.., _, channels] = *shape
        && let Some(kernel) = quantised::narrow(data, channels)
    {
        let scales = encode_floats(&[channels], &kernel.scales);
        if kernel.levels.len() + scales.2.len() < plain.2.len() {
            let levels = kernel.levels.iter().map(|level| level.cast_unsigned());
            tensors.insert(scale_key(&key), scales);
            tensors.insert(key, (shape.to_vec(), Dtype::I8, levels.collect()));
            return;
        }
    }
    tensors.insert(key, plain);
}

/// Returns a tensor of the type `F16` if that holds every element exactly, else of `F32`.
fn encode_floats(shape: &[usize], data: &[f32]) -> Stored {
    let halves: Option<Vec<[u8; 2]>> = data
        .iter()
        .map(|&x| half::narrow(x).map(u16::to_le_bytes))
        .collect();
    match halves {
        Some(halves) => (shape.to_vec(), Dtype::F16, halves.into_flattened()),
        None => {
            let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
            (shape.to_vec(), Dtype::F32, bytes)
        }
    }
}

/// Returns the bytes of a bundle file. Equal arguments give equal bytes.
pub fn to_bytes<M: Serialize, R: Serialize>(metadata: &M, networks: &[Network<R>]) -> Vec<u8> {
    let mut tensors: BTreeMap<String, Stored> = BTreeMap::new();
    let mut records = Vec::new();
    for (n, network) in networks.iter().enumerate() {
        let graph = &network.graph;
        for (w, weight) in graph.weights.iter().enumerate() {
            encode(&mut tensors, weight_key(n, w), &weight.shape, &weight.data);
        }
        if let Some(test) = &network.self_test {
            for (side, arrays) in [("in", &test.inputs), ("out", &test.outputs)] {
                for (i, data) in arrays.iter().enumerate() {
                    encode(&mut tensors, test_key(n, side, i), &[data.len()], data);
                }
            }
        }
        records.push(NetworkRecord {
            role: &network.role,
            name: graph.name.clone(),
            inputs: graph.inputs.clone(),
            nodes: graph.nodes.clone(),
            outputs: graph.outputs.clone(),
            weights: graph.weights.iter().map(|w| w.name.clone()).collect(),
            provenance: network.provenance.clone(),
            self_test: network.self_test.as_ref().map(|t| SelfTestRecord {
                input_shapes: t.input_shapes.clone(),
            }),
        });
    }
    let document = Document {
        format: FORMAT,
        info: metadata,
        networks: records,
    };
    let json = serde_json::to_string(&document).expect("the document has only string keys");
    let views = tensors.iter().map(|(name, (shape, dtype, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data);
        (name.clone(), view.expect("sizes match"))
    });
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
    safetensors::serialize(views, Some(metadata)).expect("sizes and names are valid")
}

/// Writes the bytes of a bundle to a file: to a new neighbouring file first, then renamed, so that a
/// failure leaves no half-written bundle.
///
/// # Errors
/// The file cannot be written.
pub fn write(bytes: &[u8], path: &Path) -> Result<(), BundleError> {
    atomic_file::write(path, bytes).map_err(|source| BundleError::Write {
        file: path.display().to_string(),
        source,
    })
}

/// Reads a bundle file and its metadata; the networks are read by [`Opened::read`].
///
/// # Errors
/// Names the file and its fault.
pub fn open<M: DeserializeOwned, R: DeserializeOwned>(
    path: &Path,
) -> Result<Opened<'static, M, R>, BundleError> {
    let file = path.display().to_string();
    let read = |source| BundleError::Read {
        file: file.clone(),
        source,
    };
    let handle = File::open(path).map_err(read)?;
    let bytes = handle.metadata().map_err(read)?.len();
    if bytes > MAX_FILE {
        return Err(BundleError::TooLarge { file, bytes });
    }
    Opened::from_file(handle, bytes, &file)
}

/// Reads the metadata in the bytes of a bundle; `name` stands for it in messages.
///
/// # Errors
/// Names the bundle and its fault.
pub fn open_bytes<'a, M: DeserializeOwned, R: DeserializeOwned>(
    bytes: &'a [u8],
    name: &str,
) -> Result<Opened<'a, M, R>, BundleError> {
    Opened::from_bytes(bytes, name)
}
