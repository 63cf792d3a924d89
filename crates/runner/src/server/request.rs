//! Reading requests: token, content type, bounded body.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use paddock_runnerapi::{ErrorBody, ErrorCode, RESPOND_ASYNC};
use serde::de::DeserializeOwned;

/// The largest body: the gateway takes 32 MiB, and attachments grow by a third as base64.
pub(super) const LARGEST_BODY: usize = 48 << 20;
/// How long a client may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

fn bad(text: &str) -> ErrorBody {
    ErrorBody { code: ErrorCode::BadRequest, error: format!("reading the request: {text}") }
}

fn too_large() -> ErrorBody {
    let error = format!("reading the request: the body is larger than {LARGEST_BODY} bytes");
    ErrorBody { code: ErrorCode::TooLarge, error }
}

pub(super) fn bearer(request: &Request<Incoming>) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether the request shall be answered when its turn is accepted.
pub(super) fn prefers_async<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|preference| preference.trim() == RESPOND_ASYNC)
}

/// What HTTP demands and hyper leaves to us.
pub(super) fn check_head(request: &Request<Incoming>) -> Result<(), ErrorBody> {
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts != 1 {
        return Err(bad("it needs exactly one Host header"));
    }
    Ok(())
}

/// Reads a JSON body.
pub(super) async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, ErrorBody> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(bad("its content-type must be application/json"));
    }
    let body = bounded(request).await?;
    serde_json::from_slice(&body)
        .map_err(|error| bad(&format!("the body is not what this path takes: {error}")))
}

/// Reads any body.
pub(super) async fn bounded(request: Request<Incoming>) -> Result<Bytes, ErrorBody> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > LARGEST_BODY) {
        return Err(too_large());
    }
    let reading = Limited::new(request.into_body(), LARGEST_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(bad("the body broke off")),
        Err(_) => Err(bad("the body did not come in time")),
    }
}

/// Undoes percent-encoding; `None` where it is malformed or not UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_paths_are_decoded() {
        assert_eq!(percent_decoded("a%2Fb%20c").as_deref(), Some("a/b c"));
        assert_eq!(percent_decoded("%"), None);
        assert_eq!(percent_decoded("%zz"), None);
        assert_eq!(percent_decoded("%ff"), None);
    }
}
