//! Every fuzz target on its seeds, on the inputs that once broke something, and on all that is a
//! small step away from the seeds.

#[allow(dead_code)] // the fuzzer uses the rest
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;

use targets::{ALL, Target};

#[global_allocator]
static ALLOCATOR: targets::memory::Counting = targets::memory::Counting;

/// Runs a target on an input; a panic names both.
fn check(target: &Target, name: &str, input: &[u8]) {
    let result = std::panic::catch_unwind(|| target.check(input));
    assert!(result.is_ok(), "target {}, input {name}", target.name);
}

// One test, since the memory of all threads is counted together.
#[test]
fn seeds_and_regressions_break_nothing() {
    maeum::audio::silence_caught_panics();
    #[cfg(feature = "convert")]
    maeum::keras::silence_caught_panics();
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    for target in ALL {
        target.prepare();
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (name, input) in &seeds {
            assert!(!input.is_empty(), "{}: {name}", target.name);
            check(target, name, input);
            check(
                target,
                &format!("half of {name}"),
                &input[..input.len() / 2],
            );
            let mut changed = input.clone();
            changed[input.len() * 2 / 3] ^= 0x11;
            check(target, &format!("{name} changed"), &changed);
        }
        let Ok(entries) = fs::read_dir(regressions.join(target.name)) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            check(
                target,
                &path.display().to_string(),
                &fs::read(&path).unwrap(),
            );
        }
    }
}
