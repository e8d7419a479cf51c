//! Helpers that run the tool and read its output.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use maeum::nn::npz::{self, Array, NpzFile};
use tempfile::TempDir;

/// Tolerance against Keras, relative to the largest magnitude of an output (or to 1): the effect of
/// another order of 32-bit summation.
pub const TOLERANCE: f32 = 1e-5;

pub const FIVE: [(&str, &str, &str); 5] = [
    ("emotion-windows", "Model_Emotion_crop", "emotion_windows"),
    ("age", "Model_Age_crop", "age"),
    ("gender", "Model_Gender_crop", "gender"),
    (
        "emotion-features",
        "Model_Emotion_Features",
        "emotion_features",
    ),
    ("merge", "Model_Emotion_Merge", "merge"),
];

pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn convert<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_convert"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code().expect("it ends by itself"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Runs the tool and expects success.
pub fn good<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let outcome = convert(arguments);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    outcome.out
}

/// Runs the tool and expects an error with this exit code whose message contains all of `parts`.
pub fn bad<S: AsRef<OsStr>>(code: i32, parts: &[&str], arguments: impl IntoIterator<Item = S>) {
    let Outcome { code: got, err, .. } = convert(arguments);
    assert_eq!(got, code, "{err}");
    assert!(err.starts_with("error: "), "{err}");
    for part in parts {
        assert!(err.contains(part), "no {part:?} in: {err}");
    }
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Temporary folder.
pub struct Place(pub TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn at(&self, name: &str) -> String {
        text(&self.0.path().join(name)).to_owned()
    }

    /// Returns the path of a bundle built from the five golden networks.
    pub fn five(&self) -> String {
        let bundle = self.at("five.safetensors");
        good([text(&golden("five")), "-o", &bundle]);
        bundle
    }

    pub fn npz(&self, name: &str, arrays: &[(String, Array)]) -> String {
        let path = self.at(name);
        npz::write(Path::new(&path), arrays).unwrap();
        path
    }
}

pub fn open(path: impl AsRef<Path>) -> NpzFile {
    NpzFile::open(path.as_ref()).unwrap()
}

/// Returns the arrays whose name starts with `prefix`, without the prefix.
pub fn arrays(file: &NpzFile, prefix: &str) -> Vec<(String, Array)> {
    file.names()
        .filter_map(|n| Some((n.strip_prefix(prefix)?.to_owned(), file.read(n).unwrap())))
        .collect()
}

pub fn assert_close(got: &Array, wanted: &Array, what: &str) {
    assert_eq!(got.shape, wanted.shape, "{what}");
    let scale = wanted.data.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (g, w) in got.data.iter().zip(&wanted.data) {
        assert!((g - w).abs() <= TOLERANCE * scale, "{what}: {g} is not {w}");
    }
}

/// Runs the tool with `arguments` and compares the outputs, in model order, with Keras'.
pub fn assert_outputs(arguments: &[&str], out: &str, wanted: &[(String, Array)], what: &str) {
    good(arguments.iter().chain(&["--out", out]));
    let npz = open(out);
    let names: Vec<&str> = npz.names().collect();
    assert_eq!(names.len(), wanted.len(), "{what}");
    for (k, name) in names.into_iter().enumerate() {
        let (_, wanted) = wanted.iter().find(|(n, _)| *n == k.to_string()).unwrap();
        assert_close(&npz.read(name).unwrap(), wanted, what);
    }
}
