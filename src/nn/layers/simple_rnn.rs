//! Simple recurrent layer.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats};
use super::recurrent::Step;
use super::shapes::{Problem, expect, single};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Weight, WeightId};

/// Fully connected recurrent layer over `[time, channels]`: the output is fed back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimpleRnn {
    /// `[inputs, units]`.
    pub kernel: WeightId,
    /// `[units, units]`.
    pub recurrent_kernel: WeightId,
    /// `[units]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Applied to the sum of both products and the bias.
    pub activation: Activation,
    /// Output `[time, units]` (in the order of processing) instead of the last `[units]`.
    pub return_sequences: bool,
    /// Process from the last time step to the first.
    pub go_backwards: bool,
    /// The last states of a run are the first states of the next one, if [`Graph::with_states`](crate::nn::Graph::with_states)
    /// makes them inputs and outputs; a run of the graph itself starts from zeros.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stateful: bool,
}

impl SimpleRnn {
    /// Returns the step of the state in `f64`.
    pub(super) fn step(&self, weights: &[Weight]) -> Step<'_> {
        let [kernel, recurrent] =
            [self.kernel, self.recurrent_kernel].map(|id| floats(&weights[id.0]));
        let units = weights[self.recurrent_kernel.0].shape[0];
        let bias = self
            .bias
            .map_or(vec![0.0; units], |id| floats(&weights[id.0]));
        Box::new(move |x, states| {
            let mut next: Vec<f64> = (0..units)
                .map(|u| {
                    let input: f64 = (0..x.len()).map(|c| x[c] * kernel[c * units + u]).sum();
                    let fed: f64 = (0..units)
                        .map(|v| states[0][v] * recurrent[v * units + u])
                        .sum();
                    bias[u] + input + fed
                })
                .collect();
            self.activation.apply(&mut next, &[units]);
            states[0] = next;
        })
    }
}

impl LayerDefinition for SimpleRnn {
    fn class(&self) -> &'static str {
        "SimpleRNN"
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
        vec![self.activation]
    }

    fn rank(&self, _: &[usize]) -> usize {
        1 + usize::from(self.return_sequences)
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        let &[time, channels] = x else {
            return Err(format!("it takes [time, channels], not {x:?}"));
        };
        let kernel = &weights[self.kernel.0];
        let units = match *kernel.shape {
            [inputs, units] if inputs == channels => units,
            _ => {
                return Err(format!(
                    "its kernel ({}) has shape {:?}, which does not fit input {x:?}",
                    kernel.name, kernel.shape
                ));
            }
        };
        expect(
            "recurrent_kernel",
            &weights[self.recurrent_kernel.0],
            &[units, units],
        )?;
        if let Some(bias) = self.bias {
            expect("bias", &weights[bias.0], &[units])?;
        }
        Ok(match self.return_sequences {
            true => vec![time, units],
            false => vec![units],
        })
    }

    /// The state before and after a step.
    fn scratch(&self, weights: &[Weight], _: &[usize]) -> usize {
        2 * weights[self.recurrent_kernel.0].shape[0]
    }

    fn flops(&self, weights: &[Weight], inputs: &[&[usize]], _: &[usize]) -> u64 {
        let time = inputs[0].first().copied().unwrap_or(1) as u64;
        let [kernel, recurrent] =
            [self.kernel, self.recurrent_kernel].map(|id| weights[id.0].data.len() as u64);
        time.saturating_mul(2 * (kernel + recurrent))
    }

    /// `h[t] = f(x[t] * kernel + bias + h[t - 1] * recurrent_kernel)`, `h[-1]` being zero
    fn oracle(&self, weights: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let (time, channels) = (x.shape[0], x.shape[1]);
        let step = self.step(weights);
        let mut states = vec![vec![0.0; weights[self.recurrent_kernel.0].shape[0]]];
        let mut all = Vec::new();
        for t in 0..time {
            let t = if self.go_backwards { time - 1 - t } else { t };
            step(&x.data[t * channels..][..channels], &mut states);
            all.extend_from_slice(&states[0]);
        }
        match self.return_sequences {
            true => all,
            false => states.swap_remove(0),
        }
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::SimpleRnn(self)))
    }
}
