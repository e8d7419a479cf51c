//! Recurrent layers step by step: those with masks or activations that the recurrent operators lack, and convolutional
//! LSTMs.

use super::Attribute::{Graph, Int, Ints};
use super::{NodeContext, Problem, known};
use crate::nn::WeightId;
use crate::nn::layers::{Activation, Conv, ConvLstm, Gru, Lstm, RnnCell, SimpleRnn, StatefulRnn};
use crate::onnx::lengths::Shape;
use crate::onnx::message::Message;
use crate::onnx::value_info;

/// `TensorProto.DataType` of truth values.
const BOOL: i64 = 9;

/// Weights and options that the three cells share.
struct Steps {
    kernel: WeightId,
    recurrent_kernel: WeightId,
    bias: Option<WeightId>,
    activation: Activation,
    go_backwards: bool,
    return_sequences: bool,
}

impl Steps {
    fn of(cell: &RnnCell) -> Self {
        let r = match cell {
            RnnCell::Lstm(Lstm { recurrent }) | RnnCell::Gru(Gru { recurrent, .. }) => recurrent,
            RnnCell::SimpleRnn(SimpleRnn {
                kernel,
                recurrent_kernel,
                bias,
                activation,
                return_sequences,
                go_backwards,
                stateful: _,
            }) => {
                return Self {
                    kernel: *kernel,
                    recurrent_kernel: *recurrent_kernel,
                    bias: *bias,
                    activation: *activation,
                    go_backwards: *go_backwards,
                    return_sequences: *return_sequences,
                };
            }
        };
        Self {
            kernel: r.kernel,
            recurrent_kernel: r.recurrent_kernel,
            bias: r.bias,
            activation: r.activation,
            go_backwards: r.go_backwards,
            return_sequences: r.return_sequences,
        }
    }
}

impl NodeContext<'_, '_> {
    /// Adds a `Scan` over the steps. The products with the inputs of all steps are computed before it.
    pub(super) fn steps(&mut self, rnn: &StatefulRnn) -> String {
        let steps = Steps::of(&rnn.cell);
        let units = self.weight(steps.recurrent_kernel).shape[0];
        let width = self.weight(steps.kernel).shape[1];
        let x = self.inputs[0].clone();
        let kernel = self.stored(steps.kernel);
        let mut projected = self.add("MatMul", &[&x, &kernel], &[]);
        if let Some(bias) = steps.bias {
            let bias = self.builder.weight(bias, "of the inputs", |_, data| {
                (vec![width], data[..width].to_vec())
            });
            projected = self.add("Add", &[&projected, &bias], &[]);
        }
        let mut scanned = vec![projected];
        if rnn.masked {
            let mask = self.inputs[1].clone();
            scanned.push(self.unsqueeze(&mask, &[2]));
        }
        let zeros = |context: &mut Self| context.zeros(&x, &[units as i64]);
        let states = rnn.cell.states();
        let mut carried: Vec<String> = match rnn.initial_state {
            true => self.inputs[1 + usize::from(rnn.masked)..].to_vec(),
            false => (0..states).map(|_| zeros(self)).collect(),
        };
        if rnn.masked {
            // The output of the step before.
            carried.push(zeros(self));
        }
        let body = self.body(rnn, &steps, [units, width], carried.len());
        let sequences = steps.return_sequences;
        let results = self.scan(&body, &carried, &scanned, steps.go_backwards, sequences);
        let last = if rnn.masked { states } else { 0 };
        let mut y = match steps.return_sequences {
            true => results[results.len() - 1].clone(),
            false => results[last].clone(),
        };
        if !rnn.return_state {
            return y;
        }
        if steps.return_sequences {
            y = self.add("Flatten", &[&y], &[("axis", Int(1))]);
        }
        let all: Vec<&str> = std::iter::once(&y)
            .chain(&results[..states])
            .map(String::as_str)
            .collect();
        self.add("Concat", &all, &[("axis", Int(1))])
    }

    /// Adds a `Scan` over the time of `scanned`, the first dimension behind the batch. Returns the names of the values
    /// after the last step, followed by that of the sequence of outputs if there is one.
    fn scan(
        &mut self,
        body: &Message,
        carried: &[String],
        scanned: &[String],
        go_backwards: bool,
        return_sequences: bool,
    ) -> Vec<String> {
        let mut results: Vec<String> = (0..carried.len())
            .map(|_| self.builder.name(&format!("{}/state", self.name)))
            .collect();
        if return_sequences {
            results.push(self.builder.name(&format!("{}/sequence", self.name)));
        }
        let axes = vec![1; scanned.len()];
        let directions = vec![i64::from(go_backwards); scanned.len()];
        let mut attributes = vec![
            ("body", Graph(body)),
            ("num_scan_inputs", Int(scanned.len() as i64)),
            ("scan_input_axes", Ints(&axes)),
            ("scan_input_directions", Ints(&directions)),
        ];
        if return_sequences {
            attributes.push(("scan_output_axes", Ints(&[1])));
        }
        let inputs: Vec<&str> = carried.iter().chain(scanned).map(String::as_str).collect();
        let outputs: Vec<&str> = results.iter().map(String::as_str).collect();
        let node = self.builder.name(&format!("{}/Scan", self.name));
        self.builder
            .node("Scan", &inputs, &outputs, &node, &attributes);
        results
    }

    /// Adds a `Scan` over the images.
    pub(super) fn conv_lstm(&mut self, layer: &ConvLstm) -> Result<String, Problem> {
        let open = "an image of open size has no equivalent; fix the model's input shape";
        let image = known(&self.shapes[0][1..]).ok_or(open)?;
        let state = known(&self.output[usize::from(layer.return_sequences)..]).ok_or(open)?;
        let x = self.inputs[0].clone();
        let carried = [(); 2].map(|()| self.zeros(&x, &state));
        let outside = std::mem::take(&mut self.builder.nodes);
        let [h, c, x_step] = ["before", "before", "x"].map(|part| self.name_in_step(part));
        let size = |shape: &[i64]| shape.iter().map(|&n| Some(n as usize)).collect::<Vec<_>>();
        let mut of = |conv: &Conv, input: &str, shape: &[i64]| {
            self.inputs = vec![input.to_owned()];
            self.shapes = vec![size(shape)];
            self.conv(conv)
        };
        let of_input = of(&layer.of_input(), &x_step, &image)?;
        let of_state = of(&layer.of_state(), &h, &state)?;
        let gates = self.add("Add", &[&of_input, &of_state], &[]);
        let filters = *state.last().ok_or(open)?;
        let channels = state.len() as i64;
        let [i, f, g, o] = [0, 1, 2, 3]
            .map(|gate| self.slice(&gates, channels, gate * filters, (gate + 1) * filters, 1));
        let mut after = self.lstm_state(
            [i, f, g, o],
            &c,
            [layer.activation, layer.recurrent_activation],
        );
        if layer.return_sequences {
            after.push(after[0].clone());
        }
        let inputs = [(h, size(&state)), (c, size(&state)), (x_step, size(&image))];
        let body = self.finish_body(outside, &inputs, &after, &size(&state));
        let sequences = layer.return_sequences;
        let results = self.scan(&body, &carried, &[x], layer.go_backwards, sequences);
        Ok(results[if sequences { 2 } else { 0 }].clone())
    }

    /// Adds zeros of this shape, behind the batch of `x`.
    fn zeros(&mut self, x: &str, shape: &[i64]) -> String {
        let batch = self.add("Shape", &[x], &[("start", Int(0)), ("end", Int(1))]);
        let shape = self.builder.integers(shape);
        let shape = self.add("Concat", &[&batch, &shape], &[("axis", Int(0))]);
        self.add("ConstantOfShape", &[&shape], &[])
    }

    /// Returns a new name in the graph of a step.
    fn name_in_step(&mut self, part: &str) -> String {
        self.builder.name(&format!("{}/step/{part}", self.name))
    }

    /// Returns the graph of a step from the nodes added for it, and restores the nodes around it. Outputs have
    /// the shape `output`; shapes are without the batch.
    fn finish_body(
        &mut self,
        outside: Message,
        inputs: &[(String, Shape)],
        outputs: &[String],
        output: &[Option<usize>],
    ) -> Message {
        // Names of their own, because an output may be no input and no other output.
        let outputs: Vec<String> = outputs
            .iter()
            .map(|value| self.add("Identity", &[value], &[]))
            .collect();
        let nodes = std::mem::replace(&mut self.builder.nodes, outside);
        // `GraphProto`: node 1, name 2, input 11, output 12.
        let mut body = Message::default();
        body.extend(&nodes);
        body.text(2, &self.name_in_step("body"));
        for (name, shape) in inputs {
            body.message(11, &value_info(name, shape, None));
        }
        for name in &outputs {
            body.message(12, &value_info(name, output, None));
        }
        body
    }

    /// Returns the graph of one step, with `carried` values from the step before.
    fn body(
        &mut self,
        rnn: &StatefulRnn,
        steps: &Steps,
        [units, width]: [usize; 2],
        carried: usize,
    ) -> Message {
        let outside = std::mem::take(&mut self.builder.nodes);
        let before: Vec<String> = (0..carried).map(|_| self.name_in_step("before")).collect();
        let x = self.name_in_step("x");
        let states = &before[..rnn.cell.states()];
        let mut after = match &rnn.cell {
            RnnCell::Lstm(lstm) => self.lstm_step(lstm, units, &x, states),
            RnnCell::Gru(gru) => vec![self.gru_step(gru, units, &x, &states[0])],
            RnnCell::SimpleRnn(_) => {
                let kernel = self.stored(steps.recurrent_kernel);
                let product = self.add("MatMul", &[&states[0], &kernel], &[]);
                let sum = self.add("Add", &[&x, &product], &[]);
                vec![self.activation(steps.activation, sum)]
            }
        };
        let vector = |length: usize| vec![Some(length)];
        let mut inputs: Vec<(String, Shape)> =
            before.iter().map(|b| (b.clone(), vector(units))).collect();
        inputs.push((x, vector(width)));
        let mut output = after[0].clone();
        if rnn.masked {
            let mask = self.name_in_step("mask");
            let kept = self.add("Cast", &[&mask], &[("to", Int(BOOL))]);
            inputs.push((mask, vector(1)));
            output = match rnn.zero_skipped_output {
                true => {
                    let zero = self.builder.number(0.0);
                    self.add("Where", &[&kept, &output, &zero], &[])
                }
                false => self.add("Where", &[&kept, &output, &before[carried - 1]], &[]),
            };
            for (after, before) in after.iter_mut().zip(&before) {
                *after = self.add("Where", &[&kept, after, before], &[]);
            }
            after.push(output.clone());
        }
        if steps.return_sequences {
            after.push(output);
        }
        self.finish_body(outside, &inputs, &after, &vector(units))
    }

    /// Returns the states `h` and `c` after a step of the projected input `x`.
    fn lstm_step(&mut self, lstm: &Lstm, units: usize, x: &str, states: &[String]) -> Vec<String> {
        let r = &lstm.recurrent;
        let kernel = self.stored(r.recurrent_kernel);
        let product = self.add("MatMul", &[&states[0], &kernel], &[]);
        let gates = self.add("Add", &[x, &product], &[]);
        let gates = [0, 1, 2, 3].map(|gate| self.gate(&gates, gate, units));
        self.lstm_state(gates, &states[1], [r.activation, r.recurrent_activation])
    }

    /// Returns the states `h` and `c` of an LSTM with these sums for its gates input, forget, cell and output.
    fn lstm_state(
        &mut self,
        [i, f, g, o]: [String; 4],
        cell: &str,
        [activation, recurrent_activation]: [Activation; 2],
    ) -> Vec<String> {
        let [i, f, o] = [i, f, o].map(|gate| self.activation(recurrent_activation, gate));
        let g = self.activation(activation, g);
        let kept = self.add("Mul", &[&f, cell], &[]);
        let added = self.add("Mul", &[&i, &g], &[]);
        let c = self.add("Add", &[&kept, &added], &[]);
        let shown = self.activation(activation, c.clone());
        vec![self.add("Mul", &[&o, &shown], &[]), c]
    }

    /// Returns the state after a step of the projected input `x`.
    fn gru_step(&mut self, gru: &Gru, units: usize, x: &str, h: &str) -> String {
        let r = &gru.recurrent;
        let columns = |from: usize, to: usize| {
            move |shape: &[usize], data: &[f32]| {
                let rows = data.chunks_exact(shape[1]);
                let part = rows.flat_map(|row| &row[from..to]).copied().collect();
                (vec![shape[0], to - from], part)
            }
        };
        let id = r.recurrent_kernel;
        let gated = |context: &mut Self, product: &str| {
            [0, 1].map(|gate| {
                let of_x = context.gate(x, gate, units);
                let of_h = context.gate(product, gate, units);
                let sum = context.add("Add", &[&of_x, &of_h], &[]);
                context.activation(r.recurrent_activation, sum)
            })
        };
        let (update, recurrent) = match gru.reset_after {
            true => {
                let kernel = self.stored(id);
                let mut product = self.add("MatMul", &[h, &kernel], &[]);
                if let Some(bias) = r.bias {
                    let bias = self.builder.weight(bias, "of the state", |shape, data| {
                        (vec![shape[1]], data[shape[1]..].to_vec())
                    });
                    product = self.add("Add", &[&product, &bias], &[]);
                }
                let [update, reset] = gated(self, &product);
                let of_h = self.gate(&product, 2, units);
                (update, self.add("Mul", &[&reset, &of_h], &[]))
            }
            false => {
                let gates = self.builder.weight(id, "gates", columns(0, 2 * units));
                let candidate = columns(2 * units, 3 * units);
                let candidate = self.builder.weight(id, "candidate", candidate);
                let product = self.add("MatMul", &[h, &gates], &[]);
                let [update, reset] = gated(self, &product);
                let state = self.add("Mul", &[&reset, h], &[]);
                (update, self.add("MatMul", &[&state, &candidate], &[]))
            }
        };
        let of_x = self.gate(x, 2, units);
        let sum = self.add("Add", &[&of_x, &recurrent], &[]);
        let g = self.activation(r.activation, sum);
        let one = self.builder.number(1.0);
        let open = self.add("Sub", &[&one, &update], &[]);
        let kept = self.add("Mul", &[&update, h], &[]);
        let added = self.add("Mul", &[&open, &g], &[]);
        self.add("Add", &[&kept, &added], &[])
    }

    /// Returns the columns of gate number `gate`.
    fn gate(&mut self, gates: &str, gate: i64, units: usize) -> String {
        let units = units as i64;
        self.slice(gates, 1, gate * units, (gate + 1) * units, 1)
    }
}
