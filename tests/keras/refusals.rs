//! Errors for unsupported files: they name file, layer and option, report all problems at once, and
//! give advice.

use maeum::keras::hdf5::{H5Model, H5Weight};
use maeum::keras::{self, ConvertError};
use serde_json::{Value, json};

fn weight(name: &str, shape: &[usize]) -> H5Weight {
    H5Weight {
        name: name.into(),
        shape: shape.to_vec(),
        data: vec![0.5; shape.iter().product()],
        problem: None,
    }
}

fn content(config: &Value, layers: Vec<(&str, Vec<H5Weight>)>) -> H5Model {
    H5Model {
        config: config.to_string(),
        keras_version: Some("2.2.4".into()),
        backend: Some("tensorflow".into()),
        layers: layers.into_iter().map(|(n, w)| (n.into(), w)).collect(),
    }
}

/// Builds a functional model of the given layers, each reading the previous one, from an input of
/// 8.
fn chain(layers: &[(&str, &str, Value)]) -> Value {
    let mut before = "input".to_owned();
    let mut all = vec![json!({
        "class_name": "InputLayer", "name": "input",
        "config": {"name": "input", "batch_input_shape": [null, 8], "dtype": "float32"},
        "inbound_nodes": [],
    })];
    for (name, class, config) in layers {
        let mut config = config.clone();
        config["name"] = json!(name);
        all.push(json!({
            "class_name": class, "name": name, "config": config,
            "inbound_nodes": [[[before, 0, 0, {}]]],
        }));
        before = (*name).to_owned();
    }
    json!({"class_name": "Model", "config": {
        "name": "model", "layers": all,
        "input_layers": [["input", 0, 0]], "output_layers": [[before, 0, 0]],
    }})
}

/// Returns the configuration of a layer with an operation of TensorFlow on 32-bit floats.
fn graph_operation(op: &str, inputs: &[&str], constants: Value, attributes: Value) -> Value {
    let mut attr = json!({"T": {"type": "DT_FLOAT"}});
    for (name, value) in attributes.as_object().unwrap() {
        attr[name] = value.clone();
    }
    json!({"node_def": {"op": op, "input": inputs, "attr": attr}, "constants": constants})
}

fn dense(units: usize) -> Value {
    json!({"units": units, "activation": "relu"})
}

fn refused(content: H5Model) -> ConvertError {
    keras::from_content("m.h5", content).unwrap_err()
}

fn assert_says(error: &ConvertError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn an_operation_may_be_stored_as_text() {
    let mut layer = graph_operation("Neg", &["a"], json!({}), json!({}));
    layer["node_def"] = layer["node_def"].to_string().into();
    let config = chain(&[("s", "TensorFlowOpLayer", layer)]);
    let graph = keras::from_content("m.h5", content(&config, vec![])).unwrap();
    assert_eq!(graph.nodes.len(), 1);
}

#[test]
fn every_fault_of_a_layer_names_file_layer_class_and_option() {
    let conv = |key: &str, value: Value| {
        let mut config = json!({"filters": 2, "kernel_size": [3]});
        config[key] = value;
        config
    };
    let gru = |key: &str, value: Value| {
        let mut config =
            json!({"units": 2, "activation": "tanh", "recurrent_activation": "sigmoid"});
        config[key] = value;
        config
    };
    let cases: Vec<(&str, Value, &str)> = vec![
        (
            "Conv1D",
            conv("groups", json!(3)),
            "2 filters cannot be divided among 3 groups",
        ),
        (
            "Conv1D",
            conv("padding", json!("full")),
            "\"padding\" is \"full\"",
        ),
        ("Conv1D", conv("filters", json!(0)), "\"filters\" is 0"),
        (
            "Conv1D",
            conv("filters", json!(null)),
            "\"filters\" is missing",
        ),
        (
            "Conv1D",
            conv("strides", json!([1, 2])),
            "\"strides\" is [1,2]",
        ),
        (
            "Conv1D",
            conv("kernel_size", json!(null)),
            "\"kernel_size\" is missing",
        ),
        (
            "Conv1D",
            conv("data_format", json!("channels_middle")),
            "\"data_format\"",
        ),
        (
            "Conv1D",
            conv("use_bias", json!("no")),
            "\"use_bias\" is \"no\"",
        ),
        (
            "Conv1D",
            conv("activation", json!("cosine")),
            "\"activation\" is \"cosine\"",
        ),
        (
            "Conv1D",
            conv("novelty", json!(1)),
            "\"novelty\" is not known",
        ),
        (
            "Conv1D",
            conv("dtype", json!("float64")),
            "\"dtype\" is \"float64\"",
        ),
        (
            "GRU",
            gru("num_constants", json!(2)),
            "\"num_constants\" is 2",
        ),
        (
            "GRU",
            gru("activation", json!(null)),
            "\"activation\" is missing",
        ),
        (
            "GRU",
            gru("dropout", json!("half")),
            "\"dropout\" is \"half\"",
        ),
        ("Dense", json!({"units": -1}), "\"units\" is -1"),
        ("Dropout", json!({}), "\"rate\" is missing"),
        ("LeakyReLU", json!({}), "\"alpha\" is missing"),
        (
            "ReLU",
            json!({"max_value": {"value": "x"}}),
            "\"max_value\"",
        ),
        (
            "Activation",
            json!({"activation": 3}),
            "\"activation\" is 3",
        ),
        ("Permute", json!({"dims": [0]}), "\"dims\" is [0]"),
        ("Permute", json!({}), "\"dims\" is missing"),
        (
            "Reshape",
            json!({"target_shape": [-1, -1]}),
            "\"target_shape\"",
        ),
        ("RepeatVector", json!({"n": 0.5}), "\"n\" is 0.5"),
        ("Softmax", json!({"axis": [1, 2]}), "\"axis\" is [1, 2]"),
        (
            "Concatenate",
            json!({"axis": "last"}),
            "\"axis\" is \"last\"",
        ),
        (
            "BatchNormalization",
            json!({"axis": [1, 2]}),
            "\"axis\" is [1, 2]",
        ),
        (
            "BatchNormalization",
            json!({"renorm": true}),
            "\"renorm\" is true",
        ),
        ("MaxPooling1D", json!({}), "\"pool_size\" is missing"),
        (
            "UpSampling2D",
            json!({"size": 2, "interpolation": "area"}),
            "\"interpolation\"",
        ),
        (
            "ZeroPadding2D",
            json!({"padding": "all"}),
            "\"padding\" is \"all\"",
        ),
        ("ZeroPadding2D", json!({}), "\"padding\" is missing"),
        ("Lambda", json!({}), "\"function\" is missing"),
        (
            "TensorFlowOpLayer",
            json!({"constants": {}}),
            "\"node_def\" is missing",
        ),
        (
            "TensorFlowOpLayer",
            json!({"node_def": "Sin"}),
            "\"node_def\" is \"Sin\"; it is no valid JSON",
        ),
        (
            "TensorFlowOpLayer",
            json!({"node_def": {"op": 3}, "constants": {}}),
            "its operation \"op\" is needed",
        ),
        (
            "TensorFlowOpLayer",
            json!({"node_def": {"op": "Neg", "input": ["a"]}, "constants": [1]}),
            "\"constants\" is [1]",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation("Mul", &["a", "b"], json!({"2": 1.0}), json!({})),
            "\"Mul\" has 2 inputs",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation("Add", &["a"; 65], json!({}), json!({})),
            "\"Add\" has 65 inputs",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation(
                "Mean",
                &["a", "b"],
                json!({"1": 1}),
                json!({"novel": {"i": "1"}}),
            ),
            "\"Mean\" with input 1 = 1, T = {\"type\":\"DT_FLOAT\"}, novel = {\"i\":\"1\"} is not supported",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation(
                "Reshape",
                &["a", "b"],
                json!({"1": [-1, 1u64 << 62]}),
                json!({}),
            ),
            "\"Reshape\" with input 1 = [-1,4611686018427387904]",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation(
                "StridedSlice",
                &["a", "b", "c", "d"],
                json!({"1": [0, i64::MAX], "2": [0, 0], "3": [1, 1]}),
                json!({"begin_mask": {"i": "1"}, "end_mask": {"i": "1"}, "shrink_axis_mask": {"i": "2"}}),
            ),
            "\"StridedSlice\" with input 1 = [0,9223372036854775807]",
        ),
        (
            "TensorFlowOpLayer",
            json!({"node_def": {"op": "Neg", "input": ["a"], "attr": {"T": {"type": "DT_INT32"}}}}),
            "\"Neg\" with T = {\"type\":\"DT_INT32\"} is not supported",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation("RealDiv", &["a", "b"], json!({"1": [1.0, 0.0]}), json!({})),
            "\"RealDiv\" with input 1 = [1.0,0.0]",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation(
                "Mul",
                &["a", "b"],
                json!({"1": [[1.0, 2.0], [3.0]]}),
                json!({}),
            ),
            "\"Mul\" with input 1 = [[1.0,2.0],[3.0]]",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation("Mul", &["a", "b"], json!({"1": [1e300, 1.0]}), json!({})),
            "\"Mul\" with input 1 = [1e+300,1.0]",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation("Mul", &["a", "b"], json!({"1": [[[1.0, 2.0]]]}), json!({})),
            "a constant of the shape [1, 1, 2]",
        ),
        (
            "TensorFlowOpLayer",
            graph_operation(
                "Sub",
                &["a", "b"],
                json!({"1": [[1.0, 2.0], [3.0, 4.0]]}),
                json!({}),
            ),
            "a value of 1 dimensions without the batch and a constant of the shape [2, 2]",
        ),
        (
            "Lambda",
            json!({"function": ["c", null, null], "arguments": [1]}),
            "\"arguments\"",
        ),
        (
            "Embedding",
            json!({"input_dim": 3}),
            "\"output_dim\" is missing",
        ),
        ("Dot", json!({"axes": [1, 2, 3]}), "\"axes\" is [1, 2, 3]"),
        (
            "LayerNormalization",
            json!({"rms_scaling": true}),
            "\"rms_scaling\"",
        ),
        ("Rescaling", json!({}), "\"scale\" is missing"),
        (
            "Cropping1D",
            json!({"cropping": "all"}),
            "\"cropping\" is \"all\"",
        ),
        (
            "ZeroPadding1D",
            json!({"padding": [1, 2, 3]}),
            "\"padding\" is [1,2,3]",
        ),
        (
            "Conv2DTranspose",
            json!({"filters": 2, "kernel_size": 3, "output_padding": [1, -1]}),
            "\"output_padding\" is [1,-1]",
        ),
        (
            "GroupNormalization",
            json!({"groups": -2}),
            "\"groups\" is -2",
        ),
        (
            "STFT",
            json!({"n_fft": 1 << 21, "win_length": 4, "hop_length": 2}),
            "\"n_fft\" is 2097152",
        ),
        (
            "Delta",
            json!({"win_length": 4, "mode": "symmetric"}),
            "\"win_length\" is 4; odd numbers from 3 to 65",
        ),
        (
            "Delta",
            json!({"win_length": 67, "mode": "symmetric"}),
            "\"win_length\" is 67",
        ),
        (
            "Kapre>Delta",
            json!({"win_length": 5, "mode": "edge"}),
            "\"mode\" is \"edge\"",
        ),
        ("Delta", json!({"win_length": 5}), "\"mode\" is missing"),
        (
            "Delta",
            json!({"win_length": 5, "mode": "reflect"}),
            "it takes [time, frequency, 1]",
        ),
        (
            "Kapre>STFT",
            json!({"n_fft": 4, "win_length": 8, "hop_length": 2, "window_name": "vorbis_window"}),
            "\"win_length\" is 8",
        ),
        (
            "STFT",
            json!({"n_fft": 4, "win_length": 4, "hop_length": 2, "window_name": "vorbis_window"}),
            "\"window_name\" is \"vorbis_window\"",
        ),
        (
            "ApplyFilterbank",
            json!({"type": "mel", "filterbank_kwargs": {"sample_rate": 8000, "n_freq": 1 << 20, "n_mels": 1 << 20}}),
            "\"n_freq\" is 1048576",
        ),
        (
            "ApplyFilterbank",
            json!({"type": "mel", "filterbank_kwargs": {"sample_rate": 8000, "n_freq": 9, "norm": 2}}),
            "\"norm\" is 2",
        ),
        (
            "ApplyFilterbank",
            json!({"type": "bark", "filterbank_kwargs": {}}),
            "\"type\" is \"bark\"",
        ),
        (
            "ApplyFilterbank",
            json!({"type": "log", "filterbank_kwargs": {"sample_rate": 8000, "n_freq": 9, "tuning": 1}}),
            "\"tuning\" is 1",
        ),
        (
            "MagnitudeToDecibel",
            json!({"amin": 0.0, "ref_value": 1.0, "dynamic_range": 80.0}),
            "\"amin\" is not positive",
        ),
        (
            "Spectrogram",
            json!({"n_dft": 8, "n_hop": 2, "padding": "same", "power_spectrogram": 3.0, "image_data_format": "channels_last"}),
            "\"power_spectrogram\" is 3",
        ),
        (
            "Normalization2D",
            json!({"int_axis": 2}),
            "\"int_axis\" is 2",
        ),
        (
            "Attention",
            json!({"score_mode": "cosine"}),
            "\"score_mode\" is \"cosine\"",
        ),
        (
            "Masking",
            json!({"mask_value": "pad"}),
            "\"mask_value\" is \"pad\"",
        ),
        (
            "MultiHeadAttention",
            json!({"key_dim": 2}),
            "\"num_heads\" is missing",
        ),
        (
            "Normalization",
            json!({"axis": [1], "mean": [0.0]}),
            "\"mean\" is [0.0]",
        ),
        ("TimeDistributed", json!({"layer": 3}), "3 is no layer"),
        (
            "TimeDistributed",
            json!({"layer": {"class_name": "Dense", "config": {"name": "in", "units": 0}}}),
            "s/in (Dense): option \"units\" is 0",
        ),
        (
            "Bidirectional",
            json!({"merge_mode": "max", "layer": {"class_name": "GRU", "config": gru("x", json!(null))}}),
            "\"merge_mode\" is \"max\"",
        ),
        (
            "Bidirectional",
            json!({"merge_mode": "sum", "layer": {"class_name": "GRU", "config": gru("num_constants", json!(2))}}),
            "s/forward (GRU), s/backward (GRU): option \"num_constants\" is 2",
        ),
        (
            "Bidirectional",
            json!({"merge_mode": "sum"}),
            "\"layer\" is missing",
        ),
        (
            "ConvLSTM3D",
            json!({}),
            "this class of layer is not supported",
        ),
    ];
    for (class, config, part) in cases {
        let error = refused(content(&chain(&[("s", class, config)]), vec![]));
        // The layer inside a wrapper has its own name.
        let named = format!("s ({class})");
        let layer: &str = match part.starts_with("s/") {
            true => "layer",
            false => &named,
        };
        assert_says(&error, &["m.h5: ", layer, part]);
    }
}

#[test]
fn all_problems_are_listed_at_once() {
    let config = chain(&[
        ("a", "Dense", dense(4)),
        ("b", "ConvLSTM3D", json!({"axes": 1})),
        (
            "c",
            "Dense",
            json!({"units": 2, "dtype": "float64", "novelty": 1}),
        ),
        ("d", "Dense", dense(3)),
        ("e", "LocallyConnected1D", json!({})),
    ]);
    // The input of `d` is unknown, but the missing bias is reported.
    let layers = vec![
        (
            "a",
            vec![weight("a/kernel:0", &[8, 5]), weight("a/bias:0", &[4])],
        ),
        ("d", vec![weight("d/kernel:0", &[2, 3])]),
        ("b", vec![weight("b/strange:0", &[1])]),
    ];
    let mut model = content(&config, layers);
    model.backend = Some("mxnet".into());
    let error = refused(model);
    assert_says(
        &error,
        &[
            "m.h5: 7 things stand in the way",
            "\n  it was saved with the backend \"mxnet\"",
            "\n  layers b (ConvLSTM3D), e (LocallyConnected1D): this class of layer",
            "\n  layer c (Dense): option \"dtype\" is \"float64\"",
            "\n  layer c (Dense): option \"novelty\"",
            "\n  layer a (Dense): its kernel should have shape [?, 4]",
            "\n  layer d (Dense): it needs 2 weights, the file has 1",
        ],
    );
    let ConvertError::Several { file, problems } = error else {
        panic!("{error}");
    };
    assert_eq!((&*file, problems.len()), ("m.h5", 7));
    assert!(problems.iter().all(|p| p.to_string().starts_with("m.h5: ")));
}

#[test]
fn consequences_of_a_fault_are_not_reported() {
    // If `b` were assumed to read the output that `a` would have had, its rank would seem wrong.
    let config = chain(&[
        ("a", "LocallyConnected1D", json!({"filters": 2})),
        ("b", "Conv1D", json!({"filters": 2, "kernel_size": 3})),
    ]);
    let layers = vec![(
        "b",
        vec![weight("b/kernel:0", &[3, 8, 2]), weight("b/bias:0", &[2])],
    )];
    let error = refused(content(&config, layers));
    assert!(
        matches!(&error, ConvertError::Layer { layer, .. } if layer == "a"),
        "{error}"
    );
}

#[test]
fn faults_of_connections_are_listed_too() {
    // Two branches, each with a layer that does not match its input.
    let mut config = chain(&[
        ("a", "Conv1D", json!({"filters": 2, "kernel_size": 3})),
        (
            "b",
            "GRU",
            json!({"units": 2, "activation": "tanh", "recurrent_activation": "sigmoid"}),
        ),
    ]);
    let layers = &mut config["config"]["layers"];
    layers[2]["inbound_nodes"] = json!([[["input", 0, 0, {}]]]);
    config["config"]["output_layers"] = json!([["a", 0, 0], ["b", 0, 0]]);
    let layers = vec![
        (
            "a",
            vec![weight("a/kernel:0", &[3, 8, 2]), weight("a/bias:0", &[2])],
        ),
        (
            "b",
            vec![
                weight("b/kernel:0", &[8, 6]),
                weight("b/recurrent_kernel:0", &[2, 6]),
                weight("b/bias:0", &[6]),
            ],
        ),
    ];
    assert_says(
        &refused(content(&config, layers)),
        &[
            "2 things",
            "layers a (Conv1D), b (GRU): it takes [time, channels]",
        ],
    );
}

#[test]
fn layers_with_the_same_fault_share_a_line_and_long_lists_end() {
    let policy = json!({"class_name": "Policy", "config": {"name": "float64"}});
    let narrow = json!({"units": 2, "dtype": policy});
    let error = refused(content(
        &chain(&[("a", "Dense", narrow.clone()), ("b", "Dense", narrow)]),
        vec![],
    ));
    assert_says(
        &error,
        &["layers a (Dense), b (Dense): option \"dtype\"", "float64"],
    );
    assert_says(&error, &["dtype=\"float32\"", "set_weights"]);
    assert_eq!(error.to_string().lines().count(), 2);

    let names: Vec<String> = (0..150).map(|n| format!("layer_{n}")).collect();
    let layers: Vec<(&str, &str, Value)> = names
        .iter()
        .enumerate()
        .map(|(n, name)| (&**name, "Dense", json!({"units": 1, "novelty": n + 1})))
        .collect();
    let error = refused(content(&chain(&layers), vec![]));
    assert_says(&error, &["150 things", "\n  and 50 more"]);
    assert_eq!(error.to_string().lines().count(), 102);
}

#[test]
fn a_layer_that_is_used_often_is_listed_once() {
    let mut config = chain(&[("a", "Conv1D", json!({"filters": 2, "kernel_size": 3}))]);
    config["config"]["layers"][1]["inbound_nodes"] =
        json!([[["input", 0, 0, {}]], [["input", 0, 0, {}]]]);
    config["config"]["output_layers"] = json!([["a", 0, 0], ["a", 1, 0]]);
    let layers = vec![(
        "a",
        vec![weight("a/kernel:0", &[3, 8, 2]), weight("a/bias:0", &[2])],
    )];
    let error = refused(content(&config, layers));
    assert!(matches!(error, ConvertError::Layer { .. }), "{error}");
}

#[test]
fn narrow_types_are_computed_in_32_bits() {
    let policy = json!({"class_name": "Policy", "config": {"name": "mixed_float16"}});
    for dtype in [policy, json!("float16"), json!("mixed_bfloat16")] {
        let config = chain(&[("d", "Dense", json!({"units": 2, "dtype": dtype}))]);
        let weights = vec![weight("d/kernel:0", &[8, 2]), weight("d/bias:0", &[2])];
        keras::from_content("m.h5", content(&config, vec![("d", weights)])).unwrap();
    }
}

#[test]
fn a_weight_of_a_type_that_is_not_read_is_refused_where_it_is_used() {
    let mut count = weight("normalization/count:0", &[]);
    count.data.clear();
    count.problem = Some("it holds whole numbers of 64 bits".into());
    let config = chain(&[("normalization", "Normalization", json!({"axis": [-1]}))]);
    let layers = vec![(
        "normalization",
        vec![
            weight("normalization/mean:0", &[8]),
            weight("normalization/variance:0", &[8]),
            count.clone(),
        ],
    )];
    let graph = keras::from_content("m.h5", content(&config, layers)).unwrap();
    assert_eq!(graph.weights.len(), 2, "the count is left out");
    // Such a weight is the fault of a layer that uses it.
    let layers = vec![("d", vec![weight("d/kernel:0", &[8, 2]), count])];
    let error = refused(content(&chain(&[("d", "Dense", dense(2))]), layers));
    assert_says(
        &error,
        &["layer d (Dense): its bias", "whole numbers of 64 bits"],
    );
}

#[test]
fn other_versions_of_keras_get_advice() {
    let with = |version: &str| {
        let config = chain(&[("a", "Dense", dense(2))]);
        let mut model = content(&config, vec![]);
        model.keras_version = Some(version.into());
        refused(model)
    };
    assert_says(
        &with("4.0.0"),
        &["m.h5", "Keras 4.0.0", "Keras 3", "set_weights"],
    );
    assert_says(&with("1.2.2"), &["m.h5", "\"1.2.2\"", "load it in Keras 2"]);
    let subclassed = json!({"class_name": "MyModel", "config": {}});
    assert_says(
        &refused(content(&subclassed, vec![])),
        &["m.h5", "\"MyModel\"", "Sequential", "save it with"],
    );
}

/// Builds the configuration of a real model with a Lambda layer, with other text for its code.
fn with_code(change: impl Fn(&str) -> String) -> H5Model {
    let bytes = std::fs::read(crate::golden().join("lambda_sum_axis1.h5")).unwrap();
    let mut content = keras::hdf5::pure::read(bytes).unwrap();
    let mut config: Value = serde_json::from_str(&content.config).unwrap();
    let layers = config["config"]["layers"].as_array_mut().unwrap();
    let lambda = layers.iter_mut().find(|l| l["class_name"] == "Lambda");
    let function = &mut lambda.unwrap()["config"]["function"];
    let code = match function {
        Value::Array(parts) => &mut parts[0],
        other => &mut other["config"]["code"],
    };
    *code = change(code.as_str().unwrap()).into();
    content.config = config.to_string();
    content
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text
        .bytes()
        .filter_map(|c| DIGITS.iter().position(|&d| d == c));
    let bits: Vec<bool> = digits
        .flat_map(|d| (0..6).rev().map(move |b| d >> b & 1 == 1))
        .collect();
    let bytes = bits.chunks_exact(8);
    bytes
        .map(|b| b.iter().fold(0, |n, &bit| n << 1 | u8::from(bit)))
        .collect()
}

#[test]
fn code_in_the_form_of_keras_2_0_is_equivalent() {
    let wanted = keras::from_content("m.h5", with_code(str::to_owned)).unwrap();
    // Python's bytes.decode("raw_unicode_escape"), for bytes without a backslash.
    let raw = |code: &str| {
        let bytes = base64(code);
        assert!(!bytes.windows(2).any(|pair| pair == b"\\u"));
        bytes.into_iter().map(char::from).collect::<String>()
    };
    assert_eq!(keras::from_content("m.h5", with_code(raw)).unwrap(), wanted);
    let refused = |code: &str| {
        let code = code.to_owned();
        refused(with_code(move |_| code.clone())).to_string()
    };
    let message = refused("not code");
    assert!(
        message.contains("(Lambda): its function is neither base64"),
        "{message}"
    );
    // The start of a code object of Python 2.7.
    let message = refused("c\u{1}\0\0\0\u{1}\0\0\0\u{2}\0\0\0C\0\0\0s\u{4}\0\0\0");
    assert!(
        message.contains("Python 2") && message.contains("under Python 3"),
        "{message}"
    );
}

#[test]
fn other_kinds_of_files_are_distinguished() {
    let says = |name: &str, bytes: &[u8], parts: &[&str]| {
        let error = keras::load_bytes(name, bytes.to_vec()).unwrap_err();
        assert_says(&error, &[name]);
        assert_says(&error, parts);
    };
    says(
        "m.keras",
        b"PK\x03\x04 config.json model.weights.h5",
        &["zip archive, as .keras files are", "cut off"],
    );
    says("m.pt", b"PK\x03\x04 archive/data.pkl", &["PyTorch"]);
    says(
        "m.zip",
        b"PK\x03\x04 model/saved_model.pb",
        &["SavedModel", "unpack"],
    );
    says("m.pkl", b"\x80\x04\x95", &["pickle"]);
    says("m.tflite", b"\x1c\0\0\0TFL3\0", &["TensorFlow Lite"]);
    says("saved_model.pb", b"\x08\x01", &["folder around it"]);
    says("m.index", b"\0\0", &["checkpoint", "load_weights"]);
    says("m.data-00000-of-00001", b"\0\0", &["checkpoint"]);
    says(
        "m.json",
        b" {\"class_name\": \"Model\"}",
        &["without weights", "give this file as their architecture"],
    );
    says("m.h5", b"<!DOCTYPE html>", &["web page", "download"]);
    says(
        "m.h5",
        b"version https://git-lfs.github.com/spec/v1\n",
        &["git lfs pull"],
    );
    says(
        "m.h5",
        b"\x50\0\0\0\0\0\0\0{\"__metadata__\":{}}",
        &[".safetensors"],
    );
    says("m.h5", b"", &["empty"]);
    says("m.h5", b"hello", &["not an HDF5 file"]);
}

#[test]
fn other_kinds_of_folders_are_distinguished() {
    let says = |files: &[&str], parts: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        assert_says(&keras::load(folder.path()).unwrap_err(), parts);
    };
    says(
        &["saved_model.pb"],
        &["SavedModel", "save it with model.save(\"name.h5\")"],
    );
    says(&["saved_model.pbtxt"], &["SavedModel"]);
    says(&["config.json", "model.weights.h5"], &["unpacked .keras"]);
    says(&["checkpoint", "x.index"], &["checkpoints", "load_weights"]);
    says(&["x.h5"], &["it is a folder", "name the file in it"]);
}

/// Builds a file with only these groups and string attributes.
fn h5(groups: &[&str], attributes: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = hdf5_pure::FileBuilder::new();
    for group in groups {
        let group = builder.create_group(group);
        builder.add_group(group.finish());
    }
    for (name, value) in attributes {
        builder.set_attr(name, hdf5_pure::AttrValue::String((*value).into()));
    }
    builder.finish().unwrap()
}

#[test]
fn files_with_only_weights_get_advice() {
    let says = |bytes: Vec<u8>, parts: &[&str]| {
        let error = keras::load_bytes("m.weights.h5", bytes).unwrap_err();
        assert_says(&error, parts);
    };
    let advice = ["only weights", "model.to_json()"];
    says(h5(&["layers"], &[]), &advice);
    says(h5(&["_layer_checkpoint_dependencies"], &[]), &advice);
    says(
        h5(&["dense_1"], &[("layer_names", "dense_1")]),
        &["its group \"dense_1\" has no attribute \"weight_names\""],
    );
    says(h5(&[], &[]), &["no Keras model"]);
    says(h5(&[], &[("model_config", "{}")]), &["without weights"]);
}
