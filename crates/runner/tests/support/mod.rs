//! A pod for tests: the real runner binary in folders of its own, and a client that holds the signing key.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)] // each test file uses a part; a panic is the report

pub mod git_host;
pub mod lap;
pub mod mcp;
pub mod viewer;
pub mod wire;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use paddock_runnerapi::{ActivateRequest, AgentBinding, EnvVar, Equipment, Scope, SessionRef, SigningKey};
use serde_json::{Value, json};

// Test key, made with `openssl genpkey -algorithm ed25519`.
const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
pub const POD: &str = "pod-uid-1";
pub const SESSION: &str = "session-uid-1";
/// How long something may take that takes moments.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const MODEL_KEY: &str = "sk-real-model-key";

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Pod {
    /// The volume.
    pub dir: PathBuf,
    /// The pod before this one has it too, and removes it.
    shares_dir: bool,
    uid: String,
    pub address: SocketAddr,
    key: SigningKey,
    adapter: &'static str,
    harness: Vec<String>,
    model_base_url: String,
    /// More of its environment.
    pub env: Vec<(String, String)>,
    child: Option<Child>,
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Pod {
    /// Folders of a pod; nothing runs yet.
    pub fn new(harness: &[impl AsRef<str>], model_base_url: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("paddock-runner-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for sub in ["home", "state", "workspace"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        Self::on(dir, POD, harness, model_base_url)
    }

    fn on(dir: PathBuf, uid: &str, harness: &[impl AsRef<str>], model_base_url: &str) -> Self {
        // A port that was free a moment ago; the runner says so where it is not any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            dir,
            shares_dir: false,
            uid: uid.to_owned(),
            address,
            key: SigningKey::from_pem(PEM.as_bytes()).unwrap(),
            adapter: "opencode",
            harness: harness.iter().map(|word| word.as_ref().to_owned()).collect(),
            model_base_url: model_base_url.to_owned(),
            env: Vec::new(),
            child: None,
        }
    }

    /// The same, for a program that is used through its terminal.
    pub fn with_terminal(program: &[&str]) -> Self {
        let mut pod = Self::new(program, "http://127.0.0.1:9/v1");
        pod.adapter = "terminal";
        pod
    }

    /// The same, for another adapter.
    pub fn with_adapter(adapter: &'static str, harness: &[impl AsRef<str>], model_base_url: &str) -> Self {
        let mut pod = Self::new(harness, model_base_url);
        pod.adapter = adapter;
        pod
    }

    /// The next pod on the same volume; this one must outlive it.
    pub fn next(&self, uid: &str) -> Self {
        let mut next = Self::on(self.dir.clone(), uid, &self.harness, &self.model_base_url);
        next.adapter = self.adapter;
        next.shares_dir = true;
        next
    }

    pub fn workspace(&self) -> PathBuf {
        self.dir.join("workspace")
    }

    pub fn journal(&self) -> PathBuf {
        self.dir.join("state/journal.jsonl")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// What the kubelet shows once the container has ended.
    pub fn termination_message(&self) -> String {
        fs::read_to_string(self.file("termination-log")).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}-{}", self.uid))
    }

    /// Starts the container.
    pub fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.file("log")).unwrap();
        fs::write(self.file("termination-log"), "").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_paddock-runner"));
        command
            .args(["run", "--listen", &self.address.to_string(), "--"])
            .args(&self.harness)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.join("home"))
            .env("PADDOCK_POD_UID", &self.uid)
            .env("PADDOCK_TERMINATION_LOG", self.file("termination-log"))
            .env("PADDOCK_PUBLIC_KEYS", self.key.public_key())
            .env("PADDOCK_HARNESS", self.adapter)
            .env("PADDOCK_MODEL_BASE_URL", &self.model_base_url)
            .env("PADDOCK_MODEL_API_KEY", MODEL_KEY)
            .env("PADDOCK_STATE_DIR", self.dir.join("state"))
            .env("PADDOCK_WORKSPACE", self.workspace())
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// What the kubelet does first.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    pub fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
    }

    /// The runner dies without a chance, and with it, as in a container, all that it started.
    pub fn kill(&mut self) {
        let children = self.children();
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        for pid in children {
            let _ =
                Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).stderr(Stdio::null()).status();
        }
    }

    /// Process ids of the runner's children.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.pid();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Waits for the runner's own end.
    pub async fn exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        until("the runner has ended", Duration::from_secs(20), || child.try_wait().unwrap()).await
    }

    pub fn token(&self, session: &str, scope: Scope) -> String {
        self.key.sign(&self.uid, session, scope, jiff::Timestamp::now()).unwrap()
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Option<Answer> {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let payload = body.map(Value::to_string).unwrap_or_default();
        let response = client.request(request.body(Full::new(payload.into())).unwrap()).await.ok()?;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.ok()?.to_bytes();
        let kind = head.headers["content-type"].to_str().unwrap();
        assert_eq!(kind.split(';').next(), Some("application/json"));
        let body = serde_json::from_slice(&bytes).unwrap();
        Some(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    pub async fn ready(&self) {
        let begun = Instant::now();
        loop {
            let answer = self.call(Method::GET, "/readyz", None, None).await;
            if answer.is_some_and(|answer| answer.status == 200) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "not ready in time; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks once, which on a busy machine may be too soon.
    pub async fn ask_to_activate(&self, request: &ActivateRequest) -> Answer {
        let token = self.token(&request.session.uid, Scope::Control);
        let body = serde_json::to_value(request).unwrap();
        self.call(Method::POST, "/v1/activate", Some(&token), Some(&body)).await.expect("an answer")
    }

    /// Activates it: asks until that is no longer going on.
    pub async fn activate(&self, request: &ActivateRequest) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.ask_to_activate(request).await;
            if answer.status != 202 {
                return answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "not activated in time: {}", answer.body);
        }
    }

    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    pub async fn activity(&self) -> Answer {
        let token = self.token(SESSION, Scope::Control);
        self.call(Method::GET, "/v1/activity", Some(&token), None).await.expect("an answer")
    }

    /// Waits until the session's idle time is what is wanted.
    pub async fn idle(&self, what: &str, is_wanted: impl Fn(u64) -> bool) {
        let begun = Instant::now();
        loop {
            let activity = self.activity().await.body;
            if is_wanted(activity["idle_ms"].as_u64().unwrap()) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "not {what} in time: {activity}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn quiesce(&self, body: &Value) -> Answer {
        let token = self.token(SESSION, Scope::Control);
        self.call(Method::POST, "/v1/quiesce", Some(&token), Some(body)).await.expect("an answer")
    }

    pub async fn turn(&self, id: &str, text: &str) -> Answer {
        self.try_turn(id, text).await.expect("an answer")
    }

    /// None where the connection broke.
    pub async fn try_turn(&self, id: &str, text: &str) -> Option<Answer> {
        self.try_parts(id, &json!([{"type": "text", "text": text}])).await
    }

    /// As [`Self::try_turn`], with any parts.
    pub async fn try_parts(&self, id: &str, parts: &Value) -> Option<Answer> {
        let body = json!({"id": id, "parts": parts});
        let token = self.token(SESSION, Scope::Turn);
        self.call(Method::POST, "/v1/turns", Some(&token), Some(&body)).await
    }

    /// A turn that was asked of the harness's own API.
    pub async fn call_turn(&self, id: &str, path: &str, body: &Value) -> Answer {
        let request = json!({"id": id, "call": {"path": path, "body": body}});
        let token = self.token(SESSION, Scope::Turn);
        self.call(Method::POST, "/v1/turns", Some(&token), Some(&request)).await.expect("an answer")
    }

    /// A request to the harness's own API.
    pub async fn pass(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let token = self.token(SESSION, Scope::Turn);
        self.call(method, &format!("/v1/harness{path}"), Some(&token), body).await.expect("an answer")
    }

    pub async fn status(&self, id: &str) -> Answer {
        let token = self.token(SESSION, Scope::Turn);
        self.call(Method::GET, &format!("/v1/turns/{id}"), Some(&token), None).await.expect("an answer")
    }

    /// Follows what happens, after an event or from now on.
    pub async fn follow(&self, after: Option<&str>) -> Events {
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let request = Request::builder()
            .uri(format!("http://{}/v1/events{query}", self.address))
            .header("authorization", format!("Bearer {}", self.token(SESSION, Scope::Turn)));
        let answer = client.request(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        Events { body: answer.into_body(), read: Vec::new() }
    }

    /// Waits until a turn is in this state.
    pub async fn reaches(&self, id: &str, state: &str) {
        let begun = Instant::now();
        while self.status(id).await.body["state"] != state {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "turn {id} is not {state} in time\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What happens in a session, as it is told.
pub struct Events {
    body: hyper::body::Incoming,
    read: Vec<u8>,
}

impl Events {
    /// The next line that is not empty; nothing where the stream has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line.len() > 1 {
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                continue;
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await;
            let frame = frame.expect("an event in time")?.ok()?;
            self.read.extend_from_slice(&frame.into_data().unwrap());
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        if !self.shares_dir {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Answer {
    /// All text of a reply.
    pub fn text(&self) -> String {
        let parts = self.body["parts"].as_array().unwrap_or_else(|| panic!("no parts: {}", self.body));
        let texts = parts.iter().filter(|part| part["type"] == "text");
        texts.filter_map(|part| part["text"].as_str()).collect()
    }
}

/// The same session in its n-th pod.
pub fn request_of(incarnation: u32) -> ActivateRequest {
    ActivateRequest { incarnation, ..request() }
}

/// A session that is equipped with this.
pub fn equipped(equipment: Equipment) -> ActivateRequest {
    let mut request = request();
    request.agent.equipment = equipment;
    request
}

pub fn request() -> ActivateRequest {
    ActivateRequest {
        session: SessionRef { namespace: "paddock".into(), name: "s1".into(), uid: SESSION.into() },
        incarnation: 1,
        agent: AgentBinding {
            model: "gpt-test".into(),
            prompt: Some("You are a careful tester.".into()),
            env: vec![EnvVar { name: "AGENT_COLOUR".into(), value: "it's \"blue\" $HOME".into() }],
            turn_timeout_ms: 60_000,
            equipment: Equipment::default(),
            max_queued_turns: 2,
        },
        title: "A test".into(),
        continues: false,
        initial_turn: None,
    }
}

/// Polls until there is a value.
pub async fn until<T>(what: &str, limit: Duration, mut value: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(begun.elapsed() < limit, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Resident memory of a process in KiB: (all, without what is mapped from files).
pub fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("VmRSS:"), field("RssAnon:"))
}
