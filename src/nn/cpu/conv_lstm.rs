//! LSTM whose products are convolutions.

use super::conv::{ConvEpilogue, ConvPlan};
use super::math;
use super::op::{OpCall, PlainOp};
use super::packed::Packed;
use crate::nn::graph::Weight;
use crate::nn::layers::{Activation, ConvLstm};
use crate::simd::mul_add;

/// A convolutional LSTM for one input shape. The gates of a pixel are in the order input, forget, output, cell.
#[derive(Debug)]
pub(crate) struct ConvLstmPlan {
    time: usize,
    of_input: ConvPlan,
    of_state: ConvPlan,
    kernel: Packed,
    recurrent: Packed,
    activation: Activation,
    recurrent_activation: Activation,
    return_sequences: bool,
    go_backwards: bool,
}

impl ConvLstmPlan {
    /// Plans a validated layer with the kernels of input and state, for input shape `x` and output shape `output`.
    pub fn new(
        layer: &ConvLstm,
        [kernel, recurrent]: [&Weight; 2],
        bias: Option<&[f32]>,
        x: &[usize],
        output: &[usize],
    ) -> Self {
        let filters = output[output.len() - 1];
        let ordered = |rows: &[f32]| -> Vec<f32> {
            let rows = rows.chunks_exact(4 * filters);
            rows.flat_map(|row| {
                let (before, output) = row.split_at(3 * filters);
                let (input_forget, cell) = before.split_at(2 * filters);
                [input_forget, output, cell].concat()
            })
            .collect()
        };
        let bias = bias.map(ordered);
        let state = &output[usize::from(layer.return_sequences)..];
        Self {
            time: x[0],
            of_input: ConvPlan::new(&layer.of_input(), &kernel.shape, &x[1..]),
            of_state: ConvPlan::new(&layer.of_state(), &recurrent.shape, state),
            kernel: Packed::new(&ordered(&kernel.data), 4 * filters, bias.as_deref()),
            recurrent: Packed::new(&ordered(&recurrent.data), 4 * filters, None),
            activation: layer.activation,
            recurrent_activation: layer.recurrent_activation,
            return_sequences: layer.return_sequences,
            go_backwards: layer.go_backwards,
        }
    }

    /// Returns the elements of a state.
    fn state(&self) -> usize {
        self.of_state.input().iter().product()
    }
}

impl PlainOp for ConvLstmPlan {
    fn scratch(&self, _: usize) -> usize {
        let epilogue = ConvEpilogue::default();
        let of_input = self.of_input.scratch(self.kernel.n, &epilogue);
        let of_state = self.of_state.scratch(self.recurrent.n, &epilogue);
        10 * self.state() + of_input.max(of_state)
    }

    fn run(&self, call: OpCall) {
        let OpCall {
            isa,
            input,
            output,
            scratch,
            ..
        } = call;
        let epilogue = ConvEpilogue::default();
        let state = self.state();
        let filters = self.kernel.n / 4;
        let image = self.of_input.input().iter().product::<usize>();
        let (gates, scratch) = scratch.split_at_mut(4 * state);
        let (fed_back, scratch) = scratch.split_at_mut(4 * state);
        let (hidden, scratch) = scratch.split_at_mut(state);
        let (cell, scratch) = scratch.split_at_mut(state);
        let steps = if self.return_sequences { self.time } else { 1 };
        let items = input(0).chunks_exact(self.time * image);
        for (x, y) in items.zip(output.chunks_exact_mut(steps * state)) {
            hidden.fill(0.0);
            cell.fill(0.0);
            for t in 0..self.time {
                let at = match self.go_backwards {
                    true => self.time - 1 - t,
                    false => t,
                };
                let x = &x[at * image..][..image];
                self.of_input
                    .run(isa, x, &self.kernel, &epilogue, gates, scratch);
                self.of_state
                    .run(isa, hidden, &self.recurrent, &epilogue, fed_back, scratch);
                for (gate, fed_back) in gates.iter_mut().zip(&*fed_back) {
                    *gate += fed_back;
                }
                for gates in gates.chunks_exact_mut(4 * filters) {
                    let (sigmoids, candidate) = gates.split_at_mut(3 * filters);
                    math::activate(isa, self.recurrent_activation, filters, sigmoids);
                    math::activate(isa, self.activation, filters, candidate);
                }
                let pixels = gates.chunks_exact(4 * filters);
                for (gates, cell) in pixels.clone().zip(cell.chunks_exact_mut(filters)) {
                    for (c, value) in cell.iter_mut().enumerate() {
                        let [input, forget, candidate] =
                            [0, 1, 3].map(|gate| gates[gate * filters + c]);
                        *value = mul_add(forget, *value, input * candidate);
                    }
                }
                hidden.copy_from_slice(cell);
                math::activate(isa, self.activation, filters, hidden);
                for (gates, hidden) in pixels.zip(hidden.chunks_exact_mut(filters)) {
                    for (output, value) in gates[2 * filters..].iter().zip(hidden) {
                        *value *= output;
                    }
                }
                if self.return_sequences {
                    y[t * state..][..state].copy_from_slice(hidden);
                }
            }
            if !self.return_sequences {
                y.copy_from_slice(hidden);
            }
        }
    }
}
