//! Arrays in NumPy's `.npz` files: read with every size checked, written with `ndarray-npy`.
//!
//! The reader is local because a general one allocates the size that a header claims.

mod npy;
mod writer;
pub(crate) mod zip;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use self::writer::Writer;
use self::zip::Entry;

/// Maximum size of a file, in bytes.
pub const MAX_FILE: u64 = 1 << 30;
/// Maximum number of elements of an array.
pub const MAX_NUMBERS: usize = 1 << 27;

/// Elements in row-major order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array {
    /// Dimensions, the slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements; their number is the product of `shape`.
    pub data: Vec<f32>,
}

/// Error of reading or writing arrays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpzError {
    /// The file cannot be read.
    #[error(
        "cannot read {file}: {source}; {}",
        crate::file_advice::to_read(source)
    )]
    Read {
        /// Path of the file, as it was given.
        file: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// No zip archive of `.npy` arrays, a damaged one, or more than [`MAX_FILE`] bytes.
    #[error("{file} is no .npz file: {problem}. Write one with numpy.savez(file, name=array)")]
    NotNpz {
        /// The file's path or name, as it was given.
        file: String,
        /// Defect of the archive.
        problem: String,
    },
    /// One array is missing, damaged, too large or not made of real numbers.
    #[error("{file}, array {array}: {problem}")]
    Array {
        /// The file's path or name, as it was given.
        file: String,
        /// Name of the array, without `.npy`.
        array: String,
        /// Defect of the array.
        problem: String,
    },
    /// The file cannot be created, written or renamed, or an array's shape does not fit its
    /// elements.
    #[error(
        "cannot write {file}: {problem}. Name a file in a folder that exists and can be written to"
    )]
    Write {
        /// Path of the file, as it was given.
        file: String,
        /// Error of the operating system, or the array that does not fit.
        problem: String,
    },
}

/// An `.npz` file in memory; its arrays are decoded one by one.
#[derive(Debug)]
pub struct NpzFile {
    file: String,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl NpzFile {
    /// Reads the file and lists its arrays.
    ///
    /// # Errors
    /// Names the file that cannot be read, is too large or is no `.npz` file.
    pub fn open(path: &Path) -> Result<Self, NpzError> {
        let file = path.display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|handle| handle.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(|source| NpzError::Read {
                file: file.clone(),
                source,
            })?;
        if bytes.len() as u64 > MAX_FILE {
            let problem = format!("it has more than {MAX_FILE} bytes");
            return Err(NpzError::NotNpz { file, problem });
        }
        Self::from_bytes(bytes, &file)
    }

    /// Lists the arrays of an `.npz` file in memory; messages call it `file`.
    ///
    /// # Errors
    /// See [`NpzFile::open`].
    pub fn from_bytes(bytes: Vec<u8>, file: &str) -> Result<Self, NpzError> {
        let entries = zip::list(&bytes).map_err(|problem| NpzError::NotNpz {
            file: file.into(),
            problem,
        })?;
        Ok(Self {
            file: file.into(),
            bytes,
            entries,
        })
    }

    /// Name of the file in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The arrays' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| &*e.name)
    }

    /// Decodes an array of real numbers (floats of 32 or 64 bits, integers or booleans, in either
    /// byte order, C or Fortran layout), rounded to `f32`.
    ///
    /// # Errors
    /// Names the file and the array that is missing, damaged, of another type or too large.
    pub fn read(&self, name: &str) -> Result<Array, NpzError> {
        let fail = |problem: String| NpzError::Array {
            file: self.file.clone(),
            array: name.into(),
            problem,
        };
        let entry = self
            .entries
            .iter()
            .find(|e| e.name == name)
            .ok_or_else(|| fail("there is none of this name".into()))?;
        let mut reader = entry.open(&self.bytes).map_err(fail)?;
        let array = npy::read(&mut reader).map_err(fail)?;
        match reader.crc().sum() == entry.crc {
            true => Ok(array),
            false => Err(fail("it is damaged: its checksum is wrong".into())),
        }
    }
}

/// Writes arrays of 32-bit floats; an existing file is replaced, all or nothing.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write(path: &Path, arrays: &[(String, Array)]) -> Result<(), NpzError> {
    let mut writer = Writer::create(path)?;
    for (name, array) in arrays {
        writer.add(name, &array.shape, &array.data)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests;
