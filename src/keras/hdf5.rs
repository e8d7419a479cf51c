//! Content of a Keras `.h5` file: the attributes and datasets of a model, read through one of two
//! HDF5 libraries.

mod bounded;
#[cfg(feature = "libhdf5")]
pub mod libhdf5;
pub mod pure;

use crate::nn::graph::{MAX_ELEMENTS, MAX_NODES, MAX_RANK};

/// HDF5 operations needed to read a Keras file.
///
/// Groups and datasets are addressed by their path from the root, `""` for the root itself.
/// Problems are described as text; the caller adds the file.
pub trait H5Reader {
    /// Returns the strings of an attribute: one for a scalar, in order for an array; `None` if the
    /// group has no such attribute. An empty array of another type counts as no strings, because
    /// Keras writes an empty list of names in that form.
    ///
    /// # Errors
    /// If the group is missing or damaged, or the attribute does not hold strings.
    fn strings(&self, group: &str, attribute: &str) -> Result<Option<Vec<String>>, String>;

    /// Returns whether a group exists.
    fn has_group(&self, group: &str) -> bool;

    /// Returns the shape of a floating-point dataset.
    ///
    /// # Errors
    /// If the dataset is missing or damaged, or has another type.
    fn shape(&self, dataset: &str) -> Result<Vec<usize>, String>;

    /// Returns the values of a dataset in row-major order, rounded to 32 bits if the file has more.
    ///
    /// # Errors
    /// The errors of [`H5Reader::shape`].
    fn numbers(&self, dataset: &str) -> Result<Vec<f32>, String>;
}

/// Content of a saved model.
#[derive(Debug, Clone, PartialEq)]
pub struct H5Model {
    /// Architecture, as JSON text.
    pub config: String,
    /// Keras version that wrote the file, `2.2.4` or `2.2.4-tf`; `None` if the file does not state
    /// it.
    pub keras_version: Option<String>,
    /// Keras backend, such as `tensorflow`; `None` if the file does not state it.
    pub backend: Option<String>,
    /// Name and weights of each layer of the outermost model, in the order of saving.
    pub layers: Vec<(String, Vec<H5Weight>)>,
}

/// One weight tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct H5Weight {
    /// TensorFlow's name of the variable, `conv2d_1/kernel:0`.
    pub name: String,
    /// Dimensions in Keras' layout, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, as many as `shape` specifies.
    pub data: Vec<f32>,
    /// Reason that the values cannot be used, such as a type other than floating point; `data` is
    /// then empty.
    pub problem: Option<String>,
}

/// Maximum number of pieces that an attribute is split into; HDF5 limits each to 64 KB.
const MAX_PIECES: usize = 4096;

/// Reads all parts of a model that inference needs.
///
/// # Errors
/// If the file holds no model or only weights, or a part is missing, damaged or too large.
pub fn read_model(reader: &dyn H5Reader) -> Result<H5Model, String> {
    let config = match long_strings(reader, "", "model_config")? {
        Some(pieces) => pieces.concat(),
        None => return Err(without_model(reader)),
    };
    const GROUP: &str = "model_weights";
    if !reader.has_group(GROUP) {
        return Err(format!(
            "it has no group {GROUP:?}: it holds an architecture without weights; save the whole model with model.save(\"name.h5\")"
        ));
    }
    let single = |name: &str| -> Result<Option<String>, String> {
        for group in ["", GROUP] {
            if let Some(strings) = reader.strings(group, name)? {
                return Ok(Some(strings.concat()));
            }
        }
        Ok(None)
    };
    let keras_version = single("keras_version")?;
    let backend = single("backend")?;
    let names = long_strings(reader, GROUP, "layer_names")?
        .ok_or("its group \"model_weights\" has no attribute \"layer_names\"")?;
    if names.len() > MAX_NODES {
        return Err(format!("it lists more than {MAX_NODES} layers"));
    }
    let mut layers = Vec::with_capacity(names.len());
    let mut budget = Budget {
        weights: MAX_NODES,
        elements: MAX_ELEMENTS,
    };
    for layer in names {
        let group = format!("{GROUP}/{layer}");
        let weights = long_strings(reader, &group, "weight_names")?
            .ok_or_else(|| format!("its group {group:?} has no attribute \"weight_names\""))?
            .into_iter()
            .map(|name| read_weight(reader, &group, name, &mut budget))
            .collect::<Result<_, _>>()?;
        layers.push((layer, weights));
    }
    Ok(H5Model {
        config,
        keras_version,
        backend,
        layers,
    })
}

/// Returns the reason that a file without a description of layers cannot be converted.
fn without_model(reader: &dyn H5Reader) -> String {
    const NETWORK: &str = "build the network in Keras 2, load this file into it with load_weights and save the whole with model.save(\"name.h5\")";
    // Keras 3 and late versions of Keras 2 use these group names in name.weights.h5.
    let is_new = ["layers", "_layer_checkpoint_dependencies", "vars"]
        .iter()
        .any(|group| reader.has_group(group));
    let is_weights = long_strings(reader, "", "layer_names").is_ok_and(|names| names.is_some());
    match (is_weights, is_new) {
        (true, _) => format!(
            "it has no attribute \"model_config\": it holds only weights (from save_weights), not the network that they belong to; {NETWORK}"
        ),
        (false, true) => format!(
            "it has no attribute \"model_config\": it holds only weights in the newer format of .weights.h5 files, not the network that they belong to; {NETWORK}. If Keras 3 wrote it, load it there, store the arrays with numpy.savez(\"weights.npz\", *model.get_weights()) and give them to the same network in Keras 2 (package tf_keras) with set_weights"
        ),
        (false, false) => "it has no attribute \"model_config\": it is an HDF5 file, but no Keras model; save one with model.save(\"name.h5\")".into(),
    }
}

/// Remaining read budget. It prevents a small file from exhausting memory by naming one dataset
/// many times.
struct Budget {
    weights: usize,
    elements: usize,
}

fn read_weight(
    reader: &dyn H5Reader,
    group: &str,
    name: String,
    budget: &mut Budget,
) -> Result<H5Weight, String> {
    budget.weights = budget
        .weights
        .checked_sub(1)
        .ok_or_else(|| format!("it lists more than {MAX_NODES} weights"))?;
    let path = format!("{group}/{name}");
    // An unsupported layer may have weights of any type; those are not the problem to report.
    let unusable = |name: String, problem: String| H5Weight {
        name,
        shape: Vec::new(),
        data: Vec::new(),
        problem: Some(problem),
    };
    let shape = match reader.shape(&path) {
        Ok(shape) => shape,
        Err(problem) => return Ok(unusable(name, problem)),
    };
    let elements = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|_| shape.len() <= MAX_RANK)
        .ok_or_else(|| format!("weight {path:?} has the absurd shape {shape:?}"))?;
    budget.elements = budget
        .elements
        .checked_sub(elements)
        .ok_or_else(|| format!("its weights hold more than {MAX_ELEMENTS} numbers"))?;
    let data = match reader.numbers(&path) {
        Ok(data) => data,
        Err(problem) => return Ok(unusable(name, problem)),
    };
    if data.len() != elements {
        let found = data.len();
        let problem = format!("weight {path:?} has shape {shape:?} but {found} numbers");
        return Ok(unusable(name, problem));
    }
    Ok(H5Weight {
        name,
        shape,
        data,
        problem: None,
    })
}

/// Reads the strings of an attribute. Keras may split it into `name0`, `name1`, ..., because HDF5
/// keeps at most 64 KB in an object header.
fn long_strings(
    reader: &dyn H5Reader,
    group: &str,
    name: &str,
) -> Result<Option<Vec<String>>, String> {
    if let Some(strings) = reader.strings(group, name)? {
        return Ok(Some(strings));
    }
    let mut all = Vec::new();
    for piece in 0..MAX_PIECES {
        match reader.strings(group, &format!("{name}{piece}"))? {
            Some(strings) => all.extend(strings),
            None if piece == 0 => return Ok(None),
            None => return Ok(Some(all)),
        }
        if all.len() > MAX_NODES {
            return Err(format!(
                "attribute {name:?} of {group:?} lists more than {MAX_NODES} names"
            ));
        }
    }
    Err(format!(
        "attribute {name:?} of {group:?} has more than {MAX_PIECES} pieces"
    ))
}
