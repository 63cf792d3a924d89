//! One request to a runner.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use paddock_runnerapi::RESPOND_ASYNC;
use paddock_runnerapi::token::TokenError;
use paddock_websocket::handshake::Opening;

use super::connections::{Reply, Sender};
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

/// What is asked of a runner. Of a client's headers only its place in a trace is among it, and what is for the harness.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    body: Bytes,
    /// The request this is done for.
    request_id: RequestId,
    /// When it shall be answered.
    answer: AnswerAt,
    /// Headers for the harness.
    headers: HeaderMap,
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
        Self::of(Method::GET, path.into(), Bytes::new(), request_id)
    }

    /// Sends `body`, which is JSON, to `path`.
    pub fn post(path: impl Into<String>, body: Bytes, request_id: &RequestId) -> Self {
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self::of(Method::POST, path.into(), body, request_id).with_headers([json].into_iter().collect())
    }

    /// Any request.
    pub fn of(method: Method, path: String, body: Bytes, request_id: &RequestId) -> Self {
        let (answer, headers) = (AnswerAt::End, HeaderMap::new());
        Self { method, path, body, request_id: request_id.clone(), answer, headers }
    }

    /// The same with these headers.
    #[must_use]
    pub fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    /// The request this is done for.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The same, to be answered then.
    #[must_use]
    pub fn answered_at(self, answer: AnswerAt) -> Self {
        Self { answer, ..self }
    }
}

/// Sends `call` to `target` and waits for the head of the answer, for as long as it takes.
///
/// # Errors
/// See [`CallError`].
pub async fn send(gateway: &Gateway, target: &Target, call: &Call) -> Result<Response<Reply>, CallError> {
    let mut request = request(gateway, target, call)?;
    if let Some(mut kept) = gateway.connections.take(target) {
        match kept.try_send_request(request).await {
            Ok(answer) => return Ok(gateway.connections.reply(target, kept, answer)),
            Err(mut failed) => match failed.take_message() {
                // It was closed before a byte was written.
                Some(unsent) => request = unsent,
                None if call.method == Method::GET => request = self::request(gateway, target, call)?,
                None => return Err(CallError::Broken(failed.into_error())),
            },
        }
    }
    let mut fresh = connect(gateway, target).await?;
    let answer = fresh.send_request(request).await.map_err(CallError::Broken)?;
    Ok(gateway.connections.reply(target, fresh, answer))
}

/// The same for a call that opens a WebSocket. The answer is no WebSocket's unless it accepts the handshake.
///
/// # Errors
/// See [`CallError`].
pub async fn send_opening(
    gateway: &Gateway,
    target: &Target,
    call: &Call,
) -> Result<(Opening, Response<Reply>), CallError> {
    let mut request = request(gateway, target, call)?;
    let opening = Opening::write_into(request.headers_mut()).map_err(http::Error::from)?;
    let mut sender = connect(gateway, target).await?;
    let answer = sender.send_request(request).await.map_err(CallError::Broken)?;
    Ok((opening, answer.map(Reply::last)))
}

fn request(gateway: &Gateway, target: &Target, call: &Call) -> Result<Request<Full<Bytes>>, CallError> {
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&call.path)
        .header(HOST, target.address.to_string())
        .header(AUTHORIZATION, gateway.tokens.bearer(&gateway.signing_key, target)?)
        .header(REQUEST_ID_HEADER, call.request_id.header());
    if call.answer == AnswerAt::Acceptance {
        request = request.header("prefer", RESPOND_ASYNC);
    }
    let mut request = request.body(Full::new(call.body.clone()))?;
    request.headers_mut().extend(call.headers.clone());
    call.request_id.trace().write_into(request.headers_mut());
    Ok(request)
}

async fn connect(gateway: &Gateway, target: &Target) -> Result<Sender, CallError> {
    let stream = dial::dial(target.address, gateway.relay.connect).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
    // Ends when nobody waits for an answer on it or keeps it, or when it is a WebSocket's.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a runner ended early");
        }
    });
    Ok(sender)
}
