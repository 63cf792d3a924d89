//! What is asked of runners: one request each.

mod tcp;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use paddock_core::RunnerFailure;
use paddock_core::op::{Activation, RunnerRef};
use paddock_kubeio::clock::Clock;
use paddock_runnerapi::{
    ACTIVATE, ACTIVITY, ActivateRequest, ActivateResponse, ActivationProgress, Activity, ErrorBody,
    ErrorCode, QUIESCE, QuiesceRequest, Scope, SigningKey,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

pub use self::tcp::Tcp;

/// Binding a warm harness takes milliseconds, and what takes longer is told within a second; a runner that needs longer than
/// this has trouble.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How requests get to runners. It is told nothing about what they mean.
pub trait Transport: Send + Sync {
    /// Sends a request to the runner that listens at `endpoint` (`ip:port`), over a connection of its own. The error says
    /// what went wrong on the way.
    fn exchange<'a>(
        &'a self,
        endpoint: &'a str,
        request: Request<Full<Bytes>>,
    ) -> BoxFuture<'a, Result<(StatusCode, Bytes), String>>;
}

/// What comes of an activation.
pub(crate) enum Activated {
    /// The pod serves the session.
    Serves(ActivateResponse),
    /// It is being made into the session's.
    GoesOn(ActivationProgress),
}

/// The runners, asked in this controller's name.
pub(crate) struct Runners {
    pub(crate) key: SigningKey,
    pub(crate) clock: Clock,
    pub(crate) transport: Arc<dyn Transport>,
}

impl Runners {
    /// Gives a pod its session: `request` is that of `activation`, with all that it refers to.
    pub(crate) async fn activate(
        &self,
        activation: &Activation,
        request: &ActivateRequest,
    ) -> Result<Activated, RunnerFailure> {
        let runner = RunnerRef {
            pod_uid: activation.pod_uid.clone(),
            session_uid: request.session.uid.clone(),
            endpoint: activation.endpoint.clone(),
        };
        let (status, body) = self.send(&runner, Method::POST, ACTIVATE, Some(request)).await?;
        match status {
            StatusCode::OK => {
                let answer: ActivateResponse = read(&runner, &body)?;
                if answer.session_uid != request.session.uid {
                    return Err(RunnerFailure::Spoilt("the pod serves another session".to_owned()));
                }
                Ok(Activated::Serves(answer))
            }
            StatusCode::ACCEPTED => Ok(Activated::GoesOn(read(&runner, &body)?)),
            _ => Err(refusal(&runner, status, &body)),
        }
    }

    /// Asks how busy a session is.
    pub(crate) async fn activity(&self, runner: &RunnerRef) -> Result<Activity, RunnerFailure> {
        self.ask(runner, Method::GET, ACTIVITY, None::<&()>).await
    }

    /// Asks a runner to take no more turns.
    pub(crate) async fn quiesce(
        &self,
        runner: &RunnerRef,
        if_idle_ms: Option<u64>,
    ) -> Result<Activity, RunnerFailure> {
        self.ask(runner, Method::POST, QUIESCE, Some(&QuiesceRequest { if_idle_ms })).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        runner: &RunnerRef,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, RunnerFailure> {
        let (status, body) = self.send(runner, method, path, body).await?;
        if status == StatusCode::OK { read(runner, &body) } else { Err(refusal(runner, status, &body)) }
    }

    async fn send(
        &self,
        runner: &RunnerRef,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(StatusCode, Bytes), RunnerFailure> {
        let request = self.request(runner, method, path, body).map_err(RunnerFailure::Rejected)?;
        let exchange = self.transport.exchange(&runner.endpoint, request);
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer.map_err(|why| unavailable(runner, &why)),
            Err(_) => Err(unavailable(runner, "no answer within 15 s")),
        }
    }

    fn request(
        &self,
        runner: &RunnerRef,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let token = self
            .key
            .sign(&runner.pod_uid, &runner.session_uid, Scope::Control, self.clock.now())
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
}

fn read<T: DeserializeOwned>(runner: &RunnerRef, body: &[u8]) -> Result<T, RunnerFailure> {
    serde_json::from_slice(body)
        .map_err(|error| unavailable(runner, &format!("an answer that cannot be used: {error}")))
}

fn refusal(runner: &RunnerRef, status: StatusCode, body: &[u8]) -> RunnerFailure {
    let error = serde_json::from_slice::<ErrorBody>(body).ok();
    let words = error.as_ref().map_or_else(|| format!("HTTP {status}"), |e| e.error.clone());
    match error.map(|e| e.code) {
        // A pod that was made with another key will never accept this one.
        Some(ErrorCode::BoundToOther | ErrorCode::Unauthorized) => RunnerFailure::Spoilt(words),
        Some(ErrorCode::BadRequest | ErrorCode::TooLarge) => RunnerFailure::Rejected(words),
        Some(ErrorCode::ActivationFailed) => RunnerFailure::Failed(words),
        Some(ErrorCode::Busy) => RunnerFailure::Busy,
        _ => unavailable(runner, &words),
    }
}

fn unavailable(runner: &RunnerRef, why: &str) -> RunnerFailure {
    RunnerFailure::Unavailable(format!("runner at {}: {why}", runner.endpoint))
}
