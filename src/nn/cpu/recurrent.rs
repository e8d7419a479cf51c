//! LSTM and GRU.
//!
//! Notation: `x` input, `h` state, `*` element-wise product, `W`, `U`, `b` kernel, recurrent kernel
//! and bias of a gate, `s` the recurrent activation and `a` the activation of the layer.
//!
//! ```text
//! LSTM, gates in the order i, f, g, o:
//!     i = s(x Wi + bi + h Ui)      input gate
//!     f = s(x Wf + bf + h Uf)      forget gate
//!     g = a(x Wg + bg + h Ug)      cell candidate
//!     o = s(x Wo + bo + h Uo)      output gate
//!     c' = f * c + i * g
//!     h' = o * a(c')
//!
//! GRU, gates in the order z, r, g:
//!     z = s(x Wz + bz + h Uz)      update gate
//!     r = s(x Wr + br + h Ur)      reset gate
//!     g = a(x Wg + bg + (r * h) Ug)            reset before the product
//!     g = a(x Wg + bg + r * (h Ug + dg))       reset after the product (`reset_after`)
//!     h' = z * h + (1 - z) * g
//! ```
//!
//! With `reset_after` every gate has a second bias `d`, added to the product with `h`.
//!
//! The products `x W + b` of all time steps are one GEMM. Each time step is then one small GEMM over
//! the states of all sequences, followed by the gates.

use super::gemm::{Epilogue, Gemm, Init, KernelRow, Packed, matmul};
use super::math;
use super::op::{OpCall, PlainOp};
use crate::nn::layers::Activation;
use crate::simd::lanes::Lanes;
use crate::simd::{Isa, Kernel, mul_add};

/// Kind of recurrent cell.
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
    /// `W` of all gates, `[inputs, gates * units]`, with the input bias `b`.
    pub kernel: Packed,
    /// `U` of all gates with the recurrent bias `d`, if there is one. A GRU that resets before the
    /// product has `U` of the candidate in `candidate`.
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

    /// Returns the elements per sequence of the products `x W`.
    pub(super) fn projected(&self) -> usize {
        self.time * self.gates() * self.units
    }

    /// Returns the elements per sequence of the products `h U`, if they cannot accumulate onto `x
    /// W`.
    pub(super) fn product(&self) -> usize {
        match self.cell {
            Cell::Gru { reset_after: true } => 3 * self.units,
            Cell::Lstm | Cell::Gru { reset_after: false } => 0,
        }
    }
}

impl RecurrentPlan {
    /// Multiplies the inputs of all time steps by the kernel.
    pub(super) fn project(&self, isa: Isa, input: &[f32], items: usize, projected: &mut [f32]) {
        let rows = items * self.time;
        matmul(isa, input, rows, &self.kernel, Init::Bias, projected, false);
    }

    /// Computes the states after time step `t` from those before it.
    pub(super) fn step(&self, isa: Isa, t: usize, [projected, product, h, c]: [&mut [f32]; 4]) {
        let width = self.gates() * self.units;
        let mut step = Step {
            plan: self,
            isa,
            z: &mut projected[t * width..],
            pitch: self.time * width,
            product,
            h,
            c,
        };
        match self.cell {
            Cell::Lstm => step.lstm(),
            Cell::Gru { reset_after: true } => step.gru_reset_after(),
            Cell::Gru { reset_after: false } => step.gru_reset_before(),
        }
    }
}

impl PlainOp for RecurrentPlan {
    fn scratch(&self, items: usize) -> usize {
        // Input products, recurrent products, state, and cell or reset state.
        items * (self.projected() + self.product() + 2 * self.units)
    }

    fn run(&self, call: OpCall) {
        let OpCall {
            isa,
            items,
            input,
            output,
            scratch,
        } = call;
        let input = input(0);
        let units = self.units;
        let mut rest = scratch;
        let mut take = |n: usize| rest.split_off_mut(..n).expect("scratch was sized for this");
        let projected = take(items * self.projected());
        let product = take(items * self.product());
        let h = take(items * units);
        let c = take(items * units);
        self.project(isa, input, items, projected);
        h.fill(0.0);
        c.fill(0.0);
        for s in 0..self.time {
            let t = if self.go_backwards {
                self.time - 1 - s
            } else {
                s
            };
            self.step(isa, t, [projected, product, h, c]);
            if self.return_sequences {
                for (item, h) in h.chunks_exact(units).enumerate() {
                    output[(item * self.time + s) * units..][..units].copy_from_slice(h);
                }
            }
        }
        if !self.return_sequences {
            output[..items * units].copy_from_slice(h);
        }
    }
}

/// State of all sequences at one time step.
struct Step<'a> {
    plan: &'a RecurrentPlan,
    isa: Isa,
    /// Gate sums: `gates * units` for each sequence, `pitch` apart.
    z: &'a mut [f32],
    pitch: usize,
    product: &'a mut [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
}

impl Step<'_> {
    fn lstm(&mut self) {
        let plan = self.plan;
        state_gemm(
            self.isa,
            self.h,
            &plan.recurrent,
            Init::Accumulate,
            self.z,
            self.pitch,
        );
        self.isa.dispatch(LstmGates(self));
    }

    fn gru_reset_after(&mut self) {
        let recurrent = &self.plan.recurrent;
        state_gemm(
            self.isa,
            self.h,
            recurrent,
            Init::Bias,
            self.product,
            recurrent.n,
        );
        self.isa.dispatch(GruGates(self));
    }

    fn gru_reset_before(&mut self) {
        let plan = self.plan;
        let candidate = plan.candidate.as_ref().expect("a GRU that resets before");
        state_gemm(
            self.isa,
            self.h,
            &plan.recurrent,
            Init::Accumulate,
            self.z,
            self.pitch,
        );
        self.isa.dispatch(GruReset(self));
        // The candidate's product reads the reset state.
        state_gemm(
            self.isa,
            self.c,
            candidate,
            Init::Accumulate,
            &mut self.z[2 * plan.units..],
            self.pitch,
        );
        self.isa.dispatch(GruCandidate(self));
    }

    /// Iterates over each sequence's gates, state and cell.
    #[inline(always)]
    fn sequences(&mut self) -> impl Iterator<Item = (&mut [f32], &mut [f32], &mut [f32])> {
        let units = self.plan.units;
        let width = self.plan.gates() * units;
        let states = self.h.chunks_exact_mut(units);
        let states = states.zip(self.c.chunks_exact_mut(units));
        let gates = self.z.chunks_mut(self.pitch);
        gates
            .zip(states)
            .map(move |(z, (h, c))| (&mut z[..width], h, c))
    }
}

/// Multiplies all sequences' states by the weights, into rows that are `pitch` apart.
fn state_gemm(
    isa: Isa,
    states: &[f32],
    packed: &Packed,
    init: Init,
    output: &mut [f32],
    pitch: usize,
) {
    let terms = packed.k;
    Gemm {
        input: states,
        pitch: terms,
        rows: states.len() / terms,
        columns: 1,
        first: 0,
        step: 0,
        top: 0,
        row_stride: 1,
        kernel_rows: 1,
        row_dilation: 1,
        kernel_row: &KernelRow::all(terms),
        zeros: &[],
        packed,
        init,
        output,
        output_pitch: pitch,
        epilogue: &Epilogue::default(),
    }
    .compute(isa);
}

/// Selects a fused loop for the usual pairs of activation functions, which keeps the gates in
/// registers, and a generic one otherwise.
macro_rules! with_activations {
    ($plan:expr, |$recurrent:ident, $activation:ident| $fast:expr, $slow:expr) => {
        match ($plan.recurrent_activation, $plan.activation) {
            (Activation::HardSigmoid, Activation::Tanh) => {
                let ($recurrent, $activation) = (math::hard_sigmoid, math::tanh);
                $fast
            }
            (Activation::Sigmoid, Activation::Tanh) => {
                let ($recurrent, $activation) = (math::sigmoid, math::tanh);
                $fast
            }
            _ => $slow,
        }
    };
}

/// LSTM gates: `c = f * c + i * g`, `h = o * a(c)`.
struct LstmGates<'a, 'b>(&'a mut Step<'b>);

impl Kernel for LstmGates<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let plan = self.0.plan;
        for (z, h, c) in self.0.sequences() {
            with_activations!(
                plan,
                |recurrent, activation| lstm(recurrent, activation, z, h, c),
                lstm_generic(plan, z, h, c)
            );
        }
    }
}

#[inline(always)]
fn lstm(
    recurrent: impl Fn(f32) -> f32,
    activation: impl Fn(f32) -> f32,
    z: &[f32],
    h: &mut [f32],
    c: &mut [f32],
) {
    let n = h.len();
    let (input, rest) = z.split_at(n);
    let (forget, rest) = rest.split_at(n);
    let (candidate, output) = rest.split_at(n);
    let gates = input.iter().zip(forget).zip(candidate).zip(output);
    for ((h, c), (((&i, &f), &g), &o)) in h.iter_mut().zip(c).zip(gates) {
        *c = mul_add(recurrent(f), *c, recurrent(i) * activation(g));
        *h = activation(*c) * recurrent(o);
    }
}

#[inline(always)]
fn lstm_generic(plan: &RecurrentPlan, z: &mut [f32], h: &mut [f32], c: &mut [f32]) {
    let n = plan.units;
    let (input_forget, rest) = z.split_at_mut(2 * n);
    let (candidate, output) = rest.split_at_mut(n);
    gate(plan.recurrent_activation, n, input_forget);
    gate(plan.activation, n, candidate);
    gate(plan.recurrent_activation, n, output);
    let (input, forget) = input_forget.split_at(n);
    for u in 0..n {
        c[u] = mul_add(forget[u], c[u], input[u] * candidate[u]);
    }
    h.copy_from_slice(c);
    gate(plan.activation, n, h);
    for (h, &o) in h.iter_mut().zip(&*output) {
        *h *= o;
    }
}

/// GRU gates with the reset after the product.
struct GruGates<'a, 'b>(&'a mut Step<'b>);

impl Kernel for GruGates<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let plan = self.0.plan;
        // Taken out to end the mutable borrow.
        let products = std::mem::take(&mut self.0.product);
        let rows = products.chunks_exact(3 * plan.units);
        for ((z, h, _), p) in self.0.sequences().zip(rows) {
            with_activations!(
                plan,
                |recurrent, activation| gru(recurrent, activation, z, p, h),
                gru_generic(plan, z, p, h)
            );
        }
    }
}

#[inline(always)]
fn gru(
    recurrent: impl Fn(f32) -> f32,
    activation: impl Fn(f32) -> f32,
    z: &[f32],
    p: &[f32],
    h: &mut [f32],
) {
    let n = h.len();
    let (update, rest) = z.split_at(n);
    let (reset, candidate) = rest.split_at(n);
    let (update_product, rest) = p.split_at(n);
    let (reset_product, candidate_product) = rest.split_at(n);
    let updates = update.iter().zip(update_product);
    let resets = reset.iter().zip(reset_product);
    let candidates = candidate.iter().zip(candidate_product);
    for (((h, (u, pu)), (r, pr)), (&c, &pc)) in
        h.iter_mut().zip(updates).zip(resets).zip(candidates)
    {
        let candidate = activation(mul_add(recurrent(r + pr), pc, c));
        *h = blend(recurrent(u + pu), candidate, *h);
    }
}

#[inline(always)]
fn gru_generic(plan: &RecurrentPlan, z: &mut [f32], p: &[f32], h: &mut [f32]) {
    let n = plan.units;
    let (gates, candidate) = z.split_at_mut(2 * n);
    for (z, p) in gates.iter_mut().zip(p) {
        *z += p;
    }
    gate(plan.recurrent_activation, n, gates);
    let (update, reset) = gates.split_at(n);
    for ((c, r), &p) in candidate.iter_mut().zip(reset).zip(&p[2 * n..]) {
        *c = mul_add(*r, p, *c);
    }
    gate(plan.activation, n, candidate);
    for ((h, &z), &c) in h.iter_mut().zip(update).zip(&*candidate) {
        *h = blend(z, c, *h);
    }
}

/// Update and reset gates of a GRU that resets before the product, and the reset state `r * h`.
struct GruReset<'a, 'b>(&'a mut Step<'b>);

impl Kernel for GruReset<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let plan = self.0.plan;
        let n = plan.units;
        for (z, h, reset_state) in self.0.sequences() {
            gate(plan.recurrent_activation, n, &mut z[..2 * n]);
            for ((state, &r), &h) in reset_state.iter_mut().zip(&z[n..2 * n]).zip(&*h) {
                *state = r * h;
            }
        }
    }
}

/// Candidate and new state of a GRU that resets before the product.
struct GruCandidate<'a, 'b>(&'a mut Step<'b>);

impl Kernel for GruCandidate<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let plan = self.0.plan;
        let n = plan.units;
        for (z, h, _) in self.0.sequences() {
            let (gates, candidate) = z.split_at_mut(2 * n);
            gate(plan.activation, n, candidate);
            for ((h, &z), &c) in h.iter_mut().zip(&gates[..n]).zip(&*candidate) {
                *h = blend(z, c, *h);
            }
        }
    }
}

#[inline(always)]
fn blend(update: f32, candidate: f32, h: f32) -> f32 {
    mul_add(update, h, (1.0 - update) * candidate)
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
