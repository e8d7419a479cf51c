//! Recurrent layers with masks and with states as values.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::recurrent::Step;
use super::shapes::Problem;
use super::{
    Activation, BackendLayer, CpuOnly, Gru, LayerDefinition, Lstm, SimpleRnn, Weight, WeightId,
};

/// A recurrent layer that skips steps, starts from given states or returns its states.
///
/// The inputs are the sequence `[time, channels]`, the mask `[time]` if it is `masked`, and the
/// states `[units]` if it has an `initial_state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatefulRnn {
    /// The layer that computes the steps.
    pub cell: RnnCell,
    /// A mask of 0 skips a step: the states stay as they are.
    pub masked: bool,
    /// The output of a skipped step is zeros instead of the output of the step before it, which for
    /// the first step is zeros, too.
    pub zero_skipped_output: bool,
    /// The states before the first step are inputs instead of zeros.
    pub initial_state: bool,
    /// The output is a vector: that of `cell` with the last states behind it.
    pub return_state: bool,
}

/// Cell of a [`StatefulRnn`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RnnCell {
    /// States: the output and the cell state.
    Lstm(Lstm),
    /// State: the output.
    Gru(Gru),
    /// State: the output.
    SimpleRnn(SimpleRnn),
}

/// Evaluates an expression with the layer of the cell.
macro_rules! with_cell {
    ($cell:expr, $layer:ident => $result:expr) => {
        match $cell {
            RnnCell::Lstm($layer) => $result,
            RnnCell::Gru($layer) => $result,
            RnnCell::SimpleRnn($layer) => $result,
        }
    };
}

impl RnnCell {
    /// Returns the number of states.
    pub fn states(&self) -> usize {
        match self {
            Self::Lstm(_) => 2,
            Self::Gru(_) | Self::SimpleRnn(_) => 1,
        }
    }

    pub(in crate::nn) fn recurrent_kernel(&self) -> WeightId {
        match self {
            Self::Lstm(lstm) => lstm.recurrent.recurrent_kernel,
            Self::Gru(gru) => gru.recurrent.recurrent_kernel,
            Self::SimpleRnn(rnn) => rnn.recurrent_kernel,
        }
    }

    /// Returns the number of units.
    pub(in crate::nn) fn units(&self, weights: &[Weight]) -> usize {
        weights[self.recurrent_kernel().0].shape[0]
    }

    fn step(&self, weights: &[Weight]) -> Step<'_> {
        with_cell!(self, layer => layer.step(weights))
    }

    pub(in crate::nn) fn returns_sequences(&self) -> bool {
        match self {
            Self::Lstm(lstm) => lstm.recurrent.return_sequences,
            Self::Gru(gru) => gru.recurrent.return_sequences,
            Self::SimpleRnn(rnn) => rnn.return_sequences,
        }
    }

    fn goes_backwards(&self) -> bool {
        match self {
            Self::Lstm(lstm) => lstm.recurrent.go_backwards,
            Self::Gru(gru) => gru.recurrent.go_backwards,
            Self::SimpleRnn(rnn) => rnn.go_backwards,
        }
    }
}

impl LayerDefinition for StatefulRnn {
    fn class(&self) -> &'static str {
        match self.cell {
            RnnCell::Lstm(_) => "StatefulLSTM",
            RnnCell::Gru(_) => "StatefulGRU",
            RnnCell::SimpleRnn(_) => "StatefulSimpleRNN",
        }
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        with_cell!(&self.cell, layer => layer.weights())
    }

    fn activations(&self) -> Vec<Activation> {
        with_cell!(&self.cell, layer => layer.activations())
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        match self.return_state {
            true => 1,
            false => with_cell!(&self.cell, layer => layer.rank(inputs)),
        }
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let Some((x, further)) = inputs.split_first() else {
            return Err("it has no input".into());
        };
        let output = with_cell!(&self.cell, layer => layer.shape(weights, &[x]))?;
        let units = self.cell.units(weights);
        let mut wanted = Vec::new();
        if self.masked {
            wanted.push(vec![x[0]]);
        }
        if self.initial_state {
            wanted.resize(wanted.len() + self.cell.states(), vec![units]);
        }
        if further != wanted {
            return Err(format!(
                "behind the sequence {x:?} it takes inputs of the shapes {wanted:?}, not {further:?}"
            ));
        }
        if !self.return_state {
            return Ok(output);
        }
        let states = self.cell.states() * units;
        let length = output.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let length = length.and_then(|n| n.checked_add(states));
        Ok(vec![length.ok_or("its output is too large")?])
    }

    /// That of the cell, the states before a step and the last output.
    fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize {
        let cell = with_cell!(&self.cell, layer => layer.scratch(weights, input));
        cell.saturating_add(10 * self.cell.units(weights))
    }

    fn flops(&self, weights: &[Weight], inputs: &[&[usize]], output: &[usize]) -> u64 {
        with_cell!(&self.cell, layer => layer.flops(weights, inputs, output))
    }

    /// The steps of the cell, in its order. Where the mask is 0, the states stay, and the output is the
    /// last one or zeros.
    fn oracle(&self, weights: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let (time, channels) = (x.shape[0], x.shape[1]);
        let mask = self.masked.then(|| inputs[1].data);
        let units = self.cell.units(weights);
        let step = self.cell.step(weights);
        let mut states = vec![vec![0.0; units]; self.cell.states()];
        if self.initial_state {
            let given = &inputs[1 + usize::from(self.masked)..];
            states = given.iter().map(|state| state.data.to_vec()).collect();
        }
        let mut output = vec![0.0; units];
        let mut all = Vec::new();
        for s in 0..time {
            let t = match self.cell.goes_backwards() {
                true => time - 1 - s,
                false => s,
            };
            if mask.is_none_or(|mask| mask[t] != 0.0) {
                step(&x.data[t * channels..][..channels], &mut states);
                output.clone_from(&states[0]);
            } else if self.zero_skipped_output {
                output.fill(0.0);
            }
            all.extend(&output);
        }
        let mut y = match self.cell.returns_sequences() {
            true => all,
            false => output,
        };
        if self.return_state {
            y.extend(states.concat());
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::StatefulRnn(self)))
    }
}
