//! HDF5 reader based on the C library (cargo feature `libhdf5`), for comparison with
//! [`super::pure`]. It does not support 16-bit floats.

use std::path::Path;

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Attribute, Dataset, File, Group};

use super::{H5Content, H5Model, H5Reader, read_content};

/// Open file.
pub struct LibReader(File);

impl LibReader {
    /// Opens a file.
    ///
    /// # Errors
    /// If the file is missing or is not HDF5.
    pub fn open(path: &Path) -> Result<Self, String> {
        File::open(path).map(Self).map_err(|e| e.to_string())
    }

    fn group(&self, path: &str) -> Result<Group, String> {
        let path = if path.is_empty() { "/" } else { path };
        self.0
            .group(path)
            .map_err(|e| format!("group {path:?} cannot be read: {e}"))
    }

    fn dataset(&self, path: &str) -> Result<Dataset, String> {
        self.0
            .dataset(path)
            .map_err(|e| format!("dataset {path:?} cannot be read: {e}"))
    }
}

impl H5Reader for LibReader {
    fn strings(&self, group: &str, attribute: &str) -> Result<Option<Vec<String>>, String> {
        let object = self.group(group)?;
        let unreadable =
            |e: hdf5::Error| format!("attribute {attribute:?} of {group:?} cannot be read: {e}");
        if !object
            .attr_names()
            .map_err(unreadable)?
            .iter()
            .any(|n| n == attribute)
        {
            return Ok(None);
        }
        let attr = object.attr(attribute).map_err(unreadable)?;
        if attr.size() == 0 {
            return Ok(Some(Vec::new()));
        }
        text(&attr).map(Some).map_err(unreadable)
    }

    fn has_group(&self, group: &str) -> bool {
        self.group(group).is_ok()
    }

    fn groups(&self, group: &str) -> Result<Vec<String>, String> {
        let unreadable = |e| format!("group {group:?} cannot be listed: {e}");
        let groups = self.group(group)?.groups().map_err(unreadable)?;
        Ok(groups.iter().map(|g| last_name(g)).collect())
    }

    fn datasets(&self, group: &str) -> Result<Vec<String>, String> {
        let unreadable = |e| format!("group {group:?} cannot be listed: {e}");
        let datasets = self.group(group)?.datasets().map_err(unreadable)?;
        Ok(datasets.iter().map(|d| last_name(d)).collect())
    }

    fn shape(&self, dataset: &str) -> Result<Vec<usize>, String> {
        Ok(self.dataset(dataset)?.shape())
    }

    fn numbers(&self, path: &str) -> Result<Vec<f32>, String> {
        let dataset = self.dataset(path)?;
        let unreadable = |e| format!("the numbers of {path:?} cannot be read: {e}");
        match dataset.dtype().and_then(|t| t.to_descriptor()) {
            Ok(TypeDescriptor::Float(_)) => dataset.read_raw::<f32>().map_err(unreadable),
            Ok(other) => Err(format!(
                "dataset {path:?} holds {other}, not floating-point numbers"
            )),
            Err(e) => Err(unreadable(e)),
        }
    }
}

/// Maximum length of a fixed-length string: an attribute in an object header has at most 64 KB.
const MAX_FIXED: usize = 1 << 16;

fn text(attr: &Attribute) -> Result<Vec<String>, hdf5::Error> {
    fn owned<T: AsRef<str>>(values: Vec<T>) -> Vec<String> {
        values.iter().map(|v| v.as_ref().to_owned()).collect()
    }
    match attr.dtype()?.to_descriptor()? {
        TypeDescriptor::VarLenAscii => attr.read_raw::<VarLenAscii>().map(owned),
        TypeDescriptor::VarLenUnicode => attr.read_raw::<VarLenUnicode>().map(owned),
        TypeDescriptor::FixedAscii(n) if n <= 256 => attr.read_raw::<FixedAscii<256>>().map(owned),
        TypeDescriptor::FixedUnicode(n) if n <= 256 => {
            attr.read_raw::<FixedUnicode<256>>().map(owned)
        }
        TypeDescriptor::FixedAscii(n) if n <= MAX_FIXED => {
            attr.read_raw::<FixedAscii<MAX_FIXED>>().map(owned)
        }
        TypeDescriptor::FixedUnicode(n) if n <= MAX_FIXED => {
            attr.read_raw::<FixedUnicode<MAX_FIXED>>().map(owned)
        }
        other => Err(format!("it is {other}, not text").into()),
    }
}

/// Returns the name of an object in its group.
fn last_name(object: &hdf5::Location) -> String {
    let path = object.name();
    path.rsplit_once('/')
        .map_or(path.clone(), |(_, name)| name.into())
}

/// Reads a model or weights from a file.
///
/// # Errors
/// See [`read_content`].
pub fn read_any(path: &Path) -> Result<H5Content, String> {
    read_content(&LibReader::open(path)?)
}

/// Reads a model from a file.
///
/// # Errors
/// See [`read_content`]; also if the file holds only weights.
pub fn read(path: &Path) -> Result<H5Model, String> {
    match read_any(path)? {
        H5Content::Model(model) => Ok(model),
        H5Content::Weights(_) => Err("it holds only weights".into()),
    }
}
