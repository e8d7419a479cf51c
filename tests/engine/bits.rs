//! Bit-exact results of a network, the same on every CPU.

use std::sync::Arc;

use crate::graphs::numbers;
use maeum::nn::layers::{
    Activation, BatchNorm, Conv, Dense, Dropout, GlobalPool, Gru, Interpolation, Lstm, Merge,
    MergeOp, Padding, Pool, PoolKind, Recurrent, Reshape, Softmax, SumAxis, Upsample,
};
use maeum::nn::{
    DropoutMode, Graph, Input, Layer, Node, Output, Plan, Session, ValueId, Weight, WeightId,
};
use maeum::simd::Isa;
use sha2::{Digest, Sha256};

const INPUT: [usize; 3] = [40, 26, 1];
const BATCH: usize = 3;
const DRAWS: u32 = 5;
const SEED: u64 = 2020;

/// Each layer of [`network`] with the first digits of the SHA-256 of its outputs' bits, for the
/// dropout draws above. The hashes depend on the fixed orders of summation; after a change of an
/// order the failing test prints all new ones. A difference between two CPUs is a bug.
const WANTED: &[(&str, &str)] = &[
    ("first convolution", "ada3cf02"),
    ("maximum", "15487b6f"),
    ("normalisation", "8d32530a"),
    ("global", "a900531d"),
    ("attention", "8bc980d8"),
    ("attention softmax", "31bee261"),
    ("channels scaled", "a365483d"),
    ("second convolution", "967e4745"),
    ("units dropped", "1eddd819"),
    ("third convolution", "6ee080e5"),
    ("channels dropped", "7be13f06"),
    ("average", "db246804"),
    ("finer", "919ddf90"),
    ("sequence", "919ddf90"),
    ("LSTM", "9fdf7dca"),
    ("GRU", "edaa9448"),
    ("both", "4248a362"),
    ("dense", "719bdc0d"),
    ("exponential", "df71a32a"),
    ("over time", "929c2582"),
    ("last", "c62143a0"),
    ("softmax", "b582a87e"),
];

/// Builder of a graph of consecutive layers.
struct Chain {
    graph: Graph,
    last: ValueId,
}

impl Chain {
    /// Adds a weight scaled so that sums of `terms` products stay near 1.
    fn weight(&mut self, shape: &[usize], terms: usize, offset: f32) -> WeightId {
        let id = self.graph.weights.len();
        let scale = 2.0 / (terms as f32).sqrt();
        let uniform = numbers(id as u32 + 1, shape.iter().product(), false);
        self.graph.weights.push(Weight {
            name: format!("weight{id}"),
            shape: shape.to_vec(),
            data: uniform.into_iter().map(|x| x * scale + offset).collect(),
        });
        WeightId(id)
    }

    fn then(&mut self, name: &str, layer: Layer) -> ValueId {
        let last = self.last;
        self.of(name, layer, vec![last])
    }

    fn of(&mut self, name: &str, layer: Layer, inputs: Vec<ValueId>) -> ValueId {
        self.last = self.graph.output_of(self.graph.nodes.len());
        self.graph.nodes.push(Node {
            name: name.into(),
            layer,
            inputs,
            outer: 0,
        });
        self.last
    }

    fn conv(&mut self, kernel: [usize; 4], padding: Padding, activation: Activation) -> Layer {
        let terms = kernel[..3].iter().product();
        Layer::Conv(Conv {
            kernel: self.weight(&kernel, terms, 0.0),
            bias: Some(self.weight(&kernel[3..], 16, 0.0)),
            strides: [1, 1],
            dilation: [1, 1],
            padding,
            activation,
        })
    }

    fn batch_norm(&mut self, channels: usize) -> Layer {
        Layer::BatchNorm(BatchNorm {
            gamma: Some(self.weight(&[channels], 16, 1.0)),
            beta: Some(self.weight(&[channels], 16, 0.0)),
            mean: self.weight(&[channels], 16, 0.0),
            variance: self.weight(&[channels], 16, 1.0),
            epsilon: 1e-3,
        })
    }

    fn dense(&mut self, inputs: usize, units: usize, activation: Activation) -> Layer {
        Layer::Dense(Dense {
            kernel: self.weight(&[inputs, units], inputs, 0.0),
            bias: Some(self.weight(&[units], 16, 0.0)),
            activation,
        })
    }

    fn recurrent(
        &mut self,
        inputs: usize,
        units: usize,
        gates: usize,
        bias: &[usize],
    ) -> Recurrent {
        Recurrent {
            kernel: self.weight(&[inputs, gates * units], inputs, 0.0),
            recurrent_kernel: self.weight(&[units, gates * units], units, 0.0),
            bias: Some(self.weight(bias, 16, 0.0)),
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            return_sequences: true,
            go_backwards: false,
            stateful: false,
        }
    }
}

/// Returns a network like those of the models. Its layers use only additions, multiplications,
/// divisions and square roots; ELU, SELU, softplus, GELU and Mish are left out because they call
/// the platform's maths library.
fn network() -> Graph {
    let mut c = Chain {
        graph: Graph {
            name: "bits".into(),
            ..Graph::default()
        },
        last: ValueId(0),
    };
    c.graph.inputs.push(Input {
        name: "input".into(),
        shape: INPUT.map(Some).to_vec(),
    });

    let layer = c.conv([3, 3, 1, 12], Padding::Same, Activation::Relu);
    c.then("first convolution", layer);
    let max = Layer::Pool(Pool {
        kind: PoolKind::Max,
        size: [2, 2],
        strides: [2, 2],
        padding: Padding::Valid,
    });
    c.then("maximum", max);
    let layer = c.batch_norm(12);
    let trunk = c.then("normalisation", layer);
    c.then(
        "global",
        Layer::GlobalPool(GlobalPool {
            kind: PoolKind::Average,
            keep_dims: false,
        }),
    );
    let layer = c.dense(12, 12, Activation::Tanh);
    c.then("attention", layer);
    let softmax = Layer::Activation(Activation::Softmax);
    let attention = c.then("attention softmax", softmax);
    let scaled = c.of(
        "channels scaled",
        Layer::ChannelMultiply,
        vec![trunk, attention],
    );
    let layer = c.conv(
        [5, 4, 12, 35],
        Padding::Valid,
        Activation::LeakyRelu { alpha: 0.3 },
    );
    c.of("second convolution", layer, vec![scaled]);
    c.then(
        "units dropped",
        Layer::Dropout(Dropout {
            rate: 0.3,
            forced: true,
            per_channel: false,
        }),
    );
    let layer = c.conv([1, 1, 35, 16], Padding::Valid, Activation::HardSigmoid);
    c.then("third convolution", layer);
    c.then(
        "channels dropped",
        Layer::Dropout(Dropout {
            rate: 0.2,
            forced: true,
            per_channel: true,
        }),
    );
    let average = Layer::Pool(Pool {
        kind: PoolKind::Average,
        size: [2, 3],
        strides: [1, 1],
        padding: Padding::Same,
    });
    c.then("average", average);
    c.then(
        "finer",
        Layer::Upsample(Upsample {
            factor: [1, 2],
            interpolation: Interpolation::BilinearLegacy,
        }),
    );
    let shape = vec![Some(16), None];
    let sequence = c.then("sequence", Layer::Reshape(Reshape { shape }));
    let layer = c.recurrent(320, 24, 4, &[96]);
    let lstm = c.then("LSTM", Layer::Lstm(Lstm { recurrent: layer }));
    let recurrent = Recurrent {
        go_backwards: true,
        stateful: false,
        ..c.recurrent(320, 24, 3, &[2, 72])
    };
    let reset_after = true;
    let gru = c.of(
        "GRU",
        Layer::Gru(Gru {
            recurrent,
            reset_after,
        }),
        vec![sequence],
    );
    let op = MergeOp::Average;
    c.of("both", Layer::Merge(Merge { op }), vec![lstm, gru]);
    let layer = c.dense(24, 40, Activation::Swish);
    c.then("dense", layer);
    c.then("exponential", Layer::Activation(Activation::Exponential));
    c.then("over time", Layer::SumAxis(SumAxis { axis: 0 }));
    let layer = c.dense(40, 33, Activation::Softsign);
    let dense = c.then("last", layer);
    let softmax = c.then("softmax", Layer::Softmax(Softmax { axis: 0 }));
    for value in [dense, softmax] {
        c.graph.outputs.push(Output {
            name: format!("out{}", value.0),
            value,
        });
    }
    c.graph
}

fn hash(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let hash = Sha256::digest(bytes);
    hash.iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn run(plan: Plan, input: &[f32]) -> Session {
    let mut session = Session::new(&Arc::new(plan));
    let mode = DropoutMode::draws(DRAWS, SEED);
    session.run(&[input], BATCH, &mode).unwrap();
    session
}

#[test]
fn every_number_has_the_same_bits_on_every_processor() {
    let graph = network();
    let shapes = [INPUT.to_vec()];
    let input = numbers(0, BATCH * INPUT.iter().product::<usize>(), false);
    let all = run(Plan::keeping_all(&graph, &shapes).unwrap(), &input);
    let values: Vec<&[f32]> = (0..graph.nodes.len())
        .map(|node| all.value(graph.output_of(node)).expect("all are kept"))
        .collect();
    for (node, values) in graph.nodes.iter().zip(&values) {
        assert!(values.iter().all(|x| x.is_finite()), "{}", node.name);
        assert!(values.iter().any(|&x| x != values[0]), "{}", node.name);
    }
    let got: Vec<(&str, String)> = graph
        .nodes
        .iter()
        .zip(&values)
        .map(|(node, values)| (&*node.name, hash(values)))
        .collect();
    let wanted: Vec<(&str, String)> = WANTED.iter().map(|&(n, h)| (n, h.to_string())).collect();
    assert!(got == wanted, "instead of the wanted bits: {got:#?}");

    for isa in Isa::available() {
        let session = run(Plan::with_isa(&graph, &shapes, isa).unwrap(), &input);
        for (k, output) in graph.outputs.iter().enumerate() {
            let node = output.value.0 - graph.inputs.len();
            assert_eq!(hash(session.output(k)), got[node].1, "{}", isa.name());
        }
    }
}
