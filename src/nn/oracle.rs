//! Oracle: any graph, computed slowly in `f64` by plain loops over each layer's definition. The
//! engine is tested against it.
//!
//! The definitions are those of Keras 2; each function states its formula. The only code shared
//! with the engine is the graph, its shape inference and the generator of dropout.

#[cfg(test)]
mod tests;

use super::dropout::{DropoutMode, Masks, draw_factors};
use super::graph::{Graph, GraphError, MAX_ELEMENTS, Node, ValueId};
use super::layers::oracle::Item;
use super::layers::{Dropout, Layer};

/// Error of running the oracle.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The graph is invalid or does not take these shapes.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Data for more or fewer inputs than the graph has.
    #[error("graph {graph} has {wanted} inputs, data for {given} was given")]
    Inputs {
        /// [`Graph::name`].
        graph: String,
        /// Inputs of the graph.
        wanted: usize,
        /// Inputs supplied.
        given: usize,
    },
    /// An input's data is not `batch` rows of its shape.
    #[error("graph {graph}, input {input}: {wanted} numbers are needed, {given} were given")]
    Input {
        /// [`Graph::name`].
        graph: String,
        /// [`Input::name`](super::graph::Input::name).
        input: String,
        /// Batch times the elements of a row.
        wanted: usize,
        /// Elements in the data.
        given: usize,
    },
    /// A value would hold more than [`MAX_ELEMENTS`] elements.
    #[error("graph {graph}: {rows} rows are too many, pass fewer at a time")]
    Rows {
        /// [`Graph::name`].
        graph: String,
        /// Batch times draws.
        rows: usize,
    },
    /// [`DropoutMode::Masks`] lacks the mask of a forced dropout.
    #[error("graph {graph}: the dropout node {node} stays on, but there is no mask of that name")]
    NoMask {
        /// [`Graph::name`].
        graph: String,
        /// [`Node::name`], the missing key of the masks.
        node: String,
    },
    /// A mask has not one decision per row and unit.
    #[error(
        "graph {graph}, mask {node}: {wanted} decisions (rows times units) are needed, {given} were given"
    )]
    Mask {
        /// [`Graph::name`].
        graph: String,
        /// [`Node::name`].
        node: String,
        /// Rows times units.
        wanted: usize,
        /// Decisions in the mask.
        given: usize,
    },
}

/// One value of a graph for all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Shape without the rows.
    pub shape: Vec<usize>,
    /// Rows one after the other, each row-major.
    pub data: Vec<f64>,
}

/// Every value of a graph after a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Values<'g> {
    graph: &'g Graph,
    rows: usize,
    values: Vec<Value>,
}

impl<'g> Values<'g> {
    /// Returns the number of rows of every value: the batch times the draws of dropout.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the value with this id.
    pub fn get(&self, id: ValueId) -> Option<&Value> {
        self.values.get(id.0)
    }

    /// Returns the graph's output `index`.
    pub fn output(&self, index: usize) -> Option<&Value> {
        self.get(self.graph.outputs.get(index)?.value)
    }

    /// Returns the value of the node or input called `name`.
    pub fn named(&self, name: &str) -> Option<&Value> {
        let inputs = self.graph.inputs.iter().map(|i| &i.name);
        let nodes = self.graph.nodes.iter().map(|n| &n.name);
        let index = inputs.chain(nodes).position(|n| n == name)?;
        self.get(ValueId(index))
    }
}

/// Computes every value of `graph`.
///
/// `shapes` are the inputs' shapes without the batch, `inputs` their elements, `batch` rows each.
/// With draws, every value has `batch * n` rows, the draws of one input row side by side.
///
/// # Errors
/// If the graph is invalid or does not fit the shapes, if an input or a mask is missing or has the
/// wrong length, or if the number of rows exceeds the limit.
pub fn run<'g>(
    graph: &'g Graph,
    shapes: &[Vec<usize>],
    inputs: &[Vec<f64>],
    batch: usize,
    dropout: &DropoutMode,
) -> Result<Values<'g>, RunError> {
    let shapes = graph.infer_shapes(shapes)?;
    let rows = batch.saturating_mul(dropout.rows());
    if let Some(largest) = shapes.iter().map(|s| s.iter().product::<usize>()).max()
        && largest.saturating_mul(rows.max(dropout.rows())) > MAX_ELEMENTS
    {
        let graph = graph.name.clone();
        return Err(RunError::Rows { graph, rows });
    }
    if inputs.len() != graph.inputs.len() {
        return Err(RunError::Inputs {
            graph: graph.name.clone(),
            wanted: graph.inputs.len(),
            given: inputs.len(),
        });
    }
    let mut values: Vec<Value> = Vec::with_capacity(shapes.len());
    for ((input, shape), data) in graph.inputs.iter().zip(&shapes).zip(inputs) {
        let item: usize = shape.iter().product();
        if data.len() != item * batch {
            return Err(RunError::Input {
                graph: graph.name.clone(),
                input: input.name.clone(),
                wanted: item * batch,
                given: data.len(),
            });
        }
        values.push(Value {
            shape: shape.clone(),
            data: data
                .chunks(item)
                .flat_map(|row| std::iter::repeat_n(row, dropout.rows()))
                .flatten()
                .copied()
                .collect(),
        });
    }
    let mut forced = 0;
    for (node, shape) in graph.nodes.iter().zip(&shapes[inputs.len()..]) {
        let data = match &node.layer {
            Layer::Dropout(d) if d.is_active() => {
                forced += 1;
                let x = &values[node.inputs[0].0];
                drop_units(graph, node, d, x, rows, dropout, forced - 1)?
            }
            _ => node_data(graph, node, &values, shape, rows),
        };
        values.push(Value {
            shape: shape.clone(),
            data,
        });
    }
    Ok(Values {
        graph,
        rows,
        values,
    })
}

fn node_data(
    graph: &Graph,
    node: &Node,
    values: &[Value],
    shape: &[usize],
    rows: usize,
) -> Vec<f64> {
    let items = rows * shape[..node.outer].iter().product::<usize>();
    let mut data = Vec::with_capacity(rows * shape.iter().product::<usize>());
    for item in 0..items {
        let given: Vec<Item> = node
            .inputs
            .iter()
            .map(|v| {
                let value = &values[v.0];
                let shape = &value.shape[node.outer..];
                let size: usize = shape.iter().product();
                Item {
                    shape,
                    data: &value.data[item * size..][..size],
                }
            })
            .collect();
        data.extend(
            node.layer
                .oracle(&graph.weights, &given, &shape[node.outer..]),
        );
    }
    data
}

/// `y = x * factor`, the factor of a unit being 0 or `1 / (1 - rate)` by its decision.
///
/// Units are counted through the whole value (one per channel and outer index if `per_channel`); a
/// draw has the same decisions for every row of the batch.
fn drop_units(
    graph: &Graph,
    node: &Node,
    d: &Dropout,
    x: &Value,
    rows: usize,
    mode: &DropoutMode,
    layer: u32,
) -> Result<Vec<f64>, RunError> {
    let size: usize = x.shape.iter().product();
    let inner: usize = x.shape[node.outer..].iter().product();
    let channels = x.shape[x.shape.len() - 1];
    let unit = |i: usize| match d.per_channel {
        true => i / inner * channels + i % channels,
        false => i,
    };
    let units = unit(size - 1) + 1;
    let kept = 1.0 / (1.0 - d.rate);
    let factors: Vec<f32> = match mode {
        DropoutMode::Off => return Ok(x.data.clone()),
        DropoutMode::Draws { n, seed } => {
            let mut draws = vec![0.0; units * n.get() as usize];
            for (draw, factors) in (0..n.get()).zip(draws.chunks_mut(units)) {
                draw_factors(*seed, draw, layer, d.rate, factors);
            }
            draws
        }
        DropoutMode::Masks(Masks(masks)) => {
            let Some(mask) = masks.get(&node.name) else {
                return Err(RunError::NoMask {
                    graph: graph.name.clone(),
                    node: node.name.clone(),
                });
            };
            if mask.len() != rows * units {
                return Err(RunError::Mask {
                    graph: graph.name.clone(),
                    node: node.name.clone(),
                    wanted: rows * units,
                    given: mask.len(),
                });
            }
            let factor = |&keep: &u8| if keep != 0 { kept } else { 0.0 };
            mask.iter().map(factor).collect()
        }
    };
    // With draws the decisions repeat for every input row.
    let factors = factors.chunks(units).cycle();
    let row = |(row, factors): (&[f64], &[f32])| {
        let value = |(i, v): (usize, &f64)| v * f64::from(factors[unit(i)]);
        row.iter().enumerate().map(value).collect::<Vec<f64>>()
    };
    Ok(x.data.chunks(size).zip(factors).flat_map(row).collect())
}
