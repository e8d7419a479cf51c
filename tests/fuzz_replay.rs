//! Every fuzz target on its seeds, on the inputs that once broke something, and on all that is a
//! small step away from the seeds.

#[allow(dead_code)] // the fuzzer uses the rest
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::time::Instant;

use targets::{ALL, Target};

#[global_allocator]
static ALLOCATOR: targets::memory::Counting = targets::memory::Counting;

/// Inputs that break a target, by name.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    /// Runs a target; what it panics with is shown as of any test.
    fn check(&mut self, target: &Target, name: &str, input: &[u8]) {
        if std::panic::catch_unwind(|| target.check(input)).is_err() {
            self.0.push(format!("{}: {name}", target.name));
        }
    }
}

// One test, since the memory of all threads is counted together.
#[test]
fn seeds_and_regressions_break_nothing() {
    maeum::audio::silence_caught_panics();
    #[cfg(feature = "convert")]
    maeum::keras::silence_caught_panics();
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let mut broken = Broken::default();
    for target in ALL {
        let start = Instant::now();
        target.prepare();
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (name, input) in &seeds {
            assert!(!input.is_empty(), "{}: {name}", target.name);
            broken.check(target, name, input);
            let half = &input[..input.len() / 2];
            broken.check(target, &format!("half of {name}"), half);
            let mut changed = input.clone();
            changed[input.len() * 2 / 3] ^= 0x11;
            broken.check(target, &format!("{name} changed"), &changed);
        }
        if let Ok(entries) = fs::read_dir(regressions.join(target.name)) {
            for path in entries.map(|entry| entry.unwrap().path()) {
                let input = fs::read(&path).unwrap();
                broken.check(target, &path.display().to_string(), &input);
            }
        }
        println!(
            "{}: {} seeds in {:?}",
            target.name,
            seeds.len(),
            start.elapsed()
        );
    }
    assert!(broken.0.is_empty(), "{:#?}", broken.0);
}
