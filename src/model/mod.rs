//! A model: the networks of one recogniser with their roles and labels, checked against each other.
//!
//! [`Model`] is immutable and validated. [`bundle`] reads and writes it, [`inspect`] describes it and
//! `from_keras` converts it from Keras files.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::audio::Resampling;
use crate::front_end::{N_MELS, utterance};
use crate::nn::network;
use crate::nn::self_test::SelfTestError;
use crate::nn::{GraphError, RunError};

pub mod bundle;
#[cfg(feature = "convert")]
pub mod from_keras;
pub mod inspect;

pub use crate::nn::network::Provenance;

/// One network of a model; at most one network has a [`Role`].
pub type Network = network::Network<Role>;

/// Purpose of a network of a model.
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
    /// All emotion weights to the final weights.
    Merge,
    /// Descriptors to the probability of speech; optional in a speech model.
    Speech,
    /// A network without a role, which runs on tensors of the caller.
    Network,
}

impl Role {
    /// The five roles that a speech model needs, in the order of computation. A [`Role::Speech`] network
    /// is optional.
    pub const SPEECH: [Self; 5] = [
        Self::EmotionWindows,
        Self::Age,
        Self::Gender,
        Self::EmotionFeatures,
        Self::Merge,
    ];

    /// Name in bundles and messages.
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

/// Description of a model: labels, scales, front end and licences of the networks' inputs and outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// Name of the model.
    pub name: String,
    /// The front end that computes the networks' inputs; `None` for networks without a role.
    #[serde(rename = "preprocessing")]
    pub front_end: Option<FrontEndKind>,
    /// Resampling method of the front end.
    #[serde(default, skip_serializing_if = "is_exact")]
    pub resampling: Resampling,
    /// Emotion labels, in the order of the networks' outputs.
    pub emotions: Vec<String>,
    /// Gender labels, in the order of the network's outputs.
    pub genders: Vec<String>,
    /// Scale of the age network's output; required in a speech model.
    pub age: Option<AgeScale>,
    /// Population statistics for speaker profiles; a model without them accepts no profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<SpeakerScale>,
    /// Smallest probability of speech of a segment with estimates; present if and only if the model has a
    /// [`Role::Speech`] network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech_from: Option<f64>,
    /// Threshold of the largest emotion weight below which a prediction is marked as unsure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsure_below: Option<f64>,
    /// Permitted uses of the results, if stated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licences: Vec<Licence>,
}

fn is_exact(resampling: &Resampling) -> bool {
    *resampling == Resampling::Exact
}

/// Front end of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrontEndKind {
    /// Two-step resampling, Wiener filter, pre-emphasis and WebRTC voice activity detection, as in the
    /// system of 2020 ([`front_end::legacy2020`](crate::front_end::legacy2020)).
    #[serde(rename = "reference2020")]
    Legacy2020,
    /// One-step resampling, level-normalised mel with pitch, descriptors per segment of speech
    /// ([`front_end::utterance`](crate::front_end::utterance)).
    Utterance,
}

impl FrontEndKind {
    /// Input shapes of the network of a role.
    pub(crate) fn inputs(self, role: Role, info: &ModelInfo) -> Vec<Vec<usize>> {
        let emotions = info.emotions.len();
        match (self, role) {
            (_, Role::Network) => Vec::new(),
            (Self::Legacy2020, Role::Speech) => Vec::new(),
            (Self::Legacy2020, Role::EmotionFeatures) => {
                BRANCHES.iter().map(|b| b.to_vec()).collect()
            }
            (Self::Legacy2020, Role::Merge) => vec![vec![emotions]; BRANCHES.len() + 2],
            (Self::Legacy2020, _) => vec![WINDOW.to_vec()],
            (Self::Utterance, Role::EmotionWindows) => {
                vec![vec![utterance::WINDOW_FRAMES, utterance::FRAME_VALUES]]
            }
            // Descriptors as computed, and relative to a speaker.
            (Self::Utterance, Role::EmotionFeatures) if info.speaker.is_some() => {
                vec![vec![utterance::STATS]; 2]
            }
            (Self::Utterance, Role::Merge) => vec![vec![emotions]; 2],
            (Self::Utterance, _) => vec![vec![utterance::STATS]],
        }
    }

    /// Output sizes of the network of a role.
    fn outputs(self, role: Role, info: &ModelInfo) -> Vec<usize> {
        let emotions = info.emotions.len();
        match (self, role) {
            (_, Role::Network) => Vec::new(),
            (Self::Utterance, Role::Age) if info.age.is_some_and(|a| a.coverage.is_some()) => {
                vec![3]
            }
            (_, Role::Age | Role::Speech) => vec![1],
            (_, Role::Gender) => vec![info.genders.len()],
            (Self::Legacy2020, Role::EmotionFeatures) => vec![emotions; BRANCHES.len() + 1],
            _ => vec![emotions],
        }
    }
}

/// Permitted use of some networks' results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Estimates that the licence covers: `emotion`, `age`, `gender`.
    pub estimates: Vec<String>,
    /// SPDX identifier of the licence of the networks' weights.
    pub licence: String,
    /// Short summary of the terms.
    pub terms: String,
}

/// Scale of the age network's output: years are `output * deviation + mean`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgeScale {
    /// Years for an output of 0.
    pub mean: f64,
    /// Years per unit of output.
    pub deviation: f64,
    /// Youngest and oldest age that the model was made for, in years, if stated.
    pub valid: Option<[f64; 2]>,
    /// Mean absolute error in years on speakers outside the training data, if stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// Share of unknown speakers whose age lies in the interval, for a network whose three outputs are
    /// the lower end, the middle and the upper end of an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
}

/// Elements of a frame in a speaker profile: the levels of the mel bands, and the pitch.
pub const PROFILE_FRAME_VALUES: usize = N_MELS + 1;

/// Population statistics that speaker profiles are relative to, as in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeakerScale {
    /// Mean of each descriptor.
    pub mean: Vec<f64>,
    /// Standard deviation of each descriptor.
    pub deviation: Vec<f64>,
    /// Means of the levels of the bands and of log2(F0 / 200 Hz) over voiced frames.
    pub frames: Vec<f64>,
    /// Weight of the population's means against a speaker's, in segments.
    pub mean_prior: f64,
    /// Weight of the population's deviations, in segments.
    pub deviation_prior: f64,
    /// Mean level of a mel band under which nothing is in the band. The emotion networks' descriptors of
    /// such bands from the highest one down, which are above the recording's band limit, are replaced
    /// by the population's means. `None` if the networks read all bands as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_below: Option<f64>,
}

impl SpeakerScale {
    fn is_sound(&self) -> bool {
        let all = |values: &[f64], count, sound: fn(f64) -> bool| {
            values.len() == count && values.iter().all(|x| x.is_finite() && sound(*x))
        };
        all(&self.mean, utterance::STATS, |_| true)
            && all(&self.deviation, utterance::STATS, |x| x > 0.0)
            && all(&self.frames, PROFILE_FRAME_VALUES, |_| true)
            && all(&[self.mean_prior, self.deviation_prior], 2, |x| x > 0.0)
            && self.missing_below.is_none_or(f64::is_finite)
    }
}

impl ModelInfo {
    /// Description of the five networks of 2020.
    pub fn legacy2020() -> Self {
        let strings = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        Self {
            name: "Keras speech emotion, age and gender recogniser of 2020".into(),
            front_end: Some(FrontEndKind::Legacy2020),
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

    /// Checks labels, scales and thresholds.
    fn check(&self) -> Result<(), String> {
        if self.front_end.is_none() && !is_exact(&self.resampling) {
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

    /// Description of a model of a single network without a role.
    pub fn network(name: &str) -> Self {
        Self {
            name: name.into(),
            front_end: None,
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

/// Error of making a model or of its self-test.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The model has no network.
    #[error("the model holds no network")]
    Empty,
    /// Two networks have this role; remove one.
    #[error("the role {0} is taken by two networks")]
    TwoForRole(Role),
    /// No network has this role; a speech model has all of [`Role::SPEECH`].
    #[error(
        "the role {0} is missing; a speech model needs emotion_windows, age, gender, emotion_features and merge"
    )]
    MissingRole(Role),
    /// The [`ModelInfo`] is invalid: a label is empty or used twice, or a scale is out of range.
    #[error("its description does not fit: {0}")]
    Info(String),
    /// A [`Role::Network`] beside other networks; give it a model of its own.
    #[error("a network of no known role must be the only one of its model")]
    MixedRoles,
    /// A network's shapes are not those of its role, or its self-test is unusable.
    #[error("network {role} ({file}): {problem}")]
    Role {
        /// Role of the network.
        role: Role,
        /// [`Provenance::file`].
        file: String,
        /// Found and required shapes.
        problem: String,
    },
    /// A graph is invalid in itself, or does not take the shapes of a self-test.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The engine refuses to run a self-test.
    #[error("network {role}: {source}")]
    Run {
        /// Role of the network.
        role: Role,
        /// Reason of the refusal.
        source: RunError,
    },
    /// The engine's outputs differ from those in the self-test: weights were changed, or the engine
    /// computes wrongly on this processor.
    #[error(
        "network {role} fails its self-test: output {output} differs by {difference:e}, at most {limit:e} is allowed"
    )]
    SelfTest {
        /// Role of the network.
        role: Role,
        /// Name of the graph's output.
        output: String,
        /// Largest absolute difference; NaN if an output of the engine is not finite.
        difference: f32,
        /// [`SELF_TEST_TOLERANCE`](crate::nn::self_test::SELF_TEST_TOLERANCE), scaled to the output.
        limit: f32,
    },
}

/// The networks of one recogniser; immutable and validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    networks: Vec<Network>,
    info: ModelInfo,
    identity: String,
}

/// Input shapes of the front end of 2020: mel windows, and the four feature branches (DCT, DST, histogram, moments).
const WINDOW: [usize; 3] = [200, 40, 1];
const BRANCHES: [[usize; 3]; 4] = [[40, 40, 1], [40, 40, 1], [40, 40, 1], [40, 8, 1]];

impl Model {
    /// Makes a model of either one network without a role, or the networks of a speech model with matching
    /// shapes and labels.
    ///
    /// # Errors
    /// Names the role and the file that do not fit, and the reason.
    pub fn new(networks: Vec<Network>, info: ModelInfo) -> Result<Self, ModelError> {
        for network in &networks {
            network.graph.validate()?;
            network.check_self_test().map_err(failed(network))?;
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

    fn with_identity(mut self, identity: String) -> Self {
        self.identity = identity;
        self
    }

    /// The single network without a role, or the networks of a speech model in the order of
    /// [`Model::new`].
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Labels, scales and front end.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Replaces the resampling method.
    ///
    /// # Errors
    /// [`ModelError::Info`] for a network without a role.
    pub fn with_resampling(mut self, resampling: Resampling) -> Result<Self, ModelError> {
        self.info.resampling = resampling;
        self.info.check().map_err(ModelError::Info)?;
        self.identity.clear();
        Ok(self)
    }

    /// SHA-256 of the bundle file of the model; empty for a model made in memory.
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
        self.networks
            .iter()
            .try_for_each(|network| network.replay_self_test().map_err(failed(network)))
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
        let front_end = self.info.front_end.ok_or_else(|| {
            ModelError::Info("a speech model needs to say its pre-processing".into())
        })?;
        let speech = self.network(Role::Speech);
        if speech.is_some() != self.info.speech_from.is_some() {
            return Err(ModelError::Info(
                "a speech network and speech_from need each other".into(),
            ));
        }
        for network in &self.networks {
            expect(
                network,
                &front_end.inputs(network.role, &self.info),
                &front_end.outputs(network.role, &self.info),
            )?;
        }
        Ok(())
    }
}

/// Returns the conversion of a self-test's error for `network`.
fn failed(network: &Network) -> impl Fn(SelfTestError) -> ModelError + use<> {
    let (role, file) = (network.role, network.provenance.file.clone());
    move |error| match error {
        SelfTestError::Graph(source) => ModelError::Graph(source),
        SelfTestError::Unusable(problem) => ModelError::Role {
            role,
            file: file.clone(),
            problem,
        },
        SelfTestError::Run(source) => ModelError::Run { role, source },
        SelfTestError::Differs {
            output,
            difference,
            limit,
        } => ModelError::SelfTest {
            role,
            output,
            difference,
            limit,
        },
    }
}

/// Checks the shapes of a network against those of its role.
fn expect(network: &Network, inputs: &[Vec<usize>], outputs: &[usize]) -> Result<(), ModelError> {
    let misfit = |problem| ModelError::Role {
        role: network.role,
        file: network.provenance.file.clone(),
        problem,
    };
    let graph = &network.graph;
    let shapes = graph
        .infer_shapes(inputs)
        .map_err(|e| misfit(format!("this role needs inputs of shapes {inputs:?}: {e}")))?;
    let found: Vec<&[usize]> = graph.outputs.iter().map(|o| &*shapes[o.value.0]).collect();
    let wanted: Vec<&[usize]> = outputs.iter().map(std::slice::from_ref).collect();
    if found != wanted {
        return Err(misfit(format!(
            "this role needs outputs of shapes {wanted:?}, it gives {found:?}"
        )));
    }
    Ok(())
}
