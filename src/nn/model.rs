//! A model: the networks that answer together, checked against each other.

use std::collections::HashSet;

use crate::audio::Resampling;
use crate::front_end::utterance;
use serde::{Deserialize, Serialize};

use super::graph::{Graph, GraphError};
use super::self_test::SelfTest;
use super::session::RunError;

/// What a network of a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Mel window to emotion weights.
    EmotionWindows,
    /// Mel window to age.
    Age,
    /// Mel window to gender.
    Gender,
    /// DCT, DST, histogram and moments to emotion weights, one set per branch and a total.
    EmotionFeatures,
    /// All emotion weights to the final ones.
    Merge,
    /// Descriptors to the probability that a sound is speech; not every speech model has it.
    Speech,
    /// A network of no known role, converted to be run on given tensors.
    Network,
}

impl Role {
    /// The five roles that a speech model needs, in the order of computation. It may have a
    /// [`Role::Speech`] network besides.
    pub const SPEECH: [Self; 5] = [
        Self::EmotionWindows,
        Self::Age,
        Self::Gender,
        Self::EmotionFeatures,
        Self::Merge,
    ];

    /// Its name in bundles and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::EmotionWindows => "emotion_windows",
            Self::Age => "age",
            Self::Gender => "gender",
            Self::EmotionFeatures => "emotion_features",
            Self::Merge => "merge",
            Self::Speech => "speech",
            Self::Network => "network",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a network came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the converted file, without its folder.
    pub file: String,
    /// SHA-256 of the converted file, in hexadecimal.
    pub sha256: String,
    /// The Keras version that wrote it, as it says itself (`2.2.4`, `2.2.4-tf`), if it does.
    pub keras_version: Option<String>,
    /// As it says itself, for example `tensorflow`.
    pub backend: Option<String>,
}

/// One network of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// At most one network of a model has it.
    pub role: Role,
    /// Its layers and weights.
    pub graph: Graph,
    /// The file that it was converted from.
    pub provenance: Provenance,
    /// What [`Model::self_test`] replays; a network without one passes.
    pub self_test: Option<SelfTest>,
}

/// What the numbers that the networks take and give mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleInfo {
    /// What the model is called.
    pub name: String,
    /// What the networks' inputs are computed with; `None` for networks of no known role.
    pub preprocessing: Option<Preprocessing>,
    /// How the front end brings recordings to 16 kHz.
    #[serde(default, skip_serializing_if = "is_exact")]
    pub resampling: Resampling,
    /// Names of the emotion weights, in the networks' order.
    pub emotions: Vec<String>,
    /// Names of the gender outputs, in the network's order.
    pub genders: Vec<String>,
    /// How the age network's output becomes years; a speech model without it cannot be used.
    pub age: Option<AgeScale>,
    /// What speaker profiles are relative to; a model without it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<SpeakerScale>,
    /// The probability of speech that a segment is answered from on; only beside a
    /// [`Role::Speech`] network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech_from: Option<f64>,
    /// An answer whose largest emotion weight is smaller is marked as unsure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsure_below: Option<f64>,
    /// What the results may be used for, where the model says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licences: Vec<Licence>,
}

fn is_exact(resampling: &Resampling) -> bool {
    *resampling == Resampling::Exact
}

/// The front end that a model was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preprocessing {
    /// Two-step resampling, Wiener filter, pre-emphasis and WebRTC voice activity, as in the
    /// system of 2020.
    Reference2020,
    /// One resampling, silence cut off by level, level-normalised mel with pitch, descriptors of
    /// the whole recording ([`features::utterance`](crate::front_end::utterance)).
    Utterance,
}

impl Preprocessing {
    /// Shapes of the inputs that a role's network takes.
    pub(crate) fn inputs(self, role: Role, info: &BundleInfo) -> Vec<Vec<usize>> {
        let emotions = info.emotions.len();
        match (self, role) {
            (_, Role::Network) => Vec::new(),
            (Self::Reference2020, Role::Speech) => Vec::new(),
            (Self::Reference2020, Role::EmotionFeatures) => {
                BRANCHES.iter().map(|b| b.to_vec()).collect()
            }
            (Self::Reference2020, Role::Merge) => vec![vec![emotions]; BRANCHES.len() + 2],
            (Self::Reference2020, _) => vec![WINDOW.to_vec()],
            (Self::Utterance, Role::EmotionWindows) => {
                vec![vec![utterance::WINDOW_FRAMES, utterance::FRAME_VALUES]]
            }
            // As they are, and relative to a speaker.
            (Self::Utterance, Role::EmotionFeatures) if info.speaker.is_some() => {
                vec![vec![utterance::STATS]; 2]
            }
            (Self::Utterance, Role::Merge) => vec![vec![emotions]; 2],
            (Self::Utterance, _) => vec![vec![utterance::STATS]],
        }
    }

    /// Shapes of the outputs that a role's network gives.
    fn outputs(self, role: Role, info: &BundleInfo) -> Vec<usize> {
        let emotions = info.emotions.len();
        match (self, role) {
            (_, Role::Network) => Vec::new(),
            (Self::Utterance, Role::Age) if info.age.is_some_and(|a| a.coverage.is_some()) => {
                vec![3]
            }
            (_, Role::Age | Role::Speech) => vec![1],
            (_, Role::Gender) => vec![info.genders.len()],
            (Self::Reference2020, Role::EmotionFeatures) => vec![emotions; BRANCHES.len() + 1],
            _ => vec![emotions],
        }
    }
}

/// What the results of some networks may be used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// What it is about: `emotion`, `age`, `gender`.
    pub estimates: Vec<String>,
    /// The licence of the networks' weights, by its SPDX identifier.
    pub licence: String,
    /// What that means, in a few words.
    pub terms: String,
}

/// How the age network's output becomes years: `output * deviation + mean`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgeScale {
    /// Years for an output of 0.
    pub mean: f64,
    /// Years per unit of output.
    pub deviation: f64,
    /// The ages that the model was made for, in years, if it states them.
    pub valid: Option<[f64; 2]>,
    /// Mean absolute error in years on speakers that it was not trained on, if it is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// For a network whose outputs are the lower end, the middle and the upper end of an interval: the
    /// share of unknown speakers whose age lies in theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
}

/// Values of a frame that a speaker profile knows: the levels of the bands, and the pitch.
pub const PROFILE_FRAME_VALUES: usize = crate::front_end::N_MELS + 1;

/// The population that speaker profiles are relative to, as the networks were trained with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeakerScale {
    /// Of each descriptor.
    pub mean: Vec<f64>,
    /// Standard deviation of each descriptor.
    pub deviation: Vec<f64>,
    /// Means of the levels of the bands and of log2(F0 / 200 Hz) over voiced frames.
    pub frames: Vec<f64>,
    /// Segments that the population's means count for beside a speaker's.
    pub mean_prior: f64,
    /// Segments that its deviations count for.
    pub deviation_prior: f64,
}

impl SpeakerScale {
    fn is_sound(&self) -> bool {
        let all = |numbers: &[f64], count, sound: fn(f64) -> bool| {
            numbers.len() == count && numbers.iter().all(|x| x.is_finite() && sound(*x))
        };
        all(&self.mean, utterance::STATS, |_| true)
            && all(&self.deviation, utterance::STATS, |x| x > 0.0)
            && all(&self.frames, PROFILE_FRAME_VALUES, |_| true)
            && all(&[self.mean_prior, self.deviation_prior], 2, |x| x > 0.0)
    }
}

impl BundleInfo {
    /// What the five networks of 2020 mean.
    pub fn reference_2020() -> Self {
        let strings = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        Self {
            name: "Keras speech emotion, age and gender recogniser of 2020".into(),
            preprocessing: Some(Preprocessing::Reference2020),
            resampling: Resampling::Exact,
            emotions: strings(&[
                "anger",
                "disgust",
                "fear",
                "happiness",
                "neutral",
                "sadness",
                "surprise",
            ]),
            genders: strings(&["male", "female"]),
            age: Some(AgeScale {
                mean: 33.33587,
                deviation: 7.69647,
                valid: None,
                error: None,
                coverage: None,
            }),
            speaker: None,
            speech_from: None,
            unsure_below: None,
            licences: Vec::new(),
        }
    }

    /// Fails if names or numbers make no sense.
    fn check(&self) -> Result<(), String> {
        if self.preprocessing.is_none() && !is_exact(&self.resampling) {
            return Err(format!(
                "the resampling is {}, but only a speech model hears recordings; leave it out",
                self.resampling.name()
            ));
        }
        for (what, names) in [("emotions", &self.emotions), ("genders", &self.genders)] {
            let distinct: HashSet<&String> = names.iter().collect();
            if distinct.len() != names.len() || names.iter().any(String::is_empty) {
                return Err(format!("the names of the {what} are {names:?}"));
            }
        }
        if self.speaker.as_ref().is_some_and(|s| !s.is_sound()) {
            return Err(
                "what speaker profiles are relative to does not fit the descriptors".into(),
            );
        }
        let shares = [
            ("speech_from", self.speech_from),
            ("unsure_below", self.unsure_below),
            ("the coverage of the age", self.age.and_then(|a| a.coverage)),
        ];
        if let Some((what, Some(share))) = shares
            .iter()
            .find(|(_, share)| share.is_some_and(|s| !(s > 0.0 && s < 1.0)))
        {
            return Err(format!("{what} is {share}, not between 0 and 1"));
        }
        match self.age {
            Some(age) if !(age.mean.is_finite() && age.deviation.is_finite()) => {
                Err(format!("the scale of the age is {age:?}"))
            }
            Some(AgeScale {
                error: Some(error), ..
            }) if !(error.is_finite() && error > 0.0) => {
                Err(format!("the error of the age is {error}"))
            }
            Some(AgeScale {
                valid: Some([low, high]),
                ..
            }) if !(low < high && low.is_finite() && high.is_finite()) => {
                Err(format!("the ages that it is made for are {low} to {high}"))
            }
            _ => Ok(()),
        }
    }

    /// For a single network of no known role.
    pub fn network(name: &str) -> Self {
        Self {
            name: name.into(),
            preprocessing: None,
            resampling: Resampling::Exact,
            emotions: Vec::new(),
            genders: Vec::new(),
            age: None,
            speaker: None,
            speech_from: None,
            unsure_below: None,
            licences: Vec::new(),
        }
    }
}

/// Why networks do not make a model, or a model fails its self-test.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No network was given.
    #[error("the model holds no network")]
    Empty,
    /// Two networks have this role; leave one out.
    #[error("the role {0} is taken by two networks")]
    TwoForRole(Role),
    /// No network has this role; a speech model has all of [`Role::SPEECH`].
    #[error(
        "the role {0} is missing; a speech model needs emotion_windows, age, gender, emotion_features and merge"
    )]
    MissingRole(Role),
    /// The [`BundleInfo`]: a label is empty or used twice, or the age's numbers make no sense.
    #[error("its description does not fit: {0}")]
    Info(String),
    /// A [`Role::Network`] beside other networks; give it a model of its own.
    #[error("a network of no known role must be the only one of its model")]
    MixedRoles,
    /// A network's shapes are not those of its role, or its self-test is unusable.
    #[error("network {role} ({file}): {problem}")]
    Role {
        /// What the network was to do.
        role: Role,
        /// [`Provenance::file`].
        file: String,
        /// What was found and what is needed.
        problem: String,
    },
    /// A graph is invalid in itself, or does not take the shapes of a self-test.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The engine refuses to run a self-test.
    #[error("network {role}: {source}")]
    Run {
        /// Whose self-test it is.
        role: Role,
        /// Why it is refused.
        source: RunError,
    },
    /// The engine gives other numbers than the self-test holds: weights were changed, or it
    /// computes wrongly on this processor.
    #[error(
        "network {role} fails its self-test: output {output} differs by {difference:e}, at most {limit:e} is allowed"
    )]
    SelfTest {
        /// Whose self-test it is.
        role: Role,
        /// Name of the graph's output.
        output: String,
        /// The largest absolute difference; NaN if the engine gives numbers that are not finite.
        difference: f32,
        /// [`SELF_TEST_TOLERANCE`](super::self_test::SELF_TEST_TOLERANCE), scaled to the output.
        limit: f32,
    },
}

/// Networks that answer together; immutable and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    networks: Vec<Network>,
    info: BundleInfo,
    identity: String,
}

/// The reference front end's shapes: of the mel windows and of the four feature branches (DCT, DST, histogram, moments).
const WINDOW: [usize; 3] = [200, 40, 1];
const BRANCHES: [[usize; 3]; 4] = [[40, 40, 1], [40, 40, 1], [40, 40, 1], [40, 8, 1]];

impl Model {
    /// Checks that the networks fit together: either one network of no known role, or the five
    /// roles of a speech model with matching shapes and labels.
    ///
    /// # Errors
    /// Names the role and the file that do not fit, and why.
    pub fn new(networks: Vec<Network>, info: BundleInfo) -> Result<Self, ModelError> {
        for network in &networks {
            network.graph.validate()?;
            network.check_self_test()?;
        }
        let model = Self {
            networks,
            info,
            identity: String::new(),
        };
        model.info.check().map_err(ModelError::Info)?;
        match &*model.networks {
            [] => return Err(ModelError::Empty),
            [single] if single.role == Role::Network => {}
            all if all.iter().any(|n| n.role == Role::Network) => {
                return Err(ModelError::MixedRoles);
            }
            _ => model.check_speech()?,
        }
        Ok(model)
    }

    pub(super) fn with_identity(mut self, identity: String) -> Self {
        self.identity = identity;
        self
    }

    /// The single network of no known role, or the five of a speech model in the order given.
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Labels, age scale and pre-processing.
    pub fn info(&self) -> &BundleInfo {
        &self.info
    }

    /// The same model with another way to 16 kHz.
    ///
    /// # Errors
    /// [`ModelError::Info`] for a network of no known role.
    pub fn with_resampling(mut self, resampling: Resampling) -> Result<Self, ModelError> {
        self.info.resampling = resampling;
        self.info.check().map_err(ModelError::Info)?;
        self.identity.clear();
        Ok(self)
    }

    /// SHA-256 of the bundle file that it was read from; empty for a model made in memory.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The network of a role.
    pub fn network(&self, role: Role) -> Option<&Network> {
        self.networks.iter().find(|n| n.role == role)
    }

    /// Replays every network's self-test on the engine.
    ///
    /// # Errors
    /// Names the network and output that differ.
    pub fn self_test(&self) -> Result<(), ModelError> {
        self.networks.iter().try_for_each(Network::self_test)
    }

    fn check_speech(&self) -> Result<(), ModelError> {
        for (i, network) in self.networks.iter().enumerate() {
            if self.networks[..i].iter().any(|n| n.role == network.role) {
                return Err(ModelError::TwoForRole(network.role));
            }
        }
        if let Some(&role) = Role::SPEECH.iter().find(|&&r| self.network(r).is_none()) {
            return Err(ModelError::MissingRole(role));
        }
        let front_end = self.info.preprocessing.ok_or_else(|| {
            ModelError::Info("a speech model needs to say its pre-processing".into())
        })?;
        let speech = self.network(Role::Speech);
        if speech.is_some() != self.info.speech_from.is_some() {
            return Err(ModelError::Info(
                "a speech network and speech_from need each other".into(),
            ));
        }
        for network in &self.networks {
            network.expect(
                &front_end.inputs(network.role, &self.info),
                &front_end.outputs(network.role, &self.info),
            )?;
        }
        Ok(())
    }
}

impl Network {
    pub(super) fn problem(&self, problem: String) -> ModelError {
        ModelError::Role {
            role: self.role,
            file: self.provenance.file.clone(),
            problem,
        }
    }

    fn expect(&self, inputs: &[Vec<usize>], outputs: &[usize]) -> Result<(), ModelError> {
        let graph = &self.graph;
        let shapes = graph.infer_shapes(inputs).map_err(|e| {
            self.problem(format!("this role needs inputs of shapes {inputs:?}: {e}"))
        })?;
        let given: Vec<&[usize]> = graph.outputs.iter().map(|o| &*shapes[o.value.0]).collect();
        let wanted: Vec<&[usize]> = outputs.iter().map(std::slice::from_ref).collect();
        if given != wanted {
            return Err(self.problem(format!(
                "this role needs outputs of shapes {wanted:?}, it gives {given:?}"
            )));
        }
        Ok(())
    }
}
