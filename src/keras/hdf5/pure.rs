//! HDF5 without a C library.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hdf5_pure::{Dataset, Datatype, DatatypeByteOrder, File, Group};

use super::{H5Model, H5Reader, read_model};
use crate::nn::half;

/// A file in memory, read by the crate `hdf5-pure`.
pub struct PureReader(File);

impl PureReader {
    /// # Errors
    /// The bytes are no HDF5 file, or only a part of one.
    pub fn new(bytes: Vec<u8>) -> Result<Self, String> {
        let length = bytes.len() as u64;
        let file = File::from_bytes(bytes).map_err(|e| damaged(&e))?;
        let needed = file.superblock().eof_address;
        if needed > length {
            return Err(format!(
                "it is cut off: it has {length} bytes of {needed}; copy it again"
            ));
        }
        Ok(Self(file))
    }

    fn group(&self, path: &str) -> Result<Group, String> {
        match path {
            "" => Ok(self.0.root()),
            _ => self
                .0
                .group(path)
                .map_err(|e| format!("group {path:?} cannot be read: {e}")),
        }
    }

    fn dataset(&self, path: &str) -> Result<(Dataset, Datatype), String> {
        let unreadable = |e| format!("dataset {path:?} cannot be read: {e}");
        let dataset = self.0.dataset(path).map_err(unreadable)?;
        let datatype = dataset.datatype().map_err(unreadable)?;
        Ok((dataset, datatype))
    }
}

fn damaged(error: &dyn std::fmt::Display) -> String {
    format!("its HDF5 structure cannot be read, it is damaged or incomplete: {error}")
}

impl H5Reader for PureReader {
    fn strings(&self, group: &str, attribute: &str) -> Result<Option<Vec<String>>, String> {
        let object = self.group(group)?;
        let unreadable = |e| format!("the attributes of {group:?} cannot be read: {e}");
        let attributes = object.attrs().map_err(unreadable)?;
        let Some(value) = attributes.get(attribute) else {
            // The library leaves out attributes of types that it cannot show.
            let types = object.attr_datatypes().map_err(unreadable)?;
            return match types.get(attribute) {
                None => Ok(None),
                Some(other) => Err(not_strings(group, attribute, &other)),
            };
        };
        let empty = value.to_f64s().is_some_and(|v| v.is_empty())
            || value.to_i64s().is_some_and(|v| v.is_empty());
        match value.as_strings() {
            Some(strings) => Ok(Some(strings.to_vec())),
            None if empty => Ok(Some(Vec::new())),
            None => Err(not_strings(group, attribute, value)),
        }
    }

    fn has_group(&self, group: &str) -> bool {
        self.group(group).is_ok()
    }

    fn shape(&self, dataset: &str) -> Result<Vec<usize>, String> {
        let shape = self
            .dataset(dataset)?
            .0
            .shape()
            .map_err(|e| format!("the shape of {dataset:?} cannot be read: {e}"))?;
        shape
            .iter()
            .map(|&d| usize::try_from(d).ok())
            .collect::<Option<_>>()
            .ok_or_else(|| format!("dataset {dataset:?} has the absurd shape {shape:?}"))
    }

    fn numbers(&self, path: &str) -> Result<Vec<f32>, String> {
        let (dataset, datatype) = self.dataset(path)?;
        let unreadable = |e| format!("the numbers of {path:?} cannot be read: {e}");
        match &datatype {
            Datatype::FloatingPoint { size: 4, .. } => dataset.read_f32().map_err(unreadable),
            Datatype::FloatingPoint { size: 8, .. } => {
                let wide = dataset.read_f64().map_err(unreadable)?;
                Ok(wide.into_iter().map(|x| x as f32).collect())
            }
            Datatype::FloatingPoint {
                size: 2,
                byte_order: DatatypeByteOrder::LittleEndian,
                ..
            } => {
                let raw = dataset.read_raw().map_err(unreadable)?;
                let (pairs, _) = raw.as_chunks::<2>();
                Ok(pairs
                    .iter()
                    .map(|&b| half::widen(u16::from_le_bytes(b)))
                    .collect())
            }
            other => Err(format!(
                "dataset {path:?} holds {other:?}, not floating-point numbers"
            )),
        }
    }
}

fn not_strings(group: &str, attribute: &str, found: &dyn std::fmt::Debug) -> String {
    let mut found = format!("{found:?}");
    if let Some((end, _)) = found.char_indices().nth(200) {
        found.truncate(end);
    }
    format!("attribute {attribute:?} of {group:?} is {found}, not text")
}

/// Reads a model from the bytes of a file.
///
/// # Errors
/// See [`read_model`].
pub fn read(bytes: Vec<u8>) -> Result<H5Model, String> {
    // hdf5-pure promises errors for damaged files; that is not in our hands, and a damaged
    // file must not end a program that converts many.
    catch_unwind(AssertUnwindSafe(|| read_model(&PureReader::new(bytes)?)))
        .unwrap_or_else(|_| Err(damaged(&"the HDF5 reader gave up")))
}
