//! What a Keras `.h5` file holds, read through one of two HDF5 libraries.

mod bounded;
mod content;
#[cfg(feature = "libhdf5")]
pub mod libhdf5;
pub mod pure;

pub use content::{H5Model, H5Weight, read_model};

/// The few things that reading a Keras file asks of an HDF5 library.
///
/// Groups and datasets are named by their path from the root, `""` for the root itself. Problems
/// are described in words; the caller adds the file.
pub trait H5Reader {
    /// The strings of an attribute: one for a scalar, in order for an array; `None` if the group
    /// has no such attribute. An empty array of any other type counts as no strings, because that
    /// is how Keras writes an empty list of names.
    ///
    /// # Errors
    /// The group is missing or damaged, or the attribute holds something else than strings.
    fn strings(&self, group: &str, attribute: &str) -> Result<Option<Vec<String>>, String>;

    /// Whether a group exists.
    fn has_group(&self, group: &str) -> bool;

    /// The shape of a dataset of real numbers.
    ///
    /// # Errors
    /// The dataset is missing, damaged, or holds something else.
    fn shape(&self, dataset: &str) -> Result<Vec<usize>, String>;

    /// The numbers of a dataset in row-major order, rounded to 32 bits where the file has more.
    ///
    /// # Errors
    /// As [`H5Reader::shape`].
    fn numbers(&self, dataset: &str) -> Result<Vec<f32>, String>;
}
