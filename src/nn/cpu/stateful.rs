//! Recurrent layers with masks and with states as values.

use super::op::{OpCall, PlainOp};
use super::recurrent::RecurrentPlan;
use super::simple_rnn::SimpleRnnPlan;

/// A recurrent layer with the options of
/// [`StatefulRnn`](crate::nn::layers::StatefulRnn).
#[derive(Debug)]
pub(crate) struct StatefulPlan {
    pub cell: CellPlan,
    pub masked: bool,
    pub zero_skipped_output: bool,
    pub initial_state: bool,
    pub return_state: bool,
}

/// The plan that computes the steps.
#[derive(Debug)]
pub(crate) enum CellPlan {
    /// The number of states is 2 for an LSTM, 1 for a GRU.
    Gated(Box<RecurrentPlan>, usize),
    Simple(Box<SimpleRnnPlan>),
}

/// Sizes and options of a cell.
struct Sizes {
    time: usize,
    units: usize,
    states: usize,
    return_sequences: bool,
    go_backwards: bool,
    /// Elements per item of the products that the cell computes.
    projected: usize,
    product: usize,
}

impl CellPlan {
    fn sizes(&self) -> Sizes {
        match self {
            Self::Gated(plan, states) => Sizes {
                time: plan.time,
                units: plan.units,
                states: *states,
                return_sequences: plan.return_sequences,
                go_backwards: plan.go_backwards,
                projected: plan.projected(),
                product: plan.product(),
            },
            Self::Simple(plan) => Sizes {
                time: plan.time,
                units: plan.bias.len(),
                states: 1,
                return_sequences: plan.return_sequences,
                go_backwards: plan.go_backwards,
                projected: 0,
                product: 0,
            },
        }
    }
}

impl PlainOp for StatefulPlan {
    fn scratch(&self, items: usize) -> usize {
        let sizes = self.cell.sizes();
        // The states of both kinds, both before the step, and the last output.
        items * (sizes.projected + sizes.product + 5 * sizes.units)
    }

    fn run(&self, call: OpCall) {
        let OpCall {
            isa,
            items,
            input,
            output,
            scratch,
        } = call;
        let sizes = self.cell.sizes();
        let (time, units) = (sizes.time, sizes.units);
        let mut rest = scratch;
        let mut take = |n: usize| rest.split_off_mut(..n).expect("scratch was sized for this");
        let projected = take(items * sizes.projected);
        let product = take(items * sizes.product);
        let [h, c, old_h, old_c, last] = [(); 5].map(|()| take(items * units));
        let x = input(0);
        let mask = self.masked.then(|| input(1));
        h.fill(0.0);
        c.fill(0.0);
        last.fill(0.0);
        if self.initial_state {
            let first = 1 + usize::from(self.masked);
            h.copy_from_slice(&input(first)[..items * units]);
            if sizes.states == 2 {
                c.copy_from_slice(&input(first + 1)[..items * units]);
            }
        }
        if let CellPlan::Gated(plan, _) = &self.cell {
            plan.project(isa, x, items, projected);
        }
        let steps = if sizes.return_sequences { time } else { 1 };
        let states = if self.return_state { sizes.states } else { 0 };
        let width = (steps + states) * units;
        for s in 0..time {
            let t = match sizes.go_backwards {
                true => time - 1 - s,
                false => s,
            };
            old_h.copy_from_slice(h);
            old_c.copy_from_slice(c);
            match &self.cell {
                CellPlan::Gated(plan, _) => plan.step(isa, t, [projected, product, h, c]),
                CellPlan::Simple(plan) => {
                    let channels = plan.channels;
                    for item in 0..items {
                        let x = &x[(item * time + t) * channels..][..channels];
                        let old = &old_h[item * units..][..units];
                        plan.step(isa, x, old, &mut h[item * units..][..units]);
                    }
                }
            }
            for item in 0..items {
                let place = item * units..(item + 1) * units;
                let last = &mut last[place.clone()];
                if mask.is_none_or(|mask| mask[item * time + t] != 0.0) {
                    last.copy_from_slice(&h[place]);
                } else {
                    h[place.clone()].copy_from_slice(&old_h[place.clone()]);
                    c[place.clone()].copy_from_slice(&old_c[place]);
                    if self.zero_skipped_output {
                        last.fill(0.0);
                    }
                }
                if sizes.return_sequences {
                    output[item * width + s * units..][..units].copy_from_slice(last);
                }
            }
        }
        for (item, row) in output.chunks_exact_mut(width).take(items).enumerate() {
            let place = item * units..(item + 1) * units;
            if !sizes.return_sequences {
                row[..units].copy_from_slice(&last[place.clone()]);
            }
            for (state, values) in [&*h, &*c].into_iter().take(states).enumerate() {
                row[(steps + state) * units..][..units].copy_from_slice(&values[place.clone()]);
            }
        }
    }
}
