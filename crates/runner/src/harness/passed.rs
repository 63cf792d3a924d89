//! The part of opencode's API that harnesses have which do not speak it themselves: reading conversations, and aborting.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{HarnessError, MessageHarness, Passed};

#[derive(Deserialize)]
struct Session {
    id: String,
}

/// Answers a request for `path`. `sessions` gives all conversations, a JSON array of sessions in opencode's form.
pub(super) async fn answer(
    harness: &impl MessageHarness,
    sessions: impl Future<Output = Result<Bytes, HarnessError>>,
    method: &Method,
    path: &str,
) -> Result<Passed, HarnessError> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let body = match (method.as_str(), &segments[..]) {
        ("GET", ["session"]) => sessions.await?,
        ("GET", ["session", id]) => find(&sessions.await?, id)?,
        ("GET", ["session", id, "message"]) => harness.history(id).await?,
        ("POST", ["session", id, "abort"]) => {
            harness.abort(id).await?;
            Bytes::from_static(b"true")
        }
        _ => return Err(HarnessError::NotThere { what: "such path in its API".to_owned() }),
    };
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

fn find(sessions: &[u8], id: &str) -> Result<Bytes, HarnessError> {
    let unusable = |_| HarnessError::Unusable { attempt: "list its conversations", what: "it is no list" };
    let sessions: Vec<Box<RawValue>> = serde_json::from_slice(sessions).map_err(unusable)?;
    let is_it =
        |raw: &RawValue| serde_json::from_str::<Session>(raw.get()).is_ok_and(|session| session.id == id);
    let found = sessions.iter().find(|raw| is_it(raw));
    let found = found.map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()));
    found.ok_or_else(|| HarnessError::NotThere { what: "such conversation".to_owned() })
}
