//! Which model answers, what its results may be used for, and what the server takes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::errors::ErrorBody;
use super::schema::Licence;
use super::settings::MAX_DRAWS;

/// The models that answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// One.
    pub models: Vec<ModelCard>,
}

/// A model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// What it calls itself.
    pub name: String,
    /// Hash of the bundle file: the same hash means the same model.
    pub sha256: String,
    /// Names of the emotions, in the order of the answers.
    pub emotions: Vec<String>,
    /// Names of the genders.
    pub genders: Vec<String>,
    /// What the results may be used for, where the model says so.
    pub licences: Vec<Licence>,
    /// Whether it takes speaker profiles.
    pub speaker_profiles: bool,
    /// Training data, measurements and terms, as Markdown; `null` where nothing is known.
    pub card: Option<String>,
    /// What the server takes.
    pub limits: Limits,
    /// What the answers must not be used for.
    pub notice: String,
}

/// What the server takes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest body.
    pub body_bytes: u64,
    /// Longest recording or stream.
    pub audio_seconds: u32,
    /// Most samples per channel, at whatever rate.
    pub audio_frames: u64,
    /// Most draws of `dropout`.
    pub draws: u32,
    /// Streams that are open at once.
    pub streams: u32,
    /// What `response_format` takes.
    pub formats: Vec<String>,
}

/// The model that answers, with its licences, limits and card.
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
pub async fn list(State(shared): State<Arc<Shared>>) -> Json<Models> {
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
