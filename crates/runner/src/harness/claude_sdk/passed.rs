//! The part of opencode's API that this harness has too: reading its conversations, and aborting.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::protocol::Peer;
use crate::harness::{HarnessError, Passed};

const ATTEMPT: &str = "answer a client's own request";

#[derive(Deserialize)]
struct Session {
    id: String,
}

/// Answers a request for `path`.
pub(super) async fn answer(peer: &Peer, method: &Method, path: &str) -> Result<Passed, HarnessError> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let body = match (method.as_str(), &segments[..]) {
        ("GET", ["session"]) => peer.call(ATTEMPT, "sessions", &json!({})).await?,
        ("GET", ["session", id]) => session(peer, id).await?,
        ("GET", ["session", id, "message"]) => {
            peer.call(ATTEMPT, "messages", &json!({"conversation": id})).await?
        }
        ("POST", ["session", id, "abort"]) => {
            peer.call(ATTEMPT, "abort", &json!({"conversation": id})).await?;
            Bytes::from_static(b"true")
        }
        _ => return Err(HarnessError::NotThere { what: "such path in its API".to_owned() }),
    };
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

async fn session(peer: &Peer, id: &str) -> Result<Bytes, HarnessError> {
    let sessions: Vec<Box<RawValue>> = peer.ask(ATTEMPT, "sessions", &json!({})).await?;
    let is_it =
        |raw: &RawValue| serde_json::from_str::<Session>(raw.get()).is_ok_and(|session| session.id == id);
    let found = sessions.iter().find(|raw| is_it(raw));
    let found = found.map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()));
    found.ok_or_else(|| HarnessError::NotThere { what: "such conversation".to_owned() })
}
