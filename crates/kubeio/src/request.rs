//! One request to the API server, and what its answer means. The common ground of writes, lists, leases and events.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::Status;
use kube::core::response::StatusDetails;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::client::{NoRetry, NotSent, retry_after};
use crate::write::WriteError;

/// A request as kube's builders make it.
pub(crate) type Built = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// Who repeats a read that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The client, a few times.
    Client,
    /// The caller, at its own pace.
    Caller,
}

/// Sends a request and returns the answer once its headers say that it was done.
pub(crate) async fn open(
    client: &kube::Client,
    built: Built,
    repeat: Repeat,
) -> Result<Response<Body>, WriteError> {
    let mut request = built.map_err(|error| not_sendable(&error))?.map(Body::from);
    if repeat == Repeat::Caller {
        request.extensions_mut().insert(NoRetry);
    }
    let response = client.send(request).await.map_err(failed)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let wait = retry_after(response.headers());
    // A refusal whose explanation got lost is a refusal all the same.
    let explanation = match response.into_body().collect().await {
        Ok(body) => serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
        Err(_) => Status::default(),
    };
    Err(refused(status, wait, explanation))
}

/// Sends a request and returns the whole body of the answer.
pub(crate) async fn send(client: &kube::Client, built: Built, repeat: Repeat) -> Result<Bytes, WriteError> {
    let response = open(client, built, repeat).await?;
    match response.into_body().collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(WriteError::Unavailable(format!("the answer broke off: {}", causes(&error)))),
    }
}

/// What a status means, as it comes in an answer or in a watch's error event.
pub(crate) fn refused(status: StatusCode, wait: Option<Duration>, explanation: Status) -> WriteError {
    let Status { reason, message, details, .. } = explanation;
    match status {
        StatusCode::NOT_FOUND => WriteError::NotFound,
        StatusCode::CONFLICT if reason == "AlreadyExists" => WriteError::AlreadyExists,
        StatusCode::CONFLICT => WriteError::Conflict,
        // How a patch that names another UID is refused.
        StatusCode::UNPROCESSABLE_ENTITY if names_uid(details.as_ref()) => WriteError::Conflict,
        StatusCode::TOO_MANY_REQUESTS => {
            let seconds = details.map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
            let retry_after = wait.or(seconds.map(|seconds| Duration::from_secs(seconds.into())));
            WriteError::Throttled { retry_after }
        }
        StatusCode::REQUEST_TIMEOUT => unavailable(status, &message),
        status if status.is_client_error() => {
            WriteError::Rejected { status: status.as_u16(), reason, message }
        }
        status => unavailable(status, &message),
    }
}

/// Decodes what the server sent.
pub(crate) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, WriteError> {
    serde_json::from_slice(body).map_err(|error| undecodable(what, &error))
}

/// An object that this program cannot read. Asking again will not help.
pub(crate) fn undecodable(what: &str, error: &serde_json::Error) -> WriteError {
    WriteError::Rejected {
        status: StatusCode::OK.as_u16(),
        reason: "Undecodable".to_owned(),
        message: format!("the API server sent a {what} that cannot be decoded: {error}"),
    }
}

/// One page of a list. The items are decoded one by one, so that one bad object does not hide the others.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<'a> {
    pub(crate) metadata: PageMetadata,
    #[serde(borrow, default)]
    pub(crate) items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageMetadata {
    #[serde(default)]
    pub(crate) resource_version: String,
    #[serde(rename = "continue", default)]
    pub(crate) next: String,
}

/// The few fields by which an object can be told apart.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Identity {
    #[serde(default)]
    pub(crate) metadata: IdentityMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IdentityMetadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

/// Decodes an object, or says why not and which one it was.
pub(crate) fn object<K: DeserializeOwned>(raw: &RawValue) -> Result<K, (serde_json::Error, Identity)> {
    serde_json::from_str(raw.get())
        .map_err(|error| (error, serde_json::from_str(raw.get()).unwrap_or_default()))
}

/// An error and its causes in one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Wrappers often repeat their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn names_uid(details: Option<&StatusDetails>) -> bool {
    details.is_some_and(|details| details.causes.iter().any(|cause| cause.field == "metadata.uid"))
}

fn failed(error: kube::Error) -> WriteError {
    match error {
        kube::Error::Service(error) if error.is::<NotSent>() => WriteError::Throttled { retry_after: None },
        error => WriteError::Unavailable(causes(&error)),
    }
}

fn unavailable(status: StatusCode, message: &str) -> WriteError {
    WriteError::Unavailable(if message.is_empty() {
        status.to_string()
    } else {
        format!("{status}: {message}")
    })
}

fn not_sendable(error: &kube::core::request::Error) -> WriteError {
    WriteError::Rejected {
        status: StatusCode::BAD_REQUEST.as_u16(),
        reason: "BadRequest".to_owned(),
        message: causes(error),
    }
}
