//! Shared helpers of the integration tests: captures of the 2020 system and their readers.
#![allow(dead_code)] // each test binary uses its own part

use std::path::PathBuf;

/// Returns the folder with `models/` and `golden/`, from `MAEUM_REFERENCE_DIR` (default
/// `../shared`).
///
/// If it does not exist, the result is `None` with a message, or in CI a panic, so that a
/// successful CI run always includes the comparison.
pub fn legacy2020_dir() -> Option<PathBuf> {
    let dir = std::env::var_os("MAEUM_REFERENCE_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    if dir.join("models").is_dir() && dir.join("golden").is_dir() {
        return Some(dir);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "the reference files are missing: no models/ and golden/ in {} (set MAEUM_REFERENCE_DIR)",
        dir.display()
    );
    eprintln!(
        "SKIPPED: the reference files are not in {} (set MAEUM_REFERENCE_DIR to a folder with models/ and golden/)",
        dir.display()
    );
    None
}

/// Recordings with captures of every stage.
pub const RECORDINGS: [&str; 10] = [
    "alsa_front_center",
    "de_8k",
    "en15s",
    "en3s",
    "en_long",
    "en_short",
    "ko_48k24",
    "ko_mid",
    "ko_stereo44",
    "noise4s",
];

/// Eleventh captured recording, whose file is among the models.
pub const SAMPLE: &str = "test_dis";

/// Returns the path of a captured recording.
pub fn recording(dir: &std::path::Path, name: &str) -> PathBuf {
    if name == SAMPLE {
        dir.join("models/test_dis.wav")
    } else {
        dir.join("golden").join(format!("{name}.wav"))
    }
}

/// Returns the names of all eleven captured recordings.
pub fn all_recordings() -> impl Iterator<Item = &'static str> {
    RECORDINGS.into_iter().chain([SAMPLE])
}

/// Golden file of one recording.
pub struct Golden(ndarray_npy::NpzReader<std::fs::File>, String);

impl Golden {
    pub fn open(dir: &std::path::Path, name: &str) -> Self {
        let path = dir.join("golden").join(format!("{name}.npz"));
        let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(ndarray_npy::NpzReader::new(file).unwrap(), name.into())
    }

    /// Returns array `key`, flattened in C order, with its shape.
    pub fn get<T: ndarray_npy::ReadableElement + Clone>(
        &mut self,
        key: &str,
    ) -> (Vec<usize>, Vec<T>) {
        let array: ndarray::ArrayD<T> = self
            .0
            .by_name(&format!("{key}.npy"))
            .unwrap_or_else(|e| panic!("golden {} has no readable {key}: {e}", self.1));
        let shape = array.shape().to_vec();
        let data = array.as_standard_layout().iter().cloned().collect();
        (shape, data)
    }

    pub fn has(&mut self, key: &str) -> bool {
        let name = format!("{key}.npy");
        self.0
            .names()
            .unwrap()
            .iter()
            .any(|n| *n == name || *n == key)
    }
}

/// Response of the 2020 system for each captured recording, from the age on. The preceding emotions
/// are one random draw of many. Source: `response` in the goldens.
pub const RESPONSES: [(&str, &str); 11] = [
    (
        "alsa_front_center",
        r#""20000": 32.5564, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 0.0134, "30002": 0.9866}"#,
    ),
    (
        "de_8k",
        r#""20000": 33.0884, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 0.9987, "30002": 0.0013}"#,
    ),
    (
        "en15s",
        r#""20000": 30.792, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 0.9193, "30002": 0.0807}"#,
    ),
    (
        "en3s",
        r#""20000": 31.0348, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 0.9829, "30002": 0.0171}"#,
    ),
    (
        "en_long",
        r#""20000": 30.7233, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 0.9201, "30002": 0.0799}"#,
    ),
    (
        "en_short",
        r#""20000": 30.0721, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 1.0, "30002": 0.0}"#,
    ),
    (
        "ko_48k24",
        r#""20000": 30.2703, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 0.9963, "30002": 0.0037}"#,
    ),
    (
        "ko_mid",
        r#""20000": 30.2704, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 0.9963, "30002": 0.0037}"#,
    ),
    (
        "ko_stereo44",
        r#""20000": 30.2704, "20003": 0.0, "20004": 1.0, "20005": 0.0, "30001": 0.9963, "30002": 0.0037}"#,
    ),
    (
        "noise4s",
        r#""20000": 27.9795, "20003": 1.0, "20004": 0.0, "20005": 0.0, "30001": 0.5314, "30002": 0.4686}"#,
    ),
    (
        "test_dis",
        r#""20000": 28.7858, "20003": 1.0, "20004": 0.0, "20005": 0.0, "30001": 0.0005, "30002": 0.9995}"#,
    ),
];
