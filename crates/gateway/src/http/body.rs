//! Reads a JSON body within limits.
//!
//! The body stays text: routes borrow the fields they need from it, so a large or deeply nested message costs
//! its own size and no more, and what a client sends to its harness is passed on as it came.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use paddock_api::http::ErrorCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ApiError;

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Largest size in bytes.
    pub max_bytes: usize,
    /// Longest pause between two pieces.
    pub stall: Duration,
}

/// Whether a route can do without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// There must be one.
    Required,
    /// An empty one stands for `{}`.
    Optional,
}

/// Reads the body of a request with these headers; its text is one JSON object.
///
/// # Errors
/// Wrong content type, too large, too slow, broken off, or no JSON object.
pub async fn read(
    headers: &HeaderMap,
    body: Incoming,
    limits: BodyLimits,
    presence: Presence,
) -> Result<Bytes, ApiError> {
    let declared =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limits.max_bytes as u64) {
        return Err(too_large(limits.max_bytes));
    }
    let typed = headers.contains_key(CONTENT_TYPE);
    if typed || presence == Presence::Required {
        check_type(headers)?;
    }
    let bytes = collect(body, limits).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) && presence == Presence::Optional {
        return Ok(Bytes::from_static(b"{}"));
    }
    if !typed {
        check_type(headers)?;
    }
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::bad_request("body: must be a JSON object"));
    }
    Ok(bytes)
}

/// Reads the fields of a body that [`read`] has returned.
///
/// # Errors
/// Malformed JSON, or a field that is given twice.
pub fn fields<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("body: malformed JSON: {error}")))
}

/// The text of a string field.
///
/// # Errors
/// It is no string.
pub fn string(field: &str, raw: &RawValue) -> Result<String, ApiError> {
    serde_json::from_str(raw.get()).map_err(|_| ApiError::bad_request(format!("{field}: must be a string")))
}

/// Whether a field has no content: `{}`, `[]`, `""` or `null`.
pub fn is_empty(raw: &RawValue) -> bool {
    let bare: String = raw.get().chars().filter(|c| !c.is_ascii_whitespace()).take(5).collect();
    matches!(bare.as_str(), "{}" | "[]" | "\"\"" | "null")
}

/// The schema of a field that is taken only where [`is_empty`] holds.
#[derive(Debug)]
pub struct Empty;

impl JsonSchema for Empty {
    fn schema_name() -> Cow<'static, str> {
        "Empty".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": [null, "", [], {}]})
    }
}

fn too_large(max: usize) -> ApiError {
    ApiError::new(
        ErrorCode::TooLarge,
        format!("the request's body is larger than the {max} bytes this gateway takes"),
    )
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let text =
        |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    let kind = text(CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let json = kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    if !json {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the request's body must be JSON; send it with the header content-type: application/json",
        ));
    }
    if text(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "a compressed body is not understood; send it without content-encoding",
        ));
    }
    Ok(())
}

/// Reads any body.
///
/// # Errors
/// Too large, too slow, or broken off.
pub async fn collect(mut body: Incoming, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    // A stated length is a wish until the bytes are there; memory is taken as they come.
    let mut collected = BytesMut::with_capacity(expected.min(64 * 1024));
    loop {
        let frame = match tokio::time::timeout(limits.stall, body.frame()).await {
            Err(_) => {
                return Err(ApiError::new(
                    ErrorCode::RequestTimeout,
                    "the request's body stopped arriving; send it again",
                ));
            }
            Ok(None) => return Ok(collected.freeze()),
            Ok(Some(Err(_))) => {
                return Err(ApiError::bad_request("the request's body is broken off or badly chunked"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            if collected.len() + data.len() > limits.max_bytes {
                return Err(too_large(limits.max_bytes));
            }
            collected.extend_from_slice(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(kind: &str, encoding: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        if !encoding.is_empty() {
            headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        }
        check_type(&headers).is_ok()
    }

    #[test]
    fn only_json_is_taken() {
        assert!(verdict("application/json", ""));
        assert!(verdict("Application/JSON; charset=utf-8", "identity"));
        assert!(verdict("application/merge-patch+json", ""));
        assert!(!verdict("text/json", ""));
        assert!(!verdict("application/x-www-form-urlencoded", ""));
        assert!(!verdict("application/json", "gzip"));
        assert!(check_type(&HeaderMap::new()).is_err());
    }
}
