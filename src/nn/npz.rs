//! Arrays in NumPy's `.npz` files: read with every size checked, written with `ndarray-npy`.
//!
//! Reading is done here, because a general reader allocates what an array's header asks for.

mod npy;
mod writer;
mod zip;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use self::writer::Writer;
use self::zip::Entry;

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 30;
/// The most numbers that one array may hold.
pub const MAX_NUMBERS: usize = 1 << 27;

/// Numbers in row-major order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array {
    /// Lengths of the dimensions, the slowest first; empty for a single number.
    pub shape: Vec<usize>,
    /// As many numbers as `shape` holds.
    pub data: Vec<f32>,
}

/// Why arrays cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// The operating system does not give the file's bytes.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Path of the file, as it was given.
        file: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// No zip archive of `.npy` arrays, a damaged one, or more than [`MAX_FILE`] bytes.
    #[error("{file} is no .npz file: {problem}. Write one with numpy.savez(file, name=array)")]
    NotNpz {
        /// The file's path or name, as it was given.
        file: String,
        /// What is wrong with the archive.
        problem: String,
    },
    /// One array is missing, damaged, too large or holds something else than real numbers.
    #[error("{file}, array {array}: {problem}")]
    Array {
        /// The file's path or name, as it was given.
        file: String,
        /// Its name without `.npy`.
        array: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file cannot be created, written or renamed, or an array's shape does not fit its
    /// numbers.
    #[error(
        "cannot write {file}: {problem}. Name a file in a folder that exists and can be written to"
    )]
    Write {
        /// Path of the file, as it was given.
        file: String,
        /// What the operating system says, or the array that does not fit.
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
    /// Reads the file and lists what it holds.
    ///
    /// # Errors
    /// Names the file: it cannot be read, is too large or is no `.npz` file.
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

    /// Lists what an `.npz` file in memory holds; `file` is what messages call it.
    ///
    /// # Errors
    /// As [`NpzFile::open`].
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

    /// What messages call the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The arrays' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| &*e.name)
    }

    /// Decodes an array of real numbers (floats of 32 or 64 bits, integers or booleans, in either
    /// byte order, C or Fortran layout), rounded to 32 bits.
    ///
    /// # Errors
    /// Names the file and the array: there is none of this name, it is damaged, of another type
    /// or too large.
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
