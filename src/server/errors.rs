//! Error responses, all with the same JSON body.

use axum::Json;
use axum::http::header::{ACCEPT_ENCODING, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audio::{DecodeError, Fault};
use crate::front_end::AudioError;
use crate::recognizer::RecognizeError;

use super::body::ENCODED_BODY;
use super::pool::Refusal;

/// Error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable machine-readable name.
    pub code: &'static str,
    /// Description of the problem and its remedy.
    pub message: String,
    /// Value of `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

/// Body of every response with a status of 400 or more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// Error of the request.
    pub error: ErrorDetail,
}

/// Error of a request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorDetail {
    /// Stable machine-readable name.
    pub code: String,
    /// Description of the problem and its remedy.
    pub message: String,
}

/// Outcome of a request for the metrics: `ok` or an error's code.
#[derive(Debug, Clone, Copy)]
pub struct Outcome(pub &'static str);

impl ApiError {
    /// Creates an error without `Retry-After`.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// 400: a part of the request is missing or invalid.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 403: the request is not permitted.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 422: the recording cannot be recognised.
    pub fn unusable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unusable_audio", message)
    }

    /// 413: the request exceeds a limit.
    pub fn too_large(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, message)
    }

    /// 507: the server's disk is full.
    pub fn disk_full(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message)
    }

    /// 500: internal error of the server.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed on this request and is working on; please report it with the recording if it happens again",
        )
    }

    /// 429: the server is busy; `retry_after` is in seconds.
    pub fn busy(retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "busy",
                format!("the server has all the work it can take; try again in {retry_after} s"),
            )
        }
    }

    /// 503: the server is temporarily unavailable.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    /// Returns the JSON body.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.code.into(),
                message: self.message.clone(),
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        response.extensions_mut().insert(Outcome(self.code));
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::REQUEST_TIMEOUT {
            // The client may still be sending the remainder of the body.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if self.code == ENCODED_BODY {
            let identity = HeaderValue::from_static("identity");
            headers.insert(ACCEPT_ENCODING, identity);
        }
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full { retry_after } => Self::busy(retry_after),
            Refusal::Panicked => Self::internal(),
            Refusal::Closed => Self::unavailable("draining", "the server is shutting down"),
        }
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        match error.fault {
            Fault::TooLong { .. } | Fault::TooLarge { .. } => {
                Self::too_large("too_long", error.to_string())
            }
            _ => Self::unusable(error.to_string()),
        }
    }
}

impl From<RecognizeError> for ApiError {
    fn from(error: RecognizeError) -> Self {
        match &error {
            RecognizeError::Audio {
                source:
                    AudioError::SampleRate(_)
                    | AudioError::Silence
                    | AudioError::TooShort { .. }
                    | AudioError::VoiceTooShort { .. }
                    | AudioError::NoPeak,
                ..
            }
            | RecognizeError::Features { .. }
            | RecognizeError::NotFinite { .. } => Self::unusable(error.to_string()),
            RecognizeError::NoSpeech { .. } => Self {
                code: "no_speech",
                ..Self::unusable(error.to_string())
            },
            RecognizeError::Run(_) | RecognizeError::Device { .. } => Self::internal(),
        }
    }
}
