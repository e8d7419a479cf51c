//! The answer of the system of 2020, byte for byte: one JSON object with numbered keys, as Python's
//! `json.dumps` writes numbers that went through `round(x, 4)`.

use std::fmt::Write;

use super::ReportError;
use crate::model::ModelInfo;
use crate::prediction::{AgeGroup, Prediction};

/// The keys of the emotions, in their order in the object.
const EMOTIONS: [(u32, &str); 7] = [
    (10001, "happiness"),
    (10002, "anger"),
    (10003, "disgust"),
    (10004, "fear"),
    (10005, "neutral"),
    (10006, "sadness"),
    (10007, "surprise"),
];
const AGE: u32 = 20000;
const AGE_GROUPS: [(u32, AgeGroup); 3] = [
    (20003, AgeGroup::From20To29),
    (20004, AgeGroup::From30To39),
    (20005, AgeGroup::From40),
];
const MALE: u32 = 30001;
/// One minus [`MALE`], not the model's own second output.
const FEMALE: u32 = 30002;

/// Where a model keeps what the object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    emotions: [usize; EMOTIONS.len()],
    male: usize,
}

impl Codes {
    /// # Errors
    /// When the model lacks an emotion or a gender that the object holds.
    pub fn new(info: &ModelInfo) -> Result<Self, ReportError> {
        let find = |kind, labels: &[String], label: &'static str| {
            let missing = || ReportError::MissingLabel {
                model: info.name.clone(),
                kind,
                label,
                has: labels.join(", "),
            };
            labels.iter().position(|l| l == label).ok_or_else(missing)
        };
        let mut emotions = [0; EMOTIONS.len()];
        for (index, (_, name)) in emotions.iter_mut().zip(EMOTIONS) {
            *index = find("emotion", &info.emotions, name)?;
        }
        let male = find("gender", &info.genders, "male")?;
        Ok(Self { emotions, male })
    }

    /// The emotion weights in the order of their keys.
    pub fn emotions(&self, prediction: &Prediction) -> [f64; EMOTIONS.len()] {
        self.emotions.map(|index| prediction.emotions[index].mean)
    }

    /// The weight of male, and one minus it.
    pub fn gender(&self, prediction: &Prediction) -> [f64; 2] {
        let male = prediction.gender[self.male];
        [male, 1.0 - male]
    }

    /// The object, without a line end.
    pub fn object(&self, prediction: &Prediction) -> String {
        let group = prediction.age.group();
        let [male, female] = self.gender(prediction);
        let codes = EMOTIONS.iter().map(|(code, _)| *code);
        let pairs = codes
            .zip(self.emotions(prediction))
            .chain([(AGE, prediction.age.years)])
            .chain(AGE_GROUPS.map(|(code, g)| (code, f64::from(u8::from(g == group)))))
            .chain([(MALE, male), (FEMALE, female)]);
        let mut text = String::from("{");
        for (i, (code, value)) in pairs.enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let value = python_repr(python_round(value));
            write!(text, "{comma}\"{code}\": {value}").expect("a string takes everything");
        }
        text + "}"
    }
}

/// The line in the place of a recording that has no answer.
pub fn failure(file: &str, error: &str) -> String {
    let quoted = |text| serde_json::Value::from(text).to_string();
    format!(
        "{{\"error\": {}, \"file\": {}}}",
        quoted(error),
        quoted(file)
    )
}

/// `round(x, 4)`: to the nearest decimal of the exact binary value, ties to even.
fn python_round(x: f64) -> f64 {
    let text = format!("{x:.4}");
    text.parse().expect("a formatted number is a number")
}

/// `repr(x)`: the shortest decimal that reads back as `x`, with an exponent from 1e16 and below
/// 1e-4. Only for finite numbers.
fn python_repr(x: f64) -> String {
    let size = x.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{x:?}");
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').expect("this format has an exponent");
    let (sign, power) = match exponent.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{power:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CPython 3 prints for `repr(round(x, 4))`.
    #[test]
    fn numbers_look_like_pythons() {
        let cases = [
            (0.03125, "0.0312"),
            (0.09375, "0.0938"),
            (0.15625, "0.1562"),
            (0.00005, "0.0001"),
            (0.000049, "0.0"),
            (-0.00001, "-0.0"),
            (1.0 - 0.99996376, "0.0"),
            (0.0001, "0.0001"),
            (1.0, "1.0"),
            (0.151, "0.151"),
            (28.785_75, "28.7858"),
            (30.792_000_1, "30.792"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.5e20, "-1.5e+20"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
        ];
        for (x, wanted) in cases {
            assert_eq!(python_repr(python_round(x)), wanted, "{x:?}");
        }
        assert_eq!(python_repr(1e-5), "1e-05");
        assert_eq!(python_repr(2.5e-110), "2.5e-110");
    }
}
