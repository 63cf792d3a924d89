//! `GET /openapi.json`: the description of the API, the same for everybody.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};

use super::answer::Answer;
use crate::openapi;

struct Document {
    bytes: Bytes,
    tag: String,
}

/// Made with the first request for it: most gateways are never asked.
static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    let bytes = Bytes::from(openapi::document().to_string());
    let digest = Sha256::digest(&bytes);
    let tag = digest[..16].iter().fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
    Document { bytes, tag: format!("\"{tag}\"") }
});

/// Serves the route. A client that has this version is told so.
pub fn get(headers: &HeaderMap) -> Response<Answer> {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let mut response = if known.any(|tag| tag == DOCUMENT.tag || tag == "*") {
        let mut response = Response::new(Answer::Whole(Full::default()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Answer::Whole(Full::new(DOCUMENT.bytes.clone())));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let headers = response.headers_mut();
    // It changes with the gateway's version: kept, and asked for each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&DOCUMENT.tag) {
        headers.insert(ETAG, tag);
    }
    response
}
