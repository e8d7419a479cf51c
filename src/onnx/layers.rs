//! Operators of each layer.
//!
//! Values keep the engine's layout, `[batch, .., channels]`. Operators with the channels first stand
//! between two transpositions, which a runtime merges with those of its neighbours.

mod activation;
mod recurrent;
mod spatial;
mod steps;
mod stft;

use super::builder::{Attribute, Builder};
use super::lengths::Shape;
use crate::nn::layers::*;
use crate::nn::lowering::fold_batch_norm;
use crate::nn::{Layer, Weight, WeightId};
use Attribute::{Float, Int, Ints};

/// A problem of one node; the caller adds the node's name.
pub(super) type Problem = String;

/// Beyond every position of a dimension, in both directions.
const END: i64 = i64::MAX;
const BEFORE_START: i64 = i64::MIN + 1;

/// A node that is mapped, and its place in the model.
pub(super) struct NodeContext<'a, 'g> {
    pub name: &'a str,
    /// Names of the inputs in the model.
    pub inputs: Vec<String>,
    /// Shapes of the inputs, without the batch.
    pub shapes: Vec<Shape>,
    /// Shape of the output, without the batch.
    pub output: Shape,
    pub builder: &'a mut Builder<'g>,
}

impl NodeContext<'_, '_> {
    /// Adds the operators of a node and returns the name of its output. The first `outer` dimensions
    /// of the inputs count as batch.
    pub fn map_node(&mut self, layer: &Layer, outer: usize) -> Result<String, Problem> {
        if outer == 0 {
            return self.map(layer);
        }
        let first = self.inputs[0].clone();
        let leading: Shape = self.output.drain(..outer).collect();
        for i in 0..self.inputs.len() {
            self.shapes[i].drain(..outer);
            let input = self.inputs[i].clone();
            let shape = match known(&self.shapes[i]) {
                Some(dims) => self.builder.integers(&[&[-1], &*dims].concat()),
                None => {
                    let item = self.add("Shape", &[&input], &[("start", Int(1 + outer as i64))]);
                    let batch = self.builder.integers(&[-1]);
                    self.add("Concat", &[&batch, &item], &[("axis", Int(0))])
                }
            };
            self.inputs[i] = self.add("Reshape", &[&input, &shape], &[]);
        }
        let y = self.map(layer)?;
        let shape = match known(&[&*leading, &self.output].concat()) {
            Some(dims) => self.builder.integers(&[&[-1], &*dims].concat()),
            None => {
                let until = ("end", Int(1 + outer as i64));
                let leading = self.add("Shape", &[&first], &[("start", Int(0)), until]);
                let item = self.add("Shape", &[&y], &[("start", Int(1))]);
                self.add("Concat", &[&leading, &item], &[("axis", Int(0))])
            }
        };
        Ok(self.add("Reshape", &[&y, &shape], &[]))
    }

    /// Maps a layer whose dimensions of the batch are one.
    fn map(&mut self, layer: &Layer) -> Result<String, Problem> {
        let x = self.inputs[0].clone();
        let axis = |axis: usize| axis as i64 + 1;
        Ok(match layer {
            Layer::Conv(conv) => self.conv(conv)?,
            Layer::Conv3d(conv) => self.conv3d(conv)?,
            Layer::DepthwiseConv(conv) => self.depthwise_conv(conv)?,
            Layer::ConvTranspose(conv) => self.conv_transpose(conv)?,
            Layer::Pool(pool) => self.pool(pool)?,
            Layer::GlobalPool(pool) => {
                let op = match pool.kind {
                    PoolKind::Max => "ReduceMax",
                    PoolKind::Average => "ReduceMean",
                };
                let axes: Vec<i64> = (1..self.shapes[0].len() as i64).collect();
                let keep = i64::from(pool.keep_dims);
                let attributes = [("axes", Ints(&axes)), ("keepdims", Int(keep))];
                self.add(op, &[&x], &attributes)
            }
            Layer::Upsample(upsample) => self.upsample(upsample),
            Layer::Resize(resize) => self.resize(resize),
            Layer::ZeroPad(pad) => {
                let pads = [0, pad.top, pad.left, 0, 0, pad.bottom, pad.right, 0];
                let pads = self.builder.integers(&pads.map(|n| n as i64));
                self.add("Pad", &[&x, &pads], &[])
            }
            Layer::BatchNorm(norm) => {
                let (scale, shift) = fold_batch_norm(self.builder.graph, norm);
                let scale = self.constant("scale", &scale);
                let shift = self.constant("shift", &shift);
                let scaled = self.add("Mul", &[&x, &scale], &[]);
                self.add("Add", &[&scaled, &shift], &[])
            }
            Layer::LayerNorm(norm) => self.layer_norm(norm),
            Layer::GroupNorm(norm) => self.group_norm(norm)?,
            Layer::Dense(dense) => {
                let kernel = self.stored(dense.kernel);
                let mut y = self.add("MatMul", &[&x, &kernel], &[]);
                if let Some(bias) = dense.bias {
                    let bias = self.stored(bias);
                    y = self.add("Add", &[&y, &bias], &[]);
                }
                self.activation(dense.activation, y)
            }
            Layer::Embedding(embedding) => self.embedding(embedding),
            Layer::Lstm(lstm) => self.lstm(lstm)?,
            Layer::Gru(gru) => self.gru(gru)?,
            Layer::SimpleRnn(rnn) => self.simple_rnn(rnn)?,
            Layer::ConvLstm(layer) => self.conv_lstm(layer)?,
            Layer::StatefulRnn(rnn) => self.stateful_rnn(rnn)?,
            Layer::Stft(stft) => self.stft(stft)?,
            Layer::Angle => self.angle(),
            Layer::Reverse => self.slice(&x, 1, -1, BEFORE_START, -1),
            Layer::Flatten => self.add("Flatten", &[&x], &[("axis", Int(1))]),
            Layer::Reshape(reshape) => {
                // 0 copies the batch.
                let dims = reshape.shape.iter().map(|d| d.map_or(-1, |d| d as i64));
                let dims: Vec<i64> = std::iter::once(0).chain(dims).collect();
                let shape = self.builder.integers(&dims);
                self.add("Reshape", &[&x, &shape], &[])
            }
            Layer::Permute(permute) => {
                let order = permute.order.iter().map(|&d| axis(d));
                let order: Vec<i64> = std::iter::once(0).chain(order).collect();
                self.add("Transpose", &[&x], &[("perm", Ints(&order))])
            }
            Layer::RepeatVector(repeat) => {
                let column = self.unsqueeze(&x, &[1]);
                let count = self.builder.integers(&[1, repeat.count as i64, 1]);
                self.add("Tile", &[&column, &count], &[])
            }
            Layer::Concat(concat) => {
                let inputs = self.inputs.clone();
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                self.add("Concat", &inputs, &[("axis", Int(axis(concat.axis)))])
            }
            Layer::Merge(merge) => self.merge(merge.op),
            // A dropout that stays on is exported as off; the caller reports it.
            Layer::Dropout(_) => x,
            Layer::Activation(function) => self.activation(*function, x),
            Layer::Softmax(softmax) => {
                self.add("Softmax", &[&x], &[("axis", Int(axis(softmax.axis)))])
            }
            Layer::PRelu(prelu) => {
                let alpha = self.stored(prelu.alpha);
                self.add("PRelu", &[&x, &alpha], &[])
            }
            Layer::SumAxis(sum) => {
                let axes = self.builder.integers(&[axis(sum.axis)]);
                self.add("ReduceSum", &[&x, &axes], &[("keepdims", Int(0))])
            }
            Layer::MeanAxis(mean) => {
                let axes = [axis(mean.axis)];
                let attributes = [("axes", Ints(&axes)), ("keepdims", Int(0))];
                self.add("ReduceMean", &[&x], &attributes)
            }
            Layer::Map(map) => self.function(map.function, &x),
            Layer::Slice(slice) => {
                let stop = slice.stop.unwrap_or(END);
                self.slice(&x, axis(slice.axis), slice.start, stop, slice.step as i64)
            }
            Layer::InsertAxis(insert) => self.unsqueeze(&x, &[axis(insert.axis)]),
            Layer::RemoveAxis(remove) => {
                let axes = self.builder.integers(&[axis(remove.axis)]);
                self.add("Squeeze", &[&x, &axes], &[])
            }
            Layer::MatMul(product) => {
                let a = self.transposed_matrix(0, product.transpose_a);
                let b = self.transposed_matrix(1, product.transpose_b);
                self.add("MatMul", &[&a, &b], &[])
            }
            Layer::SpatialMultiply => {
                let attention = self.inputs[1].clone();
                self.add("Mul", &[&x, &attention], &[])
            }
            Layer::ChannelMultiply => {
                let attention = self.inputs[1].clone();
                let attention = self.unsqueeze(&attention, &[1, 2]);
                self.add("Mul", &[&x, &attention], &[])
            }
        })
    }

    /// Adds an operator and returns the name of its output.
    fn add(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let name = self.builder.name(&format!("{}/{op}", self.name));
        self.builder.node(op, inputs, &[&name], &name, attributes);
        name
    }

    /// Returns the name of a weight in the engine's layout.
    fn stored(&mut self, id: WeightId) -> String {
        let keep = |shape: &[usize], data: &[f32]| (shape.to_vec(), data.to_vec());
        self.builder.weight(id, "stored", keep)
    }

    fn weight(&self, id: WeightId) -> &Weight {
        &self.builder.graph.weights[id.0]
    }

    /// Returns the name of a new vector of numbers of this node.
    fn constant(&mut self, part: &str, data: &[f32]) -> String {
        let name = format!("{}/{part}", self.name);
        self.builder.constant(&name, &[data.len()], data)
    }

    fn unsqueeze(&mut self, x: &str, axes: &[i64]) -> String {
        let axes = self.builder.integers(axes);
        self.add("Unsqueeze", &[x, &axes], &[])
    }

    fn slice(&mut self, x: &str, axis: i64, start: i64, stop: i64, step: i64) -> String {
        let [start, stop, axis, step] =
            [start, stop, axis, step].map(|n| self.builder.integers(&[n]));
        self.add("Slice", &[x, &start, &stop, &axis, &step], &[])
    }

    fn transposed_matrix(&mut self, input: usize, transpose: bool) -> String {
        let x = self.inputs[input].clone();
        if !transpose {
            return x;
        }
        let rank = self.shapes[input].len() as i64 + 1;
        let order: Vec<i64> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        self.add("Transpose", &[&x], &[("perm", Ints(&order))])
    }

    fn merge(&mut self, op: MergeOp) -> String {
        let rank = self.output.len();
        // Missing dimensions follow the batch.
        let inputs: Vec<String> = (0..self.inputs.len())
            .map(|i| {
                let x = self.inputs[i].clone();
                let missing = (rank - self.shapes[i].len()) as i64;
                let axes: Vec<i64> = (1..=missing).collect();
                match missing {
                    0 => x,
                    _ => self.unsqueeze(&x, &axes),
                }
            })
            .collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let pairwise = match op {
            MergeOp::Average => return self.add("Mean", &inputs, &[]),
            MergeOp::Maximum => return self.add("Max", &inputs, &[]),
            MergeOp::Minimum => return self.add("Min", &inputs, &[]),
            MergeOp::Add => "Add",
            MergeOp::Subtract => "Sub",
            MergeOp::Multiply => "Mul",
        };
        let mut y = inputs[0].to_owned();
        for x in &inputs[1..] {
            y = self.add(pairwise, &[&y, x], &[]);
        }
        y
    }

    fn layer_norm(&mut self, norm: &LayerNorm) -> String {
        let x = self.inputs[0].clone();
        let gamma = match norm.gamma {
            Some(gamma) => self.stored(gamma),
            // A single one is broadcast over the normalised dimensions.
            None => self.constant("ones", &[1.0]),
        };
        let beta = norm.beta.map(|beta| self.stored(beta));
        let inputs: Vec<&str> = [&*x, &gamma].into_iter().chain(beta.as_deref()).collect();
        let attributes = [
            ("axis", Int(-(norm.dims as i64))),
            ("epsilon", Float(norm.epsilon)),
        ];
        self.add("LayerNormalization", &inputs, &attributes)
    }

    /// Normalises the groups as the channels of an image of one row.
    fn group_norm(&mut self, norm: &GroupNorm) -> Result<String, Problem> {
        let x = self.inputs[0].clone();
        let rank = self.shapes[0].len() as i64 + 1;
        let first: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        let last: Vec<i64> = std::iter::once(0).chain(2..rank).chain([1]).collect();
        let x = self.add("Transpose", &[&x], &[("perm", Ints(&first))]);
        let shape = self.add("Shape", &[&x], &[]);
        let channels = self.shapes[0].last().copied().flatten();
        let groups = match norm.groups.or(channels) {
            Some(groups) => groups,
            None => {
                return Err(
                    "a group for each of an open number of channels has no equivalent".into(),
                );
            }
        };
        let grouping = self.builder.integers(&[0, groups as i64, -1]);
        let grouped = self.add("Reshape", &[&x, &grouping], &[]);
        let ones = self.constant("ones", &vec![1.0; groups]);
        let zeros = self.constant("zeros", &vec![0.0; groups]);
        let epsilon = [("epsilon", Float(norm.epsilon))];
        let normal = self.add(
            "InstanceNormalization",
            &[&grouped, &ones, &zeros],
            &epsilon,
        );
        let y = self.add("Reshape", &[&normal, &shape], &[]);
        let mut y = self.add("Transpose", &[&y], &[("perm", Ints(&last))]);
        for (op, weight) in [("Mul", norm.gamma), ("Add", norm.beta)] {
            if let Some(weight) = weight {
                let weight = self.stored(weight);
                y = self.add(op, &[&y, &weight], &[]);
            }
        }
        Ok(y)
    }

    /// Gathers rows of the table with a row of zeros behind it, which stands for every index that the
    /// table does not have.
    fn embedding(&mut self, embedding: &Embedding) -> String {
        let x = self.inputs[0].clone();
        let rows = self.weight(embedding.table).shape[0];
        let table = self
            .builder
            .weight(embedding.table, "with zeros", |shape, data| {
                let zeros = std::iter::repeat_n(0.0, shape[1]);
                let data = data.iter().copied().chain(zeros).collect();
                (vec![shape[0] + 1, shape[1]], data)
            });
        // The fraction of an index is dropped, so that -0.5 is row 0.
        let before = self.builder.number(-1.0);
        let behind = self.builder.number(rows as f32);
        let above = self.add("Greater", &[&x, &before], &[]);
        let below = self.add("Less", &[&x, &behind], &[]);
        let valid = self.add("And", &[&above, &below], &[]);
        let row = self.add("Where", &[&valid, &x, &behind], &[]);
        // 7 is INT64.
        let row = self.add("Cast", &[&row], &[("to", Int(7))]);
        self.add("Gather", &[&table, &row], &[("axis", Int(0))])
    }

    fn function(&mut self, function: MapFunction, x: &str) -> String {
        // The operands in the order of the operator.
        let (op, constant, first) = match function {
            MapFunction::Abs => return self.add("Abs", &[x], &[]),
            MapFunction::Negate => return self.add("Neg", &[x], &[]),
            MapFunction::Square => return self.add("Mul", &[x, x], &[]),
            MapFunction::Sqrt => {
                let positive = self.add("Relu", &[x], &[]);
                return self.add("Sqrt", &[&positive], &[]);
            }
            MapFunction::Log => return self.add("Log", &[x], &[]),
            MapFunction::Exp => return self.add("Exp", &[x], &[]),
            MapFunction::Add(c) => ("Add", c, false),
            MapFunction::SubtractFrom(c) => ("Sub", c, true),
            MapFunction::Multiply(c) => ("Mul", c, false),
            MapFunction::Divide(c) => ("Div", c, false),
            MapFunction::DivideInto(c) => ("Div", c, true),
            MapFunction::Maximum(c) => ("Max", c, false),
            MapFunction::Minimum(c) => ("Min", c, false),
            MapFunction::NotEqual(c) => {
                let constant = self.builder.number(c);
                let equal = self.add("Equal", &[x, &constant], &[]);
                let different = self.add("Not", &[&equal], &[]);
                // 1 is FLOAT.
                return self.add("Cast", &[&different], &[("to", Int(1))]);
            }
        };
        let constant = self.builder.number(constant);
        match first {
            true => self.add(op, &[&constant, x], &[]),
            false => self.add(op, &[x, &constant], &[]),
        }
    }
}

/// Returns the dimensions, or `None` if one is open.
fn known(shape: &[Option<usize>]) -> Option<Vec<i64>> {
    shape.iter().map(|d| d.map(|d| d as i64)).collect()
}
