//! Element-wise functions that networks use outside of activations.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, count, first_rank, single};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// A function of each element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// The function.
    pub function: MapFunction,
}

/// Function of [`Map`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum MapFunction {
    /// `|x|`
    Abs,
    /// `-x`
    Negate,
    /// `x * x`
    Square,
    /// `sqrt(max(x, 0))`
    Sqrt,
    /// `ln(x)`
    Log,
    /// `exp(x)`
    Exp,
    /// `x + c`
    Add(f32),
    /// `c - x`
    SubtractFrom(f32),
    /// `x * c`
    Multiply(f32),
    /// `x / c`
    Divide(f32),
    /// `c / x`
    DivideInto(f32),
    /// `max(x, c)`
    Maximum(f32),
    /// `min(x, c)`
    Minimum(f32),
    /// 1 where `x != c`, else 0
    NotEqual(f32),
}

impl MapFunction {
    /// Returns the constant, if the function has one.
    fn constant(self) -> Option<f32> {
        match self {
            Self::Abs | Self::Negate | Self::Square | Self::Sqrt | Self::Log | Self::Exp => None,
            Self::Add(c)
            | Self::SubtractFrom(c)
            | Self::Multiply(c)
            | Self::Divide(c)
            | Self::DivideInto(c)
            | Self::Maximum(c)
            | Self::Minimum(c)
            | Self::NotEqual(c) => Some(c),
        }
    }
}

impl LayerDefinition for Map {
    fn class(&self) -> &'static str {
        "Map"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        match self.function.constant() {
            Some(c) if !c.is_finite() => Err(format!("its constant is {c}")),
            Some(0.0) if matches!(self.function, MapFunction::Divide(_)) => {
                Err("it divides by 0".into())
            }
            _ => Ok(x.to_vec()),
        }
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output)
    }

    /// `y = f(x)`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let f = |x: f64| match self.function {
            MapFunction::Abs => x.abs(),
            MapFunction::Negate => -x,
            MapFunction::Square => x * x,
            MapFunction::Sqrt => x.max(0.0).sqrt(),
            MapFunction::Log => x.ln(),
            MapFunction::Exp => x.exp(),
            MapFunction::Add(c) => x + f64::from(c),
            MapFunction::SubtractFrom(c) => f64::from(c) - x,
            MapFunction::Multiply(c) => x * f64::from(c),
            MapFunction::Divide(c) => x / f64::from(c),
            MapFunction::DivideInto(c) => f64::from(c) / x,
            MapFunction::Maximum(c) => x.max(f64::from(c)),
            MapFunction::Minimum(c) => x.min(f64::from(c)),
            MapFunction::NotEqual(c) => f64::from(x != f64::from(c)),
        };
        inputs[0].data.iter().map(|&x| f(x)).collect()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Map(self))
    }
}
