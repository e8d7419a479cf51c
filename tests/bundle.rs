//! Bundles: what is stored comes back, and no damaged or hostile file does harm.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use maeum::nn::bundle::{self, BundleError};
use maeum::nn::graph::{Graph, Input, Node, Output, ValueId, Weight, WeightId};
use maeum::nn::layer::{
    Activation, BatchNorm, Conv, Dropout, Interpolation, Layer, MergeOp, Padding, Pool, PoolKind,
    Recurrent,
};
use maeum::nn::model::{BundleInfo, Provenance};
use maeum::nn::{DropoutMode, Model, Network, Plan, Role, Session, cost};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Builds graphs; the weights are small numbers in a fixed pattern.
#[derive(Default)]
struct Builder(Graph);

impl Builder {
    fn new(name: &str, inputs: &[&[Option<usize>]]) -> Self {
        let inputs = inputs.iter().enumerate().map(|(i, shape)| Input {
            name: format!("input_{}", i + 1),
            shape: shape.to_vec(),
        });
        Self(Graph {
            name: name.into(),
            inputs: inputs.collect(),
            ..Graph::default()
        })
    }

    fn weight(&mut self, shape: &[usize]) -> WeightId {
        let id = self.0.weights.len();
        let data = (0..shape.iter().product::<usize>())
            .map(|i| ((i * 37 + id * 11) % 19) as f32 / 50.0 + 0.01)
            .collect();
        self.0.weights.push(Weight {
            name: format!("w{id}"),
            shape: shape.to_vec(),
            data,
        });
        WeightId(id)
    }

    fn node(&mut self, layer: Layer, inputs: &[usize]) -> usize {
        let value = self.0.inputs.len() + self.0.nodes.len();
        self.0.nodes.push(Node {
            name: format!("node_{value}"),
            layer,
            inputs: inputs.iter().map(|&v| ValueId(v)).collect(),
            outer: 0,
        });
        value
    }

    fn dense(&mut self, input: usize, inputs: usize, units: usize) -> usize {
        let layer = Layer::Dense {
            kernel: self.weight(&[inputs, units]),
            bias: Some(self.weight(&[units])),
            activation: Activation::Softmax,
        };
        self.node(layer, &[input])
    }

    fn mean(&mut self, input: usize) -> usize {
        let layer = Layer::GlobalPool {
            kind: PoolKind::Average,
            keep_dims: false,
        };
        self.node(layer, &[input])
    }

    fn build(mut self, outputs: &[usize]) -> Graph {
        let outputs = outputs.iter().map(|&v| Output {
            name: format!("output_{v}"),
            value: ValueId(v),
        });
        self.0.outputs = outputs.collect();
        self.0
    }
}

fn network(role: Role, graph: Graph) -> Network {
    let mut network = Network {
        role,
        graph,
        provenance: Provenance {
            file: "from.h5".into(),
            sha256: "00".into(),
            keras_version: "2.2.4".into(),
            backend: "tensorflow".into(),
        },
        self_test: None,
    };
    network.make_self_test().unwrap();
    network
}

/// One network with most kinds of layers.
fn single() -> Model {
    let mut b = Builder::new("single", &[&[Some(8), Some(6), Some(1)], &[None, Some(2)]]);
    let conv = Conv {
        kernel: b.weight(&[3, 3, 1, 4]),
        bias: Some(b.weight(&[4])),
        strides: [1, 1],
        dilation: [1, 1],
        padding: Padding::Same,
        activation: Activation::LeakyRelu { alpha: 0.1 },
    };
    let x = b.node(Layer::Conv(conv), &[0]);
    let norm = BatchNorm {
        gamma: Some(b.weight(&[4])),
        beta: None,
        mean: b.weight(&[4]),
        variance: b.weight(&[4]),
        epsilon: 1e-3,
    };
    let x = b.node(Layer::BatchNorm(norm), &[x]);
    let pool = Pool {
        kind: PoolKind::Max,
        size: [2, 2],
        strides: [2, 2],
        padding: Padding::Valid,
    };
    let x = b.node(Layer::Pool(pool), &[x]);
    let up = Layer::Upsample {
        factor: [2, 1],
        interpolation: Interpolation::BilinearLegacy,
    };
    let x = b.node(up, &[x]);
    let pad = Layer::ZeroPad {
        top: 1,
        bottom: 0,
        left: 0,
        right: 1,
    };
    let x = b.node(pad, &[x]);
    let shape = vec![Some(9), None];
    let x = b.node(Layer::Reshape { shape }, &[x]);
    let lstm = Recurrent {
        kernel: b.weight(&[16, 12]),
        recurrent_kernel: b.weight(&[3, 12]),
        bias: Some(b.weight(&[12])),
        activation: Activation::Tanh,
        recurrent_activation: Activation::HardSigmoid,
        return_sequences: false,
        go_backwards: false,
    };
    let x = b.node(Layer::Lstm(lstm), &[x]);
    let dropout = Dropout {
        rate: 0.5,
        forced: true,
        per_channel: false,
    };
    let x = b.node(Layer::Dropout(dropout), &[x]);
    let sequence = b.node(Layer::SumAxis { axis: 0 }, &[1]);
    let both = b.node(Layer::Concat { axis: 0 }, &[x, sequence]);
    let repeated = b.node(Layer::RepeatVector { count: 2 }, &[both]);
    let order = vec![1, 0];
    let permuted = b.node(Layer::Permute { order }, &[repeated]);
    let op = MergeOp::Multiply;
    let squared = b.node(Layer::Merge { op }, &[permuted, permuted]);
    let last = b.dense(both, 5, 3);
    let graph = b.build(&[last, squared]);
    let info = BundleInfo::network("single");
    Model::new(vec![network(Role::Network, graph)], info).unwrap()
}

/// The smallest networks that fit the five roles.
fn speech() -> Model {
    let window = |name: &str, units: usize| {
        let mut b = Builder::new(name, &[&[Some(200), Some(40), Some(1)]]);
        let mean = b.mean(0);
        let out = b.dense(mean, 1, units);
        b.build(&[out])
    };
    let image: &[Option<usize>] = &[Some(40), Some(40), Some(1)];
    let moments: &[Option<usize>] = &[Some(40), Some(8), Some(1)];
    let mut b = Builder::new("features", &[image, image, image, moments]);
    let means: Vec<usize> = (0..4).map(|i| b.mean(i)).collect();
    let mut outputs: Vec<usize> = means.iter().map(|&m| b.dense(m, 1, 7)).collect();
    let all = b.node(Layer::Concat { axis: 0 }, &means);
    outputs.push(b.dense(all, 4, 7));
    let features = b.build(&outputs);
    let seven: &[Option<usize>] = &[Some(7)];
    let mut b = Builder::new("merge", &[seven; 6]);
    let all = b.node(Layer::Concat { axis: 0 }, &[0, 1, 2, 3, 4, 5]);
    let out = b.dense(all, 42, 7);
    let networks = vec![
        network(Role::EmotionWindows, window("emotions", 7)),
        network(Role::Age, window("age", 1)),
        network(Role::Gender, window("gender", 2)),
        network(Role::EmotionFeatures, features),
        network(Role::Merge, b.build(&[out])),
    ];
    Model::new(networks, BundleInfo::reference_2020()).unwrap()
}

static SINGLE: LazyLock<Vec<u8>> = LazyLock::new(|| bundle::to_bytes(&single()));
static SPEECH: LazyLock<Vec<u8>> = LazyLock::new(|| bundle::to_bytes(&speech()));

fn load(bytes: &[u8]) -> Result<Model, BundleError> {
    bundle::from_bytes(bytes, "x.safetensors")
}

/// Header and data of a safetensors file.
fn split(bytes: &[u8]) -> (Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (header, bytes[8 + length..].to_vec())
}

fn join(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// The bundle with another document.
fn edited(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut header, data) = split(bytes);
    let text = &mut header["__metadata__"][bundle::METADATA_KEY];
    let mut document = serde_json::from_str(text.as_str().unwrap()).unwrap();
    edit(&mut document);
    *text = Value::String(document.to_string());
    join(&header, &data)
}

/// The bundle with `number` at place `index` of a tensor.
fn tampered(bytes: &[u8], tensor: &str, index: usize, number: f32) -> Vec<u8> {
    let (header, mut data) = split(bytes);
    let start = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 4 * index;
    data[start..start + 4].copy_from_slice(&number.to_le_bytes());
    join(&header, &data)
}

/// What holds for every model that loads; running its self-test must not panic.
fn assert_sound(model: &Model) {
    for network in model.networks() {
        let graph = &network.graph;
        graph.validate().unwrap();
        assert!(
            graph
                .weights
                .iter()
                .all(|w| w.data.iter().all(|x| x.is_finite()))
        );
        for (i, node) in graph.nodes.iter().enumerate() {
            assert!(node.inputs.iter().all(|v| *v < graph.output_of(i)));
        }
        let Some(test) = &network.self_test else {
            continue;
        };
        let flops: u64 = cost::flops(graph, &test.input_shapes).unwrap().iter().sum();
        let shapes = graph.infer_shapes(&test.input_shapes).unwrap();
        let largest = shapes.iter().map(|s| s.iter().product::<usize>()).max();
        // Larger ones are allowed, but take more time than a test has.
        if flops < 1 << 24 && largest < Some(1 << 20) {
            let plan = Arc::new(Plan::new(graph, &test.input_shapes).unwrap());
            let inputs: Vec<&[f32]> = test.inputs.iter().map(|i| &**i).collect();
            let mut session = Session::new(&plan);
            session.run(&inputs, 1, &DropoutMode::draws(2, 1)).unwrap();
            // Whether it passes is not the question here.
            let _ = network_alone(network).self_test();
        }
    }
}

fn network_alone(network: &Network) -> Model {
    let mut network = network.clone();
    network.role = Role::Network;
    Model::new(vec![network], BundleInfo::network("alone")).unwrap()
}

#[test]
fn what_is_stored_comes_back() {
    for model in [single(), speech()] {
        let bytes = bundle::to_bytes(&model);
        assert_eq!(bytes, bundle::to_bytes(&model));
        let loaded = load(&bytes).unwrap();
        assert_eq!(loaded.networks(), model.networks());
        assert_eq!(loaded.info(), model.info());
        assert_eq!(loaded.identity().len(), 64);
        assert_eq!(model.identity(), "");
        loaded.self_test().unwrap();
        assert_eq!(bundle::to_bytes(&loaded), bytes);
        assert_sound(&loaded);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        std::fs::write(&path, "old").unwrap();
        bundle::save(&model, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(bundle::load(&path).unwrap(), loaded);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    assert_ne!(
        load(&SINGLE).unwrap().identity(),
        load(&SPEECH).unwrap().identity()
    );
}

#[test]
fn a_failed_save_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    for path in [
        folder.clone(),
        dir.path().join("nowhere/x"),
        Path::new("/").into(),
    ] {
        let error = bundle::save(&single(), &path).unwrap_err();
        assert!(matches!(error, BundleError::Write { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn other_files_are_no_bundles() {
    let check = |bytes: &[u8], part: &str| {
        let text = load(bytes).unwrap_err().to_string();
        assert!(
            text.contains(part) && text.contains("x.safetensors"),
            "{text}"
        );
    };
    check(b"\x89HDF\r\n\x1a\n and so on", "it is an HDF5 file");
    check(b"", "not a maeum bundle");
    check(b"hello world, this is text", "not a maeum bundle");
    check(&u64::MAX.to_le_bytes(), "not a maeum bundle");
    check(&join(&json!({}), b""), "no entry \"maeum\"");
    let foreign = json!({"__metadata__": {"maeum": "hello"}});
    check(&join(&foreign, b""), "damaged");
    for length in (0..SPEECH.len()).step_by(97) {
        assert!(load(&SPEECH[..length]).is_err(), "cut to {length}");
    }
    let error = bundle::load(Path::new("does/not/exist.safetensors")).unwrap_err();
    assert!(error.to_string().contains("does/not/exist.safetensors"));
    assert!(bundle::load(Path::new(env!("CARGO_MANIFEST_DIR"))).is_err());
}

#[test]
fn another_format_says_so() {
    let bytes = edited(&SINGLE, |d| {
        d["format"] = json!(bundle::FORMAT + 1);
        // Nothing else of a future document may be needed to tell.
        d["future"] = json!(true);
    });
    let error = load(&bytes).unwrap_err();
    assert!(
        matches!(error, BundleError::Format { found: 2, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("Convert the original files again")
    );
}

#[test]
fn tampered_numbers_are_noticed() {
    let fails = |bytes: &[u8]| load(bytes).unwrap().self_test().unwrap_err().to_string();
    let weight = tampered(&SPEECH, "1.weight.0", 0, 3.0);
    // A softmax over one unit is 1 whatever its weight.
    load(&weight).unwrap().self_test().unwrap();
    for (tensor, index) in [
        ("0.weight.0", 3),
        ("2.weight.1", 1),
        ("3.weight.9", 6),
        ("4.weight.0", 100),
        ("4.self_test.in.5", 2),
        ("3.self_test.out.4", 0),
    ] {
        let text = fails(&tampered(&SPEECH, tensor, index, 3.0));
        assert!(text.contains("fails its self-test"), "{tensor}: {text}");
    }
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for tensor in ["0.weight.0", "3.self_test.out.4", "4.self_test.in.5"] {
            let error = load(&tampered(&SPEECH, tensor, 0, number)).unwrap_err();
            assert!(
                error.to_string().contains("not finite"),
                "{tensor}: {error}"
            );
        }
    }
    let variance = load(&tampered(&SINGLE, "0.weight.4", 0, -1.0)).unwrap_err();
    assert!(variance.to_string().contains("square root"), "{variance}");
}

/// Each edit of the document of [`single`] must be refused with a message that has this part.
#[test]
fn inconsistent_documents_are_refused() {
    const MAX: u64 = u64::MAX;
    type Case = (&'static str, &'static str, Value, &'static str);
    let cases: Vec<Case> = vec![
        (
            "0/nodes/0/inputs/0",
            "cycle: itself",
            json!(2),
            "reads value 2",
        ),
        (
            "0/nodes/0/inputs/0",
            "a later value",
            json!(9),
            "reads value 9",
        ),
        ("0/nodes/0/inputs/0", "no value", json!(MAX), "reads value"),
        ("0/nodes/0/inputs", "none", json!([]), "no input"),
        ("0/nodes/0/inputs", "too many", json!([0, 0]), "one input"),
        (
            "0/nodes/0/outer",
            "outer",
            json!(MAX),
            "belong to the batch",
        ),
        ("0/nodes/0/name", "taken", json!("node_3"), "used twice"),
        (
            "0/nodes/0/other",
            "unknown field",
            json!(1),
            "unknown field",
        ),
        (
            "0/nodes/0/layer",
            "unknown layer",
            json!("Teleport"),
            "unknown variant",
        ),
        (
            "0/nodes/0/layer/Conv/kernel",
            "no weight",
            json!(99),
            "weight 99",
        ),
        (
            "0/nodes/0/layer/Conv/kernel",
            "no weight",
            json!(MAX),
            "weight",
        ),
        ("0/nodes/0/layer/Conv/kernel", "another", json!(1), "shape"),
        (
            "0/nodes/0/layer/Conv/strides",
            "zero",
            json!([0, 1]),
            "strides",
        ),
        (
            "0/nodes/0/layer/Conv/strides",
            "huge",
            json!([MAX, 1]),
            "strides",
        ),
        (
            "0/nodes/0/layer/Conv/dilation",
            "huge",
            json!([MAX, 1]),
            "dilation",
        ),
        (
            "0/nodes/0/layer/Conv/dilation",
            "large",
            json!([1 << 26, 64]),
            "more than",
        ),
        (
            "0/nodes/0/layer/Conv/padding",
            "causal",
            json!("Causal"),
            "causal",
        ),
        (
            "0/nodes/0/layer/Conv/activation",
            "infinite",
            json!({"LeakyRelu": {"alpha": 1e300}}),
            "not finite",
        ),
        (
            "0/nodes/1/layer/BatchNorm/epsilon",
            "negative",
            json!(-1.0),
            "epsilon",
        ),
        ("0/nodes/2/layer/Pool/size", "zero", json!([0, 2]), "size"),
        (
            "0/nodes/2/layer/Pool/size",
            "huge",
            json!([MAX, MAX]),
            "size",
        ),
        (
            "0/nodes/3/layer/Upsample/factor",
            "zero",
            json!([0, 2]),
            "factor",
        ),
        (
            "0/nodes/3/layer/Upsample/factor",
            "huge",
            json!([MAX, 2]),
            "factor",
        ),
        (
            "0/nodes/3/layer/Upsample/factor",
            "large",
            json!([1 << 20, 1 << 20]),
            "more than",
        ),
        ("0/nodes/4/layer/ZeroPad/top", "huge", json!(MAX), "padding"),
        (
            "0/nodes/4/layer/ZeroPad/top",
            "large",
            json!(1u64 << 40),
            "more than",
        ),
        (
            "0/nodes/5/layer/Reshape/shape",
            "huge",
            json!([MAX, MAX]),
            "cannot become",
        ),
        (
            "0/nodes/5/layer/Reshape/shape",
            "zero",
            json!([0, null]),
            "cannot become",
        ),
        (
            "0/nodes/6/layer/Lstm/recurrent_kernel",
            "another",
            json!(0),
            "recurrent kernel",
        ),
        ("0/nodes/7/layer/Dropout/rate", "one", json!(1.0), "rate"),
        (
            "0/nodes/7/layer/Dropout/rate",
            "negative",
            json!(-0.5),
            "rate",
        ),
        ("0/nodes/8/layer/SumAxis/axis", "huge", json!(MAX), "axis"),
        ("0/nodes/9/layer/Concat/axis", "huge", json!(MAX), "axis"),
        (
            "0/nodes/10/layer/RepeatVector/count",
            "zero",
            json!(0),
            "empty",
        ),
        (
            "0/nodes/10/layer/RepeatVector/count",
            "huge",
            json!(MAX),
            "more than",
        ),
        (
            "0/nodes/11/layer/Permute/order",
            "no permutation",
            json!([0, 0]),
            "permutation",
        ),
        ("0/inputs/0/shape", "zero", json!([0, 6, 1]), "empty"),
        ("0/inputs/0/shape", "huge", json!([MAX, 6, 1]), "more than"),
        (
            "0/inputs/0/shape",
            "ranks",
            json!([1, 1, 1, 1, 1, 1, 1, 1, 1]),
            "dimensions",
        ),
        ("0/inputs", "none", json!([]), "at least one input"),
        ("0/outputs", "none", json!([]), "at least one input"),
        ("0/outputs/0/value", "no value", json!(MAX), "output"),
        (
            "0/outputs/0/name",
            "taken",
            json!("output_14"),
            "used twice",
        ),
        (
            "0/weights",
            "a missing tensor",
            json!(vec!["w"; 12]),
            "is missing",
        ),
        ("0/weights", "fewer", json!(["w"]), "weight"),
        ("0/self_test", "unused tensors", json!(null), "tensors"),
        (
            "0/self_test/input_shapes",
            "other",
            json!([[8, 6, 1], [13, 2]]),
            "other sizes",
        ),
        (
            "0/self_test/input_shapes",
            "huge",
            json!([[8, 6, 1], [MAX, 2]]),
            "more than",
        ),
        ("0/self_test/input_shapes", "none", json!([]), "inputs"),
        ("0/role", "unknown", json!("boss"), "unknown variant"),
        ("0/role", "speech", json!("age"), "missing"),
        ("0/provenance", "missing", json!(null), "metadata"),
    ];
    for (path, what, value, part) in cases {
        let bytes = edited(&SINGLE, |document| {
            let mut at = &mut document["networks"];
            for key in path.split('/') {
                at = match key.parse::<usize>() {
                    Ok(index) => &mut at[index],
                    Err(_) => &mut at[key],
                };
            }
            *at = value;
        });
        let error = load(&bytes).expect_err(&format!("{path}: {what}"));
        let text = error.to_string();
        assert!(text.contains(part), "{path}, {what}: {text}");
        assert!(text.contains("x.safetensors"), "{text}");
    }
}

#[test]
fn networks_that_do_not_belong_together_are_refused() {
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 9] = [
        (
            |d| d["networks"][1]["role"] = json!("gender"),
            "two networks",
        ),
        (|d| d["networks"][1]["role"] = json!("network"), "only one"),
        (|d| d["networks"] = json!([]), "tensors"),
        (
            |d| {
                let one = d["networks"][0].clone();
                d["networks"].as_array_mut().unwrap().push(one);
            },
            "6 networks",
        ),
        (
            |d| {
                let (a, b) = (
                    d["networks"][1]["role"].clone(),
                    d["networks"][2]["role"].clone(),
                );
                d["networks"][1]["role"] = b;
                d["networks"][2]["role"] = a;
            },
            "outputs of shapes",
        ),
        (
            |d| drop(d["info"]["emotions"].as_array_mut().unwrap().pop()),
            "outputs of shapes",
        ),
        (
            |d| d["info"]["genders"] = json!(["same", "same"]),
            "genders",
        ),
        (
            |d| d["info"]["age"]["valid"] = json!([80.0, 8.0]),
            "80 to 8",
        ),
        (|d| d["info"]["age"]["mean"] = json!("old"), "metadata"),
    ];
    for (edit, part) in cases {
        let text = load(&edited(&SPEECH, edit)).unwrap_err().to_string();
        assert!(
            text.contains(part) && text.contains("x.safetensors"),
            "{part}: {text}"
        );
    }
}

#[test]
fn graphs_that_would_take_all_memory_are_refused() {
    // Every value alone is allowed, all together are not.
    let many = edited(&SINGLE, |d| {
        let nodes = d["networks"][0]["nodes"].as_array_mut().unwrap();
        for i in 0..16 {
            let pad = json!({"top": 1 << 20, "bottom": 0, "left": 10, "right": 9});
            let layer = json!({"ZeroPad": pad});
            let (name, input) = (format!("pad_{i}"), json!([0]));
            nodes.push(json!({"name": name, "layer": layer, "inputs": input, "outer": 0}));
        }
    });
    let text = load(&many).unwrap_err().to_string();
    assert!(text.contains("hold more than"), "{text}");
    // A large weight that many nodes read is packed for each.
    let mut b = Builder::new("wide", &[&[Some(1024)]]);
    let kernel = b.weight(&[1024, 1024]);
    let mut x = 0;
    for _ in 0..257 {
        let layer = Layer::Dense {
            kernel,
            bias: None,
            activation: Activation::Linear,
        };
        x = b.node(layer, &[x]);
    }
    let error = b.build(&[x]).validate().unwrap_err();
    assert!(error.to_string().contains("weights together"), "{error}");
}

/// All places of a JSON document, by what leads to them.
fn places(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                places(inner, format!("{at}/{key}"), all);
            }
        }
        Value::Array(list) => {
            for (i, inner) in list.iter().enumerate() {
                places(inner, format!("{at}/{i}"), all);
            }
        }
        _ => {}
    }
    all.push(at);
}

fn replacement() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0u64..24).prop_map(|n| json!(n)),
        2 => prop::sample::select(vec![
            json!(u64::MAX),
            json!(i64::MAX),
            json!(1u64 << 28),
            json!(1u64 << 20),
            json!(100_000),
            json!(-1),
            json!(0.5),
            json!(1e300),
            json!(-1e-300),
        ]),
        2 => prop::sample::select(vec![
            json!(null),
            json!([]),
            json!({}),
            json!(""),
            json!(true),
            json!([0, 0]),
            json!([null, null]),
            json!([1, 1, 1]),
            json!("Same"),
            json!("Causal"),
            json!("Linear"),
            json!("Softmax"),
            json!("Flatten"),
            json!("Reverse"),
            json!("ChannelMultiply"),
            json!("age"),
            json!("network"),
        ]),
    ]
}

#[derive(Debug, Clone)]
enum Edit {
    Replace(Value),
    /// With what stands at another place.
    Copy(prop::sample::Index),
    Repeat,
    Remove,
}

fn apply(document: &mut Value, at: prop::sample::Index, edit: &Edit) {
    let mut all = Vec::new();
    places(document, String::new(), &mut all);
    let path = &all[at.index(all.len())];
    let new = match edit {
        Edit::Replace(value) => Some(value.clone()),
        Edit::Copy(from) => document.pointer(&all[from.index(all.len())]).cloned(),
        Edit::Repeat | Edit::Remove => None,
    };
    if let (Some(new), Some(place)) = (new, document.pointer_mut(path)) {
        *place = new;
        return;
    }
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", ""));
    match document.pointer_mut(parent) {
        Some(Value::Array(list)) => {
            let Ok(index) = key.parse::<usize>() else {
                return;
            };
            match edit {
                Edit::Repeat => list.insert(index, list[index].clone()),
                _ => drop(list.remove(index)),
            }
        }
        Some(Value::Object(map)) => drop(map.remove(key)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_documents_never_panic_and_never_load_unsound(
        speech: bool,
        edits in prop::collection::vec(
            (
                any::<prop::sample::Index>(),
                prop_oneof![
                    4 => replacement().prop_map(Edit::Replace),
                    2 => any::<prop::sample::Index>().prop_map(Edit::Copy),
                    1 => Just(Edit::Repeat),
                    1 => Just(Edit::Remove),
                ],
            ),
            1..4,
        ),
    ) {
        let bytes = if speech { &SPEECH } else { &SINGLE };
        let bytes = edited(bytes, |document| {
            for (at, edit) in &edits {
                apply(document, *at, edit);
            }
        });
        if let Ok(model) = load(&bytes) {
            assert_sound(&model);
        }
    }

    #[test]
    fn changed_bytes_never_panic_and_never_load_unsound(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        in_header: bool,
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = SINGLE.clone();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, byte) in edits {
            let at = at.index(if in_header { header + 8 } else { bytes.len() });
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(model) = load(&bytes) {
            assert_sound(&model);
        }
    }
}
