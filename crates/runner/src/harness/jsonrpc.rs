//! JSON-RPC 2.0 with a harness, one message a line, over the standard input and output of its process.
//!
//! Requests may overlap. The pipes leave no port open that another program of the pod could speak to.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};

use super::HarnessError;
use crate::process::{Process, Reaper};

/// The longest line taken. Our own program around the Claude Agent SDK sends none above 64 MiB.
const LONGEST_LINE: usize = 65 << 20;
/// What programs of ours say of a conversation that they do not have.
const NOT_THERE: i64 = -32001;
/// What is answered to a harness's own request where there is no other answer.
const METHOD_NOT_FOUND: i64 = -32601;

/// The result of a harness's own request for this method; nothing where it is refused. Nobody else is there to answer.
pub(super) type Answers = fn(&str) -> Option<Value>;

/// An answer: a JSON document, or why there is none.
type Answer = Result<Bytes, Failure>;

#[derive(Debug, Deserialize)]
struct Failure {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Failure>,
}

/// A notification of the program.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) method: String,
    pub(super) params: Box<RawValue>,
}

#[derive(Default)]
struct Shared {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    listeners: Vec<mpsc::UnboundedSender<Told>>,
    closed: bool,
}

/// The runner's end.
pub(super) struct Peer {
    shared: Arc<Mutex<Shared>>,
    /// Lines are written by a task of their own: a request that is given up must not leave half of one.
    lines: mpsc::UnboundedSender<Bytes>,
    next: AtomicU64,
}

/// What it takes to answer the harness's own requests.
struct Own {
    answers: Answers,
    lines: mpsc::WeakUnboundedSender<Bytes>,
}

impl Own {
    fn answer(&self, id: &RawValue, method: &str) {
        let answer = if let Some(result) = (self.answers)(method) {
            json!({"jsonrpc": "2.0", "id": id, "result": result})
        } else {
            tracing::warn!(method, "the harness asks for something; nobody is there to answer");
            let error = json!({"code": METHOD_NOT_FOUND, "message": "nobody is there to answer this"});
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        };
        if let Some(lines) = self.lines.upgrade() {
            let _ = lines.send(line(&answer));
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a program that is spoken with, and whose own requests are answered so. The caller watches and ends the process.
///
/// # Errors
/// Where it cannot be started.
pub(super) fn start(command: &mut Command, reaper: &Reaper, answers: Answers) -> io::Result<(Process, Peer)> {
    let mut process = reaper.spawn_to_speak_with(command)?;
    let closed = || io::Error::other("its pipes are not there");
    let input = process.stdin.take().ok_or_else(closed)?;
    let output = process.stdout.take().ok_or_else(closed)?;
    process.log_output();
    Ok((process, Peer::new(input, output, answers)))
}

impl Peer {
    /// Speaks over a program's pipes.
    fn new(
        input: impl AsyncWrite + Send + Unpin + 'static,
        output: impl AsyncRead + Send + Unpin + 'static,
        answers: Answers,
    ) -> Self {
        let shared = Arc::<Mutex<Shared>>::default();
        let (lines, queue) = mpsc::unbounded_channel();
        tokio::spawn(write(input, queue));
        let reading = Arc::clone(&shared);
        // Weak: the program's input closes when nobody asks any more, whether it still writes or not.
        let own = Own { answers, lines: lines.downgrade() };
        tokio::spawn(async move {
            if let Err(error) = read(output, &reading, &own).await {
                tracing::error!(%error, "the harness's output cannot be read");
            }
            // Who waits or listens learns that nothing comes any more.
            let mut shared = lock(&reading);
            shared.closed = true;
            shared.waiting.clear();
            shared.listeners.clear();
        });
        Self { shared, lines, next: AtomicU64::new(1) }
    }

    /// Asks for something and returns the answer as it came.
    pub(super) async fn call(
        &self,
        attempt: &'static str,
        method: &str,
        params: &Value,
    ) -> Result<Bytes, HarnessError> {
        let broken = || HarnessError::Unreachable { attempt, source: "its end of the pipe is closed".into() };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let line = line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let answer = {
            let mut shared = lock(&self.shared);
            if shared.closed {
                return Err(broken());
            }
            let (sender, answer) = oneshot::channel();
            shared.waiting.insert(id, sender);
            answer
        };
        self.lines.send(line).map_err(|_| broken())?;
        match answer.await.map_err(|_| broken())? {
            Ok(result) => Ok(result),
            Err(Failure { code: NOT_THERE, .. }) => {
                Err(HarnessError::NotThere { what: "such conversation".to_owned() })
            }
            Err(Failure { message, .. }) => Err(HarnessError::Failed { attempt, said: message }),
        }
    }

    /// As [`Self::call`], and reads the answer.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        attempt: &'static str,
        method: &str,
        params: &Value,
    ) -> Result<T, HarnessError> {
        let bytes = self.call(attempt, method, params).await?;
        serde_json::from_slice(&bytes)
            .map_err(|_| HarnessError::Unusable { attempt, what: "it lacks what was asked for" })
    }

    /// Tells the program something. Where it is gone already, nobody hears it.
    pub(super) fn tell(&self, method: &str) {
        let _ = self.lines.send(line(&json!({"jsonrpc": "2.0", "method": method})));
    }

    /// What the program tells from now on; it ends with the program.
    pub(super) fn listen(&self) -> mpsc::UnboundedReceiver<Told> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut shared = lock(&self.shared);
        if !shared.closed {
            shared.listeners.push(sender);
        }
        receiver
    }
}

fn line(message: &Value) -> Bytes {
    format!("{message}\n").into()
}

async fn write(mut input: impl AsyncWrite + Unpin, mut queue: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(line) = queue.recv().await {
        if let Err(error) = input.write_all(&line).await {
            tracing::warn!(%error, "the harness does not read what it is asked");
            return;
        }
    }
}

async fn read(output: impl AsyncRead + Unpin, shared: &Mutex<Shared>, own: &Own) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, output);
    let mut line = Vec::new();
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        line.extend_from_slice(&bytes[..taken]);
        reader.consume(taken);
        if line.len() > LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than is taken"));
        }
        if end.is_some() {
            take(&line, shared, own);
            line.clear();
            line.shrink_to(64 << 10);
        }
    }
}

fn take(said: &[u8], shared: &Mutex<Shared>, own: &Own) {
    let Ok(Message { id, method, params, result, error }) = serde_json::from_slice(said) else {
        tracing::warn!("the harness wrote a line that is no message");
        return;
    };
    if let (Some(id), Some(method)) = (id, &method) {
        return own.answer(id, method);
    }
    let mut shared = lock(shared);
    if let Some(method) = method {
        let params = params.map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned);
        let told = |listener: &mpsc::UnboundedSender<Told>| {
            listener.send(Told { method: method.clone(), params: params.clone() }).is_ok()
        };
        shared.listeners.retain(told);
    } else if let Some(waiting) = id.and_then(|id| shared.waiting.remove(&id.get().parse().ok()?)) {
        let result = result.map_or("null", RawValue::get).as_bytes();
        // Nobody may wait any more.
        let _ = waiting.send(error.map_or_else(|| Ok(Bytes::copy_from_slice(result)), Err));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex, split};

    /// A program that answers each line with what `answer` makes of it.
    fn peer(mut answer: impl FnMut(Value) -> Vec<String> + Send + 'static) -> Peer {
        let (ours, theirs): (DuplexStream, DuplexStream) = duplex(1 << 10);
        tokio::spawn(async move {
            let (output, mut input) = split(theirs);
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                for said in answer(serde_json::from_str(&line).unwrap()) {
                    input.write_all(format!("{said}\n").as_bytes()).await.unwrap();
                }
                if line.contains("\"die\"") {
                    return;
                }
            }
        });
        let (output, input) = split(ours);
        Peer::new(input, output, |method| (method == "allow").then_some(Value::Bool(true)))
    }

    #[tokio::test]
    async fn answers_find_who_asked_whatever_their_order() {
        let held = Mutex::new(None);
        let peer = peer(move |asked| {
            let said = json!({"jsonrpc": "2.0", "id": asked["id"], "result": asked["params"]}).to_string();
            let first = held.lock().unwrap().take();
            match first {
                None => {
                    *held.lock().unwrap() = Some(said);
                    vec![]
                }
                Some(first) => vec![said, "no json".to_owned(), first],
            }
        });
        let long = "x".repeat(100_000);
        let (first, second) = (json!({"x": 1}), json!({"x": long}));
        let (a, b) = tokio::join!(peer.ask::<Value>("a", "m", &first), peer.ask::<Value>("b", "m", &second));
        assert_eq!((a.unwrap(), b.unwrap()), (first, second));
    }

    #[tokio::test]
    async fn errors_say_what_was_attempted_and_an_end_is_the_end() {
        let peer = peer(|asked| {
            let code = asked["params"]["code"].clone();
            match code.is_null() {
                true => vec![],
                false => {
                    vec![json!({"id": asked["id"], "error": {"code": code, "message": "boom"}}).to_string()]
                }
            }
        });
        let mut told = peer.listen();
        let failed = peer.call("try", "m", &json!({"code": -32603})).await.unwrap_err();
        assert_eq!(failed.to_string(), "asking the harness to try: it failed: boom");
        let gone = peer.call("try", "m", &json!({"code": NOT_THERE})).await.unwrap_err();
        assert!(matches!(gone, HarnessError::NotThere { .. }), "{gone}");
        for _ in 0..2 {
            let lost = peer.call("try", "die", &json!({})).await.unwrap_err();
            assert!(matches!(lost, HarnessError::Unreachable { .. }), "{lost}");
        }
        assert!(told.recv().await.is_none());
        assert!(peer.listen().recv().await.is_none());
    }

    #[tokio::test]
    async fn what_it_asks_for_itself_is_answered_or_refused() {
        let mut answers = Vec::new();
        let peer = peer(move |said| match said["method"].as_str() {
            Some("begin") => {
                let asks =
                    |id: &str, method: &str| json!({"id": id, "method": method, "params": {}}).to_string();
                vec![asks("its-1", "input"), asks("its-2", "allow"), json!({"id": said["id"]}).to_string()]
            }
            Some(_) => vec![json!({"id": said["id"], "result": answers}).to_string()],
            None => {
                answers.push(said);
                vec![]
            }
        });
        let mut told = peer.listen();
        peer.call("try", "begin", &json!({})).await.unwrap();
        let answers: Value = peer.ask("try", "end", &json!({})).await.unwrap();
        let [refused, allowed] = &answers.as_array().unwrap()[..] else { panic!("{answers}") };
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("its-1"), &json!(METHOD_NOT_FOUND)));
        assert_eq!((&allowed["id"], &allowed["result"]), (&json!("its-2"), &json!(true)));
        assert!(told.try_recv().is_err(), "a request is nothing that is told");
    }

    #[tokio::test]
    async fn what_it_tells_is_heard_by_all_who_listen() {
        let peer = peer(|asked| {
            let told = json!({"method": "event", "params": asked["params"]}).to_string();
            vec![told, json!({"id": asked["id"]}).to_string()]
        });
        let (mut one, mut other) = (peer.listen(), peer.listen());
        assert_eq!(peer.call("try", "m", &json!({"n": 1})).await.unwrap(), "null");
        for listener in [&mut one, &mut other] {
            let told = listener.recv().await.unwrap();
            assert_eq!((told.method.as_str(), told.params.get()), ("event", r#"{"n":1}"#));
        }
    }
}
