//! Runs the program `infer` as a user runs it, in a folder with a small model made for it.
#![allow(dead_code)] // each test binary uses its own part

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use maeum::model::ModelInfo;
use maeum::model::bundle;
use serde_json::Value;
use tempfile::TempDir;

use super::model;

/// A folder with a model and three recordings, `a.wav` (longer than 15 s), `b.wav`, `c.wav`.
pub struct Place(pub TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self::empty();
        for (name, seconds, rate, pitch) in [
            ("a.wav", 18.0, 16_000, 120.0),
            ("b.wav", 4.0, 44_100, 210.0),
            ("c.wav", 2.5, 8_000, 150.0),
        ] {
            let samples = model::speech_like(seconds, rate, pitch);
            model::write_wav(&place.path(name), rate, &samples);
        }
        place
    }

    pub fn empty() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let info = ModelInfo::legacy2020();
        bundle::save(&model::speech_model(info), &place.path("model.safetensors")).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A wav header with these fields in front of `data`.
    pub fn raw_wav(&self, name: &str, tag: u16, rate: u32, bits: u16, data: &[u8]) {
        let align = bits / 8;
        let mut bytes = b"RIFF".to_vec();
        bytes.extend((36 + data.len() as u32).to_le_bytes());
        bytes.extend(b"WAVEfmt ");
        bytes.extend(16u32.to_le_bytes());
        bytes.extend(tag.to_le_bytes());
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend(rate.wrapping_mul(align.into()).to_le_bytes());
        bytes.extend(align.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// `infer --model model.safetensors ARGUMENTS` in this folder.
    pub fn infer(&self, arguments: &[&str]) -> Run {
        let mut all = vec!["--model", "model.safetensors"];
        all.extend(arguments);
        self.bare(&all)
    }

    pub fn bare(&self, arguments: &[&str]) -> Run {
        command(self.0.path())
            .args(arguments)
            .output()
            .unwrap()
            .into()
    }

    pub fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer"));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let run = Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!run.err.contains("panicked"), "{}", run.err);
        run
    }
}

impl Run {
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap();
        self.out.lines().map(parse).collect()
    }
}

pub fn files(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .map(|r| r["file"].as_str().unwrap())
        .collect()
}
