//! LSTM with hard sigmoid gates.
//!
//! tract parses the ONNX operator but ignores its `activations` and computes logistic gates. This
//! operator puts the gates of the files into tract's step in place of its fused cell.

use tract_linalg::routines::Func;
use tract_onnx::model::ParsingContext;
use tract_onnx::ops::rec::common::{CommonRec, WireBody};
use tract_onnx::ops::rec::lstm::{LSTM, lstm};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::lstm_cell::LstmEpilogue;
use tract_onnx::tract_hir::internal::{InferenceOp, expand};
use tract_onnx::tract_hir::ops;

const ACTIVATIONS: [&str; 3] = ["HardSigmoid", "Tanh", "Tanh"];

/// Builds the operator, or tract's own for any other activations.
pub fn build(
    context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let attribute = node.attribute.iter().find(|a| a.name == "activations");
    let hard = attribute.is_some_and(|a| a.strings.iter().eq(ACTIVATIONS.map(str::as_bytes)));
    if !hard {
        return lstm(context, node);
    }
    let common = CommonRec::from_node_and_options(node, 3, 0, Box::new(HardLstm))?;
    Ok((expand(common), vec![]))
}

#[derive(Debug, Clone)]
struct HardLstm;

impl HardLstm {
    fn of_tract() -> LSTM {
        LSTM {
            f: Box::new(ops::nn::sigmoid()),
            g: Box::new(ops::math::tanh()),
            h: Box::new(ops::math::tanh()),
        }
    }
}

impl WireBody for HardLstm {
    fn name(&self) -> &'static str {
        "HardLSTM"
    }

    fn wire_body(&self, prefix: &str, body: &mut TypedModel) -> TractResult<()> {
        Self::of_tract().wire_body(prefix, body)?;
        for node in &mut body.nodes {
            if let Some(cell) = node.op.downcast_ref::<LstmEpilogue>() {
                let hidden = cell.hidden;
                node.op = Box::new(HardCell { hidden });
                return Ok(());
            }
        }
        bail!("the LSTM has no fused cell")
    }

    fn w_b_multipliers(&self) -> (usize, usize) {
        Self::of_tract().w_b_multipliers()
    }

    fn have_extra_c_state(&self) -> bool {
        Self::of_tract().have_extra_c_state()
    }
}

/// Cell function: next output and state from the gate sums (input, output, forget, cell) and the
/// state.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct HardCell {
    hidden: usize,
}

impl Op for HardCell {
    fn name(&self) -> StaticName {
        "HardCell".into()
    }

    op_as_typed_op!();
}

impl EvalOp for HardCell {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let n = self.hidden;
        let tanh = Func::Tanh.ew_f32()?;
        let mut sums = inputs[0].clone().into_tensor();
        let mut sums = sums.to_plain_array_view_mut::<f32>()?;
        let sums = sums.as_slice_mut().context("gates are contiguous")?;
        let state = inputs[1].to_plain_array_view::<f32>()?;
        let state = state.as_slice().context("the state is contiguous")?;
        let mut next_state = vec![0.0; state.len()];
        let rows = sums.chunks_exact_mut(4 * n).zip(state.chunks_exact(n));
        for ((gates, state), next) in rows.zip(next_state.chunks_exact_mut(n)) {
            let (hard, cell) = gates.split_at_mut(3 * n);
            for x in hard.iter_mut() {
                *x = (0.2 * *x + 0.5).clamp(0.0, 1.0);
            }
            tanh.run(cell)?;
            for j in 0..n {
                next[j] = hard[2 * n + j] * state[j] + hard[j] * cell[j];
            }
        }
        let mut output = next_state.clone();
        tanh.run(&mut output)?;
        for (gates, output) in sums.chunks_exact(4 * n).zip(output.chunks_exact_mut(n)) {
            for j in 0..n {
                output[j] *= gates[n + j];
            }
        }
        let shape = inputs[1].shape();
        let tensor = |data: Vec<f32>| Ok(Tensor::from_shape(shape, &data)?.into_tvalue());
        [output, next_state].into_iter().map(tensor).collect()
    }
}

impl TypedOp for HardCell {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let fact = inputs[1].datum_type.fact(inputs[1].shape.clone());
        Ok(tvec!(fact.clone(), fact))
    }
}
