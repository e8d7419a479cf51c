//! Layers that follow a convolution, done with it before its output leaves the cache.

use super::{Op, Plan, Step};
use crate::nn::cpu::gemm::Affine;
use crate::nn::layer::Activation;

/// Takes the activations, scales and poolings that alone read a convolution's output into the
/// convolution. They compute what they would have, bit by bit.
pub(super) fn fuse(plan: &mut Plan) {
    let mut readers = vec![0; plan.values.len()];
    for step in &plan.steps {
        for &input in &step.inputs {
            readers[input] += 1;
        }
    }
    for output in &plan.outputs {
        readers[output.value] += 1;
    }
    let mut kept: Vec<Step> = Vec::with_capacity(plan.steps.len());
    let mut made_by = vec![None; plan.values.len()];
    for step in std::mem::take(&mut plan.steps) {
        let before: Option<usize> = match *step.inputs {
            [input] if readers[input] == 1 => made_by[input],
            _ => None,
        };
        let done = before.filter(|&number| {
            let before = &mut kept[number];
            before.outer == step.outer && follow(&mut before.op, &step.op)
        });
        made_by[step.output] = done.or(Some(kept.len()));
        match done {
            Some(number) => kept[number].output = step.output,
            None => kept.push(step),
        }
    }
    plan.steps = kept;
}

/// Makes `convolution` do `next` too, if it is one and can.
fn follow(convolution: &mut Op, next: &Op) -> bool {
    let Op::Conv {
        finish,
        activation: Activation::Linear,
        channels,
        ..
    } = convolution
    else {
        return false;
    };
    if finish.pool.is_some() {
        return false;
    }
    let epilogue = &mut finish.epilogue;
    match next {
        Op::Activation {
            function: Activation::Relu,
            ..
        } if epilogue.affine.is_none() => epilogue.relu = true,
        Op::ScaleShift { scale, shift }
            if epilogue.affine.is_none() && scale.len() == *channels =>
        {
            epilogue.affine = Some(Affine::new(scale, shift));
        }
        Op::Pool(pool) => match pool.plain_max() {
            Some(size) => finish.pool = Some(size),
            None => return false,
        },
        _ => return false,
    }
    true
}
