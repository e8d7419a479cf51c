//! Comparison of layer outputs captured from Keras with those of an engine.
#![allow(dead_code)] // each test binary uses its own part

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use maeum::keras::{self, KerasModel};
use maeum::nn::dropout::Masks;
use maeum::nn::{DropoutMode, Graph, ValueId};
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, ReadableElement};
use serde_json::Value;

use crate::common::legacy2020_dir;

/// Maximum difference of a captured value, relative to the larger of 1 and the largest magnitude of
/// its layer's output: both sides sum in `f32` but in different orders.
pub const TOLERANCE: f64 = 1e-5;

/// Runner of a graph with inputs of these shapes: returns every value, inputs first, or the reason
/// why the graph cannot run.
pub type Run<'a> = &'a dyn Fn(
    &Graph,
    &[Vec<usize>],
    &[Vec<f32>],
    usize,
    &DropoutMode,
) -> Result<Vec<Vec<f64>>, String>;

/// Array in row-major order.
#[derive(Debug, Clone)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    fn rows(&self) -> usize {
        self.shape[0]
    }

    fn row(&self) -> usize {
        self.shape[1..].iter().product()
    }

    fn f32(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }

    fn mask(&self) -> Vec<u8> {
        self.data.iter().map(|&v| v as u8).collect()
    }
}

/// Returns the numeric arrays of an `.npz` file.
pub fn arrays(path: &Path) -> BTreeMap<String, Array> {
    fn read<T>(reader: &mut NpzReader<File>, name: &str) -> Option<Array>
    where
        T: ReadableElement + Copy + Into<f64>,
    {
        let array: ArrayD<T> = reader.by_name(name).ok()?;
        Some(Array {
            shape: array.shape().to_vec(),
            data: array.iter().map(|&v| v.into()).collect(),
        })
    }
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = NpzReader::new(file).unwrap();
    let mut found = BTreeMap::new();
    for name in reader.names().unwrap() {
        let array = read::<f32>(&mut reader, &name)
            .or_else(|| read::<f64>(&mut reader, &name))
            .or_else(|| read::<u8>(&mut reader, &name));
        if let Some(array) = array {
            found.insert(name.trim_end_matches(".npy").to_string(), array);
        }
    }
    found
}

/// Number of arrays that agreed, and the largest difference relative to its array's scale.
#[derive(Debug, Default)]
pub struct Agreement {
    pub arrays: usize,
    pub largest: f64,
    pub worst: String,
}

impl Agreement {
    fn add(&mut self, model: &str, other: &Self) {
        self.arrays += other.arrays;
        if other.largest > self.largest {
            self.largest = other.largest;
            self.worst = format!("{model}: {}", other.worst);
        }
    }

    /// Adds a comparison of `wanted` with the first rows of `got`.
    ///
    /// # Errors
    /// The message names the differing element.
    fn compare(&mut self, what: &str, got: &[f64], wanted: &[f64]) -> Result<(), String> {
        let difference = difference(got, wanted).ok_or(format!("{what}: too few numbers"))?;
        if difference.is_nan() || difference > TOLERANCE {
            return Err(format!("{what} differs by {difference:e} of its scale"));
        }
        self.arrays += 1;
        if difference > self.largest {
            self.largest = difference;
            self.worst = what.into();
        }
        Ok(())
    }
}

/// Returns the largest difference from `wanted`, relative to the larger of 1 and its largest
/// magnitude. The result is NaN if any element is NaN, and `None` if `got` is shorter.
fn difference(got: &[f64], wanted: &[f64]) -> Option<f64> {
    let got = got.get(..wanted.len())?;
    let scale = wanted.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    let worst = |worst: f64, (g, w): (&f64, &f64)| match (g - w).abs() {
        d if d.is_nan() || worst.is_nan() => f64::NAN,
        d => worst.max(d),
    };
    Some(got.iter().zip(wanted).fold(0.0, worst) / scale)
}

fn value_named(graph: &Graph, name: &str) -> Option<ValueId> {
    let inputs = graph.inputs.iter().map(|i| &i.name);
    let nodes = graph.nodes.iter().map(|n| &n.name);
    inputs.chain(nodes).position(|n| n == name).map(ValueId)
}

/// Returns the entries of every index of `tests/golden`, each with its folder.
pub fn keras_index() -> Vec<(PathBuf, Value)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut entries = Vec::new();
    for dir in [golden.clone(), golden.join("keras3")] {
        let index = std::fs::read(dir.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let models = index["models"].as_array().unwrap().iter();
        entries.extend(models.map(|model| (dir.clone(), model.clone())));
    }
    entries
}

/// Loads the model of an index entry, with its architecture if that is in another file.
///
/// # Errors
/// The message of the conversion.
pub fn load_keras(dir: &Path, entry: &Value) -> Result<KerasModel, String> {
    let file = dir.join(entry["file"].as_str().unwrap());
    match entry["architecture"].as_str() {
        Some(text) => keras::load_with_architecture(file, dir.join(text)),
        None => keras::load(file),
    }
    .map_err(|e| e.to_string())
}

/// Compares every accepted model of `tests/golden` and the five networks in `five/`; reports all
/// differences.
pub fn check_keras_models(run: Run, is_runnable: fn(&Graph) -> bool) -> Agreement {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let index = std::fs::read(dir.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let mut all = Agreement::default();
    let mut faults = Vec::new();
    for (dir, model) in &keras_index() {
        let file = model["file"].as_str().unwrap();
        let Some(npz) = model["arrays"].as_str() else {
            continue;
        };
        let graph = load_keras(dir, model).map(|m| m.graph);
        if model.get("refused").is_some() {
            // Some models may be accepted or refused; an accepted one must be correct.
            let understood = model["may_run"] == true && graph.is_ok();
            if !understood {
                continue;
            }
        }
        if graph.as_ref().is_ok_and(|graph| !is_runnable(graph)) {
            continue;
        }
        let arrays = arrays(&dir.join(npz));
        match graph.and_then(|graph| check_keras_model(run, graph, file, arrays)) {
            Ok(one) => all.add(file, &one),
            Err(e) => faults.push(format!("{file}: {e}")),
        }
    }
    let five = arrays(&dir.join("five/golden.npz"));
    for model in index["five"].as_array().unwrap() {
        let prefix = format!("{}.", model["name"].as_str().unwrap());
        let own = five
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_string(), v.clone())));
        let file = model["file"].as_str().unwrap();
        let graph = load_keras(&dir, model).map(|m| m.graph);
        match graph.and_then(|graph| check_keras_model(run, graph, file, own.collect())) {
            Ok(one) => all.add(file, &one),
            Err(e) => faults.push(format!("{file}: {e}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    all
}

/// Dropout masks whose captured name differs from their node's. A mask's name counts the runs of a
/// Dropout layer, a node's name its uses. In these models Keras ran the second use first, or the
/// first use drops nothing and is not counted.
const NODES_OF_MASKS: [(&str, &str, &str); 4] = [
    (
        "dropout_shared_training_true.h5",
        "dropout_1",
        "dropout_1_1",
    ),
    (
        "dropout_shared_training_true.h5",
        "dropout_1_1",
        "dropout_1",
    ),
    (
        "dropout_one_node_training_true.h5",
        "dropout_1",
        "dropout_1_1",
    ),
    (
        "nested_call_training_true.h5",
        "inner/dropout_1",
        "inner_1/dropout_1",
    ),
];

/// Compares one model with its arrays.
///
/// # Errors
/// The message names the array that differs or has no counterpart.
fn check_keras_model(
    run: Run,
    graph: Graph,
    file: &str,
    arrays: BTreeMap<String, Array>,
) -> Result<Agreement, String> {
    let mut agreement = Agreement::default();
    let mut inputs = Vec::new();
    let mut shapes = Vec::new();
    let mut batch = 0;
    for input in &graph.inputs {
        let array = arrays
            .get(&format!("in.{}", input.name))
            .ok_or(format!("no data for input {}", input.name))?;
        batch = array.rows();
        shapes.push(array.shape[1..].to_vec());
        inputs.push(array.f32());
    }
    let values = run(&graph, &shapes, &inputs, batch, &DropoutMode::Off)?;
    let masks: HashMap<String, Vec<u8>> = arrays
        .iter()
        .filter_map(|(key, array)| {
            let mut node = key.strip_prefix("mask.")?.replace('.', "/");
            let other = |&&(model, mask, _): &&(&str, &str, &str)| file == model && mask == node;
            if let Some((_, _, other)) = NODES_OF_MASKS.iter().find(other) {
                node = other.to_string();
            }
            Some((node, array.mask()))
        })
        .collect();
    let masked = match masks.is_empty() {
        true => None,
        false => {
            let mode = DropoutMode::Masks(Masks(masks));
            Some(run(&graph, &shapes, &inputs, batch, &mode)?)
        }
    };
    for (key, wanted) in &arrays {
        if let Some(k) = key.strip_prefix("out.") {
            let output = &graph.outputs[k.parse::<usize>().unwrap()];
            agreement.compare(key, &values[output.value.0], &wanted.data)?;
        } else if let Some(k) = key.strip_prefix("masked_out.") {
            let output = &graph.outputs[k.parse::<usize>().unwrap()];
            let masked = masked.as_ref().ok_or("outputs with masks, but no masks")?;
            agreement.compare(key, &masked[output.value.0], &wanted.data)?;
        } else if let Some(layer) = key.strip_prefix("layer.") {
            let name = match layer.split_once('@') {
                None | Some((_, "0")) => layer.trim_end_matches("@0").to_string(),
                Some((name, call)) => format!("{name}_{call}"),
            };
            if let Some(value) = value_named(&graph, &name) {
                agreement.compare(key, &values[value.0], &wanted.data)?;
                continue;
            }
            // The importer flattens nested models and removes identity layers, so their output is
            // another layer's.
            let held = |v: &Vec<f64>| {
                v.len() == wanted.data.len()
                    && difference(v, &wanted.data).is_some_and(|d| d <= TOLERANCE)
            };
            if !values.iter().any(held) {
                return Err(format!("{key} has no counterpart"));
            }
            agreement.arrays += 1;
        } else if !["in.", "mask.", "second."]
            .iter()
            .any(|start| key.starts_with(start))
        {
            return Err(format!("{key} is not understood"));
        }
    }
    Ok(agreement)
}

/// Compares the five original networks with all captures of these recordings, if the original files
/// are available; reports each agreement for the runner called `name`.
pub fn check_originals(name: &str, run: Run, recordings: impl IntoIterator<Item = &'static str>) {
    let Some(dir) = legacy2020_dir() else {
        return;
    };
    for recording in recordings {
        let agreement =
            check_original(run, &dir, recording).unwrap_or_else(|e| panic!("{recording}: {e}"));
        println!("{name}, {recording}: {agreement:?}");
    }
}

/// Returns every value of a graph after a run, for a [`Run`].
pub fn every_value<'s>(
    graph: &Graph,
    value: impl Fn(ValueId) -> Option<&'s [f32]>,
) -> Vec<Vec<f64>> {
    (0..graph.inputs.len() + graph.nodes.len())
        .map(|v| value(ValueId(v)).expect("all are kept"))
        .map(|value| value.iter().map(|&x| f64::from(x)).collect())
        .collect()
}

/// Compares the five original networks with all captures of one recording, each network on its
/// captured inputs.
///
/// # Errors
/// The message names the array that differs or has no counterpart.
fn check_original(run: Run, dir: &Path, recording: &str) -> Result<Agreement, String> {
    let load = |name: &str| {
        let file = dir.join("models").join(format!("{name}.h5"));
        keras::load(file)
            .map_err(|e| e.to_string())
            .map(|m| m.graph)
    };
    let captured = arrays(&dir.join("golden").join(format!("{recording}.npz")));
    let get = |key: &str| captured.get(key).ok_or(format!("{key} was not captured"));
    let mut agreement = Agreement::default();

    let crops = get("crops")?;
    for (file, prefix) in [
        ("Model_Emotion_crop", "emotion_crop."),
        ("Model_Age_crop", "age_crop."),
        ("Model_Gender_crop", "gender_crop."),
    ] {
        let inputs = [crops.f32()];
        let network = Captured::new(run, load(file)?, &inputs, crops.rows(), &DropoutMode::Off)?;
        network.compare(&mut agreement, &captured, prefix)?;
    }

    let features = load("Model_Emotion_Features")?;
    let names = ["dct", "dst", "hist", "moments"];
    let inputs = names
        .iter()
        .map(|name| Ok(get(name)?.f32()))
        .collect::<Result<Vec<_>, String>>()?;
    let network = Captured::new(run, features.clone(), &inputs, 1, &DropoutMode::Off)?;
    network.compare(&mut agreement, &captured, "features_det.")?;

    let mut masks = HashMap::new();
    for (key, array) in &captured {
        if let Some(path) = key.strip_prefix("mc.mask.") {
            let path = path.strip_suffix(".dropout.Floor").ok_or(key.clone())?;
            masks.insert(path.replace('.', "/"), array.mask());
        }
    }
    let draws = get("mc.final")?.rows();
    let repeated: Vec<Vec<f32>> = inputs.iter().map(|x| x.repeat(draws)).collect();
    let mode = DropoutMode::Masks(Masks(masks));
    let network = Captured::new(run, features, &repeated, draws, &mode)?;
    let outputs = ["dct", "dst", "hist", "moments", "total"].map(|n| format!("output_{n}"));
    for output in &outputs {
        let key = format!("mc.{output}");
        agreement.compare(&key, network.get(output)?, &get(&key)?.data)?;
    }

    let merge = load("Model_Emotion_Merge")?;
    let joined = get("merge_det.concatenate_1")?;
    let emotions = joined.row() / (1 + outputs.len());
    let inputs: Vec<Vec<f32>> = joined.f32().chunks(emotions).map(<[f32]>::to_vec).collect();
    let network = Captured::new(run, merge.clone(), &inputs, 1, &DropoutMode::Off)?;
    network.compare(&mut agreement, &captured, "merge_det.")?;
    let last = &network.values[merge.outputs[0].value.0];
    agreement.compare("final_det", last, &get("final_det")?.data)?;

    let mut inputs = vec![inputs[0].repeat(draws)];
    for output in &outputs {
        inputs.push(get(&format!("mc.{output}"))?.f32());
    }
    let network = Captured::new(run, merge.clone(), &inputs, draws, &DropoutMode::Off)?;
    let last = &network.values[merge.outputs[0].value.0];
    agreement.compare("mc.final", last, &get("mc.final")?.data)?;
    Ok(agreement)
}

/// Captures of one run of an original network.
struct Captured {
    graph: Graph,
    values: Vec<Vec<f64>>,
}

impl Captured {
    fn new(
        run: Run,
        graph: Graph,
        inputs: &[Vec<f32>],
        batch: usize,
        mode: &DropoutMode,
    ) -> Result<Self, String> {
        let shapes = graph.fixed_input_shapes().ok_or("an open input")?;
        let values = run(&graph, &shapes, inputs, batch, mode)?;
        Ok(Self { graph, values })
    }

    fn get(&self, name: &str) -> Result<&[f64], String> {
        let value = value_named(&self.graph, name);
        let value = value.ok_or(format!("{} has no node {name}", self.graph.name))?;
        Ok(&self.values[value.0])
    }

    fn compare(
        &self,
        agreement: &mut Agreement,
        captured: &BTreeMap<String, Array>,
        prefix: &str,
    ) -> Result<(), String> {
        let mut any = false;
        for (key, wanted) in captured {
            let Some(layer) = key.strip_prefix(prefix) else {
                continue;
            };
            any = true;
            let node = self.node_of(layer)?;
            agreement.compare(key, self.get(&node)?, &wanted.data)?;
        }
        any.then_some(())
            .ok_or(format!("nothing of {prefix} was captured"))
    }

    /// Returns the node of a captured name; `model_9.call2.out3` is output 3 of the second use of
    /// `model_9`.
    fn node_of(&self, layer: &str) -> Result<String, String> {
        let Some((model, rest)) = layer.split_once(".call") else {
            return Ok(layer.into());
        };
        let (call, output) = rest.split_once(".out").ok_or(layer)?;
        // Last layers of the models nested in the feature network, from its configuration.
        let last = match model {
            "model_5" => "dropout_2".into(),
            "model_6" => "dropout_4".into(),
            "model_7" => "dropout_6".into(),
            "model_8" => "dropout_8".into(),
            "model_9" => format!("dense_{}", 13 + output.parse::<usize>().map_err(|_| layer)?),
            _ => return Err(format!("{layer} is not understood")),
        };
        let again = if call == "1" { "" } else { "_1" };
        Ok(format!("{model}{again}/{last}"))
    }
}
