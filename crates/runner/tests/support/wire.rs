//! A server that speaks opencode's wire, in the test's process. What it does is written in the message.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Default)]
struct State {
    /// Bodies of the messages that are not warm-ups.
    messages: Mutex<Vec<Value>>,
    history: Mutex<Vec<Value>>,
    asked: Mutex<HashMap<String, String>>,
    deleted: Mutex<Vec<String>>,
    aborted: Mutex<Vec<String>>,
    /// Conversations at work that no request waits for.
    busy: Mutex<Vec<String>>,
    sessions: Mutex<u32>,
    changed: Notify,
    broken: Notify,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Bytes>>>,
    subscriptions: watch::Sender<usize>,
}

pub struct Wire {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Wire {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { answer(request, &state).await }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state }
    }

    /// A harness command that says what opencode says, then runs this script.
    pub fn command(&self, script: &str) -> [String; 3] {
        let listening = format!("echo 'opencode server listening on http://{}'", self.address);
        ["sh".to_owned(), "-c".to_owned(), format!("{listening}; {script}")]
    }

    /// Bodies of the messages that are not warm-ups.
    pub fn messages(&self) -> Vec<Value> {
        self.state.messages.lock().unwrap().clone()
    }

    pub fn deleted(&self) -> Vec<String> {
        self.state.deleted.lock().unwrap().clone()
    }

    pub fn aborted(&self) -> Vec<String> {
        self.state.aborted.lock().unwrap().clone()
    }

    /// The conversation works on something by itself, or not any more.
    pub fn works(&self, conversation: Option<&str>) {
        *self.state.busy.lock().unwrap() = conversation.into_iter().map(str::to_owned).collect();
    }

    /// Returns once it was subscribed to so often.
    pub async fn subscribed(&self, times: usize) {
        self.state.subscriptions.subscribe().wait_for(|count| *count >= times).await.unwrap();
    }

    /// Tells an event to who has subscribed.
    pub fn says(&self, kind: &str, properties: &Value) {
        let event = json!({"id": "evt_1", "type": kind, "properties": properties});
        let text = Bytes::from(format!("data: {event}\n\n"));
        self.state.subscribers.lock().unwrap().retain(|subscriber| subscriber.send(text.clone()).is_ok());
    }

    /// Ends the streams of events.
    pub fn hangs_up(&self) {
        self.state.subscribers.lock().unwrap().clear();
    }

    /// Breaks off the connection of the turn that waits for it.
    pub fn break_off(&self) {
        self.state.broken.notify_one();
    }

    /// Puts a finished reply into the history.
    pub fn finish(&self, message: &str, text: &str) {
        self.state.history.lock().unwrap().push(reply(message, text));
    }
}

fn reply(message: &str, text: &str) -> Value {
    json!({
        "info": {"id": "msg_reply", "role": "assistant", "parentID": message, "finish": "stop",
            "time": {"created": 1, "completed": 2}},
        "parts": [{"type": "text", "text": text}],
    })
}

fn json_answer(status: u16, value: &Value) -> Answer {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::new(value.to_string().into()).boxed_unsync()).unwrap()
}

fn events(state: &State) -> Answer {
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send("data: {\"type\":\"server.connected\",\"properties\":{}}\n\n".into()).unwrap();
    state.subscribers.lock().unwrap().push(sender);
    state.subscriptions.send_modify(|count| *count += 1);
    let next = |mut receiver: mpsc::UnboundedReceiver<Bytes>| async move {
        receiver.recv().await.map(|bytes| (Ok(Frame::data(bytes)), receiver))
    };
    let body = StreamBody::new(futures::stream::unfold(receiver, next)).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

async fn answer(request: Request<Incoming>, state: &State) -> Result<Answer, &'static str> {
    let is_basic = request.headers()["authorization"].to_str().unwrap().starts_with("Basic ");
    assert!(is_basic, "the password is missing");
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    Ok(match (method, segments.as_slice()) {
        (Method::POST, ["session"]) => {
            let mut sessions = state.sessions.lock().unwrap();
            *sessions += 1;
            json_answer(200, &json!({"id": format!("ses_{sessions}"), "title": body["title"]}))
        }
        (Method::GET, ["event"]) => events(state),
        (Method::GET, ["session", "status"]) => {
            let busy = state.busy.lock().unwrap();
            let status = busy.iter().map(|id| (id.clone(), json!({"type": "busy"})));
            json_answer(200, &Value::Object(status.collect()))
        }
        (Method::GET, ["session", id]) => {
            let number: u32 = id.strip_prefix("ses_").unwrap().parse().unwrap();
            let is_there = number <= *state.sessions.lock().unwrap();
            match is_there && !state.deleted.lock().unwrap().contains(&(*id).to_owned()) {
                true => json_answer(200, &json!({"id": id})),
                false => json_answer(404, &json!({"name": "NotFoundError"})),
            }
        }
        (Method::DELETE, ["session", id]) => {
            state.deleted.lock().unwrap().push((*id).to_owned());
            json_answer(200, &json!(true))
        }
        (Method::POST, ["session", id, "abort"]) => {
            state.aborted.lock().unwrap().push((*id).to_owned());
            state.changed.notify_waiters();
            json_answer(200, &json!(true))
        }
        (Method::GET, ["session", _, "message"]) => {
            json_answer(200, &Value::Array(state.history.lock().unwrap().clone()))
        }
        (Method::POST, ["session", _, "message"]) => message(&body, state).await?,
        (Method::GET, ["permission"]) => {
            let asked = state.asked.lock().unwrap();
            let open: Vec<Value> = asked.keys().map(|id| json!({"id": id, "sessionID": "ses_1"})).collect();
            json_answer(200, &json!(open))
        }
        (Method::GET, ["question"]) => json_answer(200, &json!([])),
        (Method::POST, ["permission", id, "reply"]) => {
            assert_eq!(body["reply"], "reject");
            state.asked.lock().unwrap().remove(*id);
            state.changed.notify_waiters();
            json_answer(200, &json!(true))
        }
        _ => html(),
    })
}

/// What opencode answers to paths that it does not know.
fn html() -> Answer {
    let response = Response::builder().header("content-type", "text/html");
    response.body(Full::new("<!doctype html>".into()).boxed_unsync()).unwrap()
}

/// An error breaks off the connection.
async fn message(body: &Value, state: &State) -> Result<Answer, &'static str> {
    let text = body["parts"][0]["text"].as_str().unwrap_or_default();
    let id = body["messageID"].as_str().unwrap_or_default();
    if text == "warm-up" {
        return Ok(json_answer(200, &reply("msg_warm", "ready")));
    }
    state.messages.lock().unwrap().push(body.clone());
    Ok(match text {
        "hang" => {
            state.changed.notified().await;
            json_answer(200, &reply(id, "aborted"))
        }
        "ask" => {
            let changed = state.changed.notified();
            state.asked.lock().unwrap().insert("per_1".into(), id.into());
            changed.await;
            json_answer(200, &reply(id, "refused"))
        }
        "mixed up" => {
            state.history.lock().unwrap().push(reply(id, "yours"));
            json_answer(200, &reply("msg_other", "somebody else's"))
        }
        "lost" => json_answer(200, &reply("msg_other", "somebody else's")),
        "html" => html(),
        "break" => {
            state.broken.notified().await;
            return Err("asked to break off");
        }
        "400" => json_answer(400, &json!({"name": "BadRequest", "data": "y".repeat(5000)})),
        "500" => json_answer(500, &json!({"name": "UnknownError", "trace": "x".repeat(5000)})),
        text => json_answer(200, &reply(id, &format!("did {text}"))),
    })
}
