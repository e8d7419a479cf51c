//! Why a recording has no answer.

use std::fmt;

use crate::recognizer::RecognizeError;

/// Why a recording has no answer, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    /// For programs.
    pub code: Code,
    /// Names the recording, what is wrong with it and what to do.
    pub message: String,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The file or folder is not there or may not be read.
    Unreadable,
    /// It is no recording that can be decoded and analysed.
    UnusableAudio,
    /// The recording holds sound, but no speech.
    NoSpeech,
    /// The networks failed.
    Internal,
}

impl Code {
    /// A stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::UnusableAudio => "unusable_audio",
            Self::NoSpeech => "no_speech",
            Self::Internal => "internal",
        }
    }
}

impl NoAnswer {
    /// With a message that names the recording.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// For the recording that `subject` names.
    pub(crate) fn of(error: &RecognizeError, subject: &str) -> Self {
        let code = match error {
            RecognizeError::NoSpeech { .. } => Code::NoSpeech,
            RecognizeError::Run(_) | RecognizeError::Device { .. } => Code::Internal,
            RecognizeError::Audio { .. }
            | RecognizeError::Features { .. }
            | RecognizeError::NotFinite { .. } => Code::UnusableAudio,
        };
        match error {
            RecognizeError::Run(_) => Self::new(code, format!("{subject}: {error}")),
            _ => Self::new(code, error.to_string()),
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NoAnswer {}
