//! What a graph or a model consists of, as a table for people.

use std::collections::HashMap;
use std::fmt;

use super::cost;
use super::graph::{Graph, WeightId};
use super::layer::Layer;
use super::model::{Model, Network, Preprocessing, Role};
use super::shape::open_shape;

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
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn shape_text(shape: Option<&OpenShape>) -> String {
    shape.map_or("?".into(), |s| open_shape(s))
}

/// A count with its thousands set apart, or `?`.
fn count_text(count: Option<u64>) -> String {
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

/// A network's description: role, origin and [`Listing`].
pub fn network(network: &Network) -> String {
    let p = &network.provenance;
    let or_unknown = |text: &str| match text {
        "" => "unknown".to_owned(),
        _ => clean(text),
    };
    let role = match network.role {
        Role::Network => String::new(),
        role => format!(", role {role}"),
    };
    let self_test = match network.self_test {
        Some(_) => "stored",
        None => "none",
    };
    format!(
        "network {}{role}\n  from {}, Keras {}, backend {}\n  SHA-256 {}\n  self-test: {self_test}\n{}",
        clean(&network.graph.name),
        or_unknown(&p.file),
        or_unknown(p.keras_version.as_deref().unwrap_or_default()),
        or_unknown(p.backend.as_deref().unwrap_or_default()),
        or_unknown(&p.sha256),
        Listing::new(&network.graph)
    )
}

/// A model's description: labels, pre-processing, every network.
pub fn model(model: &Model) -> String {
    let info = model.info();
    let mut lines = vec![format!("model {}", clean(&info.name))];
    if !model.identity().is_empty() {
        lines.push(format!("identity {}", model.identity()));
    }
    let names = |names: &[String]| clean(&names.join(", "));
    if let Some(preprocessing) = info.preprocessing {
        let name = match preprocessing {
            Preprocessing::Reference2020 => "reference_2020",
            Preprocessing::Utterance => "utterance",
        };
        let resampling = info.resampling.name();
        lines.push(format!("pre-processing {name}, {resampling} resampling"));
    }
    if !info.emotions.is_empty() {
        lines.push(format!("emotions {}", names(&info.emotions)));
    }
    if !info.genders.is_empty() {
        lines.push(format!("genders {}", names(&info.genders)));
    }
    if let Some(age) = &info.age {
        let valid = age.valid.map_or(String::new(), |[low, high]| {
            format!(", made for {low} to {high} years")
        });
        lines.push(format!(
            "age in years: output * {} + {}{valid}",
            age.deviation, age.mean
        ));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    for one in model.networks() {
        text.push('\n');
        text.push_str(&network(one));
    }
    let total = model.networks().iter().map(|n| n.graph.parameters() as u64);
    if model.networks().len() > 1 {
        let total = count_text(Some(total.sum()));
        text.push_str(&format!("\nall networks: {total} parameters\n"));
    }
    text
}
