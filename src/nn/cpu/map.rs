//! Element-wise functions.

use super::op::{OpCall, PlainOp};
use crate::nn::layers::MapFunction;

/// The angle of each complex number of `[.., 2]`.
#[derive(Debug)]
pub(crate) struct AnglePlan;

impl PlainOp for AnglePlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        for (y, x) in output.iter_mut().zip(input(0).chunks_exact(2)) {
            *y = f64::from(x[1]).atan2(x[0].into()) as f32;
        }
    }
}

/// A function of each element.
#[derive(Debug)]
pub(crate) struct MapPlan(pub MapFunction);

impl PlainOp for MapPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        let x = input(0);
        let mut each = |f: &dyn Fn(f32) -> f32| {
            for (y, &x) in output.iter_mut().zip(x) {
                *y = f(x);
            }
        };
        match self.0 {
            MapFunction::Abs => each(&f32::abs),
            MapFunction::Negate => each(&|x| -x),
            MapFunction::Square => each(&|x| x * x),
            MapFunction::Sqrt => each(&|x| x.max(0.0).sqrt()),
            // In `f64`, so that the rounded result does not depend on the platform's `f32` functions.
            MapFunction::Log => each(&|x| f64::from(x).ln() as f32),
            MapFunction::Exp => each(&|x| f64::from(x).exp() as f32),
            MapFunction::Add(c) => each(&|x| x + c),
            MapFunction::SubtractFrom(c) => each(&|x| c - x),
            MapFunction::Multiply(c) => each(&|x| x * c),
            MapFunction::Divide(c) => each(&|x| x / c),
            MapFunction::DivideInto(c) => each(&|x| c / x),
            MapFunction::Maximum(c) => each(&|x| if x > c { x } else { c }),
            MapFunction::Minimum(c) => each(&|x| if x < c { x } else { c }),
            MapFunction::NotEqual(c) => each(&|x| if x == c { 0.0 } else { 1.0 }),
        }
    }
}
