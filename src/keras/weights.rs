//! Assignment of a file's weights to layers.
//!
//! A file stores one flat list for each layer of the outermost model, and Keras loads it by
//! position. The trainable weights come first, in the order of the inner layers, followed by the
//! non-trainable weights (`Layer.weights`, `Network.trainable_weights` in Keras 2.2;
//! `_legacy_weights` in tensorflow/keras). All weights of a non-trainable layer or model are
//! non-trainable.
//!
//! This module applies the same rule. Variable names serve only to detect a violation of the order,
//! because they need not match the layers' names. [`by_path`] assigns the weights of the other
//! layout.
//!
//! The file of a whole model pairs layers and lists by name. Separate weights may come from a
//! network whose layers have other, automatic names: if the names differ, lists and layers are paired
//! in order, as `load_weights` does.

mod by_path;

use std::collections::{HashMap, HashSet};

use super::config::{Kind, Model, Spec};
use super::error::Fault;
use super::hdf5::{H5Weight, StoredWeights};
use super::layers::SlotShape;
use crate::nn::graph::{MAX_TOTAL, Weight, WeightId};

/// Position of a weight in the list: a slot of a leaf.
#[derive(Clone, Copy)]
struct WeightSlot<'a> {
    spec: &'a Spec,
    leaf: usize,
    slot: usize,
}

/// Weights of a model's leaves.
#[derive(Default)]
pub struct Assigned {
    /// Weight ids of each leaf, one per slot, by leaf index; `None` if the weights are invalid.
    pub leaf_weights: Vec<Option<Vec<WeightId>>>,
    pub weights: Vec<Weight>,
    /// Elements of the weights that layers made from their options alone.
    made: usize,
    pub faults: Vec<Fault>,
}

/// Rule that pairs the layers of the outermost model with the lists of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching {
    /// Pairs by name.
    ByName,
    /// Pairs by name if all names are equal, otherwise in order.
    ByNameOrOrder,
}

/// Weights of the layers of the outermost model, by layer name.
type Groups = HashMap<String, Vec<H5Weight>>;

/// Assigns the weights of all supported layers.
pub fn assign(model: &Model, leaves: usize, stored: StoredWeights, matching: Matching) -> Assigned {
    let mut assigned = Assigned {
        leaf_weights: vec![None; leaves],
        ..Assigned::default()
    };
    let layers = match stored {
        StoredWeights::ByPath(owners) => {
            by_path::assign(model, owners, &mut assigned);
            prepare(model, &mut assigned);
            return assigned;
        }
        StoredWeights::ByLayer(layers) => layers,
    };
    let mut groups: Groups = match matching {
        Matching::ByName => layers.into_iter().collect(),
        Matching::ByNameOrOrder => match renamed(model, layers) {
            Ok(groups) => groups,
            Err(fault) => {
                assigned.faults.push(fault);
                return assigned;
            }
        },
    };
    for spec in &model.layers {
        let group = groups.remove(&spec.name).unwrap_or_default();
        // An unsupported layer has an unknown number of weights.
        if is_supported(spec) {
            let found = assign_layer(spec, group, &mut assigned);
            assigned.faults.extend(found.err().into_iter().flatten());
        }
    }
    let mut rest: Vec<_> = groups.into_iter().filter(|(_, w)| !w.is_empty()).collect();
    rest.sort_by(|(a, _), (b, _)| a.cmp(b));
    assigned.faults.extend(rest.iter().map(|(layer, weights)| {
        let weights = listing(weights);
        let problem = "which the model does not have";
        Fault::Format(format!(
            "it has weights for a layer {layer:?}, {problem}{weights}"
        ))
    }));
    prepare(model, &mut assigned);
    assigned
}

/// Converts the weights of the layers that store them in another form than the graph.
fn prepare(model: &Model, assigned: &mut Assigned) {
    let mut converted = false;
    for spec in &model.layers {
        converted |= prepare_layer(spec, assigned);
    }
    if !converted {
        return;
    }
    // The conversion leaves stored weights behind that nothing refers to.
    let mut taken: Vec<Option<Weight>> = assigned.weights.drain(..).map(Some).collect();
    let mut moved = vec![None; taken.len()];
    for id in assigned.leaf_weights.iter_mut().flatten().flatten() {
        if let Some(weight) = taken[id.0].take() {
            moved[id.0] = Some(WeightId(assigned.weights.len()));
            assigned.weights.push(weight);
        }
        *id = moved[id.0].unwrap_or(*id);
    }
}

/// Converts the weights of a layer and of those inside it; returns whether there were any to convert.
fn prepare_layer(spec: &Spec, assigned: &mut Assigned) -> bool {
    match &spec.kind {
        Kind::Unsupported => false,
        Kind::Model(model) => {
            let layers = model.layers.iter();
            layers.filter(|l| prepare_layer(l, assigned)).count() > 0
        }
        Kind::TimeDistributed(inner) => prepare_layer(inner, assigned),
        Kind::Bidirectional {
            forward, backward, ..
        } => {
            let first = prepare_layer(forward, assigned);
            prepare_layer(backward, assigned) || first
        }
        Kind::Leaf { id, leaf } => {
            let (Some(prepare), Some(ids)) = (&leaf.prepare, &assigned.leaf_weights[*id]) else {
                return false;
            };
            let stored = ids
                .iter()
                .map(|id| assigned.weights[id.0].clone())
                .collect();
            let made = match assigned.made > MAX_TOTAL {
                true => Err(format!(
                    "the weights that follow from its options and from those of the layers before it have more than {MAX_TOTAL} elements"
                )),
                false => prepare(stored),
            };
            assigned.leaf_weights[*id] = match made {
                Ok(weights) => {
                    if leaf.slots.is_empty() {
                        assigned.made += weights.iter().map(|w| w.data.len()).sum::<usize>();
                    }
                    let first = assigned.weights.len();
                    let ids = (first..first + weights.len()).map(WeightId).collect();
                    assigned.weights.extend(weights);
                    Some(ids)
                }
                Err(problem) => {
                    assigned.faults.push(spec.fault(problem));
                    None
                }
            };
            true
        }
    }
}

/// Gives the lists of separate weights the names of their layers.
///
/// # Errors
/// If names and number of the lists and of the layers with weights differ.
fn renamed(model: &Model, layers: Vec<(String, Vec<H5Weight>)>) -> Result<Groups, Fault> {
    let lists: Vec<(String, Vec<H5Weight>)> =
        layers.into_iter().filter(|(_, w)| !w.is_empty()).collect();
    let owners: Vec<&Spec> = model.layers.iter().filter(|s| has_weights(s)).collect();
    let in_file: HashSet<&str> = lists.iter().map(|(name, _)| &**name).collect();
    let in_model: HashSet<&str> = owners.iter().map(|spec| &*spec.name).collect();
    // The number of weights of an unsupported layer is unknown, which its own fault reports.
    if in_file == in_model || !model.layers.iter().all(is_supported) {
        return Ok(lists.into_iter().collect());
    }
    if lists.len() == owners.len() {
        let names = owners.iter().map(|spec| spec.name.clone());
        return Ok(names.zip(lists.into_iter().map(|(_, w)| w)).collect());
    }
    let only = |these: Vec<&str>, others: &HashSet<&str>| {
        const SHOWN: usize = 12;
        let names: Vec<&str> = these.into_iter().filter(|n| !others.contains(n)).collect();
        let more = if names.len() > SHOWN { ", ..." } else { "" };
        match names.is_empty() {
            true => "none".to_owned(),
            false => format!("{}{more}", names[..names.len().min(SHOWN)].join(", ")),
        }
    };
    Err(Fault::Format(format!(
        "its weights belong to {} layers, but the architecture has {} layers with weights; only in the file: {}; only in the architecture: {}",
        lists.len(),
        owners.len(),
        only(lists.iter().map(|(name, _)| &**name).collect(), &in_model),
        only(owners.iter().map(|spec| &*spec.name).collect(), &in_file),
    )))
}

/// Returns whether a layer, or a layer inside it, has weights.
fn has_weights(spec: &Spec) -> bool {
    match &spec.kind {
        Kind::Unsupported => true,
        Kind::Leaf { leaf, .. } => !leaf.slots.is_empty(),
        Kind::Model(model) => model.layers.iter().any(has_weights),
        Kind::TimeDistributed(inner) => has_weights(inner),
        Kind::Bidirectional {
            forward, backward, ..
        } => has_weights(forward) || has_weights(backward),
    }
}

/// Returns whether a layer and all layers inside it are supported.
fn is_supported(spec: &Spec) -> bool {
    match &spec.kind {
        Kind::Unsupported => false,
        Kind::Leaf { .. } => true,
        Kind::Model(model) => model.layers.iter().all(is_supported),
        Kind::TimeDistributed(inner) => is_supported(inner),
        Kind::Bidirectional {
            forward, backward, ..
        } => is_supported(forward) && is_supported(backward),
    }
}

/// Assigns the weights of a layer of the outermost model.
fn assign_layer(
    spec: &Spec,
    group: Vec<H5Weight>,
    assigned: &mut Assigned,
) -> Result<(), Vec<Fault>> {
    let (mut slots, mut non_trainable) = (Vec::new(), Vec::new());
    collect(spec, &mut slots, &mut non_trainable);
    slots.append(&mut non_trainable);
    if slots.len() != group.len() {
        return Err(vec![spec.fault(format!(
            "it needs {} weights, the file has {} for it{}",
            slots.len(),
            group.len(),
            listing(&group)
        ))]);
    }
    let mut prefixes = HashMap::new();
    let faults: Vec<Fault> = slots
        .iter()
        .zip(&group)
        .filter_map(|(target, weight)| {
            check(target, weight, prefixes.entry(target.leaf).or_default()).err()
        })
        .collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    leaves(spec, &mut |leaf| {
        assigned.leaf_weights[leaf] = Some(Vec::new())
    });
    let first = assigned.weights.len();
    for (i, target) in slots.iter().enumerate() {
        let ids = assigned.leaf_weights[target.leaf].get_or_insert_default();
        if ids.len() <= target.slot {
            ids.resize(target.slot + 1, WeightId(usize::MAX));
        }
        ids[target.slot] = WeightId(first + i);
    }
    let weights = slots.iter().zip(group).map(|(target, weight)| Weight {
        name: format!("{}/{}", target.spec.path, part(target)),
        shape: weight.shape,
        data: weight.data,
    });
    assigned.weights.extend(weights);
    Ok(())
}

/// Calls `each` with the index of every leaf of a layer.
fn leaves(spec: &Spec, each: &mut dyn FnMut(usize)) {
    match &spec.kind {
        Kind::Unsupported => {}
        Kind::Leaf { id, .. } => each(*id),
        Kind::Model(model) => {
            for layer in &model.layers {
                leaves(layer, each);
            }
        }
        Kind::TimeDistributed(inner) => leaves(inner, each),
        Kind::Bidirectional {
            forward, backward, ..
        } => {
            leaves(forward, each);
            leaves(backward, each);
        }
    }
}

/// Appends the weights of a layer in Keras' order: trainable, then non-trainable.
fn collect<'a>(
    spec: &'a Spec,
    trainable: &mut Vec<WeightSlot<'a>>,
    non_trainable: &mut Vec<WeightSlot<'a>>,
) {
    let (mut own_trainable, mut own_non_trainable) = (Vec::new(), Vec::new());
    match &spec.kind {
        Kind::Leaf { id, leaf } => {
            for (slot, s) in leaf.slots.iter().enumerate() {
                let list = if s.trainable {
                    &mut own_trainable
                } else {
                    &mut own_non_trainable
                };
                list.push(WeightSlot {
                    spec,
                    leaf: *id,
                    slot,
                });
            }
        }
        Kind::Model(model) => {
            for layer in &model.layers {
                collect(layer, &mut own_trainable, &mut own_non_trainable);
            }
        }
        Kind::TimeDistributed(inner) => collect(inner, &mut own_trainable, &mut own_non_trainable),
        Kind::Unsupported => {}
        Kind::Bidirectional {
            forward, backward, ..
        } => {
            collect(forward, &mut own_trainable, &mut own_non_trainable);
            collect(backward, &mut own_trainable, &mut own_non_trainable);
        }
    }
    if spec.trainable {
        trainable.append(&mut own_trainable);
    } else {
        non_trainable.append(&mut own_trainable);
    }
    non_trainable.append(&mut own_non_trainable);
}

fn part(target: &WeightSlot) -> &'static str {
    match &target.spec.kind {
        Kind::Leaf { leaf, .. } => leaf.slots[target.slot].part,
        _ => "weight",
    }
}

/// Checks the shape and name of a weight against its slot, and that its values are finite. `prefix`
/// is the name prefix of the layer's weights, once it is known.
fn check(target: &WeightSlot, weight: &H5Weight, prefix: &mut Option<String>) -> Result<(), Fault> {
    check_values(target, weight)?;
    let part = part(target);
    let name = weight.name.split(':').next().unwrap_or(&weight.name);
    // A part such as `query/kernel` is as many levels of the name.
    let levels = part.matches('/').count();
    let split = name.rmatch_indices('/').nth(levels).map(|(at, _)| at);
    let (scope, variable) = split.map_or(("", name), |at| (&name[..at], &name[at + 1..]));
    // TensorFlow appends a number to make a name unique.
    let plain = variable.trim_end_matches(|c: char| c.is_ascii_digit());
    let named = variable == part || plain.strip_suffix('_') == Some(part);
    let same_scope = prefix.get_or_insert_with(|| scope.into()) == scope;
    match named && same_scope {
        true => Ok(()),
        false => Err(target.spec.fault(format!(
            "in its place for {part} the file has {:?}; the order of the weights is not understood",
            weight.name
        ))),
    }
}

/// Checks the shape of a weight against its slot, and that its values are finite.
fn check_values(target: &WeightSlot, weight: &H5Weight) -> Result<(), Fault> {
    let Kind::Leaf { leaf, .. } = &target.spec.kind else {
        return Ok(());
    };
    let slot = &leaf.slots[target.slot];
    if matches!(slot.shape, SlotShape::Unused) {
        return Ok(());
    }
    if let Some(problem) = &weight.problem {
        return Err(target.spec.fault(format!("its {}: {problem}", slot.part)));
    }
    if !slot.shape.fits(&weight.shape) {
        return Err(target.spec.fault(format!(
            "its {} should have shape {}, but {:?} has {:?}",
            slot.part, slot.shape, weight.name, weight.shape
        )));
    }
    if let Some(x) = weight.data.iter().find(|x| !x.is_finite()) {
        return Err(target.spec.fault(format!(
            "its {} ({:?}) contains {x}; the training failed or the file is damaged",
            slot.part, weight.name
        )));
    }
    Ok(())
}

fn listing(weights: &[H5Weight]) -> String {
    if weights.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = weights.iter().take(8).map(|w| w.name.as_str()).collect();
    let more = if weights.len() > names.len() {
        ", ..."
    } else {
        ""
    };
    format!(" ({}{more})", names.join(", "))
}
