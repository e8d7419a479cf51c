//! Who may use the server: no page of another site, and with a key only who has it.
//!
//! A browser lets any page send simple requests to `127.0.0.1`, and a name of the attacker's can be
//! made to point there (DNS rebinding). Programs send no `Origin` and are not hindered.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, UPGRADE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::errors::ApiError;
use super::{Settings, Shared};

/// A secret that clients send, kept as its hash: comparing hashes in constant time tells nothing
/// about the secret, not even its length.
pub struct Key([u8; 32]);

impl Key {
    /// For this secret.
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    fn matches(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(AUTHORIZATION).map(|v| v.as_bytes());
        let Some((scheme, token)) = value.and_then(|v| v.split_at_checked(7)) else {
            return false;
        };
        let given: [u8; 32] = Sha256::digest(token).into();
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(given.ct_eq(&self.0))
    }
}

/// Asks for the key, if there is one.
pub async fn check_key(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match &shared.key {
        Some(key) if !key.matches(request.headers()) => Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "this server asks for a key; send it as `Authorization: Bearer KEY`",
        )),
        _ => Ok(next.run(request).await),
    }
}

/// Refuses requests under foreign names and from pages of foreign sites.
pub async fn check_origin(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let settings = &shared.settings;
    check_host(settings, request.uri(), request.headers())?;
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if !reads || request.headers().contains_key(UPGRADE) {
        check_page(settings, request.uri(), request.headers())?;
    }
    Ok(next.run(request).await)
}

/// The name and port that a request was sent to.
fn target<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => Some(headers.get(HOST)?.to_str().unwrap_or("?")),
    }
}

fn check_host(settings: &Settings, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    // No browser leaves the name out.
    let Some(target) = target(uri, headers) else {
        return Ok(());
    };
    let name = without_port(target);
    let allowed = !settings.loopback && settings.allow_hosts.is_empty()
        || is_loopback(name)
        || settings
            .allow_hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(name));
    match allowed {
        true => Ok(()),
        false => Err(ApiError::forbidden(
            "foreign_host",
            "the server does not go by this name; use 127.0.0.1 or localhost, or start it with --allow-host NAME",
        )),
    }
}

fn check_page(settings: &Settings, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = || {
        Err(ApiError::forbidden(
            "foreign_origin",
            "pages of other sites may not use this server; start it with --allow-origin ORIGIN to let them",
        ))
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        let site = headers.get("sec-fetch-site").map(|v| v.as_bytes());
        return match site {
            Some(b"cross-site" | b"same-site") => refused(),
            _ => Ok(()),
        };
    };
    let Ok(origin) = origin.to_str() else {
        return refused();
    };
    let own = origin.split_once("://").is_some_and(|(_, authority)| {
        target(uri, headers).is_some_and(|target| target.eq_ignore_ascii_case(authority))
    });
    let allowed = settings
        .allow_origins
        .iter()
        .any(|o| o.eq_ignore_ascii_case(origin));
    match (own || allowed) && origins.next().is_none() {
        true => Ok(()),
        false => refused(),
    }
}

fn without_port(authority: &str) -> &str {
    let end = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => colon,
        _ => authority.len(),
    };
    &authority[..end]
}

fn is_loopback(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                axum::http::HeaderName::from_static(name),
                value.parse().unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn host(settings: &Settings, name: &str) -> bool {
        check_host(
            settings,
            &Uri::from_static("/"),
            &headers(&[("host", name)]),
        )
        .is_ok()
    }

    fn page(settings: &Settings, pairs: &[(&'static str, &str)]) -> bool {
        let mut all = headers(&[("host", "127.0.0.1:9999")]);
        all.extend(headers(pairs));
        check_page(settings, &Uri::from_static("/"), &all).is_ok()
    }

    #[test]
    fn a_loopback_server_answers_to_loopback_names_alone() {
        let settings = Settings::default();
        for name in [
            "127.0.0.1:9999",
            "127.0.0.1",
            "127.1.2.3:80",
            "localhost:9999",
            "LocalHost",
            "localhost.:1",
            "[::1]:9999",
            "[::1]",
        ] {
            assert!(host(&settings, name), "{name}");
        }
        for name in [
            "evil.example:9999",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "10.0.0.1:9999",
            "",
            "[2001:db8::1]:9999",
        ] {
            assert!(!host(&settings, name), "{name}");
        }
        let absolute = Uri::from_static("http://evil.example/");
        let local = headers(&[("host", "127.0.0.1")]);
        assert!(check_host(&settings, &absolute, &local).is_err());
        assert!(check_host(&settings, &Uri::from_static("/"), &HeaderMap::new()).is_ok());
        let named = Settings {
            allow_hosts: vec!["voice.example".into()],
            ..Settings::default()
        };
        assert!(host(&named, "voice.example:443") && host(&named, "localhost"));
        assert!(!host(&named, "other.example"));
        let open = Settings {
            loopback: false,
            ..Settings::default()
        };
        assert!(host(&open, "anything.example"));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let settings = Settings::default();
        assert!(page(&settings, &[]), "a program");
        assert!(page(&settings, &[("origin", "http://127.0.0.1:9999")]));
        assert!(page(&settings, &[("sec-fetch-site", "none")]));
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:8000",
            "http://127.0.0.1",
            "null",
            "",
            "http://127.0.0.1:9999.evil.example",
        ] {
            assert!(!page(&settings, &[("origin", origin)]), "{origin}");
        }
        assert!(!page(&settings, &[("sec-fetch-site", "cross-site")]));
        let allowed = Settings {
            allow_origins: vec!["https://voice.example".into()],
            ..Settings::default()
        };
        assert!(page(&allowed, &[("origin", "https://voice.example")]));
        assert!(!page(&allowed, &[("origin", "https://voice.example:8")]));
    }

    #[test]
    fn only_the_right_key_opens() {
        let key = Key::new("secret");
        for value in ["Bearer secret", "bearer secret", "BEARER secret"] {
            assert!(
                key.matches(&headers(&[("authorization", value)])),
                "{value}"
            );
        }
        for value in [
            "Bearer secre",
            "Bearer secret2",
            "secret",
            "Basic secret",
            "Bearer ",
            "",
        ] {
            assert!(
                !key.matches(&headers(&[("authorization", value)])),
                "{value}"
            );
        }
        assert!(!key.matches(&HeaderMap::new()));
    }
}
