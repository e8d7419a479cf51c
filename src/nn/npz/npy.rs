//! Parser of NumPy's `.npy` format (NEP 1, versions 1.0 to 3.0).

use std::io::{self, Read};

use super::{Array, MAX_NUMBERS};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Maximum length of a header; a plain array's header has about a hundred bytes.
const MAX_HEADER: usize = 1 << 14;
/// NumPy's limit on the number of dimensions.
const MAX_DIMENSIONS: usize = 32;

/// Reads an array and checks that nothing follows it.
pub fn read(reader: &mut impl Read) -> Result<Array, String> {
    let text = header_text(reader)?;
    let header = Header::parse(&text)
        .ok_or_else(|| format!("its header is not understood: {:?}", shorten(&text)))?;
    let kind = Number::parse(&header.descr).ok_or_else(|| {
        format!(
            "it holds {:?}; floats of 32 or 64 bits, integers or booleans are needed",
            shorten(&header.descr)
        )
    })?;
    if header.shape.len() > MAX_DIMENSIONS {
        return Err(format!("it has {} dimensions", header.shape.len()));
    }
    let sizes = || {
        let shape: Option<Vec<usize>> = (header.shape.iter())
            .map(|&d| usize::try_from(d).ok())
            .collect();
        let shape = shape?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        Some((shape, count.filter(|&n| n <= MAX_NUMBERS)?))
    };
    let (shape, count) = sizes().ok_or_else(|| {
        format!(
            "its shape {:?} holds more than {MAX_NUMBERS} numbers",
            header.shape
        )
    })?;
    let data = numbers(reader, kind, count)?;
    let data = match header.fortran {
        true => row_major(&shape, &data),
        false => data,
    };
    Ok(Array { shape, data })
}

fn shorten(text: &str) -> String {
    text.trim().chars().take(100).collect()
}

fn exactly<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(describe)?;
    Ok(bytes)
}

fn describe(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early".into(),
        _ => format!("it is damaged: {error}"),
    }
}

fn header_text(reader: &mut impl Read) -> Result<String, String> {
    if exactly::<6>(reader)? != *MAGIC {
        return Err("it is no array in NumPy's format".into());
    }
    let length = match exactly::<2>(reader)? {
        [1, 0] => usize::from(u16::from_le_bytes(exactly(reader)?)),
        [2 | 3, 0] => u32::from_le_bytes(exactly(reader)?) as usize,
        [major, minor] => return Err(format!("its format {major}.{minor} is not known")),
    };
    if length > MAX_HEADER {
        return Err(format!("its header has {length} bytes"));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(describe)?;
    String::from_utf8(text).map_err(|_| "its header is no text".into())
}

struct Header {
    descr: String,
    fortran: bool,
    /// In 64 bits on every target, so that all refuse the same sizes in the same words.
    shape: Vec<u64>,
}

impl Header {
    /// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` with entries in any
    /// order.
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            rest = match key {
                "descr" => {
                    let (text, after) = quoted(value)?;
                    descr = Some(text.to_owned());
                    after
                }
                "fortran_order" => {
                    let word = ["True", "False"]
                        .into_iter()
                        .find(|w| value.starts_with(w))?;
                    fortran = Some(word == "True");
                    &value[word.len()..]
                }
                "shape" => {
                    let (tuple, after) = value.strip_prefix('(')?.split_once(')')?;
                    shape = Some(dimensions(tuple)?);
                    after
                }
                _ => return None,
            }
            .trim_start();
            rest = match rest.strip_prefix(',') {
                Some(more) => more.trim_start(),
                None if rest.is_empty() => rest,
                None => return None,
            };
        }
        Some(Self {
            descr: descr?,
            fortran: fortran?,
            shape: shape?,
        })
    }
}

/// Splits `text` into a quoted string without escapes and the remainder.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// Parses `3, 4`, `3,` or nothing. Python 2 wrote long integers as `3L`.
fn dimensions(tuple: &str) -> Option<Vec<u64>> {
    let tuple = tuple.trim();
    if tuple.is_empty() {
        return Some(Vec::new());
    }
    let tuple = tuple.strip_suffix(',').unwrap_or(tuple);
    tuple
        .split(',')
        .map(|d| d.trim().trim_end_matches('L').parse().ok())
        .collect()
}

/// Storage format of an element.
#[derive(Clone, Copy)]
struct Number {
    size: usize,
    big_endian: bool,
    /// Converts the bytes in little-endian order.
    value: fn(&[u8]) -> f32,
}

/// Returns the first `N` bytes; `bytes` holds at least that many.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| bytes[i])
}

impl Number {
    fn parse(descr: &str) -> Option<Self> {
        let order = descr.chars().next().filter(|c| "<>|=".contains(*c));
        let kind = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
        let (size, value): (usize, fn(&[u8]) -> f32) = match kind {
            "f4" => (4, |b| f32::from_le_bytes(first(b))),
            "f8" => (8, |b| f64::from_le_bytes(first(b)) as f32),
            "i1" => (1, |b| f32::from(b[0] as i8)),
            "i2" => (2, |b| f32::from(i16::from_le_bytes(first(b)))),
            "i4" => (4, |b| i32::from_le_bytes(first(b)) as f32),
            "i8" => (8, |b| i64::from_le_bytes(first(b)) as f32),
            "u1" => (1, |b| f32::from(b[0])),
            "u2" => (2, |b| f32::from(u16::from_le_bytes(first(b)))),
            "u4" => (4, |b| u32::from_le_bytes(first(b)) as f32),
            "u8" => (8, |b| u64::from_le_bytes(first(b)) as f32),
            "b1" => (1, |b| f32::from(u8::from(b[0] != 0))),
            _ => return None,
        };
        let native_is_big = cfg!(target_endian = "big");
        Some(Self {
            size,
            big_endian: order == Some('>') || (order != Some('<') && native_is_big),
            value,
        })
    }
}

/// Reads `count` elements and checks that nothing follows them. Memory grows with the bytes read,
/// not with the announced size.
fn numbers(reader: &mut impl Read, kind: Number, count: usize) -> Result<Vec<f32>, String> {
    const CHUNK: usize = 1 << 13;
    let mut buffer = vec![0; CHUNK * kind.size];
    let mut data = Vec::new();
    while data.len() < count {
        let part = &mut buffer[..(count - data.len()).min(CHUNK) * kind.size];
        reader.read_exact(part).map_err(describe)?;
        data.extend(part.chunks_exact_mut(kind.size).map(|bytes| {
            if kind.big_endian {
                bytes.reverse();
            }
            (kind.value)(bytes)
        }));
    }
    match reader.read(&mut [0]).map_err(describe)? {
        0 => Ok(data),
        _ => Err("it holds more numbers than its shape says".into()),
    }
}

/// Reorders elements from Fortran order (first index fastest) to C order (last index fastest).
fn row_major(shape: &[usize], data: &[f32]) -> Vec<f32> {
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut out = Vec::with_capacity(data.len());
    for _ in 0..data.len() {
        out.push(data[at]);
        for d in (0..shape.len()).rev() {
            let stride: usize = shape[..d].iter().product();
            index[d] += 1;
            at += stride;
            if index[d] < shape[d] {
                break;
            }
            at -= stride * shape[d];
            index[d] = 0;
        }
    }
    out
}
