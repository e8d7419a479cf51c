//! LSTM, GRU, SimpleRNN, convolutional LSTMs and Bidirectional.

use serde_json::{Map, Value, json};

use super::spatial::pair;
use super::{Call, Dialect, Leaf, Lowered, Masking, Operand, Parts, bias_slot, chain, slot};
use crate::keras::activation;
use crate::keras::options::{Options, Problems, missing, unsupported};
use crate::nn::layers::{
    Activation, ConvLstm, Gru, Layer, Lstm, MergeOp, Recurrent, Reshape, RnnCell, SimpleRnn, Slice,
    StatefulRnn,
};

/// Options that all recurrent layers share.
struct RecurrentOptions {
    units: usize,
    activation: Activation,
    return_sequences: bool,
    return_state: bool,
    zero_output_for_mask: bool,
    go_backwards: bool,
    stateful: bool,
    /// Set if the layer drops inputs or states in training.
    drops: bool,
    old_skipped_outputs: bool,
    is_keras3: bool,
}

fn shared_options(o: &mut Options) -> RecurrentOptions {
    for key in ["time_major", "num_constants"] {
        o.off(key);
    }
    // Options of the implementation alone; the result is the same.
    o.ignore(&["unroll", "implementation", "input_dim", "input_length"]);
    RecurrentOptions {
        units: o.size("units"),
        activation: required_activation(o, "activation"),
        return_sequences: o.bool("return_sequences", false),
        return_state: o.bool("return_state", false),
        zero_output_for_mask: o.bool("zero_output_for_mask", false),
        go_backwards: o.bool("go_backwards", false),
        stateful: o.bool("stateful", false),
        drops: drops(o),
        old_skipped_outputs: o.dialect.old_skipped_outputs,
        is_keras3: o.dialect.keras3.is_some(),
    }
}

/// Returns whether the layer drops inputs or states in training.
fn drops(o: &mut Options) -> bool {
    let rates = ["dropout", "recurrent_dropout"].map(|key| o.number(key).unwrap_or(0.0));
    rates.iter().any(|&rate| rate != 0.0)
}

/// Reads an activation that does not default to linear.
fn required_activation(o: &mut Options, key: &'static str) -> Activation {
    if o.value(key).is_none() {
        o.problem(missing(key));
    }
    activation::option(o, key)
}

/// Creates a recurrent layer of `gates` gates from its weights.
fn leaf(
    o: &mut Options,
    gates: usize,
    bias: &[Option<usize>],
    shared: RecurrentOptions,
    make: impl Fn(&Call, &RecurrentOptions) -> RnnCell + Send + Sync + 'static,
) -> Leaf {
    let width = Some(gates * shared.units);
    let mut slots = vec![
        slot("kernel", &[None, width]),
        slot("recurrent_kernel", &[Some(shared.units), width]),
    ];
    slots.extend(bias_slot(o, bias));
    let masking = match shared.return_sequences {
        true => Masking::Passes,
        false => Masking::Reads,
    };
    let leaf = Leaf::with_outputs(slots, move |call| {
        if shared.drops {
            call.no_training()?;
        }
        parts(make(call, &shared), &shared, call)
    });
    leaf.with_input_list().masking(masking)
}

/// Returns the nodes of one use of a recurrent layer.
fn parts(cell: RnnCell, shared: &RecurrentOptions, call: &Call) -> Result<Lowered, String> {
    let states = cell.states();
    let initial_state = match *call.ranks {
        [2] => false,
        [2, ref given @ ..] if given.len() == states && given.iter().all(|&rank| rank == 1) => true,
        [rank] => {
            return Err(format!(
                "it takes [time, channels], but its input has {rank} dimensions without the batch"
            ));
        }
        _ => {
            return Err(format!(
                "it takes [time, channels] and {states} states [units] or none, but its inputs have {:?} dimensions without the batch",
                call.ranks
            ));
        }
    };
    let masked = call.masks[0];
    if !masked && !initial_state && !shared.return_state {
        let layer = match cell {
            RnnCell::Lstm(lstm) => Layer::Lstm(lstm),
            RnnCell::Gru(gru) => Layer::Gru(gru),
            RnnCell::SimpleRnn(rnn) => Layer::SimpleRnn(rnn),
        };
        return Ok(chain(1, [layer]).into());
    }
    if masked && initial_state && shared.is_keras3 {
        return Err(
            "its input has a mask and it has initial states, for which the backends of Keras 3 compute different outputs".into(),
        );
    }
    if masked && shared.old_skipped_outputs && (initial_state || shared.zero_output_for_mask) {
        return Err(
            "its input has a mask, whose effect on initial states and in Bidirectional is known for Keras 2.4 and later; load the model there and save it again".into(),
        );
    }
    let mut inputs = vec![Operand::Input(0)];
    if masked {
        inputs.push(Operand::Mask(0));
    }
    inputs.extend((1..call.ranks.len()).map(Operand::Input));
    let layer = StatefulRnn {
        cell,
        masked,
        zero_skipped_output: shared.zero_output_for_mask,
        initial_state,
        return_state: shared.return_state,
    };
    let mut parts = Parts::default();
    let all = parts.add(Layer::StatefulRnn(layer), &inputs);
    if !shared.return_state {
        return Ok(parts.0.into());
    }
    // The states lie behind the output, whose length may be open.
    let units = shared.units as i64;
    let behind = units * states as i64;
    let slice = |start, stop| {
        Layer::Slice(Slice {
            axis: 0,
            start,
            stop,
            step: 1,
        })
    };
    let mut output = parts.add(slice(0, Some(-behind)), &[all]);
    if shared.return_sequences {
        let shape = vec![None, Some(shared.units)];
        output = parts.add(Layer::Reshape(Reshape { shape }), &[output]);
    }
    let mut outputs = vec![output];
    for state in 0..states as i64 {
        let start = state * units - behind;
        let stop = Some(start + units).filter(|&stop| stop < 0);
        outputs.push(parts.add(slice(start, stop), &[all]));
    }
    Ok(Lowered {
        parts: parts.0,
        outputs,
        mask: None,
    })
}

fn recurrent(
    call: &Call,
    shared: &RecurrentOptions,
    recurrent_activation: Activation,
) -> Recurrent {
    Recurrent {
        kernel: call.weights[0],
        recurrent_kernel: call.weights[1],
        bias: call.weights.get(2).copied(),
        activation: shared.activation,
        recurrent_activation,
        return_sequences: shared.return_sequences,
        go_backwards: shared.go_backwards,
        stateful: shared.stateful,
    }
}

pub fn lstm(o: &mut Options) -> Leaf {
    let shared = shared_options(o);
    o.ignore(&["unit_forget_bias"]);
    // The default differs between versions.
    let gate = required_activation(o, "recurrent_activation");
    let bias = [Some(4 * shared.units)];
    leaf(o, 4, &bias, shared, move |call, shared| {
        RnnCell::Lstm(Lstm {
            recurrent: recurrent(call, shared, gate),
        })
    })
}

pub fn gru(o: &mut Options) -> Leaf {
    let shared = shared_options(o);
    let gate = required_activation(o, "recurrent_activation");
    // Older files lack this option.
    let reset_after = o.bool("reset_after", false);
    let width = Some(3 * shared.units);
    let bias = if reset_after {
        vec![Some(2), width]
    } else {
        vec![width]
    };
    leaf(o, 3, &bias, shared, move |call, shared| {
        RnnCell::Gru(Gru {
            recurrent: recurrent(call, shared, gate),
            reset_after,
        })
    })
}

pub fn simple_rnn(o: &mut Options) -> Leaf {
    let shared = shared_options(o);
    let bias = [Some(shared.units)];
    leaf(o, 1, &bias, shared, |call, shared| {
        RnnCell::SimpleRnn(SimpleRnn {
            kernel: call.weights[0],
            recurrent_kernel: call.weights[1],
            bias: call.weights.get(2).copied(),
            activation: shared.activation,
            return_sequences: shared.return_sequences,
            go_backwards: shared.go_backwards,
            stateful: shared.stateful,
        })
    })
}

pub fn conv_lstm<const N: usize>(o: &mut Options) -> Leaf {
    let first = o.channels_first();
    for key in ["time_major", "num_constants", "stateful", "return_state"] {
        o.off(key);
    }
    // Without a mask, no step is skipped.
    o.ignore(&[
        "unroll",
        "implementation",
        "unit_forget_bias",
        "zero_output_for_mask",
    ]);
    if o.dialect.mirrored_kernels {
        o.problem("the file was saved with the backend \"theano\", whose kernels are mirrored; train the network with the TensorFlow backend");
    }
    let drops = drops(o);
    let filters = o.size("filters");
    let kernel = o.needed_sizes::<N>("kernel_size");
    let strides = pair(o.sizes::<N>("strides").unwrap_or([1; N]));
    let dilation = pair(o.sizes::<N>("dilation_rate").unwrap_or([1; N]));
    let padding = o.padding(false);
    let activation = required_activation(o, "activation");
    let recurrent_activation = required_activation(o, "recurrent_activation");
    let return_sequences = o.bool("return_sequences", false);
    let go_backwards = o.bool("go_backwards", false);
    let dims = |inputs: Option<usize>| -> Vec<Option<usize>> {
        let spatial = kernel.map(Some).into_iter();
        spatial.chain([inputs, Some(4 * filters)]).collect()
    };
    let mut slots = vec![
        slot("kernel", &dims(None)),
        slot("recurrent_kernel", &dims(Some(filters))),
    ];
    slots.extend(bias_slot(o, &[Some(4 * filters)]));
    let leaf = Leaf::weighted(slots, move |call| {
        if drops {
            call.no_training()?;
        }
        call.rank_is(
            N + 2,
            match N {
                1 => "[time, length, channels]",
                _ => "[time, height, width, channels]",
            },
        )?;
        Ok(Some(Layer::ConvLstm(ConvLstm {
            kernel: call.weights[0],
            recurrent_kernel: call.weights[1],
            bias: call.weights.get(2).copied(),
            strides,
            dilation,
            padding,
            activation,
            recurrent_activation,
            return_sequences,
            go_backwards,
        })))
    });
    let leaf = leaf.masking(Masking::Refuses("it would have to skip steps"));
    if !first {
        return leaf;
    }
    // The time stays the first dimension.
    let last = (2..N + 2).chain([1]);
    let last = std::iter::once(0).chain(last).collect();
    let rank = N + 1 + usize::from(return_sequences);
    let behind_time = usize::from(return_sequences);
    let back = (0..behind_time)
        .chain([rank - 1])
        .chain(behind_time..rank - 1)
        .collect();
    leaf.transposed(last, Some(back))
}

/// Merge of the two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeMode {
    Concat,
    Merge(MergeOp),
    /// Two outputs.
    Separate,
}

/// Parsed Bidirectional wrapper, with the configurations of its two layers.
pub struct Bidirectional {
    pub class: String,
    pub forward: Map<String, Value>,
    pub backward: Map<String, Value>,
    pub mode: MergeMode,
    /// Set if the outputs are sequences; the backward one must then be reversed.
    pub sequences: bool,
}

impl Bidirectional {
    /// Parses a Bidirectional wrapper.
    ///
    /// # Errors
    /// If an option is unsupported, or the two layers do not match.
    pub fn parse(config: &Map<String, Value>, dialect: Dialect) -> Result<Self, Problems> {
        let mut options = Options::new(config, dialect);
        let read = Self::read(&mut options);
        options.finish(read.map_err(Problems::from))
    }

    fn read(o: &mut Options) -> Result<Self, String> {
        let mode = merge_mode(o);
        // The options of the two layers count.
        o.ignore(&["return_sequences", "return_state"]);
        o.off("num_constants");
        o.bool("stateful", false);
        let (class, forward) = inner(o, "layer")?.ok_or_else(|| missing("layer"))?;
        if !matches!(class.as_str(), "LSTM" | "GRU" | "SimpleRNN") {
            return Err(format!(
                "option \"layer\" is a {class}; only LSTM, GRU and SimpleRNN are supported"
            ));
        }
        let flag = |map: &Map<String, Value>, key| map.get(key).and_then(Value::as_bool);
        let mut forward = forward;
        let mut backward = match inner(o, "backward_layer")? {
            Some((other, map)) => {
                if other != class {
                    return Err(format!(
                        "option \"backward_layer\" is a {other}, option \"layer\" a {class}; both must be the same"
                    ));
                }
                map
            }
            None => {
                let mut map = forward.clone();
                let turned = !flag(&map, "go_backwards").unwrap_or(false);
                map.insert("go_backwards".into(), turned.into());
                map
            }
        };
        let sequences = flag(&forward, "return_sequences").unwrap_or(false);
        for key in ["return_sequences", "return_state"] {
            if flag(&backward, key).unwrap_or(false) != flag(&forward, key).unwrap_or(false) {
                return Err(format!("its two layers differ in option {key:?}"));
            }
        }
        for map in [&mut forward, &mut backward] {
            // Sequences of both directions are merged step by step, so skipped steps are zeros.
            map.insert("zero_output_for_mask".into(), sequences.into());
        }
        Ok(Self {
            class,
            forward,
            backward,
            mode,
            sequences,
        })
    }
}

fn merge_mode(o: &mut Options) -> MergeMode {
    let mode = match o.value("merge_mode") {
        Some(Value::String(s)) => match s.as_str() {
            "concat" => Ok(MergeMode::Concat),
            "sum" => Ok(MergeMode::Merge(MergeOp::Add)),
            "mul" => Ok(MergeMode::Merge(MergeOp::Multiply)),
            "ave" => Ok(MergeMode::Merge(MergeOp::Average)),
            _ => Err(unsupported("merge_mode", &json!(s), "this is not known")),
        },
        Some(found) => Err(unsupported("merge_mode", found, "a word is needed")),
        None if o.is_null("merge_mode") => Ok(MergeMode::Separate),
        None => Err(missing("merge_mode")),
    };
    o.or_record(mode, MergeMode::Concat)
}

/// Class and configuration of a layer.
type ClassAndConfig = (String, Map<String, Value>);

/// Returns the layer inside a wrapper.
fn inner(o: &mut Options, key: &'static str) -> Result<Option<ClassAndConfig>, String> {
    let Some(value) = o.value(key) else {
        return Ok(None);
    };
    let class = value.get("class_name").and_then(Value::as_str);
    match (class, value.get("config").and_then(Value::as_object)) {
        (Some(class), Some(config)) => Ok(Some((class.into(), config.clone()))),
        _ => Err(unsupported(key, value, "a layer is needed")),
    }
}
