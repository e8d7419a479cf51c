//! Evaluation of a model on recordings with known labels.
//!
//! [`Evaluator`] collects the outcome of each recording of a [`Manifest`]. Its [`Evaluation`] is
//! written as JSON (described in `docs/eval.md`) or as text.

pub mod measure;
pub mod profiles;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use self::measure::{AgeError, Calibration, Confusion, CoveragePoint, IntervalQuality};
pub use self::profiles::{ProfilePoint, ProfileSize};
use super::batch::Outcome;
use super::manifest::Manifest;
use crate::formats::json::{self, Dropout};
use crate::formats::{ErrorCode, NOTICE};
use crate::model::ModelInfo;
use crate::nn::DropoutMode;
use crate::prediction::Age;

/// Age in years under which gender is measured separately, because children's voices hardly differ
/// by gender.
pub const CHILD: f64 = 12.0;
/// Age groups of the results: lower bound in years and name.
const AGE_BANDS: [(f64, &str); 5] = [
    (0.0, "under 12"),
    (CHILD, "12-19"),
    (20.0, "20-29"),
    (30.0, "30-39"),
    (40.0, "40+"),
];

/// Quality of a model on a manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Path of the manifest as given.
    pub manifest: String,
    /// The split that was evaluated, `None` for all rows.
    pub split: Option<String>,
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the bundle file, in hexadecimal.
    pub sha256: String,
    pub(super) dropout: Dropout,
    /// Number of evaluated rows.
    pub recordings: u64,
    /// Recordings that failed, in the order of the manifest.
    pub failures: Vec<Failure>,
    /// Results over all recordings.
    pub pooled: Results,
    /// Results per corpus.
    pub corpora: Vec<Group>,
    /// Results per true gender.
    pub by_gender: Vec<Group>,
    /// Results per age group, for recordings of known age.
    pub by_age: Vec<Group>,
    /// Results per age band of the manifest.
    pub by_age_band: Vec<Group>,
    /// Results per language of the manifest.
    pub by_language: Vec<Group>,
    /// Results per speaker, named `corpus/speaker`.
    pub by_speaker: Vec<Group>,
    /// Results per recording condition of the manifest.
    pub by_condition: Vec<Group>,
    /// Emotion results by size of the speaker profile; empty if not requested.
    pub profiles: Vec<ProfilePoint>,
    /// Notice that accompanies every prediction.
    pub notice: &'static str,
}

/// Recording that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Path in the manifest.
    pub path: String,
    /// Message with the recording's name.
    pub error: String,
    /// [`ErrorCode::name`] of the error.
    pub code: &'static str,
}

/// Results for a subset of the recordings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Shared label of the subset.
    pub name: String,
    #[serde(flatten)]
    /// Measures over the subset.
    pub results: Results,
}

/// Measures over a set of recordings.
///
/// A measure without any recordings is `None`. Failed recordings count in no measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// Number of recordings, successful and failed.
    pub recordings: u64,
    /// Number of failed recordings.
    pub failed: u64,
    /// Number of distinct speakers.
    pub speakers: u64,
    /// Classification by the largest emotion weight.
    pub emotion: Option<Classification>,
    /// Calibration of the largest emotion weight.
    pub calibration: Option<Calibration>,
    /// Gender of speakers of at least 12 years or unknown age.
    pub gender: Option<Classification>,
    /// Gender of children under 12 years.
    pub gender_under_12: Option<Classification>,
    /// Age error over recordings of known age.
    pub age: Option<AgeError>,
    /// Number of failed recordings in which no speech was found.
    pub refused: u64,
    /// Classification by the largest weight among the emotions that occur in the recording's
    /// corpus.
    pub emotion_in_corpus: Option<Classification>,
    /// Accuracy of the most confident predictions, by their share of the recordings.
    pub coverage: Vec<CoveragePoint>,
    /// Coverage of the predicted age intervals, if the model predicts intervals.
    pub age_interval: Option<IntervalQuality>,
}

/// Classification quality.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classification {
    /// Number of recordings with a prediction and a true label.
    pub recordings: u64,
    /// Unweighted average recall over the labels that occur.
    pub uar: f64,
    /// 95 % bootstrap interval over speakers; `None` for fewer than two.
    pub uar_interval: Option<[f64; 2]>,
    /// Share of correct predictions (weighted accuracy).
    pub accuracy: f64,
    /// Recall per label, in the order of the confusion's labels; `None` for a label that does not
    /// occur.
    pub recalls: Vec<Option<f64>>,
    /// Confusion matrix of all predictions.
    pub confusion: Confusion,
}

impl Classification {
    fn new(confusion: Confusion) -> Option<Self> {
        Some(Self {
            recordings: confusion.total(),
            uar: confusion.uar()?,
            uar_interval: None,
            accuracy: confusion.accuracy()?,
            recalls: confusion.recalls(),
            confusion,
        })
    }
}

/// Predicted label indices and values of one recording.
#[derive(Debug, Clone)]
struct PredictedLabels {
    emotion: usize,
    weight: f64,
    weights: Vec<f64>,
    gender: usize,
    age: Age,
}

/// Collector of outcomes.
#[derive(Debug)]
pub struct Evaluator<'m> {
    manifest: &'m Manifest,
    emotions: Vec<String>,
    genders: Vec<String>,
    /// Prediction of each row of the manifest so far; `None` if it failed.
    predictions: Vec<Option<PredictedLabels>>,
    /// True for each row that failed for lack of speech.
    refused: Vec<bool>,
    profiles: Vec<ProfilePoint>,
    failures: Vec<Failure>,
    /// Dropout mode of the predictions.
    dropout: DropoutMode,
}

impl<'m> Evaluator<'m> {
    /// Creates a collector. The manifest's labels must have been checked against `info`.
    pub fn new(manifest: &'m Manifest, info: &ModelInfo) -> Self {
        Self {
            manifest,
            emotions: info.emotions.clone(),
            genders: info.genders.clone(),
            predictions: Vec::new(),
            refused: Vec::new(),
            profiles: Vec::new(),
            failures: Vec::new(),
            dropout: DropoutMode::Off,
        }
    }

    /// Adds the outcome of the next row.
    ///
    /// The predicted emotion and gender are those of the largest weight among all labels of the
    /// model, also in a corpus with fewer labels.
    pub fn add(&mut self, outcome: &Outcome) {
        let row = &self.manifest.rows[self.predictions.len()];
        let prediction = match outcome {
            Err(error) => {
                self.failures.push(Failure {
                    path: row.path.clone(),
                    error: error.message.clone(),
                    code: error.code.name(),
                });
                None
            }
            Ok(p) => {
                self.dropout.clone_from(&p.dropout);
                let genders = p.gender.iter().enumerate();
                let emotion = p.strongest_emotion();
                Some(PredictedLabels {
                    emotion,
                    weight: p.emotions[emotion].mean,
                    weights: p.emotions.iter().map(|e| e.mean).collect(),
                    gender: genders.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |g| g.0),
                    age: p.age,
                })
            }
        };
        self.predictions.push(prediction);
        let refused = (outcome.as_ref()).is_err_and(|error| error.code == ErrorCode::NoSpeech);
        self.refused.push(refused);
    }

    /// Adds the measurements of [`profiles::curves`].
    pub fn add_profiles(&mut self, points: Vec<ProfilePoint>) {
        self.profiles = points;
    }

    /// Computes the results.
    pub fn finish(self, split: Option<&str>, info: &ModelInfo, identity: &str) -> Evaluation {
        let rows = &self.manifest.rows[..self.predictions.len()];
        let all: Vec<usize> = (0..rows.len()).collect();
        let pooled = self.results(&all);
        let age_band = |i: usize| {
            let age = rows[i].age?;
            let band = AGE_BANDS.iter().rposition(|(from, _)| age >= *from)?;
            Some((band, AGE_BANDS[band].1.to_owned()))
        };
        Evaluation {
            manifest: self.manifest.file.clone(),
            split: split.map(str::to_owned),
            model: info.name.clone(),
            sha256: identity.into(),
            dropout: json::dropout(&self.dropout),
            recordings: rows.len() as u64,
            pooled,
            corpora: self.group_by(|i| Some(rows[i].corpus.clone())),
            by_gender: self.group_by(|i| rows[i].gender.clone()),
            by_age: self
                .groups(age_band)
                .into_iter()
                .map(|((_, name), rows)| self.group(name, &rows))
                .collect(),
            by_age_band: self.group_by(|i| rows[i].age_band.clone()),
            by_language: self.group_by(|i| rows[i].language.clone()),
            by_speaker: self.group_by(|i| Some(self.speaker(i))),
            by_condition: self.group_by(|i| rows[i].condition.clone()),
            profiles: self.profiles,
            failures: self.failures,
            notice: NOTICE,
        }
    }

    /// Returns the speaker's unique name: speaker names are unique only within their corpus.
    fn speaker(&self, i: usize) -> String {
        let row = &self.manifest.rows[i];
        format!("{}/{}", row.corpus, row.speaker)
    }

    /// Groups rows by key, without rows that have no key.
    fn groups<K: Ord>(&self, key: impl Fn(usize) -> Option<K>) -> BTreeMap<K, Vec<usize>> {
        let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
        for i in 0..self.predictions.len() {
            if let Some(key) = key(i) {
                groups.entry(key).or_default().push(i);
            }
        }
        groups
    }

    fn group_by(&self, key: impl Fn(usize) -> Option<String>) -> Vec<Group> {
        let groups = self.groups(key).into_iter();
        groups.map(|(name, rows)| self.group(name, &rows)).collect()
    }

    fn group(&self, name: String, rows: &[usize]) -> Group {
        let results = self.results(rows);
        Group { name, results }
    }

    fn results(&self, rows: &[usize]) -> Results {
        let truth = |i: usize| &self.manifest.rows[i];
        let predicted = || {
            let pair = |&i: &usize| Some((truth(i), self.predictions[i].as_ref()?));
            rows.iter().filter_map(pair)
        };
        let mut calibration = Vec::new();
        let mut intervals = Vec::new();
        for (row, prediction) in predicted() {
            if let Some(emotion) = index(&self.emotions, &row.emotion) {
                calibration.push((prediction.weight, prediction.emotion == emotion));
            }
            if let (Some(age), Some(interval)) = (row.age, prediction.age.interval) {
                intervals.push((age, interval));
            }
        }
        let mut speakers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for &i in rows {
            speakers.entry(self.speaker(i)).or_default().push(i);
        }
        let speakers: Vec<Vec<usize>> = speakers.into_values().collect();
        let in_corpus = self.in_corpus();
        let classification = |confusion: &dyn Fn(&[usize]) -> Confusion| {
            let of_speakers = speakers.iter().map(|rows| confusion(rows));
            let heard: Vec<Confusion> = of_speakers.filter(|c| c.total() > 0).collect();
            let mut all = Classification::new(confusion(rows))?;
            all.uar_interval = measure::uar_interval(&heard);
            Some(all)
        };
        let ages = |rows: &[usize]| -> Vec<(f64, f64)> {
            let pair = |&i: &usize| Some((truth(i).age?, self.predictions[i].as_ref()?.age.years));
            rows.iter().filter_map(pair).collect()
        };
        let mut age = measure::age_error(&ages(rows));
        if let Some(age) = &mut age {
            let of_speakers: Vec<_> = speakers.iter().map(|rows| ages(rows)).collect();
            age.mean_absolute_interval = measure::age_error_interval(&of_speakers);
        }
        Results {
            recordings: rows.len() as u64,
            failed: (rows.len() - predicted().count()) as u64,
            speakers: speakers.len() as u64,
            emotion: classification(&|rows| self.emotion(rows)),
            calibration: measure::calibration(&calibration),
            gender: classification(&|rows| self.gender(rows, false)),
            gender_under_12: classification(&|rows| self.gender(rows, true)),
            age,
            refused: rows.iter().filter(|&&i| self.refused[i]).count() as u64,
            emotion_in_corpus: classification(&|rows| self.emotion_in_corpus(rows, &in_corpus)),
            coverage: measure::coverage(&calibration),
            age_interval: measure::interval_quality(&intervals),
        }
    }

    fn emotion(&self, rows: &[usize]) -> Confusion {
        let mut confusion = Confusion::new(&self.emotions);
        for &i in rows {
            let truth = index(&self.emotions, &self.manifest.rows[i].emotion);
            if let (Some(truth), Some(prediction)) = (truth, &self.predictions[i]) {
                confusion.add(truth, prediction.emotion);
            }
        }
        confusion
    }

    /// Returns the emotions that occur in each corpus.
    fn in_corpus(&self) -> BTreeMap<&str, Vec<bool>> {
        let mut present: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
        for row in &self.manifest.rows {
            if let Some(emotion) = index(&self.emotions, &row.emotion) {
                let none = || vec![false; self.emotions.len()];
                present.entry(&row.corpus).or_insert_with(none)[emotion] = true;
            }
        }
        present
    }

    fn emotion_in_corpus(
        &self,
        rows: &[usize],
        in_corpus: &BTreeMap<&str, Vec<bool>>,
    ) -> Confusion {
        let mut confusion = Confusion::new(&self.emotions);
        for &i in rows {
            let row = &self.manifest.rows[i];
            let truth = index(&self.emotions, &row.emotion);
            let (Some(truth), Some(prediction)) = (truth, &self.predictions[i]) else {
                continue;
            };
            let present = &in_corpus[&*row.corpus];
            let weights = prediction
                .weights
                .iter()
                .enumerate()
                .filter(|w| present[w.0]);
            let largest = weights.max_by(|a, b| a.1.total_cmp(b.1));
            confusion.add(truth, largest.map_or(truth, |w| w.0));
        }
        confusion
    }

    /// Returns the gender confusion of children, or of all other speakers.
    fn gender(&self, rows: &[usize], children: bool) -> Confusion {
        let mut confusion = Confusion::new(&self.genders);
        for &i in rows {
            let row = &self.manifest.rows[i];
            let truth = index(&self.genders, &row.gender);
            let is_child = row.age.is_some_and(|age| age < CHILD);
            if let (Some(truth), Some(prediction)) = (truth, &self.predictions[i])
                && is_child == children
            {
                confusion.add(truth, prediction.gender);
            }
        }
        confusion
    }
}

fn index(labels: &[String], label: &Option<String>) -> Option<usize> {
    let label = label.as_ref()?;
    labels.iter().position(|l| l == label)
}

impl Evaluation {
    /// Returns the evaluation as one JSON document.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("all keys are strings");
        text.push('\n');
        text
    }

    /// Returns the evaluation as text tables.
    pub fn text(&self) -> String {
        text::text(self)
    }
}

#[cfg(test)]
mod tests;
