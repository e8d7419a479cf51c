//! Small handmade models as bundles, and helpers to modify bundles.

use std::sync::{Arc, LazyLock};

use maeum::model::ModelInfo;
use maeum::model::bundle;
use maeum::model::bundle::BundleError;
use maeum::model::{Model, Network, Role};
use maeum::nn::graph::{Graph, Input, Node, Output, ValueId, Weight, WeightId};
use maeum::nn::layers::{
    Activation, BatchNorm, Concat, Conv, Dense, Dropout, GlobalPool, Interpolation, Layer, Lstm,
    Merge, MergeOp, Padding, Permute, Pool, PoolKind, Recurrent, RepeatVector, Reshape, SumAxis,
    Upsample, ZeroPad,
};
use maeum::nn::network::Provenance;
use maeum::nn::{DropoutMode, Plan, Session, cost};
use serde_json::Value;

/// Graph builder; weights are small values in a fixed pattern.
#[derive(Default)]
pub struct Builder(pub Graph);

impl Builder {
    pub fn new(name: &str, inputs: &[&[Option<usize>]]) -> Self {
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

    pub fn weight(&mut self, shape: &[usize]) -> WeightId {
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

    pub fn node(&mut self, layer: Layer, inputs: &[usize]) -> usize {
        let value = self.0.inputs.len() + self.0.nodes.len();
        self.0.nodes.push(Node {
            name: format!("node_{value}"),
            layer,
            inputs: inputs.iter().map(|&v| ValueId(v)).collect(),
            outer: 0,
        });
        value
    }

    pub fn dense(&mut self, input: usize, inputs: usize, units: usize) -> usize {
        let layer = Layer::Dense(Dense {
            kernel: self.weight(&[inputs, units]),
            bias: Some(self.weight(&[units])),
            activation: Activation::Softmax,
        });
        self.node(layer, &[input])
    }

    pub fn mean(&mut self, input: usize) -> usize {
        let layer = Layer::GlobalPool(GlobalPool {
            kind: PoolKind::Average,
            keep_dims: false,
        });
        self.node(layer, &[input])
    }

    pub fn build(mut self, outputs: &[usize]) -> Graph {
        let outputs = outputs.iter().map(|&v| Output {
            name: format!("output_{v}"),
            value: ValueId(v),
        });
        self.0.outputs = outputs.collect();
        self.0
    }
}

pub fn network(role: Role, graph: Graph) -> Network {
    let mut network = Network {
        role,
        graph,
        provenance: Provenance {
            file: "from.h5".into(),
            sha256: "00".into(),
            keras_version: Some("2.2.4".into()),
            backend: Some("tensorflow".into()),
        },
        self_test: None,
    };
    network.make_self_test().unwrap();
    network
}

/// Returns one network with most kinds of layers.
pub fn single() -> Model {
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
    let up = Layer::Upsample(Upsample {
        factor: [2, 1],
        interpolation: Interpolation::BilinearLegacy,
    });
    let x = b.node(up, &[x]);
    let pad = Layer::ZeroPad(ZeroPad {
        top: 1,
        bottom: 0,
        left: 0,
        right: 1,
    });
    let x = b.node(pad, &[x]);
    let shape = vec![Some(9), None];
    let x = b.node(Layer::Reshape(Reshape { shape }), &[x]);
    let lstm = Recurrent {
        kernel: b.weight(&[16, 12]),
        recurrent_kernel: b.weight(&[3, 12]),
        bias: Some(b.weight(&[12])),
        activation: Activation::Tanh,
        recurrent_activation: Activation::HardSigmoid,
        return_sequences: false,
        go_backwards: false,
        stateful: false,
    };
    let x = b.node(Layer::Lstm(Lstm { recurrent: lstm }), &[x]);
    let dropout = Dropout {
        rate: 0.5,
        forced: true,
        per_channel: false,
    };
    let x = b.node(Layer::Dropout(dropout), &[x]);
    let sequence = b.node(Layer::SumAxis(SumAxis { axis: 0 }), &[1]);
    let both = b.node(Layer::Concat(Concat { axis: 0 }), &[x, sequence]);
    let repeated = b.node(Layer::RepeatVector(RepeatVector { count: 2 }), &[both]);
    let order = vec![1, 0];
    let permuted = b.node(Layer::Permute(Permute { order }), &[repeated]);
    let op = MergeOp::Multiply;
    let squared = b.node(Layer::Merge(Merge { op }), &[permuted, permuted]);
    let last = b.dense(both, 5, 3);
    let graph = b.build(&[last, squared]);
    let info = ModelInfo::network("single");
    Model::new(vec![network(Role::Network, graph)], info).unwrap()
}

/// Returns the smallest networks for the five roles.
pub fn speech() -> Model {
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
    let all = b.node(Layer::Concat(Concat { axis: 0 }), &means);
    outputs.push(b.dense(all, 4, 7));
    let features = b.build(&outputs);
    let seven: &[Option<usize>] = &[Some(7)];
    let mut b = Builder::new("merge", &[seven; 6]);
    let all = b.node(Layer::Concat(Concat { axis: 0 }), &[0, 1, 2, 3, 4, 5]);
    let out = b.dense(all, 42, 7);
    let networks = vec![
        network(Role::EmotionWindows, window("emotions", 7)),
        network(Role::Age, window("age", 1)),
        network(Role::Gender, window("gender", 2)),
        network(Role::EmotionFeatures, features),
        network(Role::Merge, b.build(&[out])),
    ];
    Model::new(networks, ModelInfo::legacy2020()).unwrap()
}

pub static SINGLE: LazyLock<Vec<u8>> = LazyLock::new(|| bundle::to_bytes(&single()));
pub static SPEECH: LazyLock<Vec<u8>> = LazyLock::new(|| bundle::to_bytes(&speech()));

pub fn load(bytes: &[u8]) -> Result<Model, BundleError> {
    bundle::from_bytes(bytes, "x.safetensors")
}

/// Splits a safetensors file into header and data.
pub fn split(bytes: &[u8]) -> (Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (header, bytes[8 + length..].to_vec())
}

pub fn join(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// Returns the bundle with a modified document.
pub fn edited(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut header, data) = split(bytes);
    let text = &mut header["__metadata__"][bundle::METADATA_KEY];
    let mut document = serde_json::from_str(text.as_str().unwrap()).unwrap();
    edit(&mut document);
    *text = Value::String(document.to_string());
    join(&header, &data)
}

/// Returns the bundle with `number` at `index` of an `F32` tensor.
pub fn tampered(bytes: &[u8], tensor: &str, index: usize, number: f32) -> Vec<u8> {
    let (header, mut data) = split(bytes);
    assert_eq!(header[tensor]["dtype"], "F32");
    let start = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 4 * index;
    data[start..start + 4].copy_from_slice(&number.to_le_bytes());
    join(&header, &data)
}

/// Checks invariants of a loaded model. Its self-test must not panic.
pub fn assert_sound(model: &Model) {
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
        // Larger networks are allowed but take too long for a test.
        if flops < 1 << 24 && largest < Some(1 << 20) {
            let plan = Arc::new(Plan::new(graph, &test.input_shapes).unwrap());
            let inputs: Vec<&[f32]> = test.inputs.iter().map(|i| &**i).collect();
            let mut session = Session::new(&plan);
            session.run(&inputs, 1, &DropoutMode::draws(2, 1)).unwrap();
            // The result of the self-test does not matter here.
            let _ = network_alone(network).self_test();
        }
    }
}

pub fn network_alone(network: &Network) -> Model {
    let mut network = network.clone();
    network.role = Role::Network;
    Model::new(vec![network], ModelInfo::network("alone")).unwrap()
}
