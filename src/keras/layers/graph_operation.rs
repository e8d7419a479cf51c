//! TensorFlowOpLayer: operations in the model's code, as the Keras in TensorFlow 2.1 to 2.3 stores them.
//!
//! The layer holds a node of TensorFlow's graph (a `NodeDef` as JSON) and the values of those of its
//! inputs that are constants. Source of the operations and their attributes: TensorFlow's
//! core/ops/{array,math,nn}_ops.cc.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::Leaf;
use super::operation::{Argument, Operation};
use crate::keras::options::{Options, brief, missing, unsupported};

/// Maximum number of inputs of an operation.
const MAX_INPUTS: usize = 64;

/// Attributes that state types and counts, which the inputs determine.
const IRRELEVANT_ATTRIBUTES: [&str; 6] = ["N", "Tidx", "Tperm", "Tshape", "Tdim", "Index"];

/// Parses a layer of class `TensorFlowOpLayer`.
///
/// # Errors
/// If the operation, one of its attributes or one of its constants is unsupported. The message shows
/// them.
pub fn layer(o: &mut Options) -> Result<Leaf, String> {
    let stored = o.value("node_def").ok_or_else(|| missing("node_def"))?;
    let none = Map::new();
    let constants = match o.value("constants") {
        Some(Value::Object(constants)) => constants,
        None => &none,
        Some(other) => {
            return Err(unsupported(
                "constants",
                other,
                "values by the number of their input are needed",
            ));
        }
    };
    let parsed;
    let node = match stored {
        Value::String(text) => {
            parsed = serde_json::from_str(text).map_err(|e| {
                unsupported("node_def", stored, &format!("it is no valid JSON: {e}"))
            })?;
            &parsed
        }
        node => node,
    };
    let node = Node::read(node, constants, &none)?;
    node.leaf().ok_or_else(|| node.unsupported())
}

/// Input of an operation.
enum Input<'a> {
    /// A tensor, by its position among the tensors.
    Tensor(usize),
    Constant(&'a Value),
}

/// An operation of TensorFlow's graph.
struct Node<'a> {
    operation: &'a str,
    inputs: Vec<Input<'a>>,
    tensors: usize,
    attributes: &'a Map<String, Value>,
}

/// An operation and its arguments in the terms of [`Operation`].
struct Call {
    name: &'static str,
    /// Numbers of the inputs that are arguments, in the order of the arguments.
    positional: Vec<usize>,
    keywords: Vec<(&'static str, Value)>,
}

impl<'a> Node<'a> {
    fn read(
        node: &'a Value,
        constants: &'a Map<String, Value>,
        none: &'a Map<String, Value>,
    ) -> Result<Self, String> {
        let operation = node.get("op").and_then(Value::as_str);
        let operation = operation.ok_or_else(|| {
            unsupported(
                "node_def",
                node,
                "a node of TensorFlow's graph with its operation \"op\" is needed",
            )
        })?;
        let attributes = node.get("attr").and_then(Value::as_object);
        let names = node.get("input").and_then(Value::as_array);
        // The names of nodes that must run before begin with this sign.
        let is_value = |name: &&Value| name.as_str().is_none_or(|name| !name.starts_with('^'));
        let count = names.into_iter().flatten().filter(is_value).count();
        if count > MAX_INPUTS {
            return Err(format!(
                "its operation {} has {count} inputs, more than {MAX_INPUTS}",
                brief(&operation.into())
            ));
        }
        let mut tensors = 0;
        let inputs: Vec<Input> = (0..count)
            .map(|i| match constants.get(&i.to_string()) {
                Some(value) => Input::Constant(value),
                None => {
                    tensors += 1;
                    Input::Tensor(tensors - 1)
                }
            })
            .collect();
        if count - tensors != constants.len() {
            return Err(format!(
                "option \"constants\" has values for the inputs {:?}, but its operation {} has {count} inputs",
                constants.keys().collect::<Vec<_>>(),
                brief(&operation.into())
            ));
        }
        Ok(Self {
            operation,
            inputs,
            tensors,
            attributes: attributes.unwrap_or(none),
        })
    }

    /// Describes the operation.
    fn unsupported(&self) -> String {
        let constants = self.inputs.iter().enumerate().filter_map(|(i, input)| {
            let Input::Constant(value) = input else {
                return None;
            };
            Some(format!("input {i} = {}", brief(value)))
        });
        let attributes = self
            .attributes
            .iter()
            .map(|(name, value)| format!("{name} = {}", brief(value)));
        let shown: Vec<String> = constants.chain(attributes).take(MAX_INPUTS).collect();
        format!(
            "TensorFlow's operation {} with {} is not supported; put a layer in its place",
            brief(&self.operation.into()),
            match &*shown {
                [] => "no attributes".into(),
                shown => shown.join(", "),
            }
        )
    }

    /// Builds the layer; `None` if the operation is unsupported.
    fn leaf(&self) -> Option<Leaf> {
        let mut attributes = Attributes {
            map: self.attributes,
            read: HashSet::new(),
        };
        let call = self.call(&mut attributes)?;
        attributes.all_read().then_some(())?;
        let argument = |&i: &usize| match self.inputs.get(i)? {
            Input::Tensor(n) => Some(Argument::Tensor(*n)),
            Input::Constant(value) => Some(Argument::Constant(single(value))),
        };
        let positional: Vec<Argument> = call
            .positional
            .iter()
            .map(argument)
            .collect::<Option<_>>()?;
        let keywords = call.keywords.iter();
        let operation = Operation {
            name: call.name,
            positional,
            keywords: keywords
                .map(|(key, value)| (*key, Argument::Constant(value)))
                .collect(),
            tensors: self.tensors,
        };
        operation.known()
    }

    /// Returns the value of an input that must be a constant.
    fn constant(&self, input: usize) -> Option<&'a Value> {
        match self.inputs.get(input)? {
            Input::Constant(value) => Some(value),
            Input::Tensor(_) => None,
        }
    }

    fn call(&self, attributes: &mut Attributes) -> Option<Call> {
        let plain = |name| Call {
            name,
            positional: (0..self.inputs.len()).collect(),
            keywords: Vec::new(),
        };
        if self.operation == "Cast" {
            // Values of all types are 32-bit floats here; the conversion to one of fewer values changes them.
            let from = attributes.kind("SrcT")?;
            (is_float(from) || from.starts_with("DT_INT") || from.starts_with("DT_UINT"))
                .then_some(())?;
            is_float(attributes.kind("DstT")?).then_some(())?;
            (!attributes.flag("Truncate")?).then_some(())?;
            return Some(plain("identity"));
        }
        is_float(attributes.kind("T")?).then_some(())?;
        let named = |name, positional: &[usize], keywords: Vec<(&'static str, Value)>| {
            Some(Call {
                name,
                positional: positional.to_vec(),
                keywords,
            })
        };
        match self.operation {
            "Add" | "AddV2" => Some(plain("add")),
            "Sub" => Some(plain("subtract")),
            "Mul" => Some(plain("multiply")),
            "Div" | "RealDiv" => Some(plain("divide")),
            "Pow" => Some(plain("pow")),
            "Maximum" => Some(plain("maximum")),
            "Minimum" => Some(plain("minimum")),
            "SquaredDifference" => Some(plain("squared_difference")),
            "ClipByValue" => Some(plain("clip_by_value")),
            "AddN" => Some(plain("add_n")),
            "Neg" => Some(plain("negative")),
            "Abs" => Some(plain("abs")),
            "Square" => Some(plain("square")),
            "Sqrt" => Some(plain("sqrt")),
            "Rsqrt" => Some(plain("rsqrt")),
            "Inv" | "Reciprocal" => Some(plain("reciprocal")),
            "Exp" => Some(plain("exp")),
            "Log" => Some(plain("log")),
            "Relu" => Some(plain("relu")),
            "Relu6" => Some(plain("relu6")),
            "Elu" => Some(plain("elu")),
            "Selu" => Some(plain("selu")),
            "Tanh" => Some(plain("tanh")),
            "Sigmoid" => Some(plain("sigmoid")),
            "Softplus" => Some(plain("softplus")),
            "Softsign" => Some(plain("softsign")),
            "Softmax" => Some(plain("softmax")),
            "Identity" | "StopGradient" => Some(plain("identity")),
            "LeakyRelu" => {
                let slope = attributes.get("alpha")?.get("f")?.clone();
                named("leaky_relu", &[0], vec![("alpha", slope)])
            }
            "Sum" | "Mean" | "Max" | "Min" => {
                let name = match self.operation {
                    "Sum" => "reduce_sum",
                    "Mean" => "reduce_mean",
                    "Max" => "reduce_max",
                    _ => "reduce_min",
                };
                let keep = attributes.flag("keep_dims")?;
                let axis = self.constant(1)?.clone();
                named(name, &[0], vec![("axis", axis), ("keepdims", keep.into())])
            }
            "Squeeze" => {
                let axes = attributes.integers("squeeze_dims")?;
                named("squeeze", &[0], vec![("axis", axes.into())])
            }
            "ExpandDims" => {
                let axis = single(self.constant(1)?).clone();
                named("expand_dims", &[0], vec![("axis", axis)])
            }
            "Reshape" => named("reshape", &[0], vec![("shape", self.constant(1)?.clone())]),
            "Transpose" => named("transpose", &[0], vec![("perm", self.constant(1)?.clone())]),
            "ConcatV2" => {
                let last = self.inputs.len().checked_sub(1)?;
                let axis = single(self.constant(last)?).clone();
                let values: Vec<usize> = (0..last).collect();
                named("concat", &values, vec![("axis", axis)])
            }
            "Pack" => {
                let axis = attributes.integer("axis")?;
                let values: Vec<usize> = (0..self.inputs.len()).collect();
                named("stack", &values, vec![("axis", axis.into())])
            }
            "BatchMatMul" | "BatchMatMulV2" => {
                let transpose = [attributes.flag("adj_x")?, attributes.flag("adj_y")?];
                let [a, b] = transpose.map(Value::from);
                let keywords = vec![("transpose_a", a), ("transpose_b", b)];
                named("matmul", &[0, 1], keywords)
            }
            "StridedSlice" => {
                let key = self.subscript(attributes)?;
                named("getitem", &[0], vec![("slice_spec", key)])
            }
            _ => None,
        }
    }

    /// Returns the subscript of a StridedSlice in the form of Keras' SlicingOpLambda.
    fn subscript(&self, attributes: &mut Attributes) -> Option<Value> {
        let numbers = |input| {
            let items = self.constant(input)?.as_array()?;
            items.iter().map(Value::as_i64).collect::<Option<Vec<_>>>()
        };
        let (start, stop, step) = (numbers(1)?, numbers(2)?, numbers(3)?);
        (start.len() == stop.len() && start.len() == step.len() && start.len() <= MAX_INPUTS)
            .then_some(())?;
        let mut bits = |name: &'static str| {
            let mask = attributes.integer(name)?;
            Some(move |i: usize| mask >> i & 1 == 1)
        };
        let begins = bits("begin_mask")?;
        let ends = bits("end_mask")?;
        let ellipsis = bits("ellipsis_mask")?;
        let inserted = bits("new_axis_mask")?;
        let removed = bits("shrink_axis_mask")?;
        let part = |i: usize| {
            if ellipsis(i) {
                return Some(json!("..."));
            }
            if inserted(i) {
                return None;
            }
            if removed(i) {
                return Some(json!(start[i]));
            }
            // The first element is where a slice of a positive step begins anyway.
            let first = (!begins(i) && start[i] != 0).then_some(start[i]);
            let last = (!ends(i)).then_some(stop[i]);
            Some(json!({"start": first, "stop": last, "step": step[i]}))
        };
        (0..start.len())
            .map(part)
            .collect::<Option<Vec<Value>>>()
            .map(Value::Array)
    }
}

/// Attributes of an operation, and the names of those that were read.
struct Attributes<'a> {
    map: &'a Map<String, Value>,
    read: HashSet<&'static str>,
}

impl<'a> Attributes<'a> {
    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.read.insert(name);
        self.map.get(name)
    }

    /// Returns a truth value, which is false if it is not stated.
    fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.get(name) {
            None => Some(false),
            Some(value) => value.get("b").map_or(Some(false), Value::as_bool),
        }
    }

    /// Returns an integer, which is 0 if it is not stated.
    fn integer(&mut self, name: &'static str) -> Option<i64> {
        match self.get(name).and_then(|value| value.get("i")) {
            None => Some(0),
            Some(value) => integer(value),
        }
    }

    fn integers(&mut self, name: &'static str) -> Option<Vec<i64>> {
        let list = self.get(name)?.get("list")?.get("i")?.as_array()?;
        list.iter().map(integer).collect()
    }

    /// Returns the name of a type.
    fn kind(&mut self, name: &'static str) -> Option<&'a str> {
        self.get(name)?.get("type")?.as_str()
    }

    /// Returns whether every attribute was read or has no effect.
    fn all_read(&self) -> bool {
        self.map.keys().map(String::as_str).all(|name| {
            self.read.contains(name)
                || IRRELEVANT_ATTRIBUTES.contains(&name)
                || name.starts_with('_')
        })
    }
}

/// Parses an integer of 64 bits, which the JSON of protocol buffers writes as text.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_i64(),
    }
}

/// Returns whether values of a type are computed in 32-bit floats.
fn is_float(kind: &str) -> bool {
    matches!(kind, "DT_FLOAT" | "DT_HALF" | "DT_BFLOAT16")
}

/// Returns the element of `[x]` and `[[x]]`, which like the number itself is applied to every element
/// of a tensor, and any other value as it is.
fn single(value: &Value) -> &Value {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::Array(inner)]) => match &**inner {
            [number @ Value::Number(_)] => number,
            _ => value,
        },
        Some([number @ Value::Number(_)]) => number,
        _ => value,
    }
}
