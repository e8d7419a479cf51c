//! Operations that are no layers: `x * 2` on symbolic tensors, `tf.reduce_mean(x, 1)`,
//! `keras.ops.maximum(x, y)`.
//!
//! An operation and its arguments are an expression, which is translated like that of a Lambda. Files
//! of Keras 2 call these layers TFOpLambda and SlicingOpLambda.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::lambda::bytecode::{Expression, Operator};
use super::lambda::marshal::Object;
use super::lambda::program::{Program, translate};
use super::{Dialect, Leaf, Masking, plain};
use crate::keras::options::{Options, Problems, brief};

/// An argument of an operation.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// A tensor, by its position among the tensors that the operation reads.
    Tensor(usize),
    Constant(&'a Value),
}

/// One use of an operation, with its name in TensorFlow.
pub struct Operation<'a> {
    pub name: &'a str,
    pub positional: Vec<Argument<'a>>,
    pub keywords: Vec<(&'a str, Argument<'a>)>,
    /// Number of tensors.
    pub tensors: usize,
}

impl<'a> Operation<'a> {
    /// Builds the layer of an operation of TensorFlow, as Keras 2 stores it.
    ///
    /// # Errors
    /// If the operation or one of its arguments is unsupported.
    pub fn leaf(&self) -> Result<Leaf, String> {
        self.known().ok_or_else(|| {
            format!(
                "the operation {} with these arguments is not supported; put a layer in its place",
                brief(&self.name.into())
            )
        })
    }

    /// Builds the layer; `None` if the operation or one of its arguments is unsupported.
    pub fn known(&self) -> Option<Leaf> {
        let program = self.program()?;
        let tensors = self.tensors;
        // Dimensions of the batch would be aligned with others otherwise.
        let leaf = program.leaf(move |call| match call.ranks.len() {
            inputs if inputs == tensors => Ok(()),
            inputs => Err(format!("it takes {tensors} inputs, not {inputs}")),
        });
        Some(leaf.with_input_list().masking(Masking::Stops))
    }

    fn program(&self) -> Option<Program> {
        let mut bound: Vec<Option<Value>> = Vec::new();
        let mut constant = |value: Value| {
            bound.push(Some(value));
            // The first argument is the tensor or the list of tensors.
            Rc::new(Expression::Argument(bound.len()))
        };
        let tensors = self.tensors;
        let mut argument = |argument: Argument| match argument {
            Argument::Tensor(_) if tensors == 1 => Rc::new(Expression::Argument(0)),
            Argument::Tensor(n) => {
                let index = constant(n.into());
                Rc::new(Expression::Item(Rc::new(Expression::Argument(0)), index))
            }
            Argument::Constant(value) => constant(value.clone()),
        };
        let name = match self.name {
            name @ ("mask.not_equal" | "mask.any") => name,
            // TensorFlow's, which gives a mask as well.
            "math.not_equal" | "not_equal" => "mask.not_equal",
            name => name.rsplit('.').next()?,
        };
        let expression = match name {
            "getitem" => {
                let [x, key] = [0, 1].map(|i| self.positional.get(i).copied());
                let key = key.or_else(|| Some(self.keywords.first()?.1))?;
                let Argument::Constant(Value::Array(parts)) = key else {
                    return None;
                };
                let x = argument(x?);
                let mut parts_of_key = Vec::with_capacity(parts.len());
                for part in parts {
                    parts_of_key.push(subscript(part, &mut constant)?);
                }
                Expression::Item(x, Rc::new(Expression::Sequence(parts_of_key)))
            }
            _ => {
                let positional: Vec<Rc<Expression>> =
                    self.positional.iter().map(|&a| argument(a)).collect();
                let keywords: Vec<(&str, Rc<Expression>)> = self
                    .keywords
                    .iter()
                    .map(|&(key, a)| (key, argument(a)))
                    .collect();
                match (name, &*positional, &*keywords) {
                    ("pow", [x], [("y", y)]) | ("pow", [x, y], []) => {
                        Expression::Binary(Operator::Power, x.clone(), y.clone())
                    }
                    // Numbers of other types, such as indices, are 32-bit floats here, too.
                    ("cast", [_], [("dtype", _)]) if self.makes_floats() => {
                        let function = Rc::new(Expression::Name(vec!["tf", "identity"]));
                        Expression::Call(function, positional, Vec::new())
                    }
                    _ => {
                        let name = match name {
                            "truediv" | "true_divide" | "div" => "divide",
                            "sub" => "subtract",
                            "mul" => "multiply",
                            "neg" => "negative",
                            "absolute" => "abs",
                            name => name,
                        };
                        // A list is the first argument of these.
                        let positional = match name {
                            "concat" | "stack" | "add_n" => {
                                vec![Rc::new(Expression::Sequence(positional))]
                            }
                            _ => positional,
                        };
                        let function = Rc::new(Expression::Name(vec!["tf", name]));
                        Expression::Call(function, positional, keywords)
                    }
                }
            }
        };
        translate(&expression, &bound)
    }

    /// Returns whether the only option is the type of 32-bit floats.
    fn makes_floats(&self) -> bool {
        match &*self.keywords {
            [("dtype", Argument::Constant(Value::String(name)))] => name == "float32",
            _ => false,
        }
    }
}

/// Returns a part of a subscript: an index, a slice or an ellipsis.
fn subscript<'e>(
    part: &Value,
    constant: &mut impl FnMut(Value) -> Rc<Expression<'e>>,
) -> Option<Rc<Expression<'e>>> {
    const NONE: Expression = Expression::Constant(&Object::None);
    const ELLIPSIS: Expression = Expression::Constant(&Object::Ellipsis);
    let fields = match part {
        Value::Number(_) => return Some(constant(part.clone())),
        Value::String(text) if text == "..." => return Some(Rc::new(ELLIPSIS)),
        Value::Object(fields) => match fields.get("class_name").and_then(Value::as_str) {
            None => fields,
            Some("__slice__") => fields.get("config")?.as_object()?,
            Some("__ellipsis__") => return Some(Rc::new(ELLIPSIS)),
            Some(_) => return None,
        },
        _ => return None,
    };
    let mut position = |key: &str| match fields.get(key)? {
        Value::Null => Some(Rc::new(NONE)),
        value => Some(constant(value.clone())),
    };
    let (start, stop, step) = (position("start")?, position("stop")?, position("step")?);
    Some(Rc::new(Expression::Slice(start, stop, Some(step))))
}

/// Builds the layer of an operation of Keras 3. The options in `config` are arguments, too.
///
/// # Errors
/// If the operation or an option is unsupported.
pub fn keras3<'a>(
    class: &str,
    config: &'a Map<String, Value>,
    mut use_of: Operation<'a>,
    dialect: Dialect,
) -> Result<Leaf, Problems> {
    let all_tensors = use_of
        .positional
        .iter()
        .all(|a| matches!(a, Argument::Tensor(_)))
        && use_of.keywords.is_empty();
    if class == "Concatenate" && all_tensors {
        let mut o = Options::new(config, dialect);
        let leaf = same_ranks(plain::concatenate(&mut o));
        return o.finish(Ok(leaf));
    }
    let name = match class {
        "Add" => "add",
        "Subtract" => "subtract",
        "Multiply" => "multiply",
        "Divide" | "TrueDivide" => "divide",
        "Power" => "pow",
        "Negative" => "negative",
        "Absolute" | "Abs" => "abs",
        "Square" => "square",
        "Sqrt" => "sqrt",
        "Exp" => "exp",
        "Log" => "log",
        "Maximum" => "maximum",
        "Minimum" => "minimum",
        "Relu" => "relu",
        "Tanh" => "tanh",
        "Sigmoid" => "sigmoid",
        "Softplus" => "softplus",
        "Softsign" => "softsign",
        "Softmax" => "softmax",
        "ConvertToTensor" => "identity",
        "Relu6" => "relu6",
        "Elu" => "elu",
        "Selu" => "selu",
        "LeakyRelu" => "leaky_relu",
        "Clip" => "clip_by_value",
        "Rsqrt" => "rsqrt",
        "Reciprocal" => "reciprocal",
        "Reshape" => "reshape",
        "Stack" => "stack",
        "Matmul" => "matmul",
        "Max" => "reduce_max",
        "Min" => "reduce_min",
        "Sum" => "reduce_sum",
        "Mean" => "reduce_mean",
        "Squeeze" => "squeeze",
        "ExpandDims" => "expand_dims",
        "Transpose" => "transpose",
        "GetItem" => "getitem",
        // The operations of masks, which Keras 3.0 stores. TensorFlow has none of these names.
        "NotEqual" => "mask.not_equal",
        "Any" => "mask.any",
        _ => {
            return Err(
                "this operation of keras.ops is not supported; put a layer in its place".into(),
            );
        }
    };
    use_of.name = name;
    let options = config
        .iter()
        .filter(|(key, value)| *key != "name" && !value.is_null());
    use_of
        .keywords
        .extend(options.map(|(key, value)| (key.as_str(), Argument::Constant(value))));
    Ok(use_of.leaf()?)
}

/// Restricts a layer to inputs of equal ranks: operations align dimensions from the last, layers
/// after the batch. Operations make no masks.
fn same_ranks(leaf: Leaf) -> Leaf {
    leaf.masking(Masking::Stops)
        .with_check(|call| match call.ranks.windows(2).all(|r| r[0] == r[1]) {
            true => Ok(()),
            false => Err(format!(
                "it combines values of {:?} dimensions without the batch; this is supported for layers only",
                call.ranks
            )),
        })
}
