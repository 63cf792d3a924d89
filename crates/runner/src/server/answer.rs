//! Answers: always JSON, errors always an [`ErrorBody`]. The one that has no end is JSON too, an object a line.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use paddock_runnerapi::passage::{HARNESS_HEADER, PASSED_BACK};
use paddock_runnerapi::{ErrorBody, ErrorCode, Position, TRANSCRIPT_HEADER, TURN_ID_HEADER};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::events::Reader;
use crate::harness::Passed;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

/// A document that is JSON already.
pub(super) fn raw(status: StatusCode, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// No body, of an answer that is none of HTTP's any more.
pub(super) fn nothing() -> UnsyncBoxBody<Bytes, hyper::Error> {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// What a reader gets, as it gets it.
pub(super) fn lines(reader: Reader) -> Answer {
    let next = |mut reader: Reader| async move {
        reader.next().await.map(|line| (Ok::<_, hyper::Error>(Frame::data(line)), reader))
    };
    let lines = futures::stream::unfold(reader, next);
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(paddock_runnerapi::events::CONTENT_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The harness's own answer to a client's own request, as it comes. `room` is taken until its end.
pub(super) fn harness(answer: Passed, room: OwnedSemaphorePermit) -> Answer {
    let (head, body) = answer.into_parts();
    let held = body.map_frame(move |frame| {
        let _ = &room;
        frame
    });
    let mut response = Response::new(held.boxed_unsync());
    *response.status_mut() = head.status;
    for name in PASSED_BACK {
        if let Some(value) = head.headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response.headers_mut().insert(HARNESS_HEADER, HeaderValue::from_static("answered"));
    response
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Types of ours always have a JSON form.
    raw(status, Bytes::from(serde_json::to_vec(value).unwrap_or_default()))
}

pub(super) fn error(error: &ErrorBody) -> Answer {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, error);
    if matches!(error.code, ErrorCode::QueueFull | ErrorCode::NotReady) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

pub(super) fn method_not_allowed(allowed: &Method) -> Answer {
    let text = format!("reading the request: this path takes {allowed} only");
    let mut response = error(&ErrorBody { code: ErrorCode::MethodNotAllowed, error: text });
    if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// Names the turn the answer is about, and up to where the transcript has it.
pub(super) fn about_turn(mut response: Answer, id: &str, transcript: Position) -> Answer {
    for (name, value) in [(TURN_ID_HEADER, id), (TRANSCRIPT_HEADER, &transcript.to_string())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
