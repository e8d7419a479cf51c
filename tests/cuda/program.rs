//! The option `infer --device`.

use std::process::{Command, Output};

use crate::gpu;

fn infer(device: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_infer"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "--device",
            device,
            "--format",
            "codes",
            "tests/data/voice.wav",
        ])
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(feature = "default-model")]
#[test]
fn auto_computes_where_it_can() {
    let (auto, cpu) = (infer("auto"), infer("cpu"));
    assert!(auto.status.success() && cpu.status.success(), "{auto:?}");
    assert_eq!(text(&cpu.stderr), "");
    if gpu().is_none() {
        assert_eq!(text(&auto.stdout), text(&cpu.stdout));
        let said = text(&auto.stderr);
        let wanted = "infer: computing on the processor: there is no NVIDIA driver";
        assert!(said.starts_with(wanted), "{said}");
    }
}

#[cfg(feature = "default-model")]
#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let output = infer("cuda:1000");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    assert!(
        said.starts_with("infer: --device cuda:1000: there is no"),
        "{said}"
    );
    assert!(said.contains("on the CPU"), "{said}");
}

#[test]
fn an_unknown_device_is_a_wrong_command_line() {
    let output = infer("gpu");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("give `cpu`, `cuda`, `cuda:`"), "{said}");
}
