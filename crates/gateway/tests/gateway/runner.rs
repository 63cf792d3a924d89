//! A scripted runner: it checks tokens as the real one does, and answers turns as it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use paddock_runnerapi::{
    ABORT, CONVERSATION, ConversationRequest, EVENTS, EntryKind, ErrorBody, ErrorCode, HARNESS_API,
    HARNESS_HEADER, MESSAGES, Position, RESPOND_ASYNC, Scope, SigningKey, TERMINAL, TRANSCRIPT,
    TRANSCRIPT_HEADER, TURN_ID_HEADER, TURNS, TranscriptEntry, TranscriptPage, TurnRequest, TurnState,
    TurnStatus, VerifyingKeys,
};
use paddock_websocket::{Close, Message, Role};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast, watch};

/// A test key: the one of RFC 8037, appendix A.
pub const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

pub fn signing_key() -> SigningKey {
    SigningKey::from_pem(PEM.as_bytes()).unwrap()
}

/// What it does with its terminal's clients, who otherwise get back what they send.
#[derive(Clone, Debug)]
pub enum Order {
    /// Says more than anybody reads, until it is stopped by that.
    Flood,
    /// Closes in order.
    Close(u16, &'static str),
    /// Is gone.
    Break,
    /// Reads no more.
    Stall,
}

type Answer = Response<UnsyncBoxBody<Bytes, Broken>>;

/// How turns are answered.
#[derive(Clone)]
pub enum Script {
    /// With the text that came.
    Echo,
    /// The same, once the notification comes.
    EchoAfter(Arc<Notify>),
    /// With an error.
    Fail(ErrorCode),
    /// By closing the connection.
    Break,
    /// As a stranger that says 200 to everything.
    Hello,
}

/// A turn that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub turn: TurnRequest,
    pub headers: HeaderMap,
    pub session_uid: String,
}

pub struct FakeRunner {
    pub address: SocketAddr,
    pub pod_uid: String,
    state: Arc<State>,
}

struct State {
    pod_uid: String,
    keys: VerifyingKeys,
    script: Mutex<Script>,
    seen: watch::Sender<Vec<Seen>>,
    finished: watch::Sender<usize>,
    harness: Mutex<usize>,
    journal: Mutex<Journal>,
    /// Messages it was given, where it waits for those of earlier pods.
    continues: Mutex<Option<Vec<Value>>>,
    waits: AtomicBool,
    aborts: AtomicUsize,
    /// What it says of turns when it is asked; of others that they have completed.
    statuses: Mutex<BTreeMap<String, Option<TurnStatus>>>,
    /// Paths and queries of the questions about turns.
    looks: Mutex<Vec<String>>,
    conversation: Mutex<Value>,
    told: watch::Sender<Told>,
    /// The queries of those who followed the session, in their order.
    followers: watch::Sender<Vec<String>>,
    /// How many lines were taken by those who follow.
    taken: AtomicUsize,
    orders: broadcast::Sender<Order>,
    /// The heads of the requests to attach.
    attached: watch::Sender<Vec<(String, HeaderMap)>>,
    /// How many messages its terminal has sent.
    said: AtomicUsize,
    connections: AtomicUsize,
}

/// What it tells those who follow the session.
#[derive(Default)]
struct Told {
    /// Lines about the events 1.1, 1.2, and so on.
    lines: Vec<Bytes>,
    /// How the streams that are open end.
    end: Option<End>,
    /// How many streams were ended.
    ended: usize,
}

/// How a stream of events ends.
#[derive(Clone, Copy)]
pub enum End {
    /// In order.
    Stopping,
    /// With the connection.
    Broken,
}

/// As the real one's: each entry has a place, and places grow.
struct Journal {
    number: u32,
    entries: Vec<TranscriptEntry>,
}

impl Journal {
    fn add(&mut self, turn: &str, kind: EntryKind, body: &Value) {
        let seq = self.end() + 100;
        let body = serde_json::value::to_raw_value(body).unwrap();
        let at = "2026-01-01T00:00:00Z".to_owned();
        self.entries.push(TranscriptEntry { seq, turn: turn.to_owned(), kind, at, body });
    }

    fn end(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq)
    }

    fn position(&self) -> Position {
        Position { journal: self.number, seq: self.end() }
    }

    /// Two entries at most.
    fn page(&self, query: Option<&str>) -> Option<TranscriptPage> {
        let end = self.end();
        let after = query.map_or(end, |query| query.strip_prefix("after=").unwrap().parse().unwrap());
        if after != 0 && self.entries.iter().all(|entry| entry.seq != after) {
            return None;
        }
        let entries: Vec<_> =
            self.entries.iter().filter(|entry| entry.seq > after).take(2).cloned().collect();
        let through = entries.last().map_or(after, |entry| entry.seq);
        Some(TranscriptPage { journal: self.number, entries, through, end })
    }
}

impl FakeRunner {
    pub async fn start(pod_uid: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            pod_uid: pod_uid.to_owned(),
            keys: VerifyingKeys::parse(signing_key().public_key()).unwrap(),
            script: Mutex::new(Script::Echo),
            seen: watch::Sender::new(Vec::new()),
            finished: watch::Sender::new(0),
            harness: Mutex::new(0),
            journal: Mutex::new(Journal { number: 1, entries: Vec::new() }),
            continues: Mutex::new(None),
            waits: AtomicBool::new(false),
            aborts: AtomicUsize::new(0),
            statuses: Mutex::default(),
            looks: Mutex::default(),
            conversation: Mutex::new(json!([{"info": {"id": "live"}, "parts": []}])),
            told: watch::Sender::default(),
            followers: watch::Sender::default(),
            taken: AtomicUsize::new(0),
            orders: broadcast::Sender::new(16),
            attached: watch::Sender::default(),
            said: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    let state = state.clone();
                    tokio::spawn(async move {
                        let service = service_fn(|request| state.clone().serve(request));
                        let connection =
                            http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                        let _ = connection.with_upgrades().await;
                    });
                }
            }
        });
        Self { address, pod_uid: pod_uid.to_owned(), state }
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub fn script(&self, script: Script) {
        *self.state.script.lock() = script;
    }

    /// The turns that arrived, once there are `count`.
    pub async fn seen(&self, count: usize) -> Vec<Seen> {
        let mut seen = self.state.seen.subscribe();
        super::support::soon(seen.wait_for(|seen| seen.len() >= count)).await.unwrap().clone()
    }

    /// How many turns arrived so far.
    pub fn count(&self) -> usize {
        self.state.seen.borrow().len()
    }

    /// How many turns the harness saw: those that were answered, and those of which nobody knows.
    pub fn harness(&self) -> usize {
        *self.state.harness.lock()
    }

    /// Returns once `count` turns have run to their end.
    pub async fn finished(&self, count: usize) {
        let mut finished = self.state.finished.subscribe();
        super::support::soon(finished.wait_for(|finished| *finished >= count)).await.unwrap();
    }

    /// A turn that nobody asked for by HTTP, as a first prompt is.
    pub fn runs_by_itself(&self, turn: &str) {
        let mut journal = self.state.journal.lock();
        journal.add(turn, EntryKind::Accepted, &json!({"parts": []}));
        journal.add(
            turn,
            EntryKind::Ended,
            &json!({"state": "completed", "reply": {"info": {}, "parts": []}}),
        );
    }

    /// The same, with the messages that the harness has told of it.
    pub fn runs_with_messages(&self, turn: &str, ids: &[&str]) {
        let message = |id: &str| json!({"info": {"id": id}, "parts": []});
        let messages: Vec<Value> = ids.iter().map(|id| message(id)).collect();
        let reply = message(&format!("reply-{turn}"));
        let mut journal = self.state.journal.lock();
        journal.add(turn, EntryKind::Accepted, &json!({"parts": []}));
        journal.add(turn, EntryKind::Messages, &json!({"messages": messages}));
        journal.add(turn, EntryKind::Ended, &json!({"state": "completed", "reply": reply}));
    }

    /// Up to where its transcript goes.
    pub fn position(&self) -> Position {
        self.state.journal.lock().position()
    }

    /// It takes no turn before it is given the conversation.
    pub fn waits_for_the_conversation(&self) {
        self.state.waits.store(true, Ordering::SeqCst);
    }

    /// How often it was told to stop a turn.
    pub fn aborts(&self) -> usize {
        self.state.aborts.load(Ordering::SeqCst)
    }

    /// When it is asked for this turn, it says this, or that it knows no such turn.
    pub fn answers_about(&self, id: &str, status: Option<Value>) {
        let status = status.map(|status| serde_json::from_value(status).unwrap());
        self.state.statuses.lock().insert(id.to_owned(), status);
    }

    /// A turn that it has accepted ends so, and it says so when it is asked.
    pub fn ends(&self, id: &str, outcome: &Value) {
        self.state.journal.lock().add(id, EntryKind::Ended, outcome);
        let mut status = outcome.clone();
        status["id"] = json!(id);
        self.answers_about(id, Some(status));
    }

    /// The questions about turns that it got.
    pub fn looks(&self) -> Vec<String> {
        self.state.looks.lock().clone()
    }

    /// The conversation as its harness has it.
    pub fn shows(&self, messages: Value) {
        *self.state.conversation.lock() = messages;
    }

    /// Something happens in the session. The conversation comes to rest with events of the kind `session.idle`.
    pub fn says(&self, event: &Value) {
        self.tells(|id| match event["type"] == "session.idle" {
            true => json!({"id": id, "event": event, "rests": true}),
            false => json!({"id": id, "event": event}),
        });
    }

    /// Events are missing.
    pub fn misses(&self, gap: &str) {
        self.tells(|id| json!({"id": id, "gap": gap}));
    }

    fn tells(&self, line: impl Fn(String) -> Value) {
        self.state.told.send_modify(|told| {
            let line = line(format!("1.{}", told.lines.len() + 1));
            told.lines.push(format!("{line}\n").into());
        });
    }

    /// Ends the streams of events that are open.
    pub fn ends_streams(&self, end: End) {
        self.state.told.send_modify(|told| (told.end, told.ended) = (Some(end), told.ended + 1));
    }

    /// The queries of those who followed the session, once there are so many.
    pub async fn followers(&self, count: usize) -> Vec<String> {
        let mut followers = self.state.followers.subscribe();
        super::support::soon(followers.wait_for(|followers| followers.len() >= count)).await.unwrap().clone()
    }

    /// How many lines were taken by those who follow.
    pub fn taken(&self) -> usize {
        self.state.taken.load(Ordering::SeqCst)
    }

    /// Tells its terminal what to do with those who are attached.
    pub fn orders(&self, order: Order) {
        self.state.orders.send(order).unwrap();
    }

    /// The paths and headers of those who were attached, once there are so many.
    pub async fn attached(&self, count: usize) -> Vec<(String, HeaderMap)> {
        let mut attached = self.state.attached.subscribe();
        super::support::soon(attached.wait_for(|attached| attached.len() >= count)).await.unwrap().clone()
    }

    /// How many messages its terminal has sent.
    pub fn said(&self) -> usize {
        self.state.said.load(Ordering::SeqCst)
    }

    /// The status of a session with a terminal that this runner serves.
    pub fn terminal_status(&self) -> Value {
        let mut status = self.ready_status();
        status["capabilities"] = json!({"messages": false, "terminal": true});
        status
    }

    /// What it was given.
    pub fn conversation(&self) -> Option<Vec<Value>> {
        self.state.continues.lock().clone()
    }

    /// The journal began in this incarnation.
    pub fn journal_number(&self, number: u32) {
        self.state.journal.lock().number = number;
    }

    /// The status of a session that this runner serves.
    pub fn ready_status(&self) -> Value {
        ready_status(self.address, &self.pod_uid)
    }
}

pub fn ready_status(address: SocketAddr, pod_uid: &str) -> Value {
    json!({
        "phase": "Ready", "incarnation": 1, "endpoint": address.to_string(), "reason": "Activated",
        "pod": {"name": "pod", "uid": pod_uid, "ip": address.ip().to_string(), "node": "n"},
        "sandbox": {"name": "pool-1", "uid": "sandbox-1"}, "harnessSessionId": "ses_1",
        "capabilities": {"messages": true, "terminal": false},
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": "Activated", "message": ""}],
    })
}

impl State {
    /// As the real one: where reading begins, then what comes after it.
    fn events(self: &Arc<Self>, query: Option<&str>) -> Answer {
        self.followers.send_modify(|followers| followers.push(query.unwrap_or_default().to_owned()));
        let mut told = self.told.subscribe();
        let (latest, ended) = {
            let told = told.borrow_and_update();
            (told.lines.len(), told.ended)
        };
        let after = query.and_then(|query| query.strip_prefix("after=")).map(|after| match after {
            "0.0" => 0,
            after => after.strip_prefix("1.").unwrap().parse().unwrap(),
        });
        let next = after.unwrap_or(latest);
        let first = Bytes::from(format!("{}\n", json!({"id": format!("1.{next}")})));
        let follower = Follower { state: self.clone(), told, next, ended, first: Some(first) };
        let lines = futures::stream::unfold(follower, |mut follower| async move {
            follower.line().await.map(|line| (line.map(Frame::data), follower))
        });
        let lines = StreamBody::new(lines).boxed_unsync();
        let response = Response::builder().header("content-type", "application/x-ndjson");
        response.body(lines).unwrap()
    }

    /// As the real one's, with an echo for a program.
    fn terminal(self: &Arc<Self>, mut request: Request<Incoming>) -> Answer {
        if let Script::Fail(code) = self.script.lock().clone() {
            return failure(code, None);
        }
        let answer = paddock_websocket::handshake::accept(&request).unwrap();
        let (state, mut orders) = (self.clone(), self.orders.subscribe());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let stream = TokioIo::new(upgrade.await.unwrap());
            let pace = paddock_websocket::Pace::default();
            let (mut sender, mut receiver) =
                paddock_websocket::open(stream, Vec::new(), Role::Server, pace).await;
            let why = loop {
                let message = tokio::select! {
                    said = receiver.next() => match said {
                        Ok(message) => message,
                        Err(_) => break Close::new(1000.into(), ""),
                    },
                    order = orders.recv() => match order.unwrap() {
                        Order::Close(code, reason) => break Close::new(code.into(), reason),
                        Order::Break => return,
                        Order::Stall => std::future::pending().await,
                        Order::Flood => {
                            while sender.send(Message::Binary(vec![b'x'; 65536].into())).await.is_ok() {
                                state.said.fetch_add(1, Ordering::SeqCst);
                            }
                            return;
                        }
                    },
                };
                if sender.send(message).await.is_err() {
                    return;
                }
            };
            paddock_websocket::close(sender, receiver, &why).await;
        });
        let head = (request.uri().to_string(), request.headers().clone());
        self.attached.send_modify(|attached| attached.push(head));
        answer.map(|()| Full::default().map_err(Broken::from).boxed_unsync())
    }

    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let token = request.headers()["authorization"].to_str().unwrap();
        let is_ours = token
            .strip_prefix("Bearer ")
            .is_some_and(|token| self.keys.verify(token, &self.pod_uid, Scope::Turn).is_ok());
        if request.uri().path() == TERMINAL && is_ours {
            return Ok(self.terminal(request));
        }
        let (head, body) = request.into_parts();
        let token =
            head.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let script = self.script.lock().clone();
        if let Script::Hello = script {
            return Ok(answer(200, &json!({"hello": "world"}), None));
        }
        let Ok(session_uid) = self.keys.verify(&token, &self.pod_uid, Scope::Turn) else {
            return Ok(failure(ErrorCode::Unauthorized, None));
        };
        if head.uri.path() == TRANSCRIPT {
            return Ok(match self.journal.lock().page(head.uri.query()) {
                Some(page) => answer(200, &serde_json::to_value(page).unwrap(), None),
                None => failure(ErrorCode::BadRequest, None),
            });
        }
        if head.uri.path() == EVENTS {
            return Ok(match script {
                Script::Fail(code @ ErrorCode::TooManyStreams) => failure(code, None),
                _ => self.events(head.uri.query()),
            });
        }
        if head.uri.path() == CONVERSATION {
            let body = body.collect().await.unwrap().to_bytes();
            let given: ConversationRequest = serde_json::from_slice(&body).unwrap();
            let given =
                given.messages.iter().map(|message| serde_json::from_str(message.get()).unwrap()).collect();
            *self.continues.lock() = Some(given);
            self.waits.store(false, Ordering::SeqCst);
            return Ok(answer(200, &json!({}), None));
        }
        if self.waits.load(Ordering::SeqCst) {
            return Ok(failure(ErrorCode::NeedsConversation, None));
        }
        if head.uri.path() == ABORT {
            self.aborts.fetch_add(1, Ordering::SeqCst);
            if let Script::EchoAfter(go) = script {
                go.notify_one();
            }
            return Ok(answer(200, &json!({}), None));
        }
        if head.uri.path() == MESSAGES {
            return Ok(answer(200, &self.conversation.lock(), None));
        }
        if let Some(path) = head.uri.path_and_query().and_then(|uri| uri.as_str().strip_prefix(HARNESS_API)) {
            let body = body.collect().await.unwrap().to_bytes();
            return Ok(match script {
                Script::Fail(code) => failure(code, None),
                _ => harness(&head, path, &body),
            });
        }
        if head.method == Method::GET {
            self.looks.lock().push(head.uri.to_string());
            let encoded = head.uri.path().strip_prefix(&format!("{TURNS}/")).unwrap();
            let id = paddock_gateway::http::segment::decode(encoded).unwrap();
            let parts = json!([{"type": "text", "text": format!("reply to {id}")}]);
            let reply = Some(json!({"info": {}, "parts": parts}));
            let completed = TurnStatus { id: id.clone(), state: TurnState::Completed, reply, error: None };
            let told = self.statuses.lock().get(&id).cloned().unwrap_or(Some(completed));
            let response = match told {
                Some(status) => answer(200, &serde_json::to_value(status).unwrap(), Some(&id)),
                None => failure(ErrorCode::NotFound, Some(&id)),
            };
            return Ok(at(response, self.journal.lock().position()));
        }
        assert_eq!(head.uri.path(), TURNS);
        let turn: TurnRequest = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let parts = turn.call.as_ref().map_or(json!(turn.parts), |call| call.body["parts"].clone());
        let reply = json!({"info": {"id": turn.id}, "parts": parts});
        let id = turn.id.clone();
        let at_acceptance = head.headers.get("prefer").is_some_and(|prefer| prefer == RESPOND_ASYNC);
        self.seen.send_modify(|seen| seen.push(Seen { turn, headers: head.headers, session_uid }));
        let refused = matches!(script, Script::Fail(ErrorCode::Quiesced | ErrorCode::ShuttingDown));
        *self.harness.lock() += usize::from(!refused);
        let asked = json!({"parts": reply["parts"]});
        if at_acceptance && matches!(script, Script::Echo | Script::EchoAfter(_)) {
            // Written before it is answered, and not run here: what it says later a test decides.
            let mut journal = self.journal.lock();
            if !journal.entries.iter().any(|entry| entry.turn == id) {
                journal.add(&id, EntryKind::Accepted, &asked);
            }
            let status = json!({"id": id, "state": "running"});
            return Ok(at(answer(202, &status, Some(&id)), journal.position()));
        }
        let end = json!({"state": "completed", "reply": reply});
        let response = match script {
            Script::Fail(code) => failure(code, Some(&id)),
            Script::Break => return Err(Broken),
            Script::EchoAfter(go) => {
                go.notified().await;
                answer(200, &reply, Some(&id))
            }
            Script::Echo | Script::Hello => answer(200, &reply, Some(&id)),
        };
        self.finished.send_modify(|finished| *finished += 1);
        let mut journal = self.journal.lock();
        if !journal.entries.iter().any(|entry| entry.turn == id) {
            journal.add(&id, EntryKind::Accepted, &asked);
            journal.add(&id, EntryKind::Ended, &end);
        }
        Ok(at(response, journal.position()))
    }
}

/// The harness's own API: it tells what it was asked. Its events never end, and one path of it is unknown to it.
fn harness(head: &http::request::Parts, path: &str, body: &Bytes) -> Answer {
    let mut response = if path == "/event" {
        let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"id: 1\ndata: {}\n\n")))]);
        let body = StreamBody::new(first.chain(futures::stream::pending())).boxed_unsync();
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    } else {
        let headers: BTreeMap<&str, &str> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let asked = json!({
            "method": head.method.as_str(), "path": path, "headers": headers,
            "body": String::from_utf8_lossy(body),
        });
        answer(if path == "/unknown" { 404 } else { 200 }, &asked, None)
    };
    response.headers_mut().insert(HARNESS_HEADER, "answered".parse().unwrap());
    response
}

/// One who follows the session.
struct Follower {
    state: Arc<State>,
    told: watch::Receiver<Told>,
    next: usize,
    ended: usize,
    first: Option<Bytes>,
}

impl Follower {
    async fn line(&mut self) -> Option<Result<Bytes, Broken>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let (next, ended) = (self.next, self.ended);
        let now = self.told.wait_for(|told| told.lines.len() > next || told.ended > ended).await.unwrap();
        match (now.lines.get(next), now.end) {
            (Some(line), _) => {
                self.next += 1;
                self.state.taken.fetch_add(1, Ordering::SeqCst);
                Some(Ok(line.clone()))
            }
            (None, Some(End::Broken)) => Some(Err(Broken)),
            (None, _) => None,
        }
    }
}

/// Makes hyper drop the connection.
#[derive(Debug, thiserror::Error)]
#[error("scripted")]
struct Broken;

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn at(mut response: Answer, position: Position) -> Answer {
    response.headers_mut().insert(TRANSCRIPT_HEADER, position.to_string().parse().unwrap());
    response
}

fn failure(code: ErrorCode, turn: Option<&str>) -> Answer {
    let body = ErrorBody { code, error: format!("the runner said {code:?}") };
    answer(code.status(), &serde_json::to_value(body).unwrap(), turn)
}

fn answer(status: u16, body: &Value, turn: Option<&str>) -> Answer {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("set-cookie", "pod=1")
        .header("x-pod-internal", "1");
    if let Some(turn) = turn {
        response = response.header(TURN_ID_HEADER, turn);
    }
    let body = Full::new(Bytes::from(body.to_string()));
    response.body(body.map_err(Broken::from).boxed_unsync()).unwrap()
}
