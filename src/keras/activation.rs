//! Activation functions by Keras' names.

use serde_json::{Map, Value};

use super::layers::Dialect;
use super::options::{Options, Problems, brief, missing, unsupported};
use crate::nn::layers::Activation;

/// Reads option `key` of a layer as an activation function; linear if it is missing.
pub fn option(o: &mut Options, key: &'static str) -> Activation {
    match o.value(key) {
        None => Activation::Linear,
        Some(value) => {
            let found = parse(value, o.dialect).map_err(|why| unsupported(key, value, &why));
            o.or_record(found, Activation::Linear)
        }
    }
}

fn parse(value: &Value, dialect: Dialect) -> Result<Activation, String> {
    match value {
        Value::String(name) => named(name, dialect),
        Value::Object(object) => {
            let class = object.get("class_name").and_then(Value::as_str);
            match (class, object.get("config")) {
                // Keras 2.13 and later serialise a named function as an object.
                (Some("function"), Some(Value::String(name))) => named(name, dialect),
                (Some(class), Some(Value::Object(config))) => match layer(class, config, dialect) {
                    Some(found) => found.map_err(|Problems(all)| all.join("; ")),
                    None => Err(not_known()),
                },
                _ => Err(not_known()),
            }
        }
        _ => Err(not_known()),
    }
}

fn not_known() -> String {
    "this is not a known activation function".into()
}

fn named(name: &str, dialect: Dialect) -> Result<Activation, String> {
    Ok(match name {
        "hard_sigmoid" if dialect.keras3.is_some() => Activation::HardSigmoid6,
        "linear" => Activation::Linear,
        "relu" => Activation::Relu,
        "relu6" => Activation::ReluWith {
            max: Some(6.0),
            slope: 0.0,
            threshold: 0.0,
        },
        // `tf.nn.leaky_relu`; its slope differs from that of Keras' LeakyReLU layer.
        "leaky_relu" => Activation::LeakyRelu { alpha: 0.2 },
        "elu" => Activation::Elu { alpha: 1.0 },
        "selu" => Activation::Selu,
        "sigmoid" => Activation::Sigmoid,
        "hard_sigmoid" => Activation::HardSigmoid,
        "tanh" => Activation::Tanh,
        "softmax" => Activation::Softmax,
        "softplus" => Activation::Softplus,
        "softsign" => Activation::Softsign,
        "exponential" => Activation::Exponential,
        "swish" | "silu" => Activation::Swish,
        "gelu" => Activation::Gelu,
        "mish" => Activation::Mish,
        _ => return Err(not_known()),
    })
}

/// Reads a layer whose class is an activation function, with its options. `None` for other classes.
pub fn layer(
    class: &str,
    config: &Map<String, Value>,
    dialect: Dialect,
) -> Option<Result<Activation, Problems>> {
    let parse = match class {
        "LeakyReLU" => leaky_relu,
        "ELU" => elu,
        "ThresholdedReLU" => thresholded_relu,
        "ReLU" => relu,
        "Activation" => |o: &mut Options| option(o, "activation"),
        _ => return None,
    };
    let mut o = Options::new(config, dialect);
    let activation = parse(&mut o);
    Some(o.finish(Ok(activation)))
}

fn leaky_relu(o: &mut Options) -> Activation {
    // Keras 3 gave the option another name.
    let alpha = match o.value("negative_slope") {
        Some(_) => slope(o, "negative_slope"),
        None => slope(o, "alpha"),
    };
    Activation::LeakyRelu { alpha }
}

fn elu(o: &mut Options) -> Activation {
    let alpha = slope(o, "alpha");
    Activation::Elu { alpha }
}

fn thresholded_relu(o: &mut Options) -> Activation {
    let theta = slope(o, "theta");
    Activation::ThresholdedRelu { theta }
}

fn relu(o: &mut Options) -> Activation {
    let max = scalar(o, "max_value");
    let slope = scalar(o, "negative_slope").unwrap_or(0.0);
    let threshold = scalar(o, "threshold").unwrap_or(0.0);
    match (max, slope, threshold) {
        (None, 0.0, 0.0) => Activation::Relu,
        (None, alpha, 0.0) => Activation::LeakyRelu { alpha },
        _ => Activation::ReluWith {
            max,
            slope,
            threshold,
        },
    }
}

fn slope(o: &mut Options, key: &'static str) -> f32 {
    let found = scalar(o, key).ok_or_else(|| missing(key));
    o.or_record(found, 0.0)
}

/// Reads a number, which some Keras versions write as a numpy array of rank 0.
fn scalar(o: &mut Options, key: &'static str) -> Option<f32> {
    match o.value(key) {
        Some(object @ Value::Object(array)) => {
            let number = array.get("value").and_then(Value::as_f64).map(|x| x as f32);
            let number = number
                .filter(|x| x.is_finite())
                .ok_or_else(|| format!("option {key:?} is {}; a number is needed", brief(object)));
            Some(o.or_record(number, 0.0))
        }
        _ => o.number(key),
    }
}
