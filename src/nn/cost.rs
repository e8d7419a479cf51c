//! Arithmetic cost of a graph.

use super::graph::{Graph, GraphError};

/// Returns each node's floating-point operations per batch row; a multiply-add counts two, a
/// function such as `exp` one. Savings by sharing or skipping work are not deducted.
///
/// # Errors
/// When the shapes do not fit the graph.
pub fn flops(graph: &Graph, input_shapes: &[Vec<usize>]) -> Result<Vec<u64>, GraphError> {
    let shapes = graph.infer_shapes(input_shapes)?;
    Ok(graph
        .nodes
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let inputs: Vec<&[usize]> = node.inputs.iter().map(|v| &*shapes[v.0]).collect();
            let output = &shapes[graph.output_of(i).0];
            node.layer.flops(&graph.weights, &inputs, output)
        })
        .collect())
}
