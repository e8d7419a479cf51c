//! Reading of bundles.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    BundleError, Document, FORMAT, MAX_FILE, MAX_FLOPS, MAX_NETWORKS, METADATA_KEY, NetworkRecord,
    scale_key, test_key, weight_key,
};
use crate::nn::cost;
use crate::nn::graph::{Graph, GraphError, Weight};
use crate::nn::half;
use crate::nn::network::Network;
use crate::nn::quantised;
use crate::nn::self_test::SelfTest;

/// The contents of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle<M, R> {
    /// Metadata of the whole bundle.
    pub metadata: M,
    /// At most [`MAX_NETWORKS`] networks, each checked by itself.
    pub networks: Vec<Network<R>>,
    /// SHA-256 of the bundle's bytes, in hexadecimal.
    pub identity: String,
}

/// A bundle whose metadata was read and whose networks were not. Its owner can prepare a recording for
/// the model while the networks are being read.
pub struct Opened<'a, M, R> {
    file: String,
    bytes: Cow<'a, [u8]>,
    /// Source of the bytes that are not read yet.
    rest: Option<File>,
    document: Document<M, R>,
}

impl<M: std::fmt::Debug, R> std::fmt::Debug for Opened<'_, M, R> {
    /// Shows the name and the metadata.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("file", &self.file)
            .field("metadata", &self.document.info)
            .finish_non_exhaustive()
    }
}

impl<'a, M: DeserializeOwned, R: DeserializeOwned> Opened<'a, M, R> {
    pub(super) fn from_bytes(bytes: &'a [u8], name: &str) -> Result<Self, BundleError> {
        let document = described(bytes, name)?;
        Ok(Self {
            file: name.to_owned(),
            bytes: Cow::Borrowed(bytes),
            rest: None,
            document,
        })
    }

    /// Reads the header of a file of `size` bytes, at most `MAX_FILE`.
    pub(super) fn from_file(
        mut file: File,
        size: u64,
        name: &str,
    ) -> Result<Opened<'static, M, R>, BundleError> {
        let failed = unreadable(name);
        let mut bytes = Vec::with_capacity(size.try_into().unwrap_or(0));
        let mut read = |limit: u64, bytes: &mut Vec<u8>| {
            file.by_ref()
                .take(limit)
                .read_to_end(bytes)
                .map_err(&failed)
        };
        read(LENGTH as u64, &mut bytes)?;
        let header = <[u8; LENGTH]>::try_from(&*bytes).map_or(0, u64::from_le_bytes);
        // An impossible length is reported later, with the complete bytes.
        read(header.min(size), &mut bytes)?;
        let (document, rest) = match described(&bytes, name) {
            Ok(document) => (document, Some(file)),
            Err(_) => {
                read(MAX_FILE.saturating_sub(bytes.len() as u64), &mut bytes)?;
                SafeTensors::read_metadata(&bytes).map_err(|e| no_safetensors(&bytes, e, name))?;
                (described(&bytes, name)?, None)
            }
        };
        Ok(Opened {
            file: name.to_owned(),
            bytes: Cow::Owned(bytes),
            rest,
            document,
        })
    }

    /// Name of the bundle in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Metadata, read but not validated.
    pub fn metadata(&self) -> &M {
        &self.document.info
    }

    /// Reads and checks all networks.
    ///
    /// # Errors
    /// Names the bundle and its fault.
    pub fn read(self) -> Result<Bundle<M, R>, BundleError> {
        let Self {
            file,
            mut bytes,
            rest,
            document,
        } = self;
        if let Some(rest) = rest {
            let limit = MAX_FILE.saturating_sub(bytes.len() as u64);
            let read = rest.take(limit).read_to_end(bytes.to_mut());
            read.map_err(unreadable(&file))?;
        }
        let (header, tensors) =
            SafeTensors::read_metadata(&bytes).map_err(|e| no_safetensors(&bytes, e, &file))?;
        let mut reader = Reader {
            file,
            data: LENGTH + header,
            tensors,
            used: 0,
        };
        let networks = document
            .networks
            .into_iter()
            .enumerate()
            .map(|(n, record)| reader.network(&bytes[reader.data..], n, record))
            .collect::<Result<Vec<Network<R>>, BundleError>>()?;
        let stored = reader.tensors.offset_keys().len();
        if reader.used != stored {
            let used = reader.used;
            return Err(reader.damaged(format!(
                "it holds {stored} tensors, its networks use {used}"
            )));
        }
        let identity = Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        Ok(Bundle {
            metadata: document.info,
            networks,
            identity,
        })
    }
}

/// Bytes of the header length at the start of a safetensors file.
const LENGTH: usize = size_of::<u64>();

fn unreadable(name: &str) -> impl Fn(std::io::Error) -> BundleError {
    |source| BundleError::Read {
        file: name.to_owned(),
        source,
    }
}

fn not_a_bundle(problem: String, name: &str) -> BundleError {
    BundleError::NotABundle {
        file: name.to_owned(),
        problem,
    }
}

fn no_safetensors(bytes: &[u8], error: SafeTensorError, name: &str) -> BundleError {
    match bytes.starts_with(b"\x89HDF") {
        true => not_a_bundle("it is an HDF5 file".into(), name),
        false => not_a_bundle(format!("safetensors: {error}"), name),
    }
}

/// Parses the metadata in the header at the start of `bytes`. The bytes behind the header may be missing
/// and are not read.
fn described<M: DeserializeOwned, R: DeserializeOwned>(
    bytes: &[u8],
    name: &str,
) -> Result<Document<M, R>, BundleError> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        metadata: Option<HashMap<String, String>>,
    }
    let header = || -> Option<Header> {
        let (length, behind) = bytes.split_first_chunk::<LENGTH>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        serde_json::from_slice(behind.get(..length)?).ok()
    };
    let Some(header) = header() else {
        let all = SafeTensors::read_metadata(bytes);
        let problem = all.err().unwrap_or(SafeTensorError::HeaderTooSmall);
        return Err(no_safetensors(bytes, problem, name));
    };
    let json = header.metadata.and_then(|mut m| m.remove(METADATA_KEY));
    let json = json
        .ok_or_else(|| not_a_bundle(format!("its metadata has no entry {METADATA_KEY:?}"), name))?;
    document(&json, name)
}

/// Parses the JSON document and checks its format version.
fn document<M: DeserializeOwned, R: DeserializeOwned>(
    json: &str,
    name: &str,
) -> Result<Document<M, R>, BundleError> {
    let damaged = |e: serde_json::Error| BundleError::Damaged {
        file: name.to_owned(),
        problem: format!("metadata: {e}"),
    };
    let document: Result<Document<M, R>, _> = serde_json::from_str(json);
    let format = match &document {
        Ok(document) => document.format,
        // A document of another version may have other fields.
        Err(_) => {
            #[derive(Deserialize)]
            struct Version {
                format: u32,
            }
            let version: Version = serde_json::from_str(json).map_err(damaged)?;
            version.format
        }
    };
    if format != FORMAT {
        return Err(BundleError::Format {
            file: name.to_owned(),
            found: format,
        });
    }
    let document = document.map_err(damaged)?;
    if document.networks.len() > MAX_NETWORKS {
        return Err(BundleError::Inconsistent {
            file: name.to_owned(),
            problem: format!("it lists {} networks", document.networks.len()),
        });
    }
    Ok(document)
}

/// The tensors of a bundle, with the number of those that its networks use.
struct Reader {
    file: String,
    /// Offset of the tensors' bytes.
    data: usize,
    tensors: Metadata,
    used: usize,
}

impl Reader {
    fn damaged(&self, problem: String) -> BundleError {
        BundleError::Damaged {
            file: self.file.clone(),
            problem,
        }
    }

    fn graph_error(&self, source: GraphError) -> BundleError {
        BundleError::Graph {
            file: self.file.clone(),
            source,
        }
    }

    /// Returns the shape and elements of a tensor; `data` holds the bytes of all tensors.
    fn tensor(&mut self, data: &[u8], key: &str) -> Result<(Vec<usize>, Vec<f32>), BundleError> {
        let (shape, dtype, bytes) = self.stored(data, key)?;
        let elements = match dtype {
            Dtype::I8 => {
                let scales = self.scales(data, key, shape.last())?;
                quantised::widen(bytes.iter().map(|b| b.cast_signed()), &scales)
            }
            _ => self.floats(key, dtype, bytes, "F32, F16 nor I8")?,
        };
        Ok((shape, elements))
    }

    /// Returns the scales of the channels of tensor `key`.
    fn scales(
        &mut self,
        data: &[u8],
        key: &str,
        channels: Option<&usize>,
    ) -> Result<Vec<f32>, BundleError> {
        let key = scale_key(key);
        let (shape, dtype, bytes) = self.stored(data, &key)?;
        match (shape.as_slice(), channels) {
            ([scales], Some(channels)) if scales == channels => {
                self.floats(&key, dtype, bytes, "F32 nor F16")
            }
            _ => Err(self.damaged(format!(
                "tensor {key} has the shape {shape:?}, not one scale for each of the {} channels",
                channels.unwrap_or(&0),
            ))),
        }
    }

    /// Returns the shape, element type and bytes of a tensor.
    fn stored<'d>(
        &mut self,
        data: &'d [u8],
        key: &str,
    ) -> Result<(Vec<usize>, Dtype, &'d [u8]), BundleError> {
        let info = self
            .tensors
            .info(key)
            .ok_or_else(|| self.damaged(format!("tensor {key} is missing")))?;
        let (start, end) = info.data_offsets;
        self.used += 1;
        Ok((info.shape.clone(), info.dtype, &data[start..end]))
    }

    /// Returns the floating-point elements of a tensor. `others` names the types that it may have.
    fn floats(
        &self,
        key: &str,
        dtype: Dtype,
        bytes: &[u8],
        others: &str,
    ) -> Result<Vec<f32>, BundleError> {
        match dtype {
            Dtype::F32 => {
                let (numbers, _) = bytes.as_chunks();
                Ok(numbers.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            Dtype::F16 => {
                let (numbers, _) = bytes.as_chunks();
                let halves = numbers.iter().map(|&b| u16::from_le_bytes(b));
                Ok(halves.map(half::widen).collect())
            }
            other => Err(self.damaged(format!("tensor {key} is {other:?}, neither {others}"))),
        }
    }

    /// Reads network `n` and checks it by itself.
    fn network<R>(
        &mut self,
        data: &[u8],
        n: usize,
        record: NetworkRecord<R>,
    ) -> Result<Network<R>, BundleError> {
        let mut weights = Vec::with_capacity(record.weights.len().min(4096));
        for (w, name) in record.weights.into_iter().enumerate() {
            let (shape, data) = self.tensor(data, &weight_key(n, w))?;
            // Without a branch per element.
            if !data.iter().fold(true, |all, x| all & x.is_finite()) {
                return Err(
                    self.damaged(format!("weight {name} holds a number that is not finite"))
                );
            }
            weights.push(Weight { name, shape, data });
        }
        let graph = Graph {
            name: record.name,
            inputs: record.inputs,
            nodes: record.nodes,
            outputs: record.outputs,
            weights,
        };
        graph.validate().map_err(|e| self.graph_error(e))?;
        let self_test = match record.self_test {
            None => None,
            Some(test) => Some(SelfTest {
                inputs: self.test_side(data, n, "in", graph.inputs.len())?,
                outputs: self.test_side(data, n, "out", graph.outputs.len())?,
                input_shapes: test.input_shapes,
            }),
        };
        let tested = self_test.as_ref().map(|test| test.input_shapes.clone());
        if let Some(shapes) = graph.fixed_input_shapes().or(tested) {
            self.check_cost(&graph, &shapes)?;
        }
        Ok(Network {
            role: record.role,
            graph,
            provenance: record.provenance,
            self_test,
        })
    }

    fn test_side(
        &mut self,
        data: &[u8],
        n: usize,
        side: &str,
        count: usize,
    ) -> Result<Vec<Vec<f32>>, BundleError> {
        (0..count)
            .map(|i| {
                self.tensor(data, &test_key(n, side, i))
                    .map(|(_, data)| data)
            })
            .collect()
    }

    /// Checks that the network needs at most [`MAX_FLOPS`].
    fn check_cost(&self, graph: &Graph, shapes: &[Vec<usize>]) -> Result<(), BundleError> {
        let total = cost::flops(graph, shapes)
            .map_err(|e| self.graph_error(e))?
            .iter()
            .fold(0u64, |a, &b| a.saturating_add(b));
        if total <= MAX_FLOPS {
            return Ok(());
        }
        Err(BundleError::Inconsistent {
            file: self.file.clone(),
            problem: format!("network {} needs {total} operations per row", graph.name),
        })
    }
}
