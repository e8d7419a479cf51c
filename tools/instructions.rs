//! Benchmarks of the hot code on fixed inputs, for instruction counts by `tools/instructions.py`.
//!
//! The program prints the instruction set, then the name of each workload in order. Everything runs
//! on the main thread, because callgrind counts per thread.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use maeum::audio::decode::decode_path;
use maeum::audio::resample::resample;
use maeum::audio::vad::{Mode, SampleRate, Vad};
use maeum::front_end::legacy2020;
use maeum::front_end::legacy2020::FeatureExtractor;
use maeum::front_end::legacy2020::clean;
use maeum::front_end::legacy2020::trim::FRAME;
use maeum::front_end::utterance;
use maeum::front_end::utterance::UtteranceExtractor;
use maeum::model::ModelInfo;
use maeum::model::from_keras;
use maeum::model::{Model, Network, Role};
use maeum::nn::dropout::philox4x32;
use maeum::nn::graph::{Graph, Input, Node, Output, Weight, WeightId};
use maeum::nn::layers::{Activation, Conv, Gru, Lstm, Padding, Recurrent};
use maeum::nn::{DropoutMode, Layer, Plan, Session, ValueId};
use maeum::simd::Isa;
use maeum::{Recognizer, default_model};

type Failure = Box<dyn Error>;

/// Batch size of the networks, like the windows of a recording.
const ROWS: usize = 4;
const DRAWS: u32 = 8;
/// Sample rate of the front ends' signals, in Hz.
const RATE: usize = 16_000;

/// Function in which callgrind counts; it writes the count when this returns.
#[inline(never)]
fn counted_workload(work: &mut dyn FnMut()) {
    work();
}

/// Runs `work` twice: once to allocate buffers, once to count.
fn count<T, E: Into<Failure>>(
    name: &str,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<(), Failure> {
    println!("{name}");
    black_box(work().map_err(Into::into)?);
    let mut outcome = None;
    counted_workload(&mut || outcome = Some(work()));
    let outcome = outcome.expect("it was called").map_err(Into::into)?;
    black_box(outcome);
    Ok(())
}

/// Counts `work` that cannot fail; see [`count`].
fn count_plain<T>(name: &str, mut work: impl FnMut() -> T) -> Result<(), Failure> {
    count(name, || Ok::<T, Failure>(work()))
}

/// Returns reproducible pseudo-random floats in [-1, 1).
fn noise(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let word = philox4x32([(i / 4) as u32, 0, 0, 0], [0; 2])[i % 4];
            (word >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn main() -> Result<(), Failure> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread()
        .build_global()?;
    println!("{}", Isa::best().name());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let legacy2020 = legacy2020_networks(root)?;
    let own = default_model::load()?;
    layers(&legacy2020, &own)?;
    networks("reference", &legacy2020)?;
    networks("default", &own)?;
    front_ends()?;
    recordings(root, legacy2020, own)
}

/// Returns networks with the layout of 2020 and random weights. The emotion window network has the
/// original size; other networks are smaller.
fn legacy2020_networks(root: &Path) -> Result<Model, Failure> {
    let networks = Role::SPEECH
        .into_iter()
        .map(|role| {
            let name = match role {
                Role::Merge => "emotion_merge",
                role => role.name(),
            };
            from_keras::network(&root.join(format!("tests/golden/arch_{name}.h5")), role)
        })
        .collect::<Result<Vec<Network>, _>>()?;
    Ok(Model::new(networks, ModelInfo::legacy2020())?)
}

/// Returns the network's input shapes. Only the windows of the default model have a variable
/// length.
fn input_shapes(network: &Network) -> Vec<Vec<usize>> {
    let open = vec![vec![utterance::WINDOW_FRAMES, utterance::FRAME_VALUES]];
    network.graph.fixed_input_shapes().unwrap_or(open)
}

/// Height, width, channels, kernel size and filters of the convolutions of 2020; most of those in
/// `tests/golden` are smaller.
const CONVOLUTIONS: [[usize; 5]; 9] = [
    [200, 40, 1, 5, 8],
    [100, 20, 8, 5, 16],
    [50, 10, 16, 5, 32],
    [40, 40, 1, 3, 16],
    [20, 20, 16, 3, 32],
    [10, 10, 32, 3, 64],
    [40, 8, 1, 3, 16],
    [20, 4, 16, 3, 32],
    [10, 2, 32, 3, 64],
];

/// Counts every shape of convolution and recurrent layer of the models separately.
fn layers(legacy2020: &Model, own: &Model) -> Result<(), Failure> {
    for [height, width, channels, side, filters] in CONVOLUTIONS {
        let kernel = vec![side, side, channels, filters];
        let layer = Layer::Conv(Conv {
            kernel: WeightId(0),
            bias: Some(WeightId(1)),
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Same,
            activation: Activation::Relu,
        });
        let weights = [kernel, vec![filters]].map(|shape| Weight {
            name: "weight".into(),
            data: noise(shape.iter().product()),
            shape,
        });
        let name = format!("conv {side}x{side}, {channels} to {filters}, {height}x{width}");
        let input = [height, width, channels];
        run(
            &name,
            &graph(layer, &input, &weights),
            &[input.to_vec()],
            1,
            1,
        )?;
    }
    let windows = [legacy2020, own].map(|model| model.network(Role::EmotionWindows));
    for network in windows.into_iter().flatten() {
        let weights = &network.graph.weights;
        let shapes = network.graph.infer_shapes(&input_shapes(network))?;
        for node in &network.graph.nodes {
            let input = &shapes[node.inputs[0].0];
            let (kernel, rows) = match &node.layer {
                Layer::Conv(Conv { kernel, .. }) if input.len() == 2 => (kernel, 1),
                Layer::Lstm(Lstm {
                    recurrent: Recurrent { kernel, .. },
                })
                | Layer::Gru(Gru {
                    recurrent: Recurrent { kernel, .. },
                    ..
                }) => (kernel, ROWS),
                _ => continue,
            };
            let class = node.layer.class().to_lowercase();
            let kernel = &weights[kernel.0].shape;
            let name = format!("{class} {kernel:?}, {} steps, {rows} rows", input[0]);
            let alone = graph(node.layer.clone(), input, weights);
            run(&name, &alone, std::slice::from_ref(input), rows, 1)?;
        }
    }
    Ok(())
}

/// Returns a graph with a single layer.
fn graph(layer: Layer, input: &[usize], weights: &[Weight]) -> Graph {
    Graph {
        name: layer.class().into(),
        inputs: vec![Input {
            name: "input".into(),
            shape: input.iter().map(|&n| Some(n)).collect(),
        }],
        nodes: vec![Node {
            name: "layer".into(),
            layer,
            inputs: vec![ValueId(0)],
            outer: 0,
        }],
        outputs: vec![Output {
            name: "output".into(),
            value: ValueId(1),
        }],
        weights: weights.to_vec(),
    }
}

/// Counts a graph on noise input.
fn run(
    name: &str,
    graph: &Graph,
    shapes: &[Vec<usize>],
    rows: usize,
    draws: u32,
) -> Result<(), Failure> {
    let mut session = Session::new(&Arc::new(Plan::new(graph, shapes)?));
    let inputs: Vec<Vec<f32>> = shapes
        .iter()
        .map(|shape| noise(rows * shape.iter().product::<usize>()))
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
    let dropout = match draws {
        1 => DropoutMode::Off,
        n => DropoutMode::draws(n, 0),
    };
    count(name, || session.run(&inputs, rows, &dropout))
}

fn networks(of: &str, model: &Model) -> Result<(), Failure> {
    for network in model.networks() {
        let (graph, role, shapes) = (&network.graph, network.role, input_shapes(network));
        run(
            &format!("{of} {role}, {ROWS} rows"),
            graph,
            &shapes,
            ROWS,
            1,
        )?;
        if graph.is_stochastic() {
            let name = format!("{of} {role}, {DRAWS} draws");
            run(&name, graph, &shapes, 1, DRAWS)?;
        }
    }
    Ok(())
}

fn front_ends() -> Result<(), Failure> {
    let second = noise(48_000);
    for (from, to) in [(48_000, 22_050), (16_000, 22_050), (22_050, 16_000)] {
        let x = &second[..from as usize];
        let name = format!("resample 1 s, {from} to {to} Hz");
        count_plain(&name, || resample(x, from, to))?;
    }
    let signal = noise(3 * RATE);
    count_plain("wiener filter, 3 s", || clean::wiener(&signal))?;
    let samples: Vec<i16> = signal.iter().map(|x| (x * 32_767.0) as i16).collect();
    let mut detector = Vad::new(SampleRate::Khz16, Mode::Aggressive);
    count("voice activity, 3 s", || {
        detector.reset();
        let frames = samples.chunks_exact(FRAME);
        frames
            .map(|f| detector.is_speech(f))
            .collect::<Result<Vec<bool>, _>>()
    })?;
    let signal: Vec<f64> = signal.iter().map(|&x| f64::from(x)).collect();
    let extractor = FeatureExtractor::new();
    count("mel, 3 s", || extractor.mel(&signal))?;
    let mel = extractor.mel(&signal)?;
    let name = "windows, transforms, histogram, moments, 3 s";
    count(name, || legacy2020::from_mel(&mel))?;
    let extractor = UtteranceExtractor::new();
    count("utterance features, 3 s", || extractor.analyse(&signal))
}

/// Counts the recognition of a file.
fn recordings(root: &Path, legacy2020: Model, own: Model) -> Result<(), Failure> {
    let path = root.join("tests/data/voice.wav");
    for (of, model) in [("reference", legacy2020), ("default", own)] {
        let recognizer = Recognizer::new(model)?;
        let mut worker = recognizer.worker();
        let dropout = DropoutMode::draws(DRAWS, 0);
        let name = format!("{of} recording, 4.5 s, {DRAWS} draws");
        count(&name, || -> Result<_, Failure> {
            let recording = decode_path(&path)?;
            Ok(worker.recognize(&recording, "voice.wav", &dropout)?)
        })?;
    }
    Ok(())
}
