//! Functions of Lambda layers as operations: arithmetic with constants and between inputs, and the
//! usual functions of Keras' backend and of TensorFlow.
//!
//! An expression is translated as a whole or not at all.

use serde_json::Value;

use super::bytecode::{Expression, Operator};
use super::marshal::Object;
use crate::keras::layers::plain::between_permutations;
use crate::keras::layers::{Call, Leaf, Operand, Part};
use crate::keras::options::dimension;
use crate::nn::graph::{MAX_ELEMENTS, Weight, WeightId};
use crate::nn::layers::{
    Activation, BatchNorm, Concat, GlobalPool, InsertAxis, Layer, Map, MapFunction, MatMul,
    MeanAxis, Merge, MergeOp, Permute, PoolKind, RemoveAxis, Reshape, Slice, Softmax, SumAxis,
};

/// Operations of a function; the last one gives its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    steps: Vec<(Operation, Vec<Operand>)>,
    result: Operand,
    /// Number of inputs of the layer.
    pub inputs: usize,
    constants: Vec<ConstantTensor>,
}

/// Largest number of elements of all constant tensors of a function.
const MAX_CONSTANT_ELEMENTS: usize = 1 << 20;

/// Constant tensor. Its dimensions are aligned with the last dimensions of the other operand, as in NumPy's broadcasting.
#[derive(Debug, Clone, PartialEq, Default)]
struct ConstantTensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// An operation; axes are in Keras' numbering (0 is the batch, -1 the last).
#[derive(Debug, Clone, PartialEq)]
enum Operation {
    Map(MapFunction),
    /// Product with a constant, by index.
    Scale(usize),
    /// Sum with a constant, by index.
    Shift(usize),
    Merge(MergeOp),
    Activation(Activation),
    Softmax(i64),
    Sum(i64),
    Mean(i64),
    Insert(i64),
    Remove(i64),
    Permute(Vec<i64>),
    /// Target shape without the batch.
    Reshape(Vec<Option<usize>>),
    Concat(i64),
    MatMul(MatMul),
    /// Maximum over the first dimension of two.
    Largest,
    Slice {
        axis: i64,
        start: i64,
        stop: Option<i64>,
        step: usize,
    },
}

/// Translates an expression. `bound` holds the values of the arguments after the first. `None` if any
/// part of it is unknown.
pub fn translate(expression: &Expression, bound: &[Option<Value>]) -> Option<Program> {
    let mut writer = Writer {
        bound,
        steps: Vec::new(),
        inputs: None,
        constants: Vec::new(),
    };
    let result = writer.tensor(expression)?;
    Some(Program {
        steps: writer.steps,
        result,
        inputs: writer.inputs?,
        constants: writer.constants,
    })
}

impl Program {
    /// Builds the layer.
    pub fn leaf(self, check: impl Fn(&Call) -> Result<(), String> + Send + Sync + 'static) -> Leaf {
        let constants: Vec<Weight> = self
            .constants
            .iter()
            .flat_map(ConstantTensor::weights)
            .collect();
        let leaf = Leaf::composed(Vec::new(), move |call| {
            check(call)?;
            self.lower(call)
        });
        match constants.is_empty() {
            true => leaf,
            false => leaf.prepared(move |_| Ok(constants.clone())),
        }
    }

    /// Returns the nodes for one use.
    ///
    /// # Errors
    /// If an axis does not exist, or operands have different ranks or do not fit a constant.
    fn lower(&self, call: &Call) -> Result<Vec<Part>, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut ranks: Vec<usize> = Vec::new();
        // The parts that hold the results of the steps.
        let mut held: Vec<Operand> = Vec::new();
        for (operation, operands) in &self.steps {
            let inputs: Vec<Operand> = operands
                .iter()
                .map(|operand| match *operand {
                    Operand::Part(n) => held[n],
                    input => input,
                })
                .collect();
            let given: Vec<usize> = operands
                .iter()
                .map(|operand| match *operand {
                    Operand::Input(n) => call.ranks[n],
                    Operand::Part(n) => ranks[n],
                    // A function reads no masks.
                    Operand::Mask(_) => 1,
                })
                .collect();
            let (weights, _) = call.weights.as_chunks::<WEIGHTS>();
            let layers = match *operation {
                Operation::Scale(n) => self.constants[n].layers(given[0], &weights[n], true)?,
                Operation::Shift(n) => self.constants[n].layers(given[0], &weights[n], false)?,
                _ => vec![operation.layer(&given)?],
            };
            // A step is one part or several in a row.
            let (mut inputs, mut given) = (inputs, given);
            for layer in layers {
                given = vec![layer.rank(&given)];
                let last = Operand::Part(parts.len());
                parts.push(Part::new(layer, &inputs));
                inputs = vec![last];
            }
            ranks.push(given[0]);
            held.push(inputs[0]);
        }
        // The result of a function that returns its input is no step.
        match self.result {
            Operand::Input(0) if self.inputs == 1 => Ok(Vec::new()),
            Operand::Input(_) => Err("its function returns one of its inputs".into()),
            Operand::Part(n) if n + 1 == self.steps.len() => Ok(parts),
            Operand::Part(_) | Operand::Mask(_) => {
                Err("its function computes values that it does not return".into())
            }
        }
    }
}

/// Weights of a [`Layer::BatchNorm`] that applies a constant: mean, variance and the constant.
const WEIGHTS: usize = 3;

impl ConstantTensor {
    /// Returns the weights of the layer that applies the constant.
    fn weights(&self) -> [Weight; WEIGHTS] {
        let count = self.data.len();
        let fixed = |name: &str, data: Vec<f32>| Weight {
            name: name.into(),
            shape: vec![count],
            data,
        };
        [
            fixed("mean", vec![0.0; count]),
            fixed("variance", vec![1.0; count]),
            fixed("constant", self.data.clone()),
        ]
    }

    /// Returns the layers that multiply a value of `rank` dimensions by the constant, or add it.
    fn layers(
        &self,
        rank: usize,
        &[mean, variance, constant]: &[WeightId; WEIGHTS],
        scales: bool,
    ) -> Result<Vec<Layer>, String> {
        let problem = || {
            format!(
                "its function combines a value of {rank} dimensions without the batch and a constant of the shape {:?}; supported are constants along one dimension, and of all dimensions",
                self.shape
            )
        };
        // The batch is another dimension of the value.
        if self.shape.len() > rank + 1 || (self.shape.len() > rank && self.shape[0] != 1) {
            return Err(problem());
        }
        if let [number] = *self.data {
            let function = match scales {
                true => MapFunction::Multiply(number),
                false => MapFunction::Add(number),
            };
            return Ok(vec![Layer::Map(Map { function })]);
        }
        let layer = Layer::BatchNorm(BatchNorm {
            gamma: scales.then_some(constant),
            beta: (!scales).then_some(constant),
            mean,
            variance,
            epsilon: 0.0,
        });
        let shape = &self.shape[self.shape.len().saturating_sub(rank)..];
        let long: Vec<usize> = (0..shape.len()).filter(|&d| shape[d] != 1).collect();
        if let [d] = *long {
            let axis = rank - shape.len() + d;
            let parts = between_permutations(&[axis], rank, layer);
            return Ok(parts.into_iter().map(|part| part.layer).collect());
        }
        if shape.len() != rank || long.len() != rank {
            return Err(problem());
        }
        let reshape = |shape: Vec<usize>| {
            let shape = shape.into_iter().map(Some).collect();
            Layer::Reshape(Reshape { shape })
        };
        let all = vec![self.data.len()];
        Ok(vec![reshape(all), layer, reshape(shape.to_vec())])
    }
}

impl Operation {
    fn layer(&self, ranks: &[usize]) -> Result<Layer, String> {
        let rank = ranks.first().copied().unwrap_or(0);
        let axis = |axis: i64| dimension(axis, rank);
        if ranks.windows(2).any(|r| r[0] != r[1]) {
            return Err(format!(
                "its function combines values of {ranks:?} dimensions without the batch; this is not supported"
            ));
        }
        Ok(match *self {
            Self::Map(function) => Layer::Map(Map { function }),
            Self::Scale(_) | Self::Shift(_) => return Err("a constant is no layer".into()),
            Self::Merge(op) => Layer::Merge(Merge { op }),
            Self::Concat(a) => Layer::Concat(Concat { axis: axis(a)? }),
            Self::Reshape(ref shape) => Layer::Reshape(Reshape {
                shape: shape.clone(),
            }),
            Self::MatMul(ref product) if rank > 1 => Layer::MatMul(product.clone()),
            Self::MatMul(_) => {
                return Err("its function multiplies vectors; matrices are supported".into());
            }
            Self::Activation(function) => Layer::Activation(function),
            Self::Softmax(a) => Layer::Softmax(Softmax { axis: axis(a)? }),
            Self::Sum(a) => Layer::SumAxis(SumAxis { axis: axis(a)? }),
            Self::Mean(a) => Layer::MeanAxis(MeanAxis { axis: axis(a)? }),
            Self::Insert(a) => Layer::InsertAxis(InsertAxis {
                axis: dimension(a, rank + 1)?,
            }),
            Self::Remove(a) => Layer::RemoveAxis(RemoveAxis { axis: axis(a)? }),
            Self::Slice {
                axis: a,
                start,
                stop,
                step,
            } => Layer::Slice(Slice {
                axis: axis(a)?,
                start,
                stop,
                step,
            }),
            Self::Largest if rank == 2 => Layer::GlobalPool(GlobalPool {
                kind: PoolKind::Max,
                keep_dims: false,
            }),
            Self::Largest => {
                return Err(format!(
                    "it takes the maximum of a value of {rank} dimensions without the batch; two are supported"
                ));
            }
            Self::Permute(ref order) => {
                let order = match &**order {
                    [0, rest @ ..] if rest.len() == rank => rest,
                    _ => return Err(format!("its function permutes the dimensions to {order:?}")),
                };
                let order = order.iter().map(|&a| axis(a)).collect::<Result<_, _>>()?;
                Layer::Permute(Permute { order })
            }
        })
    }
}

struct Writer<'a> {
    bound: &'a [Option<Value>],
    steps: Vec<(Operation, Vec<Operand>)>,
    /// Number of inputs, once the first use of the argument has shown that it is a tensor (one) or a
    /// list of tensors.
    inputs: Option<usize>,
    constants: Vec<ConstantTensor>,
}

impl Writer<'_> {
    fn push(&mut self, operation: Operation, operands: Vec<Operand>) -> Operand {
        self.steps.push((operation, operands));
        Operand::Part(self.steps.len() - 1)
    }

    fn map(&mut self, function: MapFunction, of: Operand) -> Operand {
        self.push(Operation::Map(function), vec![of])
    }

    /// Writes the operations of a tensor.
    fn tensor(&mut self, expression: &Expression) -> Option<Operand> {
        match expression {
            Expression::Argument(0) => match self.inputs {
                None | Some(1) => {
                    self.inputs = Some(1);
                    Some(Operand::Input(0))
                }
                Some(_) => None,
            },
            Expression::Item(list, index) if **list == Expression::Argument(0) => {
                match self.integer(index) {
                    // The inputs of a list; a function that takes one tensor would slice the batch.
                    Some(n) if self.inputs != Some(1) => {
                        let n = usize::try_from(n).ok().filter(|n| *n < 64)?;
                        self.inputs = Some(self.inputs.unwrap_or(2).max(n + 1));
                        Some(Operand::Input(n))
                    }
                    Some(_) => None,
                    None => {
                        let x = self.tensor(list)?;
                        self.item(x, index)
                    }
                }
            }
            Expression::Item(object, key) => {
                let x = self.tensor(object)?;
                self.item(x, key)
            }
            Expression::Negation(inner) => {
                let x = self.tensor(inner)?;
                Some(self.map(MapFunction::Negate, x))
            }
            Expression::Binary(operator, left, right) => self.binary(*operator, left, right),
            Expression::Call(function, positional, keywords) => {
                let Expression::Name(path) = &**function else {
                    return None;
                };
                let name = function_name(path)?;
                let arguments = Arguments {
                    positional,
                    keywords,
                };
                self.call(name, &arguments)
            }
            _ => None,
        }
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Expression,
        right: &Expression,
    ) -> Option<Operand> {
        match (self.number(left), self.number(right)) {
            (None, Some(c)) => {
                let x = self.tensor(left)?;
                let function = match operator {
                    Operator::Add => MapFunction::Add(c),
                    Operator::Subtract => MapFunction::Add(-c),
                    Operator::Multiply => MapFunction::Multiply(c),
                    Operator::Divide => MapFunction::Divide(c),
                    Operator::Power if c == 2.0 => MapFunction::Square,
                    Operator::Power if c == 0.5 => MapFunction::Sqrt,
                    Operator::Power => return None,
                };
                Some(self.map(function, x))
            }
            (Some(c), None) => {
                let x = self.tensor(right)?;
                let function = match operator {
                    Operator::Add => MapFunction::Add(c),
                    Operator::Subtract => MapFunction::SubtractFrom(c),
                    Operator::Multiply => MapFunction::Multiply(c),
                    Operator::Divide => MapFunction::DivideInto(c),
                    Operator::Power => return None,
                };
                Some(self.map(function, x))
            }
            (None, None) => {
                match (self.constant_tensor(left), self.constant_tensor(right)) {
                    (None, None) => {}
                    (None, Some(c)) => return self.with_constant(operator, left, c, false),
                    (Some(c), None) => return self.with_constant(operator, right, c, true),
                    (Some(_), Some(_)) => return None,
                }
                let (a, mut b) = (self.tensor(left)?, self.tensor(right)?);
                let op = match operator {
                    Operator::Add => MergeOp::Add,
                    Operator::Subtract => MergeOp::Subtract,
                    Operator::Multiply => MergeOp::Multiply,
                    Operator::Divide => {
                        b = self.map(MapFunction::DivideInto(1.0), b);
                        MergeOp::Multiply
                    }
                    Operator::Power => return None,
                };
                Some(self.push(Operation::Merge(op), vec![a, b]))
            }
            (Some(_), Some(_)) => None,
        }
    }

    /// Writes an operation with a constant tensor, which is the left operand if `constant_is_left`.
    fn with_constant(
        &mut self,
        operator: Operator,
        value: &Expression,
        mut constant: ConstantTensor,
        constant_is_left: bool,
    ) -> Option<Operand> {
        let mut x = self.tensor(value)?;
        let mut change = |of: &dyn Fn(f32) -> f32| {
            constant.data.iter_mut().for_each(|c| *c = of(*c));
            constant.data.iter().all(|c| c.is_finite()).then_some(())
        };
        let scales = match (operator, constant_is_left) {
            (Operator::Add, _) => false,
            (Operator::Subtract, true) => {
                x = self.map(MapFunction::Negate, x);
                false
            }
            (Operator::Subtract, false) => {
                change(&|c| -c)?;
                false
            }
            (Operator::Multiply, _) => true,
            (Operator::Divide, true) => {
                x = self.map(MapFunction::DivideInto(1.0), x);
                true
            }
            (Operator::Divide, false) => {
                change(&|c| 1.0 / c)?;
                true
            }
            (Operator::Power, _) => return None,
        };
        let stored: usize = self.constants.iter().map(|c| c.data.len()).sum();
        (stored + constant.data.len() <= MAX_CONSTANT_ELEMENTS).then_some(())?;
        self.constants.push(constant);
        let n = self.constants.len() - 1;
        let operation = match scales {
            true => Operation::Scale(n),
            false => Operation::Shift(n),
        };
        Some(self.push(operation, vec![x]))
    }

    /// Returns the constant tensor of an expression: nested lists and tuples, also as an array of NumPy or a tensor.
    fn constant_tensor(&self, expression: &Expression) -> Option<ConstantTensor> {
        let mut found = ConstantTensor::default();
        self.append_expression(expression, &mut found)?;
        (!found.shape.is_empty()).then_some(found)
    }

    /// Appends the elements of an expression to `found`, whose shape becomes that of the expression.
    fn append_expression(&self, expression: &Expression, found: &mut ConstantTensor) -> Option<()> {
        match expression {
            Expression::Sequence(items) => {
                let items = items.iter().map(|item| &**item);
                append_list(items, found, |item, found| {
                    self.append_expression(item, found)
                })
            }
            Expression::Constant(object) => append_object(object, found),
            Expression::Call(function, positional, keywords) => {
                let Expression::Name(path) = &**function else {
                    return None;
                };
                match (path.as_slice(), &**positional, &**keywords) {
                    (
                        ["tf" | "tensorflow" | "K", "constant"]
                        | ["tf" | "tensorflow" | "ops", "convert_to_tensor"]
                        | ["keras", "ops", "convert_to_tensor"]
                        | ["np" | "numpy", "array" | "asarray" | "float32"],
                        [values],
                        [],
                    ) => self.append_expression(values, found),
                    _ => None,
                }
            }
            Expression::Negation(_) => {
                found.shape.clear();
                found.data.push(self.number(expression)?);
                Some(())
            }
            other => append_json(self.bound(other)?, found),
        }
    }

    /// Writes `x[key]`: slices and indices of the dimensions after the batch.
    fn item(&mut self, mut x: Operand, key: &Expression) -> Option<Operand> {
        let constants: Vec<Expression>;
        let parts: Vec<&Expression> = match key {
            Expression::Sequence(items) => items.iter().map(|item| &**item).collect(),
            Expression::Constant(Object::Tuple(items)) => {
                constants = items
                    .iter()
                    .map(|item| Expression::Constant(item))
                    .collect();
                constants.iter().collect()
            }
            _ => vec![key],
        };
        let (first, rest) = parts.split_first()?;
        // Positions count from the end if the first index is an ellipsis.
        let from_end = matches!(first, Expression::Constant(Object::Ellipsis));
        if !from_end && !self.is_whole(first) {
            return None;
        }
        let count = i64::try_from(rest.len()).ok()?;
        let mut places: Vec<(i64, &Expression)> = (0..)
            .zip(rest)
            .map(|(i, part)| (if from_end { i - count } else { i + 1 }, *part))
            .collect();
        // An index removes its dimension, which moves those on the side from which positions count.
        if !from_end {
            places.reverse();
        }
        for (axis, part) in places {
            if self.is_whole(part) {
                continue;
            }
            let slice = |start, stop, step| Operation::Slice {
                axis,
                start,
                stop,
                step,
            };
            if let Some(index) = self.integer(part) {
                let stop = (index != -1).then_some(index.checked_add(1)?);
                x = self.push(slice(index, stop, 1), vec![x]);
                x = self.push(Operation::Remove(axis), vec![x]);
                continue;
            }
            let Expression::Slice(start, stop, step) = part else {
                return None;
            };
            let start = self.integer_or_none(start)?.unwrap_or(0);
            let stop = self.integer_or_none(stop)?;
            let step = match step {
                None => 1,
                Some(step) => usize::try_from(self.integer_or_none(step)?.unwrap_or(1)).ok()?,
            };
            (step > 0).then_some(())?;
            x = self.push(slice(start, stop, step), vec![x]);
        }
        Some(x)
    }

    /// Returns whether a part of a subscript is `:`.
    fn is_whole(&self, part: &Expression) -> bool {
        match part {
            Expression::Slice(start, stop, step) => {
                let step = step
                    .as_ref()
                    .map_or(Some(None), |s| self.integer_or_none(s));
                self.integer_or_none(start) == Some(None)
                    && self.integer_or_none(stop) == Some(None)
                    && matches!(step, Some(None | Some(1)))
            }
            _ => false,
        }
    }

    fn call(&mut self, name: &str, arguments: &Arguments) -> Option<Operand> {
        let unary = match name {
            "abs" => Some(MapFunction::Abs),
            "square" => Some(MapFunction::Square),
            "sqrt" => Some(MapFunction::Sqrt),
            "exp" => Some(MapFunction::Exp),
            "log" => Some(MapFunction::Log),
            "negative" => Some(MapFunction::Negate),
            "reciprocal" => Some(MapFunction::DivideInto(1.0)),
            _ => None,
        };
        if let Some(function) = unary {
            arguments.only(&["x"])?;
            let x = self.tensor(arguments.get(0, "x")?)?;
            return Some(self.map(function, x));
        }
        let activation = match name {
            "relu" => Some(Activation::Relu),
            "relu6" => Some(Activation::ReluWith {
                max: Some(6.0),
                slope: 0.0,
                threshold: 0.0,
            }),
            "selu" => Some(Activation::Selu),
            "tanh" => Some(Activation::Tanh),
            "sigmoid" => Some(Activation::Sigmoid),
            "softplus" => Some(Activation::Softplus),
            "softsign" => Some(Activation::Softsign),
            _ => None,
        };
        if let Some(function) = activation {
            arguments.only(&["x"])?;
            let x = self.tensor(arguments.get(0, "x")?)?;
            return Some(self.push(Operation::Activation(function), vec![x]));
        }
        match name {
            "identity" => {
                arguments.only(&["x"])?;
                self.tensor(arguments.get(0, "x")?)
            }
            "rsqrt" => {
                arguments.only(&["x"])?;
                let x = self.tensor(arguments.get(0, "x")?)?;
                let root = self.map(MapFunction::Sqrt, x);
                Some(self.map(MapFunction::DivideInto(1.0), root))
            }
            "leaky_relu" | "elu" => {
                arguments.only(&["x", "slope"])?;
                let given = match arguments.get(1, "slope") {
                    None => None,
                    Some(slope) => Some(self.number(slope)?),
                };
                let activation = match name {
                    "elu" => Activation::Elu {
                        alpha: given.unwrap_or(1.0),
                    },
                    // The default of TensorFlow and Keras 3.
                    _ => Activation::LeakyRelu {
                        alpha: given.unwrap_or(0.2),
                    },
                };
                let x = self.tensor(arguments.get(0, "x")?)?;
                Some(self.push(Operation::Activation(activation), vec![x]))
            }
            "clip" => {
                arguments.only(&["x", "low", "high"])?;
                let low = self.number(arguments.get(1, "low")?)?;
                let high = self.number(arguments.get(2, "high")?)?;
                // Versions differ otherwise.
                (low <= high).then_some(())?;
                let x = self.tensor(arguments.get(0, "x")?)?;
                let raised = self.map(MapFunction::Maximum(low), x);
                Some(self.map(MapFunction::Minimum(high), raised))
            }
            "squared_difference" => {
                arguments.only(&["x", "y"])?;
                let (left, right) = (arguments.get(0, "x")?, arguments.get(1, "y")?);
                let difference = self.binary(Operator::Subtract, left, right)?;
                Some(self.map(MapFunction::Square, difference))
            }
            "add" | "subtract" | "multiply" | "divide" => {
                arguments.only(&["x", "y"])?;
                let operator = match name {
                    "add" => Operator::Add,
                    "subtract" => Operator::Subtract,
                    "multiply" => Operator::Multiply,
                    _ => Operator::Divide,
                };
                self.binary(operator, arguments.get(0, "x")?, arguments.get(1, "y")?)
            }
            "maximum" | "minimum" => {
                arguments.only(&["x", "y"])?;
                let (left, right) = (arguments.get(0, "x")?, arguments.get(1, "y")?);
                match (self.number(left), self.number(right)) {
                    (None, None) => {
                        let (a, b) = (self.tensor(left)?, self.tensor(right)?);
                        let op = match name {
                            "maximum" => MergeOp::Maximum,
                            _ => MergeOp::Minimum,
                        };
                        Some(self.push(Operation::Merge(op), vec![a, b]))
                    }
                    (None, Some(c)) => {
                        let x = self.tensor(left)?;
                        let function = match name {
                            "maximum" => MapFunction::Maximum(c),
                            _ => MapFunction::Minimum(c),
                        };
                        Some(self.map(function, x))
                    }
                    _ => None,
                }
            }
            // Masks of Keras 3, whose names Python code cannot contain.
            "mask.not_equal" => {
                arguments.only(&["x", "y"])?;
                let x = self.tensor(arguments.get(0, "x")?)?;
                let value = self.number(arguments.get(1, "y")?)?;
                Some(self.map(MapFunction::NotEqual(value), x))
            }
            "mask.any" => {
                arguments.only(&["x", "axis", "keepdims"])?;
                let keep = arguments
                    .get(2, "keepdims")
                    .map_or(Some(false), |keep| self.boolean(keep))?;
                let axes = self.integers(arguments.get(1, "axis")?)?;
                (matches!(*axes, [-1] | [2]) && !keep).then_some(())?;
                let x = self.tensor(arguments.get(0, "x")?)?;
                self.largest(x, -1)
            }
            "max" | "min" => {
                arguments.only(&["x", "axis", "keepdims"])?;
                let keep = arguments
                    .get(2, "keepdims")
                    .map_or(Some(false), |keep| self.boolean(keep))?;
                let [axis] = *self.integers(arguments.get(1, "axis")?)? else {
                    return None;
                };
                let mut x = self.tensor(arguments.get(0, "x")?)?;
                if name == "min" {
                    x = self.map(MapFunction::Negate, x);
                }
                x = self.largest(x, axis)?;
                if name == "min" {
                    x = self.map(MapFunction::Negate, x);
                }
                if keep {
                    x = self.push(Operation::Insert(axis), vec![x]);
                }
                Some(x)
            }
            "softmax" => {
                arguments.only(&["x", "axis"])?;
                let x = self.tensor(arguments.get(0, "x")?)?;
                let axis = match arguments.get(1, "axis") {
                    None => -1,
                    Some(axis) => self.integer(axis)?,
                };
                Some(self.push(Operation::Softmax(axis), vec![x]))
            }
            "sum" | "mean" => {
                arguments.only(&["x", "axis", "keepdims"])?;
                let keep = match arguments.get(2, "keepdims") {
                    None => false,
                    Some(keep) => self.boolean(keep)?,
                };
                let mut axes = self.integers(arguments.get(1, "axis")?)?;
                // Each removal moves the dimensions on one side, so they go in order, and only axes
                // that count from the same side are ordered without the rank.
                axes.sort_unstable();
                axes.dedup();
                if axes.iter().any(|&a| a < 0) && axes.iter().any(|&a| a >= 0) {
                    return None;
                }
                let from_end = axes.iter().all(|&a| a < 0);
                let mut x = self.tensor(arguments.get(0, "x")?)?;
                let ordered: Vec<i64> = match from_end {
                    true => axes,
                    false => axes.into_iter().rev().collect(),
                };
                for axis in ordered {
                    let mut reduced = axis;
                    if keep {
                        // The inserted dimension is first, because a value has at least one.
                        x = self.push(Operation::Insert(axis), vec![x]);
                        reduced = axis.checked_add(if from_end { -1 } else { 1 })?;
                    }
                    let reduce = match name {
                        "sum" => Operation::Sum(reduced),
                        _ => Operation::Mean(reduced),
                    };
                    x = self.push(reduce, vec![x]);
                }
                Some(x)
            }
            "squeeze" => {
                arguments.only(&["x", "axis"])?;
                let axes = self.integers(arguments.get(1, "axis")?)?;
                let [axis] = *axes else { return None };
                let x = self.tensor(arguments.get(0, "x")?)?;
                Some(self.push(Operation::Remove(axis), vec![x]))
            }
            "expand_dims" => {
                arguments.only(&["x", "axis"])?;
                let axis = match arguments.get(1, "axis") {
                    None => -1,
                    Some(axis) => self.integer(axis)?,
                };
                let x = self.tensor(arguments.get(0, "x")?)?;
                Some(self.push(Operation::Insert(axis), vec![x]))
            }
            "reshape" => {
                arguments.only(&["x", "shape"])?;
                let shape = self.integers(arguments.get(1, "shape")?)?;
                // The batch is the only open dimension.
                let (-1, rest @ [_, ..]) = shape.split_first().map(|(&n, rest)| (n, rest))? else {
                    return None;
                };
                let sizes = rest.iter().map(|&n| usize::try_from(n).ok());
                let sizes = sizes.map(|n| n.filter(|n| (1..=MAX_ELEMENTS).contains(n)).map(Some));
                let sizes = sizes.collect::<Option<Vec<_>>>()?;
                let x = self.tensor(arguments.get(0, "x")?)?;
                Some(self.push(Operation::Reshape(sizes), vec![x]))
            }
            "concat" | "stack" | "add_n" => {
                arguments.only(&["values", "axis"])?;
                let Expression::Sequence(values) = arguments.get(0, "values")? else {
                    return None;
                };
                let axis = match (name, arguments.get(1, "axis")) {
                    ("add_n", None) => None,
                    ("add_n", Some(_)) | (_, None) => return None,
                    (_, Some(axis)) => Some(self.integer(axis)?),
                };
                let mut inputs = Vec::with_capacity(values.len());
                for value in values {
                    let x = self.tensor(value)?;
                    inputs.push(match (name, axis) {
                        ("stack", Some(axis)) => self.push(Operation::Insert(axis), vec![x]),
                        _ => x,
                    });
                }
                (inputs.len() > 1).then_some(())?;
                let joined = axis.map_or(Operation::Merge(MergeOp::Add), Operation::Concat);
                Some(self.push(joined, inputs))
            }
            "matmul" => {
                arguments.only(&["x", "y", "transpose_a", "transpose_b"])?;
                let flag = |argument: Option<&Expression>| {
                    argument.map_or(Some(false), |flag| self.boolean(flag))
                };
                let product = MatMul {
                    transpose_a: flag(arguments.get(2, "transpose_a"))?,
                    transpose_b: flag(arguments.get(3, "transpose_b"))?,
                };
                let a = self.tensor(arguments.get(0, "x")?)?;
                let b = self.tensor(arguments.get(1, "y")?)?;
                Some(self.push(Operation::MatMul(product), vec![a, b]))
            }
            "transpose" => {
                arguments.only(&["x", "order"])?;
                let order = self.integers(arguments.get(1, "order")?)?;
                let x = self.tensor(arguments.get(0, "x")?)?;
                Some(self.push(Operation::Permute(order), vec![x]))
            }
            _ => None,
        }
    }

    /// Writes the maximum over one of the two dimensions after the batch.
    fn largest(&mut self, mut x: Operand, axis: i64) -> Option<Operand> {
        match axis {
            1 | -2 => {}
            2 | -1 => x = self.push(Operation::Permute(vec![0, 2, 1]), vec![x]),
            _ => return None,
        }
        Some(self.push(Operation::Largest, vec![x]))
    }

    /// Returns the value of a bound argument.
    fn bound(&self, expression: &Expression) -> Option<&Value> {
        match expression {
            Expression::Argument(n) => self.bound.get(n.checked_sub(1)?)?.as_ref(),
            _ => None,
        }
    }

    /// Returns a constant number as the 32-bit float with which TensorFlow computes.
    fn number(&self, expression: &Expression) -> Option<f32> {
        let wide = match expression {
            Expression::Constant(Object::Int(n)) => *n as f64,
            Expression::Constant(Object::Float(x)) => *x,
            Expression::Negation(inner) => return self.number(inner).map(|x| -x),
            other => self.bound(other)?.as_f64()?,
        };
        Some(wide as f32).filter(|x| x.is_finite())
    }

    fn integer(&self, expression: &Expression) -> Option<i64> {
        match expression {
            Expression::Constant(Object::Int(n)) => Some(*n),
            Expression::Negation(inner) => self.integer(inner)?.checked_neg(),
            other => self.bound(other)?.as_i64(),
        }
    }

    fn integer_or_none(&self, expression: &Expression) -> Option<Option<i64>> {
        match expression {
            Expression::Constant(Object::None) => Some(None),
            other => self.integer(other).map(Some),
        }
    }

    /// Returns an integer, or the integers of a list or tuple.
    fn integers(&self, expression: &Expression) -> Option<Vec<i64>> {
        match expression {
            Expression::Sequence(items) => items.iter().map(|item| self.integer(item)).collect(),
            Expression::Constant(Object::Tuple(items)) => items
                .iter()
                .map(|item| match &**item {
                    Object::Int(n) => Some(*n),
                    _ => None,
                })
                .collect(),
            other => match self.bound(other) {
                Some(Value::Array(items)) => items.iter().map(Value::as_i64).collect(),
                _ => self.integer(other).map(|n| vec![n]),
            },
        }
    }

    fn boolean(&self, expression: &Expression) -> Option<bool> {
        match expression {
            Expression::Constant(Object::Bool(on)) => Some(*on),
            other => self.bound(other)?.as_bool(),
        }
    }
}

/// Appends the elements of a list, whose items must have equal shapes.
fn append_list<T>(
    items: impl Iterator<Item = T>,
    found: &mut ConstantTensor,
    mut append: impl FnMut(T, &mut ConstantTensor) -> Option<()>,
) -> Option<()> {
    let mut count = 0;
    let mut inner: Option<Vec<usize>> = None;
    for item in items {
        append(item, found)?;
        (found.data.len() <= MAX_CONSTANT_ELEMENTS).then_some(())?;
        match &inner {
            Some(shape) => (*shape == found.shape).then_some(())?,
            None => inner = Some(found.shape.clone()),
        }
        count += 1;
    }
    // An empty list has no elements.
    found.shape = inner?;
    found.shape.insert(0, count);
    Some(())
}

fn append_number(number: f64, found: &mut ConstantTensor) -> Option<()> {
    found.shape.clear();
    found.data.push(number as f32);
    (number as f32).is_finite().then_some(())
}

/// Appends the elements of a constant of the bytecode.
fn append_object(object: &Object, found: &mut ConstantTensor) -> Option<()> {
    match object {
        Object::Int(n) => append_number(*n as f64, found),
        Object::Float(x) => append_number(*x, found),
        Object::Tuple(items) => append_list(items.iter(), found, |item, found| {
            append_object(item, found)
        }),
        _ => None,
    }
}

/// Appends the elements of a value of the layer's configuration.
fn append_json(value: &Value, found: &mut ConstantTensor) -> Option<()> {
    match value {
        Value::Number(number) => append_number(number.as_f64()?, found),
        Value::Array(items) => append_list(items.iter(), found, append_json),
        Value::Object(fields) => {
            let class = fields.get("class_name").and_then(Value::as_str);
            let config = fields
                .get("config")
                .filter(|_| matches!(class, Some("__numpy__" | "__tensor__")))?;
            match config {
                Value::Object(config) => append_json(config.get("value")?, found),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Arguments of a call, by Keras' names.
struct Arguments<'a, 'e> {
    positional: &'a [std::rc::Rc<Expression<'e>>],
    keywords: &'a [(&'e str, std::rc::Rc<Expression<'e>>)],
}

impl<'e> Arguments<'_, 'e> {
    /// Returns an argument by its position or name.
    fn get(&self, position: usize, name: &str) -> Option<&Expression<'e>> {
        let named = self.keywords.iter().find(|(key, _)| keyword(key) == name);
        let positional = self.positional.get(position);
        positional
            .or(named.map(|(_, value)| value))
            .map(|value| &**value)
    }

    /// Checks that no other arguments are given, and none twice.
    fn only(&self, names: &[&str]) -> Option<()> {
        let known = self.keywords.iter().all(|(key, _)| {
            names
                .iter()
                .skip(self.positional.len())
                .any(|n| *n == keyword(key))
        });
        (known && self.positional.len() <= names.len()).then_some(())
    }
}

/// Returns Keras' name of a keyword; TensorFlow names some differently.
fn keyword(name: &str) -> &str {
    match name {
        "input_tensor" | "input" | "tensor" | "a" | "x1" | "logits" | "features" => "x",
        "b" | "x2" => "y",
        "newshape" => "shape",
        "tensors" | "xs" | "inputs" => "values",
        "alpha" | "negative_slope" => "slope",
        "min_value" | "clip_value_min" | "x_min" => "low",
        "max_value" | "clip_value_max" | "x_max" => "high",
        "dim" | "reduction_indices" | "squeeze_dims" => "axis",
        "keep_dims" => "keepdims",
        "perm" | "pattern" | "axes" => "order",
        other => other,
    }
}

/// Returns Keras' name of a function of Keras' backend or of TensorFlow under its usual imports.
fn function_name<'e>(path: &[&'e str]) -> Option<&'e str> {
    match *path {
        ["abs"] => Some("abs"),
        ["K" | "backend", name]
        | ["keras", "backend" | "K", name]
        | ["tf" | "tensorflow", "keras", "backend", name] => Some(match name {
            "permute_dimensions" => "transpose",
            "concatenate" => "concat",
            "concat" | "leaky_relu" | "rsqrt" | "matmul" | "relu6" | "selu" => return None,
            "add" | "subtract" | "multiply" | "divide" | "negative" => return None,
            name => name,
        }),
        ["tf" | "tensorflow", name]
        | ["tf" | "tensorflow", "math" | "nn", name]
        | ["array_ops" | "math_ops" | "nn", name] => Some(match name {
            "reduce_sum" => "sum",
            "reduce_mean" => "mean",
            "reduce_max" => "max",
            "reduce_min" => "min",
            "clip_by_value" => "clip",
            // Keras' names, which TensorFlow lacks or defines otherwise.
            "sum" | "mean" | "max" | "min" | "clip" | "permute_dimensions" => return None,
            name => name,
        }),
        ["ops", name] | ["keras", "ops", name] => Some(match name {
            "concatenate" => "concat",
            "concat" => return None,
            name => name,
        }),
        _ => None,
    }
}
