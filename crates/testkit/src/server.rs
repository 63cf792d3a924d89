//! The HTTP side: routes, streams, pauses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::dialect::{Dialect, Meta, Pace};
use crate::log::{Log, Seen};
use crate::reply::{Outcome, Reply, decide};

type Body = BoxBody<Bytes, Infallible>;

#[derive(Default)]
struct Shared {
    log: Log,
    answered: AtomicUsize,
}

/// A running scripted model; it stops when dropped.
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl ScriptedModel {
    /// Listens on `address`; port 0 takes any free port.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Base URL for OpenAI clients.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What it was asked so far.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.log.all()
    }

    /// Forgets what it was asked.
    pub fn clear_log(&self) {
        self.shared.log.clear();
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Small events must leave at once, or a slow answer would come in lumps.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(route(request, &shared).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection broke off");
            }
        });
    }
}

async fn route(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/healthz") => json_answer(StatusCode::OK, &json!({"ok": true})),
        (&Method::GET, "/log") => json_answer(StatusCode::OK, &json!(shared.log.all())),
        (&Method::DELETE, "/log") => {
            shared.log.clear();
            json_answer(StatusCode::OK, &json!([]))
        }
        (&Method::GET, "/v1/models") => {
            let model = json!({"id": "scripted", "object": "model", "created": 0, "owned_by": "paddock"});
            json_answer(StatusCode::OK, &json!({"object": "list", "data": [model]}))
        }
        (&Method::POST, "/v1/chat/completions") => answer(Dialect::Chat, request, shared).await,
        (&Method::POST, "/v1/responses") => answer(Dialect::Responses, request, shared).await,
        (&Method::POST, "/v1/messages") => answer(Dialect::Messages, request, shared).await,
        (&Method::POST, "/v1/messages/count_tokens") => match read_json(request).await {
            Some(body) => {
                let tokens = body.to_string().len().div_ceil(4);
                json_answer(StatusCode::OK, &json!({"input_tokens": tokens}))
            }
            None => json_answer(StatusCode::BAD_REQUEST, &Dialect::Messages.error(400)),
        },
        _ => json_answer(StatusCode::NOT_FOUND, &Dialect::Chat.error(404)),
    }
}

async fn read_json(request: Request<Incoming>) -> Option<Value> {
    let body = request.into_body().collect().await.ok()?.to_bytes();
    serde_json::from_slice(&body).ok()
}

async fn answer(dialect: Dialect, request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let Some(body) = read_json(request).await else {
        return json_answer(StatusCode::BAD_REQUEST, &dialect.error(400));
    };
    let asked = dialect.read(&body);
    shared.log.push(&path, &asked);
    let order = shared.answered.fetch_add(1, Ordering::Relaxed) + 1;
    let meta = Meta { order, asked: &asked };
    match decide(&asked) {
        Outcome::Fail(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            json_answer(status, &dialect.error(code))
        }
        Outcome::Reply(reply) => {
            // Not a byte, not even headers, leaves during the silence.
            tokio::time::sleep(reply.delay).await;
            if asked.stream {
                stream_answer(dialect, &reply, &meta)
            } else {
                json_answer(StatusCode::OK, &dialect.document(&reply, &meta))
            }
        }
    }
}

fn stream_answer(dialect: Dialect, reply: &Reply, meta: &Meta<'_>) -> Response<Body> {
    let frames = dialect.stream(reply, meta);
    let pause = reply.pause;
    let (mut sender, receiver) = mpsc::channel::<Bytes>(0);
    tokio::spawn(async move {
        for frame in frames {
            if frame.pace == Pace::Paused {
                tokio::time::sleep(pause).await;
            }
            // The client went away: nobody reads the rest.
            if sender.send(Bytes::from(frame.text)).await.is_err() {
                return;
            }
        }
    });
    let body = BodyExt::boxed(StreamBody::new(receiver.map(|bytes| Ok(Frame::data(bytes)))));
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert("cache-control", http::HeaderValue::from_static("no-cache"));
    response
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
