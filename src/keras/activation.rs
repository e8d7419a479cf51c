//! Activation functions by Keras' names.

use serde_json::{Map, Value};

use super::options::{Options, brief, unsupported};
use crate::nn::layer::Activation;

/// Option `key` of a layer as an activation function; linear if it is missing.
pub fn option(o: &mut Options, key: &'static str) -> Result<Activation, String> {
    match o.value(key) {
        None => Ok(Activation::Linear),
        Some(value) => parse(value).map_err(|why| unsupported(key, value, &why)),
    }
}

fn parse(value: &Value) -> Result<Activation, String> {
    match value {
        Value::String(name) => named(name),
        Value::Object(object) => {
            let class = object.get("class_name").and_then(Value::as_str);
            match (class, object.get("config")) {
                // Keras 2.13 and later wrap the name of a function like this.
                (Some("function"), Some(Value::String(name))) => named(name),
                (Some(class), Some(Value::Object(config))) => {
                    layer(class, config).unwrap_or_else(|| Err(not_known()))
                }
                _ => Err(not_known()),
            }
        }
        _ => Err(not_known()),
    }
}

fn not_known() -> String {
    "this is not a known activation function".into()
}

fn named(name: &str) -> Result<Activation, String> {
    Ok(match name {
        "linear" => Activation::Linear,
        "relu" => Activation::Relu,
        "relu6" => Activation::ReluWith {
            max: Some(6.0),
            slope: 0.0,
            threshold: 0.0,
        },
        // tf.nn.leaky_relu, whose slope is not that of Keras' layer.
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

/// The layer classes that are activation functions, with their options. `None` for other classes.
pub fn layer(class: &str, config: &Map<String, Value>) -> Option<Result<Activation, String>> {
    let parse = match class {
        "LeakyReLU" => leaky_relu,
        "ELU" => elu,
        "ThresholdedReLU" => thresholded_relu,
        "ReLU" => relu,
        "Activation" => |o: &mut Options| option(o, "activation"),
        _ => return None,
    };
    let mut o = Options::new(config);
    Some(parse(&mut o).and_then(|activation| o.finish().map(|()| activation)))
}

fn leaky_relu(o: &mut Options) -> Result<Activation, String> {
    let alpha = slope(o, "alpha")?;
    Ok(Activation::LeakyRelu { alpha })
}

fn elu(o: &mut Options) -> Result<Activation, String> {
    let alpha = slope(o, "alpha")?;
    Ok(Activation::Elu { alpha })
}

fn thresholded_relu(o: &mut Options) -> Result<Activation, String> {
    let theta = slope(o, "theta")?;
    Ok(Activation::ThresholdedRelu { theta })
}

fn relu(o: &mut Options) -> Result<Activation, String> {
    let max = scalar(o, "max_value")?;
    let slope = scalar(o, "negative_slope")?.unwrap_or(0.0);
    let threshold = scalar(o, "threshold")?.unwrap_or(0.0);
    Ok(match (max, slope, threshold) {
        (None, 0.0, 0.0) => Activation::Relu,
        (None, alpha, 0.0) => Activation::LeakyRelu { alpha },
        _ => Activation::ReluWith {
            max,
            slope,
            threshold,
        },
    })
}

fn slope(o: &mut Options, key: &'static str) -> Result<f32, String> {
    scalar(o, key)?.ok_or_else(|| super::options::missing(key))
}

/// A number, which some versions write as a numpy array of rank 0.
fn scalar(o: &mut Options, key: &'static str) -> Result<Option<f32>, String> {
    match o.value(key) {
        Some(Value::Object(array)) => match array.get("value").and_then(Value::as_f64) {
            Some(x) if (x as f32).is_finite() => Ok(Some(x as f32)),
            _ => Err(format!(
                "option {key:?} is {}; a number is needed",
                brief(&Value::Object(array.clone()))
            )),
        },
        _ => o.number(key),
    }
}
