//! Converts any supported Keras 2 `.h5` file, saves it as a bundle and runs it on inputs filled with 1.
//!
//!     cargo run --release --example keras_model -- MODEL.h5 MODEL.safetensors

use std::path::Path;

use maeum::atomic_file::replaces;
use maeum::model::{bundle, from_keras};
use maeum::nn::npz::Array;
use maeum::nn::{DropoutMode, run};

/// Length of dimensions that the model leaves open.
const LENGTH: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let keras = arguments.next().ok_or("name a Keras .h5 file")?;
    let output = arguments.next().ok_or("name the bundle to write")?;

    if replaces(Path::new(&output))(Path::new(&keras)) {
        return Err("the bundle would replace the Keras file; name another".into());
    }
    let model = from_keras::convert_network(Path::new(&keras))?;
    bundle::save(&model, Path::new(&output))?;

    let model = bundle::load(Path::new(&output))?;
    let graph = &model.networks()[0].graph;
    let inputs: Vec<(&str, Array)> = graph
        .inputs
        .iter()
        .map(|input| {
            let dimensions = input.shape.iter().map(|length| length.unwrap_or(LENGTH));
            let shape: Vec<usize> = std::iter::once(1).chain(dimensions).collect();
            let data = vec![1.0; shape.iter().product()];
            (&*input.name, Array { shape, data })
        })
        .collect();
    for (name, array) in run::run_arrays(graph, &inputs, &DropoutMode::Off)? {
        let first = &array.data[..array.data.len().min(8)];
        println!("{name} {:?}: {first:?} ...", array.shape);
    }
    Ok(())
}
