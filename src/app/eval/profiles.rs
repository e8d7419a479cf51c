//! How much a profile of the speaker helps, by the recordings that it is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::measure::Confusion;
use super::{Classification, index};
use crate::app::batch::Batch;
use crate::app::inputs::Input;
use crate::app::manifest::Manifest;
use crate::formats::NoAnswer;
use crate::model::ModelInfo;
use crate::nn::dropout::philox4x32;
use crate::recognizer::{ProfileBuilder, ProfileError, Recognizer, SpeakerProfile};

/// The emotion of recordings that a profile is made of in everyday life.
const NEUTRAL: &str = "neutral";
/// More recordings than any speaker has.
const MAX_SIZE: u32 = 1_000_000;

/// How many of a speaker's other recordings a profile is made of, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProfileSize {
    /// This many; 0 stands for no profile.
    Number(u32),
    /// Every one.
    All,
}

impl ProfileSize {
    fn at_most(self) -> usize {
        match self {
            Self::Number(n) => n as usize,
            Self::All => usize::MAX,
        }
    }
}

impl FromStr for ProfileSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let number = text.parse().ok().filter(|n| *n <= MAX_SIZE);
        number
            .map(Self::Number)
            .ok_or_else(|| format!("give `all` or a number of recordings from 0 to {MAX_SIZE}"))
    }
}

impl fmt::Display for ProfileSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl Serialize for ProfileSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The emotions of recordings answered with profiles of one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfilePoint {
    /// As asked for.
    pub size: ProfileSize,
    /// Which recordings of the speaker the profiles are made of: `any` or `neutral`.
    pub from: &'static str,
    /// How many they are made of on average: less than `size` where a speaker has fewer.
    pub mean_recordings: f64,
    /// Of all recordings.
    pub pooled: Classification,
    /// By the name of the corpus.
    pub corpora: Vec<CorpusPoint>,
}

/// One corpus of a [`ProfilePoint`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorpusPoint {
    /// Of the corpus.
    pub name: String,
    /// Its emotions.
    pub emotion: Classification,
}

/// What is counted for one size and kind.
struct Count {
    profiled: u64,
    corpora: BTreeMap<String, Confusion>,
}

/// Answers every recording with a known speaker and emotion once for each of `sizes`, with profiles
/// of any and, except for size 0, of neutral ones of the speaker's other recordings in the manifest.
/// The choice depends on `seed` alone, and a smaller profile's recordings are in the larger one too.
/// Speakers come one after the other, so only one's recordings' descriptors are held. `done` is told
/// of each recording that was read.
///
/// # Errors
/// When the model takes no profiles.
pub fn curves(
    batch: &Batch<'_>,
    recognizer: &Recognizer,
    manifest: &Manifest,
    sizes: &[ProfileSize],
    seed: u64,
    mut done: impl FnMut(),
) -> Result<Vec<ProfilePoint>, ProfileError> {
    if let Err(error @ ProfileError::Unsupported(_)) =
        recognizer.profile(&ProfileBuilder::default())
    {
        return Err(error);
    }
    let info = recognizer.info();
    let points = points(sizes);
    let empty = || Count {
        profiled: 0,
        corpora: BTreeMap::new(),
    };
    let mut counts: Vec<Count> = points.iter().map(|_| empty()).collect();
    let mut speakers: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (i, row) in manifest.rows.iter().enumerate() {
        if !row.speaker.is_empty() {
            let speaker = (&*row.corpus, &*row.speaker);
            speakers.entry(speaker).or_default().push(i);
        }
    }
    for ((corpus, _), rows) in speakers {
        let inputs: Vec<Input> = rows
            .iter()
            .map(|&i| manifest.input(&manifest.rows[i]))
            .collect();
        let mut own = Vec::with_capacity(rows.len());
        let Ok(()) = batch.collect(&inputs, |_, one| {
            // What is wrong with it is said where it is answered.
            own.push(one.unwrap_or_default());
            done();
            Ok::<(), std::convert::Infallible>(())
        });
        let is_neutral = |i: usize| manifest.rows[i].emotion.as_deref() == Some(NEUTRAL);
        let chosen = |place: usize| {
            let order = order(&rows, place, seed);
            let usable = order
                .into_iter()
                .filter(|&other| own[other].recordings() > 0);
            let usable: Vec<usize> = usable.collect();
            let neutral = usable.iter().copied().filter(|&o| is_neutral(rows[o]));
            (neutral.collect::<Vec<usize>>(), usable)
        };
        // Those with a true emotion are answered.
        let asked: Vec<usize> = (0..rows.len())
            .filter(|&place| index(&info.emotions, &manifest.rows[rows[place]].emotion).is_some())
            .collect();
        let asked_inputs: Vec<Input> = asked
            .iter()
            .map(|&place| manifest.input(&manifest.rows[rows[place]]))
            .collect();
        let profiles = |i: usize| -> Vec<Option<SpeakerProfile>> {
            let (neutral, any) = chosen(asked[i]);
            let of = |&(size, from): &(ProfileSize, Kind)| {
                let from = match from {
                    Kind::Any => &any,
                    Kind::Neutral => &neutral,
                };
                let mut sum = ProfileBuilder::default();
                let some = from.iter().take(size.at_most());
                some.for_each(|&other| sum.merge(&own[other]));
                recognizer.profile(&sum).ok()
            };
            points.iter().map(of).collect()
        };
        let mut places = asked.iter();
        let Ok(()) = batch.run_with_profiles(&asked_inputs, profiles, |_, outcome| {
            let place = places.next().expect("an outcome for each input");
            count(&mut counts, info, manifest, rows[*place], corpus, outcome);
            Ok::<(), std::convert::Infallible>(())
        });
    }
    let made = points.into_iter().zip(counts);
    Ok(made
        .filter_map(|(point, count)| finish(point, count))
        .collect())
}

/// Which recordings of a speaker make a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Any,
    Neutral,
}

/// Each size once, in order, of any and of neutral recordings.
fn points(sizes: &[ProfileSize]) -> Vec<(ProfileSize, Kind)> {
    let mut points: Vec<(ProfileSize, Kind)> = sizes
        .iter()
        .flat_map(|&size| [(size, Kind::Any), (size, Kind::Neutral)])
        .filter(|&(size, from)| from == Kind::Any || size != ProfileSize::Number(0))
        .collect();
    points.sort();
    points.dedup();
    points
}

/// The places of the others among `rows`, in a random order of this row's own.
fn order(rows: &[usize], place: usize, seed: u64) -> Vec<usize> {
    let key = [seed as u32, (seed >> 32) as u32];
    let mut others: Vec<usize> = (0..rows.len()).filter(|&other| other != place).collect();
    others.sort_by_key(|&other| {
        let counter = [rows[place] as u32, rows[other] as u32, 0, 1];
        (philox4x32(counter, key), other)
    });
    others
}

fn count(
    counts: &mut [Count],
    info: &ModelInfo,
    manifest: &Manifest,
    row: usize,
    corpus: &str,
    outcome: Result<Vec<crate::prediction::Prediction>, NoAnswer>,
) {
    let truth = index(&info.emotions, &manifest.rows[row].emotion);
    let (Some(truth), Ok(answers)) = (truth, outcome) else {
        return;
    };
    for (count, answer) in counts.iter_mut().zip(answers) {
        count.profiled += answer.speaker.map_or(0, |s| u64::from(s.recordings));
        let empty = || Confusion::new(&info.emotions);
        let confusion = count.corpora.entry(corpus.into()).or_insert_with(empty);
        confusion.add(truth, answer.strongest_emotion());
    }
}

fn finish((size, from): (ProfileSize, Kind), count: Count) -> Option<ProfilePoint> {
    let mut confusions = count.corpora.values();
    let mut pooled = confusions.next()?.clone();
    confusions.for_each(|c| pooled.add_all(c));
    let answered = pooled.total();
    let corpora = count.corpora.into_iter().filter_map(|(name, confusion)| {
        Some(CorpusPoint {
            name,
            emotion: Classification::new(confusion)?,
        })
    });
    Some(ProfilePoint {
        size,
        from: match from {
            Kind::Any => "any",
            Kind::Neutral => NEUTRAL,
        },
        mean_recordings: count.profiled as f64 / answered as f64,
        corpora: corpora.collect(),
        pooled: Classification::new(pooled)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_and_nonsense_is_refused() {
        for text in ["0", "1", "10", "all"] {
            assert_eq!(text.parse::<ProfileSize>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "ALL", "1.5", "1000001"] {
            assert!(text.parse::<ProfileSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_size_is_measured_once_and_none_without_a_profile_twice() {
        let sizes = [ProfileSize::All, ProfileSize::Number(0), ProfileSize::All];
        let wanted = [
            (ProfileSize::Number(0), Kind::Any),
            (ProfileSize::All, Kind::Any),
            (ProfileSize::All, Kind::Neutral),
        ];
        assert_eq!(points(&sizes), wanted);
    }

    #[test]
    fn the_order_is_the_seeds_and_leaves_the_recording_out() {
        let rows: Vec<usize> = (10..30).collect();
        let first = order(&rows, 3, 7);
        assert_eq!(first, order(&rows, 3, 7));
        assert!(first != order(&rows, 3, 8) && first != order(&rows, 4, 7));
        let mut sorted = first;
        sorted.sort();
        let others: Vec<usize> = (0..20).filter(|i| *i != 3).collect();
        assert_eq!(sorted, others);
    }
}
