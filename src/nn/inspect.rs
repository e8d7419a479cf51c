//! The listing of a graph: a table of its layers, shapes, parameters and costs.

use std::collections::HashMap;
use std::fmt;

use super::cost;
use super::graph::{Graph, WeightId};
use super::layers::Layer;
use super::layers::shapes::open_shape;

/// A shape without the batch, with `None` for what depends on the input.
pub type OpenShape = Vec<Option<usize>>;

/// One node of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// [`Node::name`](super::graph::Node::name).
    pub name: String,
    /// [`Layer::class`].
    pub class: &'static str,
    /// Output shape; `None` if no two lengths were found that the graph's open dimensions can
    /// have.
    pub shape: Option<OpenShape>,
    /// Parameters that no node before has.
    pub parameters: usize,
    /// The first node that uses the same weights.
    pub shared_with: Option<String>,
    /// Per batch row; `None` if it depends on the input's length.
    pub flops: Option<u64>,
    /// A dropout that stays on at inference.
    pub forced: bool,
}

/// A graph, node by node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Name and shape, as [`Row::shape`].
    pub inputs: Vec<(String, OpenShape)>,
    /// Name, the node or input that computes it, and shape.
    pub outputs: Vec<(String, String, Option<OpenShape>)>,
    /// The nodes, in the order of computation.
    pub rows: Vec<Row>,
    /// Each shared weight counted once.
    pub parameters: usize,
    /// Per batch row; `None` if it depends on the input's length.
    pub flops: Option<u64>,
}

/// Lengths that open dimensions are tried with. What is the same for all that fit does not
/// depend on them; they are far enough apart that no rounding makes it look so.
const LENGTHS: [usize; 6] = [1000, 700, 200, 40, 12, 1];

impl Listing {
    /// Lists a valid graph.
    pub fn new(graph: &Graph) -> Self {
        let tried: Vec<(Vec<Vec<usize>>, Vec<u64>)> = LENGTHS
            .iter()
            .filter_map(|&length| {
                let shapes: Vec<Vec<usize>> = graph
                    .inputs
                    .iter()
                    .map(|i| i.shape.iter().map(|d| d.unwrap_or(length)).collect())
                    .collect();
                Some((
                    graph.infer_shapes(&shapes).ok()?,
                    cost::flops(graph, &shapes).ok()?,
                ))
            })
            .take(2)
            .collect();
        // A single length that fits says nothing about what depends on it.
        let known = tried.len() == 2;
        let shape = |value: usize| -> Option<OpenShape> {
            let [(first, _), (second, _)] = &*tried else {
                return None;
            };
            let (a, b) = (&first[value], &second[value]);
            Some(
                a.iter()
                    .zip(b)
                    .map(|(&a, &b)| (a == b).then_some(a))
                    .collect(),
            )
        };
        let flops = |of: &dyn Fn(&[u64]) -> u64| -> Option<u64> {
            let (a, b) = (of(&tried.first()?.1), of(&tried.last()?.1));
            (known && a == b).then_some(a)
        };
        let mut owners: HashMap<WeightId, &str> = HashMap::new();
        let rows = graph.nodes.iter().enumerate().map(|(i, node)| {
            let mut parameters = 0;
            let mut shared_with = None;
            for (_, id) in node.layer.weights() {
                match owners.get(&id) {
                    Some(&owner) if owner != node.name => shared_with = Some(owner.to_owned()),
                    Some(_) => {}
                    None => {
                        owners.insert(id, &node.name);
                        parameters += graph.weights.get(id.0).map_or(0, |w| w.data.len());
                    }
                }
            }
            Row {
                name: node.name.clone(),
                class: node.layer.class(),
                shape: shape(graph.output_of(i).0),
                parameters,
                shared_with,
                flops: flops(&|all| all[i]),
                forced: matches!(&node.layer, Layer::Dropout(d) if d.forced),
            }
        });
        let producer = |value| match graph.producer(value) {
            Some(node) => node.name.clone(),
            None => graph.inputs[value.0].name.clone(),
        };
        Self {
            rows: rows.collect(),
            inputs: graph
                .inputs
                .iter()
                .map(|i| (i.name.clone(), i.shape.clone()))
                .collect(),
            outputs: graph
                .outputs
                .iter()
                .map(|o| (o.name.clone(), producer(o.value), shape(o.value.0)))
                .collect(),
            parameters: graph.parameters(),
            flops: flops(&|all| all.iter().fold(0, |n, &f| n.saturating_add(f))),
        }
    }
}

/// Text from a file, fit for a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn shape_text(shape: Option<&OpenShape>) -> String {
    shape.map_or("?".into(), |s| open_shape(s))
}

/// A count with its thousands set apart, or `?`.
pub(crate) fn count_text(count: Option<u64>) -> String {
    let Some(count) = count else {
        return "?".into();
    };
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, shape) in &self.inputs {
            writeln!(f, "  input   {} {}", clean(name), open_shape(shape))?;
        }
        for (name, producer, shape) in &self.outputs {
            let shape = shape_text(shape.as_ref());
            write!(f, "  output  {} {shape}", clean(name))?;
            match name == producer {
                true => writeln!(f)?,
                false => writeln!(f, ", computed by {}", clean(producer))?,
            }
        }
        let heading = ["layer", "class", "output shape", "parameters", "FLOPs", ""];
        let mut table: Vec<[String; 6]> = vec![heading.map(str::to_owned)];
        for row in &self.rows {
            let mut notes = Vec::new();
            if row.forced {
                notes.push("stays on at inference".to_owned());
            }
            if let Some(owner) = &row.shared_with {
                notes.push(format!("weights of {}", clean(owner)));
            }
            table.push([
                clean(&row.name),
                row.class.to_owned(),
                shape_text(row.shape.as_ref()),
                count_text(Some(row.parameters as u64)),
                count_text(row.flops),
                notes.join(", "),
            ]);
        }
        table.push([
            "total".into(),
            format!("{} layers", self.rows.len()),
            String::new(),
            count_text(Some(self.parameters as u64)),
            count_text(self.flops),
            String::new(),
        ]);
        let width = |column: usize| {
            let cells = table.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        for [name, class, shape, parameters, flops, notes] in &table {
            let [a, b, c, d, e] = widths;
            let line = format!(
                "  {name:a$}  {class:b$}  {shape:c$}  {parameters:>d$}  {flops:>e$}  {notes}"
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
