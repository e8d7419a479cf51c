//! HDF5 reader without a C library.

use std::thread;

use hdf5_pure::{Dataset, Datatype, DatatypeByteOrder, Error, File, FormatError, Group};

use super::bounded::BudgetedFile;
use super::{H5Content, H5Model, H5Reader, H5Weights, read_content, read_weights as weights_of};
use crate::nn::half;

/// Stack size of the reading thread. The library reads nested datatypes by recursion. A message has
/// a 16-bit size and a datatype at least 8 bytes, which bounds the nesting at 8,191 levels; each
/// level gets 8 KiB.
const STACK: usize = 64 << 20;
/// Name of the reading thread.
const THREAD: &str = "maeum-hdf5";
/// Maximum ratio of the size of the values to that of the file. DEFLATE, the densest compression in
/// Keras' files, expands a byte to at most 1,032.
const MAX_COMPRESSION: u64 = 1032;

/// File in memory, read by the crate `hdf5-pure`.
struct PureReader {
    file: File,
    length: u64,
}

impl PureReader {
    /// Opens a file in memory.
    ///
    /// # Errors
    /// If the bytes are not HDF5, or are incomplete.
    fn new(bytes: Vec<u8>) -> Result<Self, String> {
        let length = bytes.len() as u64;
        let file =
            File::from_source(BudgetedFile::new(bytes)).map_err(|e| damaged(&describe(&e)))?;
        let needed = file.superblock().eof_address;
        if needed > length {
            return Err(format!(
                "it is cut off: it has {length} bytes of {needed}; copy it again"
            ));
        }
        Ok(Self { file, length })
    }

    fn group(&self, path: &str) -> Result<Group, String> {
        match path {
            "" => Ok(self.file.root()),
            _ => self
                .file
                .group(path)
                .map_err(|e| format!("group {path:?} cannot be read: {}", describe(&e))),
        }
    }

    fn dataset(&self, path: &str) -> Result<(Dataset, Datatype), String> {
        let unreadable = |e| format!("dataset {path:?} cannot be read: {}", describe(&e));
        let dataset = self.file.dataset(path).map_err(unreadable)?;
        let datatype = dataset.datatype().map_err(unreadable)?;
        Ok((dataset, datatype))
    }

    /// Checks that a dataset does not state more values than the file can hold.
    fn check_size(&self, path: &str, shape: &[u64], bytes_each: u64) -> Result<(), String> {
        let bytes = shape
            .iter()
            .try_fold(bytes_each, |n, &d| n.checked_mul(d))
            .filter(|&n| n <= self.length.saturating_mul(MAX_COMPRESSION));
        bytes.map(drop).ok_or_else(|| {
            format!(
                "dataset {path:?} has the shape {shape:?}, more numbers than a file of {} bytes holds; the file is damaged",
                self.length
            )
        })
    }
}

fn damaged(problem: &str) -> String {
    format!("its HDF5 structure cannot be read, it is damaged or incomplete: {problem}")
}

/// Formats an error: the library's description, or only the message if it comes from
/// [`BudgetedFile`].
fn describe(error: &Error) -> String {
    match error {
        Error::Format(FormatError::Source(problem)) => problem.clone(),
        other => other.to_string(),
    }
}

impl H5Reader for PureReader {
    fn strings(&self, group: &str, attribute: &str) -> Result<Option<Vec<String>>, String> {
        let object = self.group(group)?;
        let unreadable = |e| {
            format!(
                "the attributes of {group:?} cannot be read: {}",
                describe(&e)
            )
        };
        let attributes = object.attrs().map_err(unreadable)?;
        let Some(value) = attributes.get(attribute) else {
            // The library omits attributes of types that it cannot represent.
            let types = object.attr_datatypes().map_err(unreadable)?;
            return match types.get(attribute) {
                None => Ok(None),
                Some(other) => Err(not_strings(group, attribute, &kind(other))),
            };
        };
        let empty = value.to_f64s().is_some_and(|v| v.is_empty())
            || value.to_i64s().is_some_and(|v| v.is_empty());
        match value.as_strings() {
            Some(strings) => Ok(Some(strings.to_vec())),
            None if empty => Ok(Some(Vec::new())),
            None => Err(not_strings(group, attribute, "numbers")),
        }
    }

    fn has_group(&self, group: &str) -> bool {
        self.group(group).is_ok()
    }

    fn groups(&self, group: &str) -> Result<Vec<String>, String> {
        let unreadable = |e| format!("group {group:?} cannot be listed: {}", describe(&e));
        self.group(group)?.groups().map_err(unreadable)
    }

    fn datasets(&self, group: &str) -> Result<Vec<String>, String> {
        let unreadable = |e| format!("group {group:?} cannot be listed: {}", describe(&e));
        self.group(group)?.datasets().map_err(unreadable)
    }

    fn shape(&self, dataset: &str) -> Result<Vec<usize>, String> {
        let shape =
            self.dataset(dataset)?.0.shape().map_err(|e| {
                format!("the shape of {dataset:?} cannot be read: {}", describe(&e))
            })?;
        shape
            .iter()
            .map(|&d| usize::try_from(d).ok())
            .collect::<Option<_>>()
            .ok_or_else(|| format!("dataset {dataset:?} has the absurd shape {shape:?}"))
    }

    fn numbers(&self, path: &str) -> Result<Vec<f32>, String> {
        let (dataset, datatype) = self.dataset(path)?;
        let unreadable = |e| format!("the numbers of {path:?} cannot be read: {}", describe(&e));
        let shape = dataset.shape().map_err(unreadable)?;
        self.check_size(path, &shape, datatype.type_size().into())?;
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
                "dataset {path:?} holds {}, not floating-point numbers of 16, 32 or 64 bits",
                kind(other)
            )),
        }
    }
}

fn not_strings(group: &str, attribute: &str, found: &str) -> String {
    let group = if group.is_empty() { "/" } else { group };
    format!("attribute {attribute:?} of {group:?} holds {found}, not text")
}

/// Describes a datatype.
fn kind(datatype: &Datatype) -> String {
    let bits = |size: &u32| u64::from(*size) * 8;
    match datatype {
        Datatype::FixedPoint { size, .. } => format!("whole numbers of {} bits", bits(size)),
        Datatype::FloatingPoint {
            size,
            byte_order: DatatypeByteOrder::BigEndian,
            ..
        } => format!(
            "floating-point numbers of {} bits in big-endian order",
            bits(size)
        ),
        Datatype::FloatingPoint { size, .. } => {
            format!("floating-point numbers of {} bits", bits(size))
        }
        Datatype::String { .. } => "text".into(),
        Datatype::VariableLength {
            is_string: true, ..
        } => "text".into(),
        Datatype::VariableLength { .. } => "lists of varying length".into(),
        Datatype::Compound { .. } => "records".into(),
        Datatype::Enumeration { .. } => "names of an enumeration".into(),
        Datatype::Array { .. } => "arrays".into(),
        Datatype::Reference { .. } => "references".into(),
        Datatype::BitField { .. } | Datatype::Opaque { .. } => "raw bytes".into(),
        Datatype::Time { .. } => "times".into(),
        _ => "data of an unknown kind".into(),
    }
}

/// Reads a model or weights from the bytes of a file.
///
/// # Errors
/// See [`read_content`].
pub fn read_any(bytes: Vec<u8>) -> Result<H5Content, String> {
    on_own_stack(|| read_content(&PureReader::new(bytes)?))
}

/// Reads a model from the bytes of a file.
///
/// # Errors
/// See [`read_content`]; also if the file holds only weights.
pub fn read(bytes: Vec<u8>) -> Result<H5Model, String> {
    match read_any(bytes)? {
        H5Content::Model(model) => Ok(model),
        H5Content::Weights(_) => Err("it holds only weights".into()),
    }
}

/// Reads the weights of a file, with or without a model.
///
/// # Errors
/// If the file holds no weights, or a part is missing, damaged or too large.
pub fn read_weights(bytes: Vec<u8>) -> Result<H5Weights, String> {
    on_own_stack(|| weights_of(&PureReader::new(bytes)?))
}

/// Runs a reader on a thread with the stack that it needs; its panic becomes an error.
fn on_own_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let reader = thread::Builder::new().name(THREAD.into()).stack_size(STACK);
        let reader = reader
            .spawn_scoped(scope, work)
            .map_err(|e| format!("cannot start a thread to read it: {e}; close other programs"))?;
        // hdf5-pure is meant to return errors for damaged files, but this crate cannot ensure it. A
        // damaged file must not end a program that converts many.
        reader
            .join()
            .unwrap_or_else(|_| Err(damaged("the HDF5 reader gave up")))
    })
}

/// Suppresses the report of panics of the HDF5 reader, which become errors; other panics are
/// reported unchanged. The function replaces the panic hook of the process, so a program calls it
/// once at its start.
pub fn silence_caught_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(THREAD) {
            report(info);
        }
    }));
}
