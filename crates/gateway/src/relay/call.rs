//! One request to a runner on a connection of its own.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use paddock_runnerapi::RESPOND_ASYNC;
use paddock_runnerapi::token::{Scope, TokenError};
use paddock_websocket::handshake::Opening;

use super::dial::{self, DialError};
use super::target::Target;
use crate::gateway::Gateway;
use crate::http::request_id::{REQUEST_ID_HEADER, RequestId};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There was no connection, so nothing was sent.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection was made and broke before an answer; the request may have been received.
    #[error("the connection broke before an answer")]
    Broken(#[source] hyper::Error),
    /// The request could not be made.
    #[error("the request could not be made: {0}")]
    Request(#[from] http::Error),
    /// The token could not be made.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What is asked of a runner. No header of a client is among it, but for its place in a trace.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    /// JSON, or empty.
    body: Bytes,
    /// The request this is done for.
    request_id: RequestId,
    /// When it shall be answered.
    answer: AnswerAt,
}

/// When a runner shall answer a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerAt {
    /// When it has ended, with the reply.
    #[default]
    End,
    /// As soon as it is in the journal.
    Acceptance,
}

impl Call {
    /// Asks for what is at `path`.
    pub fn get(path: impl Into<String>, request_id: &RequestId) -> Self {
        Self::new(Method::GET, path.into(), Bytes::new(), request_id)
    }

    /// Sends `body` to `path`.
    pub fn post(path: impl Into<String>, body: Bytes, request_id: &RequestId) -> Self {
        Self::new(Method::POST, path.into(), body, request_id)
    }

    /// The same, to be answered then.
    #[must_use]
    pub fn answered_at(self, answer: AnswerAt) -> Self {
        Self { answer, ..self }
    }

    fn new(method: Method, path: String, body: Bytes, request_id: &RequestId) -> Self {
        Self { method, path, body, request_id: request_id.clone(), answer: AnswerAt::End }
    }
}

/// Sends `call` to `target` and waits for the head of the answer, for as long as it takes.
///
/// # Errors
/// See [`CallError`].
pub async fn send(gateway: &Gateway, target: &Target, call: &Call) -> Result<Response<Incoming>, CallError> {
    exchange(gateway, target, request(gateway, target, call)?).await
}

/// The same for a call that opens a WebSocket. The answer is no WebSocket's unless it accepts the handshake.
///
/// # Errors
/// See [`CallError`].
pub async fn send_opening(
    gateway: &Gateway,
    target: &Target,
    call: &Call,
) -> Result<(Opening, Response<Incoming>), CallError> {
    let mut request = request(gateway, target, call)?;
    let opening = Opening::write_into(request.headers_mut()).map_err(http::Error::from)?;
    Ok((opening, exchange(gateway, target, request).await?))
}

fn request(gateway: &Gateway, target: &Target, call: &Call) -> Result<Request<Full<Bytes>>, CallError> {
    let token =
        gateway.signing_key.sign(&target.pod_uid, &target.session_uid, Scope::Turn, Timestamp::now())?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(http::Error::from)?;
    bearer.set_sensitive(true);
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&call.path)
        .header(HOST, target.address.to_string())
        .header(AUTHORIZATION, bearer)
        .header(CONTENT_TYPE, "application/json")
        .header(REQUEST_ID_HEADER, call.request_id.header());
    if call.answer == AnswerAt::Acceptance {
        request = request.header("prefer", RESPOND_ASYNC);
    }
    let mut request = request.body(Full::new(call.body.clone()))?;
    call.request_id.trace().write_into(request.headers_mut());
    Ok(request)
}

async fn exchange(
    gateway: &Gateway,
    target: &Target,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, CallError> {
    let stream = dial::dial(target.address, gateway.relay.connect).await?;
    let (mut sender, connection) =
        http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
    // Ends with the answer's body, when nobody waits for the answer any more, or when the connection is a WebSocket's.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a runner ended early");
        }
    });
    sender.send_request(request).await.map_err(CallError::Broken)
}
