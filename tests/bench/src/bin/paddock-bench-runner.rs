//! What pods of a benchmark run in place of runner and harness: it is ready at once and confirms any session.
//!
//! It says what `paddock_runnerapi` says a runner says, checks no token, and keeps nothing. Beside fake nodes one
//! process on the host answers for all pods.

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use paddock_runnerapi::{
    ACTIVATE, ACTIVITY, ActivateRequest, ActivateResponse, Activity, Capabilities, LIVEZ, PORT, QUIESCE,
    READYZ,
};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The largest activation that is read.
const MAX_BODY: usize = 4 << 20;

type Answer = Result<Response<Full<Bytes>>, Infallible>;

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
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, LIVEZ | READYZ) => Ok(Response::new(Full::from("ok"))),
        (&Method::POST, ACTIVATE) => activate(request).await,
        (&Method::GET, ACTIVITY) | (&Method::POST, QUIESCE) => json(&Activity::default()),
        _ => status(StatusCode::NOT_FOUND),
    }
}

async fn activate(request: Request<Incoming>) -> Answer {
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let Ok(asked) = serde_json::from_slice::<ActivateRequest>(&body.to_bytes()) else {
        return status(StatusCode::BAD_REQUEST);
    };
    json(&ActivateResponse {
        session_uid: asked.session.uid,
        incarnation: asked.incarnation,
        harness_session_id: "bench".to_owned(),
        capabilities: Capabilities { messages: true, terminal: false },
        took_ms: 0,
    })
}

fn json<T: Serialize>(body: &T) -> Answer {
    match serde_json::to_vec(body) {
        Ok(bytes) => Ok(Response::new(Full::from(bytes))),
        Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn status(code: StatusCode) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = code;
    Ok(response)
}
