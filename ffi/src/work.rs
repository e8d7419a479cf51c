//! Recognition behind the C functions, without pointers.

use std::str::FromStr;

use maeum::audio::{DecodeError, Fault, decode};
use maeum::formats::{Format, NOTICE, Reporter, is_finite};
use maeum::model::bundle;
use maeum::recognizer::{Options as Recognition, ProfileBuilder, RecognizeError};
use maeum::{Recognizer, Recording};

use crate::boundary::Failure;
use crate::options::Options;
use crate::{
    MAEUM_BAD_MODEL, MAEUM_BAD_PROFILE, MAEUM_INTERNAL, MAEUM_NO_SPEECH, MAEUM_TOO_LONG,
    MAEUM_UNUSABLE_AUDIO, maeum_status,
};

/// Recording of a call.
pub enum Audio<'a> {
    /// Content of a file.
    File(&'a [u8]),
    /// Interleaved samples, full scale 1.
    Float {
        samples: &'a [f32],
        channels: u32,
        sample_rate: u32,
    },
    /// Mono samples.
    Pcm16 {
        samples: &'a [i16],
        sample_rate: u32,
    },
}

/// Prepares a bundle, or the built-in model.
pub fn open(bundle: Option<&[u8]>) -> Result<Recognizer, Failure> {
    let bad = |e: &dyn std::fmt::Display| Failure::new(MAEUM_BAD_MODEL, e);
    // The builder has the default settings of a recogniser.
    let default = Recognizer::builder();
    match bundle {
        None => default.build().map_err(|e| bad(&e)),
        Some(bytes) => {
            let model = bundle::from_bytes(bytes, "the model").map_err(|e| bad(&e))?;
            default.build_with(model).map_err(|e| bad(&e))
        }
    }
}

/// Returns the description of the model as JSON.
pub fn describe(recognizer: &Recognizer) -> String {
    let info = recognizer.info();
    let licences: Vec<_> = (info.licences.iter())
        .map(|l| serde_json::json!({"estimates": l.estimates, "licence": l.licence, "terms": l.terms}))
        .collect();
    let identity = recognizer.model().identity();
    let formats: Vec<_> = (Format::ALL.into_iter())
        .filter(|&format| Reporter::new(format, info, identity).is_ok())
        .map(Format::name)
        .collect();
    serde_json::json!({
        "name": info.name,
        "sha256": identity,
        "emotions": info.emotions,
        "genders": info.genders,
        "licences": licences,
        "speaker_profiles": info.speaker.is_some(),
        "formats": formats,
        "notice": NOTICE,
    })
    .to_string()
}

/// Recognises a recording and returns the answer in the chosen format.
pub fn recognize(
    recognizer: &Recognizer,
    audio: Audio<'_>,
    options: &Options,
) -> Result<String, Failure> {
    let name = options.name();
    let format = options.format.as_deref().unwrap_or(Format::Json.name());
    let format = Format::from_str(format)
        .map_err(|e| Failure::bad_request(format!("the option format: {e}")))?;
    let mut reporter = Reporter::new(format, recognizer.info(), recognizer.model().identity())
        .map_err(Failure::bad_request)?;
    let dropout = options.dropout(recognizer.dropout())?;
    let profile = options.profile(recognizer)?;
    let recording = decoded(audio, options)?;
    let recognition = Recognition {
        dropout: &dropout,
        profile: profile.as_ref(),
    };
    let answer = recognizer
        .recognize_with(&recording, name, recognition)
        .map_err(|e| match e.get_ref().downcast_ref::<RecognizeError>() {
            Some(error) => refused(error),
            None => Failure::new(MAEUM_INTERNAL, e),
        })?;
    let mut prediction = answer.into_prediction();
    if let Some(start) = options.start {
        if !start.is_finite() {
            return Err(Failure::bad_request(
                "the option start must be a finite number of seconds",
            ));
        }
        prediction.shift(start);
    }
    if !is_finite(&prediction) {
        return Err(Failure::new(
            MAEUM_UNUSABLE_AUDIO,
            format!("{name}: the model gives numbers that are not finite for this recording"),
        ));
    }
    let mut text = reporter.begin();
    text += &reporter.recording(name, Ok(&prediction));
    text += &reporter.end();
    Ok(text)
}

/// Adds the speech of a recording to the statistics of its speaker.
pub fn add_to_profile(
    builder: &mut ProfileBuilder,
    recognizer: &Recognizer,
    bytes: &[u8],
    options: &Options,
) -> Result<String, Failure> {
    options.check_profile_only()?;
    let name = options.name();
    let recording = decoded(Audio::File(bytes), options)?;
    let features = recognizer.front_end().extract(recording, name);
    let features = features.map_err(|e| refused(&e))?;
    recognizer
        .worker()
        .add_to_profile(builder, &features, name)
        .map_err(|e| refused(&e))?;
    Ok(String::new())
}

/// Returns the profile as JSON.
pub fn profile(builder: &ProfileBuilder, recognizer: &Recognizer) -> Result<String, Failure> {
    let profile = recognizer.profile(builder);
    profile
        .map(|profile| profile.to_json())
        .map_err(|e| Failure::new(MAEUM_BAD_PROFILE, e))
}

fn decoded(audio: Audio<'_>, options: &Options) -> Result<Recording, Failure> {
    let name = options.name();
    let limit = options.limit();
    match audio {
        Audio::File(bytes) => {
            let channel = options.channel()?;
            let decoding = decode::Options { limit, channel };
            decode::decode_with(bytes, name, decoding).map_err(|e| undecoded(&e))
        }
        Audio::Pcm16 {
            samples,
            sample_rate,
        } => {
            check_frames(samples.len(), sample_rate, options)?;
            let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
            Recording::from_pcm16(&bytes, sample_rate).map_err(|fault| {
                let name = name.to_owned();
                undecoded(&DecodeError { name, fault })
            })
        }
        Audio::Float {
            samples,
            channels,
            sample_rate,
        } => {
            let frames = samples.len() / (channels as usize).max(1);
            check_frames(frames, sample_rate, options)?;
            Recording::from_interleaved(samples.iter().copied(), channels, sample_rate)
                .map_err(|e| Failure::new(MAEUM_UNUSABLE_AUDIO, format!("{name}: {e}")))
        }
    }
}

fn check_frames(frames: usize, sample_rate: u32, options: &Options) -> Result<(), Failure> {
    let limit = options
        .limit()
        .frames(sample_rate.max(decode::MIN_SAMPLE_RATE));
    match frames > limit {
        false => Ok(()),
        true => Err(undecoded(&DecodeError {
            name: options.name().into(),
            fault: Fault::TooLong { frames: limit },
        })),
    }
}

fn undecoded(error: &DecodeError) -> Failure {
    let status = match error.fault {
        Fault::TooLong { .. } | Fault::TooLarge { .. } => MAEUM_TOO_LONG,
        _ => MAEUM_UNUSABLE_AUDIO,
    };
    Failure::new(status, error)
}

fn refused(error: &RecognizeError) -> Failure {
    let status: maeum_status = match error {
        RecognizeError::NoSpeech { .. } => MAEUM_NO_SPEECH,
        RecognizeError::Run(_) | RecognizeError::Device { .. } => MAEUM_INTERNAL,
        _ => MAEUM_UNUSABLE_AUDIO,
    };
    Failure::new(status, error)
}
