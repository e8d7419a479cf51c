//! Recurrent layers.
//!
//! ONNX puts the time first and stores the gates as rows. Its directions return the outputs in the
//! order of time, whereas the engine returns them in the order of processing, so a layer that goes
//! backwards reads a reversed input.

use super::super::builder::transposed;
use super::Attribute::{Floats, Int, Ints, Text, Texts};
use super::{Attribute, BEFORE_START, NodeContext, Problem};
use crate::nn::WeightId;
use crate::nn::layers::{Activation, Gru, Lstm, RnnCell, SimpleRnn, StatefulRnn};

/// Parts that the three layers share.
struct Cell<'a> {
    op: &'static str,
    kernel: WeightId,
    recurrent_kernel: WeightId,
    bias: Option<WeightId>,
    /// Gate `i` of the operator is gate `order[i]` of the layer.
    order: &'a [usize],
    activations: &'a [Activation],
    go_backwards: bool,
    return_sequences: bool,
}

/// States as values.
#[derive(Clone, Copy, Default)]
struct States {
    /// The node's inputs behind the sequence are the states before the first step.
    initial: bool,
    /// The last states follow the output, as one vector.
    returned: bool,
}

impl NodeContext<'_, '_> {
    pub(super) fn lstm(&mut self, lstm: &Lstm) -> Result<String, Problem> {
        self.stateless(RnnCell::Lstm(lstm.clone()))
    }

    pub(super) fn gru(&mut self, gru: &Gru) -> Result<String, Problem> {
        self.stateless(RnnCell::Gru(gru.clone()))
    }

    pub(super) fn simple_rnn(&mut self, rnn: &SimpleRnn) -> Result<String, Problem> {
        self.stateless(RnnCell::SimpleRnn(rnn.clone()))
    }

    fn stateless(&mut self, cell: RnnCell) -> Result<String, Problem> {
        self.stateful_rnn(&StatefulRnn {
            cell,
            masked: false,
            zero_skipped_output: false,
            initial_state: false,
            return_state: false,
        })
    }

    pub(super) fn stateful_rnn(&mut self, rnn: &StatefulRnn) -> Result<String, Problem> {
        let has_operator = |activation| of_cell(activation).is_some();
        let known = match &rnn.cell {
            RnnCell::Lstm(Lstm { recurrent: r }) | RnnCell::Gru(Gru { recurrent: r, .. }) => {
                has_operator(r.activation) && has_operator(r.recurrent_activation)
            }
            RnnCell::SimpleRnn(rnn) => has_operator(rnn.activation),
        };
        if rnn.masked || !known {
            return Ok(self.steps(rnn));
        }
        let states = States {
            initial: rnn.initial_state,
            returned: rnn.return_state,
        };
        match &rnn.cell {
            RnnCell::Lstm(lstm) => self.lstm_with(lstm, states),
            RnnCell::Gru(gru) => self.gru_with(gru, states),
            RnnCell::SimpleRnn(rnn) => self.simple_rnn_with(rnn, states),
        }
    }

    fn lstm_with(&mut self, lstm: &Lstm, states: States) -> Result<String, Problem> {
        let r = &lstm.recurrent;
        let cell = Cell {
            op: "LSTM",
            kernel: r.kernel,
            recurrent_kernel: r.recurrent_kernel,
            bias: r.bias,
            // Input, output, forget, cell of input, forget, cell, output.
            order: &[0, 3, 1, 2],
            activations: &[r.recurrent_activation, r.activation, r.activation],
            go_backwards: r.go_backwards,
            return_sequences: r.return_sequences,
        };
        self.recurrent(&cell, states, &[])
    }

    fn gru_with(&mut self, gru: &Gru, states: States) -> Result<String, Problem> {
        let r = &gru.recurrent;
        let cell = Cell {
            op: "GRU",
            kernel: r.kernel,
            recurrent_kernel: r.recurrent_kernel,
            bias: r.bias,
            order: &[0, 1, 2],
            activations: &[r.recurrent_activation, r.activation],
            go_backwards: r.go_backwards,
            return_sequences: r.return_sequences,
        };
        let reset_after = Int(i64::from(gru.reset_after));
        self.recurrent(&cell, states, &[("linear_before_reset", reset_after)])
    }

    fn simple_rnn_with(&mut self, rnn: &SimpleRnn, states: States) -> Result<String, Problem> {
        let cell = Cell {
            op: "RNN",
            kernel: rnn.kernel,
            recurrent_kernel: rnn.recurrent_kernel,
            bias: rnn.bias,
            order: &[0],
            activations: &[rnn.activation],
            go_backwards: rnn.go_backwards,
            return_sequences: rnn.return_sequences,
        };
        self.recurrent(&cell, states, &[])
    }

    fn recurrent(
        &mut self,
        cell: &Cell,
        states: States,
        options: &[(&str, Attribute)],
    ) -> Result<String, Problem> {
        let units = self.weight(cell.recurrent_kernel).shape[0];
        let gates = cell.order.len();
        let mut names = Vec::new();
        let mut alphas = Vec::new();
        let mut betas = Vec::new();
        for &activation in cell.activations {
            let (name, alpha, beta) = of_cell(activation).ok_or_else(|| {
                format!(
                    "the operator {} of ONNX has no activation {activation:?}",
                    cell.op
                )
            })?;
            names.push(name);
            alphas.extend(alpha);
            betas.extend(beta);
        }
        // `[channels, gates * units]` to `[1, gates * units, channels]`.
        let rows = |shape: &[usize], data: &[f32]| {
            let split = [shape[0], gates, units];
            let (_, data) = transposed(&split, data, &[1, 2, 0]);
            let gate = units * shape[0];
            let ordered = cell.order.iter().flat_map(|&g| &data[g * gate..][..gate]);
            let ordered = ordered.copied().collect();
            (vec![1, gates * units, shape[0]], ordered)
        };
        let kernel = self.builder.weight(cell.kernel, cell.op, rows);
        let recurrent = self.builder.weight(cell.recurrent_kernel, cell.op, rows);
        // Input biases, then recurrent biases, which only a GRU with `reset_after` has.
        let bias = cell.bias.map(|bias| {
            self.builder.weight(bias, cell.op, |_, data| {
                let mut both = Vec::with_capacity(2 * gates * units);
                for half in data.chunks(gates * units) {
                    both.extend(cell.order.iter().flat_map(|&g| &half[g * units..][..units]));
                }
                both.resize(2 * gates * units, 0.0);
                (vec![1, 2 * gates * units], both)
            })
        });
        let mut x = self.inputs[0].clone();
        if cell.go_backwards {
            x = self.slice(&x, 1, -1, BEFORE_START, -1);
        }
        let x = self.add("Transpose", &[&x], &[("perm", Ints(&[1, 0, 2]))]);
        let mut attributes = vec![
            ("direction", Text("forward")),
            ("hidden_size", Int(units as i64)),
            ("activations", Texts(&names)),
        ];
        if !alphas.is_empty() {
            attributes.push(("activation_alpha", Floats(&alphas)));
        }
        if !betas.is_empty() {
            attributes.push(("activation_beta", Floats(&betas)));
        }
        let mut all = vec![x, kernel, recurrent];
        if bias.is_some() || states.initial {
            all.push(bias.unwrap_or_default());
        }
        if states.initial {
            // No lengths of the sequences.
            all.push(String::new());
            for i in 1..self.inputs.len() {
                let state = self.inputs[i].clone();
                all.push(self.unsqueeze(&state, &[0]));
            }
        }
        attributes.extend(options);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut name = |part: &str| self.builder.name(&format!("{}/{part}", self.name));
        let node = name(cell.op);
        let [sequence, h, c] = ["sequence", "state_h", "state_c"].map(&mut name);
        // An output without a name is not computed.
        let mut outputs = vec![if cell.return_sequences {
            &*sequence
        } else {
            ""
        }];
        if states.returned || !cell.return_sequences {
            outputs.push(&h);
        }
        if states.returned && cell.op == "LSTM" {
            outputs.push(&c);
        }
        self.builder
            .node(cell.op, &all, &outputs, &node, &attributes);
        let mut last = Vec::new();
        for state in &outputs[1..] {
            // `[1, batch, units]`
            let axis = self.builder.integers(&[0]);
            last.push(self.add("Squeeze", &[state, &axis], &[]));
        }
        let y = match cell.return_sequences {
            // `[time, 1, batch, units]`
            true => {
                let axis = self.builder.integers(&[1]);
                let y = self.add("Squeeze", &[&sequence, &axis], &[]);
                self.add("Transpose", &[&y], &[("perm", Ints(&[1, 0, 2]))])
            }
            false => last[0].clone(),
        };
        if !states.returned {
            return Ok(y);
        }
        let y = match cell.return_sequences {
            true => self.add("Flatten", &[&y], &[("axis", Int(1))]),
            false => y,
        };
        let all: Vec<&str> = std::iter::once(&y)
            .chain(&last)
            .map(String::as_str)
            .collect();
        Ok(self.add("Concat", &all, &[("axis", Int(1))]))
    }
}

/// Returns the name of an activation in a recurrent operator, with its `alpha` and `beta`.
fn of_cell(activation: Activation) -> Option<(&'static str, Option<f32>, Option<f32>)> {
    Some(match activation {
        Activation::Linear => ("Affine", Some(1.0), Some(0.0)),
        Activation::Relu => ("Relu", None, None),
        Activation::ThresholdedRelu { theta } => ("ThresholdedRelu", Some(theta), None),
        Activation::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
        Activation::Elu { alpha } => ("Elu", Some(alpha), None),
        Activation::Sigmoid => ("Sigmoid", None, None),
        Activation::HardSigmoid => ("HardSigmoid", Some(0.2), Some(0.5)),
        Activation::HardSigmoid6 => ("HardSigmoid", Some(1.0 / 6.0), Some(0.5)),
        Activation::Tanh => ("Tanh", None, None),
        Activation::Softplus => ("Softplus", None, None),
        Activation::Softsign => ("Softsign", None, None),
        Activation::ReluWith { .. }
        | Activation::Selu
        | Activation::Softmax
        | Activation::Exponential
        | Activation::Swish
        | Activation::Gelu
        | Activation::Mish => return None,
    })
}
