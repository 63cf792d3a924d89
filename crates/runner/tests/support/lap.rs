//! A server that behaves like those of LiteLLM Agent Platform's images: whole turns in one message, conversations in memory, and a
//! heartbeat without data. What it does is written in the message.

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
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

#[derive(Default)]
struct State {
    /// Bodies of `POST /session`.
    opened: Mutex<Vec<Value>>,
    /// Bodies of messages.
    said: Mutex<Vec<Value>>,
    /// What was said, by conversation.
    conversations: Mutex<HashMap<String, Vec<Value>>>,
    count: Mutex<u32>,
    aborted: Notify,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Bytes>>>,
}

pub struct Lap {
    pub address: SocketAddr,
    state: Arc<State>,
    serving: JoinSet<()>,
}

/// A port that is free now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Lap {
    /// Begins to serve at a port.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(answer(request, &state).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                connections.spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state, serving }
    }

    /// The process ends, and its connections with it.
    pub async fn end(mut self) {
        self.serving.shutdown().await;
    }

    pub fn opened(&self) -> Vec<Value> {
        self.state.opened.lock().unwrap().clone()
    }

    pub fn said(&self) -> Vec<Value> {
        self.state.said.lock().unwrap().clone()
    }

    /// As a new process that took the place of the one before.
    pub fn forgets(&self) {
        self.state.conversations.lock().unwrap().clear();
    }
}

impl State {
    fn tell(&self, text: impl Into<Bytes>) {
        let text = text.into();
        self.subscribers.lock().unwrap().retain(|subscriber| subscriber.send(text.clone()).is_ok());
    }

    fn event(&self, kind: &str, conversation: &str) {
        let event = json!({"type": kind, "properties": {"sessionID": conversation}});
        self.tell(format!("data: {event}\n\n"));
    }

    fn next(&self, what: &str) -> String {
        let mut count = self.count.lock().unwrap();
        *count += 1;
        format!("{what}_{count}")
    }
}

fn json_answer(status: u16, value: &Value) -> Answer {
    let response =
        Response::builder().status(status).header("content-type", "application/json; charset=UTF-8");
    response.body(Full::new(value.to_string().into()).boxed_unsync()).unwrap()
}

fn text(status: u16, text: &'static str) -> Answer {
    let response = Response::builder().status(status).header("content-type", "text/plain; charset=UTF-8");
    response.body(Full::new(text.into()).boxed_unsync()).unwrap()
}

fn events(state: &State) -> Answer {
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send("data: {\"type\":\"server.connected\",\"properties\":{}}\n\n".into()).unwrap();
    // Each 15 seconds in life.
    sender.send("event: ping\ndata: \n\n".into()).unwrap();
    state.subscribers.lock().unwrap().push(sender);
    let next = |mut receiver: mpsc::UnboundedReceiver<Bytes>| async move {
        receiver.recv().await.map(|bytes| (Ok(Frame::data(bytes)), receiver))
    };
    let body = StreamBody::new(futures::stream::unfold(receiver, next)).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

async fn answer(request: Request<Incoming>, state: &State) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let is_there = |id: &str| state.conversations.lock().unwrap().contains_key(id);
    match (method, segments.as_slice()) {
        (Method::POST, ["session"]) => {
            let id = state.next("conv");
            state.conversations.lock().unwrap().insert(id.clone(), Vec::new());
            let answer = json!({"id": id, "title": body["title"]});
            state.opened.lock().unwrap().push(body);
            json_answer(200, &answer)
        }
        (Method::GET, ["event"]) => events(state),
        (_, ["session", id, ..]) if !is_there(id) => json_answer(404, &json!({"error": "not found"})),
        (Method::GET, ["session", id, "message"]) => {
            json_answer(200, &json!(state.conversations.lock().unwrap()[*id]))
        }
        (Method::POST, ["session", id, "message"]) => json_answer(200, &turn(id, body, state).await),
        (Method::POST, ["session", _, "abort"]) => {
            state.aborted.notify_waiters();
            json_answer(200, &json!({"ok": true}))
        }
        _ => text(404, "404 Not Found"),
    }
}

/// The user's message becomes one text, and the reply has everything of the turn.
async fn turn(id: &str, body: Value, state: &State) -> Value {
    let texts = body["parts"].as_array().unwrap().iter().filter_map(|part| part["text"].as_str());
    let said = texts.collect::<Vec<_>>().join("\n");
    state.said.lock().unwrap().push(body);
    let add = |message: &Value| {
        if let Some(messages) = state.conversations.lock().unwrap().get_mut(id) {
            messages.push(message.clone());
        }
    };
    add(
        &json!({"info": {"id": state.next("user"), "role": "user"}, "parts": [{"type": "text", "text": said}]}),
    );
    let mut info =
        json!({"id": state.next("msg"), "role": "assistant", "time": {"created": 1, "completed": 2}});
    let mut parts = json!([{"type": "text", "text": format!("did {said}")}]);
    if said.ends_with("hang") {
        state.event("message.updated", id);
        state.aborted.notified().await;
        info["error"] = json!({"name": "AbortError", "data": {"message": "run aborted by client"}});
        parts = json!([]);
    } else if said.ends_with("fail") {
        info["error"] = json!({"name": "SDKError", "data": {"message": "no credit"}});
        parts = json!([]);
    } else if said.ends_with("tool") {
        let tool = json!({"type": "tool", "tool": "Bash", "state": {"input": {}, "output": "hi", "status": "completed"}});
        parts = json!([tool, parts[0]]);
    }
    let reply = json!({"info": info, "parts": parts});
    add(&reply);
    state.event("session.idle", id);
    reply
}
