//! Which weight of a file belongs to which layer.
//!
//! A file keeps, for each layer of the outermost model, one flat list. Keras loads it by position:
//! first the weights that training changes, in the order of the layers inside, then the others
//! (`Layer.weights`, `Network.trainable_weights` in Keras 2.2; `_legacy_weights` in
//! tensorflow/keras). A layer or model that is not trainable counts all its weights among the
//! others. The same rule is followed here; the names of the variables are only used to notice
//! when it does not hold, because they need not match the layers' names.

use super::config::{Kind, Model, Spec};
use super::error::Fault;
use super::hdf5::H5Weight;
use crate::nn::graph::{Weight, WeightId};

/// A weight that a layer waits for.
#[derive(Clone, Copy)]
struct Place<'a> {
    spec: &'a Spec,
    leaf: usize,
    slot: usize,
}

/// The weights of a model's leaves.
#[derive(Default)]
pub struct Assigned {
    /// For each leaf (by its number) the ids of its weights, one per slot; `None` where they are not
    /// right.
    pub of_leaf: Vec<Option<Vec<WeightId>>>,
    pub weights: Vec<Weight>,
    pub faults: Vec<Fault>,
}

/// Finds the weights of all layers that are understood.
pub fn assign(model: &Model, leaves: usize, layers: Vec<(String, Vec<H5Weight>)>) -> Assigned {
    let mut assigned = Assigned {
        of_leaf: vec![None; leaves],
        ..Assigned::default()
    };
    let mut groups: std::collections::HashMap<String, Vec<H5Weight>> = layers.into_iter().collect();
    for spec in &model.layers {
        let group = groups.remove(&spec.name).unwrap_or_default();
        // How many weights belong to a layer that is not understood is not known.
        if is_whole(spec) {
            let found = of_layer(spec, group, &mut assigned);
            assigned.faults.extend(found.err().into_iter().flatten());
        }
    }
    if let Some((layer, weights)) = groups.into_iter().find(|(_, w)| !w.is_empty()) {
        assigned.faults.push(Fault::Format(format!(
            "it has weights for a layer {layer:?}, which the model does not have{}",
            listing(&weights)
        )));
    }
    assigned
}

/// Whether a layer and all inside it are understood.
fn is_whole(spec: &Spec) -> bool {
    match &spec.kind {
        Kind::Refused => false,
        Kind::Leaf { .. } => true,
        Kind::Model(model) => model.layers.iter().all(is_whole),
        Kind::TimeDistributed(inner) => is_whole(inner),
        Kind::Bidirectional {
            forward, backward, ..
        } => is_whole(forward) && is_whole(backward),
    }
}

/// Assigns the weights of a layer of the outermost model.
fn of_layer(spec: &Spec, group: Vec<H5Weight>, assigned: &mut Assigned) -> Result<(), Vec<Fault>> {
    let (mut places, mut others) = (Vec::new(), Vec::new());
    collect(spec, &mut places, &mut others);
    places.append(&mut others);
    if places.len() != group.len() {
        return Err(vec![spec.fault(format!(
            "it needs {} weights, the file has {} for it{}",
            places.len(),
            group.len(),
            listing(&group)
        ))]);
    }
    let mut prefixes = std::collections::HashMap::new();
    let faults: Vec<Fault> = places
        .iter()
        .zip(&group)
        .filter_map(|(place, weight)| {
            check(place, weight, prefixes.entry(place.leaf).or_default()).err()
        })
        .collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    leaves(spec, &mut |leaf| assigned.of_leaf[leaf] = Some(Vec::new()));
    let first = assigned.weights.len();
    for (i, place) in places.iter().enumerate() {
        let ids = assigned.of_leaf[place.leaf].get_or_insert_default();
        if ids.len() <= place.slot {
            ids.resize(place.slot + 1, WeightId(usize::MAX));
        }
        ids[place.slot] = WeightId(first + i);
    }
    let weights = places.iter().zip(group).map(|(place, weight)| Weight {
        name: format!("{}/{}", place.spec.path, part(place)),
        shape: weight.shape,
        data: weight.data,
    });
    assigned.weights.extend(weights);
    Ok(())
}

/// Calls `each` with the number of every leaf of a layer.
fn leaves(spec: &Spec, each: &mut dyn FnMut(usize)) {
    match &spec.kind {
        Kind::Refused => {}
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

/// Appends the weights of a layer in Keras' order: those that training changes, and the others.
fn collect<'a>(spec: &'a Spec, trainable: &mut Vec<Place<'a>>, others: &mut Vec<Place<'a>>) {
    let (mut mine, mut rest) = (Vec::new(), Vec::new());
    match &spec.kind {
        Kind::Leaf { id, leaf } => {
            for (slot, s) in leaf.slots.iter().enumerate() {
                let list = if s.trainable { &mut mine } else { &mut rest };
                list.push(Place {
                    spec,
                    leaf: *id,
                    slot,
                });
            }
        }
        Kind::Model(model) => {
            for layer in &model.layers {
                collect(layer, &mut mine, &mut rest);
            }
        }
        Kind::TimeDistributed(inner) => collect(inner, &mut mine, &mut rest),
        Kind::Refused => {}
        Kind::Bidirectional {
            forward, backward, ..
        } => {
            collect(forward, &mut mine, &mut rest);
            collect(backward, &mut mine, &mut rest);
        }
    }
    if spec.trainable {
        trainable.append(&mut mine);
    } else {
        others.append(&mut mine);
    }
    others.append(&mut rest);
}

fn part(place: &Place) -> &'static str {
    match &place.spec.kind {
        Kind::Leaf { leaf, .. } => leaf.slots[place.slot].part,
        _ => "weight",
    }
}

/// Fails if the shape or the name of a weight contradicts its place, or if it is not finite. `prefix` is what the names of
/// the layer's weights begin with, as soon as one is known.
fn check(place: &Place, weight: &H5Weight, prefix: &mut Option<String>) -> Result<(), Fault> {
    let Kind::Leaf { leaf, .. } = &place.spec.kind else {
        return Ok(());
    };
    let slot = &leaf.slots[place.slot];
    if let Some(problem) = &weight.problem {
        return Err(place.spec.fault(format!("its {}: {problem}", slot.part)));
    }
    if !slot.shape.fits(&weight.shape) {
        return Err(place.spec.fault(format!(
            "its {} should have shape {}, but {:?} has {:?}",
            slot.part, slot.shape, weight.name, weight.shape
        )));
    }
    if let Some(x) = weight.data.iter().find(|x| !x.is_finite()) {
        return Err(place.spec.fault(format!(
            "its {} ({:?}) contains {x}; the training failed or the file is damaged",
            slot.part, weight.name
        )));
    }
    let (scope, variable) = weight.name.rsplit_once('/').unwrap_or(("", &weight.name));
    let variable = variable.split(':').next().unwrap_or(variable);
    // TensorFlow makes a name unique with a number at its end.
    let plain = variable.trim_end_matches(|c: char| c.is_ascii_digit());
    let named = variable == slot.part || plain.strip_suffix('_') == Some(slot.part);
    let same_scope = prefix.get_or_insert_with(|| scope.into()) == scope;
    match named && same_scope {
        true => Ok(()),
        false => Err(place.spec.fault(format!(
            "in its place for {} the file has {:?}; the order of the weights is not understood",
            slot.part, weight.name
        ))),
    }
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
