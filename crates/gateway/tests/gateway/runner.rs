//! A scripted runner: it checks tokens as the real one does, and answers turns as it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use paddock_runnerapi::{
    ABORT, CONVERSATION, ConversationRequest, EntryKind, ErrorBody, ErrorCode, MESSAGES, Position,
    RESPOND_ASYNC, Scope, SigningKey, TRANSCRIPT, TRANSCRIPT_HEADER, TURN_ID_HEADER, TURNS, TranscriptEntry,
    TranscriptPage, TurnRequest, TurnState, TurnStatus, VerifyingKeys,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

/// A test key: the one of RFC 8037, appendix A.
pub const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

pub fn signing_key() -> SigningKey {
    SigningKey::from_pem(PEM.as_bytes()).unwrap()
}

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
    told: Mutex<BTreeMap<String, Option<TurnStatus>>>,
    /// Paths and queries of the questions about turns.
    looks: Mutex<Vec<String>>,
    conversation: Mutex<Value>,
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
            told: Mutex::default(),
            looks: Mutex::default(),
            conversation: Mutex::new(json!([{"info": {"id": "live"}, "parts": []}])),
        });
        tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let state = state.clone();
                    tokio::spawn(async move {
                        let service = service_fn(|request| state.serve(request));
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
        });
        Self { address, pod_uid: pod_uid.to_owned(), state }
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
    pub fn tells(&self, id: &str, status: Option<Value>) {
        let status = status.map(|status| serde_json::from_value(status).unwrap());
        self.state.told.lock().insert(id.to_owned(), status);
    }

    /// A turn that it has accepted ends so, and it says so when it is asked.
    pub fn ends(&self, id: &str, outcome: &Value) {
        self.state.journal.lock().add(id, EntryKind::Ended, outcome);
        let mut status = outcome.clone();
        status["id"] = json!(id);
        self.tells(id, Some(status));
    }

    /// The questions about turns that it got.
    pub fn looks(&self) -> Vec<String> {
        self.state.looks.lock().clone()
    }

    /// The conversation as its harness has it.
    pub fn shows(&self, messages: Value) {
        *self.state.conversation.lock() = messages;
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
    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
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
        if head.method == Method::GET {
            self.looks.lock().push(head.uri.to_string());
            let encoded = head.uri.path().strip_prefix(&format!("{TURNS}/")).unwrap();
            let id = paddock_gateway::http::segment::decode(encoded).unwrap();
            let parts = json!([{"type": "text", "text": format!("reply to {id}")}]);
            let reply = Some(json!({"info": {}, "parts": parts}));
            let completed = TurnStatus { id: id.clone(), state: TurnState::Completed, reply, error: None };
            let told = self.told.lock().get(&id).cloned().unwrap_or(Some(completed));
            let response = match told {
                Some(status) => answer(200, &serde_json::to_value(status).unwrap(), Some(&id)),
                None => failure(ErrorCode::NotFound, Some(&id)),
            };
            return Ok(at(response, self.journal.lock().position()));
        }
        assert_eq!(head.uri.path(), TURNS);
        let turn: TurnRequest = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let reply = json!({"info": {"id": turn.id}, "parts": turn.parts});
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

/// Makes hyper drop the connection.
#[derive(Debug, thiserror::Error)]
#[error("scripted")]
struct Broken;

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn at(mut response: Response<Full<Bytes>>, position: Position) -> Response<Full<Bytes>> {
    response.headers_mut().insert(TRANSCRIPT_HEADER, position.to_string().parse().unwrap());
    response
}

fn failure(code: ErrorCode, turn: Option<&str>) -> Response<Full<Bytes>> {
    let body = ErrorBody { code, error: format!("the runner said {code:?}") };
    answer(code.status(), &serde_json::to_value(body).unwrap(), turn)
}

fn answer(status: u16, body: &Value, turn: Option<&str>) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("set-cookie", "pod=1")
        .header("x-pod-internal", "1");
    if let Some(turn) = turn {
        response = response.header(TURN_ID_HEADER, turn);
    }
    response.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}
