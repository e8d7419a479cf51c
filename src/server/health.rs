//! Status routes and the responses of unknown paths and methods.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::errors::{ApiError, ErrorBody};
use super::{Phase, ServerState};

/// Entry points of the API.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pointer {
    /// Name of the program.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Path of the web page.
    pub ui: String,
    /// Path of the human-readable API description.
    pub docs: String,
    /// Path of the machine-readable API description.
    pub openapi: String,
    /// Limits on the use of results.
    pub notice: String,
}

/// Returns the entry points of the API.
#[utoipa::path(
    get,
    path = "/",
    tag = "service",
    responses((status = 200, description = "Where to look", body = Pointer))
)]
pub async fn root() -> Json<Pointer> {
    Json(Pointer {
        name: "maeum".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ui: "/ui".into(),
        docs: "/docs".into(),
        openapi: "/openapi.json".into(),
        notice: crate::formats::NOTICE.into(),
    })
}

/// Status of the server.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Always `ok`.
    pub status: String,
}

fn ok() -> Json<Status> {
    Json(Status {
        status: "ok".into(),
    })
}

/// Checks that the process runs.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "service",
    responses((status = 200, description = "It runs", body = Status))
)]
pub async fn live() -> Json<Status> {
    ok()
}

/// Checks that recordings can be recognised.
///
/// The model's self-test has passed and the server is not shutting down.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "service",
    responses(
        (status = 200, description = "Recordings are recognised", body = Status),
        (status = 503, description = "Not yet, or not any more", body = ErrorBody),
    )
)]
pub async fn ready(State(shared): State<Arc<ServerState>>) -> Result<Json<Status>, ApiError> {
    shared.check_ready()?;
    match shared.phase() {
        Phase::Draining => Err(ApiError::unavailable(
            "draining",
            "the server is shutting down",
        )),
        _ => Ok(ok()),
    }
}

/// Returns the metrics in Prometheus' text format.
///
/// Metrics are requests by route and outcome, latencies, audio seconds, queue depth and panics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "service",
    security((), ("key" = [])),
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
        (status = 401, description = "The key is missing", body = ErrorBody),
    )
)]
pub async fn metrics(State(shared): State<Arc<ServerState>>) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shared.metrics.render(&shared)).into_response()
}

/// Response for paths without a route.
pub async fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no_route",
        "nothing is served under this path; /docs lists what is",
    )
}

/// Response for methods that a route does not support.
pub async fn method_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path does not take this method; /docs says which it takes",
    )
}

#[cfg(all(test, feature = "default-model"))]
mod tests {
    use super::*;
    use crate::Recognizer;
    use crate::server::{Settings, router};
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    async fn request(
        shared: &Arc<ServerState>,
        path: &str,
    ) -> (StatusCode, Option<String>, ErrorBody) {
        let method = if path == "/readyz" { "GET" } else { "POST" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let response = router(shared).oneshot(request).await.unwrap();
        let retry = response.headers().get("retry-after");
        let retry = retry.map(|r| r.to_str().unwrap().to_owned());
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        let error = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorBody {
            error: crate::server::errors::ErrorDetail {
                code: String::new(),
                message: String::new(),
            },
        });
        (status, retry, error)
    }

    #[tokio::test]
    async fn nothing_is_recognised_before_the_test_has_passed() {
        let model = crate::default_model::load().unwrap();
        let recognizer = Arc::new(Recognizer::new(model).unwrap());
        let shared = ServerState::new(recognizer, Settings::default()).unwrap();
        for path in ["/readyz", "/v1/audio/emotion", "/"] {
            let (status, retry, error) = request(&shared, path).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!(
                (retry.as_deref(), &*error.error.code),
                (Some("1"), "starting")
            );
        }
        shared.self_test().unwrap();
        assert_eq!(request(&shared, "/readyz").await.0, StatusCode::OK);
        let status = request(&shared, "/v1/audio/emotion").await.0;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        shared.start_draining();
        let (status, _, error) = request(&shared, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error.error.code, "draining");
        // Requests on open connections are still handled.
        let status = request(&shared, "/v1/audio/emotion").await.0;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
