//! How right a model is on recordings of which the truth is known.
//!
//! [`Evaluator`] takes the outcome of each recording of a [`Manifest`] and gives an
//! [`Evaluation`], which is written as JSON (`docs/eval.md` describes it) or as text.

pub mod measure;
pub mod profiles;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use self::measure::{AgeError, Calibration, Confusion, Covered, IntervalQuality};
pub use self::profiles::{ProfilePoint, ProfileSize};
use super::batch::Outcome;
use super::manifest::Manifest;
use crate::formats::json::{self, Dropout};
use crate::formats::{Code, NOTICE};
use crate::model::ModelInfo;
use crate::nn::DropoutMode;
use crate::prediction::Age;

/// Under this age, in years, a voice says little about gender; measured apart.
pub const CHILD: f64 = 12.0;
/// The age groups that results are given for: lower bound in years and name.
const AGE_BANDS: [(f64, &str); 5] = [
    (0.0, "under 12"),
    (CHILD, "12-19"),
    (20.0, "20-29"),
    (30.0, "30-39"),
    (40.0, "40+"),
];

/// The measured quality of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// The file as given.
    pub manifest: String,
    /// The split that was evaluated, `None` for all rows.
    pub split: Option<String>,
    /// What the model is called.
    pub model: String,
    /// SHA-256 of the bundle file.
    pub sha256: String,
    pub(super) dropout: Dropout,
    /// Rows that were evaluated.
    pub recordings: u64,
    /// In the order of the manifest.
    pub failures: Vec<Failure>,
    /// Of all recordings.
    pub pooled: Results,
    /// By the name of the corpus.
    pub corpora: Vec<Group>,
    /// By the true gender.
    pub by_gender: Vec<Group>,
    /// By the true age, where it is known, in five groups.
    pub by_age: Vec<Group>,
    /// By the manifest's own age bands.
    pub by_age_band: Vec<Group>,
    /// By the manifest's language.
    pub by_language: Vec<Group>,
    /// By `corpus/speaker`.
    pub by_speaker: Vec<Group>,
    /// By the manifest's condition.
    pub by_condition: Vec<Group>,
    /// Emotions with profiles of the speaker, by their size; empty unless asked for.
    pub profiles: Vec<ProfilePoint>,
    /// What every answer has to be read with.
    pub notice: &'static str,
}

/// A recording without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// As the manifest has it.
    pub path: String,
    /// Names the recording.
    pub error: String,
    /// Of [`Code::name`].
    pub code: &'static str,
}

/// The results of some of the recordings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// What its recordings have in common.
    pub name: String,
    #[serde(flatten)]
    /// What was measured on them.
    pub results: Results,
}

/// What was measured on a set of recordings; a measure without recordings is `None`. Recordings
/// that failed count in no measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// Also those that failed.
    pub recordings: u64,
    /// Recordings without an answer.
    pub failed: u64,
    /// Different ones.
    pub speakers: u64,
    /// The answer is the emotion of the largest weight.
    pub emotion: Option<Classification>,
    /// Of the largest emotion weight.
    pub calibration: Option<Calibration>,
    /// Speakers of 12 years and more, or of unknown age.
    pub gender: Option<Classification>,
    /// Children, whose voices say little about it.
    pub gender_under_12: Option<Classification>,
    /// Of recordings whose age is known.
    pub age: Option<AgeError>,
    /// Of those that failed, the ones in which no speech was found.
    pub refused: u64,
    /// The answer is the emotion of the largest weight among those that the recording's corpus has.
    pub emotion_in_corpus: Option<Classification>,
    /// How right the surest answers are, by the share of recordings that are answered.
    pub coverage: Vec<Covered>,
    /// How often the true age lies in the stated interval, of a model that states one.
    pub age_interval: Option<IntervalQuality>,
}

/// How often the right label was answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classification {
    /// With an answer and a true label.
    pub recordings: u64,
    /// Unweighted average recall over the labels that are present.
    pub uar: f64,
    /// 95 % bootstrap interval over speakers; `None` for fewer than two.
    pub uar_interval: Option<[f64; 2]>,
    /// Share of right answers (weighted accuracy).
    pub accuracy: f64,
    /// Per label, in the order of the confusion's labels; `None` where it is not present.
    pub recalls: Vec<Option<f64>>,
    /// All answers.
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

/// The labels' indices and the numbers of one answer.
#[derive(Debug, Clone)]
struct Answer {
    emotion: usize,
    weight: f64,
    weights: Vec<f64>,
    gender: usize,
    age: Age,
}

/// Collects outcomes.
#[derive(Debug)]
pub struct Evaluator<'m> {
    manifest: &'m Manifest,
    emotions: Vec<String>,
    genders: Vec<String>,
    /// In the order of the manifest's rows.
    answers: Vec<Option<Answer>>,
    /// Whether the row has no answer because there is no speech in it.
    refused: Vec<bool>,
    profiles: Vec<ProfilePoint>,
    failures: Vec<Failure>,
    /// Of the answers.
    dropout: DropoutMode,
}

impl<'m> Evaluator<'m> {
    /// For a manifest whose labels were checked against the model that `info` describes.
    pub fn new(manifest: &'m Manifest, info: &ModelInfo) -> Self {
        Self {
            manifest,
            emotions: info.emotions.clone(),
            genders: info.genders.clone(),
            answers: Vec::new(),
            refused: Vec::new(),
            profiles: Vec::new(),
            failures: Vec::new(),
            dropout: DropoutMode::Off,
        }
    }

    /// Takes the outcome of the next row. The emotion is the one of the largest weight among all
    /// that the model has, also for a corpus with fewer; so is the gender.
    pub fn add(&mut self, outcome: &Outcome) {
        let row = &self.manifest.rows[self.answers.len()];
        let answer = match outcome {
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
                Some(Answer {
                    emotion,
                    weight: p.emotions[emotion].mean,
                    weights: p.emotions.iter().map(|e| e.mean).collect(),
                    gender: genders.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |g| g.0),
                    age: p.age,
                })
            }
        };
        self.answers.push(answer);
        let refused = (outcome.as_ref()).is_err_and(|error| error.code == Code::NoSpeech);
        self.refused.push(refused);
    }

    /// Takes what [`profiles::curves`] measured.
    pub fn add_profiles(&mut self, points: Vec<ProfilePoint>) {
        self.profiles = points;
    }

    /// Measures what was taken.
    pub fn finish(self, split: Option<&str>, info: &ModelInfo, identity: &str) -> Evaluation {
        let rows = &self.manifest.rows[..self.answers.len()];
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
            corpora: self.by(|i| Some(rows[i].corpus.clone())),
            by_gender: self.by(|i| rows[i].gender.clone()),
            by_age: self
                .groups(age_band)
                .into_iter()
                .map(|((_, name), rows)| self.group(name, &rows))
                .collect(),
            by_age_band: self.by(|i| rows[i].age_band.clone()),
            by_language: self.by(|i| rows[i].language.clone()),
            by_speaker: self.by(|i| Some(self.speaker(i))),
            by_condition: self.by(|i| rows[i].condition.clone()),
            profiles: self.profiles,
            failures: self.failures,
            notice: NOTICE,
        }
    }

    /// A speaker's name is unique in its corpus only.
    fn speaker(&self, i: usize) -> String {
        let row = &self.manifest.rows[i];
        format!("{}/{}", row.corpus, row.speaker)
    }

    /// The rows with the same key; rows without one are left out.
    fn groups<K: Ord>(&self, key: impl Fn(usize) -> Option<K>) -> BTreeMap<K, Vec<usize>> {
        let mut groups: BTreeMap<K, Vec<usize>> = BTreeMap::new();
        for i in 0..self.answers.len() {
            if let Some(key) = key(i) {
                groups.entry(key).or_default().push(i);
            }
        }
        groups
    }

    fn by(&self, key: impl Fn(usize) -> Option<String>) -> Vec<Group> {
        let groups = self.groups(key).into_iter();
        groups.map(|(name, rows)| self.group(name, &rows)).collect()
    }

    fn group(&self, name: String, rows: &[usize]) -> Group {
        let results = self.results(rows);
        Group { name, results }
    }

    fn results(&self, rows: &[usize]) -> Results {
        let truth = |i: usize| &self.manifest.rows[i];
        let answered = || {
            let pair = |&i: &usize| Some((truth(i), self.answers[i].as_ref()?));
            rows.iter().filter_map(pair)
        };
        let mut calibration = Vec::new();
        let mut intervals = Vec::new();
        for (row, answer) in answered() {
            if let Some(emotion) = index(&self.emotions, &row.emotion) {
                calibration.push((answer.weight, answer.emotion == emotion));
            }
            if let (Some(age), Some(interval)) = (row.age, answer.age.interval) {
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
            let pair = |&i: &usize| Some((truth(i).age?, self.answers[i].as_ref()?.age.years));
            rows.iter().filter_map(pair).collect()
        };
        let mut age = measure::age_error(&ages(rows));
        if let Some(age) = &mut age {
            let of_speakers: Vec<_> = speakers.iter().map(|rows| ages(rows)).collect();
            age.mean_absolute_interval = measure::age_error_interval(&of_speakers);
        }
        Results {
            recordings: rows.len() as u64,
            failed: (rows.len() - answered().count()) as u64,
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
            if let (Some(truth), Some(answer)) = (truth, &self.answers[i]) {
                confusion.add(truth, answer.emotion);
            }
        }
        confusion
    }

    /// The emotions that each corpus has.
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
            let (Some(truth), Some(answer)) = (truth, &self.answers[i]) else {
                continue;
            };
            let present = &in_corpus[&*row.corpus];
            let weights = answer.weights.iter().enumerate().filter(|w| present[w.0]);
            let largest = weights.max_by(|a, b| a.1.total_cmp(b.1));
            confusion.add(truth, largest.map_or(truth, |w| w.0));
        }
        confusion
    }

    /// Of children, or of everybody else.
    fn gender(&self, rows: &[usize], children: bool) -> Confusion {
        let mut confusion = Confusion::new(&self.genders);
        for &i in rows {
            let row = &self.manifest.rows[i];
            let truth = index(&self.genders, &row.gender);
            let is_child = row.age.is_some_and(|age| age < CHILD);
            if let (Some(truth), Some(answer)) = (truth, &self.answers[i])
                && is_child == children
            {
                confusion.add(truth, answer.gender);
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
    /// As one JSON document.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("all keys are strings");
        text.push('\n');
        text
    }

    /// As tables for people.
    pub fn text(&self) -> String {
        text::text(self)
    }
}

#[cfg(test)]
mod tests;
