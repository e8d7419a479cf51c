//! Assignment of weights that are stored by the path of their object.
//!
//! The path consists of the snake-case class name of each layer, with `_1`, `_2`, ... for further
//! layers of the same class in the same model, and of the attributes that hold the layers inside
//! wrappers and the cells of recurrent layers: `layers/functional/layers/conv2d_1`,
//! `layers/bidirectional/forward_layer/cell` (`_save_state` and `_save_container_state` in Keras'
//! saving_lib.py). Layer names do not occur. Files of Keras 2.12 to 2.14 name the group of the layers
//! `_layer_checkpoint_dependencies` and count each layer with weights twice, because that dictionary holds
//! it twice.

use std::collections::HashMap;

use super::{Assigned, WeightSlot, check_values, has_weights, is_supported, listing, part};
use crate::keras::config::{Kind, Model, Spec};
use crate::keras::error::Fault;
use crate::keras::hdf5::{H5Weight, LAYERS, OLD_LAYERS};
use crate::keras::layers::Leaf;
use crate::nn::graph::{Weight, WeightId};

/// Assigns the weights of all supported layers of `model`.
pub fn assign(model: &Model, owners: Vec<(String, Vec<H5Weight>)>, assigned: &mut Assigned) {
    let is_old = |(path, _): &(String, Vec<H5Weight>)| path.split('/').next() == Some(OLD_LAYERS);
    let mut store = Store {
        is_old: owners.iter().any(is_old),
        owners: owners.into_iter().collect(),
        unsupported: Vec::new(),
        assigned,
    };
    store.model(model, "");
    let Store {
        mut owners,
        unsupported,
        ..
    } = store;
    owners.retain(|path, _| {
        !is_bookkeeping(path)
            && !unsupported.iter().any(|inside| {
                let rest = path.strip_prefix(&**inside);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    });
    let mut left: Vec<_> = owners.into_iter().collect();
    left.sort_by(|a, b| a.0.cmp(&b.0));
    let faults = left.into_iter().map(|(path, weights)| {
        Fault::Format(format!(
            "it has weights at {path:?}, where the model has no layer with weights{}",
            listing(&weights)
        ))
    });
    assigned.faults.extend(faults);
}

/// Returns whether a path is one of training or of random numbers.
fn is_bookkeeping(path: &str) -> bool {
    const TOP: [&str; 4] = ["optimizer", "metrics", "_metrics", "_compile_metrics"];
    let mut parts = path.split('/');
    TOP.contains(&parts.next().unwrap_or_default())
        || path.split('/').any(|part| part.ends_with("seed_generator"))
}

struct Store<'a> {
    /// Set for the layout of Keras 2.12 to 2.14.
    is_old: bool,
    /// Weights that have not been assigned, by path.
    owners: HashMap<String, Vec<H5Weight>>,
    /// Paths of unsupported layers.
    unsupported: Vec<String>,
    assigned: &'a mut Assigned,
}

impl Store<'_> {
    /// Assigns the weights of a model; `prefix` is its path and a slash, or empty.
    fn model(&mut self, model: &Model, prefix: &str) {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for spec in &model.layers {
            if spec.is_operation {
                // Operations are not counted, and have no weights.
                if let Kind::Leaf { id, .. } = spec.kind {
                    self.assigned.leaf_weights[id] = Some(Vec::new());
                }
                continue;
            }
            let name = snake_case(match &*spec.class {
                "Model" => "Functional",
                class => class,
            });
            let count = counts.entry(name.clone()).or_default();
            let group = if self.is_old { OLD_LAYERS } else { LAYERS };
            let path = match *count {
                0 => format!("{prefix}{group}/{name}"),
                n => format!("{prefix}{group}/{name}_{n}"),
            };
            *count += if self.is_old && has_weights(spec) {
                2
            } else {
                1
            };
            self.layer(spec, &path);
        }
    }

    fn layer(&mut self, spec: &Spec, path: &str) {
        match &spec.kind {
            Kind::Unsupported => self.unsupported.push(path.into()),
            Kind::Model(model) => self.model(model, &format!("{path}/")),
            Kind::TimeDistributed(inner) => self.layer(inner, &format!("{path}/layer")),
            Kind::Bidirectional {
                forward, backward, ..
            } => {
                self.layer(forward, &format!("{path}/forward_layer"));
                self.layer(backward, &format!("{path}/backward_layer"));
            }
            Kind::Leaf { id, .. } => {
                let found = self.leaf(spec, *id, path);
                self.assigned
                    .faults
                    .extend(found.err().into_iter().flatten());
            }
        }
    }

    /// Returns the weights of a layer that holds each projection, such as `query`, in a layer of its own:
    /// `query_dense`, or `output_dense` for the output.
    fn parts(&mut self, leaf: &Leaf, path: &str) -> Vec<H5Weight> {
        let mut owners: Vec<&str> = leaf
            .slots
            .iter()
            .filter_map(|slot| slot.part.split('/').next())
            .collect();
        owners.dedup();
        let weights = owners.into_iter().flat_map(|owner| {
            let owner = if owner == "attention_output" {
                "output"
            } else {
                owner
            };
            let found = self.owners.remove(&format!("{path}/{owner}_dense"));
            found.unwrap_or_default()
        });
        weights.collect()
    }

    fn leaf(&mut self, spec: &Spec, id: usize, path: &str) -> Result<(), Vec<Fault>> {
        debug_assert!(is_supported(spec));
        let Kind::Leaf { leaf, .. } = &spec.kind else {
            return Ok(());
        };
        let slots: Vec<WeightSlot> = (0..leaf.slots.len())
            .map(|slot| WeightSlot {
                spec,
                leaf: id,
                slot,
            })
            .collect();
        if !has_weights(spec) {
            self.assigned.leaf_weights[id] = Some(Vec::new());
            return Ok(());
        }
        let weights = match leaf.slots[0].part.contains('/') {
            true => self.parts(leaf, path),
            // A recurrent layer holds its weights in its cell.
            false => self
                .owners
                .remove(path)
                .or_else(|| self.owners.remove(&format!("{path}/cell")))
                .unwrap_or_default(),
        };
        if weights.len() != slots.len() {
            return Err(vec![spec.fault(format!(
                "it needs {} weights, the file has {} for it at {path:?}",
                slots.len(),
                weights.len(),
            ))]);
        }
        let faults: Vec<Fault> = slots
            .iter()
            .zip(&weights)
            .filter_map(|(target, weight)| check_values(target, weight).err())
            .collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let first = self.assigned.weights.len();
        let ids = (first..first + slots.len()).map(WeightId).collect();
        self.assigned.leaf_weights[id] = Some(ids);
        let weights = slots.iter().zip(weights).map(|(target, weight)| Weight {
            name: format!("{}/{}", spec.path, part(target)),
            shape: weight.shape,
            data: weight.data,
        });
        self.assigned.weights.extend(weights);
        Ok(())
    }
}

/// Converts a class name as Keras' `to_snake_case` does: an underscore before a capital that begins
/// a word, and between a small letter and a capital.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    // Positions before which the first substitution, `(.)([A-Z][a-z]+)`, puts an underscore. Matches
    // do not overlap.
    let mut words = Vec::new();
    let mut at = 0;
    while at + 2 < letters.len() {
        let begins = letters[at + 1].is_ascii_uppercase() && letters[at + 2].is_ascii_lowercase();
        if !begins {
            at += 1;
            continue;
        }
        words.push(at + 1);
        at += 2;
        while letters.get(at).is_some_and(char::is_ascii_lowercase) {
            at += 1;
        }
    }
    let mut name = String::new();
    for (i, &c) in letters.iter().enumerate() {
        let after_small = i > 0 && letters[i - 1].is_ascii_lowercase() && c.is_ascii_uppercase();
        if words.contains(&i) || after_small {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn class_names_become_keras_names() {
        // print(to_snake_case(name)) in Keras 3.13.
        for (class, name) in [
            ("Dense", "dense"),
            ("Conv2D", "conv2d"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("GlobalAveragePooling1D", "global_average_pooling1d"),
            ("LSTM", "lstm"),
            ("PReLU", "p_re_lu"),
            ("LeakyReLU", "leaky_re_lu"),
            ("BatchNormalization", "batch_normalization"),
            ("TimeDistributed", "time_distributed"),
            ("DepthwiseConv2D", "depthwise_conv2d"),
            ("MultiHeadAttention", "multi_head_attention"),
            ("ELU", "elu"),
            ("MyRNNCell", "my_rnn_cell"),
        ] {
            assert_eq!(snake_case(class), name);
        }
    }
}
