//! Oracle: any graph, computed slowly in `f64` by plain loops over each layer's definition. The
//! engine is tested against it.
//!
//! The definitions are those of Keras 2; each function states its formula. The only code shared
//! with the engine is the graph, its shape inference and the generator of dropout.

mod activation;
mod recurrent;
mod spatial;
#[cfg(test)]
mod tests;

use super::dropout::{DropoutMode, Masks, draw_factors};
use super::graph::{Graph, GraphError, MAX_ELEMENTS, Node, ValueId, Weight, WeightId};
use super::layer::{BatchNorm, Dropout, Layer, MergeOp};

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
            Layer::Dropout(d) if d.forced && d.rate > 0.0 => {
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

/// Slice of a value for one row and one outer index.
#[derive(Clone, Copy)]
struct Item<'a> {
    shape: &'a [usize],
    data: &'a [f64],
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
        data.extend(layer(graph, &node.layer, &given, &shape[node.outer..]));
    }
    data
}

fn floats(weight: &Weight) -> Vec<f64> {
    weight.data.iter().map(|&w| f64::from(w)).collect()
}

/// Computes one item of a layer; `out` is the inferred shape of the result.
fn layer(graph: &Graph, layer: &Layer, inputs: &[Item], out: &[usize]) -> Vec<f64> {
    let weight = |id: WeightId| &graph.weights[id.0];
    let x = inputs[0];
    match layer {
        Layer::Conv(conv) => spatial::conv(
            conv,
            weight(conv.kernel),
            conv.bias.map(|b| floats(weight(b))),
            x,
            out,
        ),
        Layer::Pool(pool) => spatial::pool(pool, x, out),
        Layer::GlobalPool { kind, .. } => spatial::global_pool(*kind, x),
        Layer::Upsample {
            factor,
            interpolation,
        } => spatial::upsample(*factor, *interpolation, x, out),
        Layer::ZeroPad { top, left, .. } => spatial::zero_pad(*top, *left, x, out),
        Layer::BatchNorm(b) => batch_norm(graph, b, x),
        Layer::Dense {
            kernel,
            bias,
            activation,
        } => {
            let kernel = floats(weight(*kernel));
            let bias = bias.map(|b| floats(weight(b)));
            let mut y = dense(&kernel, bias.as_deref(), x);
            activation::apply(*activation, &mut y, out);
            y
        }
        Layer::Lstm(r) => recurrent::lstm(graph, r, x),
        Layer::Gru {
            recurrent: r,
            reset_after,
        } => recurrent::gru(graph, r, *reset_after, x),
        Layer::Reverse => {
            let step: usize = x.shape[1..].iter().product();
            x.data.chunks(step).rev().flatten().copied().collect()
        }
        // Only a forced dropout has an effect at inference; `run` computes those.
        Layer::Flatten | Layer::Reshape { .. } | Layer::Dropout(_) => x.data.to_vec(),
        Layer::Permute { order } => permute(order, x, out),
        Layer::RepeatVector { count } => x.data.repeat(*count),
        Layer::Concat { axis } => concat(*axis, inputs),
        Layer::Merge { op } => merge(*op, inputs, out),
        Layer::Activation(activation) => {
            let mut y = x.data.to_vec();
            activation::apply(*activation, &mut y, out);
            y
        }
        Layer::Softmax { axis } => softmax(*axis, x),
        Layer::PRelu { alpha } => {
            let alpha = weight(*alpha);
            let slopes = floats(alpha);
            let slope = |i| slopes[broadcast_index(i, x.shape, &alpha.shape)];
            let value = |(i, &v): (usize, &f64)| if v > 0.0 { v } else { slope(i) * v };
            x.data.iter().enumerate().map(value).collect()
        }
        Layer::SumAxis { axis } => sum_axis(*axis, x),
        Layer::SpatialMultiply => {
            let channels = x.shape[2];
            let attention = |i: usize| inputs[1].data[i / channels];
            let value = |(i, &v): (usize, &f64)| v * attention(i);
            x.data.iter().enumerate().map(value).collect()
        }
        Layer::ChannelMultiply => {
            let attention = inputs[1].data.iter().cycle();
            x.data.iter().zip(attention).map(|(v, a)| v * a).collect()
        }
    }
}

/// `y[.., c] = (x[.., c] - mean[c]) / sqrt(variance[c] + epsilon) * gamma[c] + beta[c]`
fn batch_norm(graph: &Graph, b: &BatchNorm, x: Item) -> Vec<f64> {
    let part = |id: WeightId| floats(&graph.weights[id.0]);
    let (mean, variance) = (part(b.mean), part(b.variance));
    let gamma = b.gamma.map_or(vec![1.0; mean.len()], part);
    let beta = b.beta.map_or(vec![0.0; mean.len()], part);
    let epsilon = f64::from(b.epsilon);
    let value = |(i, &v): (usize, &f64)| {
        let c = i % mean.len();
        (v - mean[c]) / (variance[c] + epsilon).sqrt() * gamma[c] + beta[c]
    };
    x.data.iter().enumerate().map(value).collect()
}

/// `y[.., o] = bias[o] + sum over i of x[.., i] * kernel[i, o]`
fn dense(kernel: &[f64], bias: Option<&[f64]>, x: Item) -> Vec<f64> {
    let inputs = x.shape[x.shape.len() - 1];
    let units = kernel.len() / inputs;
    let mut y = Vec::with_capacity(x.data.len() / inputs * units);
    for vector in x.data.chunks(inputs) {
        for o in 0..units {
            let product = |(i, &v): (usize, &f64)| v * kernel[i * units + o];
            let sum: f64 = vector.iter().enumerate().map(product).sum();
            y.push(bias.map_or(0.0, |b| b[o]) + sum);
        }
    }
    y
}

/// Concatenates the inputs along dimension `axis`.
fn concat(axis: usize, inputs: &[Item]) -> Vec<f64> {
    let block = |x: &Item| x.shape[axis..].iter().product::<usize>();
    let blocks: usize = inputs[0].shape[..axis].iter().product();
    let mut y = Vec::new();
    for b in 0..blocks {
        for x in inputs {
            y.extend(&x.data[b * block(x)..][..block(x)]);
        }
    }
    y
}

/// `y = x0 op x1 op x2 ...`, element by element after broadcasting; the average divides the sum by
/// the number of inputs.
fn merge(op: MergeOp, inputs: &[Item], out: &[usize]) -> Vec<f64> {
    (0..out.iter().product())
        .map(|i| {
            let values = inputs
                .iter()
                .map(|x| x.data[broadcast_index(i, out, x.shape)]);
            let joined = values.reduce(|a, b| match op {
                MergeOp::Add | MergeOp::Average => a + b,
                MergeOp::Subtract => a - b,
                MergeOp::Multiply => a * b,
                MergeOp::Maximum => a.max(b),
                MergeOp::Minimum => a.min(b),
            });
            let joined = joined.unwrap_or(0.0);
            match op {
                MergeOp::Average => joined / inputs.len() as f64,
                _ => joined,
            }
        })
        .collect()
}

/// Returns the index, in a value of shape `part`, of element `index` of a value of shape `full`.
/// Shapes are aligned at the last dimension; dimensions of length 1 stretch.
fn broadcast_index(mut index: usize, full: &[usize], part: &[usize]) -> usize {
    let mut found = 0;
    let mut stride = 1;
    for (&length, &own) in full.iter().rev().zip(part.iter().rev()) {
        if own > 1 {
            found += index % length * stride;
        }
        stride *= own;
        index /= length;
    }
    found
}

/// `y[j] = x[i]` with `j[d] = i[order[d]]`
fn permute(order: &[usize], x: Item, out: &[usize]) -> Vec<f64> {
    let stride = |d: usize| x.shape[d + 1..].iter().product::<usize>();
    let strides: Vec<usize> = order.iter().map(|&d| stride(d)).collect();
    (0..x.data.len())
        .map(|mut rest| {
            let mut source = 0;
            for (length, stride) in out.iter().zip(&strides).rev() {
                source += rest % length * stride;
                rest /= length;
            }
            x.data[source]
        })
        .collect()
}

/// `y = exp(x - max) / sum of exp(x - max)`, maximum and sum over dimension `axis`
fn softmax(axis: usize, x: Item) -> Vec<f64> {
    let (length, inner) = (x.shape[axis], x.shape[axis + 1..].iter().product::<usize>());
    let mut y = x.data.to_vec();
    for start in (0..y.len()).filter(|i| i / inner % length == 0) {
        let along: Vec<usize> = (0..length).map(|k| start + k * inner).collect();
        let mut line: Vec<f64> = along.iter().map(|&i| y[i]).collect();
        activation::softmax(&mut line);
        for (&i, v) in along.iter().zip(line) {
            y[i] = v;
        }
    }
    y
}

/// `y[a, b] = sum over k of x[a, k, b]`, `k` being dimension `axis`
fn sum_axis(axis: usize, x: Item) -> Vec<f64> {
    let (length, inner) = (x.shape[axis], x.shape[axis + 1..].iter().product::<usize>());
    let mut y = vec![0.0; x.data.len() / length];
    for (i, v) in x.data.iter().enumerate() {
        y[i / inner / length * inner + i % inner] += v;
    }
    y
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
