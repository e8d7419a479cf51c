//! From one recording to one [`Prediction`].

use std::ops::Range;
use std::sync::Arc;

use crate::audio::{self, AudioError, DecodeError, Prepared, Recording, vad};
use crate::features::{self, FeatureError, FeatureExtractor, Features};
use crate::nn::graph::{Graph, Output, ValueId};
use crate::nn::layer::{Activation, Layer, MergeOp};
use crate::nn::model::{AgeScale, BundleInfo, ModelError, Preprocessing};
use crate::nn::{DropoutMode, GraphError, Model, Plan, Role, RunError, Session};
use crate::prediction::{Age, Estimate, Prediction, Window, voice, warnings};

/// Why a recording has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RecognizeError {
    /// The file cannot be read or decoded. The message names the file.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What was decoded cannot be analysed.
    #[error("{name}: {source}")]
    Audio {
        /// What the caller calls the recording.
        name: String,
        /// What is wrong with the recording, and what to do.
        source: AudioError,
    },
    /// No features can be computed.
    #[error("{name}: {source}")]
    Features {
        /// What the caller calls the recording.
        name: String,
        /// What is wrong with the signal, and what to do.
        source: FeatureError,
    },
    /// The networks gave a number that is not finite.
    #[error("{name}: the {role} network gives no finite number for this recording")]
    NotFinite {
        /// What the caller calls the recording.
        name: String,
        /// Whose output it is.
        role: Role,
    },
    /// A network refuses to run, because the given dropout masks do not fit it.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Why a model cannot recognise speech.
#[derive(Debug, thiserror::Error)]
pub enum RecognizerError {
    /// The name of a model that has no speech networks, no age scale or no pre-processing.
    #[error(
        "the model {0:?} is no speech model: it was converted from a single network. Convert the five files (emotion windows, age, gender, emotion features, merge) into one bundle"
    )]
    NotSpeech(String),
    /// Forced dropout in a network that is computed once; draws are made of
    /// [`Role::EmotionFeatures`] alone.
    #[error(
        "the model {model:?} has dropout that stays on in its {role} network; only the emotion_features network may have it"
    )]
    Dropout {
        /// [`BundleInfo::name`].
        model: String,
        /// The network that has it.
        role: Role,
    },
    /// The networks do not fit together; see [`ModelError`].
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A network cannot be planned for its inputs' shapes.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// A model ready to recognise speech, shared between threads.
#[derive(Debug)]
pub struct Recognizer {
    model: Model,
    age: AgeScale,
    extractor: FeatureExtractor,
    emotion_windows: Arc<Plan>,
    age_windows: Arc<Plan>,
    gender_windows: Arc<Plan>,
    emotion_features: Arc<Plan>,
    merge: Arc<Plan>,
    has_attention: bool,
}

impl Recognizer {
    /// Prepares a speech model.
    ///
    /// # Errors
    /// When it is not one (see [`Model::new`]), or a network other than the emotion features' has
    /// forced dropout.
    pub fn new(model: Model) -> Result<Self, RecognizerError> {
        let info = model.info();
        let not_speech = || RecognizerError::NotSpeech(info.name.clone());
        let age = info.age.ok_or_else(not_speech)?;
        let Some(Preprocessing::Reference2020) = info.preprocessing else {
            return Err(not_speech());
        };
        let graph = |role| model.network(role).map(|n| &n.graph).ok_or_else(not_speech);
        for role in Role::SPEECH {
            if role != Role::EmotionFeatures && graph(role)?.is_stochastic() {
                return Err(RecognizerError::Dropout {
                    model: info.name.clone(),
                    role,
                });
            }
        }
        let plan = |graph: &Graph| -> Result<Arc<Plan>, GraphError> {
            let shapes: Vec<Vec<usize>> = graph
                .inputs
                .iter()
                .map(|i| i.shape.iter().map(|d| d.unwrap_or(1)).collect())
                .collect();
            Plan::new(graph, &shapes).map(Arc::new)
        };
        let mut emotion_windows = graph(Role::EmotionWindows)?.clone();
        let attention = attention_weights(&emotion_windows);
        emotion_windows
            .outputs
            .extend(attention.map(|value| Output {
                name: "attention weights".into(),
                value,
            }));
        Ok(Self {
            age,
            extractor: FeatureExtractor::new(),
            emotion_windows: plan(&emotion_windows)?,
            age_windows: plan(graph(Role::Age)?)?,
            gender_windows: plan(graph(Role::Gender)?)?,
            emotion_features: plan(graph(Role::EmotionFeatures)?)?,
            merge: plan(graph(Role::Merge)?)?,
            has_attention: attention.is_some(),
            model,
        })
    }

    /// All networks, with where they came from.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Labels, age scale and pre-processing of the model.
    pub fn info(&self) -> &BundleInfo {
        self.model.info()
    }

    /// The buffers for one thread.
    pub fn worker(&self) -> Worker<'_> {
        Worker {
            recognizer: self,
            emotion_windows: Session::new(&self.emotion_windows),
            age_windows: Session::new(&self.age_windows),
            gender_windows: Session::new(&self.gender_windows),
            emotion_features: Session::new(&self.emotion_features),
            merge: Session::new(&self.merge),
        }
    }
}

/// The value that weighs the time steps in an attention pool: the softmax over time, permuted to
/// `[time, units]`, that is multiplied with the sequence before the sum over time.
fn attention_weights(graph: &Graph) -> Option<ValueId> {
    let is_softmax_over_time = |value: &ValueId| {
        let permuted = graph.producer(*value)?;
        let Layer::Permute { order } = &permuted.layer else {
            return None;
        };
        let softmax = graph.producer(permuted.inputs[0])?;
        let is_softmax = matches!(
            softmax.layer,
            Layer::Dense {
                activation: Activation::Softmax,
                ..
            } | Layer::Activation(Activation::Softmax)
        );
        (is_softmax && *order == [1, 0]).then_some(*value)
    };
    graph
        .nodes
        .iter()
        .filter(|n| matches!(n.layer, Layer::SumAxis { axis: 0 }))
        .filter_map(|sum| graph.producer(sum.inputs[0]))
        .filter(|n| {
            matches!(
                n.layer,
                Layer::Merge {
                    op: MergeOp::Multiply
                }
            )
        })
        .find_map(|product| product.inputs.iter().find_map(is_softmax_over_time))
}

/// One thread's way through a [`Recognizer`].
#[derive(Debug)]
pub struct Worker<'r> {
    recognizer: &'r Recognizer,
    emotion_windows: Session,
    age_windows: Session,
    gender_windows: Session,
    emotion_features: Session,
    merge: Session,
}

impl Worker<'_> {
    /// The answer for a decoded recording; `name` stands for it in errors.
    ///
    /// # Errors
    /// When the recording cannot be analysed; the message names it and says what to do.
    pub fn recognize(
        &mut self,
        recording: &Recording,
        name: &str,
        dropout: &DropoutMode,
    ) -> Result<Prediction, RecognizeError> {
        let mut detector = vad::Vad::new(vad::SampleRate::Khz16, vad::Mode::Aggressive);
        let mut detector = |frame: &[i16; audio::trim::FRAME]| {
            detector
                .is_speech(frame)
                .expect("480 samples are 30 ms at 16 kHz")
        };
        let prepared =
            audio::prepare(recording, &mut detector).map_err(|source| RecognizeError::Audio {
                name: name.into(),
                source,
            })?;
        let features = self
            .recognizer
            .extractor
            .extract(&prepared.signal)
            .map_err(|source| RecognizeError::Features {
                name: name.into(),
                source,
            })?;
        let answer = self.answer(&features, dropout, name)?;
        let age_scale = self.recognizer.age;
        let voice = voice(recording, &prepared);
        let warnings = warnings(recording, &prepared, &features, &answer.age, age_scale);
        Ok(Prediction {
            windows: self.timeline(&prepared, &features, &answer),
            emotions: answer.emotions,
            age: answer.age,
            gender: answer.gender,
            voice,
            warnings,
            dropout: dropout.clone(),
        })
    }

    /// The networks' answer for a recording's features.
    ///
    /// # Errors
    /// When a network gives a number that is not finite.
    pub fn answer(
        &mut self,
        features: &Features,
        dropout: &DropoutMode,
        name: &str,
    ) -> Result<Answer, RecognizeError> {
        let off = DropoutMode::Off;
        let windows = features.windows.starts().len();
        let input = [features.windows.data()];
        self.emotion_windows.run(&input, windows, &off)?;
        self.age_windows.run(&input, windows, &off)?;
        self.gender_windows.run(&input, windows, &off)?;
        let branches = features.branch_inputs();
        let inputs: Vec<&[f32]> = branches.iter().map(|b| &*b.data).collect();
        let emotions = self.recognizer.info().emotions.len();
        let window_mean = column_means(self.emotion_windows.output(0), emotions);
        let mut merged = Vec::new();
        for part in parts(dropout) {
            self.emotion_features
                .run_from_draw(part.first, &inputs, 1, &part.mode)?;
            let draws = self.emotion_features.rows();
            let window_rows: Vec<f32> = window_mean.repeat(draws);
            let mut merge_inputs = vec![&*window_rows];
            merge_inputs.extend((0..=branches.len()).map(|k| self.emotion_features.output(k)));
            self.merge.run(&merge_inputs, draws, &off)?;
            merged.extend_from_slice(self.merge.output(0));
        }

        for (role, outputs) in [
            (Role::EmotionWindows, self.emotion_windows.output(0)),
            (Role::Age, self.age_windows.output(0)),
            (Role::Gender, self.gender_windows.output(0)),
            (Role::Merge, &merged),
        ] {
            if outputs.iter().any(|x| !x.is_finite()) {
                return Err(RecognizeError::NotFinite {
                    name: name.into(),
                    role,
                });
            }
        }
        let scale = self.recognizer.age;
        let ages: Vec<f64> = self
            .age_windows
            .output(0)
            .iter()
            .map(|&a| f64::from(a) * scale.deviation + scale.mean)
            .collect();
        let genders = self.recognizer.info().genders.len();
        Ok(Answer {
            emotions: estimates(&merged, emotions),
            age: Age {
                years: mean(&ages),
                spread: sample_deviation(&ages),
            },
            gender: column_means(self.gender_windows.output(0), genders)
                .into_iter()
                .map(f64::from)
                .collect(),
            ages,
        })
    }

    fn timeline(&self, prepared: &Prepared, features: &Features, answer: &Answer) -> Vec<Window> {
        let info = self.recognizer.info();
        let rows = |output: &[f32], row: usize, width: usize| -> Vec<f64> {
            output[row * width..][..width]
                .iter()
                .map(|&x| f64::from(x))
                .collect()
        };
        let attention = self.recognizer.has_attention.then(|| {
            let (_, shape) = self
                .emotion_windows
                .plan()
                .outputs()
                .last()
                .expect("the attention was added as an output");
            (self.emotion_windows.output(1), shape[0], shape[1])
        });
        let starts = features.windows.starts().iter().enumerate();
        starts
            .map(|(i, &start)| Window {
                time: window_time(prepared, features, i, start),
                emotions: rows(self.emotion_windows.output(0), i, info.emotions.len()),
                age: answer.ages[i],
                gender: rows(self.gender_windows.output(0), i, info.genders.len()),
                attention: attention.map_or_else(Vec::new, |(weights, cells, units)| {
                    weights[i * cells * units..][..cells * units]
                        .chunks_exact(units)
                        .map(|cell| mean(&cell.iter().map(|&w| f64::from(w)).collect::<Vec<_>>()))
                        .collect()
                }),
            })
            .collect()
    }
}

/// What the networks say about a recording's features.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// As [`Prediction::emotions`].
    pub emotions: Vec<Estimate>,
    /// As [`Prediction::age`].
    pub age: Age,
    /// As [`Prediction::gender`].
    pub gender: Vec<f64>,
    /// Per window, in years.
    pub ages: Vec<f64>,
}

/// Draws that are computed together: enough to share the part of the network that no dropout
/// touches, few enough to stay in the cache and in bounded memory.
const DRAWS_AT_ONCE: u32 = 128;

/// Some of the draws of a dropout mode.
struct Part {
    first: u32,
    mode: DropoutMode,
}

/// The dropout mode in parts of at most [`DRAWS_AT_ONCE`] draws.
fn parts(dropout: &DropoutMode) -> Vec<Part> {
    let DropoutMode::Draws { n, seed } = dropout else {
        return vec![Part {
            first: 0,
            mode: dropout.clone(),
        }];
    };
    (0..n.get())
        .step_by(DRAWS_AT_ONCE as usize)
        .map(|first| Part {
            first,
            mode: DropoutMode::draws(DRAWS_AT_ONCE.min(n.get() - first), *seed),
        })
        .collect()
}

/// The recording's own time of window `i`, without the zeros that fill up a short one.
fn window_time(prepared: &Prepared, features: &Features, i: usize, start: usize) -> Range<f64> {
    let end = start + features.windows.real_frames(i);
    let last = prepared.signal.len();
    let time = |frame: usize| prepared.time_of((frame * features::HOP).min(last));
    time(start)..time(end)
}

/// Mean of each of `width` columns, summed in `f64` in the order of the rows.
fn column_means(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += f64::from(x);
        }
    }
    let count = (rows.len() / width) as f64;
    sums.into_iter().map(|s| (s / count) as f32).collect()
}

fn estimates(rows: &[f32], width: usize) -> Vec<Estimate> {
    (0..width)
        .map(|c| {
            let column: Vec<f64> = rows
                .chunks_exact(width)
                .map(|row| f64::from(row[c]))
                .collect();
            Estimate {
                mean: mean(&column),
                std: sample_deviation(&column),
            }
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation with `n - 1`; 0 for a single value.
fn sample_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}
