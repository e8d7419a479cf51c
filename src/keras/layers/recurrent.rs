//! LSTM, GRU and Bidirectional.

use serde_json::{Map, Value, json};

use super::{Dialect, Leaf, bias_slot, slot};
use crate::keras::activation;
use crate::keras::options::{Options, Problems, missing, unsupported};
use crate::nn::layers::{Activation, Gru, Layer, Lstm, MergeOp, Recurrent, SimpleRnn};

/// Options that LSTM and GRU share.
struct RecurrentOptions {
    units: usize,
    activation: Activation,
    recurrent_activation: Activation,
    return_sequences: bool,
    go_backwards: bool,
    /// Set if the layer drops inputs or states in training.
    drops: bool,
}

fn recurrent_options(o: &mut Options) -> RecurrentOptions {
    for key in ["stateful", "return_state", "time_major", "num_constants"] {
        o.off(key);
    }
    // The ignored options change the implementation, or the result with a mask alone.
    o.ignore(&[
        "zero_output_for_mask",
        "unroll",
        "implementation",
        "unit_forget_bias",
        "input_dim",
        "input_length",
    ]);
    let inputs_dropped = o.number("dropout").unwrap_or(0.0);
    let states_dropped = o.number("recurrent_dropout").unwrap_or(0.0);
    let drops = inputs_dropped != 0.0 || states_dropped != 0.0;
    // Neither function defaults to linear, and one default differs between versions.
    for key in ["activation", "recurrent_activation"] {
        if o.value(key).is_none() {
            o.problem(missing(key));
        }
    }
    RecurrentOptions {
        units: o.size("units"),
        activation: activation::option(o, "activation"),
        recurrent_activation: activation::option(o, "recurrent_activation"),
        return_sequences: o.bool("return_sequences", false),
        go_backwards: o.bool("go_backwards", false),
        drops,
    }
}

fn leaf(
    o: &mut Options,
    gates: usize,
    bias: &[Option<usize>],
    shared: RecurrentOptions,
    make: impl Fn(Recurrent) -> Layer + Send + Sync + 'static,
) -> Leaf {
    let width = Some(gates * shared.units);
    let mut slots = vec![
        slot("kernel", &[None, width]),
        slot("recurrent_kernel", &[Some(shared.units), width]),
    ];
    slots.extend(bias_slot(o, bias));
    Leaf::weighted(slots, move |call| {
        if shared.drops {
            call.no_training()?;
        }
        call.rank_is(2, "[time, channels]")?;
        Ok(Some(make(Recurrent {
            kernel: call.weights[0],
            recurrent_kernel: call.weights[1],
            bias: call.weights.get(2).copied(),
            activation: shared.activation,
            recurrent_activation: shared.recurrent_activation,
            return_sequences: shared.return_sequences,
            go_backwards: shared.go_backwards,
        })))
    })
}

pub fn lstm(o: &mut Options) -> Leaf {
    let shared = recurrent_options(o);
    let bias = [Some(4 * shared.units)];
    leaf(o, 4, &bias, shared, |recurrent| {
        Layer::Lstm(Lstm { recurrent })
    })
}

pub fn gru(o: &mut Options) -> Leaf {
    let shared = recurrent_options(o);
    // Older files lack this option.
    let reset_after = o.bool("reset_after", false);
    let width = Some(3 * shared.units);
    let bias = if reset_after {
        vec![Some(2), width]
    } else {
        vec![width]
    };
    leaf(o, 3, &bias, shared, move |recurrent| {
        Layer::Gru(Gru {
            recurrent,
            reset_after,
        })
    })
}

pub fn simple_rnn(o: &mut Options) -> Leaf {
    for key in ["stateful", "return_state", "time_major"] {
        o.off(key);
    }
    o.ignore(&[
        "unroll",
        "implementation",
        "input_dim",
        "input_length",
        "zero_output_for_mask",
    ]);
    let dropped = ["dropout", "recurrent_dropout"].map(|key| o.number(key).unwrap_or(0.0));
    let units = o.size("units");
    if o.value("activation").is_none() {
        o.problem(missing("activation"));
    }
    let activation = activation::option(o, "activation");
    let return_sequences = o.bool("return_sequences", false);
    let go_backwards = o.bool("go_backwards", false);
    let mut slots = vec![
        slot("kernel", &[None, Some(units)]),
        slot("recurrent_kernel", &[Some(units), Some(units)]),
    ];
    slots.extend(bias_slot(o, &[Some(units)]));
    Leaf::weighted(slots, move |call| {
        if dropped != [0.0; 2] {
            call.no_training()?;
        }
        call.rank_is(2, "[time, channels]")?;
        Ok(Some(Layer::SimpleRnn(SimpleRnn {
            kernel: call.weights[0],
            recurrent_kernel: call.weights[1],
            bias: call.weights.get(2).copied(),
            activation,
            return_sequences,
            go_backwards,
        })))
    })
}

/// Merge of the two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeMode {
    Concat,
    Merge(MergeOp),
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
        o.ignore(&["return_sequences"]);
        for key in ["stateful", "return_state", "num_constants"] {
            o.off(key);
        }
        let (class, forward) = inner(o, "layer")?.ok_or_else(|| missing("layer"))?;
        if !matches!(class.as_str(), "LSTM" | "GRU" | "SimpleRNN") {
            return Err(format!(
                "option \"layer\" is a {class}; only LSTM, GRU and SimpleRNN are supported"
            ));
        }
        let flag = |map: &Map<String, Value>, key| map.get(key).and_then(Value::as_bool);
        let backward = match inner(o, "backward_layer")? {
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
        if flag(&backward, "return_sequences").unwrap_or(false) != sequences {
            return Err("its two layers differ in option \"return_sequences\"".into());
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
        found => Err(unsupported(
            "merge_mode",
            found.unwrap_or(&Value::Null),
            "two separate outputs are not supported",
        )),
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
