//! Reconstruction of the expression that a function returns, from its bytecode.
//!
//! Names and constants alone do not determine a function: `lambda x: K.sum(x, axis=1) + 1` and
//! `lambda x: K.sum(x, axis=1)` have the same. Therefore the instructions are followed with symbols
//! in place of values. Only instructions of straight-line expressions are known; branches, loops,
//! nested functions and side effects make a function unknown. Nothing is executed. Source of the
//! opcodes: CPython's Include/opcode.h (3.5 to 3.12) and Include/opcode_ids.h (3.13).

use std::rc::Rc;

use super::marshal::{Code, Layout, Object};

/// Maximum number of instructions.
const MAX_STEPS: usize = 256;
/// Maximum number of nodes of an expression; a shared node counts once per use. It bounds the work of
/// a walk over the expression.
const MAX_SIZE: usize = 512;

/// Expression of symbols.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression<'a> {
    /// Argument of the function, by index.
    Argument(usize),
    /// Constant of the code.
    Constant(&'a Object),
    /// Dotted path from a global name, `["K", "sum"]` for `K.sum`.
    Name(Vec<&'a str>),
    /// Attribute of another expression, such as a method.
    Attribute(Rc<Self>, &'a str),
    /// Call with positional and keyword arguments.
    Call(Rc<Self>, Vec<Rc<Self>>, Vec<(&'a str, Rc<Self>)>),
    /// Binary operator.
    Binary(Operator, Rc<Self>, Rc<Self>),
    /// `-x`
    Negation(Rc<Self>),
    /// `x[key]`
    Item(Rc<Self>, Rc<Self>),
    /// `start:stop:step` in a subscript; a missing step is `None`.
    Slice(Rc<Self>, Rc<Self>, Option<Rc<Self>>),
    /// Tuple or list.
    Sequence(Vec<Rc<Self>>),
}

/// Arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `**`
    Power,
}

/// Call of the form `function(x, positional..., keyword=...)`.
#[derive(Debug, Clone, PartialEq)]
pub struct CallOfX<'a> {
    /// Dotted path of the function, `["K", "sum"]` for `K.sum`.
    pub function: Vec<&'a str>,
    /// Positional arguments after the first, which is `x`.
    pub positional: Vec<&'a Object>,
    /// Name and value of each keyword argument.
    pub keywords: Vec<(&'a str, &'a Object)>,
}

/// Relevant instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Global(usize),
    Attribute(usize),
    Local(usize),
    TwoLocals(usize, usize),
    Store(usize),
    StoreAndLocal(usize, usize),
    Constant(usize),
    Binary(Operator),
    Negate,
    Item,
    /// `x[start:stop]` in one instruction.
    ItemOfSlice,
    Slice(usize),
    Sequence(usize),
    /// A list of constants: an empty list that is extended by them.
    Extend,
    /// Sets the keyword names for the next call.
    Keywords(usize),
    /// Call with this number of arguments. The last `keywords` of them are keyword arguments, each
    /// preceded by its name (Python 3.5).
    CallWithPairs {
        positional: usize,
        keywords: usize,
    },
    /// Call with this number of arguments, preceded by the tuple of keyword names if `named`.
    Call {
        arguments: usize,
        named: bool,
    },
    Return,
}

/// Instruction encoding; several encodings share a [`Layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Python 3.5: one byte, or three with an argument.
    Bytes,
    /// Python 3.6 to 3.10: two bytes each.
    Words,
    /// Python 3.11: with inline caches.
    Py311,
    /// Python 3.12.
    Py312,
    /// Python 3.13: renumbered.
    Py313,
}

/// Returns the expression that a function returns; `None` if the code does anything else.
pub fn expression(code: &Code) -> Option<Rc<Expression<'_>>> {
    let dialects: &[Dialect] = match code.layout {
        Layout::Py35 => &[Dialect::Bytes, Dialect::Words],
        Layout::Py38 => &[Dialect::Words],
        Layout::Py311 => &[Dialect::Py311, Dialect::Py312, Dialect::Py313],
    };
    let mut found: Option<Rc<Expression>> = None;
    for &dialect in dialects {
        let Some(result) = steps(&code.bytecode, dialect).and_then(|s| follow(code, &s)) else {
            continue;
        };
        match &found {
            Some(other) if *other != result => return None,
            _ => found = Some(result),
        }
    }
    found
}

/// Recognises a single call of a global function, or of an attribute of a global, on the first
/// argument and constants; `None` if the code does anything else.
pub fn call_of_x(code: &Code) -> Option<CallOfX<'_>> {
    let expression = expression(code)?;
    let Expression::Call(function, positional, keywords) = &*expression else {
        return None;
    };
    let Expression::Name(function) = &**function else {
        return None;
    };
    let [x, positional @ ..] = &**positional else {
        return None;
    };
    fn constant<'a>(e: &Rc<Expression<'a>>) -> Option<&'a Object> {
        match **e {
            Expression::Constant(object) => Some(object),
            _ => None,
        }
    }
    (**x == Expression::Argument(0)).then_some(())?;
    Some(CallOfX {
        function: function.clone(),
        positional: positional.iter().map(constant).collect::<Option<_>>()?,
        keywords: keywords
            .iter()
            .map(|(name, value)| Some((*name, constant(value)?)))
            .collect::<Option<_>>()?,
    })
}

fn steps(bytecode: &[u8], dialect: Dialect) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = bytecode;
    while let Some((&op, tail)) = rest.split_first() {
        // Before Python 3.6, opcodes from 90 on have a 16-bit argument.
        let (argument, tail) = match (dialect, tail) {
            (Dialect::Bytes, _) if op < 90 => (0, tail),
            (Dialect::Bytes, [low, high, tail @ ..]) => {
                (usize::from(u16::from_le_bytes([*low, *high])), tail)
            }
            (Dialect::Bytes, _) => return None,
            (_, [argument, tail @ ..]) => (usize::from(*argument), tail),
            (_, []) => return None,
        };
        rest = tail;
        if let Some(step) = step(dialect, op, argument)? {
            steps.push(step);
        }
        if steps.len() > MAX_STEPS {
            return None;
        }
    }
    Some(steps)
}

/// Decodes one instruction. `Some(None)` for an instruction without effect on the expression, `None`
/// for one that an expression never contains.
fn step(dialect: Dialect, op: u8, argument: usize) -> Option<Option<Step>> {
    use Dialect::*;
    let call = Step::Call {
        arguments: argument,
        named: false,
    };
    let named_call = Step::Call {
        arguments: argument,
        named: true,
    };
    Some(Some(match (dialect, op) {
        // CACHE, PUSH_NULL, RESUME, PRECALL
        (Py311 | Py312, 0 | 2 | 151) | (Py311, 166) | (Py313, 0 | 34 | 149) => return Some(None),
        (Bytes | Words, 116) => Step::Global(argument),
        // The lowest bit of the argument is a flag.
        (Py311 | Py312, 116) | (Py313, 91) => Step::Global(argument >> 1),
        // LOAD_ATTR, LOAD_METHOD
        (Bytes, 106) | (Words | Py311, 106 | 160) => Step::Attribute(argument),
        (Py312, 106) | (Py313, 82) => Step::Attribute(argument >> 1),
        (Bytes | Words | Py311 | Py312, 124) | (Py313, 85) => Step::Local(argument),
        (Py313, 88) => Step::TwoLocals(argument >> 4, argument & 15),
        (Bytes | Words | Py311 | Py312, 125) | (Py313, 110) => Step::Store(argument),
        (Py313, 111) => Step::StoreAndLocal(argument >> 4, argument & 15),
        (Bytes | Words | Py311 | Py312, 100) | (Py313, 83) => Step::Constant(argument),
        (Bytes | Words, 19) => Step::Binary(Operator::Power),
        (Bytes | Words, 20) => Step::Binary(Operator::Multiply),
        (Bytes | Words, 23) => Step::Binary(Operator::Add),
        (Bytes | Words, 24) => Step::Binary(Operator::Subtract),
        (Bytes | Words, 27) => Step::Binary(Operator::Divide),
        // BINARY_OP
        (Py311 | Py312, 122) | (Py313, 45) => Step::Binary(match argument {
            0 => Operator::Add,
            5 => Operator::Multiply,
            8 => Operator::Power,
            10 => Operator::Subtract,
            11 => Operator::Divide,
            _ => return None,
        }),
        (Bytes | Words | Py311 | Py312, 11) | (Py313, 42) => Step::Negate,
        // BINARY_SUBSCR
        (Bytes | Words | Py311 | Py312, 25) | (Py313, 5) => Step::Item,
        (Py312, 26) | (Py313, 4) => Step::ItemOfSlice,
        (Bytes | Words | Py311 | Py312, 133) | (Py313, 50) => Step::Slice(argument),
        // BUILD_TUPLE, BUILD_LIST
        (Bytes | Words | Py311 | Py312, 102 | 103) | (Py313, 52 | 47) => Step::Sequence(argument),
        // LIST_EXTEND of the list on top of the stack.
        (Words | Py311 | Py312, 162) | (Py313, 81) if argument == 1 => Step::Extend,
        (Bytes, 131) => Step::CallWithPairs {
            positional: argument & 0xff,
            keywords: argument >> 8,
        },
        // CALL_FUNCTION, CALL_METHOD
        (Words, 131 | 161) => call,
        (Words, 141) | (Py313, 57) => named_call,
        (Py311 | Py312, 172) => Step::Keywords(argument),
        (Py311 | Py312, 171) | (Py313, 53) => call,
        (Bytes | Words | Py311 | Py312, 83) | (Py313, 36) => Step::Return,
        _ => return None,
    }))
}

/// Stack of symbols.
struct Machine<'a> {
    code: &'a Code,
    stack: Vec<Rc<Expression<'a>>>,
    locals: Vec<Option<Rc<Expression<'a>>>>,
    /// Keyword names for the next call.
    names: Option<&'a Object>,
}

/// Follows the instructions to the only return, at their end.
fn follow<'a>(code: &'a Code, steps: &[Step]) -> Option<Rc<Expression<'a>>> {
    let (Step::Return, steps) = steps.split_last()? else {
        return None;
    };
    let arguments = usize::try_from(code.arguments).ok()?;
    let mut machine = Machine {
        code,
        stack: Vec::new(),
        locals: (0..code.locals.len().min(MAX_STEPS))
            .map(|i| (i < arguments).then(|| Rc::new(Expression::Argument(i))))
            .collect(),
        names: None,
    };
    for step in steps {
        machine.step(*step)?;
    }
    match &*machine.stack {
        [result] if machine.names.is_none() && size(result) <= MAX_SIZE => Some(result.clone()),
        _ => None,
    }
}

/// Returns the number of nodes of an expression, or more than [`MAX_SIZE`].
fn size(expression: &Expression) -> usize {
    fn add(expression: &Expression, total: &mut usize) {
        *total += 1;
        if *total > MAX_SIZE {
            return;
        }
        match expression {
            Expression::Argument(_) | Expression::Constant(_) | Expression::Name(_) => {}
            Expression::Attribute(inner, _) | Expression::Negation(inner) => add(inner, total),
            Expression::Binary(_, a, b) | Expression::Item(a, b) => {
                add(a, total);
                add(b, total);
            }
            Expression::Slice(a, b, step) => {
                for part in [Some(a), Some(b), step.as_ref()].into_iter().flatten() {
                    add(part, total);
                }
            }
            Expression::Sequence(items) => items.iter().for_each(|item| add(item, total)),
            Expression::Call(function, positional, keywords) => {
                add(function, total);
                positional.iter().for_each(|item| add(item, total));
                keywords.iter().for_each(|(_, item)| add(item, total));
            }
        }
    }
    let mut total = 0;
    add(expression, &mut total);
    total
}

impl<'a> Machine<'a> {
    fn push(&mut self, expression: Expression<'a>) {
        self.stack.push(Rc::new(expression));
    }

    fn pop(&mut self) -> Option<Rc<Expression<'a>>> {
        self.stack.pop()
    }

    /// Pops the last `n` values, in the order in which they were pushed.
    fn pop_many(&mut self, n: usize) -> Option<Vec<Rc<Expression<'a>>>> {
        let at = self.stack.len().checked_sub(n)?;
        Some(self.stack.split_off(at))
    }

    fn name(&self, index: usize) -> Option<&'a str> {
        self.code.names.get(index).map(String::as_str)
    }

    fn local(&mut self, index: usize) -> Option<()> {
        let value = self.locals.get(index)?.clone()?;
        self.stack.push(value);
        Some(())
    }

    fn store(&mut self, index: usize) -> Option<()> {
        let value = self.pop()?;
        // Values that are used twice, again and again, would grow without bound.
        (size(&value) <= MAX_SIZE).then_some(())?;
        *self.locals.get_mut(index)? = Some(value);
        Some(())
    }

    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Global(i) => {
                let name = self.name(i)?;
                self.push(Expression::Name(vec![name]));
            }
            Step::Attribute(i) => {
                let (name, object) = (self.name(i)?, self.pop()?);
                self.push(match &*object {
                    Expression::Name(path) => {
                        Expression::Name(path.iter().copied().chain([name]).collect())
                    }
                    _ => Expression::Attribute(object, name),
                });
            }
            Step::Local(i) => self.local(i)?,
            Step::TwoLocals(i, j) => {
                self.local(i)?;
                self.local(j)?;
            }
            Step::Store(i) => self.store(i)?,
            Step::StoreAndLocal(i, j) => {
                self.store(i)?;
                self.local(j)?;
            }
            Step::Constant(i) => {
                let constant = self.code.constants.get(i)?;
                self.push(Expression::Constant(constant));
            }
            Step::Binary(operator) => {
                let (right, left) = (self.pop()?, self.pop()?);
                self.push(Expression::Binary(operator, left, right));
            }
            Step::Negate => {
                let inner = self.pop()?;
                self.push(Expression::Negation(inner));
            }
            Step::Item => {
                let (key, object) = (self.pop()?, self.pop()?);
                self.push(Expression::Item(object, key));
            }
            Step::ItemOfSlice => {
                let (stop, start, object) = (self.pop()?, self.pop()?, self.pop()?);
                let key = Rc::new(Expression::Slice(start, stop, None));
                self.push(Expression::Item(object, key));
            }
            Step::Slice(parts) => {
                let step = match parts {
                    2 => None,
                    3 => Some(self.pop()?),
                    _ => return None,
                };
                let (stop, start) = (self.pop()?, self.pop()?);
                self.push(Expression::Slice(start, stop, step));
            }
            Step::Sequence(n) => {
                let items = self.pop_many(n)?;
                self.push(Expression::Sequence(items));
            }
            Step::Extend => {
                let (items, list) = (self.pop()?, self.pop()?);
                match (&*list, &*items) {
                    (Expression::Sequence(list), Expression::Constant(Object::Tuple(_)))
                        if list.is_empty() =>
                    {
                        self.stack.push(items);
                    }
                    _ => return None,
                }
            }
            Step::Keywords(i) => self.names = Some(self.code.constants.get(i)?),
            Step::CallWithPairs {
                positional,
                keywords,
            } => {
                let pairs = self.pop_many(keywords.checked_mul(2)?)?;
                let (pairs, _) = pairs.as_chunks::<2>();
                let keywords = pairs
                    .iter()
                    .map(|[key, value]| match **key {
                        Expression::Constant(Object::Str(name)) => Some((&**name, value.clone())),
                        _ => None,
                    })
                    .collect::<Option<_>>()?;
                let positional = self.pop_many(positional)?;
                let function = self.pop()?;
                self.push(Expression::Call(function, positional, keywords));
            }
            Step::Call { arguments, named } => self.call(arguments, named)?,
            Step::Return => return None,
        }
        Some(())
    }

    fn call(&mut self, arguments: usize, named: bool) -> Option<()> {
        let names = match (named, self.names.take()) {
            (true, None) => match *self.pop()? {
                Expression::Constant(names) => Some(names),
                _ => return None,
            },
            (false, names) => names,
            (true, Some(_)) => return None,
        };
        let names = match names {
            None => &[][..],
            Some(Object::Tuple(names)) => names,
            Some(_) => return None,
        };
        let mut positional = self.pop_many(arguments)?;
        let values = positional.split_off(arguments.checked_sub(names.len())?);
        let keywords = names
            .iter()
            .zip(values)
            .map(|(key, value)| match &**key {
                Object::Str(name) => Some((&**name, value)),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let function = self.pop()?;
        self.push(Expression::Call(function, positional, keywords));
        Some(())
    }
}
