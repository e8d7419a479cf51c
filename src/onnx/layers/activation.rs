//! Activation functions.

use super::Attribute::{Float, Int};
use super::NodeContext;
use crate::nn::layers::Activation;

/// `1 / sqrt(2)`
const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;

impl NodeContext<'_, '_> {
    /// Adds an activation of `x`, whose channels are last.
    pub(super) fn activation(&mut self, function: Activation, x: String) -> String {
        let x = &*x;
        match function {
            Activation::Linear => x.to_owned(),
            Activation::Relu => self.add("Relu", &[x], &[]),
            Activation::ReluWith {
                max,
                slope,
                threshold,
            } => self.relu_with(x, max, slope, threshold),
            Activation::ThresholdedRelu { theta } => {
                self.add("ThresholdedRelu", &[x], &[("alpha", Float(theta))])
            }
            Activation::LeakyRelu { alpha } => {
                self.add("LeakyRelu", &[x], &[("alpha", Float(alpha))])
            }
            Activation::Elu { alpha } => self.add("Elu", &[x], &[("alpha", Float(alpha))]),
            Activation::Selu => {
                let constants = [("alpha", Float(1.673_263_2)), ("gamma", Float(1.050_701))];
                self.add("Selu", &[x], &constants)
            }
            Activation::Sigmoid => self.add("Sigmoid", &[x], &[]),
            Activation::HardSigmoid => self.hard_sigmoid(x, 0.2),
            Activation::HardSigmoid6 => self.hard_sigmoid(x, 1.0 / 6.0),
            Activation::Tanh => self.add("Tanh", &[x], &[]),
            Activation::Softmax => self.add("Softmax", &[x], &[("axis", Int(-1))]),
            Activation::Softplus => self.add("Softplus", &[x], &[]),
            Activation::Softsign => self.add("Softsign", &[x], &[]),
            Activation::Exponential => self.add("Exp", &[x], &[]),
            Activation::Swish => {
                let gate = self.add("Sigmoid", &[x], &[]);
                self.add("Mul", &[x, &gate], &[])
            }
            Activation::Gelu => {
                let [root, one, half] = [HALF_ROOT, 1.0, 0.5].map(|c| self.builder.number(c));
                let scaled = self.add("Mul", &[x, &root], &[]);
                let erf = self.add("Erf", &[&scaled], &[]);
                let doubled = self.add("Add", &[&erf, &one], &[]);
                let gate = self.add("Mul", &[&doubled, &half], &[]);
                self.add("Mul", &[x, &gate], &[])
            }
            Activation::Mish => {
                let softplus = self.add("Softplus", &[x], &[]);
                let gate = self.add("Tanh", &[&softplus], &[]);
                self.add("Mul", &[x, &gate], &[])
            }
        }
    }

    fn hard_sigmoid(&mut self, x: &str, alpha: f32) -> String {
        let options = [("alpha", Float(alpha)), ("beta", Float(0.5))];
        self.add("HardSigmoid", &[x], &options)
    }

    /// `max` where `x >= max`, `x` where `x >= threshold`, else `slope * (x - threshold)`.
    fn relu_with(&mut self, x: &str, max: Option<f32>, slope: f32, threshold: f32) -> String {
        let limit = self.builder.number(threshold);
        let distance = self.add("Sub", &[x, &limit], &[]);
        let slope = self.builder.number(slope);
        let low = self.add("Mul", &[&distance, &slope], &[]);
        let is_high = self.add("GreaterOrEqual", &[x, &limit], &[]);
        let y = self.add("Where", &[&is_high, x, &low], &[]);
        let Some(max) = max else {
            return y;
        };
        let max = self.builder.number(max);
        let is_over = self.add("GreaterOrEqual", &[x, &max], &[]);
        self.add("Where", &[&is_over, &max, &y], &[])
    }
}
