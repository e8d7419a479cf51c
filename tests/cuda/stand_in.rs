//! The code for NVIDIA's driver and run-time compiler, run against stand-ins for both
//! (`stand_in/driver.cpp`, `compiler.cpp`) that enforce the rules of their interfaces. Every test
//! of this program, and `infer`, runs on them without a GPU.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use maeum::nn::cuda::sources::SOURCES;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::emulator::library::{built, shared_object};
use crate::model::write_wav;
use crate::on_gpu_alone;

/// Folders for a process that loads the stand-ins as system libraries.
struct StandIn {
    libraries: TempDir,
    kernels: TempDir,
    cache: TempDir,
}

impl StandIn {
    fn new() -> Self {
        let folder = || tempfile::tempdir().unwrap();
        let stand_in = Self {
            libraries: folder(),
            kernels: folder(),
            cache: folder(),
        };
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/stand_in");
        let read = |name: &str| std::fs::read_to_string(own.join(name)).unwrap();
        let headers = [read("code.h"), read("device.h")];
        let headers = headers.each_ref().map(|h| &**h);
        for (text, library) in [
            ("driver.cpp", "libcuda.so"),
            ("compiler.cpp", "libnvrtc.so"),
        ] {
            let object = shared_object(text, &read(text), &own, &headers).unwrap();
            symlink(object, stand_in.libraries.path().join(library)).unwrap();
        }
        for (file, text) in SOURCES {
            let object = built(file, text).unwrap();
            symlink(object, stand_in.kernels.path().join(format!("{file}.so"))).unwrap();
        }
        stand_in
    }

    /// Returns a command that loads the stand-ins.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("LD_LIBRARY_PATH", self.libraries.path())
            .env("MAEUM_STAND_IN", self.kernels.path())
            .env("XDG_CACHE_HOME", self.cache.path());
        command
    }

    fn infer(&self, device: &str) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_infer"));
        command.args(["--device", device, "--format", "codes"]);
        command
    }

    /// Returns the cached machine code files.
    fn kept(&self) -> Vec<PathBuf> {
        let folder = self.cache.path().join("maeum/cuda");
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        files.sort();
        files
    }

    fn forget_the_compiler(&self) {
        std::fs::remove_file(self.libraries.path().join("libnvrtc.so")).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Runs a program that must succeed without messages, and returns its output.
fn good(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

/// Checks that two predictions have the same values up to rounding.
#[cfg(feature = "default-model")]
fn assert_near(got: &str, wanted: &str) {
    // The hash of a model may look like a number.
    fn numbers(value: &serde_json::Value, found: &mut Vec<f64>) {
        match value {
            serde_json::Value::Number(n) => found.extend(n.as_f64()),
            serde_json::Value::Array(values) => values.iter().for_each(|v| numbers(v, found)),
            serde_json::Value::Object(map) => map.values().for_each(|v| numbers(v, found)),
            _ => {}
        }
    }
    let all = |text: &str| {
        let mut found = Vec::new();
        numbers(&serde_json::from_str(text).unwrap(), &mut found);
        found
    };
    let (of_got, of_wanted) = (all(got), all(wanted));
    assert!(!of_wanted.is_empty());
    assert_eq!(of_got.len(), of_wanted.len(), "{got}");
    for (g, w) in of_got.iter().zip(&of_wanted) {
        assert!((g - w).abs() <= 2e-4, "{g}, not {w}: {got}");
    }
}

#[test]
fn every_test_passes_on_it() {
    if on_gpu_alone() {
        return;
    }
    let stand_in = StandIn::new();
    let mut command = stand_in.command(std::env::current_exe().unwrap());
    // The stand-in compiler compiles nothing.
    command.args(["--skip", "stand_in::", "--skip", "compile::"]);
    let output = output(command.env("MAEUM_CUDA", "gpu"));
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    let passed = said.lines().filter(|l| l.ends_with("... ok")).count();
    assert!(passed > 40, "{passed} tests ran: {said}");
}

/// Writes a short recording of speech.
fn short() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.wav");
    let voice = hound::WavReader::open("tests/data/voice.wav").unwrap();
    let samples = voice.into_samples::<i16>().take(24_000);
    let samples: Vec<f32> = samples.map(|s| f32::from(s.unwrap()) / 32_768.0).collect();
    write_wav(&path, 16_000, &samples);
    (folder, path)
}

#[cfg(feature = "default-model")]
#[test]
fn machine_code_is_kept_and_made_again_where_it_is_of_no_use() {
    if on_gpu_alone() {
        return;
    }
    let (_folder, recording) = short();
    let stand_in = StandIn::new();
    let infer = |device: &str| {
        let mut command = stand_in.infer(device);
        command.arg(&recording);
        command
    };
    let wanted = good(&mut infer("cpu"));
    assert_eq!(stand_in.kept(), [] as [PathBuf; 0]);
    let near = |got: String| assert_near(&got, &wanted);
    near(good(&mut infer("cuda")));
    let kept = stand_in.kept();
    assert!(!kept.is_empty());
    // Code that the driver cannot load, such as that of a later compiler, is compiled again.
    let code = b"of another compiler\0";
    let foreign = [&code[..], &Sha256::digest(code)].concat();
    for path in &kept {
        std::fs::write(path, &foreign).unwrap();
    }
    near(good(&mut infer("cuda:0")));
    assert_eq!(stand_in.kept(), kept);
    assert!(kept.iter().all(|p| std::fs::read(p).unwrap() != foreign));
    // Cached code needs no compiler; other code does.
    stand_in.forget_the_compiler();
    near(good(&mut infer("auto")));
    std::fs::remove_dir_all(stand_in.cache.path().join("maeum")).unwrap();
    let failed = output(&mut infer("cuda"));
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed.stderr);
    assert!(said.contains("libnvrtc"), "{said}");
    let auto = output(&mut infer("auto"));
    assert_eq!(text(&auto.stdout), wanted);
    let said = text(&auto.stderr);
    assert!(
        said.starts_with("infer: computing on the processor: "),
        "{said}"
    );
}

#[cfg(feature = "default-model")]
#[test]
fn a_call_that_fails_is_named() {
    if on_gpu_alone() {
        return;
    }
    let (_folder, recording) = short();
    let stand_in = StandIn::new();
    let failing = |device: &str, call: &str| {
        let mut command = stand_in.infer(device);
        command.env("MAEUM_STAND_IN_FAILS", call).arg(&recording);
        output(&mut command)
    };
    for (call, named) in [
        ("cuInit:1", "cuInit"),
        ("cuDeviceGetCount:1", "cuDeviceGetCount"),
        ("cuDeviceGet:1", "cuDeviceGet"),
        ("cuDeviceGetName:1", "cuDeviceGetName"),
        ("cuDeviceGetAttribute:2", "cuDeviceGetAttribute"),
        ("cuDevicePrimaryCtxRetain:1", "cuDevicePrimaryCtxRetain"),
        ("cuCtxSetCurrent:1", "cuCtxSetCurrent"),
        ("cuStreamCreate:2", "cuStreamCreate"),
        ("cuModuleGetFunction:1", "cuModuleGetFunction"),
        ("cuMemAlloc_v2:1", "bytes left"),
        ("cuMemHostAlloc:1", "cuMemHostAlloc"),
        ("cuMemcpyHtoDAsync_v2:1", "cuMemcpyHtoDAsync"),
        ("cuMemcpyHtoDAsync_v2:4", "cuMemcpyHtoDAsync"),
        ("cuEventCreate:1", "cuEventCreate"),
        ("cuEventRecord:1", "cuEventRecord"),
        ("cuStreamSynchronize:1", "cuStreamSynchronize"),
        ("cuMemcpyDtoHAsync_v2:1", "cuMemcpyDtoHAsync"),
    ] {
        let failed = failing("cuda", call);
        assert_eq!(failed.status.code(), Some(1), "{call}: {failed:?}");
        // The `codes` format has a code of its own for a defective recording.
        let said = text(&failed.stdout) + &text(&failed.stderr);
        assert!(!said.contains("10001"), "{call}: {said}");
        assert!(said.contains(named), "{call}: {said}");
        assert!(!said.contains("panicked"), "{call}: {said}");
    }
}

/// Sends a request to a server and returns its response.
#[cfg(all(feature = "serve", feature = "default-model"))]
fn asked(address: &str, request: &str, body: &[u8]) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: {length}\r\n\r\n",
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A server process that is killed at the end of the test.
#[cfg(all(feature = "serve", feature = "default-model"))]
struct Server(std::process::Child);

#[cfg(all(feature = "serve", feature = "default-model"))]
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[cfg(all(feature = "serve", feature = "default-model"))]
#[test]
fn a_server_answers_through_it() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    if on_gpu_alone() {
        return;
    }
    let (_folder, recording) = short();
    let head =
        "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";
    let recording = std::fs::read(recording).unwrap();
    let body = [head.as_bytes(), &recording, b"\r\n--edge--\r\n"].concat();
    let stand_in = StandIn::new();
    let mut said = String::new();
    let mut answers = Vec::new();
    for device in ["cuda", "cpu"] {
        let mut server = stand_in.command(env!("CARGO_BIN_EXE_serve"));
        server.args(["--port", "0", "--threads", "4", "--device", device]);
        let mut server = Server(server.stderr(Stdio::piped()).spawn().unwrap());
        let mut log = BufReader::new(server.0.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "{said}");
            said += &line;
            if let Some((_, address)) = line.trim_end().split_once("listening on http://") {
                break address.to_owned();
            }
        };
        // The server runs its model's self-test first.
        while !asked(&address, "GET /readyz", b"").starts_with("HTTP/1.1 200 ") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        std::thread::scope(|scope| {
            let post = || asked(&address, "POST /v1/audio/emotion", &body);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(post)).collect();
            answers.extend(threads.into_iter().map(|t| t.join().unwrap()));
        });
        let id = server.0.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        log.read_to_string(&mut said).unwrap();
        assert!(server.0.wait().unwrap().success(), "{said}");
    }
    assert!(
        said.contains("computing on stand-in driver (sm_90)"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    let answers = answers.iter().map(|answer| {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1
    });
    let answers: Vec<&str> = answers.collect();
    let (on_device, on_cpu) = answers.split_at(4);
    assert!(on_device.iter().all(|a| *a == on_device[0]));
    assert_near(on_device[0], on_cpu[0]);
}
