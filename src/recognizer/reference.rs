//! The system of 2020: its front end, its features, its five networks.

use std::ops::Range;

use super::networks::{Plans, Sessions, Together};
use super::statistics::{column_means, estimates, mean, sample_deviation};
use super::{RecognizeError, RecognizerError, attention, check_finite, row};
use crate::audio::{self, AudioError, Prepared, Recording, Resampling, vad};
use crate::features::{self, FeatureExtractor, Features};
use crate::nn::model::AgeScale;
use crate::nn::{DropoutMode, Model, Role, RunError, Session};
use crate::prediction::{Age, Estimate, Prediction, Voice, Warning, Window};

/// Everything that all threads share.
#[derive(Debug)]
pub struct Networks {
    emotions: usize,
    genders: usize,
    age: AgeScale,
    resampling: Resampling,
    extractor: FeatureExtractor,
    plans: Plans,
}

impl Networks {
    /// For a model with this front end.
    ///
    /// # Errors
    /// When a network cannot be planned.
    pub fn new(model: &Model, age: AgeScale) -> Result<Self, RecognizerError> {
        Ok(Self {
            emotions: model.info().emotions.len(),
            genders: model.info().genders.len(),
            age,
            resampling: model.info().resampling,
            extractor: FeatureExtractor::new(),
            plans: Plans::new(model)?,
        })
    }

    /// One thread's buffers.
    pub fn worker(&self) -> Worker<'_> {
        Worker {
            networks: self,
            sessions: self.plans.sessions(),
            together: Together::default(),
        }
    }
}

/// One thread's way through the networks.
#[derive(Debug)]
pub struct Worker<'r> {
    networks: &'r Networks,
    pub(super) sessions: Sessions,
    pub together: Together,
}

/// What the networks say about a recording's features.
struct Answer {
    emotions: Vec<Estimate>,
    age: Age,
    gender: Vec<f64>,
    /// Per window, in years.
    ages: Vec<f64>,
}

/// The recording as this front end takes it.
///
/// # Errors
/// When it cannot be analysed.
pub fn prepare(recording: &Recording, resampling: Resampling) -> Result<Prepared, AudioError> {
    let mut detector = vad::Vad::new(vad::SampleRate::Khz16, vad::Mode::Aggressive);
    let mut detector = |frame: &[i16; audio::trim::FRAME]| {
        detector
            .is_speech(frame)
            .expect("480 samples are 30 ms at 16 kHz")
    };
    audio::prepare_with(recording, resampling, &mut detector)
}

impl Worker<'_> {
    /// The answer for a recording.
    ///
    /// # Errors
    /// When it cannot be analysed.
    pub fn recognize(
        &mut self,
        recording: &Recording,
        name: &str,
        dropout: &DropoutMode,
    ) -> Result<Prediction, RecognizeError> {
        let prepared = prepare(recording, self.networks.resampling).map_err(|source| {
            RecognizeError::Audio {
                name: name.into(),
                source,
            }
        })?;
        let features = self
            .networks
            .extractor
            .extract(&prepared.signal)
            .map_err(|source| RecognizeError::Features {
                name: name.into(),
                source,
            })?;
        let answer = self.answer(&features, dropout, name)?;
        let voiced = prepared.voiced_seconds_kept();
        let mut warnings = Warning::general(recording, voiced, &answer.age, &self.networks.age);
        if features.frames > features::MAX_FRAMES {
            warnings.push(Warning::Long {
                seconds: prepared.signal.len() as f64 / f64::from(prepared.sample_rate),
            });
        }
        Ok(Prediction {
            windows: self.timeline(&prepared, &features, &answer),
            emotions: answer.emotions,
            age: answer.age,
            gender: answer.gender,
            voice: voice(recording, &prepared),
            warnings,
            dropout: dropout.clone(),
        })
    }

    fn answer(
        &mut self,
        features: &Features,
        dropout: &DropoutMode,
        name: &str,
    ) -> Result<Answer, RecognizeError> {
        let off = DropoutMode::Off;
        let (sheet, starts) = (features.windows.sheet(), features.windows.starts());
        let branches = features.branch_inputs();
        let inputs: Vec<&[f32]> = branches.iter().map(|b| &*b.data).collect();
        let Sessions {
            emotion_windows,
            age,
            gender,
            emotion_features,
            merge,
        } = &mut self.sessions;
        let windows = |session: &mut Session| session.run_windows(sheet, starts, &off);
        let together = self.together;
        let ((drawn, aged), (first, second)) = together.join(
            || together.join(|| draw(emotion_features, &inputs, dropout), || windows(age)),
            || together.join(|| windows(emotion_windows), || windows(gender)),
        );
        aged.and(first).and(second)?;
        let drawn = drawn?;
        let emotions = self.networks.emotions;
        let window_mean = column_means(emotion_windows.output(0), emotions);
        let mut merged = Vec::new();
        for part in drawn {
            let window_rows: Vec<f32> = window_mean.repeat(part.rows);
            let mut merge_inputs = vec![&*window_rows];
            merge_inputs.extend(part.outputs.iter().map(|output| &**output));
            merge.run(&merge_inputs, part.rows, &off)?;
            merged.extend_from_slice(merge.output(0));
        }
        check_finite(
            Role::EmotionWindows,
            self.sessions.emotion_windows.output(0),
            name,
        )?;
        check_finite(Role::Age, self.sessions.age.output(0), name)?;
        check_finite(Role::Gender, self.sessions.gender.output(0), name)?;
        check_finite(Role::Merge, &merged, name)?;
        let scale = self.networks.age;
        let ages: Vec<f64> = self
            .sessions
            .age
            .output(0)
            .iter()
            .map(|&a| f64::from(a) * scale.deviation + scale.mean)
            .collect();
        Ok(Answer {
            emotions: estimates(&merged, emotions),
            age: Age {
                years: mean(&ages),
                spread: Some(sample_deviation(&ages)),
                error: scale.error,
            },
            gender: column_means(self.sessions.gender.output(0), self.networks.genders)
                .into_iter()
                .map(f64::from)
                .collect(),
            ages,
        })
    }

    fn timeline(&self, prepared: &Prepared, features: &Features, answer: &Answer) -> Vec<Window> {
        let Networks {
            emotions, genders, ..
        } = *self.networks;
        let starts = features.windows.starts().iter().enumerate();
        starts
            .map(|(i, &start)| Window {
                time: window_time(prepared, features, i, start),
                emotions: row(self.sessions.emotion_windows.output(0), i, emotions),
                age: Some(answer.ages[i]),
                gender: row(self.sessions.gender.output(0), i, genders),
                attention: attention::of_window(&self.sessions.emotion_windows, i, WINDOW_SECONDS),
            })
            .collect()
    }
}

/// Length of a full window.
const WINDOW_SECONDS: f64 =
    (features::WINDOW_FRAMES * features::HOP) as f64 / features::SAMPLE_RATE as f64;

/// Draws that are computed together: enough to share the part of the network that no dropout
/// touches, few enough to stay in the cache and in bounded memory.
const DRAWS_AT_ONCE: u32 = 128;

/// What the feature network gives for some draws.
struct Drawn {
    rows: usize,
    outputs: Vec<Vec<f32>>,
}

/// All draws, in their order.
fn draw(
    session: &mut Session,
    inputs: &[&[f32]],
    dropout: &DropoutMode,
) -> Result<Vec<Drawn>, RunError> {
    let part = |part: Part| {
        session.run_from_draw(part.first, inputs, 1, &part.mode)?;
        let outputs = 0..session.plan().outputs().len();
        Ok(Drawn {
            rows: session.rows(),
            outputs: outputs.map(|k| session.output(k).to_vec()).collect(),
        })
    };
    parts(dropout).into_iter().map(part).collect()
}

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

/// What the front end found out about the recording.
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
