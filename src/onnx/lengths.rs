//! Shapes of all values of a graph whose inputs may have open dimensions.

use super::ExportError;
use crate::nn::{Graph, GraphError};

/// A shape without the batch; `None` is a dimension that depends on an open dimension of an input.
pub(super) type Shape = Vec<Option<usize>>;

/// Lengths tried for the open dimensions. The shape rules are monotone in a length, so a dimension
/// that is equal for the shortest and the longest accepted length does not depend on it.
const LENGTHS: [usize; 16] = [
    1, 2, 3, 4, 5, 7, 8, 11, 16, 32, 40, 64, 100, 200, 1000, 8000,
];

/// Returns the shape of every value, inputs first.
pub(super) fn shapes(graph: &Graph) -> Result<Vec<Shape>, ExportError> {
    if let Some(fixed) = graph.fixed_input_shapes() {
        let shapes = graph.infer_shapes(&fixed)?;
        return Ok(shapes
            .into_iter()
            .map(|shape| shape.into_iter().map(Some).collect())
            .collect());
    }
    let mut failure: Option<GraphError> = None;
    let mut accepted: Vec<Vec<Vec<usize>>> = Vec::new();
    for length in LENGTHS {
        let inputs: Vec<Vec<usize>> = graph
            .inputs
            .iter()
            .map(|input| input.shape.iter().map(|d| d.unwrap_or(length)).collect())
            .collect();
        match graph.infer_shapes(&inputs) {
            Ok(shapes) => accepted.push(shapes),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let [first, .., last] = &*accepted else {
        return match failure {
            Some(error) => Err(error.into()),
            None => unreachable!("every length is accepted or fails"),
        };
    };
    let mut shapes: Vec<Shape> = first
        .iter()
        .zip(last)
        .map(|(short, long)| {
            let dims = short.iter().zip(long);
            dims.map(|(a, b)| (a == b).then_some(*a)).collect()
        })
        .collect();
    for (shape, input) in shapes.iter_mut().zip(&graph.inputs) {
        shape.clone_from(&input.shape);
    }
    Ok(shapes)
}
