//! States of stateful recurrent layers as inputs and outputs of a graph.

use std::collections::HashSet;

use super::graph::{Graph, GraphError, Input, Node, Output, ValueId};
use super::layers::{Layer, Reshape, RnnCell, Slice, StatefulRnn};

impl Graph {
    /// Returns true if any recurrent layer is stateful.
    pub fn is_stateful(&self) -> bool {
        self.nodes.iter().any(|node| node.layer.is_stateful())
    }

    /// Returns the graph with the states of its stateful recurrent layers as further inputs and outputs, behind the
    /// others and in the same order. They are called after their layer, `lstm.state0`, and have the shape `[units]`;
    /// an LSTM has its output as `state0` and its cell state as `state1`.
    ///
    /// Inputs of zeros start anew, the outputs of an earlier run continue it, as a stateful layer of Keras does from
    /// one call of its model to the next. A graph without stateful layers is returned as it is.
    ///
    /// # Errors
    /// The graph is invalid, a stateful layer has initial states or several outer dimensions, or the name of a state
    /// is taken.
    pub fn with_states(&self) -> Result<Self, GraphError> {
        self.validate()?;
        let stateful = |node| Stateful::of(node, self).transpose();
        let nodes: Vec<Option<Stateful>> = self
            .nodes
            .iter()
            .map(stateful)
            .collect::<Result<_, GraphError>>()?;
        let states: Vec<Input> = nodes.iter().flatten().flat_map(Stateful::inputs).collect();
        let mut made = Self {
            name: self.name.clone(),
            inputs: [&*self.inputs, &*states].concat(),
            weights: self.weights.clone(),
            ..Self::default()
        };
        // For each value of this graph, the one that replaces it.
        let mut values: Vec<ValueId> = (0..self.inputs.len()).map(ValueId).collect();
        let mut next_state = self.inputs.len();
        let mut last_states = Vec::new();
        let mut used_names: HashSet<String> = self.nodes.iter().map(|n| n.name.clone()).collect();
        used_names.extend(made.inputs.iter().map(|i| i.name.clone()));
        for (node, stateful) in self.nodes.iter().zip(&nodes) {
            let inputs: Vec<ValueId> = node.inputs.iter().map(|v| values[v.0]).collect();
            let Some(stateful) = stateful else {
                made.nodes.push(Node {
                    inputs,
                    ..node.clone()
                });
                values.push(made.output_of(made.nodes.len() - 1));
                continue;
            };
            let first = next_state;
            next_state += stateful.layer.cell.states();
            let inputs = inputs.into_iter().chain((first..next_state).map(ValueId));
            let (output, states) = stateful.add(inputs.collect(), node, &mut made, &mut used_names);
            values.push(output);
            last_states.extend(states);
        }
        made.outputs = self
            .outputs
            .iter()
            .map(|output| Output {
                value: values[output.value.0],
                ..output.clone()
            })
            .collect();
        let names = states.into_iter().map(|state| state.name);
        made.outputs.extend(
            names
                .zip(last_states)
                .map(|(name, value)| Output { name, value }),
        );
        made.validate()?;
        Ok(made)
    }
}

impl Layer {
    /// Returns true for a recurrent layer that continues from the states of the last run.
    pub fn is_stateful(&self) -> bool {
        self.stateful_cell().is_some()
    }

    /// Returns the cell of a recurrent layer that continues from the states of the last run.
    fn stateful_cell(&self) -> Option<RnnCell> {
        let cell = match self {
            Self::Lstm(lstm) => RnnCell::Lstm(lstm.clone()),
            Self::Gru(gru) => RnnCell::Gru(gru.clone()),
            Self::SimpleRnn(rnn) => RnnCell::SimpleRnn(rnn.clone()),
            Self::StatefulRnn(rnn) => rnn.cell.clone(),
            _ => return None,
        };
        let stateful = match &cell {
            RnnCell::Lstm(lstm) => lstm.recurrent.stateful,
            RnnCell::Gru(gru) => gru.recurrent.stateful,
            RnnCell::SimpleRnn(rnn) => rnn.stateful,
        };
        stateful.then_some(cell)
    }
}

/// A stateful layer with its states as inputs and outputs.
struct Stateful {
    layer: StatefulRnn,
    /// Name of the layer in the names of its states.
    name: String,
    units: usize,
    /// Set if the layer returned its states before.
    returned_states: bool,
}

impl Stateful {
    /// Returns `None` for a node whose layer is not stateful.
    fn of(node: &Node, graph: &Graph) -> Option<Result<Self, GraphError>> {
        let cell = node.layer.stateful_cell()?;
        Some(Self::with_cell(cell, node, graph))
    }

    fn with_cell(cell: RnnCell, node: &Node, graph: &Graph) -> Result<Self, GraphError> {
        let rest = match &node.layer {
            Layer::StatefulRnn(rnn) => Some(rnn),
            _ => None,
        };
        let fault = |problem: &str| GraphError::Node {
            graph: graph.name.clone(),
            node: node.name.clone(),
            class: node.layer.class(),
            problem: problem.into(),
        };
        if rest.is_some_and(|rnn| rnn.initial_state) {
            return Err(fault(
                "it is stateful and reads initial states from the model, which leaves open the states that it continues from; run the model without states",
            ));
        }
        if node.outer > 0 {
            return Err(fault(
                "it is stateful and runs for each step of another layer, so it has no states of a run; run the model without states",
            ));
        }
        // Shapes of a graph with open dimensions are not validated.
        let Some(&units) = graph.weights[cell.recurrent_kernel().0].shape.first() else {
            return Err(fault("its recurrent kernel has no dimensions"));
        };
        let inside = format!("/{}", node.layer.class());
        let name = match rest {
            Some(rnn) if rnn.return_state => node.name.strip_suffix(&inside),
            _ => None,
        };
        Ok(Self {
            units,
            name: name.unwrap_or(&node.name).into(),
            returned_states: rest.is_some_and(|rnn| rnn.return_state),
            layer: StatefulRnn {
                masked: rest.is_some_and(|rnn| rnn.masked),
                zero_skipped_output: rest.is_some_and(|rnn| rnn.zero_skipped_output),
                cell,
                initial_state: true,
                return_state: true,
            },
        })
    }

    fn inputs(&self) -> impl Iterator<Item = Input> {
        (0..self.layer.cell.states()).map(|k| Input {
            name: format!("{}.state{k}", self.name),
            shape: vec![Some(self.units)],
        })
    }

    /// Adds the nodes to `graph`; returns the value that replaces the output of `node`, and the last states.
    fn add(
        &self,
        inputs: Vec<ValueId>,
        node: &Node,
        graph: &mut Graph,
        used_names: &mut HashSet<String>,
    ) -> (ValueId, Vec<ValueId>) {
        let mut push = |name: String, layer: Layer, inputs: Vec<ValueId>| {
            graph.nodes.push(Node {
                name,
                layer,
                inputs,
                outer: 0,
            });
            graph.output_of(graph.nodes.len() - 1)
        };
        let mut inside = |part: &str| {
            let base = format!("{}/{part}", node.name);
            let mut name = base.clone();
            let mut n = 0;
            while !used_names.insert(name.clone()) {
                n += 1;
                name = format!("{base}_{n}");
            }
            name
        };
        let slice = |start: i64, stop: Option<i64>| {
            Layer::Slice(Slice {
                axis: 0,
                start,
                stop,
                step: 1,
            })
        };
        let layer = Layer::StatefulRnn(self.layer.clone());
        let (units, states) = (self.units as i64, self.layer.cell.states() as i64);
        let (all, output) = if self.returned_states {
            let all = push(node.name.clone(), layer, inputs);
            (all, all)
        } else {
            let all = push(inside(layer.class()), layer, inputs);
            let mut output = (slice(0, Some(-units * states)), all);
            if self.layer.cell.returns_sequences() {
                let steps = push(inside("steps"), output.0, vec![all]);
                let shape = vec![None, Some(self.units)];
                output = (Layer::Reshape(Reshape { shape }), steps);
            }
            (all, push(node.name.clone(), output.0, vec![output.1]))
        };
        let last = (0..states).map(|k| {
            let start = (k - states) * units;
            let stop = Some(start + units).filter(|&stop| stop < 0);
            push(inside(&format!("state{k}")), slice(start, stop), vec![all])
        });
        (output, last.collect())
    }
}
