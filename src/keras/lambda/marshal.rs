//! Python's serialisation of code objects, read as data. Nothing is ever executed.
//!
//! Source of the format: CPython's Python/marshal.c (`r_object`), versions 3.5 to 3.13.

use std::rc::Rc;

/// A Python value, as far as code objects hold such.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Python's `None`.
    None,
    /// Python's `True` or `False`.
    Bool(bool),
    /// Python's `...`.
    Ellipsis,
    /// An integer that 64 bits can hold.
    Int(i64),
    /// An integer of more than 64 bits.
    BigInt,
    /// A number of 64 bits.
    Float(f64),
    /// Real and imaginary part.
    Complex(f64, f64),
    /// A `bytes` string; bytecode is one too.
    Bytes(Vec<u8>),
    /// Text; surrogates have become replacement characters.
    Str(String),
    /// Its items; one that is referred to several times is shared.
    Tuple(Vec<Rc<Object>>),
    /// A list or set, whose contents do not matter here.
    Collection,
    /// The code of a function, also of one inside another.
    Code(Box<Code>),
}

/// A function's code.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    /// The order of fields that the bytes were read in.
    pub layout: Layout,
    /// Positional arguments, those that are positional only included.
    pub arguments: u32,
    /// Arguments that can only be given by name.
    pub keyword_only: u32,
    /// `co_flags`: whether it takes `*args` (0x04) or `**kwargs` (0x08), is a generator (0x20), ...
    pub flags: u32,
    /// Instructions, numbered as in the Python version that wrote them.
    pub bytecode: Vec<u8>,
    /// What instructions refer to by index.
    pub constants: Vec<Rc<Object>>,
    /// Globals and attributes.
    pub names: Vec<String>,
    /// Local variables, the arguments first.
    pub locals: Vec<String>,
    /// Variables shared with functions around or inside.
    pub shared: usize,
    /// The source file that it was compiled from.
    pub file: String,
    /// The function's name, `<lambda>` if it has none.
    pub name: String,
    /// Its first line in the source file, counted from 1.
    pub line: u32,
}

/// The order of a code object's fields, which tells the Python version roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Python 3.5 to 3.7.
    Py35,
    /// Python 3.8 to 3.10: one more count.
    Py38,
    /// Python 3.11 to 3.13: variables of all kinds in one list, exception table.
    Py311,
}

impl Layout {
    /// Every layout, the oldest Python first.
    pub const ALL: [Self; 3] = [Self::Py35, Self::Py38, Self::Py311];
}

/// How deeply values may be nested, those behind references included; code of a lambda is four
/// levels deep.
const MAX_DEPTH: usize = 24;
/// How many values there may be. Those that are copied out of a shared tuple count again.
const MAX_OBJECTS: usize = 100_000;
/// How many bytes all fields of code objects may have. One that is referred to by several counts
/// for each.
const MAX_BYTES: usize = 16 << 20;

/// Reads a code object that fills `bytes` exactly, in the one layout in which that works.
///
/// # Errors
/// What is wrong with each layout.
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
    /// Values that may be referred to later, each with its height; `None` while one is being read.
    refs: Vec<Option<(Rc<Object>, usize)>>,
    objects: usize,
    copied: usize,
    /// Levels below the value read last: 0 for one that holds no others. Values behind references
    /// are not read again, so that the depth of reading does not bound this.
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
        // CPython numbers a container before what is in it.
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
        // Surrogates, which Python encodes in its own way, become replacement characters.
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

    /// Digits of 15 bits, their number's sign being the sign.
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

    /// A field of a code object at `depth`; `height` becomes that of the object, as far as it is
    /// read.
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
            // Positional-only arguments are among the arguments already.
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
    /// What a message shows of the value: short, whatever it holds.
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
                // One level only: shared values could be repeated without bound.
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

/// At most 80 characters of a text from a file.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
