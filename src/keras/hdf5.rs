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

    /// Returns the names of the groups in a group.
    ///
    /// # Errors
    /// If the group is missing or damaged.
    fn groups(&self, group: &str) -> Result<Vec<String>, String>;

    /// Returns the names of the datasets in a group.
    ///
    /// # Errors
    /// If the group is missing or damaged.
    fn datasets(&self, group: &str) -> Result<Vec<String>, String>;

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

/// Content of an HDF5 file of Keras.
#[derive(Debug, Clone, PartialEq)]
pub enum H5Content {
    /// A whole model.
    Model(H5Model),
    /// Weights without the network that they belong to.
    Weights(H5Weights),
}

/// Content of a file that `save_weights` wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct H5Weights {
    /// Keras version that wrote the file, if the file states it.
    pub keras_version: Option<String>,
    /// Keras backend, if the file states it.
    pub backend: Option<String>,
    /// The weights.
    pub weights: StoredWeights,
}

/// Weights in one of the two layouts of Keras' files.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredWeights {
    /// Name and weights of each layer of the outermost model, in the order of saving: `.h5` files.
    ByLayer(Vec<(String, Vec<H5Weight>)>),
    /// Path and variables of each object, such as `layers/lstm/cell`: `.weights.h5` files, and the
    /// weights in a `.keras` archive.
    ByPath(Vec<(String, Vec<H5Weight>)>),
}

impl StoredWeights {
    /// Name or path of each owner of weights, with the weights.
    pub fn groups(&self) -> &[(String, Vec<H5Weight>)] {
        match self {
            Self::ByLayer(groups) | Self::ByPath(groups) => groups,
        }
    }
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

/// Group of the weights in the file of a whole model.
const WEIGHTS_GROUP: &str = "model_weights";
/// Groups at the top of a `.weights.h5` file; see [`OLD_LAYERS`].
const PATH_ROOTS: [&str; 3] = [LAYERS, OLD_LAYERS, "vars"];
/// Group of the layers of a model in a `.weights.h5` file.
pub const LAYERS: &str = "layers";
/// Group of the layers of a model in a `.weights.h5` file of Keras 2.12 to 2.14.
pub const OLD_LAYERS: &str = "_layer_checkpoint_dependencies";
/// Maximum nesting depth of the groups in a `.weights.h5` file.
const MAX_GROUP_DEPTH: usize = 64;

/// Reads all parts of a file that inference needs.
///
/// # Errors
/// If the file holds neither a model nor weights, or a part is missing, damaged or too large.
pub fn read_content(reader: &dyn H5Reader) -> Result<H5Content, String> {
    let Some(pieces) = long_strings(reader, "", "model_config")? else {
        return read_weights(reader).map(H5Content::Weights);
    };
    if !reader.has_group(WEIGHTS_GROUP) {
        return Err(format!(
            "it has no group {WEIGHTS_GROUP:?}: it holds an architecture without weights; save the whole model with model.save(\"name.h5\")"
        ));
    }
    Ok(H5Content::Model(H5Model {
        config: pieces.concat(),
        keras_version: single(reader, "keras_version")?,
        backend: single(reader, "backend")?,
        layers: read_by_layer(reader, WEIGHTS_GROUP)?,
    }))
}

/// Reads the weights of a file, with or without a model.
///
/// # Errors
/// If the file holds no weights, or a part is missing, damaged or too large.
pub fn read_weights(reader: &dyn H5Reader) -> Result<H5Weights, String> {
    let has_names =
        |group: &str| long_strings(reader, group, "layer_names").is_ok_and(|n| n.is_some());
    let weights = if reader.has_group(WEIGHTS_GROUP) && has_names(WEIGHTS_GROUP) {
        StoredWeights::ByLayer(read_by_layer(reader, WEIGHTS_GROUP)?)
    } else if has_names("") {
        StoredWeights::ByLayer(read_by_layer(reader, "")?)
    } else if PATH_ROOTS.iter().any(|group| reader.has_group(group)) {
        StoredWeights::ByPath(read_by_path(reader)?)
    } else {
        return Err("it has no attribute \"model_config\": it is an HDF5 file, but no Keras model; save one with model.save(\"name.h5\")".into());
    };
    Ok(H5Weights {
        keras_version: single(reader, "keras_version")?,
        backend: single(reader, "backend")?,
        weights,
    })
}

/// Reads an attribute of one string, at the top or at the weights.
fn single(reader: &dyn H5Reader, name: &str) -> Result<Option<String>, String> {
    for group in ["", WEIGHTS_GROUP] {
        if !reader.has_group(group) {
            continue;
        }
        if let Some(strings) = reader.strings(group, name)? {
            return Ok(Some(strings.concat()));
        }
    }
    Ok(None)
}

/// Joins the path of a group, empty for the root, and a name in it.
fn join(group: &str, name: &str) -> String {
    match group {
        "" => name.into(),
        _ => format!("{group}/{name}"),
    }
}

/// Reads the weights that attributes list per layer, below `root`.
fn read_by_layer(
    reader: &dyn H5Reader,
    root: &str,
) -> Result<Vec<(String, Vec<H5Weight>)>, String> {
    let names = long_strings(reader, root, "layer_names")?
        .ok_or_else(|| format!("its group {root:?} has no attribute \"layer_names\""))?;
    if names.len() > MAX_NODES {
        return Err(format!("it lists more than {MAX_NODES} layers"));
    }
    let mut layers = Vec::with_capacity(names.len());
    let mut budget = Budget::default();
    for layer in names {
        let group = join(root, &layer);
        let weights = long_strings(reader, &group, "weight_names")?
            .ok_or_else(|| format!("its group {group:?} has no attribute \"weight_names\""))?
            .into_iter()
            .map(|name| read_weight(reader, &group, name, &mut budget))
            .collect::<Result<_, _>>()?;
        layers.push((layer, weights));
    }
    Ok(layers)
}

/// Reads every group `vars` with its numbered variables.
fn read_by_path(reader: &dyn H5Reader) -> Result<Vec<(String, Vec<H5Weight>)>, String> {
    let mut owners = Vec::new();
    let mut budget = Budget::default();
    let mut groups_left = MAX_NODES;
    let mut waiting = vec![(String::new(), 0)];
    while let Some((path, depth)) = waiting.pop() {
        let mut names = reader.groups(&path)?;
        groups_left = groups_left
            .checked_sub(names.len())
            .filter(|_| depth <= MAX_GROUP_DEPTH)
            .ok_or_else(|| {
                format!("it has more than {MAX_NODES} groups, or more than {MAX_GROUP_DEPTH} inside each other")
            })?;
        names.sort_unstable();
        for name in names.into_iter().rev() {
            let group = join(&path, &name);
            if name != "vars" {
                waiting.push((group, depth + 1));
                continue;
            }
            let count = reader.datasets(&group)?.len();
            let weights = (0..count)
                .map(|n| read_weight(reader, &group, n.to_string(), &mut budget))
                .collect::<Result<Vec<_>, _>>()?;
            if !weights.is_empty() {
                // Keras 2 on Windows joined the parts with backslashes.
                owners.push((path.replace('\\', "/"), weights));
            }
        }
    }
    Ok(owners)
}

/// Remaining read budget. It prevents a small file from exhausting memory by naming one dataset
/// many times.
struct Budget {
    weights: usize,
    elements: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            weights: MAX_NODES,
            elements: MAX_ELEMENTS,
        }
    }
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
