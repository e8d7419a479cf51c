//! Weights preprocessed for the steps.

use crate::nn::cpu::elementwise::Broadcast;
use crate::nn::graph::{Graph, WeightId};
use crate::nn::layer::BatchNorm;

/// Folds a batch normalisation into a scale and a shift per channel, computed in `f64`.
pub(in crate::nn) fn folded(graph: &Graph, b: &BatchNorm) -> (Vec<f32>, Vec<f32>) {
    let of = |id: WeightId, c: usize| f64::from(graph.weights[id.0].data[c]);
    let channels = 0..graph.weights[b.mean.0].data.len();
    channels
        .map(|c| {
            let deviation = (of(b.variance, c) + f64::from(b.epsilon)).sqrt();
            let scale = b.gamma.map_or(1.0, |g| of(g, c)) / deviation;
            let shift = b.beta.map_or(0.0, |id| of(id, c)) - of(b.mean, c) * scale;
            (scale as f32, shift as f32)
        })
        .unzip()
}

/// Broadcasts a weight to `shape`.
pub(in crate::nn) fn stretched(graph: &Graph, id: WeightId, shape: &[usize]) -> Vec<f32> {
    let weight = &graph.weights[id.0];
    let mut full = vec![0.0; shape.iter().product()];
    Broadcast::new(&weight.shape, shape).zip(&weight.data, &mut full, |to, from| *to = from);
    full
}
