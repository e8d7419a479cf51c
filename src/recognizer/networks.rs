//! The five networks that every speech model has, on the CPU.

use std::borrow::Cow;
use std::sync::Arc;

use super::per_role::PerRole;
use super::statistics::column_means;
use super::{RecognizeError, RecognizerError, attention};
use crate::model::FrontEndKind;
use crate::model::{Model, Role};
use crate::nn::graph::{Graph, Output};
use crate::nn::{DropoutMode, Plan, RunError, Session};
use crate::parallelism::Parallelism;
use crate::prediction::Attention;

/// Execution plans of the networks, shared between threads.
#[derive(Debug)]
pub struct Plans {
    /// The age and gender networks read windows; otherwise they read the descriptors.
    by_window: bool,
    emotions: usize,
    plans: PerRole<Arc<Plan>>,
}

/// Buffers of the networks for one thread.
#[derive(Debug)]
pub struct Sessions {
    by_window: bool,
    emotions: usize,
    sessions: PerRole<Session>,
    /// Execution of the networks: one by one, or in parallel.
    pub parallelism: Parallelism,
}

/// The networks' inputs for one recording or one of its segments.
#[derive(Debug)]
pub struct NetworkInputs<'a> {
    /// Frames that the windows are cut from, `[frames, values per frame]`.
    pub frames: &'a [f32],
    /// First frame of each window.
    pub starts: &'a [usize],
    /// Inputs of [`Role::EmotionFeatures`].
    pub whole: Vec<&'a [f32]>,
    /// Descriptors for age and gender networks that read no windows. They are never relative to a
    /// speaker, even if the inputs of the emotion networks are.
    pub descriptors: &'a [f32],
}

/// The networks' outputs for a [`NetworkInputs`].
#[derive(Debug)]
pub struct NetworkOutputs {
    /// Emotion weights of the windows, `[windows, emotions]`. Models whose age and gender networks
    /// read descriptors merge them with the output of [`Role::EmotionFeatures`].
    pub windows: Vec<f32>,
    /// Attention of each window; `None` for a network without an attention pool.
    pub attention: Vec<Option<Attention>>,
    /// Output of the age network: one row per window, or a single row.
    pub age: Vec<f32>,
    /// Output of the gender network: one row per window, or a single row.
    pub gender: Vec<f32>,
    /// Merged emotion weights, `[draws, emotions]`; a single row if all draws are equal.
    pub merged: Vec<f32>,
}

impl Plans {
    /// Plans the networks of a speech model.
    ///
    /// # Errors
    /// A network is missing or cannot be planned.
    pub fn new(model: &Model) -> Result<Self, RecognizerError> {
        Ok(Self {
            by_window: model.info().front_end == Some(FrontEndKind::Legacy2020),
            emotions: model.info().emotions.len(),
            plans: PerRole::try_new(|role| plan(model, role))?,
        })
    }

    /// Returns true if the outputs differ between draws.
    pub fn is_stochastic(&self) -> bool {
        self.plans[Role::EmotionFeatures].is_stochastic()
    }

    /// Creates the buffers for one thread.
    pub fn sessions(&self) -> Sessions {
        Sessions {
            by_window: self.by_window,
            emotions: self.emotions,
            sessions: self.plans.map(Session::new),
            parallelism: Parallelism::default(),
        }
    }
}

/// Largest number of windows in one run: large enough to share the work on overlapping windows, small
/// enough for bounded memory.
const WINDOWS_PER_RUN: usize = 32;

/// Largest number of draws in one run: large enough to share the layers before the first dropout,
/// small enough to stay in the cache.
const DRAWS_PER_RUN: u32 = 128;

impl Sessions {
    /// Bytes of all buffers.
    pub fn held_bytes(&self) -> usize {
        self.sessions.iter().map(Session::held_bytes).sum()
    }

    /// Runs all networks on one recording or segment.
    ///
    /// # Errors
    /// The dropout masks do not fit.
    pub fn run(
        &mut self,
        inputs: &NetworkInputs,
        dropout: &DropoutMode,
    ) -> Result<NetworkOutputs, RunError> {
        let by_window = self.by_window;
        let parallelism = self.parallelism;
        let [emotion_windows, age, gender, emotion_features, merge] = self.sessions.each_mut();
        let estimate = |session: &mut Session| match by_window {
            true => run_windows(session, inputs),
            false => session
                .run(&[inputs.descriptors], 1, &DropoutMode::Off)
                .map(|()| WindowOutputs::of(session, 1)),
        };
        let ((draws, age), (windows, gender)) = parallelism.join(
            || {
                parallelism.join(
                    || run_draws(emotion_features, &inputs.whole, dropout),
                    || estimate(age),
                )
            },
            || parallelism.join(|| run_windows(emotion_windows, inputs), || estimate(gender)),
        );
        let windows = windows?;
        let window_mean = column_means(&windows.outputs, self.emotions);
        let mut merged = Vec::new();
        let draws = draws?;
        for part in &draws {
            let window_rows = window_mean.repeat(part.rows);
            let mut inputs = vec![&*window_rows];
            inputs.extend(part.outputs.iter().map(|output| &**output));
            merge.run(&inputs, part.rows, &DropoutMode::Off)?;
            merged.extend_from_slice(merge.output(0));
        }
        let window_weights = match (by_window, draws.last()) {
            (false, Some(part)) => {
                // A window is merged with its segment's features, so that its weights are comparable
                // with the segment's.
                let rows = windows.outputs.len() / self.emotions;
                let outputs = part.outputs.iter();
                let repeated: Vec<Vec<f32>> = outputs
                    .map(|output| output[output.len() - output.len() / part.rows..].repeat(rows))
                    .collect();
                let mut inputs = vec![&*windows.outputs];
                inputs.extend(repeated.iter().map(|output| &**output));
                merge.run(&inputs, rows, &DropoutMode::Off)?;
                merge.output(0).to_vec()
            }
            _ => windows.outputs,
        };
        Ok(NetworkOutputs {
            windows: window_weights,
            attention: windows.attention,
            age: age?.outputs,
            gender: gender?.outputs,
            merged,
        })
    }
}

impl NetworkOutputs {
    /// Checks that the outputs are finite; `name` stands for the recording in the error.
    ///
    /// [`FrontEnd::prediction`](super::front_end::FrontEnd::prediction) calls this for every
    /// prediction, of the CPU and of a device. It therefore guarantees finite emotion weights, finite
    /// gender weights and a finite output of the age network. It covers neither attention weights nor
    /// the age in years, which overflows if the model's scale is extreme.
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
        let is_broken = |(_, values): &&(Role, &Vec<f32>)| values.iter().any(|x| !x.is_finite());
        match outputs.iter().find(is_broken) {
            None => Ok(()),
            Some(&(role, _)) => Err(RecognizeError::NotFinite {
                name: name.into(),
                role,
            }),
        }
    }
}

/// First output of a network for several rows, and the attention of each row.
struct WindowOutputs {
    outputs: Vec<f32>,
    attention: Vec<Option<Attention>>,
}

impl WindowOutputs {
    fn of(session: &Session, rows: usize) -> Self {
        Self {
            outputs: session.output(0).to_vec(),
            attention: (0..rows).map(|row| attention_of(session, row)).collect(),
        }
    }
}

fn attention_of(session: &Session, row: usize) -> Option<Attention> {
    let outputs = session.plan().outputs().enumerate();
    let outputs = outputs.map(|(k, (name, shape))| (name, shape, session.output(k)));
    attention::of_row(outputs, row)
}

/// Runs a network on all windows.
fn run_windows(session: &mut Session, inputs: &NetworkInputs) -> Result<WindowOutputs, RunError> {
    let mut all = WindowOutputs {
        outputs: Vec::new(),
        attention: Vec::new(),
    };
    for starts in inputs.starts.chunks(WINDOWS_PER_RUN) {
        session.run_windows(inputs.frames, starts, &DropoutMode::Off)?;
        let part = WindowOutputs::of(session, starts.len());
        all.outputs.extend(part.outputs);
        all.attention.extend(part.attention);
    }
    Ok(all)
}

/// Outputs of the emotion feature network for several draws.
struct DrawOutputs {
    rows: usize,
    outputs: Vec<Vec<f32>>,
}

/// Runs the emotion feature network for all draws, in order.
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
            .step_by(DRAWS_PER_RUN as usize)
            .map(|first| {
                let count = DRAWS_PER_RUN.min(n.get() - first);
                part(first, &DropoutMode::draws(count, seed))
            })
            .collect(),
        _ => Ok(vec![part(0, dropout)?]),
    }
}

/// Plans the network of a role for the CPU.
///
/// # Errors
/// The network is missing or cannot be planned.
pub fn plan(model: &Model, role: Role) -> Result<Arc<Plan>, RecognizerError> {
    let (graph, shapes) = graph_of(model, role)?;
    Ok(Arc::new(Plan::new(&graph, &shapes)?))
}

/// Graph of a network and the shapes of its inputs.
type RoleGraph<'m> = (Cow<'m, Graph>, Vec<Vec<usize>>);

/// Returns the graph of a role's network and the shapes of the front end's inputs for it. The graph of
/// [`Role::EmotionWindows`] has the weights of its attention pools as additional last outputs.
///
/// # Errors
/// The model has no such network.
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
