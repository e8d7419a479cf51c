//! Error of a recording that has no prediction.

use std::fmt;

use crate::recognizer::RecognizeError;

/// Reason why a recording has no prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingError {
    /// Machine-readable kind.
    pub code: ErrorCode,
    /// Message with the recording's name, the problem and the remedy.
    pub message: String,
}

/// Kind of a recording's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The file or folder does not exist or cannot be read.
    Unreadable,
    /// The file cannot be decoded or analysed.
    UnusableAudio,
    /// The recording contains no speech.
    NoSpeech,
    /// The networks failed, or the device.
    Internal,
}

impl ErrorCode {
    /// Returns the stable serialised name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::UnusableAudio => "unusable_audio",
            Self::NoSpeech => "no_speech",
            Self::Internal => "internal",
        }
    }
}

impl RecordingError {
    /// Creates an error; `message` has to name the recording.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Converts the recogniser's error for the recording `subject`.
    pub(crate) fn from_recognizer(error: &RecognizeError, subject: &str) -> Self {
        let code = match error {
            RecognizeError::NoSpeech { .. } => ErrorCode::NoSpeech,
            RecognizeError::Run(_) | RecognizeError::Device { .. } => ErrorCode::Internal,
            RecognizeError::Audio { .. }
            | RecognizeError::Features { .. }
            | RecognizeError::NotFinite { .. } => ErrorCode::UnusableAudio,
        };
        match error {
            RecognizeError::Run(_) => Self::new(code, format!("{subject}: {error}")),
            _ => Self::new(code, error.to_string()),
        }
    }
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RecordingError {}
