//! The five networks that every speech model has, ready to run.

use std::sync::Arc;

use super::{RecognizerError, attention};
use crate::nn::graph::Output;
use crate::nn::{Model, Plan, Role, Session};

/// A plan for each role.
#[derive(Debug)]
pub struct Plans {
    emotion_windows: Arc<Plan>,
    age: Arc<Plan>,
    gender: Arc<Plan>,
    pub emotion_features: Arc<Plan>,
    merge: Arc<Plan>,
}

/// One thread's buffers for each role.
#[derive(Debug)]
pub struct Sessions {
    pub emotion_windows: Session,
    pub age: Session,
    pub gender: Session,
    pub emotion_features: Session,
    pub merge: Session,
}

impl Plans {
    /// For a speech model.
    ///
    /// # Errors
    /// When a network is missing or cannot be planned.
    pub fn new(model: &Model) -> Result<Self, RecognizerError> {
        Ok(Self {
            emotion_windows: planned(model, Role::EmotionWindows)?,
            age: planned(model, Role::Age)?,
            gender: planned(model, Role::Gender)?,
            emotion_features: planned(model, Role::EmotionFeatures)?,
            merge: planned(model, Role::Merge)?,
        })
    }

    /// One thread's buffers.
    pub fn sessions(&self) -> Sessions {
        Sessions {
            emotion_windows: Session::new(&self.emotion_windows),
            age: Session::new(&self.age),
            gender: Session::new(&self.gender),
            emotion_features: Session::new(&self.emotion_features),
            merge: Session::new(&self.merge),
        }
    }
}

impl Sessions {
    /// Bytes that the buffers take.
    pub fn held_bytes(&self) -> usize {
        let Self {
            emotion_windows,
            age,
            gender,
            emotion_features,
            merge,
        } = self;
        [emotion_windows, age, gender, emotion_features, merge]
            .into_iter()
            .map(Session::held_bytes)
            .sum()
    }
}

/// The plan of a role's network for the inputs that the front end gives; of the emotion windows'
/// with their attention, if they have any, as last outputs.
fn planned(model: &Model, role: Role) -> Result<Arc<Plan>, RecognizerError> {
    let not_speech = || RecognizerError::NotSpeech(model.info().name.clone());
    let front_end = model.info().preprocessing.ok_or_else(not_speech)?;
    let mut graph = model.network(role).ok_or_else(not_speech)?.graph.clone();
    if role == Role::EmotionWindows {
        let pools = attention::weights(&graph).into_iter().enumerate();
        graph.outputs.extend(pools.map(|(pool, value)| Output {
            name: format!("{} {pool}", attention::OUTPUT),
            value,
        }));
    }
    let shapes = front_end.inputs(role, model.info().emotions.len());
    Ok(Arc::new(Plan::new(&graph, &shapes)?))
}

/// Whether networks of one recording run side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Together {
    /// One after the other, on the thread that asks.
    #[default]
    No,
    /// On the threads of its rayon pool.
    Yes,
}

impl Together {
    /// Does both.
    pub fn join<A: Send, B: Send>(
        self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match self {
            Self::No => (a(), b()),
            Self::Yes => rayon::join(a, b),
        }
    }
}
