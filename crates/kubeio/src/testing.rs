//! An API server made of a closure, for the tests of this crate.

use std::sync::Arc;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{BoxError, service_fn};

use crate::client::{ClientOptions, over};

pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// A request as the server got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

impl Seen {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v)
    }
}

/// All requests so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// A client whose requests are answered by `handler`.
pub(crate) fn server<H, F>(options: &ClientOptions, handler: H) -> (kube::Client, Log)
where
    H: Fn(Seen) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Reply, BoxError>> + Send + 'static,
{
    let log = Log::default();
    let requests = log.clone();
    let service = service_fn(move |request: Request<Body>| {
        let (handler, requests) = (handler.clone(), requests.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let seen = Seen {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
                at: Instant::now(),
            };
            requests.0.lock().push(seen.clone());
            handler(seen).await
        }
        .boxed()
    });
    (over(service, "default", options), log)
}

pub(crate) fn reply(status: u16, body: &Value) -> Reply {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub(crate) fn refusal(status: u16, reason: &str) -> Reply {
    reply(
        status,
        &json!({"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": "as told"}),
    )
}

pub(crate) fn with_retry_after(mut reply: Reply, seconds: &'static str) -> Reply {
    reply.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static(seconds));
    reply
}

/// The sending end of a body that stays open.
pub(crate) type Pipe = mpsc::UnboundedSender<Bytes>;

/// An answer whose body is what is sent down the pipe, until the pipe is dropped.
pub(crate) fn streaming() -> (Pipe, Reply) {
    let (pipe, chunks) = mpsc::unbounded();
    let body = StreamBody::new(chunks.map(|chunk| Ok::<_, BoxError>(Frame::data(chunk))));
    (pipe, Response::new(body.boxed_unsync()))
}

/// An object of the core group, as a server would store it.
pub(crate) fn config_map(name: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": version.to_string()}})
}

pub(crate) fn list(items: &[Value], version: u32) -> Reply {
    reply(200, &json!({"kind": "List", "metadata": {"resourceVersion": version.to_string()}, "items": items}))
}

/// A server that takes the request and never answers.
pub(crate) async fn silence() -> Result<Reply, BoxError> {
    std::future::pending().await
}
