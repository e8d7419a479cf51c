//! Files of Keras, and what is in them.

use std::sync::Arc;

use maeum::keras::hdf5::{H5Model, H5Weight, pure};
use maeum::keras::lambda::{bytecode, marshal, recognise};
use maeum::keras::{from_content, load_bytes, load_bytes_with_architecture};
use maeum::model::{Model, ModelInfo, Network, Role, bundle};
use maeum::nn::network::Provenance;
use maeum::nn::{DropoutMode, Graph, Plan, Session, ValueId, cost, oracle};

const NAME: &str = "some name.h5";
/// Multiply-adds of a network that is run.
const MAX_FLOPS: u64 = 1 << 20;
/// Numbers of a value of a network that is run.
const MAX_SIZE: usize = 1 << 16;

/// The reader of HDF5 alone.
pub fn hdf5(input: &[u8]) {
    let Ok(model) = pure::read(input.to_vec()) else {
        return;
    };
    for weight in model.layers.iter().flat_map(|(_, weights)| weights) {
        let count: usize = weight.shape.iter().product();
        match &weight.problem {
            None => assert_eq!(weight.data.len(), count, "{weight:?}"),
            Some(problem) => assert!(!problem.is_empty() && weight.data.is_empty()),
        }
    }
}

/// The whole way from a file to a bundle that gives the answers of the reference.
pub fn convert(input: &[u8]) {
    match load_bytes(NAME, input.to_vec()) {
        Ok(model) => assert_usable(model.graph, model.provenance),
        Err(error) => assert_named(&error.to_string()),
    }
}

/// A `.keras` archive, whose sums are made right first: the fuzzer cannot find a checksum.
pub fn archive(input: &[u8]) {
    convert(&with_checksums(input.to_vec()));
}

/// Puts the CRC-32 of every stored file of a zip archive into its headers.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let word = |bytes: &[u8], at: usize| {
        let part = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(part.try_into().ok()?) as usize)
    };
    let mut at = 0;
    while at + 46 <= bytes.len() {
        // A record of the central directory: checksum at 16, packed length at 20, place of the file's own
        // header at 42. That header has 30 bytes, the name and the extra field.
        if bytes[at..].starts_with(b"PK\x01\x02")
            && let (Some(length), Some(header)) = (word(&bytes, at + 20), word(&bytes, at + 42))
            && let Some(lengths) = word(&bytes, header.saturating_add(26))
        {
            let start = header + 30 + (lengths & 0xffff) + (lengths >> 16);
            if let Some(content) = bytes.get(start..start.saturating_add(length)) {
                let mut crc = flate2::Crc::new();
                crc.update(content);
                let sum = crc.sum().to_le_bytes();
                bytes[at + 16..at + 20].copy_from_slice(&sum);
                if header + 18 <= bytes.len() {
                    bytes[header + 14..header + 18].copy_from_slice(&sum);
                }
            }
        }
        at += 1;
    }
    bytes
}

/// The text of an architecture, and behind [`MARK`] a file of weights.
pub fn architecture(input: &[u8]) {
    let at = input.iter().position(|&b| b == MARK).unwrap_or(input.len());
    let (text, weights) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    match load_bytes_with_architecture(NAME, weights.to_vec(), text) {
        Ok(model) => assert_usable(model.graph, model.provenance),
        Err(error) => {
            let message = error.to_string();
            assert!(
                message.contains(NAME) || message.contains("architecture"),
                "{message}"
            );
        }
    }
}

fn assert_named(message: &str) {
    assert!(message.contains(NAME), "{message}");
}

/// Mark between the parts of an input of [`config`].
pub const MARK: u8 = 1;

/// The architecture, behind it the version and one weight per part: its layer, its name and its
/// lengths, with tabs between them.
pub fn config(input: &[u8]) {
    let mut parts = input.split(|&b| b == MARK).map(String::from_utf8_lossy);
    let config = parts.next().unwrap_or_default().into_owned();
    let version = parts.next().filter(|v| !v.is_empty());
    let mut layers: Vec<(String, Vec<H5Weight>)> = Vec::new();
    let mut left: usize = 1 << 14;
    for part in parts {
        let mut words = part.split('\t');
        let (layer, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let Some(shape) = words
            .map(|w| w.parse().ok())
            .collect::<Option<Vec<usize>>>()
        else {
            return;
        };
        let size = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let Some(rest) = size.and_then(|size| left.checked_sub(size)) else {
            return;
        };
        let count = left - rest;
        left = rest;
        let weight = H5Weight {
            name: name.into(),
            shape,
            data: (0..count).map(|i| (i % 19) as f32 / 50.0 + 0.01).collect(),
            problem: None,
        };
        match layers.iter_mut().find(|(l, _)| l == layer) {
            Some((_, weights)) => weights.push(weight),
            None => layers.push((layer.into(), vec![weight])),
        }
    }
    let content = H5Model {
        config,
        keras_version: version.map(Into::into),
        backend: None,
        layers,
    };
    match from_content(NAME, content) {
        Ok(graph) => assert_usable(graph, Provenance::default()),
        Err(error) => assert_named(&error.to_string()),
    }
}

/// An input of [`config`] that says the same as a file.
pub fn as_config(model: &H5Model) -> Vec<u8> {
    let mut input = model.config.clone().into_bytes();
    input.push(MARK);
    input.extend(model.keras_version.as_deref().unwrap_or("").bytes());
    for (layer, weights) in &model.layers {
        for weight in weights {
            input.push(MARK);
            input.extend(format!("{layer}\t{}", weight.name).bytes());
            for length in &weight.shape {
                input.extend(format!("\t{length}").bytes());
            }
        }
    }
    input
}

/// A converted graph can be stored, read again and run, and gives what the reference gives.
fn assert_usable(graph: Graph, provenance: Provenance) {
    graph.validate().expect("what is converted is valid");
    if let Some(shapes) = graph.fixed_input_shapes() {
        assert_runs(&graph, &shapes);
    }
    let network = Network {
        role: Role::Network,
        graph,
        provenance,
        self_test: None,
    };
    // Some graphs are fine but too large to be stored.
    let Ok(model) = Model::new(vec![network], ModelInfo::network("converted")) else {
        return;
    };
    let bytes = bundle::to_bytes(&model);
    if let Ok(again) = bundle::from_bytes(&bytes, "x.safetensors") {
        assert_eq!(again.networks(), model.networks());
    }
}

fn assert_runs(graph: &Graph, shapes: &[Vec<usize>]) {
    let Ok(all) = graph.infer_shapes(shapes) else {
        return;
    };
    let Ok(flops) = cost::flops(graph, shapes) else {
        return;
    };
    let size = |shape: &Vec<usize>| shape.iter().product::<usize>();
    let total = flops.iter().fold(0u64, |sum, &f| sum.saturating_add(f));
    if total > MAX_FLOPS || all.iter().any(|s| size(s) > MAX_SIZE) {
        return;
    }
    let inputs: Vec<Vec<f32>> = shapes
        .iter()
        .map(|s| (0..size(s)).map(|i| (i % 7) as f32 / 8.0 - 0.25).collect())
        .collect();
    let plan = Plan::new(graph, shapes).expect("its shapes fit");
    let mut session = Session::new(&Arc::new(plan));
    let slices: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
    session
        .run(&slices, 1, &DropoutMode::Off)
        .expect("its inputs fit");
    let wide: Vec<Vec<f64>> = inputs
        .iter()
        .map(|x| x.iter().map(|&x| f64::from(x)).collect())
        .collect();
    let wanted = oracle::run(graph, shapes, &wide, 1, &DropoutMode::Off).expect("so here");
    // Rounding errors of many layers add up, and a discontinuous activation can enlarge any of them.
    // Only the sizes are compared here; the target `networks` compares the elements.
    for (k, output) in graph.outputs.iter().enumerate() {
        let ValueId(id) = output.value;
        assert_eq!(session.output(k).len(), size(&all[id]));
        assert_eq!(wanted.output(k).map(|v| v.data.len()), Some(size(&all[id])));
    }
}

/// The code of a Python function.
pub fn lambda(input: &[u8]) {
    let code = marshal::code(input);
    let found = recognise(input);
    match (&code, &found) {
        (Ok(code), Ok(_)) => assert!(bytecode::call_of_x(code).is_some()),
        (Ok(code), Err(_)) => drop(bytecode::call_of_x(code)),
        (Err(problem), Ok(found)) => panic!("{found:?} although {problem}"),
        (Err(_), Err(_)) => {}
    }
    if let Err(problem) = found {
        // Messages are printed to a terminal.
        assert!(!problem.is_empty() && problem.len() < 8192, "{problem}");
    }
}
