//! `POST /v1/speaker/profile`: a speaker profile from recordings in the request body. The client
//! keeps it and sends it with later requests; the server stores none.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa::ToSchema;

use super::ServerState;
use super::body::{self, Field, Kind};
use super::errors::{ApiError, ErrorBody};
use super::metrics::AudioSeconds;
use crate::audio::decode::decode_within;
use crate::recognizer::{ProfileBuilder, ProfileError, Recognizer, SpeakerProfile, Worker};

/// Maximum size of a profile, in bytes; real profiles are far smaller.
pub const MAX_PROFILE: usize = 256 << 10;
/// Name of a recording without a file name.
const UNNAMED: &str = "recording";
/// Maximum length of a recording's name, in characters.
const MAX_NAME: usize = 255;

/// Form with recordings of one speaker.
#[derive(Debug, ToSchema)]
#[allow(dead_code)] // described here, read by `make`
pub struct ProfileForm {
    /// Recordings of the speaker, each a field of this name; up to 16.
    #[schema(value_type = Vec<String>)]
    pub file: Vec<Vec<u8>>,
}

/// Parses a profile from a client.
///
/// # Errors
/// 400 when the text is not a profile, or the profile belongs to another model.
pub fn read(text: &str, recognizer: &Recognizer) -> Result<SpeakerProfile, ApiError> {
    if text.len() > MAX_PROFILE {
        let problem = ProfileError::Format(format!("it has more than {MAX_PROFILE} bytes"));
        return Err(refused(&problem));
    }
    let profile = SpeakerProfile::from_json(text).map_err(|e| refused(&e))?;
    recognizer
        .check_profile(&profile)
        .map_err(|e| refused(&e))?;
    Ok(profile)
}

/// Parses a profile from a form field.
///
/// # Errors
/// Same as [`read`].
pub fn read_field(field: &Field, recognizer: &Recognizer) -> Result<SpeakerProfile, ApiError> {
    let text = std::str::from_utf8(&field.bytes)
        .map_err(|_| refused(&ProfileError::Format("it is not UTF-8 text".into())))?;
    read(text, recognizer)
}

fn refused(error: &ProfileError) -> ApiError {
    let message = format!("profile: {error}");
    ApiError::new(StatusCode::BAD_REQUEST, "bad_profile", message)
}

/// Makes a profile of the speaker of one or several recordings.
///
/// The profile holds statistics of the voice, is personal data, and is not stored: send it as
/// `profile` with the speaker's next recordings.
#[utoipa::path(
    post,
    path = "/v1/speaker/profile",
    tag = "recognition",
    security((), ("key" = [])),
    request_body(content((ProfileForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "The profile, for `profile` of the other routes", body = String, content_type = "application/json"),
        (status = 400, description = "A field is wrong or the recordings are missing, or the model takes no profiles", body = ErrorBody),
        (status = 401, description = "The key is missing", body = ErrorBody),
        (status = 403, description = "From a page of another site", body = ErrorBody),
        (status = 408, description = "The body arrived too slowly", body = ErrorBody),
        (status = 413, description = "Too many bytes, or the recordings are too long together", body = ErrorBody),
        (status = 415, description = "No multipart body", body = ErrorBody),
        (status = 422, description = "One of the recordings cannot be used or has no speech", body = ErrorBody),
        (status = 429, description = "Too much to do; `Retry-After` says when to try again", body = ErrorBody),
        (status = 503, description = "Not ready", body = ErrorBody),
    )
)]
pub async fn make(
    State(shared): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    shared.check_ready()?;
    if Kind::of(&headers) != Kind::Multipart {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "no_recording",
            "send the recordings as fields `file` of a multipart/form-data body",
        ));
    }
    // A model without profiles is refused before the body is read.
    if let Err(error @ ProfileError::Unsupported(_)) =
        shared.recognizer.profile(&ProfileBuilder::default())
    {
        return Err(refused(&error));
    }
    let settings = &shared.settings;
    let max = settings.max_body;
    let held = body::read(&headers, body, max, &shared.budget, &settings.times).await?;
    let body::BufferedBody { bytes, lease } = held;
    let fields = body::multipart(&headers, &bytes).await?;
    drop(bytes);
    if let Some(other) = fields.iter().find(|field| field.name != "file") {
        let name = &other.name;
        return Err(ApiError::bad_request(format!(
            "there is no parameter {name:?}; give only fields named file"
        )));
    }
    if fields.is_empty() {
        return Err(ApiError::bad_request(
            "the field file is missing; send one or several recordings in fields of this name",
        ));
    }
    let state = Arc::clone(&shared);
    let work = move |worker: &mut Worker<'_>| {
        let made = state.profile_of(worker, &fields);
        drop((fields, lease));
        made
    };
    let (text, seconds) = shared.pool.run(work).await??;
    let mut response = ([(CONTENT_TYPE, "application/json")], text).into_response();
    response.extensions_mut().insert(AudioSeconds(seconds));
    Ok(response)
}

impl ServerState {
    /// Returns the profile as JSON and the total duration of the recordings in seconds.
    fn profile_of(
        &self,
        worker: &mut Worker<'_>,
        fields: &[Field],
    ) -> Result<(String, f64), ApiError> {
        let mut builder = ProfileBuilder::default();
        let mut seconds = 0.0;
        for field in fields {
            let name = field.file_name.as_deref().filter(|name| !name.is_empty());
            let name: String = name.unwrap_or(UNNAMED).chars().take(MAX_NAME).collect();
            let recording = decode_within(&field.bytes, &name, self.settings.limit())?;
            seconds += recording.seconds();
            if seconds > f64::from(self.settings.max_seconds) {
                let message = format!(
                    "the recordings are longer than {} s together; send fewer",
                    self.settings.max_seconds
                );
                return Err(ApiError::too_large("too_long", message));
            }
            let features = self.recognizer.front_end().extract(recording, &name)?;
            worker.add_to_profile(&mut builder, &features, &name)?;
        }
        let profile = self.recognizer.profile(&builder).map_err(|e| refused(&e))?;
        Ok((profile.to_json(), seconds))
    }
}
