use std::sync::atomic::Ordering;
use std::time::Duration;

use paddock_runnerapi::{Scope, SigningKey, VerifyingKeys};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::limits::PASSAGES;
use super::*;
use crate::activation::{Activator, Tools};
use crate::activity::Meter;
use crate::app::Phase;
use crate::harness::Harness;
use crate::harness::fake::FakeHarness;
use crate::turns::testing::MemoryStorage;

// Test key, made with `openssl genpkey -algorithm ed25519`.
const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

struct Fixture {
    harness: Arc<FakeHarness>,
    storage: MemoryStorage,
    key: SigningKey,
    app: Arc<App>,
    server: Server,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }
}

async fn start() -> Fixture {
    let (harness, storage) = (Arc::new(FakeHarness::default()), MemoryStorage::default());
    let key = SigningKey::from_pem(PEM.as_bytes()).unwrap();
    let keys = VerifyingKeys::parse(key.public_key()).unwrap();
    let app = App::new("pod".into(), keys);
    let listener = listen(Some(([127, 0, 0, 1], 0).into())).await.unwrap();
    let server = Server::start(listener, Arc::clone(&app)).unwrap();
    Fixture { harness, storage, key, app, server }
}

impl Fixture {
    fn boot(&self) {
        let harness = Arc::clone(&self.harness) as Arc<dyn Harness>;
        self.app.ready(Arc::new(Activator::new(
            harness,
            Tools::idle(),
            self.storage.journal(),
            "pod".into(),
            Meter::start(),
        )));
    }

    fn token(&self, pod: &str, session: &str, scope: Scope) -> String {
        self.key.sign(pod, session, scope, jiff::Timestamp::now()).unwrap()
    }

    /// Sends exactly these bytes, and that it is all.
    async fn raw(&self, request: &str) -> Answer {
        let request = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head[9..12].parse().unwrap();
        assert!(head.contains("content-type: application/json"), "{head}");
        Answer { status, head: head.to_lowercase(), body: serde_json::from_str(body).unwrap() }
    }

    async fn send(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        self.send_with("", method, path, token, body).await
    }

    /// With more lines in the head.
    async fn send_with(&self, more: &str, method: &str, path: &str, token: &str, body: &str) -> Answer {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: pod\r\n{more}");
        let kind = "content-type: application/json; charset=utf-8\r\n";
        let rest =
            format!("authorization: Bearer {token}\r\n{kind}content-length: {}\r\n\r\n{body}", body.len());
        self.raw(&(head + &rest)).await
    }

    async fn activate(&self, uid: &str, token: &str) -> Answer {
        let agent = json!({"model": "m", "turn_timeout_ms": 10_000, "max_queued_turns": 2});
        let session = json!({"namespace": "n", "name": "s", "uid": uid});
        let body = json!({"session": session, "incarnation": 1, "title": "", "agent": agent});
        self.send("POST", "/v1/activate", token, &body.to_string()).await
    }

    async fn turn(&self, token: &str, id: &str, text: &str) -> Answer {
        let body = json!({"id": id, "parts": [{"type": "text", "text": text}]});
        self.send("POST", "/v1/turns", token, &body.to_string()).await
    }
}

#[tokio::test]
async fn probes_tell_how_far_the_pod_is() {
    let fixture = start().await;
    let probe = async |path: &str| fixture.send("GET", path, "", "").await.status;
    assert_eq!((probe("/livez").await, probe("/readyz").await), (200, 503));
    let token = fixture.token("pod", "s1", Scope::Control);
    assert_eq!(fixture.activate("s1", &token).await.code(), (503, "not_ready"));
    fixture.boot();
    assert_eq!((probe("/livez").await, probe("/readyz").await), (200, 200));
    fixture.app.stop(Phase::Stopping, "test").await;
    assert_eq!((probe("/livez").await, probe("/readyz").await), (200, 503));
    assert_eq!(fixture.activate("s1", &token).await.code(), (503, "shutting_down"));
    fixture.app.enter(Phase::HarnessLost);
    assert_eq!(probe("/livez").await, 503);
}

#[tokio::test]
async fn only_the_right_token_opens_a_route() {
    let fixture = start().await;
    fixture.boot();
    let activate = fixture.token("pod", "s1", Scope::Control);
    for token in [
        "nonsense".to_owned(),
        fixture.token("other-pod", "s1", Scope::Control),
        fixture.token("pod", "s1", Scope::Turn),
        fixture.token("pod", "s2", Scope::Control),
    ] {
        assert_eq!(fixture.activate("s1", &token).await.code(), (401, "unauthorized"));
    }
    let turn = fixture.token("pod", "s1", Scope::Turn);
    assert_eq!(fixture.turn(&turn, "t", "x").await.code(), (409, "not_activated"));
    assert_eq!(fixture.activate("s1", &activate).await.status, 200);
    assert_eq!(fixture.turn(&activate, "t", "x").await.code(), (401, "unauthorized"));
    let other = fixture.token("pod", "s2", Scope::Turn);
    assert_eq!(fixture.turn(&other, "t", "x").await.code(), (409, "bound_to_other"));
    let activate_other = fixture.token("pod", "s2", Scope::Control);
    assert_eq!(fixture.activate("s2", &activate_other).await.code(), (409, "bound_to_other"));
    assert_eq!(fixture.turn(&turn, "t", "x").await.status, 200);
    assert_eq!(fixture.harness.runs(), ["x"]);
}

#[tokio::test]
async fn activity_and_rest_are_the_controllers_to_ask_for() {
    let fixture = start().await;
    let control = fixture.token("pod", "s1", Scope::Control);
    let activity = async |token: &str| fixture.send("GET", "/v1/activity", token, "").await;
    let quiesce = async |token: &str, body: &str| fixture.send("POST", "/v1/quiesce", token, body).await;
    assert_eq!(activity(&control).await.code(), (503, "not_ready"));
    fixture.boot();
    assert_eq!(activity(&control).await.code(), (409, "not_activated"));
    assert_eq!(quiesce(&control, "{}").await.code(), (409, "not_activated"));
    fixture.activate("s1", &control).await;
    let turn = fixture.token("pod", "s1", Scope::Turn);
    let other = fixture.token("pod", "s2", Scope::Control);
    for (token, refusal) in [(&turn, (401, "unauthorized")), (&other, (409, "bound_to_other"))] {
        assert_eq!(activity(token).await.code(), refusal);
        assert_eq!(quiesce(token, "{}").await.code(), refusal);
    }
    assert_eq!(fixture.send("POST", "/v1/activity", &control, "{}").await.status, 405);
    assert_eq!(quiesce(&control, "").await.code(), (400, "bad_request"));

    // Looking is no activity: idle time grows all the while.
    let (mut last, begun) = (0, std::time::Instant::now());
    while last < 20 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it stays at {last} ms");
        fixture.send("GET", "/readyz", "", "").await;
        let shown = activity(&control).await;
        let idle = shown.body["idle_ms"].as_u64().unwrap();
        assert!(shown.status == 200 && idle >= last, "{} after {last}", shown.body);
        last = idle;
    }
    let busy = quiesce(&control, r#"{"if_idle_ms": 3600000}"#).await;
    assert_eq!(busy.code(), (409, "busy"));
    fixture.turn(&turn, "t", "x").await;
    let rest = quiesce(&control, r#"{"if_idle_ms": 0}"#).await;
    assert_eq!(rest.status, 200, "{}", rest.body);
    assert_eq!((&rest.body["quiesced"], &rest.body["turns"]["total"]), (&json!(true), &json!(1)));
    assert_eq!(fixture.turn(&turn, "u", "x").await.code(), (503, "quiesced"));
    assert_eq!(fixture.turn(&turn, "t", "x").await.status, 200);
    assert_eq!(fixture.send("GET", "/readyz", "", "").await.status, 200);
}

#[tokio::test]
async fn a_message_on_its_way_keeps_the_session_from_its_rest() {
    let fixture = start().await;
    fixture.boot();
    let control = fixture.token("pod", "s1", Scope::Control);
    fixture.activate("s1", &control).await;
    let idle_ms = async || {
        let shown = fixture.send("GET", "/v1/activity", &control, "").await;
        shown.body["idle_ms"].as_u64().unwrap()
    };
    let reaches = async |is_wanted: fn(u64) -> bool| {
        let polls = async { while !is_wanted(idle_ms().await) {} };
        tokio::time::timeout(Duration::from_secs(10), polls).await.unwrap();
    };
    reaches(|idle| idle >= 5).await;
    let mut stream = TcpStream::connect(fixture.server.address()).await.unwrap();
    let token = fixture.token("pod", "s1", Scope::Turn);
    let head = format!("POST /v1/turns HTTP/1.1\r\nhost: pod\r\nauthorization: Bearer {token}\r\n");
    let kind = "content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all((head + kind).as_bytes()).await.unwrap();
    let quiesce = async || fixture.send("POST", "/v1/quiesce", &control, r#"{"if_idle_ms": 0}"#).await;
    reaches(|idle| idle == 0).await;
    assert_eq!(quiesce().await.code(), (409, "busy"));
    drop(stream);
    let rests = async { while quiesce().await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), rests).await.unwrap();
}

#[tokio::test]
async fn turns_are_named_on_every_answer_and_can_be_looked_up() {
    let fixture = start().await;
    fixture.boot();
    fixture.activate("s1", &fixture.token("pod", "s1", Scope::Control)).await;
    let token = fixture.token("pod", "s1", Scope::Turn);
    for (text, status) in [("hi", 200), ("fail", 502), ("bad", 400)] {
        let answer = fixture.turn(&token, text, text).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.head.contains(&format!("x-paddock-turn-id: {text}")), "{}", answer.head);
    }
    let shown = fixture.send("GET", "/v1/turns/hi", &token, "").await;
    assert_eq!((shown.status, &shown.body["state"]), (200, &json!("completed")));
    assert_eq!(shown.body["reply"]["parts"][0]["text"], "hi");
    let shown = fixture.send("GET", "/v1/turns/fail", &token, "").await;
    assert_eq!(
        (&shown.body["state"], &shown.body["error"]["code"]),
        (&json!("failed"), &json!("harness_failed"))
    );
    assert_eq!(fixture.send("GET", "/v1/turns/none", &token, "").await.code(), (404, "not_found"));
    fixture.turn(&token, "a/b c", "x").await;
    assert_eq!(fixture.send("GET", "/v1/turns/a%2Fb%20c", &token, "").await.body["id"], "a/b c");
}

#[tokio::test]
async fn a_turn_may_be_answered_when_it_is_accepted() {
    let fixture = start().await;
    fixture.boot();
    fixture.activate("s1", &fixture.token("pod", "s1", Scope::Control)).await;
    let token = fixture.token("pod", "s1", Scope::Turn);
    let post = async |id: &str, text: &str| {
        let body = json!({"id": id, "parts": [{"type": "text", "text": text}]}).to_string();
        fixture.send_with("prefer: wait=5, respond-async\r\n", "POST", "/v1/turns", &token, &body).await
    };
    let first = post("t", "wait").await;
    assert_eq!((first.status, &first.body), (202, &json!({"id": "t", "state": "running"})));
    assert!(first.head.contains("x-paddock-turn-id: t"), "{}", first.head);
    assert_eq!(fixture.storage.story()[1..], ["accepted t", "started t"], "it is in the journal by then");
    let second = post("u", "u").await;
    assert_eq!((second.status, &second.body["state"]), (202, &json!("queued")));
    assert_eq!(post("t", "wait").await.status, 202, "the same again joins it");
    assert_eq!(post("t", "other").await.code(), (422, "turn_mismatch"));
    assert_eq!(post("v", "bad").await.code(), (400, "bad_request"));

    let shown = fixture.send("GET", "/v1/turns/t?wait_ms=1", &token, "").await;
    assert_eq!((shown.status, &shown.body), (200, &json!({"id": "t", "state": "running"})));
    fixture.harness.release("wait");
    let shown = fixture.send("GET", "/v1/turns/u?wait_ms=20000", &token, "").await;
    assert_eq!(
        (&shown.body["state"], &shown.body["reply"]["parts"][0]["text"]),
        (&json!("completed"), &json!("u"))
    );
    assert_eq!(post("u", "u").await.body, json!({"id": "u", "state": "completed"}));
    let bad = fixture.send("GET", "/v1/turns/t?wait=1", &token, "").await;
    assert_eq!(bad.code(), (400, "bad_request"));
    assert_eq!(fixture.harness.runs(), ["wait", "u"]);
}

#[tokio::test]
async fn malformed_requests_get_json_errors() {
    let fixture = start().await;
    fixture.boot();
    let token = fixture.token("pod", "s1", Scope::Control);
    assert_eq!(fixture.send("GET", "/nothing", "", "").await.code(), (404, "not_found"));
    let wrong = fixture.send("GET", "/v1/activate", "", "").await;
    assert_eq!(wrong.code(), (405, "method_not_allowed"));
    assert!(wrong.head.contains("allow: post"), "{}", wrong.head);
    assert_eq!(fixture.send("POST", "/v1/activate", &token, "{").await.code(), (400, "bad_request"));
    assert_eq!(fixture.send("POST", "/v1/activate", &token, "{}").await.code(), (400, "bad_request"));
    let head = format!("POST /v1/activate HTTP/1.1\r\nauthorization: Bearer {token}\r\n");
    let plain = format!("{head}host: pod\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{{}}");
    assert_eq!(fixture.raw(&plain).await.code(), (400, "bad_request"));
    let large =
        format!("{head}host: pod\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n");
    assert_eq!(fixture.raw(&large).await.code(), (413, "too_large"));
    assert_eq!(fixture.raw("GET /livez HTTP/1.1\r\n\r\n").await.status, 400);
    let doubled = "GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";
    assert_eq!(fixture.raw(doubled).await.status, 400);
}

#[tokio::test]
async fn a_connection_is_used_again_and_closed_by_the_end_of_the_pod() {
    let fixture = start().await;
    let mut stream = TcpStream::connect(fixture.server.address()).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: pod\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = Vec::new();
        while !rest.ends_with(b"}") {
            rest.push(stream.read_u8().await.unwrap());
        }
    }
    tokio::time::timeout(Duration::from_secs(5), fixture.server.drain()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn draining_answers_who_waits_and_tells_others_why() {
    let fixture = start().await;
    fixture.boot();
    fixture.activate("s1", &fixture.token("pod", "s1", Scope::Control)).await;
    let token = fixture.token("pod", "s1", Scope::Turn);
    let stop = async {
        while fixture.harness.runs().is_empty() {
            tokio::task::yield_now().await;
        }
        fixture.app.stop(Phase::Stopping, "the pod is shutting down").await;
    };
    let (running, ()) = tokio::join!(fixture.turn(&token, "t", "wait"), stop);
    assert_eq!(running.code(), (502, "interrupted"));
    // A client that connects and says nothing must not hold up the end; the probe shows that it is in.
    let _idle = TcpStream::connect(fixture.server.address()).await.unwrap();
    fixture.send("GET", "/livez", "", "").await;
    fixture.server.drain.send_replace(true);
    assert_eq!(fixture.turn(&token, "u", "x").await.code(), (503, "shutting_down"));
    tokio::time::timeout(Duration::from_secs(5), fixture.server.drain()).await.unwrap();
}

#[tokio::test]
async fn a_storm_of_retries_does_not_starve_probes() {
    let fixture = start().await;
    fixture.boot();
    fixture.activate("s1", &fixture.token("pod", "s1", Scope::Control)).await;
    let token = fixture.token("pod", "s1", Scope::Turn);
    let storm = futures::future::join_all((0..2 * CONNECTIONS).map(|_| fixture.turn(&token, "t", "wait")));
    let probes = async {
        while fixture.harness.runs().is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            assert_eq!(fixture.send("GET", "/livez", "", "").await.status, 200);
            assert_eq!(fixture.send("GET", "/readyz", "", "").await.status, 200);
        }
        fixture.harness.release("wait");
    };
    let both = async { tokio::join!(storm, probes).0 };
    let answers = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    let (good, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(good.len() >= 64 && !refused.is_empty(), "{} {}", good.len(), refused.len());
    for answer in refused {
        assert_eq!(answer.code(), (429, "queue_full"));
        assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    }
    assert_eq!(fixture.harness.runs(), ["wait"]);
}

#[tokio::test]
async fn an_id_that_a_header_would_change_is_refused() {
    let fixture = start().await;
    fixture.boot();
    fixture.activate("s1", &fixture.token("pod", "s1", Scope::Control)).await;
    let token = fixture.token("pod", "s1", Scope::Turn);
    for id in [" a", "a "] {
        assert_eq!(fixture.turn(&token, id, "x").await.code(), (400, "bad_request"), "{id:?}");
    }
    assert!(fixture.harness.runs().is_empty());
}

/// One who follows the session.
struct Follower {
    stream: TcpStream,
    read: String,
}

impl Follower {
    async fn begin(fixture: &Fixture, query: &str) -> Self {
        let token = fixture.token("pod", "s1", Scope::Turn);
        let mut stream = TcpStream::connect(fixture.server.address()).await.unwrap();
        let head =
            format!("GET /v1/events{query} HTTP/1.1\r\nhost: pod\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, read: String::new() }
    }

    /// Reads until this was read; none where the connection ends before.
    async fn reads(&mut self, what: &str) -> bool {
        let reading = async {
            while !self.read.contains(what) {
                let mut bytes = [0; 4096];
                let count = self.stream.read(&mut bytes).await.unwrap();
                if count == 0 {
                    return false;
                }
                self.read.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
            true
        };
        let found = tokio::time::timeout(Duration::from_secs(10), reading).await;
        found.unwrap_or_else(|_| panic!("{what} did not come: {}", self.read))
    }
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_the_end_of_the_pod_ends_them() {
    let fixture = start().await;
    fixture.boot();
    fixture.activate("s1", &fixture.token("pod", "s1", Scope::Control)).await;
    let mut first = Follower::begin(&fixture, "").await;
    assert!(first.reads("{\"id\":\"1.").await);
    assert!(first.read.contains("content-type: application/x-ndjson\r\n"), "{}", first.read);
    fixture.harness.says(&json!({"n": 1}), false);
    assert!(first.reads(r#""event":{"n":1}}"#).await);
    let after = first.read.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();

    let mut second = Follower::begin(&fixture, &format!("?after={after}")).await;
    assert!(second.reads(r#""event":{"n":1}}"#).await, "what it has missed");
    fixture.harness.says(&json!({"n": 2}), true);
    for follower in [&mut first, &mut second] {
        assert!(follower.reads(r#""event":{"n":2},"rests":true}"#).await);
    }
    fixture.app.stop(Phase::Stopping, "test").await;
    tokio::time::timeout(Duration::from_secs(5), fixture.server.drain()).await.unwrap();
    for follower in [&mut first, &mut second] {
        assert!(follower.reads("0\r\n\r\n").await, "an orderly end: {}", follower.read);
    }
}

#[tokio::test]
async fn following_needs_the_token_of_the_session_and_an_id_that_is_one() {
    let fixture = start().await;
    fixture.boot();
    let token = fixture.token("pod", "s1", Scope::Turn);
    let ask =
        async |token: &str, query: &str| fixture.send("GET", &format!("/v1/events{query}"), token, "").await;
    assert_eq!(ask(&token, "").await.code(), (409, "not_activated"));
    let control = fixture.token("pod", "s1", Scope::Control);
    fixture.activate("s1", &control).await;
    assert_eq!(ask(&control, "").await.code(), (401, "unauthorized"));
    assert_eq!(ask(&fixture.token("pod", "s2", Scope::Turn), "").await.code(), (409, "bound_to_other"));
    for query in ["?", "?after=", "?after=1", "?after=x.1", "?before=1.1"] {
        assert_eq!(ask(&token, query).await.code(), (400, "bad_request"), "{query}");
    }
    assert_eq!(fixture.send("POST", "/v1/events", &token, "").await.status, 405);
}

#[tokio::test]
async fn who_follows_keeps_nobody_busy_and_starves_no_probe() {
    let fixture = start().await;
    fixture.boot();
    let control = fixture.token("pod", "s1", Scope::Control);
    fixture.activate("s1", &control).await;
    let mut followers = Vec::new();
    for _ in 0..READERS {
        followers.push(Follower::begin(&fixture, "").await);
    }
    for follower in &mut followers {
        assert!(follower.reads("{\"id\":").await);
    }
    let token = fixture.token("pod", "s1", Scope::Turn);
    assert_eq!(fixture.send("GET", "/v1/events", &token, "").await.code(), (429, "too_many_streams"));
    assert_eq!(fixture.send("GET", "/readyz", "", "").await.status, 200);
    assert_eq!(fixture.turn(&token, "t", "x").await.status, 200);
    // Idle time grows while they follow, also while they are told something.
    fixture.harness.says(&json!({"n": 1}), false);
    for follower in &mut followers {
        assert!(follower.reads(r#"{"n":1}"#).await);
    }
    let begun = std::time::Instant::now();
    let idles =
        async || fixture.send("GET", "/v1/activity", &control, "").await.body["idle_ms"].as_u64().unwrap();
    while idles().await < 30 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is busy");
    }
    let rest = fixture.send("POST", "/v1/quiesce", &control, r#"{"if_idle_ms": 30}"#).await;
    assert_eq!(rest.status, 200, "{}", rest.body);
    drop(followers);
    let begun = std::time::Instant::now();
    loop {
        let mut next = Follower::begin(&fixture, "").await;
        next.reads("\r\n\r\n").await;
        if next.read.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the room is not given back: {}", next.read);
    }
}

#[tokio::test]
async fn requests_to_the_harness_s_own_api_take_nothing_from_turns_and_the_controller() {
    let fixture = start().await;
    fixture.boot();
    let control = fixture.token("pod", "s1", Scope::Control);
    let turn = fixture.token("pod", "s1", Scope::Turn);
    assert_eq!(fixture.activate("s1", &control).await.status, 200);
    let head = format!("GET /v1/harness/hang HTTP/1.1\r\nhost: pod\r\nauthorization: Bearer {turn}\r\n\r\n");
    let mut open = Vec::new();
    for count in 1..=PASSAGES {
        let mut stream = TcpStream::connect(fixture.server.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        open.push(stream);
        while fixture.harness.hanging.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(fixture.raw(&head).await.code(), (429, "too_many_streams"));
    assert_eq!(fixture.turn(&turn, "t", "hi").await.status, 200);
    assert_eq!(fixture.send("POST", "/v1/quiesce", &control, "{}").await.status, 200);
    drop(open);
    let unknown = head.replace("/hang", "/unknown");
    loop {
        let answer = fixture.raw(&unknown).await;
        if answer.code() == (404, "not_in_harness") {
            break;
        }
        assert_eq!(answer.code(), (429, "too_many_streams"), "until the room is given back");
    }
}

#[tokio::test]
async fn a_turn_that_is_silent_for_half_an_hour_is_waited_for() {
    let fixture = start().await;
    fixture.boot();
    let control = fixture.token("pod", "s1", Scope::Control);
    let turn = fixture.token("pod", "s1", Scope::Turn);
    let agent = json!({"model": "m", "turn_timeout_ms": 45 * 60_000, "max_queued_turns": 2});
    let session = json!({"namespace": "n", "name": "s", "uid": "s1"});
    let body = json!({"session": session, "incarnation": 1, "title": "", "agent": agent}).to_string();
    assert_eq!(fixture.send("POST", "/v1/activate", &control, &body).await.status, 200);
    let half_an_hour = async {
        while fixture.harness.runs().is_empty() {
            tokio::task::yield_now().await;
        }
        // From here on the clock is ours: every limit of the runner's that a silence could reach is reached.
        tokio::time::pause();
        for _ in 0..180 {
            tokio::time::advance(Duration::from_secs(10)).await;
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
        fixture.harness.release("wait patiently");
    };
    let (answer, ()) = tokio::join!(fixture.turn(&turn, "t", "wait patiently"), half_an_hour);
    assert_eq!((answer.status, &answer.body["parts"][0]["text"]), (200, &json!("wait patiently")));
    assert_eq!(fixture.harness.runs().len(), 1);
}
