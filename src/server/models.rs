//! Model description: labels, licences and limits.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ServerState;
use super::errors::ErrorBody;
use super::schema::Licence;
use super::settings::MAX_DRAWS;

/// List of models.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// The only model.
    pub models: Vec<ModelCard>,
}

/// Description of a model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// Name of the model.
    pub name: String,
    /// SHA-256 of the bundle file; an equal hash identifies an equal model.
    pub sha256: String,
    /// Emotion labels, in the order of the results.
    pub emotions: Vec<String>,
    /// Gender labels.
    pub genders: Vec<String>,
    /// Terms of use of the results, if the model has any.
    pub licences: Vec<Licence>,
    /// True if the model supports speaker profiles.
    pub speaker_profiles: bool,
    /// Training data, measurements and terms as Markdown; `null` if unknown.
    pub card: Option<String>,
    /// Limits of the server.
    pub limits: Limits,
    /// Limits on the use of results.
    pub notice: String,
}

/// Limits of the server.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Maximum size of a body, in bytes.
    pub body_bytes: u64,
    /// Maximum duration of a recording or stream, in seconds.
    pub audio_seconds: u32,
    /// Maximum number of samples per channel, at any sample rate.
    pub audio_frames: u64,
    /// Maximum number of draws in `dropout`.
    pub draws: u32,
    /// Maximum number of open streams.
    pub streams: u32,
    /// Valid values of `response_format`.
    pub formats: Vec<String>,
}

/// Returns the model with its licences, limits and card.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "recognition",
    security((), ("key" = [])),
    responses(
        (status = 200, description = "The model", body = Models),
        (status = 401, description = "The key is missing", body = ErrorBody),
    )
)]
pub async fn list(State(shared): State<Arc<ServerState>>) -> Json<Models> {
    let info = shared.recognizer.info();
    let settings = &shared.settings;
    let licence = |l: &crate::model::Licence| Licence {
        estimates: l.estimates.clone(),
        licence: l.licence.clone(),
        terms: l.terms.clone(),
    };
    Json(Models {
        models: vec![ModelCard {
            name: info.name.clone(),
            sha256: shared.recognizer.model().identity().into(),
            emotions: info.emotions.clone(),
            genders: info.genders.clone(),
            licences: info.licences.iter().map(licence).collect(),
            speaker_profiles: info.speaker.is_some(),
            card: settings.card.clone(),
            limits: Limits {
                body_bytes: settings.max_body as u64,
                audio_seconds: settings.max_seconds,
                audio_frames: settings.limit().frames as u64,
                draws: MAX_DRAWS,
                streams: u32::try_from(settings.max_streams).unwrap_or(u32::MAX),
                formats: shared.formats().into_iter().map(str::to_owned).collect(),
            },
            notice: crate::formats::NOTICE.into(),
        }],
    })
}
