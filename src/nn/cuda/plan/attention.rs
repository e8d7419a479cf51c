//! Fusion of attention into one step. Pattern 1: softmax over the rows of a sequence, product with
//! the sequence, sum or mean over the rows. Pattern 2: upsampling to the pixels of maps, product
//! with the maps.

use super::Step;
use crate::nn::cuda::ops::{AttentionPool, CudaOp, Op, PostOp, Scores};
use crate::nn::layers::{Activation, MergeOp, PoolKind};
use crate::nn::lowering::{LoweredGraph, Readers};

/// Fuses attention pooling. The attention weights may be an output of the plan; the other
/// intermediate values must have no other reader.
pub(super) fn pool(lowered: &mut LoweredGraph<CudaOp>) {
    let producers = producers(lowered);
    let readers = lowered.readers();
    for last in 0..lowered.steps.len() {
        let search = Matcher {
            lowered,
            readers: &readers,
            producers: &producers,
            outer: lowered.steps[last].outer,
        };
        let Some(found) = search.pool(last) else {
            continue;
        };
        let PoolMatch {
            pool,
            scores: Softmax { mut of, dense },
            sequence,
            weights,
        } = found;
        if let Some(dense) = dense
            && let Op::Backend(CudaOp::Dense(dense)) = &mut lowered.steps[dense].op
        {
            dense.post_op = None;
        }
        let mut second = None;
        if readers[weights].output {
            // The softmax step gets a new output, which usually has no reader.
            let other = lowered.values.len();
            lowered.values.push(lowered.values[weights].clone());
            lowered.steps[producers[weights].expect("it was found by it")].output = other;
            second = Some(weights);
            if of == weights {
                of = other;
            }
        }
        let step = &mut lowered.steps[last];
        step.op = Op::Backend(CudaOp::Plain(Box::new(pool)));
        step.inputs = vec![of, sequence];
        step.second = second;
    }
    lowered.remove_dead_steps();
}

/// Fuses upsampling into the `SpatialMultiply` that is its only reader.
pub(super) fn multiply(lowered: &mut LoweredGraph<CudaOp>) {
    let producers = producers(lowered);
    let readers = lowered.readers();
    for number in 0..lowered.steps.len() {
        let step = &lowered.steps[number];
        let (Op::SpatialMultiply { channels }, &[maps, attention]) = (&step.op, &*step.inputs)
        else {
            continue;
        };
        let (Some(producer), Some(_)) = (producers[attention], readers[attention].only()) else {
            continue;
        };
        let small = &lowered.steps[producer];
        if let &Op::Backend(CudaOp::Upsample {
            image,
            factor,
            interpolation,
            maps: None,
        }) = &small.op
            && image.input[2] == 1
            && small.outer == step.outer
        {
            let op = Op::Backend(CudaOp::Upsample {
                image,
                factor,
                interpolation,
                maps: Some(*channels),
            });
            let inputs = vec![small.inputs[0], maps];
            let step = &mut lowered.steps[number];
            (step.op, step.inputs) = (op, inputs);
        }
    }
    lowered.remove_dead_steps();
}

/// Returns the step that computes each value.
fn producers(lowered: &LoweredGraph<CudaOp>) -> Vec<Option<usize>> {
    let mut producers = vec![None; lowered.values.len()];
    for (i, step) in lowered.steps.iter().enumerate() {
        producers[step.output] = Some(i);
    }
    producers
}

struct PoolMatch {
    pool: AttentionPool,
    scores: Softmax,
    sequence: usize,
    weights: usize,
}

/// A value over which a softmax is taken.
struct Softmax {
    of: usize,
    /// The dense layer's step, if the softmax is its activation; `of` is then the layer's output.
    dense: Option<usize>,
}

struct Matcher<'a> {
    lowered: &'a LoweredGraph<CudaOp>,
    readers: &'a [Readers],
    producers: &'a [Option<usize>],
    outer: usize,
}

impl Matcher<'_> {
    /// Returns the step that computes `value`.
    fn producer(&self, value: usize) -> Option<&Step> {
        let step = &self.lowered.steps[self.producers[value]?];
        (step.outer == self.outer).then_some(step)
    }

    /// Returns the step that computes `value`, if the value has exactly one reader.
    fn inner(&self, value: usize) -> Option<&Step> {
        self.readers[value].only()?;
        self.producer(value)
    }

    /// Elements of a value per sequence.
    fn item(&self, value: usize) -> usize {
        self.lowered.values[value].elements / self.outer
    }

    /// Matches the pattern that ends with step `last`.
    fn pool(&self, last: usize) -> Option<PoolMatch> {
        let step = &self.lowered.steps[last];
        let (n, width, mean) = match step.op {
            Op::SumAxis { n, after } => (n, after, false),
            Op::GlobalPool {
                kind: PoolKind::Average,
                pixels,
                channels,
            } => (pixels, channels, true),
            _ => return None,
        };
        let product = self.inner(step.inputs[0])?;
        let Op::Backend(CudaOp::Merge {
            op: MergeOp::Multiply,
            joins,
        }) = &product.op
        else {
            return None;
        };
        let [join] = &**joins else { return None };
        if self.item(product.output) != n * width {
            return None;
        }
        let full = join.strides == [[1], [1]];
        let by_row = |w: usize| {
            join.shape == [n, width]
                && join.items[w] == n
                && join.strides[w][1] == 0
                && join.items[1 - w] == n * width
        };
        [1, 0].into_iter().find_map(|w| {
            let (weights, sequence) = (product.inputs[w], product.inputs[1 - w]);
            if self.readers[weights].steps != 1 {
                return None;
            }
            let (scores, how) = if full {
                self.scores(weights, n, width)?
            } else if by_row(w) {
                (self.softmax(self.producer(weights)?, n, 1)?, Scores::OfRows)
            } else {
                return None;
            };
            Some(PoolMatch {
                pool: AttentionPool {
                    n,
                    width,
                    scores: how,
                    narrow: !full,
                    mean,
                },
                scores,
                sequence,
                weights,
            })
        })
    }

    /// Returns the scores of the attention weights `[n, width]`, and their layout.
    fn scores(&self, weights: usize, n: usize, width: usize) -> Option<(Softmax, Scores)> {
        let step = self.producer(weights)?;
        let Op::Permute { shape, order } = &step.op else {
            let scores = self.softmax(step, n, width)?;
            return Some((scores, Scores::AsSequence));
        };
        if *shape != [width, n] || *order != [1, 0] {
            return None;
        }
        let permuted = self.inner(step.inputs[0])?;
        match permuted.op {
            Op::Repeat { .. } => {
                let repeated = self.inner(permuted.inputs[0])?;
                Some((self.softmax(repeated, n, 1)?, Scores::OfRows))
            }
            _ => Some((self.softmax(permuted, n, 1)?, Scores::Permuted)),
        }
    }

    /// Returns the input of a step that is a softmax over the middle dimension of `[.., n, after]`.
    fn softmax(&self, step: &Step, n: usize, after: usize) -> Option<Softmax> {
        let given = Softmax {
            of: step.inputs[0],
            dense: None,
        };
        match &step.op {
            Op::Softmax {
                n: over,
                after: behind,
            } if (*over, *behind) == (n, after) => Some(given),
            Op::Activation {
                function: Activation::Softmax,
                last,
            } if (*last, 1) == (n, after) => Some(given),
            Op::Backend(CudaOp::Dense(dense))
                if dense.post_op == Some(PostOp::Softmax(n)) && after == 1 =>
            {
                Some(Softmax {
                    of: step.output,
                    dense: self.producers[step.output],
                })
            }
            _ => None,
        }
    }
}
