//! Text messages of a stream.

use std::sync::Arc;

use serde::Deserialize;

use crate::audio::decode::{MAX_SAMPLE_RATE, MIN_SAMPLE_RATE};
use crate::nn::DropoutMode;
use crate::recognizer::{Recognizer, SpeakerProfile};
use crate::server::errors::ApiError;
use crate::server::recognise::DropoutChoice;
use crate::server::speaker;

/// Name of a recording without a name.
const UNNAMED: &str = "stream";
/// Maximum length of a name, in characters.
const MAX_NAME: usize = 255;

/// First message of a stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    sample_rate: u32,
    encoding: String,
    dropout: Option<Dropout>,
    seed: Option<u64>,
    name: Option<String>,
    interim: Option<bool>,
    profile: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Dropout {
    Number(u32),
    Text(String),
}

/// Text message after the first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    r#type: String,
}

/// Returns true if the message marks the end of the recording.
pub fn is_end(text: &str) -> bool {
    serde_json::from_str(text).is_ok_and(|c: Control| c.r#type == "end")
}

/// Parameters of a stream.
#[derive(Debug, PartialEq)]
pub struct Setup {
    /// Name of the recording in the results.
    pub name: String,
    /// Sample rate in Hz.
    pub rate: u32,
    /// Dropout mode.
    pub dropout: DropoutMode,
    /// True if interim results are requested.
    pub interim: bool,
    /// Speaker profile that the emotions are relative to.
    pub profile: Option<Arc<SpeakerProfile>>,
}

impl Setup {
    /// Parses the first message. `dropout` is the default mode; a profile must belong to the
    /// recogniser's model.
    ///
    /// # Errors
    /// The message describes the problem.
    pub fn read(
        text: &str,
        dropout: &DropoutMode,
        recognizer: &Recognizer,
    ) -> Result<Self, ApiError> {
        let profile = |text: &str| speaker::read(text, recognizer);
        Self::read_with(text, dropout, profile)
    }

    fn read_with(
        text: &str,
        dropout: &DropoutMode,
        profile: impl Fn(&str) -> Result<SpeakerProfile, ApiError>,
    ) -> Result<Self, ApiError> {
        let config: Config = serde_json::from_str(text)
            .map_err(|e| ApiError::bad_request(format!("the first message: {e}")))?;
        if config.encoding != "s16le" {
            return Err(ApiError::bad_request(
                "encoding must be \"s16le\": 16-bit little-endian mono samples",
            ));
        }
        if !(MIN_SAMPLE_RATE..=MAX_SAMPLE_RATE).contains(&config.sample_rate) {
            return Err(ApiError::bad_request(format!(
                "sample_rate must be from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
            )));
        }
        let mut choice = DropoutChoice::default();
        match config.dropout {
            Some(Dropout::Text(text)) => choice.set_draws(&text)?,
            Some(Dropout::Number(n)) => choice.set_draws(&n.to_string())?,
            None => {}
        }
        if let Some(seed) = config.seed {
            choice.set_seed(&seed.to_string())?;
        }
        let profile = match config.profile {
            Some(value) => Some(Arc::new(profile(&value.to_string())?)),
            None => None,
        };
        let name = config.name.unwrap_or_else(|| UNNAMED.into());
        Ok(Self {
            name: name.chars().take(MAX_NAME).collect(),
            rate: config.sample_rate,
            dropout: choice.mode(dropout),
            interim: config.interim.unwrap_or(true),
            profile,
        })
    }

    /// Returns the error for a stream that starts with samples.
    pub fn missing() -> ApiError {
        ApiError::bad_request(
            "the first message must be text such as {\"sample_rate\": 16000, \"encoding\": \"s16le\"}",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_first_message_are_optional() {
        let default = DropoutMode::draws(32, 0);
        let none = |text: &str| Err(ApiError::bad_request(format!("profile {text}")));
        let read = |text: &str| Setup::read_with(text, &default, none);
        let little = read(r#"{"sample_rate": 16000, "encoding": "s16le"}"#).unwrap();
        let wanted = Setup {
            name: "stream".into(),
            rate: 16_000,
            dropout: default.clone(),
            interim: true,
            profile: None,
        };
        assert_eq!(little, wanted);
        let all = r#"{"sample_rate": 44100, "encoding": "s16le", "dropout": 7, "seed": 9,
            "name": "a", "interim": false}"#;
        let wanted = Setup {
            name: "a".into(),
            rate: 44_100,
            dropout: DropoutMode::draws(7, 9),
            interim: false,
            profile: None,
        };
        assert_eq!(read(all).unwrap(), wanted);
        for (text, expected) in [
            ("", "first message"),
            ("{}", "sample_rate"),
            (r#"{"sample_rate": 999, "encoding": "s16le"}"#, "from 1000"),
            (r#"{"sample_rate": 16000, "encoding": "opus"}"#, "s16le"),
            (
                r#"{"sample_rate": 16000, "encoding": "s16le", "dropout": 0}"#,
                "draws",
            ),
            (
                r#"{"sample_rate": 16000, "encoding": "s16le", "rate": 1}"#,
                "rate",
            ),
            (
                r#"{"sample_rate": 16000, "encoding": "s16le", "profile": {"a": 1}}"#,
                r#"profile {"a":1}"#,
            ),
        ] {
            let message = read(text).unwrap_err().message;
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn only_end_ends() {
        assert!(is_end(r#"{"type": "end"}"#));
        for other in [
            "",
            "end",
            r#"{"type": "stop"}"#,
            r#"{"type": "end", "x": 1}"#,
        ] {
            assert!(!is_end(other), "{other}");
        }
    }
}
