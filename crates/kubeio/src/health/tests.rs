//! The admin server over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::AdminServer;

struct Running {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn start() -> Running {
    let server = AdminServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, ready, stop) =
        (server.address(), Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let is_ready = Arc::clone(&ready);
    let readiness = move || {
        if is_ready.load(Ordering::Relaxed) { Ok(()) } else { Err("sessions not synced".to_owned()) }
    };
    let task = tokio::spawn(server.serve(readiness, || "a_total 1\n# EOF\n".to_owned(), stop.clone()));
    Running { address, ready, stop, task }
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer.to_ascii_lowercase()
}

#[tokio::test]
async fn it_tells_life_readiness_and_numbers() {
    let running = start().await;
    let ask = |request| ask(running.address, request);
    assert!(ask("GET /healthz").await.starts_with("http/1.1 200"));
    let unready = ask("GET /readyz").await;
    assert!(unready.starts_with("http/1.1 503") && unready.contains("sessions not synced"), "{unready}");
    running.ready.store(true, Ordering::Relaxed);
    assert!(ask("GET /readyz").await.starts_with("http/1.1 200"));
    let metrics = ask("GET /metrics?x=y").await;
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(metrics.ends_with("a_total 1\n# eof\n"), "{metrics}");
}

#[tokio::test]
async fn it_does_nothing_else() {
    let running = start().await;
    let ask = |request| ask(running.address, request);
    let refused = ask("POST /healthz").await;
    assert!(refused.starts_with("http/1.1 405") && refused.contains("allow: get, head"), "{refused}");
    assert!(ask("GET /").await.starts_with("http/1.1 404"));
    assert!(ask("POST /other").await.starts_with("http/1.1 404"));
    let head = ask("HEAD /healthz").await;
    assert!(head.starts_with("http/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn it_stops_when_told_though_connections_are_open() {
    let running = start().await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    running.stop.cancel();
    timeout(Duration::from_secs(5), running.task).await.unwrap().unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), idle.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "the address is free");
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let running = start().await;
    let error = AdminServer::bind(running.address).await.unwrap_err().to_string();
    assert!(error.contains(&running.address.to_string()), "{error}");
}
