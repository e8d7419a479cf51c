//! Options of a call, as JSON.

use maeum::audio::decode;
use maeum::nn::DropoutMode;
use maeum::recognizer::{Recognizer, SpeakerProfile};
use serde::Deserialize;

use crate::MAEUM_BAD_PROFILE;
use crate::boundary::Failure;

/// Maximum number of draws; the server has the same.
const MAX_DRAWS: u32 = 1024;
/// Name of a recording without a name.
const UNNAMED: &str = "recording";

/// Options of a call; a missing one is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    name: Option<String>,
    /// Name of a [`maeum::formats::Format`].
    pub format: Option<String>,
    dropout: Option<Dropout>,
    seed: Option<u64>,
    profile: Option<Box<serde_json::Value>>,
    max_seconds: Option<u32>,
    channel: Option<u32>,
    /// Seconds that are added to all times.
    pub start: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Dropout {
    Number(u32),
    Text(String),
}

impl Options {
    /// Parses the JSON object; an empty text is an empty object.
    pub fn read(text: &str) -> Result<Self, Failure> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|e| Failure::bad_request(format!("the options: {e}")))
    }

    /// Returns the name of the recording in answers and messages.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(UNNAMED)
    }

    /// Returns the limit of the duration.
    pub fn limit(&self) -> decode::Limit {
        let default = decode::Limit::default();
        decode::Limit {
            seconds: self.max_seconds.unwrap_or(default.seconds),
            ..default
        }
    }

    /// Returns the channel to analyse, from 1; `None` for the mean of all.
    pub fn channel(&self) -> Result<Option<u32>, Failure> {
        match self.channel {
            Some(0) => Err(Failure::bad_request(
                "the option channel must be a number from 1; leave it out for the mean of all channels",
            )),
            channel => Ok(channel),
        }
    }

    /// Returns the dropout mode, with the recogniser's for what is missing.
    pub fn dropout(&self, default: &DropoutMode) -> Result<DropoutMode, Failure> {
        let (n, seed) = match default {
            DropoutMode::Draws { n, seed } => (Some(n.get()), *seed),
            DropoutMode::Off | DropoutMode::Masks(_) => (None, 0),
        };
        let draws = match &self.dropout {
            None => n,
            Some(Dropout::Text(text)) if text == "off" => None,
            Some(Dropout::Number(n)) if (1..=MAX_DRAWS).contains(n) => Some(*n),
            Some(_) => {
                return Err(Failure::bad_request(format!(
                    "the option dropout must be \"off\" or a number of draws from 1 to {MAX_DRAWS}"
                )));
            }
        };
        Ok(match draws {
            Some(n) => DropoutMode::draws(n, self.seed.unwrap_or(seed)),
            None => DropoutMode::Off,
        })
    }

    /// Returns the speaker profile, made with the recogniser's model.
    pub fn profile(&self, recognizer: &Recognizer) -> Result<Option<SpeakerProfile>, Failure> {
        let Some(value) = &self.profile else {
            return Ok(None);
        };
        let profile = SpeakerProfile::from_json(&value.to_string());
        let checked = profile.and_then(|p| recognizer.check_profile(&p).map(|()| p));
        checked
            .map(Some)
            .map_err(|e| Failure::new(MAEUM_BAD_PROFILE, format!("the option profile: {e}")))
    }

    /// Refuses options that belong to recognition only.
    pub fn check_profile_only(&self) -> Result<(), Failure> {
        let given = [
            ("format", self.format.is_some()),
            ("dropout", self.dropout.is_some()),
            ("seed", self.seed.is_some()),
            ("profile", self.profile.is_some()),
            ("start", self.start.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((name, _)) => Err(Failure::bad_request(format!(
                "the option {name} is not permitted here; give only name, channel and max_seconds"
            ))),
        }
    }
}
