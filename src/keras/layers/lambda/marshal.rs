//! Parser of Python's serialised code objects. It executes nothing.
//!
//! Source of the format: CPython's Python/marshal.c (`r_object`), versions 3.5 to 3.13.

use std::rc::Rc;

/// A Python value that can occur in a code object.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Python's `None`.
    None,
    /// Python's `True` or `False`.
    Bool(bool),
    /// Python's `...`.
    Ellipsis,
    /// Integer that fits 64 bits.
    Int(i64),
    /// Integer of more than 64 bits.
    BigInt,
    /// 64-bit float.
    Float(f64),
    /// Complex number: real and imaginary part.
    Complex(f64, f64),
    /// `bytes` string, including bytecode.
    Bytes(Vec<u8>),
    /// Text; surrogates are replaced by replacement characters.
    Str(String),
    /// Tuple; items that are referenced several times are shared.
    Tuple(Vec<Rc<Object>>),
    /// List or set, whose contents are irrelevant here.
    Collection,
    /// Code of a function, possibly nested in another.
    Code(Box<Code>),
}

/// Code object of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    /// Field order with which the bytes were parsed.
    pub layout: Layout,
    /// Number of positional arguments, including positional-only arguments.
    pub arguments: u32,
    /// Number of keyword-only arguments.
    pub keyword_only: u32,
    /// `co_flags`: whether the function takes `*args` (0x04) or `**kwargs` (0x08), is a generator
    /// (0x20), ...
    pub flags: u32,
    /// Instructions, in the opcodes of the Python version that wrote them.
    pub bytecode: Vec<u8>,
    /// Constants, which instructions refer to by index.
    pub constants: Vec<Rc<Object>>,
    /// Names of globals and attributes.
    pub names: Vec<String>,
    /// Names of local variables, arguments first.
    pub locals: Vec<String>,
    /// Number of variables shared with enclosing or nested functions.
    pub shared: usize,
    /// Source file.
    pub file: String,
    /// Name of the function, `<lambda>` for an anonymous one.
    pub name: String,
    /// First line in the source file, from 1.
    pub line: u32,
}

/// Field order of a code object, which depends on the Python version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Python 3.5 to 3.7.
    Py35,
    /// Python 3.8 to 3.10: one additional count.
    Py38,
    /// Python 3.11 to 3.13: one list for all kinds of variables, and an exception table.
    Py311,
}

impl Layout {
    /// Every layout, oldest Python first.
    pub const ALL: [Self; 3] = [Self::Py35, Self::Py38, Self::Py311];
}

/// Maximum nesting depth of values, including referenced values; the code of a lambda has four
/// levels.
const MAX_DEPTH: usize = 24;
/// Maximum number of values. Values copied out of a shared tuple count again.
const MAX_OBJECTS: usize = 100_000;
/// Maximum total size of the fields of all code objects, in bytes. A field counts once per
/// reference.
const MAX_BYTES: usize = 16 << 20;

/// Parses a code object that fills `bytes` exactly, in the layout that fits.
///
/// # Errors
/// If no layout fits; the message states the problem with each.
pub fn code(bytes: &[u8]) -> Result<Code, String> {
    let mut problems = Vec::new();
    for layout in Layout::ALL {
        match code_in(bytes, layout) {
            Ok(code) => return Ok(code),
            Err(problem) => problems.push(format!("{layout:?}: {problem}")),
        }
    }
    Err(problems.join("; "))
}

fn code_in(bytes: &[u8], layout: Layout) -> Result<Code, String> {
    let mut reader = Reader {
        rest: bytes,
        layout,
        refs: Vec::new(),
        objects: 0,
        copied: 0,
        height: 0,
    };
    let object = reader.object(0)?;
    if !reader.rest.is_empty() {
        return Err(format!("{} bytes are left over", reader.rest.len()));
    }
    match Rc::try_unwrap(object).unwrap_or_else(|shared| (*shared).clone()) {
        Object::Code(code) => Ok(*code),
        _ => Err("it is no code object".into()),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    layout: Layout,
    /// Values that later references can name, each with its height; `None` while a value is being
    /// parsed.
    refs: Vec<Option<(Rc<Object>, usize)>>,
    objects: usize,
    copied: usize,
    /// Number of levels below the last parsed value; 0 for a value without contents. It is tracked
    /// because the recursion depth does not bound it: references are not parsed again.
    height: usize,
}

const TOO_LARGE: &str = "it is nested too deeply or too large";

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8], String> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or("it is cut off")?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.rest.split_first_chunk().ok_or("it is cut off")?;
        self.rest = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[b]| b)
    }

    fn long(&mut self) -> Result<i32, String> {
        self.array().map(i32::from_le_bytes)
    }

    fn count(&mut self) -> Result<u32, String> {
        u32::try_from(self.long()?).map_err(|_| "a count is negative".into())
    }

    fn size(&mut self) -> Result<usize, String> {
        usize::try_from(self.long()?).map_err(|_| "a size is negative".into())
    }

    fn object(&mut self, depth: usize) -> Result<Rc<Object>, String> {
        self.count_objects(1)?;
        if depth > MAX_DEPTH {
            return Err(TOO_LARGE.into());
        }
        self.height = 0;
        const REFERRED_TO: u8 = 0x80;
        let tag = self.byte()?;
        // CPython assigns a container its reference index before its contents.
        let slot = (tag & REFERRED_TO != 0).then(|| {
            self.refs.push(None);
            self.refs.len() - 1
        });
        let object = match tag & !REFERRED_TO {
            b'N' => Object::None,
            b'T' => Object::Bool(true),
            b'F' => Object::Bool(false),
            b'.' => Object::Ellipsis,
            b'i' => Object::Int(self.long()?.into()),
            b'I' => Object::Int(i64::from_le_bytes(self.array()?)),
            b'l' => self.big_int()?,
            b'g' => Object::Float(f64::from_le_bytes(self.array()?)),
            b'y' => Object::Complex(
                f64::from_le_bytes(self.array()?),
                f64::from_le_bytes(self.array()?),
            ),
            b's' => {
                let n = self.size()?;
                Object::Bytes(self.take(n)?.to_vec())
            }
            b'u' | b't' | b'a' | b'A' => {
                let n = self.size()?;
                self.text(n)?
            }
            b'z' | b'Z' => {
                let n = self.byte()?;
                self.text(n.into())?
            }
            b')' => {
                let n = self.byte()?;
                self.tuple(n.into(), depth)?
            }
            b'(' => {
                let n = self.size()?;
                self.tuple(n, depth)?
            }
            b'[' | b'<' | b'>' => {
                let n = self.size()?;
                self.tuple(n, depth)?;
                Object::Collection
            }
            b'c' => Object::Code(Box::new(self.code(depth)?)),
            b'r' => {
                let index = self.size()?;
                let (object, height) = self
                    .refs
                    .get(index)
                    .and_then(Clone::clone)
                    .ok_or_else(|| format!("reference {index} leads nowhere"))?;
                if depth + height > MAX_DEPTH {
                    return Err(TOO_LARGE.into());
                }
                self.height = height;
                return Ok(object);
            }
            other => return Err(format!("type code {other:#04x} is not known")),
        };
        let object = Rc::new(object);
        if let Some(slot) = slot {
            self.refs[slot] = Some((object.clone(), self.height));
        }
        Ok(object)
    }

    fn text(&mut self, n: usize) -> Result<Object, String> {
        // Python encodes surrogates in its own way; they become replacement characters.
        Ok(Object::Str(
            String::from_utf8_lossy(self.take(n)?).into_owned(),
        ))
    }

    fn tuple(&mut self, n: usize, depth: usize) -> Result<Object, String> {
        if n > self.rest.len() {
            return Err("it is cut off".into());
        }
        let mut height = 0;
        let mut items = Vec::new();
        for _ in 0..n {
            items.push(self.object(depth + 1)?);
            height = height.max(self.height + 1);
        }
        self.height = height;
        Ok(Object::Tuple(items))
    }

    fn count_objects(&mut self, n: usize) -> Result<(), String> {
        self.objects += n;
        match self.objects > MAX_OBJECTS {
            true => Err(TOO_LARGE.into()),
            false => Ok(()),
        }
    }

    fn count_bytes(&mut self, n: usize) -> Result<(), String> {
        self.copied = self.copied.saturating_add(n);
        match self.copied > MAX_BYTES {
            true => Err(TOO_LARGE.into()),
            false => Ok(()),
        }
    }

    /// Parses an integer in 15-bit digits; the sign of their number is the sign of the value.
    fn big_int(&mut self) -> Result<Object, String> {
        let digits = self.long()?;
        let mut value = Some(0i64);
        let count = digits.unsigned_abs() as usize;
        let bytes = self.take(count.saturating_mul(2))?;
        let (pairs, _) = bytes.as_chunks::<2>();
        for pair in pairs.iter().rev() {
            let digit = i64::from(u16::from_le_bytes(*pair));
            value = value
                .and_then(|v| v.checked_mul(1 << 15))
                .and_then(|v| v.checked_add(digit));
        }
        Ok(value.map_or(Object::BigInt, |v| {
            Object::Int(if digits < 0 { -v } else { v })
        }))
    }

    /// Parses a field of a code object at `depth`. `height` is updated to the height of the fields
    /// so far.
    fn field(&mut self, depth: usize, height: &mut usize) -> Result<Rc<Object>, String> {
        let object = self.object(depth + 1)?;
        *height = (*height).max(self.height + 1);
        Ok(object)
    }

    fn code(&mut self, depth: usize) -> Result<Code, String> {
        let mut height = 0;
        let code = self.code_of(depth, &mut height)?;
        self.height = height;
        Ok(code)
    }

    fn code_of(&mut self, depth: usize, height: &mut usize) -> Result<Code, String> {
        let layout = self.layout;
        let arguments = self.count()?;
        if layout != Layout::Py35 {
            // The number of arguments already includes positional-only arguments.
            self.count()?;
        }
        let keyword_only = self.count()?;
        if layout != Layout::Py311 {
            let _locals = self.count()?;
        }
        let _stack = self.count()?;
        let flags = self.count()?;
        let bytecode = self.bytes(depth, height)?;
        let constants = match &*self.field(depth, height)? {
            Object::Tuple(items) => {
                self.count_objects(items.len())?;
                items.clone()
            }
            _ => return Err("its constants are no tuple".into()),
        };
        let names = self.strings(depth, height)?;
        let mut locals = self.strings(depth, height)?;
        let shared = if layout == Layout::Py311 {
            let kinds = self.bytes(depth, height)?;
            if kinds.len() != locals.len() {
                return Err("its variables and their kinds differ in number".into());
            }
            // CO_FAST_CELL is 0x40, CO_FAST_FREE 0x80.
            let plain = kinds.iter().map(|k| k & 0xc0 == 0);
            let mut keep = plain.clone();
            locals.retain(|_| keep.next().unwrap_or(true));
            plain.filter(|p| !p).count()
        } else {
            self.strings(depth, height)?.len() + self.strings(depth, height)?.len()
        };
        let file = self.string(depth, height)?;
        let name = self.string(depth, height)?;
        if layout == Layout::Py311 {
            let _qualified = self.string(depth, height)?;
        }
        let line = self.count()?;
        let _line_table = self.bytes(depth, height)?;
        if layout == Layout::Py311 {
            let _exception_table = self.bytes(depth, height)?;
        }
        Ok(Code {
            layout,
            arguments,
            keyword_only,
            flags,
            bytecode,
            constants,
            names,
            locals,
            shared,
            file,
            name,
            line,
        })
    }

    fn bytes(&mut self, depth: usize, height: &mut usize) -> Result<Vec<u8>, String> {
        match &*self.field(depth, height)? {
            Object::Bytes(bytes) => {
                self.count_bytes(bytes.len())?;
                Ok(bytes.clone())
            }
            _ => Err("a field that holds bytes holds something else".into()),
        }
    }

    fn string(&mut self, depth: usize, height: &mut usize) -> Result<String, String> {
        match &*self.field(depth, height)? {
            Object::Str(text) => {
                self.count_bytes(text.len())?;
                Ok(text.clone())
            }
            _ => Err("a field that holds text holds something else".into()),
        }
    }

    fn strings(&mut self, depth: usize, height: &mut usize) -> Result<Vec<String>, String> {
        let names = self.field(depth, height)?;
        let Object::Tuple(items) = &*names else {
            return Err("a list of names is no tuple".into());
        };
        self.count_objects(items.len())?;
        items
            .iter()
            .map(|item| match &**item {
                Object::Str(text) => {
                    self.count_bytes(text.len())?;
                    Ok(text.clone())
                }
                _ => Err("a name is no text".into()),
            })
            .collect()
    }
}

impl Object {
    /// Describes the value for a message, in bounded length.
    pub fn brief(&self) -> String {
        match self {
            Self::None => "None".into(),
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Ellipsis => "...".into(),
            Self::Int(n) => n.to_string(),
            Self::BigInt => "a large integer".into(),
            Self::Float(x) => x.to_string(),
            Self::Complex(re, im) => format!("{re}+{im}j"),
            Self::Bytes(b) => format!("{} bytes", b.len()),
            Self::Str(s) => format!("{:?}", shortened(s)),
            Self::Tuple(items) => {
                // Only one level is shown: shared values could repeat without bound.
                let items: Vec<String> = items
                    .iter()
                    .take(8)
                    .map(|i| match &**i {
                        Self::Tuple(inner) => format!("a tuple of {}", inner.len()),
                        other => other.brief(),
                    })
                    .collect();
                format!("({})", items.join(", "))
            }
            Self::Collection => "a collection".into(),
            Self::Code(code) => format!("code of {}", shortened(&code.name)),
        }
    }
}

/// Truncates text from a file to 80 characters.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
