//! Giving a pod its session: one request to its runner.
//!
//! Every activation has its own connection. Nothing is pooled, so nothing can reach another pod that was
//! given the same address.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use paddock_core::ActivationFailure;
use paddock_core::op::Activation;
use paddock_runnerapi::{ACTIVATE, ActivateResponse, ErrorBody, ErrorCode, Scope, SigningKey};
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Binding a warm harness takes milliseconds; a runner that needs longer than this has trouble.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_ANSWER: usize = 256 * 1024;

/// Activates a pod.
pub(crate) async fn activate(
    key: &SigningKey,
    activation: &Activation,
) -> Result<ActivateResponse, ActivationFailure> {
    match timeout(ANSWER_TIMEOUT, exchange(key, activation)).await {
        Ok(answer) => answer,
        Err(_) => Err(unavailable(activation, "no answer within 15 s")),
    }
}

async fn exchange(key: &SigningKey, activation: &Activation) -> Result<ActivateResponse, ActivationFailure> {
    let rejected = |what: &str| ActivationFailure::Rejected(what.to_owned());
    let session_uid = &activation.request.session.uid;
    let token = key
        .sign(&activation.pod_uid, session_uid, Scope::Control, jiff::Timestamp::now())
        .map_err(|error| rejected(&error.to_string()))?;
    let body = serde_json::to_vec(&activation.request).map_err(|error| rejected(&error.to_string()))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(ACTIVATE)
        .header(header::HOST, &activation.endpoint)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| rejected(&error.to_string()))?;

    let connect = TcpStream::connect(&activation.endpoint);
    let stream = timeout(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| unavailable(activation, "no connection within 2 s"))?
        .map_err(|error| unavailable(activation, &error.to_string()))?;
    // Small requests must not wait for the peer's acknowledgements.
    stream.set_nodelay(true).map_err(|error| unavailable(activation, &error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unavailable(activation, &error.to_string()))?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body))
    }
    .await;
    driver.abort();
    let (status, body) = answer.map_err(|error| unavailable(activation, &error.to_string()))?;
    read_answer(activation, status, &body)
}

fn read_answer(
    activation: &Activation,
    status: StatusCode,
    body: &[u8],
) -> Result<ActivateResponse, ActivationFailure> {
    if status == StatusCode::OK {
        let answer: ActivateResponse = serde_json::from_slice(body)
            .map_err(|error| unavailable(activation, &format!("an answer that is no activation: {error}")))?;
        if answer.session_uid != activation.request.session.uid {
            return Err(ActivationFailure::Spoilt("the pod serves another session".to_owned()));
        }
        return Ok(answer);
    }
    let error = serde_json::from_slice::<ErrorBody>(body).ok();
    let words = error.as_ref().map_or_else(|| format!("HTTP {status}"), |e| e.error.clone());
    match error.map(|e| e.code) {
        // A pod that was made with another key will never accept this one.
        Some(ErrorCode::BoundToOther | ErrorCode::Unauthorized) => Err(ActivationFailure::Spoilt(words)),
        Some(ErrorCode::BadRequest | ErrorCode::TooLarge) => Err(ActivationFailure::Rejected(words)),
        _ => Err(unavailable(activation, &words)),
    }
}

fn unavailable(activation: &Activation, why: &str) -> ActivationFailure {
    ActivationFailure::Unavailable(format!("runner at {}: {why}", activation.endpoint))
}
