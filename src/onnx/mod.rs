//! Export of graphs as ONNX models.
//!
//! [`export`] writes the `ModelProto` of a graph with opset [`OPSET`], for batches of any size. The
//! weights are initializers, the inputs and outputs have the graph's names and layouts, with the
//! channels last. Each layer of the closed set of [`nn`](crate::nn) is mapped to operators of the
//! default domain, or refused with its name.

mod builder;
mod layers;
mod lengths;
mod message;

use crate::nn::{Graph, GraphError, Layer, Provenance};
use builder::Builder;
use layers::NodeContext;
use message::Message;

/// Version of the operator set of the exported models.
pub const OPSET: i64 = 17;
/// Version of the file format, the first one for [`OPSET`].
const IR_VERSION: i64 = 8;
/// Size limit of the Protocol Buffers format.
const MAX_BYTES: usize = (1 << 31) - 1;

/// Error of an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A layer or one of its options has no equivalent in ONNX.
    #[error("graph {graph}, node {node} ({class}): {problem}")]
    Layer {
        /// [`Graph::name`].
        graph: String,
        /// Name of the node.
        node: String,
        /// [`Layer::class`].
        class: &'static str,
        /// The option without equivalent, and the remedy if there is one.
        problem: String,
    },
    /// The graph is invalid, or no tried length fits its open input dimensions.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The model exceeds the format's limit.
    #[error("graph {0} takes more than 2 GiB as an ONNX model; export its parts")]
    TooLarge(String),
}

/// An exported model.
#[derive(Debug)]
pub struct Exported {
    /// The bytes of the `.onnx` file.
    pub bytes: Vec<u8>,
    /// Nodes of dropouts that stay on at inference in the graph and are off in the model.
    pub forced_dropouts: Vec<String>,
    /// Outputs that have another name in the model, because an input has theirs: old and new name.
    pub renamed_outputs: Vec<(String, String)>,
}

/// Exports a graph. `provenance` goes into the model's metadata.
///
/// # Errors
/// Names the first node that has no equivalent.
pub fn export(graph: &Graph, provenance: &Provenance) -> Result<Exported, ExportError> {
    let shapes = lengths::shapes(graph)?;
    let mut builder = Builder::new(graph);
    let mut values: Vec<String> = Vec::with_capacity(shapes.len());
    for input in &graph.inputs {
        values.push(builder.name(&input.name));
    }
    let mut renamed_outputs = Vec::new();
    let mut outputs = Vec::new();
    for output in &graph.outputs {
        let is_input = graph.inputs.iter().any(|i| i.name == output.name);
        let name = match is_input {
            true => builder.name(&format!("{}_output", output.name)),
            false => builder.name(&output.name),
        };
        if name != output.name {
            renamed_outputs.push((output.name.clone(), name.clone()));
        }
        outputs.push(name);
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        let inputs = node.inputs.iter();
        let mut context = NodeContext {
            name: &node.name,
            inputs: inputs.clone().map(|v| values[v.0].clone()).collect(),
            shapes: inputs.map(|v| shapes[v.0].clone()).collect(),
            output: shapes[graph.output_of(i).0].clone(),
            builder: &mut builder,
        };
        let value = context
            .map_node(&node.layer, node.outer)
            .map_err(|problem| ExportError::Layer {
                graph: graph.name.clone(),
                node: node.name.clone(),
                class: node.layer.class(),
                problem,
            })?;
        values.push(value);
    }
    for (output, name) in graph.outputs.iter().zip(&outputs) {
        builder.node("Identity", &[&values[output.value.0]], &[name], name, &[]);
    }
    let forced_dropouts: Vec<String> = graph
        .nodes
        .iter()
        .filter(|n| matches!(&n.layer, Layer::Dropout(d) if d.is_active()))
        .map(|n| n.name.clone())
        .collect();
    let mut proto = Message::default();
    // `GraphProto`: node 1, name 2, initializer 5, input 11, output 12.
    proto.extend(&builder.nodes);
    proto.text(
        2,
        if graph.name.is_empty() {
            "network"
        } else {
            &graph.name
        },
    );
    proto.extend(&builder.initializers);
    for ((name, input), shape) in values.iter().zip(&graph.inputs).zip(&shapes) {
        proto.message(11, &value_info(name, shape, Some(&input.name)));
    }
    for (name, output) in outputs.iter().zip(&graph.outputs) {
        proto.message(12, &value_info(name, &shapes[output.value.0], None));
    }
    // `ModelProto`: ir_version 1, producer_name 2, producer_version 3, graph 7, opset_import 8,
    // metadata_props 14.
    let mut model = Message::default();
    model
        .int(1, IR_VERSION)
        .text(2, "maeum")
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, &proto);
    let mut opset = Message::default();
    opset.text(1, "").int(2, OPSET);
    model.message(8, &opset);
    let mut property = |key: &str, value: &str| {
        let mut entry = Message::default();
        entry.text(1, key).text(2, value);
        model.message(14, &entry);
    };
    property("source_file", &provenance.file);
    property("source_sha256", &provenance.sha256);
    if let Some(version) = &provenance.keras_version {
        property("keras_version", version);
    }
    if !forced_dropouts.is_empty() {
        property("dropout_exported_as_off", &forced_dropouts.join(", "));
    }
    if model.len() > MAX_BYTES {
        return Err(ExportError::TooLarge(graph.name.clone()));
    }
    Ok(Exported {
        bytes: model.into_bytes(),
        forced_dropouts,
        renamed_outputs,
    })
}

/// Encodes a `ValueInfoProto`: a tensor of numbers with the batch first. Open dimensions of an input
/// have names, so that callers can give their length.
fn value_info(name: &str, shape: &[Option<usize>], input: Option<&str>) -> Message {
    // `TensorShapeProto.Dimension`: dim_value 1, dim_param 2.
    let mut dims = Message::default();
    let mut dimension = Message::default();
    dimension.text(2, "batch");
    dims.message(1, &dimension);
    for (axis, length) in shape.iter().enumerate() {
        let mut dimension = Message::default();
        match (length, input) {
            (Some(length), _) => {
                dimension.int(1, *length as i64);
            }
            (None, Some(input)) => {
                dimension.text(2, &format!("{input}_dim{}", axis + 1));
            }
            (None, None) => {}
        }
        dims.message(1, &dimension);
    }
    // `TypeProto`: tensor_type 1 with elem_type 1 (1 is FLOAT) and shape 2.
    let mut tensor = Message::default();
    tensor.int(1, 1).message(2, &dims);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut info = Message::default();
    info.text(1, name).message(2, &kind);
    info
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layers::{Activation, Lstm, Padding, Pool, PoolKind, Recurrent};
    use crate::nn::{Input, Node, Output, ValueId, Weight, WeightId};

    fn graph(layer: Layer, shape: &[Option<usize>], weights: Vec<Weight>) -> Graph {
        Graph {
            name: "test".into(),
            inputs: vec![Input {
                name: "x".into(),
                shape: shape.to_vec(),
            }],
            nodes: vec![Node {
                name: "layer".into(),
                layer,
                inputs: vec![ValueId(0)],
                outer: 0,
            }],
            outputs: vec![Output {
                name: "y".into(),
                value: ValueId(1),
            }],
            weights,
        }
    }

    #[test]
    fn activations_that_recurrent_operators_lack_are_computed_step_by_step() {
        let weight = |shape: &[usize]| Weight {
            name: "w".into(),
            shape: shape.to_vec(),
            data: vec![0.0; shape.iter().product()],
        };
        let lstm = |activation| {
            Layer::Lstm(Lstm {
                recurrent: Recurrent {
                    kernel: WeightId(0),
                    recurrent_kernel: WeightId(1),
                    bias: None,
                    activation,
                    recurrent_activation: Activation::Sigmoid,
                    return_sequences: false,
                    go_backwards: false,
                    stateful: false,
                },
            })
        };
        let weights = || vec![weight(&[3, 8]), weight(&[2, 8])];
        let shape = [Some(4), Some(3)];
        let known = graph(lstm(Activation::Tanh), &shape, weights());
        assert!(export(&known, &Provenance::default()).is_ok());
        let unknown = graph(lstm(Activation::Swish), &shape, weights());
        let exported = export(&unknown, &Provenance::default()).unwrap().bytes;
        let operators = |name: &[u8]| exported.windows(name.len()).filter(|w| w == &name).count();
        // The word occurs twice: in the name of the node and as its operator.
        assert_eq!(operators(b"Scan"), 2);
        assert_eq!(operators(b"LSTM"), 0);
    }

    #[test]
    fn dimensions_that_depend_on_open_ones_are_open() {
        let pool = |size| {
            Layer::Pool(Pool {
                kind: PoolKind::Max,
                size: [size, 1],
                strides: [size, 1],
                padding: Padding::Same,
            })
        };
        let open = graph(pool(2), &[None, Some(3)], vec![]);
        let shapes = lengths::shapes(&open).unwrap();
        assert_eq!(shapes, [[None, Some(3)], [None, Some(3)]]);
        let all = graph(Layer::Flatten, &[Some(2), Some(3)], vec![]);
        let shapes = lengths::shapes(&all).unwrap();
        assert_eq!(shapes[1], [Some(6)]);
        // One row for every tried length but the longest.
        let rows = graph(pool(1000), &[None, Some(3)], vec![]);
        assert_eq!(lengths::shapes(&rows).unwrap()[1], [None, Some(3)]);
    }

    #[test]
    fn an_output_with_the_name_of_an_input_is_renamed() {
        let mut same = graph(Layer::Flatten, &[Some(2), Some(3)], vec![]);
        same.outputs[0].name = "x".into();
        let exported = export(&same, &Provenance::default()).unwrap();
        assert_eq!(exported.renamed_outputs, [("x".into(), "x_output".into())]);
    }
}
