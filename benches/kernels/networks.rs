//! The networks of the models as cases.

use maeum::front_end::utterance::{FRAME_VALUES, WINDOW_FRAMES};
use maeum::model::{Model, Role};
use maeum::nn::layers::{Conv, Padding, Recurrent};
use maeum::nn::{Graph, Layer, WeightId};

use super::cases::Case;

/// Windows per run, those of a recording of 6.3 s; the other networks have one row.
const WINDOWS: usize = 5;

/// Returns the built-in networks and, if `MAEUM_REFERENCE_DIR` names the folder with the original
/// files, those of 2020.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    #[cfg(feature = "convert")]
    if let Some(folder) = std::env::var_os("MAEUM_REFERENCE_DIR") {
        let mut files = maeum::model::from_keras::SpeechFiles::default();
        let folder = std::path::PathBuf::from(folder).join("models");
        files.add_folder(&folder).unwrap();
        cases.extend(networks("2020", &files.convert("the folder").unwrap()));
    }
    #[cfg(feature = "default-model")]
    cases.extend(networks("built-in", &maeum::default_model::load().unwrap()));
    cases
}

fn networks(of: &str, model: &Model) -> Vec<Case> {
    let case = |network: &maeum::model::Network| {
        let graph = &network.graph;
        let open = vec![vec![WINDOW_FRAMES, FRAME_VALUES]];
        let shapes = graph.fixed_input_shapes().unwrap_or(open);
        let rows = match network.role {
            Role::EmotionFeatures | Role::Merge | Role::Speech => 1,
            _ if shapes[0].len() == 1 => 1,
            _ => WINDOWS,
        };
        let [operations, with_padding] = products(graph, &shapes).map(|n| 2 * (rows * n) as u64);
        Case {
            name: format!("network: {of} {}, {rows} rows", network.role),
            graph: graph.clone(),
            shapes,
            rows,
            operations,
            with_padding,
        }
    };
    model.networks().iter().map(case).collect()
}

/// Returns the products of a row in convolutions, dense and recurrent layers, without and with those
/// with zero padding.
fn products(graph: &Graph, inputs: &[Vec<usize>]) -> [usize; 2] {
    let shapes = graph.infer_shapes(inputs).unwrap();
    let weight = |id: WeightId| &graph.weights[id.0].shape;
    let recurrent = |r: &Recurrent, time: usize| {
        let count = |id| weight(id).iter().product::<usize>();
        time * (count(r.kernel) + count(r.recurrent_kernel))
    };
    let mut sums = [0; 2];
    for (i, node) in graph.nodes.iter().enumerate() {
        let input = &shapes[node.inputs[0].0];
        let output = &shapes[graph.inputs.len() + i];
        let products = match &node.layer {
            Layer::Conv(conv) => convolution(conv, weight(conv.kernel), input, output),
            Layer::Dense(dense) => {
                let rows: usize = input[..input.len() - 1].iter().product();
                [rows * weight(dense.kernel).iter().product::<usize>(); 2]
            }
            Layer::Lstm(lstm) => [recurrent(&lstm.recurrent, input[0]); 2],
            Layer::Gru(gru) => [recurrent(&gru.recurrent, input[0]); 2],
            _ => [0; 2],
        };
        sums = [0, 1].map(|i| sums[i] + products[i]);
    }
    sums
}

fn convolution(conv: &Conv, kernel: &[usize], input: &[usize], output: &[usize]) -> [usize; 2] {
    let axes = kernel.len() - 2;
    let channels = kernel[axes] * kernel[axes + 1];
    (0..axes).fold([channels; 2], |[inside, all], axis| {
        let (length, outputs, size) = (input[axis], output[axis], kernel[axis]);
        let (stride, dilation) = (conv.strides[axis], conv.dilation[axis]);
        let span = (size - 1) * dilation + 1;
        let before = match conv.padding {
            Padding::Valid => 0,
            Padding::Same => ((outputs - 1) * stride + span).saturating_sub(length) / 2,
            Padding::Causal => span - 1,
        };
        let taps = (0..outputs).flat_map(|o| (0..size).map(move |k| o * stride + k * dilation));
        let is_inside = |at: &usize| (before..before + length).contains(at);
        [
            inside * taps.filter(is_inside).count(),
            all * outputs * size,
        ]
    })
}
