//! From one recording to one [`Prediction`].

use std::ops::Range;
use std::sync::Arc;

use crate::audio::{self, AudioError, DecodeError, Prepared, Recording, vad};
use crate::features::{self, FeatureError, FeatureExtractor, Features};
use crate::nn::graph::{Graph, Output, ValueId};
use crate::nn::layer::{Activation, Layer, MergeOp};
use crate::nn::model::{AgeScale, BundleInfo, ModelError, Preprocessing};
use crate::nn::{DropoutMode, GraphError, Model, Plan, Role, RunError, Session};

/// Why a recording has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RecognizeError {
    /// The file cannot be read or decoded. The message names the file.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What was decoded cannot be analysed.
    #[error("{name}: {source}")]
    Audio { name: String, source: AudioError },
    /// No features can be computed.
    #[error("{name}: {source}")]
    Features { name: String, source: FeatureError },
    /// The networks gave a number that is not finite.
    #[error("{name}: the {role} network gives no finite number for this recording")]
    NotFinite { name: String, role: Role },
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Why a model cannot recognise speech.
#[derive(Debug, thiserror::Error)]
pub enum RecognizerError {
    #[error(
        "the model {0:?} is no speech model: it was converted from a single network. Convert the five files (emotion windows, age, gender, emotion features, merge) into one bundle"
    )]
    NotSpeech(String),
    #[error(
        "the model {model:?} has dropout that stays on in its {role} network; only the emotion_features network may have it"
    )]
    Dropout { model: String, role: Role },
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// A mean over draws and its sample standard deviation (0 for a single draw).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    pub std: f64,
}

/// The answer for one recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// One weight per emotion, in the order of [`BundleInfo::emotions`]; the means sum to 1.
    pub emotions: Vec<Estimate>,
    pub age: Age,
    /// One weight in [0, 1] per gender, in the order of [`BundleInfo::genders`]: the mean over the
    /// windows of independent sigmoids, so their sum is only close to 1.
    pub gender: Vec<f64>,
    /// What the window networks said about each stretch of time.
    pub windows: Vec<Window>,
    pub voice: Voice,
    pub warnings: Vec<Warning>,
    /// How forced dropout was treated.
    pub dropout: DropoutMode,
}

impl Prediction {
    /// Index of the largest emotion weight.
    pub fn strongest_emotion(&self) -> usize {
        let means = self.emotions.iter().map(|e| e.mean).enumerate();
        means
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(0, |(i, _)| i)
    }
}

/// How old the speaker sounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Age {
    /// Mean over the windows, in years.
    pub years: f64,
    /// Standard deviation over the windows, in years (0 for a single window).
    pub spread: f64,
}

/// The groups that the original answer distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgeGroup {
    Under20,
    From20To29,
    From30To39,
    From40,
}

impl Age {
    pub fn group(self) -> AgeGroup {
        match self.years {
            years if years >= 40.0 => AgeGroup::From40,
            years if years >= 30.0 => AgeGroup::From30To39,
            years if years >= 20.0 => AgeGroup::From20To29,
            _ => AgeGroup::Under20,
        }
    }
}

/// One window of 2 s (less at the end of a short recording).
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Where it lies in the recording's own time, in seconds.
    pub time: Range<f64>,
    /// The window network's emotion weights (before they are merged with the feature network's).
    pub emotions: Vec<f64>,
    /// In years.
    pub age: f64,
    pub gender: Vec<f64>,
    /// How much the emotion window network attended to each [`ATTENTION_CELL`] seconds from the
    /// window's start: sums to 1 over the full window. Empty if the network has no attention pool.
    pub attention: Vec<f64>,
}

/// Seconds that one attention value covers: 8 frames of 10 ms, as three poolings halve the time.
pub const ATTENTION_CELL: f64 = 0.08;

/// What part of a recording was heard as voice.
#[derive(Debug, Clone, PartialEq)]
pub struct Voice {
    /// Duration of the recording in seconds.
    pub duration: f64,
    pub sample_rate: u32,
    pub channels: u32,
    /// Container and encoding of the file.
    pub format: String,
    /// The analysed part, in seconds.
    pub analysed: Range<f64>,
    /// Whether silence was cut off at the ends; if not, all of the recording was analysed.
    pub trimmed: bool,
    /// Stretches heard as speech, in seconds.
    pub speech: Vec<Range<f64>>,
    /// How much of the analysed part was heard as speech, in seconds.
    pub voiced: f64,
}

/// Something about a recording that makes its answer less certain.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Warning {
    #[error("only {seconds:.2} s of voice; estimates need about 1 s or more")]
    LittleVoice { seconds: f64 },
    #[error("no voice was found; the answer describes whatever is in the recording")]
    NoVoice,
    #[error("{:.1}% of the samples are at full scale; the recording is clipped", fraction * 100.0)]
    Clipped { fraction: f64 },
    #[error("{seconds:.1} s of voice; age, gender and timeline come from its first 15 s")]
    Long { seconds: f64 },
    #[error("the estimated age {years:.0} is outside the {}-{} years that the model was made for", range[0], range[1])]
    AgeOutOfRange { years: f64, range: [f64; 2] },
    #[error("the file is cut short; what is there was analysed")]
    Truncated,
    #[error("{packets} packets of the file are damaged and were left out")]
    Damaged { packets: usize },
}

impl Warning {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::LittleVoice { .. } => "little_voice",
            Self::NoVoice => "no_voice",
            Self::Clipped { .. } => "clipped",
            Self::Long { .. } => "long",
            Self::AgeOutOfRange { .. } => "age_out_of_range",
            Self::Truncated => "truncated",
            Self::Damaged { .. } => "damaged",
        }
    }
}

/// Voice shorter than this is warned about, in seconds.
const LITTLE_VOICE: f64 = 1.0;
/// A share of full-scale samples above this is warned about: a few may be honest peaks.
const CLIPPED_SHARE: f64 = 0.001;

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

    pub fn model(&self) -> &Model {
        &self.model
    }

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
        self.emotion_features.run(&inputs, 1, dropout)?;

        let emotions = self.recognizer.info().emotions.len();
        let window_mean = column_means(self.emotion_windows.output(0), emotions);
        let draws = self.emotion_features.rows();
        let window_rows: Vec<f32> = window_mean.repeat(draws);
        let mut merge_inputs = vec![&*window_rows];
        merge_inputs.extend((0..=branches.len()).map(|k| self.emotion_features.output(k)));
        self.merge.run(&merge_inputs, draws, &off)?;

        for (role, outputs) in [
            (Role::EmotionWindows, self.emotion_windows.output(0)),
            (Role::Age, self.age_windows.output(0)),
            (Role::Gender, self.gender_windows.output(0)),
            (Role::Merge, self.merge.output(0)),
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
            emotions: estimates(self.merge.output(0), emotions),
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
    pub emotions: Vec<Estimate>,
    pub age: Age,
    pub gender: Vec<f64>,
    /// Per window, in years.
    pub ages: Vec<f64>,
}

/// The recording's own time of window `i`, without the zeros that fill up a short one.
fn window_time(prepared: &Prepared, features: &Features, i: usize, start: usize) -> Range<f64> {
    let end = start + features.windows.real_frames(i);
    let last = prepared.signal.len();
    let time = |frame: usize| prepared.time_of((frame * features::HOP).min(last));
    time(start)..time(end)
}

fn voice(recording: &Recording, prepared: &Prepared) -> Voice {
    let seconds = |sample: usize| sample as f64 / f64::from(prepared.sample_rate);
    Voice {
        duration: recording.seconds(),
        sample_rate: recording.sample_rate,
        channels: recording.channels,
        format: recording.format.clone(),
        analysed: seconds(prepared.kept.start)..seconds(prepared.kept.end),
        trimmed: prepared.trimmed,
        speech: prepared.voiced_spans(),
        voiced: prepared.voiced_seconds_kept(),
    }
}

fn warnings(
    recording: &Recording,
    prepared: &Prepared,
    features: &Features,
    age: &Age,
    scale: AgeScale,
) -> Vec<Warning> {
    let voiced = prepared.voiced_seconds_kept();
    let clipped = recording.clipped_fraction();
    let mut warnings = Vec::new();
    if voiced == 0.0 {
        warnings.push(Warning::NoVoice);
    } else if voiced < LITTLE_VOICE {
        warnings.push(Warning::LittleVoice { seconds: voiced });
    }
    if clipped > CLIPPED_SHARE {
        warnings.push(Warning::Clipped { fraction: clipped });
    }
    if features.frames > features::MAX_FRAMES {
        warnings.push(Warning::Long {
            seconds: prepared.signal.len() as f64 / f64::from(prepared.sample_rate),
        });
    }
    if let Some(range) = scale.valid {
        if !(range[0]..=range[1]).contains(&age.years) {
            warnings.push(Warning::AgeOutOfRange {
                years: age.years,
                range,
            });
        }
    }
    if recording.truncated {
        warnings.push(Warning::Truncated);
    }
    if recording.damaged_packets > 0 {
        warnings.push(Warning::Damaged {
            packets: recording.damaged_packets,
        });
    }
    warnings
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
