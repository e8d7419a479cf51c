//! tract as a contender of `tools/compare.py`, which describes the protocol.
//!
//! Usage: `compare-tract ONNX_DIR GOLDEN_DIR THREADS`

mod lstm;

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ndarray_npy::NpzReader;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ndarray::{ArrayD, Axis, IxDyn};

type Failure = Box<dyn Error>;
type Network = Arc<TypedRunnableModel>;

const BRANCHES: [&str; 4] = ["dct", "dst", "hist", "moments"];
const EMOTIONS: usize = 7;

/// Networks optimised for one number of windows, and the captured inputs.
struct Prepared {
    /// Emotion, age and gender networks.
    windows: [Network; 3],
    features: Network,
    merge: Network,
    crops: Tensor,
    branches: Vec<Tensor>,
}

fn network(dir: &Path, name: &str, shapes: &[Vec<usize>]) -> Result<Network, Failure> {
    let mut reader = tract_onnx::onnx();
    reader.op_register.insert("LSTM", lstm::build);
    let mut model = reader.model_for_path(dir.join(format!("{name}.onnx")))?;
    for (i, shape) in shapes.iter().enumerate() {
        model = model.with_input_fact(i, f32::fact(shape).into())?;
    }
    Ok(model.into_optimized()?.into_runnable()?)
}

impl Prepared {
    fn new(onnx: &Path, golden: &Path, recording: &str) -> Result<Self, Failure> {
        let path = golden.join(format!("{recording}.npz"));
        let mut npz = NpzReader::new(File::open(&path)?)?;
        let crops: ArrayD<f32> = npz.by_name("crops")?;
        let crops: Tensor = crops.insert_axis(Axis(1)).into();
        let branches = BRANCHES
            .iter()
            .map(|name| {
                let x: ArrayD<f64> = npz.by_name(name)?;
                let x = x.mapv(|v| v as f32).insert_axis(Axis(0));
                let last = Axis(x.ndim());
                Ok(x.insert_axis(last).into())
            })
            .collect::<Result<Vec<Tensor>, Failure>>()?;
        let window = |name| network(onnx, name, &[crops.shape().to_vec()]);
        let shapes: Vec<_> = branches.iter().map(|b| b.shape().to_vec()).collect();
        Ok(Self {
            windows: [
                window("emotion_crop")?,
                window("age_crop")?,
                window("gender_crop")?,
            ],
            features: network(onnx, "emotion_features", &shapes)?,
            merge: network(onnx, "emotion_merge", &vec![vec![1, EMOTIONS]; 6])?,
            crops,
            branches,
        })
    }

    /// Computes all networks; returns the merged emotion weights.
    fn run(&self) -> Result<Vec<f32>, Failure> {
        let crops: TValue = self.crops.clone().into();
        let mut merge_inputs = tvec!();
        for (i, model) in self.windows.iter().enumerate() {
            let output = black_box(model.run(tvec!(crops.clone()))?);
            if i == 0 {
                let output = output[0].to_plain_array_view::<f32>()?;
                let mean = output.mean_axis(Axis(0)).ok_or("no windows")?;
                let mean = mean.into_shape_with_order(IxDyn(&[1, EMOTIONS]))?;
                merge_inputs.push(Tensor::from(mean).into());
            }
        }
        let branches = self.branches.iter().map(|b| b.clone().into()).collect();
        merge_inputs.extend(self.features.run(branches)?);
        let merged = self.merge.run(merge_inputs)?;
        Ok(merged[0]
            .to_plain_array_view::<f32>()?
            .iter()
            .copied()
            .collect())
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [onnx, golden, threads] = &arguments[..] else {
        return Err("usage: compare-tract ONNX_DIR GOLDEN_DIR THREADS".into());
    };
    match threads.parse()? {
        1 => {}
        n => set_default_executor(Executor::multithread(n)),
    }
    let mut prepared: HashMap<String, Prepared> = HashMap::new();
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split('\t').collect();
        let [command, recording, rest @ ..] = &words[..] else {
            return Err(format!("unknown request {line:?}").into());
        };
        if !prepared.contains_key(*recording) {
            let new = Prepared::new(Path::new(onnx), Path::new(golden), recording)?;
            prepared.insert((*recording).into(), new);
        }
        let networks = &prepared[*recording];
        match (*command, rest) {
            ("answer", []) => {
                let answer: Vec<String> = networks.run()?.iter().map(f32::to_string).collect();
                println!("{}", answer.join(" "));
            }
            ("networks", [iterations]) => {
                let n: u32 = iterations.parse()?;
                let start = Instant::now();
                for _ in 0..n {
                    black_box(networks.run()?);
                }
                println!("{}", start.elapsed().as_nanos() / u128::from(n.max(1)));
            }
            _ => return Err(format!("unknown request {line:?}").into()),
        }
        io::stdout().flush()?;
    }
    Ok(())
}
