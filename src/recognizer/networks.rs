//! The five networks that every speech model has, ready to run.

use std::borrow::Cow;
use std::sync::Arc;

use super::statistics::column_means;
use super::{RecognizeError, RecognizerError, attention};
use crate::model::FrontEndKind;
use crate::model::{Model, Role};
use crate::nn::graph::{Graph, Output};
use crate::nn::{DropoutMode, Plan, RunError, Session};
use crate::parallelism::Parallelism;
use crate::prediction::Attention;

/// A plan for each role.
#[derive(Debug)]
pub struct Plans {
    /// Age and gender are inputs about each window, not about the whole recording.
    by_window: bool,
    emotions: usize,
    emotion_windows: Arc<Plan>,
    age: Arc<Plan>,
    gender: Arc<Plan>,
    emotion_features: Arc<Plan>,
    merge: Arc<Plan>,
}

/// One thread's buffers for each role.
#[derive(Debug)]
pub struct Sessions {
    by_window: bool,
    emotions: usize,
    emotion_windows: Session,
    age: Session,
    gender: Session,
    emotion_features: Session,
    merge: Session,
    /// Whether the networks run side by side.
    pub parallelism: Parallelism,
}

/// The networks' inputs for one recording, or for one of its segments.
#[derive(Debug)]
pub struct NetworkInputs<'a> {
    /// Rows of numbers, a frame each.
    pub frames: &'a [f32],
    /// The rows that the windows begin at.
    pub starts: &'a [usize],
    /// The emotion feature network's inputs.
    pub whole: Vec<&'a [f32]>,
    /// The inputs of the age and gender networks where they do not read windows: the descriptors as
    /// they are, also where the emotion networks read them relative to a speaker.
    pub descriptors: &'a [f32],
}

/// The networks' outputs for a [`NetworkInputs`].
#[derive(Debug)]
pub struct NetworkOutputs {
    /// `[windows, emotions]`; of networks that do not read windows for age and gender, merged with
    /// the feature network's output.
    pub windows: Vec<f32>,
    /// Of each window, if the network has any.
    pub attention: Vec<Option<Attention>>,
    /// A row per window, or a single one about the whole recording.
    pub age: Vec<f32>,
    /// A row per window, or a single one about the whole recording.
    pub gender: Vec<f32>,
    /// `[draws, emotions]`; a single row where the draws are all the same.
    pub merged: Vec<f32>,
}

impl Plans {
    /// For a speech model.
    ///
    /// # Errors
    /// When a network is missing or cannot be planned.
    pub fn new(model: &Model) -> Result<Self, RecognizerError> {
        Ok(Self {
            by_window: model.info().front_end == Some(FrontEndKind::Legacy2020),
            emotions: model.info().emotions.len(),
            emotion_windows: planned(model, Role::EmotionWindows)?,
            age: planned(model, Role::Age)?,
            gender: planned(model, Role::Gender)?,
            emotion_features: planned(model, Role::EmotionFeatures)?,
            merge: planned(model, Role::Merge)?,
        })
    }

    /// Whether the answer differs from draw to draw.
    pub fn is_stochastic(&self) -> bool {
        self.emotion_features.is_stochastic()
    }

    /// One thread's buffers.
    pub fn sessions(&self) -> Sessions {
        Sessions {
            by_window: self.by_window,
            emotions: self.emotions,
            emotion_windows: Session::new(&self.emotion_windows),
            age: Session::new(&self.age),
            gender: Session::new(&self.gender),
            emotion_features: Session::new(&self.emotion_features),
            merge: Session::new(&self.merge),
            parallelism: Parallelism::default(),
        }
    }
}

/// Windows that are computed together: enough to share what they have in common, few enough for
/// bounded memory.
const WINDOWS_AT_ONCE: usize = 32;

/// Draws that are computed together: enough to share the part of the network that no dropout
/// touches, few enough to stay in the cache and in bounded memory.
const DRAWS_AT_ONCE: u32 = 128;

impl Sessions {
    /// Bytes that the buffers take.
    pub fn held_bytes(&self) -> usize {
        [
            &self.emotion_windows,
            &self.age,
            &self.gender,
            &self.emotion_features,
            &self.merge,
        ]
        .into_iter()
        .map(Session::held_bytes)
        .sum()
    }

    /// What all networks say about one recording.
    ///
    /// # Errors
    /// When given dropout masks do not fit.
    pub fn run(
        &mut self,
        inputs: &NetworkInputs,
        dropout: &DropoutMode,
    ) -> Result<NetworkOutputs, RunError> {
        let Self {
            emotion_windows,
            age,
            gender,
            emotion_features,
            merge,
            ..
        } = self;
        let by_window = self.by_window;
        let estimate = |session: &mut Session| match by_window {
            true => run_windows_of(session, inputs),
            false => session
                .run(&[inputs.descriptors], 1, &DropoutMode::Off)
                .map(|()| WindowOutputs::of(session, 1)),
        };
        let parallelism = self.parallelism;
        let ((drawn, age), (seen, gender)) = parallelism.join(
            || {
                parallelism.join(
                    || run_draws(emotion_features, &inputs.whole, dropout),
                    || estimate(age),
                )
            },
            || {
                parallelism.join(
                    || run_windows_of(emotion_windows, inputs),
                    || estimate(gender),
                )
            },
        );
        let seen = seen?;
        let window_mean = column_means(&seen.outputs, self.emotions);
        let mut merged = Vec::new();
        let drawn = drawn?;
        for part in &drawn {
            let window_rows = window_mean.repeat(part.rows);
            let mut inputs = vec![&*window_rows];
            inputs.extend(part.outputs.iter().map(|output| &**output));
            merge.run(&inputs, part.rows, &DropoutMode::Off)?;
            merged.extend_from_slice(merge.output(0));
        }
        let windows = match (by_window, drawn.last()) {
            (false, Some(part)) => {
                // A window's weights agree with its segment's: they are merged alike.
                let rows = seen.outputs.len() / self.emotions;
                let outputs = part.outputs.iter();
                let repeated: Vec<Vec<f32>> = outputs
                    .map(|output| output[output.len() - output.len() / part.rows..].repeat(rows))
                    .collect();
                let mut inputs = vec![&*seen.outputs];
                inputs.extend(repeated.iter().map(|output| &**output));
                merge.run(&inputs, rows, &DropoutMode::Off)?;
                merge.output(0).to_vec()
            }
            _ => seen.outputs,
        };
        Ok(NetworkOutputs {
            windows,
            attention: seen.attention,
            age: age?.outputs,
            gender: gender?.outputs,
            merged,
        })
    }
}

impl NetworkOutputs {
    /// Fails if a number is not finite; `name` stands for the recording.
    ///
    /// # Errors
    /// [`RecognizeError::NotFinite`].
    pub fn check(&self, name: &str) -> Result<(), RecognizeError> {
        let outputs = [
            (Role::EmotionWindows, &self.windows),
            (Role::Age, &self.age),
            (Role::Gender, &self.gender),
            (Role::Merge, &self.merged),
        ];
        let broken = |(_, numbers): &&(Role, &Vec<f32>)| numbers.iter().any(|x| !x.is_finite());
        match outputs.iter().find(broken) {
            None => Ok(()),
            Some(&(role, _)) => Err(RecognizeError::NotFinite {
                name: name.into(),
                role,
            }),
        }
    }
}

/// What a network gives for some rows, first output only.
struct WindowOutputs {
    outputs: Vec<f32>,
    attention: Vec<Option<Attention>>,
}

impl WindowOutputs {
    fn of(session: &Session, rows: usize) -> Self {
        Self {
            outputs: session.output(0).to_vec(),
            attention: (0..rows).map(|i| attention_of(session, i)).collect(),
        }
    }
}

fn attention_of(session: &Session, row: usize) -> Option<Attention> {
    let outputs = session.plan().outputs().enumerate();
    let outputs = outputs.map(|(k, (name, shape))| (name, shape, session.output(k)));
    attention::of_row(outputs, row)
}

/// All windows.
fn run_windows_of(
    session: &mut Session,
    inputs: &NetworkInputs,
) -> Result<WindowOutputs, RunError> {
    let mut all = WindowOutputs {
        outputs: Vec::new(),
        attention: Vec::new(),
    };
    for starts in inputs.starts.chunks(WINDOWS_AT_ONCE) {
        session.run_windows(inputs.frames, starts, &DropoutMode::Off)?;
        let seen = WindowOutputs::of(session, starts.len());
        all.outputs.extend(seen.outputs);
        all.attention.extend(seen.attention);
    }
    Ok(all)
}

/// What the feature network gives for some draws.
struct DrawOutputs {
    rows: usize,
    outputs: Vec<Vec<f32>>,
}

/// All draws, in their order.
fn run_draws(
    session: &mut Session,
    inputs: &[&[f32]],
    dropout: &DropoutMode,
) -> Result<Vec<DrawOutputs>, RunError> {
    let is_stochastic = session.plan().is_stochastic();
    let mut part = |first: u32, mode: &DropoutMode| {
        session.run_from_draw(first, inputs, 1, mode)?;
        let outputs = 0..session.plan().outputs().len();
        Ok(DrawOutputs {
            rows: session.rows(),
            outputs: outputs.map(|k| session.output(k).to_vec()).collect(),
        })
    };
    match *dropout {
        DropoutMode::Draws { n, seed } if is_stochastic => (0..n.get())
            .step_by(DRAWS_AT_ONCE as usize)
            .map(|first| {
                let count = DRAWS_AT_ONCE.min(n.get() - first);
                part(first, &DropoutMode::draws(count, seed))
            })
            .collect(),
        _ => Ok(vec![part(0, dropout)?]),
    }
}

/// A role's network, ready to run.
///
/// # Errors
/// When it is missing or cannot be planned.
pub fn planned(model: &Model, role: Role) -> Result<Arc<Plan>, RecognizerError> {
    let (graph, shapes) = graph_of(model, role)?;
    Ok(Arc::new(Plan::new(&graph, &shapes)?))
}

/// A network, and the shapes of its inputs.
type RoleGraph<'m> = (Cow<'m, Graph>, Vec<Vec<usize>>);

/// A role's network with the shapes of the inputs that the front end gives; that of the emotion
/// windows with their attention, if they have any, as last outputs.
///
/// # Errors
/// When the model has no such network.
pub fn graph_of(model: &Model, role: Role) -> Result<RoleGraph<'_>, RecognizerError> {
    let not_speech = || RecognizerError::NotSpeech(model.info().name.clone());
    let front_end = model.info().front_end.ok_or_else(not_speech)?;
    let mut graph = Cow::Borrowed(&model.network(role).ok_or_else(not_speech)?.graph);
    if role == Role::EmotionWindows {
        let pools = attention::weights(&graph).into_iter().enumerate();
        let outputs: Vec<Output> = pools
            .map(|(pool, value)| Output {
                name: format!("{} {pool}", attention::OUTPUT),
                value,
            })
            .collect();
        if !outputs.is_empty() {
            graph.to_mut().outputs.extend(outputs);
        }
    }
    let shapes = front_end.inputs(role, model.info());
    Ok((graph, shapes))
}
