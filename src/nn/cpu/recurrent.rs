//! LSTM and GRU: the input product for all time steps at once, then one small product per step
//! over all sequences.

use super::gemm::{Packed, Start, matmul};
use super::isa::{Isa, Kernel};
use super::lanes::Lanes;
use super::math;
use crate::nn::layer::Activation;

/// Which cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Lstm,
    Gru { reset_after: bool },
}

/// A recurrent layer with everything that does not depend on the data.
#[derive(Debug, Clone)]
pub(crate) struct RecurrentPlan {
    pub cell: Cell,
    pub time: usize,
    pub units: usize,
    pub activation: Activation,
    pub recurrent_activation: Activation,
    pub return_sequences: bool,
    pub go_backwards: bool,
    /// `[inputs, gates * units]` with the input bias.
    pub kernel: Packed,
    /// The products with the state: all gates, except for a GRU that resets before the product,
    /// whose candidate is apart; with the recurrent bias, if there is one.
    pub recurrent: Packed,
    pub candidate: Option<Packed>,
}

impl RecurrentPlan {
    fn gates(&self) -> usize {
        match self.cell {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
        }
    }

    /// Numbers of scratch needed for `items` sequences.
    pub fn scratch(&self, items: usize) -> usize {
        let width = self.gates() * self.units;
        // Input products, one step's gates, recurrent products, state, cell, reset state.
        items * (self.time * width + 2 * width + 3 * self.units)
    }

    pub fn run(
        &self,
        isa: Isa,
        items: usize,
        input: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (units, width) = (self.units, self.gates() * self.units);
        let mut rest = scratch;
        let mut take = |n: usize| rest.split_off_mut(..n).expect("scratch was sized for this");
        let projected = take(items * self.time * width);
        let mut step = Step {
            plan: self,
            z: take(items * width),
            product: take(items * width),
            h: take(items * units),
            c: take(items * units),
            reset: take(items * units),
        };
        let rows = items * self.time;
        matmul(
            isa,
            input,
            rows,
            &self.kernel,
            Start::Bias,
            projected,
            false,
        );
        step.h.fill(0.0);
        step.c.fill(0.0);
        for s in 0..self.time {
            let t = if self.go_backwards {
                self.time - 1 - s
            } else {
                s
            };
            for (item, z) in step.z.chunks_exact_mut(width).enumerate() {
                z.copy_from_slice(&projected[(item * self.time + t) * width..][..width]);
            }
            match self.cell {
                Cell::Lstm => step.lstm(isa, items),
                Cell::Gru { reset_after: true } => step.gru_reset_after(isa, items),
                Cell::Gru { reset_after: false } => step.gru_reset_before(isa, items),
            }
            if self.return_sequences {
                for (item, h) in step.h.chunks_exact(units).enumerate() {
                    output[(item * self.time + s) * units..][..units].copy_from_slice(h);
                }
            }
        }
        if !self.return_sequences {
            output[..items * units].copy_from_slice(step.h);
        }
    }
}

/// The state of all sequences at one time step.
struct Step<'a> {
    plan: &'a RecurrentPlan,
    /// The gates' arguments, `[items, gates * units]`.
    z: &'a mut [f32],
    product: &'a mut [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
    reset: &'a mut [f32],
}

impl Step<'_> {
    fn lstm(&mut self, isa: Isa, items: usize) {
        let plan = self.plan;
        let width = 4 * plan.units;
        matmul(
            isa,
            self.h,
            items,
            &plan.recurrent,
            Start::Output,
            self.z,
            false,
        );
        for ((z, h), c) in self
            .z
            .chunks_exact_mut(width)
            .zip(self.h.chunks_exact_mut(plan.units))
            .zip(self.c.chunks_exact_mut(plan.units))
        {
            isa.dispatch(LstmGates { plan, z, h, c });
        }
    }

    fn gru_reset_after(&mut self, isa: Isa, items: usize) {
        let plan = self.plan;
        let n = plan.units;
        matmul(
            isa,
            self.h,
            items,
            &plan.recurrent,
            Start::Bias,
            self.product,
            false,
        );
        for ((z, p), h) in self
            .z
            .chunks_exact_mut(3 * n)
            .zip(self.product.chunks_exact(3 * n))
            .zip(self.h.chunks_exact_mut(n))
        {
            for (z, p) in z[..2 * n].iter_mut().zip(p) {
                *z += p;
            }
            math::activate(isa, plan.recurrent_activation, n, &mut z[..2 * n]);
            let (gates, candidate) = z.split_at_mut(2 * n);
            for u in 0..n {
                candidate[u] = gates[n + u].mul_add(p[2 * n + u], candidate[u]);
            }
            math::activate(isa, plan.activation, n, candidate);
            blend(&gates[..n], candidate, h);
        }
    }

    fn gru_reset_before(&mut self, isa: Isa, items: usize) {
        let plan = self.plan;
        let n = plan.units;
        let candidate_kernel = plan.candidate.as_ref().expect("a GRU that resets before");
        // Update and reset gates first, since the candidate's product needs the reset state.
        let gates = &mut self.product[..items * 2 * n];
        for (z, g) in self
            .z
            .chunks_exact(3 * n)
            .zip(gates.chunks_exact_mut(2 * n))
        {
            g.copy_from_slice(&z[..2 * n]);
        }
        matmul(
            isa,
            self.h,
            items,
            &plan.recurrent,
            Start::Output,
            gates,
            false,
        );
        math::activate(isa, plan.recurrent_activation, n, gates);
        for ((r, g), h) in self
            .reset
            .chunks_exact_mut(n)
            .zip(gates.chunks_exact(2 * n))
            .zip(self.h.chunks_exact(n))
        {
            for u in 0..n {
                r[u] = g[n + u] * h[u];
            }
        }
        let candidates = &mut self.c[..items * n];
        for (z, c) in self
            .z
            .chunks_exact(3 * n)
            .zip(candidates.chunks_exact_mut(n))
        {
            c.copy_from_slice(&z[2 * n..]);
        }
        matmul(
            isa,
            self.reset,
            items,
            candidate_kernel,
            Start::Output,
            candidates,
            false,
        );
        math::activate(isa, plan.activation, n, candidates);
        for ((g, c), h) in gates
            .chunks_exact(2 * n)
            .zip(candidates.chunks_exact(n))
            .zip(self.h.chunks_exact_mut(n))
        {
            blend(&g[..n], c, h);
        }
    }
}

/// `h = z * h + (1 - z) * candidate`
fn blend(z: &[f32], candidate: &[f32], h: &mut [f32]) {
    for ((h, &z), &c) in h.iter_mut().zip(z).zip(candidate) {
        *h = z.mul_add(*h, (1.0 - z) * c);
    }
}

/// One step of one sequence: `c = f * c + i * g`, `h = o * activation(c)`.
struct LstmGates<'a> {
    plan: &'a RecurrentPlan,
    z: &'a mut [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
}

impl Kernel for LstmGates<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        let n = self.plan.units;
        let (input_forget, rest) = self.z.split_at_mut(2 * n);
        let (candidate, output) = rest.split_at_mut(n);
        gate(self.plan.recurrent_activation, n, input_forget);
        gate(self.plan.activation, n, candidate);
        gate(self.plan.recurrent_activation, n, output);
        let (input, forget) = input_forget.split_at(n);
        for u in 0..n {
            self.c[u] = forget[u].mul_add(self.c[u], input[u] * candidate[u]);
        }
        self.h.copy_from_slice(self.c);
        gate(self.plan.activation, n, self.h);
        for (h, &o) in self.h.iter_mut().zip(&*output) {
            *h *= o;
        }
    }
}

#[inline(always)]
fn gate(function: Activation, units: usize, values: &mut [f32]) {
    match function {
        Activation::Softmax => {
            for row in values.chunks_exact_mut(units) {
                math::softmax_row(row);
            }
        }
        _ => math::apply(function, values),
    }
}
