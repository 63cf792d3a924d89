//! The tower service of one client.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::ApiServer;
use super::faults::{Treatment, Verdict};
use super::record::Asked;
use super::refusal::Refusal;
use super::request::{Call, Part, Verb};
use super::watch::{Reset, Watch};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is sent back.
pub type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// A client's way to the server.
#[derive(Clone, Debug)]
pub struct Connection {
    server: ApiServer,
    client: Arc<str>,
}

impl Connection {
    pub(super) fn new(server: ApiServer, client: &str) -> Self {
        Self { server, client: client.into() }
    }
}

impl<B> tower::Service<Request<B>> for Connection
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, client) = (self.server.clone(), self.client.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let kinds = server.shared.state.lock().kinds.clone();
            match Call::parse(&kinds, &parts.method, &parts.uri) {
                Ok(call) => answer(&server, client, call, &body).await,
                Err(refusal) => Ok(refused(&refusal)),
            }
        })
    }
}

async fn answer(server: &ApiServer, client: Arc<str>, call: Call, body: &[u8]) -> Result<Answer, BoxError> {
    let body: Value = if body.is_empty() {
        Value::Null
    } else {
        match serde_json::from_slice(body) {
            Ok(body) => body,
            Err(error) => return Ok(refused(&Refusal::bad_request(error.to_string()))),
        }
    };
    let asked = note(server, &client, &call);
    let Treatment { before, verdict, after } = server.shared.policy.lock().treat(server, &client, &call);
    pause(before).await;
    let answer = match verdict {
        Verdict::Refuse(refusal) => Ok(refused(&refusal)),
        Verdict::Break => return Err(Reset.into()),
        Verdict::Swallow => pending().await,
        Verdict::AsOf(version) => as_of(server, &client, &call, body, version),
        Verdict::Serve => perform(server, &client, &call, body),
        Verdict::Lose => {
            drop(perform(server, &client, &call, body));
            pause(after).await;
            return Err(Reset.into());
        }
        Verdict::Mute => {
            drop(perform(server, &client, &call, body));
            pending().await
        }
    };
    pause(after).await;
    let answer = answer.unwrap_or_else(|refusal| refused(&refusal));
    if let Some(asked) = server.shared.state.lock().requests.get_mut(asked) {
        asked.code = Some(answer.status().as_u16());
    }
    Ok(answer)
}

async fn pause(time: std::time::Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn perform(server: &ApiServer, client: &str, call: &Call, body: Value) -> Result<Answer, Refusal> {
    if call.verb == Verb::Watch {
        return Watch::open(server, client, call).map(streaming);
    }
    server.request(client, call, body).map(|(code, body)| reply(code, &body))
}

fn as_of(
    server: &ApiServer,
    client: &str,
    call: &Call,
    body: Value,
    version: u64,
) -> Result<Answer, Refusal> {
    let body = match call.verb {
        Verb::Get if call.part == Part::Main => server.shared.state.lock().get_as_of(call, version),
        Verb::List => server.shared.state.lock().list(call, Some(version)).map(Arc::new),
        _ => return perform(server, client, call, body),
    };
    body.map(|body| reply(200, &body))
}

/// Returns where the record stands.
fn note(server: &ApiServer, client: &Arc<str>, call: &Call) -> usize {
    let mut state = server.shared.state.lock();
    state.requests.push(Asked {
        at: Instant::now(),
        by: client.clone(),
        verb: call.verb,
        kind: call.kind.clone(),
        key: (call.namespace.clone(), call.name.clone()),
        part: call.part,
        code: None,
    });
    state.requests.len() - 1
}

fn streaming(watch: Watch) -> Answer {
    let chunks = stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next().await?;
        Some((chunk.map(Frame::data).map_err(BoxError::from), watch))
    });
    Response::new(StreamBody::new(chunks).boxed_unsync())
}

fn reply(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refused(refusal: &Refusal) -> Answer {
    let mut response = reply(refusal.code, &refusal.status());
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
