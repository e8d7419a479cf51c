//! LSTM and GRU.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats};
use super::shapes::{Problem, count, expect, single};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId, dense};

/// Weights and options common to LSTM (four gates) and GRU (three gates).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// `[inputs, gates * units]`.
    pub kernel: WeightId,
    /// `[units, gates * units]`.
    pub recurrent_kernel: WeightId,
    /// `[gates * units]`; for a GRU with `reset_after` `[2, 3 * units]`, input bias first. `None`
    /// is zeros.
    pub bias: Option<WeightId>,
    /// Activation of the LSTM's cell input and cell state, or of the GRU's candidate; usually tanh.
    pub activation: Activation,
    /// Activation of the other gates; often the hard sigmoid in Keras 2 files.
    pub recurrent_activation: Activation,
    /// Output `[time, units]` (in the order of processing) instead of the last `[units]`.
    pub return_sequences: bool,
    /// Process from the last time step to the first.
    pub go_backwards: bool,
    /// The last states of a run are the first states of the next one, if [`Graph::with_states`](crate::nn::Graph::with_states)
    /// makes them inputs and outputs; a run of the graph itself starts from zeros.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stateful: bool,
}

/// Long short-term memory over `[time, channels]`, gate order input, forget, cell, output.
///
/// A bundle stores it as its [`Recurrent`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lstm {
    /// Weights with four gates, and options.
    pub recurrent: Recurrent,
}

/// Gated recurrent unit over `[time, channels]`, gate order update, reset, candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gru {
    /// Weights and options as of an LSTM, with three gates.
    pub recurrent: Recurrent,
    /// The reset gate is applied after the recurrent product (two biases) instead of before.
    pub reset_after: bool,
}

impl Recurrent {
    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        [
            ("kernel", self.kernel),
            ("recurrent_kernel", self.recurrent_kernel),
        ]
        .into_iter()
        .chain(self.bias.map(|id| ("bias", id)))
        .collect()
    }

    fn activations(&self) -> Vec<Activation> {
        vec![self.activation, self.recurrent_activation]
    }

    fn rank(&self) -> usize {
        1 + usize::from(self.return_sequences)
    }

    fn shape(
        &self,
        weights: &[Weight],
        gates: usize,
        two_biases: bool,
        x: &[usize],
    ) -> Result<Vec<usize>, Problem> {
        let &[time, channels] = x else {
            return Err(format!("it takes [time, channels], not {x:?}"));
        };
        let kernel = &weights[self.kernel.0];
        let width = kernel.shape.last().copied().unwrap_or(0);
        let units = width / gates;
        if units * gates != width || units == 0 {
            return Err(format!(
                "its kernel ({}) has shape {:?}, whose last dimension is no multiple of {gates} gates",
                kernel.name, kernel.shape
            ));
        }
        expect("kernel", kernel, &[channels, width])?;
        expect(
            "recurrent kernel",
            &weights[self.recurrent_kernel.0],
            &[units, width],
        )?;
        if let Some(bias) = self.bias {
            let bias = &weights[bias.0];
            match two_biases {
                true => expect("bias", bias, &[2, width])?,
                false => expect("bias", bias, &[width])?,
            }
        }
        Ok(match self.return_sequences {
            true => vec![time, units],
            false => vec![units],
        })
    }

    /// The gates at all time steps.
    fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize {
        let width = weights[self.kernel.0].shape.last().copied();
        input[0].saturating_mul(width.unwrap_or(0))
    }

    fn flops(&self, weights: &[Weight], input: &[usize]) -> u64 {
        let (kernel, recurrent) = (&weights[self.kernel.0], &weights[self.recurrent_kernel.0]);
        let products = kernel.data.len() + recurrent.data.len();
        let width = kernel.shape[1];
        let steps = count(&input[..input.len() - 1]);
        steps.saturating_mul(2 * (products + 2 * width) as u64)
    }

    /// Calls `step` for each time step and collects the first of the states.
    fn run(&self, mut states: Vec<Vec<f64>>, x: Item, step: &Step) -> Vec<f64> {
        let mut steps: Vec<&[f64]> = x.data.chunks(x.shape[1]).collect();
        if self.go_backwards {
            steps.reverse();
        }
        let mut y = Vec::new();
        for x in steps {
            step(x, &mut states);
            y.extend(&states[0]);
        }
        match self.return_sequences {
            true => y,
            false => states.swap_remove(0),
        }
    }

    /// Returns `count` states of zeros.
    fn zeros(&self, weights: &[Weight], count: usize) -> Vec<Vec<f64>> {
        vec![vec![0.0; weights[self.recurrent_kernel.0].shape[0]]; count]
    }
}

/// One step of a recurrent layer in `f64`: updates the states, of which the first is the output.
pub(super) type Step<'a> = Box<dyn Fn(&[f64], &mut [Vec<f64>]) + 'a>;

impl Lstm {
    /// Returns the step of the states `h` and `c`.
    pub(super) fn step(&self, weights: &[Weight]) -> Step<'_> {
        let r = &self.recurrent;
        let [input, forget, cell, output] = Gate::all(weights, r);
        Box::new(move |x, states| {
            let (h, c) = states.split_at_mut(1);
            let (h, c) = (&mut h[0], &mut c[0]);
            let open = |gate: &Gate| activated(r.recurrent_activation, gate.sum(x, h));
            let (i, f, o) = (open(&input), open(&forget), open(&output));
            let candidate = activated(r.activation, cell.sum(x, h));
            let kept = zip(&f, c, |f, c| f * c);
            let added = zip(&i, &candidate, |i, g| i * g);
            *c = zip(&kept, &added, |a, b| a + b);
            *h = zip(&o, &activated(r.activation, c.clone()), |o, c| o * c);
        })
    }
}

impl Gru {
    /// Returns the step of the state `h`.
    pub(super) fn step(&self, weights: &[Weight]) -> Step<'_> {
        let r = &self.recurrent;
        let [update, reset, candidate] = Gate::all(weights, r);
        Box::new(move |x, states| {
            let h = &mut states[0];
            let open = |gate: &Gate| activated(r.recurrent_activation, gate.sum(x, h));
            let (z, reset) = (open(&update), open(&reset));
            let times = |a: f64, b: f64| a * b;
            let recurrent = match self.reset_after {
                true => zip(&reset, &candidate.state(h), times),
                false => candidate.state(&zip(&reset, h, times)),
            };
            let g = zip(&candidate.input(x), &recurrent, |a, b| a + b);
            let g = activated(r.activation, g);
            let kept = zip(&z, h, times);
            let added = zip(&z, &g, |z, g| (1.0 - z) * g);
            *h = zip(&kept, &added, |a, b| a + b);
        })
    }
}

impl LayerDefinition for Lstm {
    fn class(&self) -> &'static str {
        "LSTM"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        self.recurrent.weights()
    }

    fn activations(&self) -> Vec<Activation> {
        self.recurrent.activations()
    }

    fn rank(&self, _: &[usize]) -> usize {
        self.recurrent.rank()
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        self.recurrent.shape(weights, 4, false, single(inputs)?)
    }

    fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize {
        self.recurrent.scratch(weights, input)
    }

    fn flops(&self, weights: &[Weight], inputs: &[&[usize]], _: &[usize]) -> u64 {
        self.recurrent.flops(weights, inputs[0])
    }

    /// With the gates `i, f, o = recurrent_activation(x W + h U + b)`: `c' = f * c + i *
    /// activation(x Wc + h Uc + bc)`, `h' = o * activation(c')`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let states = self.recurrent.zeros(weights, 2);
        self.recurrent.run(states, inputs[0], &self.step(weights))
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Lstm(self))
    }
}

impl LayerDefinition for Gru {
    fn class(&self) -> &'static str {
        "GRU"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        self.recurrent.weights()
    }

    fn activations(&self) -> Vec<Activation> {
        self.recurrent.activations()
    }

    fn rank(&self, _: &[usize]) -> usize {
        self.recurrent.rank()
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        self.recurrent
            .shape(weights, 3, self.reset_after, single(inputs)?)
    }

    fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize {
        self.recurrent.scratch(weights, input)
    }

    fn flops(&self, weights: &[Weight], inputs: &[&[usize]], _: &[usize]) -> u64 {
        self.recurrent.flops(weights, inputs[0])
    }

    /// With the gates `z, r = recurrent_activation(x W + h U + b)` and the candidate `g`, which is
    /// `activation(x Wg + bg + (r * h) Ug)` or, if `reset_after`, `activation(x Wg + bg + r * (h
    /// Ug + bg'))`: `h' = z * h + (1 - z) * g`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let states = self.recurrent.zeros(weights, 1);
        self.recurrent.run(states, inputs[0], &self.step(weights))
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Gru(self))
    }
}

/// Weights of one gate, in `f64`.
struct Gate {
    kernel: Vec<f64>,
    recurrent: Vec<f64>,
    bias: Vec<f64>,
    /// Zero unless the layer has two biases.
    recurrent_bias: Vec<f64>,
}

impl Gate {
    fn all<const GATES: usize>(weights: &[Weight], r: &Recurrent) -> [Self; GATES] {
        let kernel = floats(&weights[r.kernel.0]);
        let recurrent = floats(&weights[r.recurrent_kernel.0]);
        let units = weights[r.kernel.0].shape[1] / GATES;
        let mut bias = vec![0.0; 2 * GATES * units];
        if let Some(b) = r.bias {
            let b = floats(&weights[b.0]);
            bias[..b.len()].copy_from_slice(&b);
        }
        let (bias, recurrent_bias) = bias.split_at(GATES * units);
        // The columns of one gate in a matrix of `GATES * units` columns.
        let columns = |matrix: &[f64], gate: usize| {
            let rows = matrix.chunks(GATES * units);
            rows.flat_map(|row| &row[gate * units..][..units])
                .copied()
                .collect()
        };
        std::array::from_fn(|gate| Self {
            kernel: columns(&kernel, gate),
            recurrent: columns(&recurrent, gate),
            bias: columns(bias, gate),
            recurrent_bias: columns(recurrent_bias, gate),
        })
    }

    /// `x W + b`
    fn input(&self, x: &[f64]) -> Vec<f64> {
        product(&self.kernel, &self.bias, x)
    }

    /// `h U + b'`
    fn state(&self, h: &[f64]) -> Vec<f64> {
        product(&self.recurrent, &self.recurrent_bias, h)
    }

    /// `x W + b + h U + b'`
    fn sum(&self, x: &[f64], h: &[f64]) -> Vec<f64> {
        zip(&self.input(x), &self.state(h), |a, b| a + b)
    }
}

fn product(kernel: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
    let shape = [x.len()];
    let x = Item {
        shape: &shape,
        data: x,
    };
    dense::product(kernel, Some(bias), x)
}

fn activated(activation: Activation, mut x: Vec<f64>) -> Vec<f64> {
    let shape = [x.len()];
    activation.apply(&mut x, &shape);
    x
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}
