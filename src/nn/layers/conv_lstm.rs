//! LSTM whose products are convolutions.

use serde::{Deserialize, Serialize};

use super::conv::{Conv, conv_kernel};
use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, count, expect};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Padding, Weight, WeightId};

/// Long short-term memory over `[time, height, width, channels]` or `[time, length, channels]`, whose products
/// are convolutions (Shi et al. 2015, without peepholes). Gate order input, forget, cell, output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvLstm {
    /// `[height, width, in, 4 * filters]` or `[length, in, 4 * filters]`.
    pub kernel: WeightId,
    /// `[height, width, filters, 4 * filters]` or `[length, filters, 4 * filters]`.
    pub recurrent_kernel: WeightId,
    /// `[4 * filters]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Strides of the input's convolution, as in [`Conv`]. The state's convolution has strides of 1.
    pub strides: [usize; 2],
    /// Dilation of the input's convolution, as in [`Conv`]. That of the state is 1.
    pub dilation: [usize; 2],
    /// Padding of the input's convolution; `Causal` is not valid. That of the state is `Same`.
    pub padding: Padding,
    /// Activation of the cell input and of the cell state; usually tanh.
    pub activation: Activation,
    /// Activation of the other gates; often the hard sigmoid in Keras 2 files.
    pub recurrent_activation: Activation,
    /// Output the images of all steps (in the order of processing) instead of the last.
    pub return_sequences: bool,
    /// Process from the last time step to the first.
    pub go_backwards: bool,
}

impl ConvLstm {
    /// Returns the convolution of the input.
    pub(crate) fn of_input(&self) -> Conv {
        Conv {
            kernel: self.kernel,
            bias: self.bias,
            strides: self.strides,
            dilation: self.dilation,
            padding: self.padding,
            activation: Activation::Linear,
        }
    }

    /// Returns the convolution of the state.
    pub(crate) fn of_state(&self) -> Conv {
        Conv {
            kernel: self.recurrent_kernel,
            bias: None,
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Same,
            activation: Activation::Linear,
        }
    }
}

impl LayerDefinition for ConvLstm {
    fn class(&self) -> &'static str {
        "ConvLSTM"
    }

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

    fn rank(&self, inputs: &[usize]) -> usize {
        let rank = inputs.first().copied().unwrap_or(0);
        rank.saturating_sub(usize::from(!self.return_sequences))
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let &[&[time, ref image @ ..]] = inputs else {
            return Err(format!(
                "it takes [time, height, width, channels], not {inputs:?}"
            ));
        };
        if self.padding == Padding::Causal {
            return Err("causal padding is not defined for it".into());
        }
        let gates = self.of_input().shape(weights, &[image])?;
        let (&gate_channels, pixels) = gates.split_last().expect("a convolution's shape");
        if !gate_channels.is_multiple_of(4) {
            return Err(format!(
                "its kernel has {gate_channels} filters, which are no four gates"
            ));
        }
        let filters = gate_channels / 4;
        let spatial = weights[self.kernel.0].shape.len() - 2;
        let kernel = &weights[self.kernel.0].shape[..spatial];
        expect(
            "recurrent_kernel",
            &weights[self.recurrent_kernel.0],
            &[kernel, &[filters, gate_channels]].concat(),
        )?;
        let state = [pixels, &[filters]].concat();
        self.of_state().shape(weights, &[&state])?;
        Ok(match self.return_sequences {
            true => [&[time], &*state].concat(),
            false => state,
        })
    }

    /// Gates of both convolutions, the states, and the padded inputs of the convolutions.
    fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize {
        let image = &input[1..];
        let Ok(gates) = self.of_input().shape(weights, &[image]) else {
            return 0;
        };
        let elements = gates.iter().product::<usize>();
        let mut state = gates;
        if let Some(channels) = state.last_mut() {
            *channels /= 4;
        }
        let padded = self.of_input().scratch(weights, image);
        let padded = padded.max(self.of_state().scratch(weights, &state));
        elements
            .saturating_mul(2)
            .saturating_add(elements / 2)
            .saturating_add(padded)
    }

    fn flops(&self, weights: &[Weight], inputs: &[&[usize]], output: &[usize]) -> u64 {
        let time = inputs[0].first().copied().unwrap_or(1) as u64;
        let state = match self.return_sequences {
            true => count(output) / time.max(1),
            false => count(output),
        };
        let terms = |id: WeightId| {
            let [height, width, channels, _] = conv_kernel(&weights[id.0].shape).unwrap_or([0; 4]);
            2 * (height * width * channels) as u64
        };
        let gate = 2 + terms(self.kernel) + terms(self.recurrent_kernel);
        let functions = 3 * self.recurrent_activation.flops_per_element()
            + 2 * self.activation.flops_per_element();
        time.saturating_mul(state)
            .saturating_mul(4 * gate + functions + 4)
    }

    /// `[i, f, g, o] = conv(x[t]) + bias + conv(h[t - 1])`,
    /// `c[t] = r(f) * c[t - 1] + r(i) * a(g)`, `h[t] = r(o) * a(c[t])`, with activation `a` and recurrent
    /// activation `r`, `h[-1]` and `c[-1]` being zero
    fn oracle(&self, weights: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let time = x.shape[0];
        let image = &x.shape[1..];
        let item = image.iter().product::<usize>();
        let mut state_shape = self
            .of_input()
            .shape(weights, &[image])
            .expect("validated shape");
        let gate_shape = state_shape.clone();
        let filters = gate_shape[gate_shape.len() - 1] / 4;
        *state_shape.last_mut().expect("validated shape") = filters;
        let mut state = vec![0.0; state_shape.iter().product()];
        let mut cell = state.clone();
        let mut all = Vec::new();
        for t in 0..time {
            let t = if self.go_backwards { time - 1 - t } else { t };
            let input = Item {
                shape: image,
                data: &x.data[t * item..][..item],
            };
            let fed_back = Item {
                shape: &state_shape,
                data: &state,
            };
            let of_input = self.of_input().oracle(weights, &[input], &gate_shape);
            let of_state = self.of_state().oracle(weights, &[fed_back], &gate_shape);
            let gate = |number: usize, function: Activation| {
                let mut values: Vec<f64> = (0..cell.len())
                    .map(|i| 4 * filters * (i / filters) + filters * number + i % filters)
                    .map(|at| of_input[at] + of_state[at])
                    .collect();
                function.apply(&mut values, &state_shape);
                values
            };
            let [input, forget, output] = [0, 1, 3].map(|n| gate(n, self.recurrent_activation));
            let candidate = gate(2, self.activation);
            for (i, c) in cell.iter_mut().enumerate() {
                *c = forget[i] * *c + input[i] * candidate[i];
            }
            let mut activated = cell.clone();
            self.activation.apply(&mut activated, &state_shape);
            state = output.iter().zip(activated).map(|(o, c)| o * c).collect();
            all.extend_from_slice(&state);
        }
        match self.return_sequences {
            true => all,
            false => state,
        }
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::ConvLstm(self)))
    }
}
