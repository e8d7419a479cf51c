//! Model with speaker profiles and a speech detector, derived from the built-in model.
#![allow(dead_code)] // each test binary uses its own part

use std::path::Path;

use maeum::default_model;
use maeum::front_end::N_MELS;
use maeum::front_end::utterance::STATS;
use maeum::model::SpeakerScale;
use maeum::model::{Model, Network, Role, bundle};
use maeum::nn::layers::{Activation, Dense};
use maeum::nn::network::Provenance;
use maeum::nn::{Graph, Input, Layer, Node, Output, ValueId, Weight, WeightId};

use super::infer::Place;
use super::model;

/// Returns a speech detector with the same confidence for every input; input without voice is
/// refused before it.
fn speech() -> Network {
    let weight = |name: &str, shape: &[usize], value: f32| Weight {
        name: name.into(),
        shape: shape.to_vec(),
        data: vec![value; shape.iter().product()],
    };
    let graph = Graph {
        name: "speech".into(),
        inputs: vec![Input {
            name: "stats".into(),
            shape: vec![Some(STATS)],
        }],
        nodes: vec![Node {
            name: "dense".into(),
            layer: Layer::Dense(Dense {
                kernel: WeightId(0),
                bias: Some(WeightId(1)),
                activation: Activation::Sigmoid,
            }),
            inputs: vec![ValueId(0)],
            outer: 0,
        }],
        weights: vec![
            weight("kernel", &[STATS, 1], 0.0),
            weight("bias", &[1], 2.0),
        ],
        outputs: vec![Output {
            name: "speech".into(),
            value: ValueId(1),
        }],
    };
    let mut network = Network {
        role: Role::Speech,
        provenance: Provenance::default(),
        graph,
        self_test: None,
    };
    network.make_self_test().unwrap();
    network
}

/// Returns the model; `name` distinguishes several models.
pub fn profile_model(name: &str) -> Model {
    let default = default_model::load().unwrap();
    let mut info = default.info().clone();
    info.name = name.into();
    info.speech_from = Some(0.5);
    info.speaker = Some(SpeakerScale {
        mean: vec![0.0; STATS],
        deviation: vec![1.0; STATS],
        frames: vec![0.0; N_MELS + 1],
        mean_prior: 2.0,
        deviation_prior: 4.0,
        missing_below: None,
    });
    let networks = default.networks().iter().cloned();
    let mut networks: Vec<Network> = networks.filter(|n| n.role != Role::Speech).collect();
    networks.push(speech());
    Model::new(networks, info).unwrap()
}

/// Returns two stretches of a hummed voice with a second of near silence between them.
pub fn two_stretches() -> Vec<f32> {
    let mut samples = model::speech_like(3.0, 16_000, 140.0);
    samples.extend(model::speech_like(2.5, 16_000, 190.0));
    samples
}

/// Returns steady noise.
pub fn noise(seconds: usize) -> Vec<f32> {
    let count = (seconds * 16_000) as u64;
    (0..count)
        .map(|i| (model::noise(3, i) * 0.2) as f32)
        .collect()
}

/// Creates a folder with this model as `model.safetensors`, the recordings `a.wav` to `d.wav`,
/// `two.wav` ([`two_stretches`]) and `noise.wav`.
pub fn place() -> Place {
    let place = Place(tempfile::tempdir().unwrap());
    bundle::save(&profile_model("first"), &place.path("model.safetensors")).unwrap();
    for (name, seconds, pitch) in [
        ("a.wav", 3.0, 120.0),
        ("b.wav", 2.5, 210.0),
        ("c.wav", 3.5, 150.0),
        ("d.wav", 2.5, 170.0),
    ] {
        write(
            &place.path(name),
            &model::speech_like(seconds, 16_000, pitch),
        );
    }
    write(&place.path("two.wav"), &two_stretches());
    write(&place.path("noise.wav"), &noise(2));
    place
}

fn write(path: &Path, samples: &[f32]) {
    model::write_wav(path, 16_000, samples);
}
