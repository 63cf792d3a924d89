//! What is asked of runners: one request each.
//!
//! Every request has its own connection. Nothing is pooled, so nothing can reach another pod that was given the same
//! address.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use paddock_core::RunnerFailure;
use paddock_core::op::{Activation, RunnerRef};
use paddock_runnerapi::{
    ACTIVATE, ACTIVITY, ActivateResponse, Activity, ErrorBody, ErrorCode, QUIESCE, QuiesceRequest, Scope,
    SigningKey,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Binding a warm harness takes milliseconds; a runner that needs longer than this has trouble.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_ANSWER: usize = 256 * 1024;

/// Gives a pod its session.
pub(crate) async fn activate(
    key: &SigningKey,
    activation: &Activation,
) -> Result<ActivateResponse, RunnerFailure> {
    let runner = RunnerRef {
        pod_uid: activation.pod_uid.clone(),
        session_uid: activation.request.session.uid.clone(),
        endpoint: activation.endpoint.clone(),
    };
    let answer: ActivateResponse =
        ask(key, &runner, Method::POST, ACTIVATE, Some(&activation.request)).await?;
    if answer.session_uid != activation.request.session.uid {
        return Err(RunnerFailure::Spoilt("the pod serves another session".to_owned()));
    }
    Ok(answer)
}

/// Asks how busy a session is.
pub(crate) async fn activity(key: &SigningKey, runner: &RunnerRef) -> Result<Activity, RunnerFailure> {
    ask(key, runner, Method::GET, ACTIVITY, None::<&()>).await
}

/// Asks a runner to take no more turns.
pub(crate) async fn quiesce(
    key: &SigningKey,
    runner: &RunnerRef,
    if_idle_ms: Option<u64>,
) -> Result<Activity, RunnerFailure> {
    ask(key, runner, Method::POST, QUIESCE, Some(&QuiesceRequest { if_idle_ms })).await
}

async fn ask<T: DeserializeOwned>(
    key: &SigningKey,
    runner: &RunnerRef,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<T, RunnerFailure> {
    let request = request(key, runner, method, path, body).map_err(RunnerFailure::Rejected)?;
    let (status, body) = match timeout(ANSWER_TIMEOUT, exchange(runner, request)).await {
        Ok(answer) => answer?,
        Err(_) => return Err(unavailable(runner, "no answer within 15 s")),
    };
    if status == StatusCode::OK {
        return serde_json::from_slice(&body)
            .map_err(|error| unavailable(runner, &format!("an answer that cannot be used: {error}")));
    }
    Err(refusal(runner, status, &body))
}

fn request(
    key: &SigningKey,
    runner: &RunnerRef,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<Request<Full<Bytes>>, String> {
    let token = key
        .sign(&runner.pod_uid, &runner.session_uid, Scope::Control, jiff::Timestamp::now())
        .map_err(|error| error.to_string())?;
    let body = body.map(serde_json::to_vec).transpose().map_err(|error| error.to_string())?;
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, &runner.endpoint)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| error.to_string())
}

async fn exchange(
    runner: &RunnerRef,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), RunnerFailure> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&runner.endpoint))
        .await
        .map_err(|_| unavailable(runner, "no connection within 2 s"))?
        .map_err(|error| unavailable(runner, &error.to_string()))?;
    // Small requests must not wait for the peer's acknowledgements.
    stream.set_nodelay(true).map_err(|error| unavailable(runner, &error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unavailable(runner, &error.to_string()))?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body))
    }
    .await;
    driver.abort();
    answer.map_err(|error| unavailable(runner, &error.to_string()))
}

fn refusal(runner: &RunnerRef, status: StatusCode, body: &[u8]) -> RunnerFailure {
    let error = serde_json::from_slice::<ErrorBody>(body).ok();
    let words = error.as_ref().map_or_else(|| format!("HTTP {status}"), |e| e.error.clone());
    match error.map(|e| e.code) {
        // A pod that was made with another key will never accept this one.
        Some(ErrorCode::BoundToOther | ErrorCode::Unauthorized) => RunnerFailure::Spoilt(words),
        Some(ErrorCode::BadRequest | ErrorCode::TooLarge) => RunnerFailure::Rejected(words),
        Some(ErrorCode::Busy) => RunnerFailure::Busy,
        _ => unavailable(runner, &words),
    }
}

fn unavailable(runner: &RunnerRef, why: &str) -> RunnerFailure {
    RunnerFailure::Unavailable(format!("runner at {}: {why}", runner.endpoint))
}
