//! The real compiler, if installed: no GPU is needed.

use maeum::nn::cuda::{DeviceError, architecture_for, compile, sources};

/// The oldest supported architecture, that of the H100 and H200, and the fallback for devices newer
/// than the compiler.
const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "compute_80"];

/// Prints each kernel's resources. LD_LIBRARY_PATH must contain libnvrtc.
#[test]
fn every_source_compiles_for_gpus() {
    for (file, source) in sources::SOURCES {
        for architecture in ARCHITECTURES {
            match compile(file, source, architecture) {
                Ok(compiled) => {
                    match architecture.starts_with("sm_") {
                        true => assert!(compiled.code.starts_with(b"\x7fELF"), "{file}"),
                        false => assert_eq!(compiled.code.last(), Some(&0), "{file}"),
                    }
                    assert!(!compiled.log.contains("warning"), "{}", compiled.log);
                    println!("{file} for {architecture}\n{}", report(&compiled.log));
                }
                Err(DeviceError::NoCompiler) => return skip(),
                Err(e) => panic!("{e}"),
            }
        }
    }
}

/// Reports that there is no compiler; fails if `MAEUM_NVRTC=1` requires one.
fn skip() {
    eprintln!("NOT COMPILED FOR GPUS: libnvrtc is not in LD_LIBRARY_PATH");
    assert_ne!(std::env::var("MAEUM_NVRTC").as_deref(), Ok("1"));
}

#[test]
fn a_device_newer_than_the_compiler_is_given_what_it_can_load() {
    match architecture_for([9, 0]) {
        Ok(known) => assert_eq!(known, "sm_90"),
        Err(DeviceError::NoCompiler) => return skip(),
        Err(e) => panic!("{e}"),
    }
    let later = architecture_for([99, 9]).unwrap();
    assert!(later.starts_with("compute_"), "{later}");
    let (file, source) = sources::SOURCES[0];
    let text = compile(file, source, &later).unwrap().code;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(&later.replace("compute_", ".target sm_")));
}

/// Formats one line per kernel.
fn report(log: &str) -> String {
    let mut lines = String::new();
    for part in log.split("Compiling entry function '").skip(1) {
        let name = part.split('\'').next().unwrap_or_default();
        let line = |what: &str| {
            let line = part.lines().find(|l| l.contains(what)).unwrap_or_default();
            line.trim_start_matches("ptxas info    :").trim().to_owned()
        };
        lines += &format!("  {name}: {}; {}\n", line("Used "), line("spill"));
    }
    lines
}

#[test]
fn a_source_with_a_fault_is_named() {
    match compile(
        "fault.cu",
        "extern \"C\" __global__ void f() { nonsense }",
        "sm_90",
    ) {
        Err(DeviceError::Compile { file, log, .. }) => {
            assert_eq!(file, "fault.cu");
            assert!(log.contains("fault.cu(1)"), "{log}");
        }
        Err(DeviceError::NoCompiler) => skip(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn kernels_are_found_in_their_sources() {
    let source = "extern \"C\" __global__ void a(int x) {}\n__device__ void b() {}\nextern \"C\" \
                  __global__ void __launch_bounds__(256, 2)\n    c(float *y) {}";
    assert_eq!(sources::kernels(source).collect::<Vec<_>>(), ["a", "c"]);
    let mut names: Vec<&str> = sources::SOURCES
        .iter()
        .flat_map(|(_, source)| sources::kernels(source))
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two kernels have one name");
}
