//! Resolution of the references in a functional model to uses of layers.

use std::collections::{BTreeSet, HashMap};

use super::{Dialect, Kind, Source, Spec, Step};

/// Reference to an output: layer name, index of the use, index of the output.
pub struct Reference<'a> {
    pub layer: &'a str,
    pub node: usize,
    pub tensor: usize,
}

/// One use of a layer, with its unresolved references.
pub struct LayerUse<'a> {
    pub layer: usize,
    pub repetition: usize,
    /// The inputs, and then the masks of those in `masks`.
    pub inputs: Vec<Reference<'a>>,
    /// Inputs whose masks are call arguments, by index.
    pub masks: Vec<usize>,
    pub training: Option<bool>,
}

/// Entity with a given layer name.
#[derive(Clone, Copy)]
pub enum NamedEntity {
    Input(usize),
    Layer(usize),
}

/// Resolver of a model's references.
pub struct Wiring<'a> {
    layers: &'a [Spec],
    uses: &'a [LayerUse<'a>],
    names: &'a HashMap<&'a str, NamedEntity>,
    /// Position among the model's inputs, for each declared input.
    inputs: HashMap<usize, usize>,
    /// First use and number of uses, for each layer.
    ranges: Vec<(usize, usize)>,
    /// Node index that references use for the first use, for each layer.
    bases: Vec<usize>,
    /// Node index that references of the model's outputs use for the first use, for each layer.
    output_bases: Vec<usize>,
}

impl<'a> Wiring<'a> {
    pub fn new(
        layers: &'a [Spec],
        uses: &'a [LayerUse<'a>],
        names: &'a HashMap<&'a str, NamedEntity>,
        order: &[usize],
        outputs: &[Reference],
        dialect: Dialect,
    ) -> Self {
        let mut ranges = vec![(0, 0); layers.len()];
        for (i, u) in uses.iter().enumerate() {
            let (first, count) = &mut ranges[u.layer];
            if *count == 0 {
                *first = i;
            }
            *count += 1;
        }
        let extent = |references: &mut dyn Iterator<Item = &Reference>| {
            let mut lowest = vec![usize::MAX; layers.len()];
            let mut highest = vec![0; layers.len()];
            for r in references {
                if let Some(&NamedEntity::Layer(l)) = names.get(r.layer) {
                    lowest[l] = lowest[l].min(r.node);
                    highest[l] = highest[l].max(r.node);
                }
            }
            (lowest, highest)
        };
        let mut inner = uses.iter().flat_map(|u| &u.inputs);
        // Keras counts a node that a model has from being built with its own inputs, before any
        // use. The lowest and highest node index in the references show whether it was counted. If
        // the references contain neither, the class decides.
        let bases = |(lowest, highest): (Vec<usize>, Vec<usize>), default: Option<bool>| {
            let base = |l: usize| match &layers[l].kind {
                Kind::Model(_) | Kind::Unsupported if lowest[l] == 0 => 0,
                Kind::Model(_) | Kind::Unsupported if highest[l] >= ranges[l].1 => 1,
                Kind::Model(model) => usize::from(match default {
                    // Keras 3 counts this node for functional models alone.
                    Some(counted) => counted && layers[l].class != "Sequential",
                    None => model.built_with_inputs,
                }),
                _ => 0,
            };
            (0..layers.len()).map(base).collect::<Vec<usize>>()
        };
        let (bases, output_bases) = match dialect.keras3 {
            None => {
                let both = bases(extent(&mut inner.chain(outputs)), None);
                (both.clone(), both)
            }
            // From 3.1 on, the layers of a model refer to each other without that node, and the
            // outputs refer to them with it.
            Some(minor) => (
                bases(extent(&mut inner), Some(minor == 0)),
                bases(extent(&mut outputs.iter()), Some(true)),
            ),
        };
        Self {
            bases,
            output_bases,
            inputs: order.iter().enumerate().map(|(to, &i)| (i, to)).collect(),
            layers,
            uses,
            names,
            ranges,
        }
    }

    /// Resolves a reference to the use with that node index.
    fn resolve(&self, r: &Reference, bases: &[usize]) -> Result<Source, String> {
        match self.names.get(r.layer) {
            Some(NamedEntity::Input(i)) => match self.inputs.get(i) {
                Some(&i) if r.node == 0 && r.tensor == 0 => Ok(Source::Input(i)),
                _ => Err(format!("{:?} is read but is none of its inputs", r.layer)),
            },
            Some(&NamedEntity::Layer(l)) => {
                let (first, count) = self.ranges[l];
                match r.node.checked_sub(bases[l]) {
                    Some(n) if n < count => Ok(Source::Step {
                        step: first + n,
                        tensor: r.tensor,
                    }),
                    _ => Err(format!(
                        "use {} of layer {:?} is read, but it is used {count} time(s)",
                        r.node, r.layer
                    )),
                }
            }
            None => Err(format!("layer {:?} is read but does not exist", r.layer)),
        }
    }

    /// Sorts the uses topologically, as close as possible to the order in the file. Returns the
    /// steps and the sources of the given outputs.
    pub fn sort_topologically(
        &self,
        outputs: &[Reference],
    ) -> Result<(Vec<Step>, Vec<Source>), String> {
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.uses.len()];
        let mut waiting = vec![0usize; self.uses.len()];
        let mut sources = Vec::with_capacity(self.uses.len());
        for (i, u) in self.uses.iter().enumerate() {
            let found = self.resolve_all(&u.inputs, &self.bases)?;
            for source in &found {
                if let Source::Step { step, .. } = source {
                    readers[*step].push(i);
                    waiting[i] += 1;
                }
            }
            sources.push(found);
        }
        let mut ready: BTreeSet<usize> = (0..waiting.len()).filter(|&i| waiting[i] == 0).collect();
        let mut position = vec![usize::MAX; self.uses.len()];
        let mut steps = Vec::with_capacity(self.uses.len());
        while let Some(i) = ready.pop_first() {
            position[i] = steps.len();
            let u = &self.uses[i];
            steps.push(Step {
                layer: u.layer,
                repetition: u.repetition,
                inputs: renumbered(&sources[i], &position),
                masks: u.masks.clone(),
                training: u.training,
            });
            for &reader in &readers[i] {
                waiting[reader] -= 1;
                if waiting[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
        if let Some(i) = position.iter().position(|&p| p == usize::MAX) {
            let name = &self.layers[self.uses[i].layer].name;
            return Err(format!("layer {name:?} reads, in the end, its own output"));
        }
        Ok((
            steps,
            renumbered(&self.resolve_all(outputs, &self.output_bases)?, &position),
        ))
    }

    fn resolve_all(
        &self,
        references: &[Reference],
        bases: &[usize],
    ) -> Result<Vec<Source>, String> {
        references.iter().map(|r| self.resolve(r, bases)).collect()
    }
}

fn renumbered(sources: &[Source], position: &[usize]) -> Vec<Source> {
    sources
        .iter()
        .map(|&source| match source {
            Source::Step { step, tensor } => Source::Step {
                step: position[step],
                tensor,
            },
            input => input,
        })
        .collect()
}
