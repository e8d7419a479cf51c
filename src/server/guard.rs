//! Access control: web pages of other sites are refused, and a key can be required.
//!
//! A browser lets any page send simple requests to any reachable address, and an attacker can make
//! a name of their own resolve to it (DNS rebinding). Other programs send no `Origin` header and
//! are not affected.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, UPGRADE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::errors::ApiError;
use super::{ServerState, Settings};

/// Key of the server, stored as its hash. The comparison of hashes takes constant time, so it
/// reveals neither content nor length of the key.
pub struct Key([u8; 32]);

impl Key {
    /// Creates a key from its text.
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

/// Checks the request's key if the server has one.
pub async fn check_key(
    State(shared): State<Arc<ServerState>>,
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

/// Refuses requests with a foreign host name and requests from pages of foreign sites.
pub async fn check_origin(
    State(shared): State<Arc<ServerState>>,
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

/// Parses the origin of web pages and returns it in lower case, like browsers send it.
///
/// # Errors
/// The message explains why no page has this origin, and the valid form.
pub fn origin(text: &str) -> Result<String, String> {
    let refuse = |why: &str| {
        Err(format!(
            "no web page has the origin {text:?}: {why}; give one such as https://voice.example or http://localhost:3000"
        ))
    };
    let lower = text.to_ascii_lowercase();
    if text.contains('*') {
        return refuse("`*` stands for nothing here, name each origin");
    }
    if text.contains([',', ' ']) {
        return refuse("it is more than one, name each by itself");
    }
    let Some((scheme, authority)) = lower.split_once("://") else {
        return refuse("the scheme is missing");
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !is_scheme {
        return refuse("that is no scheme");
    }
    if authority.contains(['/', '?', '#']) {
        return refuse("nothing may follow the host and port, not even a `/`");
    }
    if authority.contains('@') {
        return refuse("it has a user before the host");
    }
    let host = without_port(authority);
    if let Err(why) = check_name(host) {
        return refuse(why);
    }
    if let Some(port) = authority[host.len()..].strip_prefix(':') {
        let number = port.parse::<u16>().ok().filter(|&n| n > 0);
        let Some(number) = number.filter(|n| n.to_string() == port) else {
            return refuse("that is no port");
        };
        if let ("http", 80) | ("https", 443) = (scheme, number) {
            return refuse("browsers leave out the port that the scheme has by itself");
        }
    }
    Ok(lower)
}

/// Parses a host name or address without a port and returns it in lower case.
///
/// # Errors
/// The message explains why no request has this host, and the valid form.
pub fn host(text: &str) -> Result<String, String> {
    let refuse = |why: &str| {
        Err(format!(
            "no request is for the host {text:?}: {why}; give one such as voice.example or 192.168.0.7"
        ))
    };
    if text.contains("://") {
        return refuse("leave out the scheme");
    }
    if text.contains('/') {
        return refuse("leave out the path");
    }
    if text.contains([',', ' ']) {
        return refuse("it is more than one, name each by itself");
    }
    if text.contains('*') {
        return refuse("`*` stands for nothing here, name each host");
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{}]", text.to_ascii_lowercase()));
    }
    if without_port(text) != text {
        return refuse("leave out the port, every one is meant");
    }
    match check_name(text) {
        Ok(()) => Ok(text.to_ascii_lowercase()),
        Err(why) => refuse(why),
    }
}

/// Checks a host name or address; an IPv6 address has brackets.
///
/// # Errors
/// The reason why it is neither.
fn check_name(name: &str) -> Result<(), &'static str> {
    let inner = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    if let Some(inner) = inner {
        let address = inner.parse::<Ipv6Addr>();
        return address.map(drop).map_err(|_| "that is no address");
    }
    if !name.is_ascii() {
        return Err("browsers send such names in their ASCII form, which begins with xn--");
    }
    let is_name = name.len() <= 253
        && name.trim_end_matches('.').split('.').all(|part| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
            !part.is_empty() && part.bytes().all(fits)
        });
    match is_name {
        true => Ok(()),
        false if name.is_empty() => Err("the host is missing"),
        false => Err("that is no name of a host"),
    }
}

/// Returns true if pages of this foreign origin may use the server.
pub fn is_allowed(settings: &Settings, origin: &str) -> bool {
    let mut allowed = settings.allow_origins.iter();
    allowed.any(|o| o.eq_ignore_ascii_case(origin))
}

/// Returns the host and port that a request was sent to.
fn target<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => Some(headers.get(HOST)?.to_str().unwrap_or("?")),
    }
}

fn check_host(settings: &Settings, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    // A proxy and this server could select different headers.
    if headers.get_all(HOST).iter().count() > 1 {
        return Err(ApiError::bad_request(
            "the request has more than one Host header; send one",
        ));
    }
    // Browsers always send the host.
    let Some(target) = target(uri, headers) else {
        return Ok(());
    };
    let name = without_port(target);
    let allowed = !settings.loopback && settings.allow_hosts.is_empty()
        || is_loopback(name)
        || settings.allow_hosts.iter().any(|host| is_same(host, name));
    match allowed {
        true => Ok(()),
        false => Err(ApiError::forbidden(
            "foreign_host",
            format!(
                "the server does not go by this name; use 127.0.0.1 or localhost, or start it with {} and the name",
                settings.names.allow_hosts
            ),
        )),
    }
}

fn check_page(settings: &Settings, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = || {
        Err(ApiError::forbidden(
            "foreign_origin",
            format!(
                "pages of other sites may not use this server; start it with {} ORIGIN to let them",
                settings.names.allow_origins
            ),
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
    match (own || is_allowed(settings, origin)) && origins.next().is_none() {
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

/// Compares two hosts by address, or by name without case.
fn is_same(one: &str, other: &str) -> bool {
    let address = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    match (address(one), address(other)) {
        (Some(one), Some(other)) => one == other,
        _ => {
            let bare = |host: &str| host.trim_end_matches('.').to_ascii_lowercase();
            bare(one) == bare(other)
        }
    }
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
        let with_key = Settings {
            loopback: false,
            key: Some("secret".into()),
            ..Settings::default()
        };
        assert!(host(&with_key, "anything.example"));
        let named = Settings {
            loopback: false,
            allow_hosts: vec!["Voice.example".into(), "[2001:db8::1]".into()],
            ..Settings::default()
        };
        for name in [
            "voice.EXAMPLE:9999",
            "voice.example.",
            "[2001:db8:0:0::1]:9999",
            "localhost:9999",
        ] {
            assert!(host(&named, name), "{name}");
        }
        for name in ["evil.example", "10.0.0.1:9999", "voice.example.evil"] {
            assert!(!host(&named, name), "{name}");
        }
    }

    #[test]
    fn two_hosts_are_none() {
        let mut two = HeaderMap::new();
        two.append(HOST, "127.0.0.1".parse().unwrap());
        two.append(HOST, "127.0.0.1".parse().unwrap());
        let error = check_host(&Settings::default(), &Uri::from_static("/"), &two).unwrap_err();
        assert_eq!(error.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn names_that_no_request_can_have_are_refused_with_why() {
        for (text, expected) in [
            ("*", "`*`"),
            ("http://*:3000", "`*`"),
            ("http://localhost:3000/", "`/`"),
            ("https://voice.example/path", "`/`"),
            ("localhost:3000", "scheme is missing"),
            ("null", "scheme is missing"),
            ("", "scheme is missing"),
            ("://voice.example", "no scheme"),
            ("http://a:1,http://b:2", "more than one"),
            ("https://voice.example:443", "leave out the port"),
            ("HTTP://voice.example:80", "leave out the port"),
            ("http://voice.example:0", "no port"),
            ("http://voice.example:08", "no port"),
            ("http://voice.example:", "no port"),
            ("http://voice.example:99999", "no port"),
            ("http://me@voice.example", "user"),
            ("http://", "host is missing"),
            ("http://목소리.example", "xn--"),
            ("http://[::1", "no name"),
            ("http://a..b", "no name"),
        ] {
            let why = origin(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
        for (text, wanted) in [
            ("https://Voice.Example", "https://voice.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://voice.example:80", "https://voice.example:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(wanted));
        }
        for (text, expected) in [
            ("voice.example:443", "leave out the port"),
            ("https://voice.example", "leave out the scheme"),
            ("voice.example/", "leave out the path"),
            ("a.example,b.example", "more than one"),
            ("*.example", "`*`"),
            ("", "missing"),
            ("목소리.example", "xn--"),
            ("[::1]:9", "leave out the port"),
        ] {
            let why = super::host(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        }
        for (text, wanted) in [
            ("Voice.Example", "voice.example"),
            ("192.168.0.7", "192.168.0.7"),
            ("2001:DB8::1", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("my_service", "my_service"),
        ] {
            assert_eq!(super::host(text).as_deref(), Ok(wanted));
        }
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
