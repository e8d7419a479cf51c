//! Recognition of bytecode that consists of a single call of a global function (or of an attribute
//! of a global) on the first argument and constants.
//!
//! Names and constants alone do not suffice: `lambda x: K.sum(x, axis=1) + 1` and `lambda x:
//! K.sum(x, axis=1)` have the same. Therefore the instructions are compared with the only sequence
//! that such a call compiles to, in the numbering of each Python version. Source of the opcodes:
//! CPython's Include/opcode.h (3.5 to 3.12) and Include/opcode_ids.h (3.13).

use super::marshal::{Code, Layout, Object};

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
    Constant(usize),
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

/// Recognises the call; `None` if the code does anything else.
pub fn call_of_x(code: &Code) -> Option<CallOfX<'_>> {
    let dialects: &[Dialect] = match code.layout {
        Layout::Py35 => &[Dialect::Bytes, Dialect::Words],
        Layout::Py38 => &[Dialect::Words],
        Layout::Py311 => &[Dialect::Py311, Dialect::Py312, Dialect::Py313],
    };
    let mut found: Option<CallOfX> = None;
    for &dialect in dialects {
        let Some(call) = steps(&code.bytecode, dialect).and_then(|s| understand(code, &s)) else {
            continue;
        };
        match &found {
            Some(other) if *other != call => return None,
            _ => found = Some(call),
        }
    }
    found
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
        if steps.len() > 64 {
            return None;
        }
    }
    Some(steps)
}

/// Decodes one instruction. `Some(None)` for an instruction without effect on the call, `None` for
/// one that such a call never contains.
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
        (Bytes | Words | Py311 | Py312, 100) | (Py313, 83) => Step::Constant(argument),
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

fn understand<'a>(code: &'a Code, steps: &[Step]) -> Option<CallOfX<'a>> {
    let name = |i: usize| code.names.get(i).map(String::as_str);
    let constant = |i: usize| code.constants.get(i).map(|c| &**c);
    let (Step::Global(global), mut rest) = steps.split_first()? else {
        return None;
    };
    let mut function = vec![name(*global)?];
    while let [Step::Attribute(i), tail @ ..] = rest {
        function.push(name(*i)?);
        rest = tail;
    }
    let [Step::Local(0), arguments @ .., last, Step::Return] = rest else {
        return None;
    };
    let (arguments, names) = match arguments {
        [arguments @ .., Step::Keywords(i)] => (arguments, Some(*i)),
        _ => (arguments, None),
    };
    let mut constants = arguments
        .iter()
        .map(|step| match step {
            Step::Constant(i) => constant(*i),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    let given = constants.len() + 1;
    let keywords = match (*last, names) {
        (
            Step::CallWithPairs {
                positional,
                keywords,
            },
            None,
        ) if positional >= 1 && positional + 2 * keywords == given => {
            let pairs = constants.split_off(positional - 1);
            let (pairs, _) = pairs.as_chunks::<2>();
            pairs
                .iter()
                .map(|[key, value]| Some((word(key)?, *value)))
                .collect::<Option<Vec<_>>>()?
        }
        (Step::Call { arguments, named }, _) => {
            let names = match (named, names) {
                (true, None) => Some(constants.pop()?),
                (false, Some(i)) => Some(constant(i)?),
                (false, None) => None,
                (true, Some(_)) => return None,
            };
            if arguments != constants.len() + 1 {
                return None;
            }
            let names = match names {
                None => &[][..],
                Some(Object::Tuple(names)) => names,
                Some(_) => return None,
            };
            let values = constants.split_off(constants.len().checked_sub(names.len())?);
            names
                .iter()
                .zip(values)
                .map(|(key, value)| Some((word(key)?, value)))
                .collect::<Option<Vec<_>>>()?
        }
        _ => return None,
    };
    Some(CallOfX {
        function,
        positional: constants,
        keywords,
    })
}

fn word(object: &Object) -> Option<&str> {
    match object {
        Object::Str(text) => Some(text),
        _ => None,
    }
}
