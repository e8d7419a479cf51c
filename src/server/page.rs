//! Pages that the server brings along: complete documents without outside resources.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Shared;

/// A page and what its browser may do with it.
#[derive(Debug, Clone)]
pub struct Page {
    /// Where it lies.
    pub path: &'static str,
    /// HTML.
    pub html: Arc<str>,
    /// The value of its `Content-Security-Policy`.
    pub policy: &'static str,
}

impl Page {
    /// The route that serves it.
    pub fn route(self) -> Router<Arc<Shared>> {
        let Self { path, html, policy } = self;
        let answer = async move || {
            let headers = [
                (
                    CONTENT_TYPE,
                    HeaderValue::from_static("text/html; charset=utf-8"),
                ),
                (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
            ];
            (headers, html.to_string()).into_response()
        };
        Router::new().route(path, get(answer))
    }
}
