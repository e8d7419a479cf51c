//! Conversion of Keras files to graphs: the models of 2020, real small models, and damaged files.

mod archives;
#[path = "../common/captures.rs"]
mod captures;
#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod lambda;
mod refusals;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use captures::{keras_index, load_keras};
use maeum::keras::{self, KerasModel};
use maeum::nn::layers::{Concat, Interpolation, Layer, SumAxis, Upsample};
use maeum::nn::{Graph, Node};
use proptest::prelude::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn legacy2020_model(name: &str) -> Option<KerasModel> {
    let path = common::legacy2020_dir()?.join("models").join(name);
    Some(keras::load(&path).unwrap_or_else(|e| panic!("{e}")))
}

fn node<'a>(graph: &'a Graph, name: &str) -> &'a Node {
    graph
        .nodes
        .iter()
        .find(|n| n.name == name)
        .unwrap_or_else(|| panic!("no node {name} among {:?}", names(graph)))
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.name.as_str()).collect()
}

/// Returns the shape of every value by name, including inputs.
fn shapes(graph: &Graph) -> HashMap<&str, Vec<usize>> {
    let inputs = graph.fixed_input_shapes().expect("fixed inputs");
    let shapes = graph.infer_shapes(&inputs).unwrap();
    let names = graph.inputs.iter().map(|i| i.name.as_str());
    names
        .chain(graph.nodes.iter().map(|n| n.name.as_str()))
        .zip(shapes)
        .collect()
}

fn output_shapes(graph: &Graph) -> Vec<(String, Vec<usize>)> {
    let shapes = graph
        .infer_shapes(&graph.fixed_input_shapes().unwrap())
        .unwrap();
    let outputs = graph.outputs.iter();
    outputs
        .map(|o| (o.name.clone(), shapes[o.value.0].clone()))
        .collect()
}

#[test]
fn the_window_models_are_converted() {
    for (file, units) in [
        ("Model_Emotion_crop.h5", 7),
        ("Model_Age_crop.h5", 1),
        ("Model_Gender_crop.h5", 2),
    ] {
        let Some(KerasModel { graph, provenance }) = legacy2020_model(file) else {
            return;
        };
        assert_eq!(provenance.file, file);
        assert_eq!(provenance.keras_version.as_deref(), Some("2.2.4"));
        assert_eq!(provenance.backend.as_deref(), Some("tensorflow"));
        assert_eq!(provenance.sha256.len(), 64);
        graph.validate().unwrap();
        // conv 208 + 3,216 + 12,832, LSTM 4 * 64 * (160 + 64 + 1), attention 650, output.
        assert_eq!(graph.parameters(), 74_506 + 65 * units, "{file}");
        assert_eq!(
            names(&graph),
            [
                "conv2d_1",
                "max_pooling2d_1",
                "conv2d_2",
                "max_pooling2d_2",
                "conv2d_3",
                "max_pooling2d_3",
                "time_distributed_1",
                "lstm_1",
                "permute_1",
                "reshape_1",
                "dense_1",
                "permute_2",
                "multiply_1",
                "lambda_1",
                "output_layer"
            ]
        );
        let shapes = shapes(&graph);
        assert_eq!(shapes["input_1"], [200, 40, 1]);
        assert_eq!(shapes["time_distributed_1"], [25, 160]);
        assert_eq!(shapes["lstm_1"], [25, 64]);
        assert_eq!(shapes["dense_1"], [64, 25]);
        assert_eq!(shapes["lambda_1"], [64]);
        assert_eq!(node(&graph, "time_distributed_1").outer, 1);
        assert_eq!(
            node(&graph, "lambda_1").layer,
            Layer::SumAxis(SumAxis { axis: 0 })
        );
        assert_eq!(
            output_shapes(&graph),
            [("output_layer".into(), vec![units])]
        );
        assert!(!graph.is_stochastic());
    }
}

#[test]
fn the_feature_model_shares_its_body_between_two_passes() {
    let Some(KerasModel { graph, .. }) = legacy2020_model("Model_Emotion_Features.h5") else {
        return;
    };
    let forced: Vec<&str> = graph
        .nodes
        .iter()
        .filter(|n| matches!(&n.layer, Layer::Dropout(d) if d.forced && d.rate == 0.5))
        .map(|n| n.name.as_str())
        .collect();
    assert_eq!(forced.len(), 16, "{forced:?}");
    for model in ["model_5", "model_5_1", "model_6", "model_6_1"] {
        let first = if model.starts_with("model_5") { 1 } else { 3 };
        for n in [first, first + 1] {
            let name = format!("{model}/dropout_{n}");
            assert!(forced.contains(&name.as_str()), "{name} in {forced:?}");
        }
    }
    for layer in ["conv2d_5", "batch_normalization_6", "dense_6"] {
        let first = &node(&graph, &format!("model_5/{layer}")).layer;
        let second = &node(&graph, &format!("model_5_1/{layer}")).layer;
        assert_eq!(first, second, "same weights in both passes");
        let other = layer.replace("_5", "_7").replace("_6", "_8");
        assert_ne!(first, &node(&graph, &format!("model_6/{other}")).layer);
    }
    assert_eq!(
        node(&graph, "model_9/dense_17").layer,
        node(&graph, "model_9_1/dense_17").layer
    );
    assert_eq!(node(&graph, "lambda_1").layer, Layer::SpatialMultiply);
    assert_eq!(node(&graph, "lambda_42").layer, Layer::ChannelMultiply);
    assert!(matches!(
        node(&graph, "up_sampling2d_4").layer,
        Layer::Upsample(Upsample {
            factor: [4, 4],
            interpolation: Interpolation::BilinearLegacy
        })
    ));
    // The second pass reads the feature maps scaled by the attention from the first pass.
    let reads = |a: &str, b: &str| {
        let inputs = &node(&graph, a).inputs;
        inputs
            .iter()
            .any(|v| graph.producer(*v).is_some_and(|n| n.name == b))
    };
    assert!(reads("model_5/conv2d_5", "lambda_1"));
    assert!(reads("model_5_1/conv2d_5", "lambda_21"));
    assert!(reads("TD_attention_dct_1", "model_9/dense_17"));
    assert!(reads("output_total", "model_9_1/dense_17"));
    let shapes = shapes(&graph);
    assert_eq!(shapes["model_5/dropout_1"], [16]);
    assert_eq!(shapes["lambda_16"], [20, 4, 16]);
    assert_eq!(shapes["model_9_1/concatenate_1"], [28]);
    let seven = |name: &str| (name.to_owned(), vec![7]);
    assert_eq!(
        output_shapes(&graph),
        [
            "output_dct",
            "output_dst",
            "output_hist",
            "output_moments",
            "output_total"
        ]
        .map(seven)
    );
    // Every weight is used, and listed once although most are used in two passes.
    let used: HashSet<_> = graph
        .nodes
        .iter()
        .flat_map(|n| n.layer.weights())
        .map(|(_, w)| w)
        .collect();
    assert_eq!(used.len(), graph.weights.len());
    let names: HashSet<_> = graph.weights.iter().map(|w| &w.name).collect();
    assert_eq!(names.len(), graph.weights.len());
    assert!(names.contains(&"model_5/conv2d_5/kernel".to_owned()));
}

#[test]
fn the_merge_model_is_converted_although_its_variables_have_other_names() {
    let Some(KerasModel { graph, .. }) = legacy2020_model("Model_Emotion_Merge.h5") else {
        return;
    };
    assert_eq!(
        names(&graph),
        ["concatenate_1", "dense_1", "dense_2", "output_layer"]
    );
    assert_eq!(graph.inputs.len(), 6);
    assert_eq!(graph.parameters(), 43 * 128 + 129 * 128 + 129 * 7);
    assert_eq!(
        node(&graph, "concatenate_1").layer,
        Layer::Concat(Concat { axis: 0 })
    );
}

/// Returns the shapes of the arrays in an .npz file.
fn array_shapes(path: &Path) -> HashMap<String, Vec<usize>> {
    let mut npz = ndarray_npy::NpzReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let names = npz.names().unwrap();
    names
        .into_iter()
        .filter_map(|name| {
            let array: Result<ndarray::ArrayD<f32>, _> = npz.by_name(&name);
            Some((
                name.trim_end_matches(".npy").into(),
                array.ok()?.shape().to_vec(),
            ))
        })
        .collect()
}

#[test]
fn real_models_have_the_shapes_that_keras_computed() {
    let mut converted = 0;
    for (dir, entry) in keras_index() {
        let name = entry["name"].as_str().unwrap();
        if entry.get("refused").is_some() {
            continue;
        }
        let KerasModel { graph, provenance } =
            load_keras(&dir, &entry).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            provenance.keras_version.as_deref(),
            entry["keras_version"].as_str(),
            "{name}"
        );
        graph.validate().unwrap();
        let arrays = array_shapes(&dir.join(entry["arrays"].as_str().unwrap()));
        let given: Vec<Vec<usize>> = graph
            .inputs
            .iter()
            .map(|i| arrays[&format!("in.{}", i.name)][1..].to_vec())
            .collect();
        let shapes = graph.infer_shapes(&given).unwrap();
        for (k, output) in graph.outputs.iter().enumerate() {
            let wanted = &arrays[&format!("out.{k}")];
            assert_eq!(
                shapes[output.value.0],
                wanted[1..],
                "{name} {}",
                output.name
            );
        }
        converted += 1;
    }
    assert!(converted > 100, "only {converted} models were compared");
}

#[test]
fn the_five_small_models_are_converted() {
    for (name, outputs) in [
        ("Model_Emotion_crop", 1),
        ("Model_Age_crop", 1),
        ("Model_Gender_crop", 1),
        ("Model_Emotion_Features", 5),
        ("Model_Emotion_Merge", 1),
    ] {
        let path = golden().join("five").join(format!("{name}.h5"));
        let model = keras::load(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(model.graph.outputs.len(), outputs);
        assert_eq!(
            model.graph.is_stochastic(),
            name == "Model_Emotion_Features"
        );
    }
}

#[test]
fn unsupported_models_are_refused_by_name() {
    let mut refused = 0;
    for (dir, entry) in keras_index() {
        let Some(reason) = entry.get("refused").and_then(|r| r.as_str()) else {
            continue;
        };
        let name = entry["name"].as_str().unwrap();
        let may_run = entry["may_run"].as_bool() == Some(true);
        let file = entry["file"].as_str().unwrap();
        match load_keras(&dir, &entry) {
            Ok(model) => {
                assert!(may_run, "{name} was converted");
                model.graph.validate().unwrap();
            }
            Err(message) => {
                assert!(
                    message.to_lowercase().contains(&reason.to_lowercase()),
                    "{name}: {message:?} does not say {reason:?}"
                );
                assert!(message.contains(file), "{name}: {message}");
                if let Some(layer) = entry.get("refused_layer").and_then(|l| l.as_str()) {
                    assert!(message.contains(layer), "{name}: {message}");
                }
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn other_kinds_of_files_are_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.h5");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        keras::load(&path).unwrap_err().to_string()
    };
    assert!(load(b"").contains("is empty"));
    assert!(load(b"PK\x03\x04....").contains(".keras"));
    assert!(load(b"RIFF....WAVE").contains("not an HDF5 file"));
    let folder = keras::load(dir.path()).unwrap_err().to_string();
    assert!(folder.contains("folder"), "{folder}");
    std::fs::write(dir.path().join("saved_model.pb"), b"").unwrap();
    let folder = keras::load(dir.path()).unwrap_err().to_string();
    assert!(folder.contains("SavedModel"), "{folder}");
    let missing = keras::load(dir.path().join("missing.h5")).unwrap_err();
    assert!(missing.to_string().contains("missing.h5"), "{missing}");
}

/// Small model with two kinds of layers, written by Keras.
fn sample() -> Vec<u8> {
    std::fs::read(golden().join("conv2d_same.h5")).unwrap()
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let bytes = sample();
    for end in (0..bytes.len()).step_by(997) {
        keras::load_bytes("cut.h5", bytes[..end].to_vec()).expect_err("half a file");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
    ) {
        let mut bytes = sample();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(model) = keras::load_bytes("damaged.h5", bytes) {
            model.graph.validate().unwrap();
        }
    }
}

/// Changes one value within `value`, selected by `at`.
fn change(value: &mut serde_json::Value, at: &mut usize, new: &serde_json::Value) -> bool {
    if *at == 0 {
        *value = new.clone();
        return true;
    }
    *at -= 1;
    match value {
        serde_json::Value::Array(items) => items.iter_mut().any(|v| change(v, at, new)),
        serde_json::Value::Object(map) => map.values_mut().any(|v| change(v, at, new)),
        _ => false,
    }
}

fn replacement() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::json;
    prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[["dense", 1, 0, {}]]])),
        Just(json!("dense_1")),
        Just(json!("Model")),
        any::<bool>().prop_map(|b| json!(b)),
        (-3i64..4).prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|x| json!(x)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn changed_configurations_never_panic(
        file in prop::sample::select(vec![
            "five/Model_Emotion_Features.h5",
            "five/Model_Age_crop.h5",
            "bidirectional_lstm_concat_sequences.h5",
            "time_distributed_model.h5",
            "conv1d_causal.h5",
            "graph_operations_axes.h5",
            "graph_operations_slices.h5",
            "mask_multi_head_attention.h5",
            "operators_lists.h5",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), replacement()), 1..4),
    ) {
        let bytes = std::fs::read(golden().join(file)).unwrap();
        let mut content = keras::hdf5::pure::read(bytes).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&content.config).unwrap();
        // The number of positions approximates the number of values in the text; a position beyond
        // the end changes nothing.
        let places = content.config.matches([',', '[', '{']).count();
        for (at, new) in changes {
            change(&mut config, &mut at.index(places), &new);
        }
        content.config = config.to_string();
        if let Ok(graph) = keras::from_content(file, content) {
            graph.validate().unwrap();
        }
    }
}

/// Both HDF5 libraries must return bit-identical content.
#[cfg(feature = "libhdf5")]
#[test]
fn both_hdf5_libraries_read_the_same() {
    use maeum::keras::hdf5;
    let mut files: Vec<PathBuf> = std::fs::read_dir(golden())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    if let Some(dir) = common::legacy2020_dir() {
        let originals = std::fs::read_dir(dir.join("models")).unwrap();
        files.extend(originals.map(|e| e.unwrap().path()));
    }
    files.retain(|f| f.extension().is_some_and(|e| e == "h5"));
    assert!(files.len() > 100);
    for file in files {
        let name = file.display();
        let pure = hdf5::pure::read(std::fs::read(&file).unwrap());
        let lib = hdf5::libhdf5::read(&file);
        let (pure, lib) = match (pure, lib) {
            (Ok(pure), Ok(lib)) => (pure, lib),
            (Err(_), Err(_)) => continue,
            (pure, lib) => panic!("{name}: {:?} / {:?}", pure.err(), lib.err()),
        };
        let bits = |m: &mut hdf5::H5Model| -> Vec<Vec<u32>> {
            let weights = m.layers.iter_mut().flat_map(|(_, w)| w);
            weights
                .map(|w| w.data.drain(..).map(f32::to_bits).collect())
                .collect()
        };
        let (mut pure, mut lib) = (pure, lib);
        assert_eq!(bits(&mut pure), bits(&mut lib), "{name}");
        // The two libraries describe a problem differently.
        for model in [&mut pure, &mut lib] {
            let weights = model.layers.iter_mut().flat_map(|(_, w)| w);
            for problem in weights.filter_map(|w| w.problem.as_mut()) {
                problem.clear();
            }
        }
        assert_eq!(pure, lib, "{name}");
    }
}
