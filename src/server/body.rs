//! Request bodies, read completely before any work starts, with bounds on size, time and total
//! memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use futures_util::StreamExt;

use super::disposition::Disposition;
use super::errors::ApiError;
use super::settings::{MAX_FIELDS, MAX_TEXT, Times};

/// Multiple of the size limit up to which a too large body is read and discarded. A client that
/// sends its whole body before it reads then receives the refusal.
pub(super) const DISCARD_FACTOR: usize = 4;

/// Maximum preallocation for the announced length of a body, in bytes.
const MAX_PREALLOCATION: usize = 1 << 20;

/// Error code of encoded bodies.
pub(super) const ENCODED_BODY: &str = "encoded_body";

/// Bound on the total bytes of all requests.
#[derive(Debug, Clone)]
pub struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// Bytes of a [`Budget`], released on drop.
#[derive(Debug)]
pub struct Lease {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// Creates a budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            used: Arc::new(AtomicUsize::new(0)),
            limit,
        }
    }

    /// Creates an empty lease.
    pub fn lease(&self) -> Lease {
        Lease {
            budget: self.clone(),
            bytes: 0,
        }
    }

    /// Returns the bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// Adds `bytes` to the lease.
    ///
    /// # Errors
    /// 429 when the budget is exhausted.
    pub fn extend(&mut self, bytes: usize) -> Result<(), ApiError> {
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        match before.saturating_add(bytes) > self.budget.limit {
            true => Err(ApiError::busy(1)),
            false => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Complete body.
#[derive(Debug)]
pub struct BufferedBody {
    /// Content of the body.
    pub bytes: Bytes,
    /// Memory lease, to be dropped together with the bytes.
    pub lease: Lease,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 415 when the body is encoded, 413 when it is larger, 408 when it takes too long, 400 when it is
/// incomplete, 429 when all requests together hold too much.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    budget: &Budget,
    times: &Times,
) -> Result<BufferedBody, ApiError> {
    check_encoding(headers)?;
    let length = content_length(headers);
    // A client that sends `Expect` reads the refusal before it sends the body.
    let discard_limit = limit.saturating_mul(DISCARD_FACTOR);
    if length.is_some_and(|n| n > discard_limit || n > limit && headers.contains_key(EXPECT)) {
        return Err(body_too_large(limit));
    }
    let expected = length.unwrap_or(0).min(MAX_PREALLOCATION);
    let reading = read_all(body, limit, discard_limit, expected, budget);
    tokio::time::timeout(times.body, reading)
        .await
        .unwrap_or_else(|_| {
            Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                format!(
                    "the body did not arrive within {} s; send it faster or send less",
                    times.body.as_secs()
                ),
            ))
        })
}

/// Checks that the body is not compressed.
///
/// # Errors
/// 415 when the body has a content or transfer encoding other than `identity` and `chunked`.
fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let codings = |name| headers.get_all(name).iter().map(|v| v.as_bytes());
    let content = codings(CONTENT_ENCODING).flat_map(|v| v.split(|&b| b == b','));
    let transfer = codings(TRANSFER_ENCODING).flat_map(|v| v.split(|&b| b == b','));
    let is_coded = |plain: &'static [u8]| {
        move |coding: &&[u8]| {
            let coding = coding.trim_ascii();
            !coding.is_empty()
                && !coding.eq_ignore_ascii_case(b"identity")
                && !coding.eq_ignore_ascii_case(plain)
        }
    };
    let mut coded = content
        .filter(is_coded(b""))
        .chain(transfer.filter(is_coded(b"chunked")));
    match coded.next() {
        None => Ok(()),
        Some(coding) => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ENCODED_BODY,
            format!(
                "the body is encoded as {:?}; send the recording as it is, in a format that is small by itself such as FLAC, MP3 or Ogg Vorbis",
                String::from_utf8_lossy(&coding[..coding.len().min(40)]).trim()
            ),
        )),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn body_too_large(limit: usize) -> ApiError {
    ApiError::too_large(
        "too_large",
        format!("the body is larger than {limit} bytes; send a shorter or a compressed recording"),
    )
}

async fn read_all(
    body: Body,
    limit: usize,
    discard_limit: usize,
    expected: usize,
    budget: &Budget,
) -> Result<BufferedBody, ApiError> {
    let mut lease = budget.lease();
    let mut chunks = body.into_data_stream();
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut seen = 0usize;
    let mut refused = None;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| {
            ApiError::bad_request("the body broke off before its end; send it again")
        })?;
        seen = seen.saturating_add(chunk.len());
        if seen > discard_limit {
            return Err(refused.unwrap_or_else(|| body_too_large(limit)));
        }
        if refused.is_some() {
            continue;
        }
        refused = match lease.extend(chunk.len()) {
            _ if seen > limit => Some(body_too_large(limit)),
            full => full.err(),
        };
        if refused.is_some() {
            (first, all) = (Bytes::new(), Vec::new());
            lease = budget.lease();
        } else if seen == chunk.len() {
            // Most bodies consist of one chunk, which needs no copy.
            first = chunk;
        } else {
            if all.is_empty() {
                all.reserve(expected);
                all.extend_from_slice(&first);
                first = Bytes::new();
            }
            all.extend_from_slice(&chunk);
        }
    }
    match refused {
        Some(error) => Err(error),
        None if all.is_empty() => Ok(BufferedBody {
            bytes: first,
            lease,
        }),
        None => Ok(BufferedBody {
            bytes: all.into(),
            lease,
        }),
    }
}

/// Kind of a body by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `application/x-www-form-urlencoded`
    Form,
    /// `multipart/form-data`
    Multipart,
    /// `audio/*` or `application/octet-stream`
    Audio,
    /// No content type, or another one.
    Other,
}

impl Kind {
    /// Returns the kind of the content type.
    pub fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let name = value.and_then(|v| v.split(';').next()).unwrap_or("").trim();
        match &*name.to_ascii_lowercase() {
            "application/x-www-form-urlencoded" => Self::Form,
            "multipart/form-data" => Self::Multipart,
            "application/octet-stream" => Self::Audio,
            name if name.starts_with("audio/") => Self::Audio,
            _ => Self::Other,
        }
    }
}

/// Field of a multipart body.
#[derive(Debug)]
pub struct Field {
    /// Name of the field.
    pub name: String,
    /// File name, if the field is a file.
    pub file_name: Option<String>,
    /// Content of the field.
    pub bytes: Bytes,
}

impl Field {
    /// Returns the content as text, with replacement characters for invalid UTF-8.
    pub fn text(&self) -> Result<String, ApiError> {
        if self.bytes.len() > MAX_TEXT {
            return Err(ApiError::bad_request(format!(
                "the field {:?} is longer than {MAX_TEXT} bytes",
                self.name
            )));
        }
        Ok(String::from_utf8_lossy(&self.bytes).into_owned())
    }
}

/// Parses the fields of a multipart body.
///
/// # Errors
/// 400 when the body is malformed or has too many fields.
pub async fn multipart(headers: &HeaderMap, bytes: &Bytes) -> Result<Vec<Field>, ApiError> {
    let malformed = |e: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("the multipart body is malformed: {e}"))
    };
    let mut request = Request::new(Body::from(bytes.clone()));
    if let Some(kind) = headers.get(CONTENT_TYPE) {
        request.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    // The body was already read with its own limit.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|e| malformed(&e.body_text()))?;
    let mut fields = Vec::new();
    while let Some(field) = form
        .next_field()
        .await
        .map_err(|e| malformed(&e.body_text()))?
    {
        if fields.len() == MAX_FIELDS {
            return Err(ApiError::bad_request(format!(
                "the multipart body has more than {MAX_FIELDS} fields"
            )));
        }
        let header = |name| field.headers().get(name).map_or(&[][..], |v| v.as_bytes());
        let Disposition { name, file_name } = Disposition::read(header(CONTENT_DISPOSITION));
        let coding = header(HeaderName::from_static("content-transfer-encoding"));
        let plain = [&b""[..], b"binary", b"8bit", b"7bit"];
        if !plain.iter().any(|p| p.eq_ignore_ascii_case(coding)) {
            return Err(ApiError::bad_request(format!(
                "the field {name:?} is encoded as {:?}; send its bytes as they are",
                String::from_utf8_lossy(coding)
            )));
        }
        fields.push(Field {
            name,
            file_name,
            bytes: field.bytes().await.map_err(|e| malformed(&e.body_text()))?,
        });
    }
    Ok(fields)
}

/// Parses the fields of an urlencoded or multipart form. Other content types have none.
///
/// # Errors
/// Same as [`multipart`].
pub async fn form(headers: &HeaderMap, bytes: &Bytes) -> Result<Vec<(String, String)>, ApiError> {
    match Kind::of(headers) {
        Kind::Form => Ok(form_urlencoded::parse(bytes).into_owned().collect()),
        Kind::Multipart => {
            let fields = multipart(headers, bytes).await?;
            let pair = |f: Field| f.text().map(|text| (f.name, text));
            fields.into_iter().map(pair).collect()
        }
        Kind::Audio | Kind::Other => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn chunked(chunks: &[&'static [u8]]) -> Body {
        let chunks: Vec<Result<Bytes, Infallible>> =
            chunks.iter().map(|c| Ok(Bytes::from_static(c))).collect();
        Body::from_stream(futures_util::stream::iter(chunks))
    }

    async fn read_with(
        body: Body,
        limit: usize,
        budget: &Budget,
    ) -> Result<BufferedBody, ApiError> {
        read(&HeaderMap::new(), body, limit, budget, &Times::default()).await
    }

    #[tokio::test]
    async fn bodies_are_complete_bounded_and_released() {
        let budget = Budget::new(8);
        for chunks in [&[&b"abcdef"[..]][..], &[b"ab", b"", b"cde", b"f"]] {
            let held = read_with(chunked(chunks), 6, &budget).await.unwrap();
            assert_eq!(&held.bytes[..], b"abcdef");
            assert_eq!(budget.used(), 6);
            let more = read_with(chunked(&[b"ghi"]), 6, &budget).await;
            assert_eq!(more.unwrap_err().code, "busy");
            assert_eq!(budget.used(), 6);
            drop(held);
            assert_eq!(budget.used(), 0);
        }
        for chunks in [&[&b"abcdefg"[..]][..], &[b"abc", b"defg"]] {
            let error = read_with(chunked(chunks), 6, &budget).await.unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (413, "too_large"));
        }
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn endless_bodies_end() {
        let endless = futures_util::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from("xx")));
        let budget = Budget::new(100);
        let error = read_with(Body::from_stream(endless), 7, &budget)
            .await
            .unwrap_err();
        assert_eq!(error.status.as_u16(), 413);
        let never = futures_util::stream::pending::<Result<Bytes, Infallible>>();
        let times = Times {
            body: std::time::Duration::from_millis(1),
            ..Times::default()
        };
        let body = Body::from_stream(never);
        let error = read(&HeaderMap::new(), body, 7, &budget, &times)
            .await
            .unwrap_err();
        assert_eq!(error.status.as_u16(), 408);
    }

    #[tokio::test]
    async fn a_form_is_as_long_as_the_body_may_be() {
        const LENGTH: usize = 5 << 20;
        let mut headers = HeaderMap::new();
        let kind = "multipart/form-data; boundary=x".parse().unwrap();
        headers.insert(CONTENT_TYPE, kind);
        let mut body =
            b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"
                .to_vec();
        body.resize(body.len() + LENGTH, 0);
        body.extend(b"\r\n--x--\r\n");
        let fields = multipart(&headers, &body.into()).await.unwrap();
        assert_eq!((fields.len(), fields[0].bytes.len()), (1, LENGTH));
    }
}
