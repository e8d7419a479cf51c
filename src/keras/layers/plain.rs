//! Dense, normalisation, shape and merge layers, and layers that act only in training.

use super::{
    Call, Leaf, Lowered, Masking, Operand, Part, Parts, Slot, SlotShape, bias_slot, chain, map,
    slot,
};
use crate::keras::activation;
use crate::keras::options::{Options, dimension, unsupported};
use crate::nn::layers::{
    BatchNorm, Concat, Dense, Dropout, Embedding, GlobalPool, GroupNorm, InsertAxis, Layer,
    LayerNorm, Map, MapFunction, Merge, MergeOp, PRelu, Permute, PoolKind, RepeatVector, Reshape,
    Softmax, SumAxis,
};

pub fn dense(o: &mut Options) -> Leaf {
    let units = o.size("units");
    let activation = activation::option(o, "activation");
    o.ignore(&["input_dim"]);
    let mut slots = vec![slot("kernel", &[None, Some(units)])];
    slots.extend(bias_slot(o, &[Some(units)]));
    Leaf::weighted(slots, move |call| {
        Ok(Some(Layer::Dense(Dense {
            kernel: call.weights[0],
            bias: call.weights.get(1).copied(),
            activation,
        })))
    })
}

pub fn batch_norm(o: &mut Options) -> Leaf {
    let axis = o.axis("one axis, the last, is supported");
    o.ignore(&["momentum", "fused", "renorm_clipping", "renorm_momentum"]);
    for key in ["renorm", "virtual_batch_size", "adjustment", "synchronized"] {
        o.off(key);
    }
    let epsilon = o.number("epsilon").unwrap_or(1e-3);
    let scale = o.bool("scale", true);
    let center = o.bool("center", true);
    let moving = |part| Slot {
        trainable: false,
        ..slot(part, &[None])
    };
    let mut slots = Vec::new();
    slots.extend(scale.then(|| slot("gamma", &[None])));
    slots.extend(center.then(|| slot("beta", &[None])));
    slots.extend([moving("moving_mean"), moving("moving_variance")]);
    let normal = move |call: &Call| {
        let mut weights = call.weights.iter().copied();
        let mut next = || weights.next().ok_or("a weight is missing");
        Ok::<_, String>(Layer::BatchNorm(BatchNorm {
            gamma: scale.then(&mut next).transpose()?,
            beta: center.then(&mut next).transpose()?,
            mean: next()?,
            variance: next()?,
            epsilon,
        }))
    };
    Leaf::composed(slots, move |call| {
        call.no_training()?;
        let rank = call.ranks[0];
        let axis = dimension(axis, rank)?;
        Ok(between_permutations(&[axis], rank, normal(call)?))
    })
}

pub fn layer_norm(o: &mut Options) -> Leaf {
    let axes = match o.value("axis") {
        None => Ok(vec![-1]),
        Some(_) => o.integers("axis"),
    };
    let axes = o.or_record(axes, vec![-1]);
    o.off("rms_scaling");
    let epsilon = o.number("epsilon").unwrap_or(1e-3);
    let scale = o.bool("scale", true);
    let center = o.bool("center", true);
    let any = |part| Slot {
        shape: SlotShape::Any,
        ..slot(part, &[])
    };
    let mut slots = Vec::new();
    slots.extend(scale.then(|| any("gamma")));
    slots.extend(center.then(|| any("beta")));
    Leaf::composed(slots, move |call| {
        let rank = call.ranks[0];
        let found: Result<Vec<usize>, String> = axes.iter().map(|&a| dimension(a, rank)).collect();
        let mut found = found?;
        found.sort_unstable();
        let dims = found.len();
        found.dedup();
        if dims == 0 || dims != found.len() {
            return Err(format!(
                "option \"axis\" is {axes:?}; different dimensions of its input are needed"
            ));
        }
        let mut weights = call.weights.iter().copied();
        let layer = Layer::LayerNorm(LayerNorm {
            gamma: scale.then(|| weights.next()).flatten(),
            beta: center.then(|| weights.next()).flatten(),
            epsilon,
            dims,
        });
        Ok(between_permutations(&found, rank, layer))
    })
}

pub fn group_norm(o: &mut Options) -> Leaf {
    let axis = o.axis("one axis is supported");
    let groups = match o.value("groups") {
        None => Some(32),
        Some(value) if value.as_i64() == Some(-1) => None,
        Some(_) => Some(o.size("groups")),
    };
    let epsilon = o.number("epsilon").unwrap_or(1e-3);
    let scale = o.bool("scale", true);
    let center = o.bool("center", true);
    let mut slots = Vec::new();
    slots.extend(scale.then(|| slot("gamma", &[None])));
    slots.extend(center.then(|| slot("beta", &[None])));
    Leaf::composed(slots, move |call| {
        let rank = call.ranks[0];
        let axis = dimension(axis, rank)?;
        let mut weights = call.weights.iter().copied();
        let layer = Layer::GroupNorm(GroupNorm {
            groups,
            gamma: scale.then(|| weights.next()).flatten(),
            beta: center.then(|| weights.next()).flatten(),
            epsilon,
        });
        Ok(between_permutations(&[axis], rank, layer))
    })
}

/// Returns the nodes of a layer over the last dimensions, applied to the dimensions `axes`, which rise.
pub(super) fn between_permutations(axes: &[usize], rank: usize, layer: Layer) -> Vec<Part> {
    let others = (0..rank).filter(|d| !axes.contains(d));
    let order: Vec<usize> = others.chain(axes.iter().copied()).collect();
    if order.iter().copied().eq(0..rank) {
        return chain(1, [layer]);
    }
    let mut back = vec![0; rank];
    for (place, &dimension) in order.iter().enumerate() {
        back[dimension] = place;
    }
    let permute = |order| Layer::Permute(Permute { order });
    chain(1, [permute(order), layer, permute(back)])
}

/// `x / sqrt(max(sum of x^2, 1e-12))`
pub fn unit_norm(o: &mut Options) -> Leaf {
    let axis = o.axis("one axis is supported");
    let smallest = match o.dialect.keras3 {
        // Later versions of Keras 3 bound the root by 1e-12 instead of the sum.
        Some(minor) if minor > 0 => 1e-24,
        _ => 1e-12,
    };
    Leaf::composed(Vec::new(), move |call| {
        let axis = dimension(axis, call.ranks[0])?;
        if call.ranks[0] == 1 {
            return Err("its input is a vector; more dimensions are supported".into());
        }
        let mut parts = chain(
            1,
            [
                map(MapFunction::Square),
                Layer::SumAxis(SumAxis { axis }),
                map(MapFunction::Maximum(smallest)),
                map(MapFunction::Sqrt),
                map(MapFunction::DivideInto(1.0)),
                Layer::InsertAxis(InsertAxis { axis }),
            ],
        );
        let both = [Operand::Input(0), Operand::Part(5)];
        parts.push(Part::new(super::merge(MergeOp::Multiply), &both));
        Ok(parts)
    })
}

pub fn normalization(o: &mut Options) -> Leaf {
    let axis = o.axis("one axis, the last, is supported");
    o.off("invert");
    for key in ["mean", "variance"] {
        if let Some(value) = o.value(key) {
            o.problem(unsupported(
                key,
                value,
                "only a mean and variance that are stored as weights are supported",
            ));
        }
    }
    let fixed = |part, shape| Slot {
        trainable: false,
        shape,
        ..slot(part, &[])
    };
    let slots = vec![
        fixed("mean", SlotShape::Dims(vec![None])),
        fixed("variance", SlotShape::Dims(vec![None])),
        fixed("count", SlotShape::Unused),
    ];
    let leaf = Leaf::weighted(slots, move |call| {
        let rank = call.ranks[0];
        if dimension(axis, rank)? + 1 != rank {
            return Err(format!(
                "option \"axis\" is {axis}; only the last of its input's dimensions (-1) is supported"
            ));
        }
        Ok(Some(Layer::BatchNorm(BatchNorm {
            gamma: None,
            beta: None,
            mean: call.weights[0],
            variance: call.weights[1],
            epsilon: 0.0,
        })))
    });
    leaf.prepared(|mut weights| {
        // Keras divides by the standard deviation, or by this if it is smaller (`backend.epsilon()`).
        const SMALLEST: f32 = 1e-7;
        weights.truncate(2);
        let variance = weights.iter_mut().skip(1).flat_map(|w| &mut w.data);
        variance.for_each(|v| *v = v.max(SMALLEST * SMALLEST));
        Ok(weights)
    })
}

pub fn rescaling(o: &mut Options) -> Leaf {
    let scale = o.needed_number("scale");
    let offset = o.number("offset").unwrap_or(0.0);
    Leaf::composed(Vec::new(), move |_| {
        let steps = [MapFunction::Multiply(scale), MapFunction::Add(offset)];
        Ok(chain(1, steps.map(map)))
    })
}

pub fn embedding(o: &mut Options) -> Leaf {
    let rows = o.size("input_dim");
    let width = o.size("output_dim");
    let masks = o.bool("mask_zero", false);
    o.ignore(&["input_length"]);
    let table = slot("embeddings", &[Some(rows), Some(width)]);
    Leaf::with_outputs(vec![table], move |call| {
        let rows = Layer::Embedding(Embedding {
            table: call.weights[0],
        });
        if !masks {
            return Ok(chain(1, [rows]).into());
        }
        call.rank_is(1, "indices [time], if it masks index 0")?;
        let mask = Layer::Map(Map {
            function: MapFunction::NotEqual(0.0),
        });
        Ok(Lowered {
            parts: [mask, rows]
                .map(|layer| Part::new(layer, &[Operand::Input(0)]))
                .into(),
            outputs: vec![Operand::Part(1)],
            mask: Some(Operand::Part(0)),
        })
    })
}

/// Masks the steps whose elements all have one value, and sets them to 0.
pub fn masking(o: &mut Options) -> Leaf {
    let value = o.number("mask_value").unwrap_or(0.0);
    Leaf::with_outputs(Vec::new(), move |call| {
        call.rank_is(2, "[time, channels]")?;
        let part = Part::new;
        let differs = Map {
            function: MapFunction::NotEqual(value),
        };
        let largest = GlobalPool {
            kind: PoolKind::Max,
            keep_dims: false,
        };
        let order = vec![1, 0];
        let product = Merge {
            op: MergeOp::Multiply,
        };
        Ok(Lowered {
            parts: vec![
                part(Layer::Map(differs), &[Operand::Input(0)]),
                part(Layer::Permute(Permute { order }), &[Operand::Part(0)]),
                // Over the channels, which come first here.
                part(Layer::GlobalPool(largest), &[Operand::Part(1)]),
                part(
                    Layer::InsertAxis(InsertAxis { axis: 1 }),
                    &[Operand::Part(2)],
                ),
                part(
                    Layer::Merge(product),
                    &[Operand::Input(0), Operand::Part(3)],
                ),
            ],
            outputs: vec![Operand::Part(4)],
            mask: Some(Operand::Part(2)),
        })
    })
}

pub fn prelu(o: &mut Options) -> Leaf {
    // The weight itself has length 1 along the shared axes.
    o.ignore(&["shared_axes"]);
    let alpha = Slot {
        shape: SlotShape::Any,
        ..slot("alpha", &[])
    };
    Leaf::weighted(vec![alpha], |call| {
        Ok(Some(Layer::PRelu(PRelu {
            alpha: call.weights[0],
        })))
    })
}

pub fn softmax(o: &mut Options) -> Leaf {
    let axis = o.axis("softmax over one axis is supported");
    let zeroes_masked = o.dialect.zeroes_masked();
    Leaf::composed(Vec::new(), move |call| {
        let axis = dimension(axis, call.ranks[0])?;
        let softmax = Layer::Softmax(Softmax { axis });
        if !call.masks[0] {
            return Ok(chain(1, [softmax]));
        }
        // Keras aligns the mask with the last dimensions of the value.
        call.rank_is(
            1,
            "a vector beside a mask, which Keras applies to the last dimension",
        )?;
        let mut parts = Parts::default();
        let scores = parts.excluded(Operand::Input(0), Operand::Mask(0));
        let result = parts.add(softmax, &[scores]);
        if zeroes_masked {
            parts.multiplied(result, Operand::Mask(0));
        }
        Ok(parts.0)
    })
}

pub fn flatten(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    Leaf::composed(Vec::new(), move |call| {
        let rank = call.ranks[0];
        // Keras flattens in the order of channels last.
        let order: Vec<usize> = (1..rank).chain([0]).collect();
        let before = (first && rank > 1).then_some(Layer::Permute(Permute { order }));
        Ok(chain(1, before.into_iter().chain([Layer::Flatten])))
    })
}

pub fn permute(o: &mut Options) -> Leaf {
    let order = o.integers("dims").and_then(|dims| {
        let from_0 = dims
            .iter()
            .map(|&d| usize::try_from(d).ok()?.checked_sub(1));
        from_0
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| format!("option \"dims\" is {dims:?}; dimensions count from 1"))
    });
    let order = o.or_record(order, Vec::new());
    Leaf::plain(move |call| {
        call.rank_is(order.len(), &format!("{} dimensions", order.len()))?;
        let order = order.clone();
        Ok(Some(Layer::Permute(Permute { order })))
    })
}

pub fn reshape(o: &mut Options) -> Leaf {
    let dim = |&d: &i64| match d {
        -1 => Some(None),
        d => usize::try_from(d).ok().filter(|&d| d > 0).map(Some),
    };
    let shape = o.integers("target_shape").and_then(|target| {
        target
            .iter()
            .map(dim)
            .collect::<Option<Vec<_>>>()
            .filter(|s| s.iter().filter(|d| d.is_none()).count() <= 1)
            .ok_or_else(|| {
                format!("option \"target_shape\" is {target:?}; positive sizes and at most one -1 are needed")
            })
    });
    let shape = o.or_record(shape, Vec::new());
    Leaf::plain(move |_| {
        let shape = shape.clone();
        Ok(Some(Layer::Reshape(Reshape { shape })))
    })
}

pub fn repeat_vector(o: &mut Options) -> Leaf {
    let count = o.size("n");
    Leaf::plain(move |call| {
        call.rank_is(1, "a vector")?;
        Ok(Some(Layer::RepeatVector(RepeatVector { count })))
    })
}

pub fn concatenate(o: &mut Options) -> Leaf {
    let axis = match o.value("axis") {
        None => -1,
        Some(value) => {
            let axis = value
                .as_i64()
                .ok_or_else(|| unsupported("axis", value, "a whole number is needed"));
            o.or_record(axis, -1)
        }
    };
    let leaf = Leaf::plain(move |call| {
        let axis = dimension(axis, call.ranks[0])?;
        Ok(match call.ranks {
            [_] => None,
            _ => Some(Layer::Concat(Concat { axis })),
        })
    });
    leaf.with_input_list()
        .masking(Masking::Concatenates { axis })
}

pub fn merge(op: MergeOp) -> Leaf {
    Leaf::plain(move |_| Ok(Some(Layer::Merge(Merge { op })))).with_input_list()
}

/// Parses a dropout layer. `spatial` is the input rank of a spatial dropout, which drops whole
/// channels; `None` for single units.
pub fn dropout(o: &mut Options, spatial: Option<usize>) -> Leaf {
    let channels_first = o.channels_first();
    let rate = o.needed_number("rate");
    let noise_shape = o.value("noise_shape").cloned();
    Leaf::plain(move |call| {
        if call.training != Some(true) {
            return Ok(None);
        }
        if let Some(value) = &noise_shape {
            return Err(unsupported(
                "noise_shape",
                value,
                "this is not supported for a dropout that stays on (training=True)",
            ));
        }
        if channels_first {
            return Err("it drops whole channels (training=True) that come first (data_format=\"channels_first\"); this is not supported".into());
        }
        if let Some(rank) = spatial {
            call.rank_is(rank, &format!("{rank} dimensions"))?;
        }
        Ok(Some(Layer::Dropout(Dropout {
            rate,
            forced: true,
            per_channel: spatial.is_some(),
        })))
    })
}

/// Parses a layer that does nothing at inference.
pub fn training_only(o: &mut Options) -> Leaf {
    o.ignore(&["stddev", "rate", "noise_shape", "l1", "l2"]);
    Leaf::plain(|call| {
        call.no_training()?;
        Ok(None)
    })
}

/// Parses a layer that changes images at random in training alone.
pub fn augmentation(o: &mut Options) -> Leaf {
    o.ignore(&[
        "mode",
        "seed",
        "factor",
        "height_factor",
        "width_factor",
        "fill_mode",
        "fill_value",
        "interpolation",
        "value_range",
        "data_format",
        "bounding_box_format",
    ]);
    // Keras 3 stores training=True, the argument's default, and changes nothing at inference nevertheless.
    let is_stored_always = o.dialect.keras3.is_some();
    Leaf::plain(move |call| {
        if !is_stored_always {
            call.no_training()?;
        }
        Ok(None)
    })
}
