//! Speech model of five tiny networks with seeded weights, and synthetic recordings that a voice
//! activity detector accepts.
#![allow(dead_code)] // each test binary uses its own part

use std::path::Path;

use maeum::model::ModelInfo;
use maeum::model::{Model, Network, Role};
use maeum::nn::layers::{
    Activation, Concat, Dense, Dropout, Merge, MergeOp, Padding, Permute, Pool, PoolKind, Reshape,
    SumAxis,
};
use maeum::nn::network::Provenance;
use maeum::nn::{Graph, Input, Layer, Node, Output, ValueId, Weight, WeightId};

/// Number of cells of the attention pool: 200 frames, pooled by 8.
pub const CELLS: usize = 25;

/// Returns a value in [-1, 1) for each (stream, index), by splitmix64's mixing function.
pub fn noise(stream: u64, index: u64) -> f64 {
    let mut z = (stream << 32 | index).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ z >> 31) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

struct Builder {
    graph: Graph,
    seed: u64,
}

impl Builder {
    fn new(name: &str, seed: u64, inputs: &[(&str, &[usize])]) -> Self {
        let inputs = inputs.iter().map(|(name, shape)| Input {
            name: (*name).into(),
            shape: shape.iter().map(|&d| Some(d)).collect(),
        });
        let graph = Graph {
            name: name.into(),
            inputs: inputs.collect(),
            ..Graph::default()
        };
        Self { graph, seed }
    }

    fn add(&mut self, layer: Layer, inputs: &[ValueId]) -> ValueId {
        let number = self.graph.nodes.len();
        self.graph.nodes.push(Node {
            name: format!("{}_{number}", layer.class()),
            layer,
            inputs: inputs.to_vec(),
            outer: 0,
        });
        self.graph.output_of(number)
    }

    fn weight(&mut self, shape: &[usize], scale: f64) -> WeightId {
        let id = self.graph.weights.len();
        let stream = self.seed * 100 + id as u64;
        let count = shape.iter().product::<usize>() as u64;
        self.graph.weights.push(Weight {
            name: format!("weight_{id}"),
            shape: shape.to_vec(),
            data: (0..count)
                .map(|i| (noise(stream, i) * scale) as f32)
                .collect(),
        });
        WeightId(id)
    }

    fn dense(&mut self, x: ValueId, terms: usize, units: usize, activation: Activation) -> ValueId {
        let kernel = self.weight(&[terms, units], 1.5 / (terms as f64).sqrt());
        let bias = Some(self.weight(&[units], 0.3));
        let layer = Layer::Dense(Dense {
            kernel,
            bias,
            activation,
        });
        self.add(layer, &[x])
    }

    fn pool(&mut self, x: ValueId, size: [usize; 2]) -> ValueId {
        let pool = Pool {
            kind: PoolKind::Average,
            size,
            strides: size,
            padding: Padding::Valid,
        };
        self.add(Layer::Pool(pool), &[x])
    }

    fn output(&mut self, name: &str, value: ValueId) {
        let name = name.into();
        self.graph.outputs.push(Output { name, value });
    }

    fn network(self, role: Role) -> Network {
        let mut network = Network {
            role,
            provenance: Provenance {
                file: format!("{role}.h5"),
                ..Provenance::default()
            },
            graph: self.graph,
            self_test: None,
        };
        network.make_self_test().unwrap();
        network
    }
}

const MEL: (&str, &[usize]) = ("mel", &[200, 40, 1]);
const X: ValueId = ValueId(0);

/// Returns the window network with the attention pool that the recogniser exposes: softmax over
/// time per unit.
fn emotion_windows(emotions: usize) -> Network {
    const UNITS: usize = 6;
    let mut b = Builder::new("emotion", 1, &[MEL]);
    let pooled = b.pool(X, [200 / CELLS, 8]);
    let rows = b.add(
        Layer::Reshape(Reshape {
            shape: vec![Some(CELLS), Some(5)],
        }),
        &[pooled],
    );
    let sequence = b.dense(rows, 5, UNITS, Activation::Tanh);
    let swap = || Layer::Permute(Permute { order: vec![1, 0] });
    let by_unit = b.add(swap(), &[sequence]);
    let attention = b.dense(by_unit, CELLS, CELLS, Activation::Softmax);
    let by_time = b.add(swap(), &[attention]);
    let multiply = Layer::Merge(Merge {
        op: MergeOp::Multiply,
    });
    let weighed = b.add(multiply, &[sequence, by_time]);
    let summed = b.add(Layer::SumAxis(SumAxis { axis: 0 }), &[weighed]);
    let answer = b.dense(summed, UNITS, emotions, Activation::Softmax);
    b.output("emotion", answer);
    b.network(Role::EmotionWindows)
}

fn window_network(role: Role, seed: u64, units: usize, activation: Activation) -> Network {
    let mut b = Builder::new(role.name(), seed, &[MEL]);
    let pooled = b.pool(X, [50, 8]);
    let flat = b.add(Layer::Flatten, &[pooled]);
    let answer = b.dense(flat, 20, units, activation);
    b.output("answer", answer);
    b.network(role)
}

/// Returns the feature network with one output per branch and a merged one, through forced dropout.
fn emotion_features(emotions: usize) -> Network {
    let branches: [(&str, &[usize]); 4] = [
        ("dct", &[40, 40, 1]),
        ("dst", &[40, 40, 1]),
        ("histogram", &[40, 40, 1]),
        ("moments", &[40, 8, 1]),
    ];
    let mut b = Builder::new("features", 4, &branches);
    let mut answers = Vec::new();
    for (i, (_, shape)) in branches.iter().enumerate() {
        let pooled = b.pool(ValueId(i), [8, 8]);
        let flat = b.add(Layer::Flatten, &[pooled]);
        let hidden = b.dense(flat, 5 * shape[1] / 8, 16, Activation::Relu);
        let dropout = Dropout {
            rate: 0.5,
            forced: true,
            per_channel: false,
        };
        let dropped = b.add(Layer::Dropout(dropout), &[hidden]);
        answers.push(b.dense(dropped, 16, emotions, Activation::Linear));
    }
    let all = b.add(Layer::Concat(Concat { axis: 0 }), &answers);
    answers.push(b.dense(all, 4 * emotions, emotions, Activation::Linear));
    for (i, answer) in answers.into_iter().enumerate() {
        let softmax = b.add(Layer::Activation(Activation::Softmax), &[answer]);
        b.output(&format!("output_{i}"), softmax);
    }
    b.network(Role::EmotionFeatures)
}

fn merge(emotions: usize) -> Network {
    let names = ["windows", "dct", "dst", "histogram", "moments", "total"];
    let shape = [emotions];
    let inputs = names.map(|name| (name, &shape[..]));
    let mut b = Builder::new("merge", 5, &inputs);
    let all: Vec<ValueId> = (0..names.len()).map(ValueId).collect();
    let all = b.add(Layer::Concat(Concat { axis: 0 }), &all);
    let answer = b.dense(all, names.len() * emotions, emotions, Activation::Softmax);
    b.output("emotion", answer);
    b.network(Role::Merge)
}

/// Returns a speech model with the labels of `info`.
pub fn speech_model(info: ModelInfo) -> Model {
    let emotions = info.emotions.len();
    let genders = info.genders.len();
    let networks = vec![
        emotion_windows(emotions),
        window_network(Role::Age, 2, 1, Activation::Linear),
        window_network(Role::Gender, 3, genders, Activation::Sigmoid),
        emotion_features(emotions),
        merge(emotions),
    ];
    Model::new(networks, info).unwrap()
}

/// Returns a model with a single network.
pub fn single_network() -> Model {
    let network = Network {
        role: Role::Network,
        ..merge(3)
    };
    Model::new(vec![network], ModelInfo::network("single")).unwrap()
}

/// Returns syllables of a hummed voice: harmonics of a gliding pitch under a formant-like slope,
/// with pauses and half a second of faint noise at both ends.
pub fn speech_like(seconds: f64, rate: u32, pitch: f64) -> Vec<f32> {
    const EDGE: f64 = 0.5;
    let count = (seconds * f64::from(rate)) as usize;
    let mut phase = 0.0;
    (0..count)
        .map(|i| {
            let t = i as f64 / f64::from(rate);
            let hiss = noise(9, i as u64) * 0.0005;
            phase += pitch * (1.0 + 0.1 * (t * 5.0).sin()) / f64::from(rate);
            if t < EDGE || t > seconds - EDGE {
                return hiss as f32;
            }
            let syllable = ((t - EDGE) * 4.0).fract();
            let loudness = if syllable < 0.75 {
                (syllable / 0.75 * std::f64::consts::PI).sin()
            } else {
                0.0
            };
            let voice: f64 = (1..=15)
                .map(|h| {
                    let formant = 1.0 / (1.0 + ((f64::from(h) * pitch - 600.0) / 400.0).powi(2));
                    (phase * f64::from(h) * std::f64::consts::TAU).sin() * formant
                })
                .sum();
            (voice * loudness * 0.1 + hiss) as f32
        })
        .collect()
}

/// Writes a 16-bit mono file.
pub fn write_wav(path: &Path, rate: u32, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for x in samples {
        writer.write_sample((x * 32767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}
