//! Embedded web pages without external resources: HTML documents, and the recording page at `/ui`
//! with its files in `page/`.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::ServerState;

/// HTML page with its content security policy.
#[derive(Debug, Clone)]
pub struct Page {
    /// Path of the route.
    pub path: &'static str,
    /// HTML content.
    pub html: Arc<str>,
    /// Value of `Content-Security-Policy`.
    pub policy: &'static str,
}

impl Page {
    /// Returns the route of the page.
    pub fn route(self) -> Router<Arc<ServerState>> {
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

/// Content security policy of `/ui`: resources and connections of its own server only.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
/// Permissions policy of `/ui`: the microphone only.
const PERMISSIONS: &str = "microphone=(self), camera=(), geolocation=()";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, content type and content of each file of the page.
const FILES: [(&str, &str, &str); 12] = [
    ("/ui", HTML, include_str!("page/index.html")),
    ("/ui/style.css", CSS, include_str!("page/style.css")),
    ("/ui/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/ui/app.js", JS, include_str!("page/app.js")),
    ("/ui/api.js", JS, include_str!("page/api.js")),
    ("/ui/charts.js", JS, include_str!("page/charts.js")),
    ("/ui/player.js", JS, include_str!("page/player.js")),
    ("/ui/recorder.js", JS, include_str!("page/recorder.js")),
    ("/ui/sound.js", JS, include_str!("page/sound.js")),
    ("/ui/view.js", JS, include_str!("page/view.js")),
    ("/ui/words.js", JS, include_str!("page/words.js")),
    ("/ui/worklet.js", JS, include_str!("page/worklet.js")),
];

/// Returns the routes of `/ui` and its files. They need no key: only the recognition routes are
/// protected.
pub fn routes() -> Router<Arc<ServerState>> {
    // The relative redirect also holds behind a proxy that adds a path prefix.
    let router = Router::new().route("/ui/", get(|| async { Redirect::permanent("../ui") }));
    FILES.into_iter().fold(router, |router, file| {
        let tag = entity_tag(file.2);
        let answer = async move |headers: HeaderMap| respond(file, &tag, &headers);
        router.route(file.0, get(answer))
    })
}

/// Returns the entity tag of a content: its hash.
fn entity_tag(content: &str) -> HeaderValue {
    let hash = Sha256::digest(content);
    let hex: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    HeaderValue::from_str(&format!("\"{hex}\"")).expect("a quoted hexadecimal number")
}

fn respond(
    (_, kind, content): (&str, &'static str, &'static str),
    tag: &HeaderValue,
    request_headers: &HeaderMap,
) -> Response {
    let fixed_header =
        |name: HeaderName, value: &'static str| (name, HeaderValue::from_static(value));
    let headers = [
        (ETAG, tag.clone()),
        fixed_header(CONTENT_TYPE, kind),
        fixed_header(CONTENT_SECURITY_POLICY, POLICY),
        fixed_header(HeaderName::from_static("permissions-policy"), PERMISSIONS),
        fixed_header(REFERRER_POLICY, "no-referrer"),
        // Browsers cache the files but revalidate them each time, because another build may have
        // other files.
        fixed_header(CACHE_CONTROL, "no-cache"),
    ];
    match matches_etag(request_headers, tag) {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, content).into_response(),
    }
}

/// Returns true if `If-None-Match` contains the tag, by the weak comparison of RFC 9110, 13.1.2.
fn matches_etag(request_headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let lists = request_headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(|one| one.trim())
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_has_a_file_is_not_sent_it_again() {
        let tag = entity_tag("a");
        let asked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            headers
        };
        let own = tag.to_str().unwrap();
        for value in [own, "*", &format!("W/{own}"), &format!("\"x\", {own}")] {
            assert!(matches_etag(&asked(value), &tag), "{value}");
        }
        for value in ["\"x\"", "", own.trim_matches('"')] {
            assert!(!matches_etag(&asked(value), &tag), "{value}");
        }
        let of = |value: &str| respond(FILES[0], &tag, &asked(value)).status();
        assert_eq!(of(own), StatusCode::NOT_MODIFIED);
        assert_eq!(of("\"x\""), StatusCode::OK);
    }

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        for (path, kind, content) in FILES {
            for outside in ["http://", "https://", "//cdn", "@import"] {
                let found = content.replace("http://www.w3.org/2000/svg", "");
                assert!(!found.contains(outside), "{path}: {outside}");
            }
            if kind == HTML {
                for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
                    assert!(!content.contains(inline), "{path}: {inline}");
                }
                let scripts = content.matches("<script").count();
                assert_eq!(
                    scripts,
                    content.matches("<script type=\"module\" src=").count()
                );
            }
            for markup in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!content.contains(markup), "{path}: {markup}");
            }
        }
    }
}
