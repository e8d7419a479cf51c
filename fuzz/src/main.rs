//! One program for all fuzz targets, so that everything is compiled and linked once. The variable
//! `MAEUM_FUZZ` chooses a target; `run.sh` sets it. With `MAEUM_FUZZ_SEEDS` it writes the target's
//! seeds to that folder instead, and without a target it lists all of them with the longest input.
#![no_main]

use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::{env, fs, path::PathBuf, process};

#[path = "../targets/mod.rs"]
mod targets;

use targets::Target;

#[global_allocator]
static ALLOCATOR: targets::memory::Counting = targets::memory::Counting;

static CHOSEN: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: start(), |input: &[u8]| {
    CHOSEN.get().expect("chosen at the start").check(input);
});

fn start() {
    let Ok(name) = env::var("MAEUM_FUZZ") else {
        for target in targets::ALL {
            println!("{} {}", target.name, target.longest);
        }
        process::exit(0);
    };
    let found = targets::ALL.iter().find(|t| t.name == name);
    let Some(target) = found else {
        eprintln!("there is no target {name:?}");
        process::exit(2);
    };
    if let Some(folder) = env::var_os("MAEUM_FUZZ_SEEDS") {
        let folder = PathBuf::from(folder);
        fs::create_dir_all(&folder).expect("the folder can be made");
        for (name, bytes) in (target.seeds)() {
            fs::write(folder.join(name), bytes).expect("the seed can be written");
        }
        process::exit(0);
    }
    hide_caught_panics();
    target.prepare();
    assert!(CHOSEN.set(target).is_ok(), "started once");
}

/// Lets panics pass that the library turns into errors: those of other people's decoders. A panic in
/// code of the project is a finding even there.
fn hide_caught_panics() {
    let abort = std::sync::Arc::new(std::panic::take_hook());
    let inner = std::sync::Arc::clone(&abort);
    std::panic::set_hook(Box::new(move |info| inner(info)));
    maeum::audio::silence_caught_panics();
    maeum::keras::silence_caught_panics();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match is_own(info) {
        true => abort(info),
        false => quiet(info),
    }));
}

fn is_own(info: &PanicHookInfo) -> bool {
    let foreign = ["/registry/src/", "/rustc/", "/library/"];
    info.location()
        .is_some_and(|place| !foreign.iter().any(|f| place.file().contains(f)))
}
