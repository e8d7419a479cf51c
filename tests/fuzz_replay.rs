//! Every fuzz target on its seeds, on the inputs of former faults, and on random changes of both.
//! `MAEUM_FUZZ_TRIES=1000` makes 1,000 changes of each input instead of a few;
//! `MAEUM_FUZZ_TARGETS=wav,npz` runs these targets only.

#[allow(dead_code)] // the fuzzer uses the rest
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::time::Instant;

use targets::{ALL, Target};

#[global_allocator]
static ALLOCATOR: targets::memory::Counting = targets::memory::Counting;

/// Changes of each input in an ordinary run.
const TRIES: u64 = 2;

/// The results of all targets.
#[derive(Default)]
struct Results {
    runs: u64,
    /// Inputs that break a target, by name.
    broken: Vec<String>,
}

impl Results {
    /// Runs a target; what it panics with is shown as of any test.
    fn check(&mut self, target: &Target, name: &str, input: &[u8]) {
        self.runs += 1;
        if std::panic::catch_unwind(|| target.check(input)).is_err() {
            let copy = std::env::temp_dir().join(format!("{}-{}", target.name, self.broken.len()));
            let kept = fs::write(&copy, input).map(|()| copy.display().to_string());
            self.broken
                .push(format!("{}: {name} ({kept:?})", target.name));
        }
    }
}

/// Random choices (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// Returns the input with one to four random changes; `words` are tokens of the format.
fn changed(input: &[u8], other: &[u8], words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const NUMBERS: [u64; 10] = [
        0,
        1,
        2,
        0x7F,
        0x80,
        0xFF,
        0x7FFF_FFFF,
        1 << 31,
        u64::MAX,
        1 << 20,
    ];
    let mut bytes = input.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => {
                let number = random.pick(&NUMBERS).to_le_bytes();
                let width = 1 << random.below(4);
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            5 if !words.is_empty() => drop(bytes.splice(at..at, random.pick(words))),
            6 if !words.is_empty() => {
                let word = random.pick(words);
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word);
            }
            7 => {
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Reads a target's dictionary: one quoted token per line, with `\x` before a byte's two digits.
fn words(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/dictionaries");
    let text = fs::read_to_string(folder.join(format!("{name}.dict"))).unwrap_or_default();
    let word = |line: &str| -> Option<Vec<u8>> {
        let inner = line.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
        let (mut word, mut at) = (Vec::new(), 0);
        while at < inner.len() {
            let (byte, length) = match &inner[at..] {
                [b'\\', b'x', digits @ ..] => {
                    let digits = std::str::from_utf8(digits.get(..2)?).ok()?;
                    (u8::from_str_radix(digits, 16).ok()?, 4)
                }
                [b'\\', escaped, ..] => (*escaped, 2),
                [plain, ..] => (*plain, 1),
                [] => break,
            };
            word.push(byte);
            at += length;
        }
        Some(word)
    };
    let lines = text.lines().filter(|line| line.starts_with('"'));
    lines
        .map(|line| word(line).unwrap_or_else(|| panic!("{name}.dict: {line}")))
        .collect()
}

// One test, since the memory of all threads is counted together.
#[test]
fn seeds_and_regressions_break_nothing() {
    maeum::audio::silence_caught_panics();
    #[cfg(feature = "convert")]
    maeum::keras::silence_caught_panics();
    let tries = std::env::var("MAEUM_FUZZ_TRIES").ok();
    let tries = tries.map_or(TRIES, |text| {
        text.parse().expect("MAEUM_FUZZ_TRIES is a number")
    });
    let chosen = std::env::var("MAEUM_FUZZ_TARGETS").ok();
    let is_chosen = |name: &str| {
        let chosen = chosen.as_deref();
        chosen.is_none_or(|names| names.split(',').any(|n| n == name))
    };
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let mut results = Results::default();
    for target in ALL.iter().filter(|target| is_chosen(target.name)) {
        let (start, before) = (Instant::now(), results.runs);
        target.prepare();
        let mut inputs = (target.seeds)();
        assert!(!inputs.is_empty(), "{}", target.name);
        if let Ok(entries) = fs::read_dir(regressions.join(target.name)) {
            for path in entries.map(|entry| entry.unwrap().path()) {
                inputs.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
        let words = words(target.name);
        let mut random = Random(0);
        for (name, input) in &inputs {
            assert!(!input.is_empty(), "{}: {name}", target.name);
            results.check(target, name, input);
            results.check(
                target,
                &format!("half of {name}"),
                &input[..input.len() / 2],
            );
            for number in 0..tries {
                let (_, other) = &inputs[random.below(inputs.len())];
                let input = changed(input, other, &words, &mut random);
                results.check(target, &format!("{name}, change {number}"), &input);
            }
        }
        let runs = results.runs - before;
        println!("{}: {runs} runs in {:?}", target.name, start.elapsed());
    }
    assert!(results.broken.is_empty(), "{:#?}", results.broken);
}
