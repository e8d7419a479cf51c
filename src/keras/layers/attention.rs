//! Products of two values and attention.

use serde_json::Value;

use super::{Call, Leaf, Masking, Operand, Part, Parts, Slot, SlotShape, map, merge, slot};
use crate::keras::options::{Options, unsupported};
use crate::nn::graph::{Weight, WeightId};
use crate::nn::layers::{
    Activation, Dense, InsertAxis, Layer, MapFunction, MatMul, MergeOp, Permute, RemoveAxis,
    Reshape, Softmax, SumAxis,
};

impl Parts {
    /// Multiplies a value of `rank` dimensions by a weight of one element, `[1, 1]`.
    fn scaled(&mut self, value: Operand, rank: usize, factor: WeightId) -> Operand {
        let single = self.add(Layer::InsertAxis(InsertAxis { axis: rank }), &[value]);
        let product = self.add(product_with(factor), &[single]);
        self.add(Layer::RemoveAxis(RemoveAxis { axis: rank }), &[product])
    }

    /// Adds all pairs of rows, `[m, channels]` and `[n, channels]` to `[m, n, channels]`.
    fn pairwise_sums(&mut self, a: Operand, b: Operand) -> Operand {
        let rows = self.add(Layer::InsertAxis(InsertAxis { axis: 1 }), &[a]);
        let columns = self.add(Layer::InsertAxis(InsertAxis { axis: 0 }), &[b]);
        self.add(merge(MergeOp::Add), &[rows, columns])
    }

    /// Multiplies two values of equal ranks.
    pub(super) fn multiplied(&mut self, a: Operand, b: Operand) -> Operand {
        self.add(merge(MergeOp::Multiply), &[a, b])
    }

    /// Replaces the scores where a mask of the same rank is 0.
    pub(super) fn excluded(&mut self, scores: Operand, mask: Operand) -> Operand {
        // The sum of a score and this constant would be the constant, by the rounding of 32 bits.
        let kept = self.multiplied(scores, mask);
        let skipped = self.add(map(MapFunction::SubtractFrom(1.0)), &[mask]);
        let excluded = self.add(map(MapFunction::Multiply(EXCLUDED)), &[skipped]);
        self.add(merge(MergeOp::Add), &[kept, excluded])
    }

    /// Inserts dimensions of one element into a mask `[time]`.
    fn expanded(&mut self, mask: Operand, axes: &[usize]) -> Operand {
        axes.iter().fold(mask, |mask, &axis| {
            self.add(Layer::InsertAxis(InsertAxis { axis }), &[mask])
        })
    }

    fn product(&mut self, a: Operand, b: Operand, transpose: [bool; 2]) -> Operand {
        let [transpose_a, transpose_b] = transpose;
        let layer = MatMul {
            transpose_a,
            transpose_b,
        };
        self.add(Layer::MatMul(layer), &[a, b])
    }
}

pub fn dot(o: &mut Options) -> Leaf {
    o.off("normalize");
    let axes = o.integers("axes").and_then(|axes| match *axes {
        [one] => Ok([one; 2]),
        [a, b] => Ok([a, b]),
        _ => Err(format!(
            "option \"axes\" is {axes:?}; one or two are needed"
        )),
    });
    let axes = o.or_record(axes, [1; 2]);
    let leaf = Leaf::composed(Vec::new(), move |call| {
        let [a, b] = *call.ranks else {
            return Err(format!("it takes two inputs, not {}", call.ranks.len()));
        };
        let [x, y] = [0, 1].map(Operand::Input);
        let mut parts = Parts::default();
        let axis = |i: usize, rank: usize| crate::keras::options::dimension(axes[i], rank);
        match (a, b) {
            (1, 1) => {
                axis(0, 1)?;
                axis(1, 1)?;
                let row = parts.add(Layer::InsertAxis(InsertAxis { axis: 0 }), &[x]);
                let column = parts.add(Layer::InsertAxis(InsertAxis { axis: 1 }), &[y]);
                let product = parts.product(row, column, [false, false]);
                parts.add(Layer::RemoveAxis(RemoveAxis { axis: 0 }), &[product]);
            }
            (2, 2) => {
                parts.product(x, y, [axis(0, 2)? == 0, axis(1, 2)? == 1]);
            }
            _ => {
                return Err(format!(
                    "its inputs have {a} and {b} dimensions without the batch; two of 1 or two of 2 are supported"
                ));
            }
        }
        Ok(parts.0)
    });
    leaf.with_input_list()
}

/// Computes the scores of `[queries, channels]` and `[values, channels]`.
type Scores = dyn Fn(&mut Parts, Operand, Operand, &[WeightId]) -> Operand + Send + Sync;

pub fn attention(o: &mut Options) -> Leaf {
    let use_scale = o.bool("use_scale", false);
    let scale = use_scale.then(|| slot("scale", &[]));
    match o.text("score_mode") {
        None | Some("dot") => dense_attention(
            o,
            scale.into_iter().collect(),
            Box::new(move |parts, query, key, weights| {
                let scores = parts.product(query, key, [false, true]);
                match weights {
                    [scale, ..] => parts.scaled(scores, 2, *scale),
                    [] => scores,
                }
            }),
        ),
        Some("concat") => {
            let weight = slot("concat_score_weight", &[]);
            let slots = scale.into_iter().chain([weight]).collect();
            dense_attention(
                o,
                slots,
                Box::new(move |parts, query, key, weights| {
                    let mut sums = parts.pairwise_sums(query, key);
                    if use_scale {
                        sums = parts.scaled(sums, 3, weights[0]);
                    }
                    let tanh = parts.add(Layer::Activation(Activation::Tanh), &[sums]);
                    let sum = parts.add(Layer::SumAxis(SumAxis { axis: 2 }), &[tanh]);
                    parts.scaled(sum, 2, weights[usize::from(use_scale)])
                }),
            )
        }
        Some(mode) => {
            o.problem(unsupported("score_mode", &mode.into(), "this is not known"));
            dense_attention(o, Vec::new(), Box::new(|_, query, _, _| query))
        }
    }
}

pub fn additive(o: &mut Options) -> Leaf {
    let use_scale = o.bool("use_scale", true);
    let slots = use_scale.then(|| slot("scale", &[None]));
    // Attention of Keras 3 stores an option that has no meaning here.
    o.ignore(&["score_mode"]);
    dense_attention(
        o,
        slots.into_iter().collect(),
        Box::new(|parts, query, key, weights| {
            let sums = parts.pairwise_sums(query, key);
            let tanh = parts.add(Layer::Activation(Activation::Tanh), &[sums]);
            match weights {
                // The weighted sum over the channels is a product with one column.
                [scale] => {
                    let sum = parts.add(product_with(*scale), &[tanh]);
                    parts.add(Layer::RemoveAxis(RemoveAxis { axis: 2 }), &[sum])
                }
                _ => parts.add(Layer::SumAxis(SumAxis { axis: 2 }), &[tanh]),
            }
        }),
    )
}

/// Returns the product with a kernel, without bias.
fn product_with(kernel: WeightId) -> Layer {
    Layer::Dense(Dense {
        kernel,
        bias: None,
        activation: Activation::Linear,
    })
}

/// Creates an attention layer from its scores. Its weights become columns.
fn dense_attention(o: &mut Options, slots: Vec<Slot>, scores: Box<Scores>) -> Leaf {
    o.ignore(&["dropout", "seed"]);
    o.off("causal");
    let leaf = Leaf::composed(slots, move |call| {
        call.no_training()?;
        if !(2..=3).contains(&call.ranks.len()) || call.ranks.iter().any(|&r| r != 2) {
            return Err(format!(
                "it takes a query, a value and optionally a key, each [time, channels], but its inputs have {:?} dimensions without the batch",
                call.ranks
            ));
        }
        let [query, value] = [0, 1].map(Operand::Input);
        let key = match call.ranks.len() {
            3 => Operand::Input(2),
            _ => value,
        };
        let mut parts = Parts::default();
        let scores = scores(&mut parts, query, key, call.weights);
        attend(&mut parts, scores, value, call);
        Ok(parts.0)
    });
    leaf.with_input_list()
        .masking(Masking::Passes)
        .prepared(|mut weights| {
            for weight in &mut weights {
                weight.shape = vec![weight.data.len(), 1];
            }
            Ok(weights)
        })
}

/// Keras' substitute for a score of minus infinity.
const EXCLUDED: f32 = -1e9;

/// Adds the mean of the values with the softmax of the scores as weights. Steps of the value that
/// its mask skips are excluded; the results of steps that the query's mask skips are 0.
fn attend(parts: &mut Parts, mut scores: Operand, value: Operand, call: &Call) {
    if call.masks[1] {
        let row = parts.expanded(Operand::Mask(1), &[0]);
        scores = parts.excluded(scores, row);
    }
    let weights = parts.add(Layer::Softmax(Softmax { axis: 1 }), &[scores]);
    let result = parts.product(weights, value, [false, false]);
    if call.masks[0] {
        let column = parts.expanded(Operand::Mask(0), &[1]);
        parts.multiplied(result, column);
    }
}

pub fn multi_head(o: &mut Options) -> Leaf {
    let heads = o.size("num_heads");
    let key_dim = o.size("key_dim");
    let value_dim = match o.value("value_dim") {
        None => key_dim,
        Some(_) => o.size("value_dim"),
    };
    o.ignore(&["dropout", "seed"]);
    for key in ["output_shape", "use_gate", "flash_attention"] {
        o.off(key);
    }
    // The input shapes of a file that was built.
    o.ignore(&["query_shape", "key_shape", "value_shape"]);
    match o.value("attention_axes") {
        None => {}
        Some(Value::Array(axes)) if axes.len() == 1 && axes[0] == 1 => {}
        Some(other) => o.problem(unsupported(
            "attention_axes",
            other,
            "only [1] is supported",
        )),
    }
    let use_bias = o.bool("use_bias", true);
    let projection = |kernel, bias, width| {
        let mut slots = vec![slot(kernel, &[None, Some(heads), Some(width)])];
        slots.extend(use_bias.then(|| slot(bias, &[Some(heads), Some(width)])));
        slots
    };
    let mut slots: Vec<Slot> = [
        projection("query/kernel", "query/bias", key_dim),
        projection("key/kernel", "key/bias", key_dim),
        projection("value/kernel", "value/bias", value_dim),
    ]
    .into_iter()
    .flatten()
    .collect();
    slots.push(slot(
        "attention_output/kernel",
        &[Some(heads), Some(value_dim), None],
    ));
    slots.extend(use_bias.then(|| Slot {
        shape: SlotShape::Dims(vec![None]),
        ..slot("attention_output/bias", &[])
    }));
    let leaf = Leaf::composed(slots, move |call| {
        heads_of(call, use_bias, heads, key_dim, value_dim)
    });
    leaf.with_input_list().prepared(|mut weights| {
        // The projections become dense layers of all heads together.
        let last = weights.len() - if weights.len() == 8 { 2 } else { 1 };
        for (i, Weight { shape, .. }) in weights.iter_mut().enumerate() {
            *shape = match *shape.as_slice() {
                [heads, width, units] if i == last => vec![heads * width, units],
                [inputs, heads, width] => vec![inputs, heads * width],
                [heads, width] => vec![heads * width],
                _ => shape.clone(),
            };
        }
        Ok(weights)
    })
}

/// Returns the nodes of one use of a multi-head attention.
fn heads_of(
    call: &Call,
    use_bias: bool,
    heads: usize,
    key_dim: usize,
    value_dim: usize,
) -> Result<Vec<Part>, String> {
    call.no_training()?;
    if !(2..=3).contains(&call.ranks.len()) || call.ranks.iter().any(|&r| r != 2) {
        return Err(format!(
            "it takes a query, a value and optionally a key, each [time, channels], but its inputs have {:?} dimensions without the batch",
            call.ranks
        ));
    }
    let each = if use_bias { 2 } else { 1 };
    let dense = |n: usize| {
        Layer::Dense(Dense {
            kernel: call.weights[n * each],
            bias: use_bias.then(|| call.weights[n * each + 1]),
            activation: Activation::Linear,
        })
    };
    let swap = || {
        Layer::Permute(Permute {
            order: vec![1, 0, 2],
        })
    };
    let mut parts = Parts::default();
    let [query, value] = [0, 1].map(Operand::Input);
    let key = match call.ranks.len() {
        3 => Operand::Input(2),
        _ => value,
    };
    // `[time, channels]` to `[heads, time, width]`.
    let mut project = |n: usize, x: Operand, width: usize| {
        let all = parts.add(dense(n), &[x]);
        let shape = vec![None, Some(heads), Some(width)];
        let split = parts.add(Layer::Reshape(Reshape { shape }), &[all]);
        parts.add(swap(), &[split])
    };
    let q = project(0, query, key_dim);
    let k = project(1, key, key_dim);
    let v = project(2, value, value_dim);
    let scale = MapFunction::Multiply(1.0 / (key_dim as f32).sqrt());
    let scaled = parts.add(map(scale), &[q]);
    let mut scores = parts.product(scaled, k, [false, true]);
    // The steps of query, value and key that are skipped, in the scores `[heads, query, key]`.
    let masks = call.masks.iter().zip([[0, 2], [0, 0], [0, 0]]).enumerate();
    let masks: Vec<Operand> = masks
        .filter(|(_, (masked, _))| **masked)
        .map(|(input, (_, axes))| parts.expanded(Operand::Mask(input), &axes))
        .collect();
    let mask = masks
        .into_iter()
        .reduce(|all, mask| parts.multiplied(all, mask));
    if let Some(mask) = mask {
        scores = parts.excluded(scores, mask);
    }
    let weights = parts.add(Layer::Softmax(Softmax { axis: 2 }), &[scores]);
    let context = parts.product(weights, v, [false, false]);
    let joined = parts.add(swap(), &[context]);
    let shape = vec![None, Some(heads * value_dim)];
    let flat = parts.add(Layer::Reshape(Reshape { shape }), &[joined]);
    parts.add(dense(3), &[flat]);
    Ok(parts.0)
}
