//! Recognition and refusal of Python code in Lambda layers.
#![cfg(feature = "convert")]

use crate::common;
use maeum::keras::lambda::bytecode::call_of_x;
use maeum::keras::lambda::marshal::{self, Layout, Object};
use maeum::keras::lambda::{Function, recognise};
use proptest::prelude::*;

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text
        .bytes()
        .filter_map(|c| DIGITS.iter().position(|&d| d == c));
    let bits: Vec<bool> = digits
        .flat_map(|d| (0..6).rev().map(move |b| d >> b & 1 == 1))
        .collect();
    bits.chunks_exact(8)
        .map(|b| b.iter().fold(0, |n, &bit| n << 1 | u8::from(bit)))
        .collect()
}

struct Compiled {
    version: String,
    meaning: String,
    source: String,
    bytes: Vec<u8>,
}

/// Returns the code objects that Python 3.6 to 3.13 compiled.
fn compiled() -> &'static [Compiled] {
    static ALL: std::sync::LazyLock<Vec<Compiled>> = std::sync::LazyLock::new(parse);
    &ALL
}

fn parse() -> Vec<Compiled> {
    let lines = include_str!("lambda/codes.tsv").lines();
    lines
        .map(|line| {
            let mut columns = line.split('\t').map(str::to_owned);
            let mut next = || columns.next().unwrap();
            Compiled {
                version: next(),
                meaning: next(),
                source: next(),
                bytes: base64(&next()),
            }
        })
        .collect()
}

#[test]
fn compiled_lambdas_of_every_version_are_recognised_or_refused() {
    let all = compiled();
    assert_eq!(all.len(), 8 * 45);
    for c in all {
        let label = format!("Python {}: {}", c.version, c.source);
        let found = recognise(&c.bytes);
        let wanted = match c.meaning.as_str() {
            "refused" => None,
            "spatial" => Some(Function::SpatialMultiply),
            "channel" => Some(Function::ChannelMultiply),
            sum => Some(Function::SumAxis(
                sum.strip_prefix("sum ").unwrap().parse().unwrap(),
            )),
        };
        assert_eq!(found.as_ref().ok(), wanted.as_ref(), "{label}: {found:?}");
        let code = marshal::code(&c.bytes).unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!(
            (&*code.file, &*code.name, code.line),
            ("models.py", "<lambda>", 1)
        );
        let layout = match c.version.as_str() {
            "3.6" | "3.7" => Layout::Py35,
            "3.8" | "3.9" | "3.10" => Layout::Py38,
            _ => Layout::Py311,
        };
        assert_eq!(code.layout, layout, "{label}");
        if let Err(message) = found {
            assert!(
                message.contains("models.py") && message.contains("line 1"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_refusal_shows_what_was_found() {
    let all = compiled();
    let mean = all.iter().find(|c| c.source.contains("K.mean")).unwrap();
    let message = recognise(&mean.bytes).unwrap_err();
    for part in ["<lambda>", "1 argument", "K, mean", "\"models.py\" line 1"] {
        assert!(message.contains(part), "{message}");
    }
}

/// Builder for code objects of Python 3.5, which is no longer available.
struct Python35 {
    arguments: i32,
    bytecode: Vec<u8>,
    constants: Vec<Vec<u8>>,
    names: Vec<&'static str>,
    free: Vec<&'static str>,
}

fn sized(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend((bytes.len() as i32).to_le_bytes());
    out.extend(bytes);
    out
}

fn word(text: &str) -> Vec<u8> {
    [&[b'z', text.len() as u8], text.as_bytes()].concat()
}

fn int(n: i32) -> Vec<u8> {
    [&b"i"[..], &n.to_le_bytes()].concat()
}

fn tuple(items: Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = vec![b')', items.len() as u8];
    out.extend(items.concat());
    out
}

impl Python35 {
    /// Builds `lambda x: K.sum(x, axis=1)`.
    fn sum() -> Self {
        Self {
            arguments: 1,
            // LOAD_GLOBAL 0, LOAD_ATTR 1, LOAD_FAST 0, LOAD_CONST 1, LOAD_CONST 2,
            // CALL_FUNCTION (1 positional, 1 keyword pair), RETURN_VALUE
            bytecode: vec![
                116, 0, 0, 106, 1, 0, 124, 0, 0, 100, 1, 0, 100, 2, 0, 131, 1, 1, 83,
            ],
            constants: vec![b"N".to_vec(), word("axis"), int(1)],
            names: vec!["K", "sum"],
            free: vec![],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let words = |names: &[&str]| tuple(names.iter().map(|n| word(n)).collect());
        let mut out = vec![b'c' | 0x80];
        // Number of arguments, of keyword-only arguments and of locals, stack size, flags
        // (optimised, new locals, no free variables).
        for n in [self.arguments, 0, 1, 4, 0x43] {
            out.extend(n.to_le_bytes());
        }
        out.extend(sized(b's', &self.bytecode));
        out.extend(tuple(self.constants.clone()));
        out.extend(words(&self.names));
        out.extend(words(&["x"]));
        out.extend(words(&self.free));
        out.extend(words(&[]));
        out.extend(word("old.py"));
        out.extend(word("<lambda>"));
        out.extend(151i32.to_le_bytes());
        out.extend(sized(b's', &[]));
        out
    }
}

#[test]
fn python_3_5_code_is_compared_by_instruction() {
    let sum = Python35::sum();
    assert_eq!(recognise(&sum.bytes()), Ok(Function::SumAxis(1)));

    // Constant folding of -1 leaves the 1 among the constants.
    let mut folded = Python35::sum();
    folded.constants.push(int(-1));
    folded.bytecode[13] = 3;
    assert_eq!(recognise(&folded.bytes()), Ok(Function::SumAxis(-1)));

    // Equal names and constants, but one more instruction: BINARY_ADD, UNARY_NEGATIVE.
    for more in [vec![100, 2, 0, 23, 83], vec![11, 83]] {
        let mut other = Python35::sum();
        other.bytecode.pop();
        other.bytecode.extend(more);
        recognise(&other.bytes()).unwrap_err();
    }

    let mut keepdims = Python35::sum();
    keepdims.constants[1] = word("keepdims");
    recognise(&keepdims.bytes()).unwrap_err();
    let mut closure = Python35::sum();
    closure.free = vec!["y"];
    recognise(&closure.bytes()).unwrap_err();
    let mut two = Python35::sum();
    two.arguments = 2;
    recognise(&two.bytes()).unwrap_err();
    let mut beyond = Python35::sum();
    beyond.bytecode[13] = 9;
    recognise(&beyond.bytes()).unwrap_err();
}

#[test]
fn malformed_data_is_an_error() {
    let good = Python35::sum().bytes();
    for end in 0..good.len() {
        recognise(&good[..end]).unwrap_err();
    }
    recognise(&[&good[..], b"N"].concat()).unwrap_err();
    // Not code; a list within a list, and so on; a self-reference; 2 GB announced.
    recognise(b"N").unwrap_err();
    recognise(&[b')', 1].repeat(1 << 20)).unwrap_err();
    recognise(b"\xa9\x01r\x00\x00\x00\x00").unwrap_err();
    recognise(b"s\xff\xff\xff\x7f").unwrap_err();
    recognise(b"(\xff\xff\xff\x7f").unwrap_err();
    recognise(b"s\xff\xff\xff\xff").unwrap_err();
}

/// A value that is shared many times is not repeated in the message.
#[test]
fn a_message_stays_short_whatever_is_in_the_code() {
    let mut code = Python35::sum();
    // Ten tuples, each of which contains the previous one a hundred times.
    let mut bomb = vec![b'N' | 0x80];
    for level in 0..10u32 {
        let reference = [&b"r"[..], &(level + 1).to_le_bytes()].concat();
        let mut next = vec![b')', 100];
        next.extend(&bomb);
        next.extend(reference.repeat(99));
        bomb = next;
    }
    code.constants = vec![bomb, word(&"n".repeat(250)), int(1)];
    if let Err(message) = recognise(&code.bytes()) {
        assert!(message.len() < 2000, "{} characters", message.len());
    }
}

#[test]
fn the_lambdas_of_2020_are_recognised() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let mut found = Vec::new();
    for file in ["Model_Emotion_crop.h5", "Model_Emotion_Features.h5"] {
        let bytes = std::fs::read(dir.join("models").join(file)).unwrap();
        let content = maeum::keras::hdf5::pure::read(bytes).unwrap();
        let config: serde_json::Value = serde_json::from_str(&content.config).unwrap();
        for layer in config["config"]["layers"].as_array().unwrap() {
            if layer["class_name"] == "Lambda" {
                let text = layer["config"]["function"][0].as_str().unwrap();
                let bytes = base64(text);
                let code = marshal::code(&bytes).unwrap();
                assert_eq!(code.layout, Layout::Py35);
                assert_eq!(code.locals, ["x"]);
                let call = call_of_x(&code).unwrap();
                if let [(key, value)] = &*call.keywords {
                    assert_eq!((*key, *value), ("axis", &Object::Int(1)));
                }
                found.push(recognise(&bytes).unwrap());
            }
        }
    }
    let count = |f: Function| found.iter().filter(|&&g| g == f).count();
    assert_eq!(
        (
            count(Function::SumAxis(1)),
            count(Function::SpatialMultiply),
            count(Function::ChannelMultiply)
        ),
        (1, 4, 4)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn mutated_code_never_panics(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let all = compiled();
        let mut bytes = which.get(all).bytes.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = recognise(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = recognise(&bytes);
    }
}

/// Builds a tuple of `items` that can be referenced.
fn shared_tuple(items: &[u8], count: u32) -> Vec<u8> {
    let mut bytes = vec![b'(' | 0x80];
    bytes.extend(count.to_le_bytes());
    bytes.extend(items);
    bytes
}

fn reference(index: u32) -> Vec<u8> {
    [&b"r"[..], &index.to_le_bytes()].concat()
}

#[test]
fn values_that_are_deep_only_through_references_are_refused() {
    // Each tuple contains the previous one; none is parsed deeper than two levels.
    const TUPLES: u32 = 20_000;
    let mut bytes = vec![b'('];
    bytes.extend(TUPLES.to_le_bytes());
    bytes.extend(shared_tuple(b"N", 1));
    for n in 0..TUPLES - 1 {
        bytes.extend(shared_tuple(&reference(n), 1));
    }
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let message = small.spawn(move || recognise(&bytes).unwrap_err());
    let message = message.unwrap().join().unwrap();
    assert!(message.contains("nested too deeply"), "{message}");
}

#[test]
fn shared_data_of_many_functions_is_copied_within_bounds() {
    const NAMES: u32 = 30_000;
    const FUNCTIONS: u32 = 4_000;
    let mut bytes = vec![b'('];
    bytes.extend((FUNCTIONS + 4).to_le_bytes());
    bytes.extend(shared_tuple(&b"Z\x01a".repeat(NAMES as usize), NAMES));
    bytes.extend([b's' | 0x80, 0, 0, 0, 0]);
    bytes.extend(shared_tuple(b"", 0));
    bytes.extend([b'Z' | 0x80, 1, b'f']);
    let [names, code, none, text] = [0, 1, 2, 3].map(reference);
    let mut function = vec![b'c'];
    function.extend([0; 5 * 4]);
    for field in [&code, &none, &names, &none, &none, &none, &text, &text] {
        function.extend(field);
    }
    function.extend([0; 4]);
    function.extend(&code);
    for _ in 0..FUNCTIONS {
        bytes.extend(&function);
    }
    let message = recognise(&bytes).unwrap_err();
    assert!(
        message.contains("Py35: it is nested too deeply or too large"),
        "{message}"
    );
    // A single function of this kind is accepted.
    let mut few = vec![b'(', 5, 0, 0, 0];
    few.extend(&bytes[5..bytes.len() - (FUNCTIONS as usize - 1) * function.len()]);
    let message = recognise(&few).unwrap_err();
    assert!(message.contains("Py35: it is no code object"), "{message}");
}
