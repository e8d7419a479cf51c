//! LSTM and GRU of the oracle; the equations are those of the CPU kernels.

use super::super::graph::Graph;
use super::super::layer::{Activation, Recurrent};
use super::{Item, activation, dense, floats};

fn activated(activation: Activation, mut x: Vec<f64>) -> Vec<f64> {
    let shape = [x.len()];
    activation::apply(activation, &mut x, &shape);
    x
}

/// Returns the columns of gate number `gate` in a matrix of `gates * units` columns.
fn gate(matrix: &[f64], gate: usize, gates: usize, units: usize) -> Vec<f64> {
    let rows = matrix.chunks(gates * units);
    rows.flat_map(|row| &row[gate * units..][..units])
        .copied()
        .collect()
}

/// Weights of one gate.
struct Gate {
    kernel: Vec<f64>,
    recurrent: Vec<f64>,
    bias: Vec<f64>,
    /// Zero unless the layer has two biases.
    recurrent_bias: Vec<f64>,
}

impl Gate {
    fn all(graph: &Graph, r: &Recurrent, gates: usize) -> Vec<Self> {
        let kernel = floats(&graph.weights[r.kernel.0]);
        let recurrent = floats(&graph.weights[r.recurrent_kernel.0]);
        let units = graph.weights[r.kernel.0].shape[1] / gates;
        let mut bias = vec![0.0; 2 * gates * units];
        if let Some(b) = r.bias {
            let b = floats(&graph.weights[b.0]);
            bias[..b.len()].copy_from_slice(&b);
        }
        let (bias, recurrent_bias) = bias.split_at(gates * units);
        (0..gates)
            .map(|g| Self {
                kernel: gate(&kernel, g, gates, units),
                recurrent: gate(&recurrent, g, gates, units),
                bias: gate(bias, g, gates, units),
                recurrent_bias: gate(recurrent_bias, g, gates, units),
            })
            .collect()
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
    dense(
        kernel,
        Some(bias),
        Item {
            shape: &shape,
            data: x,
        },
    )
}

fn zip(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

/// Calls `step` for each time step, which updates the state `h`, and collects the layer's output.
fn run(
    r: &Recurrent,
    units: usize,
    x: Item,
    mut step: impl FnMut(&[f64], &mut Vec<f64>),
) -> Vec<f64> {
    let mut steps: Vec<&[f64]> = x.data.chunks(x.shape[1]).collect();
    if r.go_backwards {
        steps.reverse();
    }
    let mut h = vec![0.0; units];
    let mut y = Vec::new();
    for x in steps {
        step(x, &mut h);
        y.extend(&h);
    }
    if r.return_sequences { y } else { h }
}

/// With the gates `i, f, o = recurrent_activation(x W + h U + b)`: `c' = f * c + i * activation(x
/// Wc + h Uc + bc)`, `h' = o * activation(c')`
pub(super) fn lstm(graph: &Graph, r: &Recurrent, x: Item) -> Vec<f64> {
    let gates = Gate::all(graph, r, 4);
    let [input, forget, cell, output] = &gates[..] else {
        unreachable!("four gates were asked for")
    };
    let units = input.bias.len();
    let mut c = vec![0.0; units];
    run(r, units, x, |x, h| {
        let open = |gate: &Gate| activated(r.recurrent_activation, gate.sum(x, h));
        let (i, f, o) = (open(input), open(forget), open(output));
        let candidate = activated(r.activation, cell.sum(x, h));
        let kept = zip(&f, &c, |f, c| f * c);
        let added = zip(&i, &candidate, |i, g| i * g);
        c = zip(&kept, &added, |a, b| a + b);
        *h = zip(&o, &activated(r.activation, c.clone()), |o, c| o * c);
    })
}

/// With the gates `z, r = recurrent_activation(x W + h U + b)` and the candidate `g`, which is
/// `activation(x Wg + bg + (r * h) Ug)` or, if `reset_after`, `activation(x Wg + bg + r * (h Ug +
/// bg'))`: `h' = z * h + (1 - z) * g`
pub(super) fn gru(graph: &Graph, r: &Recurrent, reset_after: bool, x: Item) -> Vec<f64> {
    let gates = Gate::all(graph, r, 3);
    let [update, reset, candidate] = &gates[..] else {
        unreachable!("three gates were asked for")
    };
    let units = update.bias.len();
    run(r, units, x, |x, h| {
        let open = |gate: &Gate| activated(r.recurrent_activation, gate.sum(x, h));
        let (z, reset) = (open(update), open(reset));
        let times = |a: f64, b: f64| a * b;
        let recurrent = match reset_after {
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
