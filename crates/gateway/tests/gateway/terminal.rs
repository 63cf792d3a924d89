//! Terminals: who is let in, what is passed on, and how it ends.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::Request;
use jiff::{SignedDuration, Timestamp};
use paddock_gateway::gateway::{Limits, RelayTimes};
use paddock_gateway::server::accept::Drained;
use paddock_gateway::server::drain::Stage;
use paddock_runnerapi::{ErrorCode, TerminalToken};
use paddock_websocket::Pace;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::logs;
use super::runner::{FakeRunner, Order, Script, signing_key};
use super::support::{BASE, KEY, Setup, TestGateway, session, soon};

const CI: &str = "key-for-ci-0123456789abcdef";
const READER: &str = "key-that-reads-0123456789abcdef";

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// Attaches to `path`, which has a query or not, with these headers.
    pub async fn try_attach(
        gateway: &TestGateway,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, (u16, Value, http::HeaderMap)> {
        let mut request = Request::builder()
            .uri(format!("ws://gateway{BASE}{path}"))
            .header("host", "gateway")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        match soon(tokio_tungstenite::client_async(request.body(()).unwrap(), stream)).await {
            Ok((socket, answer)) => {
                assert!(answer.headers().contains_key("x-request-id"));
                Ok(Self { socket })
            }
            Err(Error::Http(refused)) => {
                let (head, body) = refused.into_parts();
                let body = serde_json::from_slice(&body.unwrap()).unwrap();
                Err((head.status.as_u16(), body, head.headers))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn attach(gateway: &TestGateway) -> Self {
        Self::with_key(gateway, "/sessions/s1/tty", KEY).await.unwrap()
    }

    pub async fn with_key(
        gateway: &TestGateway,
        path: &str,
        key: &str,
    ) -> Result<Self, (u16, Value, http::HeaderMap)> {
        Self::try_attach(gateway, path, &[("authorization", &format!("Bearer {key}"))]).await
    }

    pub async fn says(&mut self, message: Message) {
        soon(self.socket.send(message)).await.unwrap();
    }

    /// The next message that is no ping.
    pub async fn hears(&mut self) -> Message {
        loop {
            let message = soon(self.socket.next()).await.expect("it goes on").unwrap();
            if !message.is_ping() {
                return message;
            }
        }
    }

    pub async fn echoes(&mut self) {
        self.says(Message::text("are you there?")).await;
        assert_eq!(self.hears().await, Message::text("are you there?"));
    }

    /// How it ends. Its terminal is given back first, as it was before it attached.
    pub async fn ends(&mut self) -> (u16, String) {
        let Message::Close(Some(close)) = self.parts().await else { panic!("it goes on") };
        (close.code.into(), close.reason.to_string())
    }

    /// The message after what gives the client its terminal back.
    async fn parts(&mut self) -> Message {
        let Message::Binary(parting) = self.hears().await else { panic!("its terminal is not given back") };
        for undone in ["\x1b[?1049l", "\x1b[?1003l", "\x1b[?1004l", "\x1b[?2004l", "\x1b[?25h"] {
            assert!(parting.windows(undone.len()).any(|part| part == undone.as_bytes()), "{parting:?}");
        }
        self.hears().await
    }
}

/// A gateway with a session `s1` that has a terminal.
pub async fn with_terminal(setup: Setup) -> (TestGateway, FakeRunner) {
    let gateway = TestGateway::with(setup).await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.terminal_status());
    (gateway, runner)
}

fn keys() -> Value {
    json!({
        "ci": {"key": CI, "agents": ["helper"], "maxInFlight": 2},
        "reader": {"key": READER, "readOnly": true},
    })
}

async fn token(gateway: &TestGateway, key: &str, name: &str) -> Value {
    let shown = gateway.ask_as(key, "GET", &format!("/sessions/{name}"), &[], None).await;
    assert_eq!(shown.body["tty_url"], format!("{BASE}/sessions/{name}/tty"));
    assert_eq!(shown.body["supports_tui"], true);
    shown.body["tty_token"].clone()
}

#[tokio::test]
async fn messages_are_passed_on_as_they_are_and_nothing_else_is() {
    let (gateway, runner) = with_terminal(Setup::default()).await;
    let headers =
        [("authorization", &*format!("Bearer {KEY}")), ("cookie", "a=b"), ("origin", "http://elsewhere")];
    let path = "/sessions/s1/tty?token=a-secret&x=y";
    let mut client = Client::try_attach(&gateway, path, &headers).await.unwrap();
    let resize = r#"{"type":"resize","cols":80,"rows":24}"#;
    for message in [
        Message::binary(vec![0xff, 0, 0xc3]),
        Message::text("grüße\r"),
        Message::text(resize),
        Message::binary(vec![b'x'; 1 << 20]),
        Message::text(""),
    ] {
        client.says(message.clone()).await;
        assert_eq!(client.hears().await, message);
    }
    let (path, seen) = &runner.attached(1).await[0];
    assert_eq!(path, "/v1/terminal");
    assert!(!seen.contains_key("cookie") && !seen.contains_key("origin"));
    assert!(!format!("{seen:?}").contains(KEY) && !format!("{seen:?}").contains("a-secret"));
    assert!(gateway.gateway.metrics.encode().contains("paddock_gateway_terminals 1\n"));
    client.says(Message::Close(None)).await;
    assert_eq!(client.parts().await, Message::Close(None));
    let gone = async {
        while !gateway.gateway.metrics.encode().contains("paddock_gateway_terminals 0\n") {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
}

#[tokio::test]
async fn a_key_opens_in_a_header_or_in_the_query_and_nobody_else_is_let_in() {
    let (gateway, _runner) = with_terminal(Setup { keys: Some(keys()), ..Setup::default() }).await;
    let tty = "/sessions/s1/tty";
    for key in [KEY, CI] {
        Client::with_key(&gateway, tty, key).await.unwrap().echoes().await;
        Client::try_attach(&gateway, &format!("{tty}?token={key}"), &[]).await.unwrap().echoes().await;
    }
    let wrong = format!("{tty}?token=wrong");
    let right = format!("{tty}?token={KEY}");
    for (path, headers) in [
        (tty, vec![]),
        (&*wrong, vec![]),
        ("/sessions/s1/tty?token=", vec![]),
        (tty, vec![("authorization", "Bearer wrong")]),
        // Whoever shows a header is judged by that.
        (&*right, vec![("authorization", "Bearer wrong")]),
    ] {
        let (status, body, headers) = Client::try_attach(&gateway, path, &headers).await.err().unwrap();
        assert_eq!((status, &body["code"]), (401, &json!("unauthorized")), "{path}");
        assert_eq!(headers["www-authenticate"], "Bearer");
    }
    let (status, ..) = Client::with_key(&gateway, tty, READER).await.err().unwrap();
    assert_eq!(status, 403);
    let twice = format!("{tty}?token={KEY}&token={KEY}");
    assert_eq!(Client::try_attach(&gateway, &twice, &[]).await.err().unwrap().0, 400);
    // A key in the query opens nothing else.
    let request = format!("GET {BASE}/sessions?token={KEY} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(gateway.raw().await.exchange(request).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn a_sessions_token_opens_its_own_terminal_for_a_while_and_nothing_else() {
    let (gateway, runner) = with_terminal(Setup { keys: Some(keys()), ..Setup::default() }).await;
    gateway.put_session("s2", runner.terminal_status());
    let (ours, ci) = (token(&gateway, KEY, "s1").await, token(&gateway, CI, "s1").await);
    let (ours, ci) = (ours.as_str().unwrap(), ci.as_str().unwrap());
    assert_eq!(token(&gateway, READER, "s1").await, Value::Null);
    let listed = gateway.ask("GET", "/sessions", None).await;
    assert!(listed.body.as_array().unwrap().iter().all(|session| session["tty_token"].is_string()));
    for token in [ours, ci] {
        // The command line client of LiteLLM Agent Platform sends it in both places.
        Client::with_key(&gateway, &format!("/sessions/s1/tty?token={token}"), token).await.unwrap();
        let path = format!("/sessions/s1/tty?token={token}");
        Client::try_attach(&gateway, &path, &[]).await.unwrap().echoes().await;
        for name in ["s2", "unknown"] {
            let path = format!("/sessions/{name}/tty?token={token}");
            assert_eq!(Client::try_attach(&gateway, &path, &[]).await.err().unwrap().0, 401, "{name}");
        }
        for path in ["/sessions", "/sessions/s1", "/agents"] {
            assert_eq!(gateway.ask_as(token, "GET", path, &[], None).await.status, 401, "{path}");
        }
        let message =
            gateway.ask_as(token, "POST", "/sessions/s1/message", &[], Some(json!({"text": "hi"}))).await;
        assert_eq!(message.status, 401);
    }
    let other_replica = TestGateway::start().await;
    other_replica.put_session("s1", runner.terminal_status());
    let path = format!("/sessions/s1/tty?token={ours}");
    Client::try_attach(&other_replica, &path, &[]).await.unwrap().echoes().await;
    let sign = |uid: &str, key: Option<&str>, age| {
        let token = TerminalToken { session_uid: uid.to_owned(), key: key.map(str::to_owned) };
        signing_key().sign_terminal(&token, Timestamp::now() - SignedDuration::from_secs(age)).unwrap()
    };
    for (token, status) in [
        (sign("uid-s1", None, 0), 101),
        (sign("uid-s1", None, 500), 101),
        (sign("uid-s1", None, 700), 401),
        (sign("uid-of-one-before", None, 0), 401),
        (sign("uid-s1", Some("withdrawn"), 0), 401),
        (sign("uid-s1", Some("reader"), 0), 403),
        (format!("{}x", sign("uid-s1", None, 0)), 401),
    ] {
        let path = format!("/sessions/s1/tty?token={token}");
        let said = Client::try_attach(&gateway, &path, &[]).await.err().map_or(101, |refused| refused.0);
        assert_eq!(said, status, "{token}");
    }
    gateway.put_keys(&json!({}));
    let path = format!("/sessions/s1/tty?token={ci}");
    assert_eq!(Client::try_attach(&gateway, &path, &[]).await.err().unwrap().0, 401);
}

#[tokio::test]
async fn a_token_is_in_no_log_and_the_audit_names_its_key() {
    logs::keep();
    let (gateway, _runner) = with_terminal(Setup { keys: Some(keys()), ..Setup::default() }).await;
    let shown = token(&gateway, CI, "s1").await;
    let shown = shown.as_str().unwrap();
    let path = format!("/sessions/s1/tty?token={shown}");
    let mut client = Client::try_attach(&gateway, &path, &[("x-request-id", "tty-audit")]).await.unwrap();
    client.says(Message::text("typed-in-secret")).await;
    assert_eq!(client.hears().await, Message::text("typed-in-secret"));
    client.says(Message::Close(None)).await;
    client.ends_somehow().await;
    let audit = &logs::audit("tty-audit")[0];
    assert_eq!(
        (&audit["key"], &audit["session"], &audit["status"]),
        (&json!("ci"), &json!("s1"), &json!(101))
    );
    assert_eq!(audit["route"], "/sessions/{id}/tty");
    let all = logs::all();
    assert!(all.contains("a client is detached"));
    assert!(!all.contains(shown) && !all.contains("typed-in-secret"));
}

impl Client {
    async fn ends_somehow(&mut self) {
        while let Some(Ok(_)) = soon(self.socket.next()).await {}
    }
}

#[tokio::test]
async fn what_cannot_be_attached_to_is_refused_before_the_upgrade() {
    let gateway = TestGateway::start().await;
    let runner = FakeRunner::start("pod-1").await;
    let lost = json!({"phase": "Ready", "endpoint": "127.0.0.1:1", "capabilities": {"terminal": true, "messages": false},
        "pod": {"name": "p", "uid": "pod-1", "ip": "127.0.0.1", "node": "n"}});
    for (name, status, expected, code) in [
        ("creating", json!({"phase": "Creating"}), 404, "creating"),
        ("failed", json!({"phase": "Failed"}), 404, "failed"),
        ("dead", json!({"phase": "Dead"}), 404, "dead"),
        ("talks", runner.ready_status(), 409, "no_terminal"),
        ("lost", lost, 502, "unreachable"),
    ] {
        gateway.put_session(name, status);
        let path = format!("/sessions/{name}/tty");
        let (status, body, headers) = Client::with_key(&gateway, &path, KEY).await.err().unwrap();
        assert_eq!((status, body["code"].as_str().unwrap()), (expected, code), "{body}");
        assert_eq!(headers.contains_key("retry-after"), code == "creating");
    }
    let mut suspended = session("suspended", json!({"phase": "Suspended"}));
    suspended["spec"]["state"] = json!("Suspended");
    gateway.cluster.put(suspended);
    let refused = Client::with_key(&gateway, "/sessions/suspended/tty", KEY).await.err().unwrap();
    assert_eq!((refused.0, &refused.1["code"]), (404, &json!("suspended")));
    assert!(refused.1["error"].as_str().unwrap().ends_with("then attach again"), "{}", refused.1);
    assert_eq!(Client::with_key(&gateway, "/sessions/nobody/tty", KEY).await.err().unwrap().0, 404);
    gateway.put_session("s1", runner.terminal_status());
    for (said, expected, code) in [
        (ErrorCode::TooManyStreams, 429, "too_many_streams"),
        (ErrorCode::Quiesced, 503, "not_ready"),
        (ErrorCode::ShuttingDown, 503, "not_ready"),
        (ErrorCode::NoTerminal, 409, "no_terminal"),
        (ErrorCode::NotFound, 502, "misrouted"),
    ] {
        runner.script(Script::Fail(said));
        let (status, body, _) = Client::with_key(&gateway, "/sessions/s1/tty", KEY).await.err().unwrap();
        assert_eq!((status, body["code"].as_str().unwrap()), (expected, code), "{body}");
    }
}

#[tokio::test]
async fn a_request_that_opens_no_websocket_is_told_how_to() {
    let (gateway, _runner) = with_terminal(Setup::default()).await;
    let reply = gateway.ask("GET", "/sessions/s1/tty", None).await;
    assert_eq!(reply.error(), (426, "upgrade_required"));
    assert_eq!((reply.header("upgrade"), reply.header("sec-websocket-version")), ("websocket", "13"));
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let old = [&upgrade[..], &[("sec-websocket-version", "8"), ("sec-websocket-key", "x")]].concat();
    assert_eq!(gateway.ask_with("GET", "/sessions/s1/tty", &old, None).await.error().0, 426);
    let no_key = [&upgrade[..], &[("sec-websocket-version", "13"), ("sec-websocket-key", "x")]].concat();
    let reply = gateway.ask_with("GET", "/sessions/s1/tty", &no_key, None).await;
    assert_eq!(reply.error(), (400, "bad_request"));
    assert!(reply.body["error"].as_str().unwrap().contains("Sec-WebSocket-Key"));
    let reply = gateway.ask("POST", "/sessions/s1/tty", None).await;
    assert_eq!((reply.error().0, reply.header("allow")), (405, "GET"));
}

#[tokio::test]
async fn messages_to_a_terminal_are_refused_with_the_place_to_attach() {
    let (gateway, runner) = with_terminal(Setup::default()).await;
    // What its status says, and where that is wrong, what its runner says.
    gateway.put_session("s2", runner.ready_status());
    runner.script(Script::Fail(ErrorCode::TerminalOnly));
    for name in ["s1", "s2"] {
        let reply = gateway.message(name, "hi").await;
        assert_eq!(reply.error(), (409, "terminal_only"));
        assert_eq!(reply.body["tty_url"], format!("{BASE}/sessions/{name}/tty"));
    }
    let listed = gateway.ask("GET", "/sessions/s1/messages", None).await;
    assert_eq!((listed.status, listed.body), (200, json!([])));
    assert_eq!(gateway.ask("GET", "/sessions/s1/log", None).await.status, 200);
    for (method, path) in
        [("GET", "/sessions/s1/events"), ("GET", "/sessions/s1/stream"), ("POST", "/sessions/s1/abort")]
    {
        assert_eq!(gateway.ask(method, path, None).await.error(), (409, "terminal_only"), "{path}");
    }
    let agent = gateway.ask("POST", "/agents", Some(json!({"model": "m", "harness_id": "terminal"}))).await;
    assert_eq!((agent.status, &agent.body["supports_tui"]), (200, &json!(true)), "{}", agent.body);
    let path = format!("/agents/{}/session", agent.body["id"].as_str().unwrap());
    let made = gateway.ask("POST", &path, Some(json!({"initial_prompt": "hi"}))).await;
    assert_eq!(made.error(), (400, "unsupported"));
}

#[tokio::test]
async fn a_terminal_counts_as_a_request_of_its_key_while_it_is_open() {
    let (gateway, _runner) = with_terminal(Setup { keys: Some(keys()), ..Setup::default() }).await;
    let mut first = Client::with_key(&gateway, "/sessions/s1/tty", CI).await.unwrap();
    let shown = token(&gateway, CI, "s1").await;
    let lent = format!("/sessions/s1/tty?token={}", shown.as_str().unwrap());
    let _second = Client::try_attach(&gateway, &lent, &[]).await.unwrap();
    let refused = Client::with_key(&gateway, "/sessions/s1/tty", CI).await.err().unwrap();
    assert_eq!((refused.0, &refused.1["code"]), (429, &json!("too_many_in_flight")));
    first.says(Message::Close(None)).await;
    first.ends_somehow().await;
    let again = async {
        while Client::with_key(&gateway, "/sessions/s1/tty", CI).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
}

#[tokio::test]
async fn a_gateway_that_drains_says_goodbye() {
    let (gateway, _runner) = with_terminal(Setup::default()).await;
    let mut client = Client::attach(&gateway).await;
    client.echoes().await;
    gateway.stop.cancel();
    let (code, reason) = client.ends().await;
    assert_eq!(code, 1001);
    assert!(reason.contains("shutting down") && reason.contains("attach again"), "{reason}");
    client.ends_somehow().await;
    assert_eq!(soon(gateway.served).await.unwrap().unwrap(), Drained::Completely);
    assert!(gateway.gateway.drain.stage() == Stage::Closing);
}

#[tokio::test]
async fn the_end_of_the_pod_is_told_in_words() {
    let (gateway, runner) = with_terminal(Setup::default()).await;
    let mut client = Client::attach(&gateway).await;
    client.echoes().await;
    runner.orders(Order::Close(1001, "the pod is shutting down"));
    let (code, reason) = client.ends().await;
    assert_eq!(code, 1001);
    assert!(reason.starts_with("the pod is shutting down: attach again"), "{reason}");

    let mut client = Client::attach(&gateway).await;
    client.echoes().await;
    runner.orders(Order::Break);
    let (code, reason) = client.ends().await;
    assert_eq!(code, 1011);
    assert!(reason.starts_with("the session's pod was lost (the connection broke)"), "{reason}");

    let mut client = Client::attach(&gateway).await;
    client.echoes().await;
    gateway.put_session("s1", json!({"phase": "Dead"}));
    runner.orders(Order::Close(1001, "the pod is shutting down"));
    let (code, reason) = client.ends().await;
    assert_eq!(code, 1001);
    assert!(reason.starts_with("session s1 has ended"), "{reason}");
}

fn hasty(silence: u64) -> RelayTimes {
    let ms = Duration::from_millis;
    let terminal = Pace { ping: ms(20), silence: ms(silence), goodbye: ms(50) };
    RelayTimes { terminal, ..Setup::default().relay }
}

#[tokio::test]
async fn a_quiet_terminal_stays_and_its_client_is_pinged() {
    let limits = Limits {
        head_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (gateway, _runner) = with_terminal(Setup { limits, relay: hasty(10_000), ..Setup::default() }).await;
    let mut client = Client::attach(&gateway).await;
    for _ in 0..15 {
        assert!(soon(client.socket.next()).await.unwrap().unwrap().is_ping());
    }
    client.echoes().await;
}

#[tokio::test]
async fn who_gives_no_sign_of_life_is_dropped() {
    let (gateway, runner) = with_terminal(Setup { relay: hasty(1000), ..Setup::default() }).await;
    // One that reads nothing, and so answers no ping.
    let silent = Client::attach(&gateway).await;
    let gone = async {
        while !gateway.gateway.metrics.encode().contains("paddock_gateway_terminals 0\n") {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
    drop(silent);
    let mut client = Client::attach(&gateway).await;
    runner.orders(Order::Stall);
    let (code, reason) = client.ends().await;
    assert_eq!(code, 1011);
    assert!(reason.contains("it has fallen silent"), "{reason}");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_pod_and_fills_no_memory() {
    let (gateway, runner) = with_terminal(Setup::default()).await;
    let mut client = Client::attach(&gateway).await;
    client.echoes().await;
    runner.orders(Order::Flood);
    // It has stopped once nothing was sent for so long.
    let stopped = async {
        let mut last = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = runner.said();
            if now == last && now > 0 {
                return now;
            }
            last = now;
        }
    };
    // What the kernel keeps for three sockets, in pieces of 64 KiB.
    let sent = soon(stopped).await;
    assert!(sent < 1024, "{sent} pieces are on their way");
    for _ in 0..sent + 100 {
        assert_eq!(client.hears().await.len(), 65536);
    }
}
