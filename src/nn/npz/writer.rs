//! Writes arrays to disk, one after the other.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ndarray::ArrayViewD;
use ndarray_npy::{NpzWriter, WritableElement};

use super::NpzError;
use crate::atomic_file::AtomicFile;

/// Writer of an `.npz` file, which [`Writer::finish`] moves into place. Until then an older file
/// stays as it was.
pub struct Writer {
    path: PathBuf,
    npz: NpzWriter<BufWriter<AtomicFile>>,
}

impl Writer {
    /// Creates a temporary file beside `path`.
    ///
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
    /// Names the file that cannot be written, or the array whose shape does not fit its data.
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

    /// Completes the file and moves it into place.
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
