//! What pods of a benchmark run in place of runner and harness: it is ready at once and confirms any session.
//!
//! It says what `paddock_runnerapi` says a runner says, checks no token, and keeps nothing. Beside fake nodes one
//! process on the host answers for all pods. A turn is answered at once; one whose text is `wait` never is. No event ever
//! happens, and nothing is ever printed on a terminal.

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use paddock_runnerapi::events::HEARTBEAT;
use paddock_runnerapi::{
    ACTIVATE, ACTIVITY, ActivateRequest, ActivateResponse, Activity, Capabilities, EVENTS, LIVEZ, PORT,
    QUIESCE, READYZ, TERMINAL, TURN_ID_HEADER, TURNS, TurnRequest,
};
use paddock_websocket::handshake;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The largest request that is read.
const MAX_BODY: usize = 4 << 20;
/// How many turns and streams are held now.
const HELD: &str = "/held";

static HELD_NOW: AtomicUsize = AtomicUsize::new(0);

type Answer = Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("install") => install(args.get(1).ok_or("install: where to?")?),
        Some("run") => serve().await,
        _ => Err("usage: paddock-bench-runner install FOLDER, or paddock-bench-runner run".into()),
    }
}

/// Copies this program to where the controller expects the runner.
fn install(folder: &str) -> Result<(), Box<dyn Error>> {
    let target = Path::new(folder).join("paddock-runner");
    std::fs::copy("/proc/self/exe", &target)?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

async fn serve() -> Result<(), Box<dyn Error>> {
    // The first process of a pod gets no signal that it does not ask for.
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).await?;
    loop {
        let (connection, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => return Ok(()),
        };
        connection.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that went away is no concern of ours.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(connection), service_fn(answer))
                .with_upgrades()
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, LIVEZ | READYZ) => Ok(Response::new(Full::from("ok").boxed_unsync())),
        (&Method::POST, ACTIVATE) => activate(request).await,
        (&Method::GET, ACTIVITY) | (&Method::POST, QUIESCE) => json(&Activity::default()),
        (&Method::POST, TURNS) => turn(request).await,
        (&Method::GET, EVENTS) => Ok(events()),
        (&Method::GET, TERMINAL) => terminal(request),
        (&Method::GET, HELD) => json(&HELD_NOW.load(Ordering::Relaxed)),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// Counts as long as it is there.
struct Held;

impl Held {
    fn begin() -> Self {
        HELD_NOW.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD_NOW.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A WebSocket on which nothing is said, until the other side closes it.
fn terminal(mut request: Request<Incoming>) -> Answer {
    let Ok(accepted) = handshake::accept(&request) else { return status(StatusCode::UPGRADE_REQUIRED) };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _counted = Held::begin();
        if let Ok(stream) = upgrade.await {
            // What comes are signs of life.
            let _ = tokio::io::copy(&mut TokioIo::new(stream), &mut tokio::io::sink()).await;
        }
    });
    Ok(accepted.map(|()| Full::default().boxed_unsync()))
}

/// Where reading begins, and then a sign of life now and then.
fn events() -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let lines = futures::stream::unfold((Held::begin(), true), |(held, first)| async move {
        if first {
            return Some((Bytes::from_static(b"{\"id\":\"1.0\"}\n"), (held, false)));
        }
        tokio::time::sleep(HEARTBEAT).await;
        Some((Bytes::from_static(b"\n"), (held, false)))
    });
    let body = StreamBody::new(lines.map(|line| Ok(Frame::data(line)))).boxed_unsync();
    let mut answer = Response::new(body);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(paddock_runnerapi::events::CONTENT_TYPE));
    answer
}

async fn turn(request: Request<Incoming>) -> Answer {
    let Some(asked) = read::<TurnRequest>(request).await else { return status(StatusCode::BAD_REQUEST) };
    if asked.parts.iter().any(|part| part["text"] == "wait") {
        let _counted = Held::begin();
        return std::future::pending().await;
    }
    // About as long as a short reply of opencode's.
    let text = "This is what an agent has to say after it has done what it was asked to do. ".repeat(10);
    let part = serde_json::json!({"type": "text", "text": text});
    let mut answer = json(&serde_json::json!({"info": {"id": "m", "role": "assistant"}, "parts": [part]}))?;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(&asked.id) {
        headers.insert(TURN_ID_HEADER, id);
    }
    Ok(answer)
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Option<T> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

async fn activate(request: Request<Incoming>) -> Answer {
    let Some(asked) = read::<ActivateRequest>(request).await else { return status(StatusCode::BAD_REQUEST) };
    json(&ActivateResponse {
        session_uid: asked.session.uid,
        incarnation: asked.incarnation,
        harness_session_id: "bench".to_owned(),
        capabilities: Capabilities { messages: true, terminal: false },
        took_ms: 0,
        steps: Vec::new(),
    })
}

fn json<T: Serialize>(body: &T) -> Answer {
    match serde_json::to_vec(body) {
        Ok(bytes) => Ok(Response::new(Full::from(bytes).boxed_unsync())),
        Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn status(code: StatusCode) -> Answer {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = code;
    Ok(response)
}
