//! Shape inference and validation of a graph.

use std::collections::HashSet;

use super::graph::{Graph, GraphError, MAX_ELEMENTS, MAX_NODES, MAX_RANK, MAX_TOTAL, Node};
use super::layers::shapes::{Problem, open_shape};
use crate::simd::lanes::LANES;

/// See [`Graph::validate`].
pub(super) fn validate(graph: &Graph) -> Result<(), GraphError> {
    let fail = |problem: String| GraphError::Graph {
        graph: graph.name.clone(),
        problem,
    };
    if graph.nodes.len() > MAX_NODES || graph.inputs.len() > MAX_NODES {
        return Err(fail(format!("more than {MAX_NODES} nodes")));
    }
    if graph.inputs.is_empty() || graph.outputs.is_empty() {
        return Err(fail("it needs at least one input and one output".into()));
    }
    let mut names = HashSet::new();
    let inputs = graph.inputs.iter().map(|i| &i.name);
    for name in inputs.chain(graph.nodes.iter().map(|n| &n.name)) {
        if !names.insert(name) {
            return Err(fail(format!("the name {name:?} is used twice")));
        }
    }
    names.clear();
    if let Some(o) = graph.outputs.iter().find(|o| !names.insert(&o.name)) {
        return Err(fail(format!("the output name {:?} is used twice", o.name)));
    }
    for weight in &graph.weights {
        let elements = elements(&weight.shape)
            .map_err(|problem| fail(format!("weight {}: {problem}", weight.name)))?;
        if elements != weight.data.len() {
            return Err(fail(format!(
                "weight {} holds {} numbers, its shape {:?} needs {elements}",
                weight.name,
                weight.data.len(),
                weight.shape
            )));
        }
    }
    let mut packed = 0usize;
    for (i, node) in graph.nodes.iter().enumerate() {
        let known = graph.inputs.len() + i;
        if let Some(v) = node.inputs.iter().find(|v| v.0 >= known) {
            return Err(at(graph, node)(format!(
                "reads value {}, but only {known} values are computed before it",
                v.0
            )));
        }
        if let Some((part, w)) = node
            .layer
            .weights()
            .into_iter()
            .find(|(_, w)| w.0 >= graph.weights.len())
        {
            return Err(at(graph, node)(format!(
                "its {part} is weight {}, but there are {}",
                w.0,
                graph.weights.len()
            )));
        }
        let sizes = node.layer.weights().into_iter();
        packed = sizes
            .map(|(_, w)| packed_size(&graph.weights[w.0].shape))
            .fold(packed, usize::saturating_add);
        if packed > MAX_TOTAL {
            return Err(fail(format!(
                "its nodes read more than {MAX_TOTAL} weights together"
            )));
        }
        if let Some(a) = node.layer.activations().iter().find(|a| !a.is_finite()) {
            return Err(at(graph, node)(format!(
                "its activation {a:?} has a number that is not finite"
            )));
        }
    }
    let values = graph.inputs.len() + graph.nodes.len();
    if let Some(o) = graph.outputs.iter().find(|o| o.value.0 >= values) {
        return Err(fail(format!(
            "output {} is value {}, but there are {values}",
            o.name, o.value.0
        )));
    }
    for input in &graph.inputs {
        let least: Vec<usize> = input.shape.iter().map(|d| d.unwrap_or(1)).collect();
        elements(&least).map_err(|problem| fail(format!("input {}: {problem}", input.name)))?;
    }
    match graph.fixed_input_shapes() {
        Some(shapes) => infer_checked(graph, &shapes).map(drop),
        None => Ok(()),
    }
}

/// See [`Graph::infer_shapes`].
pub(super) fn infer(graph: &Graph, inputs: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, GraphError> {
    let fail = |problem: String| GraphError::Graph {
        graph: graph.name.clone(),
        problem,
    };
    validate(graph)?;
    if inputs.len() != graph.inputs.len() {
        return Err(fail(format!(
            "it has {} inputs, {} were given",
            graph.inputs.len(),
            inputs.len()
        )));
    }
    for (input, given) in graph.inputs.iter().zip(inputs) {
        let fits = input.shape.len() == given.len()
            && input
                .shape
                .iter()
                .zip(given)
                .all(|(want, &got)| want.is_none_or(|want| want == got));
        if !fits {
            return Err(fail(format!(
                "input {} has shape {}, {given:?} was given",
                input.name,
                open_shape(&input.shape)
            )));
        }
        elements(given).map_err(|problem| fail(format!("input {}: {problem}", input.name)))?;
    }
    infer_checked(graph, inputs)
}

fn at<'a>(graph: &'a Graph, node: &'a Node) -> impl Fn(Problem) -> GraphError + 'a {
    move |problem| GraphError::Node {
        graph: graph.name.clone(),
        node: node.name.clone(),
        class: node.layer.class(),
        problem,
    }
}

fn infer_checked(graph: &Graph, inputs: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, GraphError> {
    let mut shapes = inputs.to_vec();
    let sizes = inputs.iter().map(|s| s.iter().product::<usize>());
    let mut total = sizes.fold(0, usize::saturating_add);
    for node in &graph.nodes {
        let fail = at(graph, node);
        let given: Vec<&[usize]> = node.inputs.iter().map(|v| &*shapes[v.0]).collect();
        let shape = node_shape(graph, node, &given).map_err(&fail)?;
        let output = elements(&shape).map_err(&fail)?;
        let (outer, item) = given[0].split_at(node.outer);
        let scratch = node.layer.scratch(&graph.weights, item);
        let scratch = outer.iter().fold(scratch, |n, &d| n.saturating_mul(d));
        total = scratch.saturating_add(output).saturating_add(total);
        if total > MAX_TOTAL {
            return Err(fail(format!(
                "all values up to here hold more than {MAX_TOTAL} numbers"
            )));
        }
        shapes.push(shape);
    }
    Ok(shapes)
}

/// Returns the number of elements of a weight packed for the engine.
fn packed_size(shape: &[usize]) -> usize {
    let (channels, rows) = shape.split_last().unwrap_or((&1, &[]));
    rows.iter()
        .product::<usize>()
        .saturating_mul(channels.next_multiple_of(LANES))
}

/// Returns the number of elements, or an error if the shape is empty or beyond the limits.
fn elements(shape: &[usize]) -> Result<usize, Problem> {
    if shape.len() > MAX_RANK {
        return Err(format!(
            "shape {shape:?} has more than {MAX_RANK} dimensions"
        ));
    }
    if shape.contains(&0) {
        return Err(format!("shape {shape:?} is empty"));
    }
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| format!("shape {shape:?} holds more than {MAX_ELEMENTS} numbers"))
}

fn node_shape(graph: &Graph, node: &Node, given: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    let Some(&first) = given.first() else {
        return Err("it has no input".into());
    };
    let outer = first.get(..node.outer).ok_or_else(|| {
        format!(
            "{} leading dimensions of {first:?} belong to the batch",
            node.outer
        )
    })?;
    let mut items = Vec::with_capacity(given.len());
    for shape in given {
        match shape.strip_prefix(outer) {
            Some(item) => items.push(item),
            None => {
                return Err(format!(
                    "inputs {first:?} and {shape:?} differ in time steps"
                ));
            }
        }
    }
    let item = node.layer.shape(&graph.weights, &items)?;
    let ranks: Vec<usize> = items.iter().map(|x| x.len()).collect();
    debug_assert_eq!(
        item.len(),
        node.layer.rank(&ranks),
        "{}",
        node.layer.class()
    );
    Ok([outer, &item].concat())
}
