//! Recognition of a recording by a worker, shared by all routes.

use std::str::FromStr;

use crate::audio::Recording;
use crate::audio::decode::{self, decode_with};
use crate::formats::is_finite;
use crate::nn::DropoutMode;
use crate::prediction::Prediction;
use crate::recognizer::{Options, Worker};

use super::errors::ApiError;
use super::settings::MAX_DRAWS;

/// Dropout options of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropoutChoice {
    draws: Option<Draws>,
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draws {
    Off,
    Number(u32),
}

impl DropoutChoice {
    /// Sets the number of draws, or `off`.
    ///
    /// # Errors
    /// 400 when the text is neither `off` nor a number in range.
    pub fn set_draws(&mut self, text: &str) -> Result<(), ApiError> {
        let number = || {
            u32::from_str(text)
                .ok()
                .filter(|n| (1..=MAX_DRAWS).contains(n))
        };
        let draws = match text {
            "off" => Some(Draws::Off),
            _ => number().map(Draws::Number),
        };
        self.draws = Some(draws.ok_or_else(|| {
            ApiError::bad_request(format!(
                "dropout must be `off` or a number of draws from 1 to {MAX_DRAWS}"
            ))
        })?);
        Ok(())
    }

    /// Sets the seed.
    ///
    /// # Errors
    /// 400 when the text is not an unsigned 64-bit number.
    pub fn set_seed(&mut self, text: &str) -> Result<(), ApiError> {
        self.seed = Some(text.parse().map_err(|_| {
            ApiError::bad_request("seed must be a whole number from 0 to 18446744073709551615")
        })?);
        Ok(())
    }

    /// Returns the dropout mode, with `default` for options that are not set.
    pub fn mode(self, default: &DropoutMode) -> DropoutMode {
        let (n, seed) = match default {
            DropoutMode::Draws { n, seed } => (Some(n.get()), *seed),
            DropoutMode::Off | DropoutMode::Masks(_) => (None, 0),
        };
        let draws = match self.draws {
            Some(Draws::Off) => None,
            Some(Draws::Number(n)) => Some(n),
            None => n,
        };
        match draws {
            Some(n) => DropoutMode::draws(n, self.seed.unwrap_or(seed)),
            None => DropoutMode::Off,
        }
    }
}

/// Result of the recognition of one recording.
pub struct Recognised {
    /// Prediction of the model.
    pub prediction: Prediction,
    /// Duration of the recording in seconds.
    pub seconds: f64,
}

/// Decodes and recognises the bytes of a file; `name` identifies it in messages.
///
/// # Errors
/// 413 when the recording is too long, 422 when it is not usable.
pub fn recognise_bytes<'a>(
    worker: &mut Worker<'_>,
    bytes: &[u8],
    name: &str,
    decoding: decode::Options,
    options: impl Into<Options<'a>>,
) -> Result<Recognised, ApiError> {
    recognise_recording(worker, decode_with(bytes, name, decoding)?, name, options)
}

/// Recognises a decoded recording.
///
/// # Errors
/// 422 when the recording is not usable.
pub fn recognise_recording<'a>(
    worker: &mut Worker<'_>,
    recording: Recording,
    name: &str,
    options: impl Into<Options<'a>>,
) -> Result<Recognised, ApiError> {
    let seconds = recording.seconds();
    let prediction = worker.recognize_owned(recording, name, options)?;
    if !is_finite(&prediction) {
        return Err(ApiError::unusable(format!(
            "{name}: the model gives numbers that are not finite for this recording"
        )));
    }
    Ok(Recognised {
        prediction,
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_is_the_requested_or_the_default_mode() {
        let mode = |draws: Option<&str>, seed: Option<&str>, default: &DropoutMode| {
            let mut choice = DropoutChoice::default();
            draws.map_or(Ok(()), |d| choice.set_draws(d))?;
            seed.map_or(Ok(()), |s| choice.set_seed(s))?;
            Ok::<_, ApiError>(choice.mode(default))
        };
        let default = DropoutMode::draws(32, 5);
        assert_eq!(mode(None, None, &default), Ok(default.clone()));
        assert_eq!(mode(Some("off"), Some("3"), &default), Ok(DropoutMode::Off));
        assert_eq!(
            mode(Some("1024"), None, &default),
            Ok(DropoutMode::draws(1024, 5))
        );
        assert_eq!(
            mode(Some("2"), Some("18446744073709551615"), &DropoutMode::Off),
            Ok(DropoutMode::draws(2, u64::MAX))
        );
        for wrong in ["", "0", "1025", "-1", "1.5", "OFF", "99999999999"] {
            assert!(mode(Some(wrong), None, &default).is_err(), "{wrong}");
        }
        for wrong in ["", "-1", "x", "18446744073709551616"] {
            assert!(mode(None, Some(wrong), &default).is_err(), "{wrong}");
        }
    }
}
