//! Arrays to disk, one after the other.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ndarray::ArrayViewD;
use ndarray_npy::{NpzWriter, WritableElement};

use super::NpzError;

/// Writes an `.npz` file under a neighbouring name, which takes its place in [`Writer::finish`];
/// without that, an older file stays as it was.
pub struct Writer {
    path: PathBuf,
    partial: PathBuf,
    npz: Option<NpzWriter<BufWriter<File>>>,
}

impl Writer {
    /// # Errors
    /// Names the file that cannot be created.
    pub fn create(path: &Path) -> Result<Self, NpzError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(name);
        let file = match path.is_dir() {
            true => Err(std::io::ErrorKind::IsADirectory.into()),
            false => File::create_new(&partial),
        };
        let file = file.map_err(|e| fail(path, e.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            npz: Some(NpzWriter::new(BufWriter::new(file))),
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
        let npz = self.npz.as_mut().expect("only finish takes it");
        npz.add_array(name, &view).map_err(|e| problem(&e))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn finish(mut self) -> Result<(), NpzError> {
        let npz = self.npz.take().expect("only finish takes it");
        let written = npz.finish().map_err(|e| e.to_string());
        written
            .and_then(|buffer| buffer.into_inner().map_err(|e| e.to_string()))
            .and_then(|_| std::fs::rename(&self.partial, &self.path).map_err(|e| e.to_string()))
            .map_err(|problem| fail(&self.path, problem))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Gone already after `finish`; a file that does not let itself be removed has to stay.
        let _ = std::fs::remove_file(&self.partial);
    }
}

fn fail(path: &Path, problem: String) -> NpzError {
    NpzError::Write {
        file: path.display().to_string(),
        problem,
    }
}
