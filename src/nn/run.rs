//! Runs a graph on named arrays.

use std::sync::Arc;

use super::bundle::MAX_FLOPS;
use super::cost;
use super::dropout::DropoutMode;
use super::graph::{Graph, GraphError, Input};
use super::npz::{Array, MAX_NUMBERS};
use super::plan::Plan;
use super::session::{RunError, Session};

/// Error of running a graph on named arrays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArraysError {
    /// An input has no array of its name.
    #[error(
        "the array {name:?} is missing; graph {graph} needs {needed}, given are {given}. An input's array has the batch as its first dimension"
    )]
    Missing {
        /// [`Graph::name`].
        graph: String,
        /// [`Input::name`].
        name: String,
        /// Names of all the graph's inputs.
        needed: String,
        /// Names of the supplied arrays.
        given: String,
    },
    /// An array has no input of its name.
    #[error("the array {name:?} is no input of graph {graph}, which takes {needed}; leave it out")]
    Extra {
        /// [`Graph::name`].
        graph: String,
        /// The array's name.
        name: String,
        /// Names of all the graph's inputs.
        needed: String,
    },
    /// An array is not `[batch, ...]` with the input's dimensions, or is empty.
    #[error(
        "the array {name:?} has shape {given:?}; graph {graph} needs {needed}, the batch first"
    )]
    Shape {
        /// [`Graph::name`].
        graph: String,
        /// [`Input::name`].
        name: String,
        /// The array's shape.
        given: Vec<usize>,
        /// The input's shape as text, `?` for an open dimension.
        needed: String,
    },
    /// Two arrays have different numbers of rows.
    #[error(
        "the array {name:?} has {given} rows, {first:?} has {batch}; give all inputs the same batch"
    )]
    Batch {
        /// The input whose array differs.
        name: String,
        /// Rows of that array.
        given: usize,
        /// The graph's first input.
        first: String,
        /// Rows of the first input's array.
        batch: usize,
    },
    /// The graph is invalid or does not take these shapes.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// More arithmetic than [`MAX_FLOPS`]; give shorter inputs.
    #[error(
        "graph {graph} needs {flops} operations per row for these shapes; at most {MAX_FLOPS} are done"
    )]
    TooSlow {
        /// [`Graph::name`].
        graph: String,
        /// Floating-point operations per row, as [`cost::flops`] counts them.
        flops: u64,
    },
    /// The outputs together would hold more than [`MAX_NUMBERS`] elements.
    #[error(
        "the outputs would hold more than {MAX_NUMBERS} numbers; give fewer rows or draw less often"
    )]
    TooLarge,
    /// A graph was to be run with states, and has no stateful layers.
    #[error("graph {graph} has no stateful layers; run it without states")]
    NoStates {
        /// [`Graph::name`].
        graph: String,
    },
    /// The given states are not those of the graph.
    #[error("{0}")]
    States(Box<ArraysError>),
    /// The engine rejects the run.
    #[error("graph {graph}: {source}")]
    Run {
        /// [`Graph::name`].
        graph: String,
        /// The reason.
        source: RunError,
    },
}

/// Elements per value and chunk; longer batches run in chunks. Rows are independent, so the chunk
/// size does not change the results.
const PART: usize = 1 << 22;

/// Computes the outputs of `graph`, by name. The first dimension of each array is the batch. With
/// `n` draws, the outputs have the shape `[batch, n, ...]`; the draws of a graph without forced
/// dropout are equal.
///
/// `names` lists the available arrays and `read` loads one of them.
///
/// # Errors
/// Names the array that is missing, not needed, or of the wrong shape.
pub fn run<E: From<ArraysError>>(
    graph: &Graph,
    names: &[&str],
    mut read: impl FnMut(&str) -> Result<Array, E>,
    dropout: &DropoutMode,
) -> Result<Vec<(String, Array)>, E> {
    check_names(&graph.name, &graph.inputs, names)?;
    let arrays = graph
        .inputs
        .iter()
        .map(|i| read(&i.name))
        .collect::<Result<Vec<_>, E>>()?;
    Ok(compute(graph, &arrays, dropout)?)
}

/// Named arrays.
pub type NamedArrays = Vec<(String, Array)>;

/// [`run`] for a graph with stateful layers, with dropout off; returns the outputs, and the states after the last
/// step.
///
/// `states` are those after an earlier run, in any order; without them all states are zeros.
///
/// # Errors
/// As [`run`] and [`Graph::with_states`]; faults of the states are [`ArraysError::States`].
pub fn run_with_states<E: From<ArraysError>>(
    graph: &Graph,
    names: &[&str],
    mut read: impl FnMut(&str) -> Result<Array, E>,
    states: Option<NamedArrays>,
) -> Result<(NamedArrays, NamedArrays), E> {
    if !graph.is_stateful() {
        let graph = graph.name.clone();
        return Err(ArraysError::NoStates { graph }.into());
    }
    let whole = graph.with_states().map_err(ArraysError::from)?;
    check_names(&graph.name, &graph.inputs, names)?;
    let mut arrays = graph
        .inputs
        .iter()
        .map(|i| read(&i.name))
        .collect::<Result<Vec<_>, E>>()?;
    check_shapes(&graph.name, &graph.inputs, &arrays)?;
    let wanted = &whole.inputs[graph.inputs.len()..];
    let states = match states {
        Some(states) => checked_states(&whole, wanted, states, (&graph.inputs[0].name, &arrays[0]))
            .map_err(|e| ArraysError::States(Box::new(e)))?,
        None => wanted
            .iter()
            .map(|input| {
                let dims = input.shape.iter().flatten().copied();
                let shape: Vec<usize> = [arrays[0].shape[0]].into_iter().chain(dims).collect();
                let data = vec![0.0; shape.iter().product()];
                Array { shape, data }
            })
            .collect(),
    };
    arrays.extend(states);
    let mut outputs = compute(&whole, &arrays, &DropoutMode::Off)?;
    let states = outputs.split_off(graph.outputs.len());
    Ok((outputs, states))
}

/// Returns the states in the order of the inputs `wanted`.
fn checked_states(
    graph: &Graph,
    wanted: &[Input],
    states: NamedArrays,
    (first, inputs): (&str, &Array),
) -> Result<Vec<Array>, ArraysError> {
    let names: Vec<&str> = states.iter().map(|(name, _)| &**name).collect();
    check_names(&graph.name, wanted, &names)?;
    let arrays: Vec<Array> = wanted
        .iter()
        .filter_map(|input| states.iter().find(|(name, _)| *name == input.name))
        .map(|(_, array)| array.clone())
        .collect();
    check_shapes(&graph.name, wanted, &arrays)?;
    check_batch(wanted, &arrays, first, inputs.shape[0])?;
    Ok(arrays)
}

/// [`run`] for arrays in memory.
///
/// ```
/// use maeum::nn::npz::Array;
/// use maeum::nn::{DropoutMode, Graph, run};
///
/// fn average(graph: &Graph, batch: usize, inputs: Vec<f32>) -> Result<f32, run::ArraysError> {
///     let shape = vec![batch, inputs.len() / batch];
///     let array = Array { shape, data: inputs };
///     let outputs = run::run_arrays(graph, &[("input_1", array)], &DropoutMode::Off)?;
///     let (_name, output) = &outputs[0];
///     Ok(output.data.iter().sum::<f32>() / output.data.len() as f32)
/// }
/// ```
///
/// # Errors
/// As [`run`].
pub fn run_arrays(
    graph: &Graph,
    arrays: &[(&str, Array)],
    dropout: &DropoutMode,
) -> Result<Vec<(String, Array)>, ArraysError> {
    let names: Vec<&str> = arrays.iter().map(|(name, _)| *name).collect();
    let read = |wanted: &str| {
        let found = arrays.iter().find(|(name, _)| *name == wanted);
        let (_, array) = found.expect("`run` reads the listed names only");
        Ok::<_, ArraysError>(array.clone())
    };
    run(graph, &names, read, dropout)
}

fn check_names(graph: &str, inputs: &[Input], names: &[&str]) -> Result<(), ArraysError> {
    let list = |names: &mut dyn Iterator<Item = &str>| -> String {
        let names: Vec<String> = names.map(|n| format!("{n:?}")).collect();
        match &*names {
            [] => "none".into(),
            _ => names.join(", "),
        }
    };
    let needed = || list(&mut inputs.iter().map(|i| &*i.name));
    if let Some(input) = inputs.iter().find(|i| !names.contains(&&*i.name)) {
        return Err(ArraysError::Missing {
            graph: graph.to_owned(),
            name: input.name.clone(),
            needed: needed(),
            given: list(&mut names.iter().copied()),
        });
    }
    let is_input = |name: &str| inputs.iter().any(|i| i.name == name);
    match names.iter().find(|n| !is_input(n)) {
        Some(&name) => Err(ArraysError::Extra {
            graph: graph.to_owned(),
            name: name.into(),
            needed: needed(),
        }),
        None => Ok(()),
    }
}

fn fits(input: &Input, shape: &[usize]) -> bool {
    shape.len() == input.shape.len() + 1
        && !shape.contains(&0)
        && shape[1..]
            .iter()
            .zip(&input.shape)
            .all(|(&got, want)| want.is_none_or(|want| want == got))
}

fn check_shapes(graph: &str, inputs: &[Input], arrays: &[Array]) -> Result<(), ArraysError> {
    for (input, array) in inputs.iter().zip(arrays) {
        if !fits(input, &array.shape) {
            let dims = input.shape.iter();
            let dims = dims.map(|d| d.map_or("?".into(), |d| d.to_string()));
            let needed: Vec<String> = std::iter::once("batch".into()).chain(dims).collect();
            return Err(ArraysError::Shape {
                graph: graph.to_owned(),
                name: input.name.clone(),
                given: array.shape.clone(),
                needed: format!("[{}]", needed.join(", ")),
            });
        }
    }
    Ok(())
}

/// Checks that all arrays have the `batch` rows of the input `first`.
fn check_batch(
    inputs: &[Input],
    arrays: &[Array],
    first: &str,
    batch: usize,
) -> Result<(), ArraysError> {
    for (input, array) in inputs.iter().zip(arrays) {
        if array.shape[0] != batch {
            return Err(ArraysError::Batch {
                name: input.name.clone(),
                given: array.shape[0],
                first: first.to_owned(),
                batch,
            });
        }
    }
    Ok(())
}

/// Computes the outputs for arrays in the order of the graph's inputs.
fn compute(
    graph: &Graph,
    arrays: &[Array],
    dropout: &DropoutMode,
) -> Result<Vec<(String, Array)>, ArraysError> {
    let name = || graph.name.clone();
    check_shapes(&graph.name, &graph.inputs, arrays)?;
    graph.validate()?;
    let batch = arrays[0].shape[0];
    check_batch(&graph.inputs, arrays, &graph.inputs[0].name, batch)?;
    let shapes: Vec<Vec<usize>> = arrays.iter().map(|a| a.shape[1..].to_vec()).collect();
    let flops = cost::flops(graph, &shapes)?
        .into_iter()
        .fold(0, u64::saturating_add);
    if flops > MAX_FLOPS {
        return Err(ArraysError::TooSlow {
            graph: name(),
            flops,
        });
    }
    let plan = Arc::new(Plan::new(graph, &shapes)?);
    let draws = dropout.rows();
    let numbers = plan
        .outputs()
        .try_fold(0usize, |n, (_, shape)| {
            n.checked_add(shape.iter().product())
        })
        .and_then(|n| n.checked_mul(draws)?.checked_mul(batch));
    if numbers.is_none_or(|n| n > MAX_NUMBERS) {
        return Err(ArraysError::TooLarge);
    }
    let values = graph.infer_shapes(&shapes)?;
    let largest = values.iter().map(|s| s.iter().product::<usize>()).max();
    let rows = (PART / largest.unwrap_or(1) / draws).max(1);
    let mut session = Session::new(&plan);
    let mut data = vec![Vec::new(); graph.outputs.len()];
    for start in (0..batch).step_by(rows) {
        let rows = rows.min(batch - start);
        let inputs: Vec<&[f32]> = arrays
            .iter()
            .map(|a| {
                let row = a.data.len() / batch;
                &a.data[start * row..][..rows * row]
            })
            .collect();
        session
            .run(&inputs, rows, dropout)
            .map_err(|source| ArraysError::Run {
                graph: name(),
                source,
            })?;
        let copies = rows * draws / session.rows();
        for (k, data) in data.iter_mut().enumerate() {
            let output = session.output(k);
            for row in output.chunks_exact(output.len() / session.rows()) {
                data.extend(std::iter::repeat_n(row, copies).flatten());
            }
        }
    }
    let leading: &[usize] = match dropout {
        DropoutMode::Draws { .. } => &[batch, draws],
        DropoutMode::Off | DropoutMode::Masks(_) => &[batch],
    };
    let outputs = plan.outputs().zip(data);
    Ok(outputs
        .map(|((name, shape), data)| {
            let shape = [leading, shape].concat();
            (name.to_owned(), Array { shape, data })
        })
        .collect())
}
