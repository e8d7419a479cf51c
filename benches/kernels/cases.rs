//! Benchmark cases: the hot shapes of both models, each as a graph with its operation count.

use maeum::nn::dropout::philox4x32;
use maeum::nn::layers::{
    Activation, BatchNorm, Conv, Dense, DepthwiseConv, Gru, Lstm, Padding, Pool, PoolKind,
    Recurrent,
};
use maeum::nn::{Graph, Input, Layer, Node, Output, ValueId, Weight, WeightId};

pub struct Case {
    pub name: String,
    pub graph: Graph,
    pub shapes: Vec<Vec<usize>>,
    pub rows: usize,
    /// Operations of all rows, without products with zero padding.
    pub operations: u64,
    /// Operations of all rows, including products with zero padding.
    pub with_padding: u64,
}

impl Case {
    /// Returns noise for every input.
    pub fn inputs(&self) -> Vec<Vec<f32>> {
        let numbers = |shape: &Vec<usize>| noise(self.rows * shape.iter().product::<usize>());
        self.shapes.iter().map(numbers).collect()
    }
}

pub fn all() -> Vec<Case> {
    vec![
        windows_conv([200, 40, 1], 8),
        windows_conv([100, 20, 8], 16),
        windows_conv([50, 10, 16], 32),
        features_conv([40, 40, 1], 16),
        features_conv([20, 20, 16], 32),
        features_conv([10, 10, 32], 64),
        scaled_conv([20, 20, 16], 32),
        depthwise_conv([50, 20, 64]),
        series_conv([200, 44], 64),
        series_conv([100, 64], 96),
        lstm(5),
        lstm(14),
        gru(1),
        gru(5),
        dense(25, 160, 256),
        dense(1, 1600, 16),
        dense(1, 128, 128),
    ]
}

/// Returns reproducible noise in [-1, 1).
fn noise(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let word = philox4x32([(i / 4) as u32, 0, 0, 0], [0; 2])[i % 4];
            (word >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Builder of a graph of consecutive layers.
struct Chain(Graph);

impl Chain {
    fn new(shapes: &[Vec<usize>]) -> Self {
        let input = |(i, shape): (usize, &Vec<usize>)| Input {
            name: format!("input{i}"),
            shape: shape.iter().map(|&n| Some(n)).collect(),
        };
        Self(Graph {
            inputs: shapes.iter().enumerate().map(input).collect(),
            ..Graph::default()
        })
    }

    /// Adds a weight with elements between `offset - scale` and `offset + scale`.
    fn weight(&mut self, shape: &[usize], scale: f32, offset: f32) -> WeightId {
        let data = noise(shape.iter().product()).into_iter();
        self.0.weights.push(Weight {
            name: format!("weight{}", self.0.weights.len()),
            shape: shape.to_vec(),
            data: data.map(|x| x * scale + offset).collect(),
        });
        WeightId(self.0.weights.len() - 1)
    }

    /// Adds a layer that reads the last layer, or the inputs.
    fn then(mut self, layer: Layer) -> Self {
        let inputs = match self.0.nodes.len() {
            0 => (0..self.0.inputs.len()).map(ValueId).collect(),
            n => vec![self.0.output_of(n - 1)],
        };
        self.0.nodes.push(Node {
            name: format!("layer{}", self.0.nodes.len()),
            layer,
            inputs,
            outer: 0,
        });
        self
    }

    fn conv(mut self, kernel: &[usize], activation: Activation) -> Self {
        let layer = Layer::Conv(Conv {
            kernel: self.weight(kernel, 1.0, 0.0),
            bias: Some(self.weight(&kernel[kernel.len() - 1..], 1.0, 0.0)),
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Same,
            activation,
        });
        self.then(layer)
    }

    fn batch_norm(mut self, channels: usize) -> Self {
        let layer = Layer::BatchNorm(BatchNorm {
            gamma: Some(self.weight(&[channels], 0.5, 1.0)),
            beta: Some(self.weight(&[channels], 0.5, 0.0)),
            mean: self.weight(&[channels], 0.5, 0.0),
            variance: self.weight(&[channels], 0.5, 1.0),
            epsilon: 1e-3,
        });
        self.then(layer)
    }

    fn max_pool(self, size: [usize; 2]) -> Self {
        self.then(Layer::Pool(Pool {
            kind: PoolKind::Max,
            size,
            strides: size,
            padding: Padding::Valid,
        }))
    }

    fn recurrent(
        &mut self,
        inputs: usize,
        units: usize,
        gates: usize,
        bias: &[usize],
    ) -> Recurrent {
        Recurrent {
            kernel: self.weight(&[inputs, gates * units], 0.2, 0.0),
            recurrent_kernel: self.weight(&[units, gates * units], 0.2, 0.0),
            bias: Some(self.weight(bias, 0.2, 0.0)),
            activation: Activation::Tanh,
            recurrent_activation: Activation::HardSigmoid,
            return_sequences: true,
            go_backwards: false,
            stateful: false,
        }
    }

    /// Completes the case; `products` are those of a row, without and with zero padding.
    fn case(
        mut self,
        name: String,
        shapes: Vec<Vec<usize>>,
        rows: usize,
        products: [usize; 2],
    ) -> Case {
        self.0.name = name.clone();
        self.0.outputs = vec![Output {
            name: "output".into(),
            value: self.0.output_of(self.0.nodes.len() - 1),
        }];
        let [operations, with_padding] = products.map(|products| 2 * (rows * products) as u64);
        Case {
            name,
            graph: self.0,
            shapes,
            rows,
            operations,
            with_padding,
        }
    }
}

/// Returns the taps of a kernel of `side` that lie within an image of `length`, summed over its
/// positions.
fn taps(length: usize, side: usize) -> usize {
    let reach = side / 2;
    (0..length)
        .map(|x| (x + reach).min(length - 1) - x.saturating_sub(reach) + 1)
        .sum()
}

/// A convolution of the 2020 window networks.
fn windows_conv([height, width, channels]: [usize; 3], filters: usize) -> Case {
    let shapes = vec![vec![height, width, channels]];
    Chain::new(&shapes)
        .conv(&[5, 5, channels, filters], Activation::Relu)
        .max_pool([2, 2])
        .case(
            format!("conv 5x5 {channels} to {filters} on {height}x{width}, ReLU, pool"),
            shapes,
            1,
            [taps(height, 5) * taps(width, 5), height * width * 25]
                .map(|taps| taps * channels * filters),
        )
}

/// A depthwise convolution of a separable one.
fn depthwise_conv([height, width, channels]: [usize; 3]) -> Case {
    let shapes = vec![vec![height, width, channels]];
    let mut chain = Chain::new(&shapes);
    let layer = Layer::DepthwiseConv(DepthwiseConv {
        kernel: chain.weight(&[3, 3, channels, 1], 1.0, 0.0),
        bias: None,
        strides: [1, 1],
        dilation: [1, 1],
        padding: Padding::Same,
        activation: Activation::Linear,
    });
    chain.then(layer).case(
        format!("depthwise conv 3x3 of {channels} on {height}x{width}"),
        shapes,
        1,
        [taps(height, 3) * taps(width, 3), height * width * 9].map(|taps| taps * channels),
    )
}

/// A convolution of the 2020 feature network.
fn features_conv([height, width, channels]: [usize; 3], filters: usize) -> Case {
    let shapes = vec![vec![height, width, channels]];
    Chain::new(&shapes)
        .conv(&[3, 3, channels, filters], Activation::Relu)
        .batch_norm(filters)
        .max_pool([2, 2])
        .case(
            format!("conv 3x3 {channels} to {filters} on {height}x{width}, ReLU, norm, pool"),
            shapes,
            1,
            [taps(height, 3) * taps(width, 3), height * width * 9]
                .map(|taps| taps * channels * filters),
        )
}

/// A convolution of the 2020 feature network on channel-scaled maps.
fn scaled_conv([height, width, channels]: [usize; 3], filters: usize) -> Case {
    let shapes = vec![vec![height, width, channels], vec![channels]];
    Chain::new(&shapes)
        .then(Layer::ChannelMultiply)
        .conv(&[3, 3, channels, filters], Activation::Relu)
        .batch_norm(filters)
        .max_pool([2, 2])
        .case(
            format!(
                "scaled conv 3x3 {channels} to {filters} on {height}x{width}, ReLU, norm, pool"
            ),
            shapes,
            1,
            [taps(height, 3) * taps(width, 3), height * width * 9]
                .map(|taps| taps * channels * filters),
        )
}

/// A convolution of the built-in model.
fn series_conv([time, channels]: [usize; 2], filters: usize) -> Case {
    let shapes = vec![vec![time, channels]];
    Chain::new(&shapes)
        .conv(&[5, channels, filters], Activation::Linear)
        .batch_norm(filters)
        .then(Layer::Activation(Activation::Relu))
        .max_pool([2, 1])
        .case(
            format!("conv 5 {channels} to {filters} on {time}, norm, ReLU, pool"),
            shapes,
            1,
            [taps(time, 5), time * 5].map(|taps| taps * channels * filters),
        )
}

/// An LSTM of the 2020 window networks.
fn lstm(windows: usize) -> Case {
    const STEPS: usize = 25;
    const INPUTS: usize = 160;
    const UNITS: usize = 64;
    let shapes = vec![vec![STEPS, INPUTS]];
    let mut chain = Chain::new(&shapes);
    let recurrent = chain.recurrent(INPUTS, UNITS, 4, &[4 * UNITS]);
    chain.then(Layer::Lstm(Lstm { recurrent })).case(
        format!("LSTM {UNITS} over {STEPS}x{INPUTS}, {windows} windows"),
        shapes,
        windows,
        [STEPS * (INPUTS + UNITS) * 4 * UNITS; 2],
    )
}

/// A GRU of the built-in model.
fn gru(windows: usize) -> Case {
    const STEPS: usize = 50;
    const INPUTS: usize = 96;
    const UNITS: usize = 48;
    let shapes = vec![vec![STEPS, INPUTS]];
    let mut chain = Chain::new(&shapes);
    let mut recurrent = chain.recurrent(INPUTS, UNITS, 3, &[2, 3 * UNITS]);
    recurrent.recurrent_activation = Activation::Sigmoid;
    let layer = Layer::Gru(Gru {
        recurrent,
        reset_after: true,
    });
    chain.then(layer).case(
        format!("GRU {UNITS} over {STEPS}x{INPUTS}, {windows} windows"),
        shapes,
        windows,
        [STEPS * (INPUTS + UNITS) * 3 * UNITS; 2],
    )
}

fn dense(rows: usize, inputs: usize, units: usize) -> Case {
    let shapes = vec![vec![inputs]];
    let mut chain = Chain::new(&shapes);
    let layer = Layer::Dense(Dense {
        kernel: chain.weight(&[inputs, units], 1.0, 0.0),
        bias: Some(chain.weight(&[units], 1.0, 0.0)),
        activation: Activation::Linear,
    });
    chain.then(layer).case(
        format!("dense {inputs} to {units}, {rows} rows"),
        shapes,
        rows,
        [inputs * units; 2],
    )
}
