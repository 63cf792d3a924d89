//! A running gateway, and clients for it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use paddock_gateway::auth::{MasterKey, ScopedKeys};
use paddock_gateway::gateway::{Gateway, Limits, RelayTimes};
use paddock_gateway::index::Index;
use paddock_gateway::metrics::Metrics;
use paddock_gateway::relay::connections::Connections;
use paddock_gateway::relay::tokens::Tokens;
use paddock_gateway::server::accept::{self, DrainTimes, Drained};
use paddock_gateway::server::drain::Drain;
use paddock_gateway::server::workers::Workers;
use paddock_gateway::transcripts::{Keeper, sweep};
use paddock_kubeio::watch::Event;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cluster::FakeCluster;
use super::contract::{self, Asked};
use super::runner::{FakeRunner, signing_key};
use super::store::MemoryStore;

pub const KEY: &str = "test-key";
pub const BASE: &str = "/api/v1/managed_agents";

/// Waits for what must happen soon.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it did not happen in time")
}

/// What a test may choose.
pub struct Setup {
    pub limits: Limits,
    pub relay: RelayTimes,
    pub drain: DrainTimes,
    pub synced: bool,
    pub store: Option<Arc<MemoryStore>>,
    /// Entries of the Secret with the scoped keys.
    pub keys: Option<Value>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            relay: RelayTimes { retry_pause: Duration::ZERO, ..RelayTimes::default() },
            drain: DrainTimes { leaving: Duration::ZERO, closing: Duration::from_secs(20) },
            synced: true,
            store: None,
            keys: None,
        }
    }
}

pub struct TestGateway {
    pub address: SocketAddr,
    pub cluster: Arc<FakeCluster>,
    pub gateway: Arc<Gateway>,
    pub stop: CancellationToken,
    pub served: JoinHandle<std::io::Result<Drained>>,
}

impl TestGateway {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let key_file = std::env::temp_dir().join(format!("paddock-gateway-test-{}", uuid::Uuid::now_v7()));
        std::fs::write(&key_file, KEY).unwrap();
        let master_key = Arc::new(MasterKey::from_file(&key_file).unwrap());
        std::fs::remove_file(&key_file).unwrap();

        let index = Arc::new(Index::default());
        if setup.synced {
            index.apply_session(Event::Synced(Vec::new()));
            index.apply_agent(Event::Synced(Vec::new()));
        }
        let scoped_keys = setup.keys.map(|entries| {
            let keys = ScopedKeys::new("test/keys".parse().unwrap());
            keys.apply(Event::Synced(vec![keys_secret(&entries)]));
            Arc::new(keys)
        });
        let cluster = Arc::new(FakeCluster::new(index.clone()));
        let gateway = Arc::new(Gateway {
            index,
            cluster: cluster.clone(),
            namespace: "test".to_owned(),
            master_key,
            scoped_keys,
            signing_key: signing_key(),
            tokens: Tokens::default(),
            connections: Connections::default(),
            limits: setup.limits,
            relay: setup.relay,
            metrics: Arc::new(Metrics::default()),
            transcripts: setup.store.map(|store| Arc::new(Keeper::new(store))),
            drain: Drain::default(),
        });
        if let Some(keeper) = gateway.transcripts.clone() {
            tokio::spawn(sweep::run(gateway.clone(), keeper));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let workers = Workers::on(Handle::current());
        let served = tokio::spawn(accept::run(listener, workers, gateway.clone(), setup.drain, stop.clone()));
        Self { address, cluster, gateway, stop, served }
    }

    /// A gateway with a session `s1` that `runner` serves.
    pub async fn with_ready_session() -> (Self, FakeRunner) {
        let gateway = Self::start().await;
        let runner = FakeRunner::start("pod-1").await;
        gateway.put_session("s1", runner.ready_status());
        (gateway, runner)
    }

    /// The same, which keeps what is said in a store.
    pub async fn with_store() -> (Self, FakeRunner, Arc<MemoryStore>) {
        let store = Arc::new(MemoryStore::default());
        let gateway = Self::with(Setup { store: Some(store.clone()), ..Setup::default() }).await;
        let runner = FakeRunner::start("pod-1").await;
        gateway.put_session("s1", runner.ready_status());
        (gateway, runner, store)
    }

    /// Stores a session, as if made with kubectl.
    pub fn put_session(&self, name: &str, status: Value) {
        self.cluster.put(session(name, status));
    }

    /// Replaces the Secret with the scoped keys.
    pub fn put_keys(&self, entries: &Value) {
        self.gateway.scoped_keys.as_ref().unwrap().apply(Event::Applied(keys_secret(entries)));
    }

    /// Sends a request with the key.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.ask_with(method, path, &[], body).await
    }

    /// The same, with headers.
    pub async fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Reply {
        self.ask_as(KEY, method, path, headers, body).await
    }

    /// The same, with another key.
    pub async fn ask_as(
        &self,
        key: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Reply {
        self.send(request(key, method, path, headers, body)).await
    }

    /// Begins a request whose answer is a stream of events.
    pub async fn follow(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Sse {
        let request = request(KEY, method, path, headers, body);
        let asked = Asked::of(&request);
        let (head, body) = self.begin(request).await.into_parts();
        if head.status != 200 {
            let text = soon(body.collect()).await.unwrap().to_bytes();
            panic!("{path}: {} {}", head.status, String::from_utf8_lossy(&text));
        }
        asked.check(200, &head.headers, &[]);
        Sse { asked, headers: head.headers, body, read: String::new(), heartbeats: 0, last_id: String::new() }
    }

    pub async fn message(&self, session: &str, text: &str) -> Reply {
        self.ask("POST", &format!("/sessions/{session}/message"), Some(json!({"text": text}))).await
    }

    /// Sends any request on a connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let asked = Asked::of(&request);
        Reply::of(&asked, self.begin(request).await).await
    }

    async fn begin(&self, request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        soon(sender.send_request(request)).await.unwrap()
    }

    /// A bare connection.
    pub async fn raw(&self) -> Raw {
        Raw(TcpStream::connect(self.address).await.unwrap())
    }
}

/// The Secret with these scoped keys.
fn keys_secret(entries: &Value) -> Secret {
    let data = entries.as_object().unwrap().iter().map(|(name, entry)| {
        let document = entry.as_str().map_or_else(|| entry.to_string(), str::to_owned);
        (name.clone(), ByteString(document.into_bytes()))
    });
    let mut secret = Secret { data: Some(data.collect()), ..Secret::default() };
    secret.metadata.name = Some("keys".to_owned());
    secret
}

/// A request with a key.
fn request(
    key: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{BASE}{path}"))
        .header("host", "gateway")
        .header("authorization", format!("Bearer {key}"));
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    request.body(Full::new(body)).unwrap()
}

/// A stream of events.
pub struct Sse {
    asked: Asked,
    pub headers: http::HeaderMap,
    body: hyper::body::Incoming,
    read: String,
    pub heartbeats: usize,
    /// The id of the last event.
    pub last_id: String,
}

impl Sse {
    /// The data of the next event, each of which has an id; nothing once the stream has ended in order.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some((frame, rest)) = self.read.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.read = rest;
                if frame == ": heartbeat" {
                    self.heartbeats += 1;
                    continue;
                }
                let (id, data) = frame.split_once('\n').unwrap_or_else(|| panic!("{frame:?}"));
                self.last_id = id.strip_prefix("id: ").unwrap_or_else(|| panic!("{frame:?}")).to_owned();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                self.asked.check_event(&data);
                return Some(data);
            }
            if !self.more().await {
                assert_eq!(self.read, "", "a part of an event");
                return None;
            }
        }
    }

    /// Returns once there were so many heartbeats.
    pub async fn beats(&mut self, count: usize) {
        while self.heartbeats < count {
            assert!(self.more().await, "the stream has ended");
            while let Some(rest) = self.read.strip_prefix(": heartbeat\n\n") {
                self.read = rest.to_owned();
                self.heartbeats += 1;
            }
        }
    }

    async fn more(&mut self) -> bool {
        let Some(frame) = soon(self.body.frame()).await else { return false };
        let bytes = frame.expect("the stream was cut").into_data().unwrap();
        self.read.push_str(std::str::from_utf8(&bytes).unwrap());
        true
    }
}

/// A session object without a life of its own.
pub fn session(name: &str, status: Value) -> Value {
    json!({
        "apiVersion": "paddock.dev/v1alpha1", "kind": "Session",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"agentRef": {"name": "helper"}}, "status": status,
    })
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

impl Reply {
    async fn of(asked: &Asked, response: Response<hyper::body::Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let bytes = soon(body.collect()).await.unwrap().to_bytes();
        asked.check(head.status.as_u16(), &head.headers, &bytes);
        let is_text =
            head.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
        let body = match (head.status.as_u16(), bytes.is_empty()) {
            (204 | 304, true) => Value::Null,
            _ if is_text => Value::String(String::from_utf8(bytes.to_vec()).unwrap()),
            _ => serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {bytes:?}")),
        };
        Self { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// The error's status and code; checks what every error has.
    pub fn error(&self) -> (u16, &str) {
        assert!(!self.body["error"].as_str().unwrap().is_empty());
        assert_eq!(self.body["request_id"].as_str().unwrap(), self.header("x-request-id"));
        assert_eq!(self.header("content-type"), "application/json");
        (self.status, self.body["code"].as_str().unwrap())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().unwrap()
    }
}

/// A connection that sends what the test writes.
pub struct Raw(TcpStream);

impl Raw {
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    /// Everything until the gateway closes.
    pub async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        soon(self.0.read_to_end(&mut bytes)).await.expect("the connection was reset");
        String::from_utf8(bytes).unwrap()
    }

    /// Waits until an answer begins, and reads no more of it than that.
    pub async fn read_first_byte(&mut self) {
        soon(self.0.read_u8()).await.unwrap();
    }

    /// The next answer, which says how long it is.
    pub async fn read_answer(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            if let Some(length) = whole_answer(&bytes) {
                assert_eq!(length, bytes.len(), "more than one answer");
                return String::from_utf8(bytes).unwrap();
            }
            let read = soon(self.0.read_buf(&mut bytes)).await.unwrap();
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        }
    }

    /// Writes `request` and reads until the gateway closes.
    pub async fn exchange(mut self, request: impl AsRef<[u8]>) -> String {
        self.write(request.as_ref()).await.unwrap();
        let answer = self.read_to_end().await;
        contract::check_raw(request.as_ref(), &answer);
        answer
    }
}

fn whole_answer(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    (body.len() >= length).then(|| head.len() + 4 + length)
}

/// The head of a request with the key, without its blank line.
pub fn head(method: &str, path: &str) -> String {
    format!("{method} {BASE}{path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\n")
}
