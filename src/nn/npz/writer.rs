//! Arrays to disk, one after the other.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ndarray::ArrayViewD;
use ndarray_npy::{NpzWriter, WritableElement};

use super::NpzError;
use crate::atomic_file::AtomicFile;

/// Writes an `.npz` file, which appears in [`Writer::finish`]; without that, an older file stays as
/// it was.
pub struct Writer {
    path: PathBuf,
    npz: NpzWriter<BufWriter<AtomicFile>>,
}

impl Writer {
    /// # Errors
    /// Names the file that cannot be created.
    pub fn create(path: &Path) -> Result<Self, NpzError> {
        let file = AtomicFile::create(path).map_err(|e| fail(path, e.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            npz: NpzWriter::new(BufWriter::new(file)),
        })
    }

    /// Adds an array of floats, integers or bytes in row-major order.
    ///
    /// # Errors
    /// Names the file: it cannot be written, or the shape does not fit the data.
    pub fn add<T: WritableElement>(
        &mut self,
        name: &str,
        shape: &[usize],
        data: &[T],
    ) -> Result<(), NpzError> {
        let problem = |e: &dyn std::fmt::Display| fail(&self.path, format!("array {name}: {e}"));
        let view = ArrayViewD::from_shape(shape, data).map_err(|e| problem(&e))?;
        let added = self.npz.add_array(name, &view);
        added.map_err(|e| problem(&e))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn finish(self) -> Result<(), NpzError> {
        let Self { path, npz } = self;
        let written = npz.finish().map_err(|e| e.to_string());
        written
            .and_then(|buffer| buffer.into_inner().map_err(|e| e.to_string()))
            .and_then(|file| file.finish().map_err(|e| e.to_string()))
            .map_err(|problem| fail(&path, problem))
    }
}

fn fail(path: &Path, problem: String) -> NpzError {
    NpzError::Write {
        file: path.display().to_string(),
        problem,
    }
}
