//! `POST /v1/audio/emotion`: recognition of one recording from the request body, in any output
//! format.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa::{IntoParams, ToSchema};

use super::ServerState;
use super::body::{self, Field, Kind};
use super::errors::{ApiError, ErrorBody};
use super::metrics::AudioSeconds;
use super::recognise::{DropoutChoice, recognise_bytes};
use super::schema::Answer;
use super::settings::MAX_TEXT;
use super::speaker;
use crate::audio::decode;
use crate::formats::Format;
use crate::recognizer::{self, Recognizer, SpeakerProfile};

/// Name of a recording without a file name.
const UNNAMED: &str = "recording";
/// Maximum length of a recording's name, in characters.
const MAX_NAME: usize = 255;

/// Options of a request, as query parameters or form fields.
#[derive(Debug, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // described here, read by `Options`
pub struct Choices {
    /// Output format: `json` (default), or another one of `/v1/models`.
    #[param(required = false, example = "json")]
    #[schema(required = false)]
    pub response_format: String,
    /// `off`, or the number of draws, up to 1024, for the mean and deviation.
    #[param(required = false, example = "32")]
    #[schema(required = false)]
    pub dropout: String,
    /// Seed of the draws; the same seed gives the same result.
    #[param(required = false, minimum = 0, example = 0)]
    #[schema(required = false)]
    pub seed: u64,
    /// Channel to analyse: a number from 1, or `mix` (default) for the mean of all channels.
    #[param(required = false, example = "mix")]
    #[schema(required = false)]
    pub channel: String,
}

/// Form with a recording.
#[derive(Debug, ToSchema)]
#[allow(dead_code)] // described here, read by `Upload`
pub struct UploadForm {
    /// Recording: WAV, FLAC, MP3, AAC, Ogg (Vorbis, Opus), AIFF, M4A, MP4 or WebM.
    #[schema(value_type = String, format = Binary)]
    pub file: Vec<u8>,
    /// Same as the query parameter.
    #[schema(required = false)]
    pub response_format: String,
    /// Same as the query parameter.
    #[schema(required = false)]
    pub dropout: String,
    /// Same as the query parameter.
    #[schema(required = false)]
    pub seed: u64,
    /// Same as the query parameter.
    #[schema(required = false)]
    pub channel: String,
    /// Speaker profile from `/v1/speaker/profile`; emotions become relative to this speaker.
    #[schema(required = false)]
    pub profile: String,
}

/// Parsed options of a request.
#[derive(Debug)]
struct Options {
    format: Format,
    dropout: DropoutChoice,
    channel: Option<u32>,
    profile: Option<SpeakerProfile>,
}

impl Options {
    /// Sets one option.
    ///
    /// # Errors
    /// 400 when the name is unknown or the value invalid.
    fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        match name {
            "response_format" => {
                self.format = value
                    .parse()
                    .map_err(|e| ApiError::bad_request(format!("response_format: {e}")))?;
            }
            "dropout" => self.dropout.set_draws(value)?,
            "seed" => self.dropout.set_seed(value)?,
            "channel" => {
                self.channel = decode::channel(value)
                    .map_err(|e| ApiError::bad_request(format!("channel: {e}")))?;
            }
            _ => {
                return Err(ApiError::bad_request(format!(
                    "there is no parameter {name:?}; give file, response_format, dropout, seed, channel or, in a form, profile"
                )));
            }
        }
        Ok(())
    }

    fn from_query(query: Option<&str>) -> Result<Self, ApiError> {
        let mut options = Self {
            format: Format::Json,
            dropout: DropoutChoice::default(),
            channel: None,
            profile: None,
        };
        let query = query.unwrap_or_default();
        if query.len() > MAX_TEXT {
            return Err(ApiError::bad_request(format!(
                "the query is longer than {MAX_TEXT} bytes"
            )));
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            options.set(&name, &value)?;
        }
        Ok(options)
    }

    /// Sets the options of the form's fields and returns the recording.
    fn take(&mut self, fields: Vec<Field>, recognizer: &Recognizer) -> Result<Upload, ApiError> {
        let mut upload = None;
        for field in fields {
            if field.name == "profile" {
                let profile = speaker::read_field(&field, recognizer)?;
                if self.profile.replace(profile).is_some() {
                    return Err(ApiError::bad_request(
                        "there are two fields named profile; send the one of the recording's speaker",
                    ));
                }
                continue;
            }
            if field.name != "file" {
                if field.file_name.is_some() || field.bytes.len() > MAX_TEXT {
                    return Err(ApiError::bad_request(format!(
                        "the form has a file in the field {:?}; send the recording in the field `file`",
                        field.name
                    )));
                }
                self.set(&field.name, &field.text()?)?;
                continue;
            }
            let name = field.file_name.filter(|name| !name.is_empty());
            let name = name.map_or_else(
                || UNNAMED.into(),
                |name| name.chars().take(MAX_NAME).collect(),
            );
            let one = Upload {
                bytes: field.bytes,
                name,
            };
            if upload.replace(one).is_some() {
                return Err(ApiError::bad_request(
                    "there are two fields named file; send one recording per request",
                ));
            }
        }
        upload.ok_or_else(|| {
            ApiError::bad_request("the field file is missing; send the recording in it")
        })
    }
}

/// Uploaded recording.
#[derive(Debug)]
struct Upload {
    bytes: Bytes,
    name: String,
}

/// Recognises one recording.
///
/// The `json` result equals the output of `infer --format json`.
#[utoipa::path(
    post,
    path = "/v1/audio/emotion",
    tag = "recognition",
    security((), ("key" = [])),
    params(Choices),
    request_body(
        description = "The recording, in a form or as it is",
        content(
            (UploadForm = "multipart/form-data"),
            (Vec<u8> = "audio/wav"),
            (Vec<u8> = "application/octet-stream"),
        )
    ),
    responses(
        (status = 200, description = "What was heard", content(
            (Answer = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
            (String = "text/plain"),
            (String = "image/svg+xml"),
        )),
        (status = 400, description = "A parameter or the profile is wrong, or the file is missing", body = ErrorBody),
        (status = 401, description = "The key is missing", body = ErrorBody),
        (status = 403, description = "From a page of another site", body = ErrorBody),
        (status = 408, description = "The body arrived too slowly", body = ErrorBody),
        (status = 413, description = "Too many bytes or too long a recording", body = ErrorBody),
        (status = 415, description = "No content type of a recording, or a compressed body", body = ErrorBody),
        (status = 422, description = "No usable recording, or no speech in it", body = ErrorBody),
        (status = 429, description = "Too much to do; `Retry-After` says when to try again", body = ErrorBody),
        (status = 503, description = "Not ready", body = ErrorBody),
    )
)]
pub async fn recognise(
    State(shared): State<Arc<ServerState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    shared.check_ready()?;
    let mut options = Options::from_query(query.as_deref())?;
    let kind = Kind::of(&headers);
    if !matches!(kind, Kind::Multipart | Kind::Audio) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "no_recording",
            "send the recording as field `file` of a multipart/form-data body, or as the body with \
             a content type such as audio/wav or application/octet-stream",
        ));
    }
    let settings = &shared.settings;
    let held = body::read(
        &headers,
        body,
        settings.max_body,
        &shared.budget,
        &settings.times,
    )
    .await?;
    let body::BufferedBody { bytes, lease } = held;
    let upload = match kind {
        Kind::Multipart => {
            let fields = body::multipart(&headers, &bytes).await?;
            options.take(fields, &shared.recognizer)?
        }
        _ => Upload {
            bytes: bytes.clone(),
            name: UNNAMED.into(),
        },
    };
    drop(bytes);
    let Options {
        format,
        dropout,
        channel,
        profile,
    } = options;
    let mut reporter = shared.reporter(format)?;
    let dropout = dropout.mode(&settings.dropout);
    let limit = settings.limit();
    let decoding = decode::Options { limit, channel };
    let work = move |worker: &mut crate::recognizer::Worker<'_>| {
        let Upload { bytes, name } = upload;
        let options = recognizer::Options {
            dropout: &dropout,
            profile: profile.as_ref(),
        };
        let recognised = recognise_bytes(worker, &bytes, &name, decoding, options)?;
        drop((bytes, lease));
        let text = reporter.begin()
            + &reporter.recording(&name, Ok(&recognised.prediction))
            + &reporter.end();
        Ok::<_, ApiError>((text, recognised.seconds))
    };
    let (text, seconds) = shared.pool.run(work).await??;
    let mut response = ([(CONTENT_TYPE, format.media_type())], text).into_response();
    response.extensions_mut().insert(AudioSeconds(seconds));
    Ok(response)
}
