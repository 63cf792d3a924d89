//! `POST /sessions/{id}/message`: what clients send and get.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use paddock_runnerapi::ErrorCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::runner::{FakeRunner, Script};
use super::support::{BASE, KEY, Setup, TestGateway, head, soon};

const MESSAGE: &str = "/sessions/s1/message";

#[tokio::test]
async fn a_text_is_answered_with_the_harness_s_reply() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let reply = gateway.message("s1", "hello").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["parts"], json!([{"type": "text", "text": "hello"}]));
    let seen = &runner.seen(1).await[0];
    assert_eq!(seen.session_uid, "uid-s1");
    assert_eq!(reply.header("x-paddock-turn-id"), seen.turn.id);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("content-length"), serde_json::to_string(&reply.body).unwrap().len().to_string());
    assert!(uuid::Uuid::parse_str(&seen.turn.id).is_ok());
}

#[tokio::test]
async fn parts_reach_the_runner_as_they_were_sent() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let parts = json!([{"type": "text", "text": "a"}, {"type": "custom", "x": {"y": [1, null, 2.5]}}]);
    let reply = gateway.ask("POST", MESSAGE, Some(json!({"parts": parts}))).await;
    assert_eq!((reply.status, &reply.body["parts"]), (200, &parts));
    assert_eq!(Value::from(runner.seen(1).await[0].turn.parts.clone()), parts);
}

#[tokio::test]
async fn no_header_of_the_client_reaches_the_pod_and_none_of_the_pod_the_client() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let headers = [("cookie", "a=b"), ("x-secret", "1"), ("te", "trailers"), ("x-request-id", "req-7")];
    let reply = gateway.ask_with("POST", MESSAGE, &headers, Some(json!({"text": "hi"}))).await;
    assert_eq!((reply.status, reply.header("x-request-id")), (200, "req-7"));
    assert!(!reply.headers.contains_key("set-cookie") && !reply.headers.contains_key("x-pod-internal"));
    let seen = &runner.seen(1).await[0].headers;
    assert!(!seen["authorization"].to_str().unwrap().contains(KEY));
    for name in ["cookie", "x-secret", "te"] {
        assert!(!seen.contains_key(name), "{name} was forwarded");
    }
    assert_eq!(seen["x-request-id"], "req-7");
}

#[tokio::test]
async fn a_key_names_the_turn_on_every_answer() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let key = [("idempotency-key", "my turn")];
    let reply =
        gateway.ask_with("POST", MESSAGE, &key, Some(json!({"text": "a", "message_id": "my turn"}))).await;
    assert_eq!((reply.status, reply.header("x-paddock-turn-id")), (200, "my turn"));
    let reply = gateway.ask("POST", MESSAGE, Some(json!({"text": "a", "message_id": "m2"}))).await;
    assert_eq!((reply.status, reply.header("x-paddock-turn-id")), (200, "m2"));
    assert_eq!(runner.seen(2).await[1].turn.id, "m2");

    runner.script(Script::Break);
    let reply = gateway.ask_with("POST", MESSAGE, &key, Some(json!({"text": "a"}))).await;
    assert_eq!((reply.error(), reply.header("x-paddock-turn-id")), ((502, "turn_lost"), "my turn"));
    let reply = gateway.ask_with("POST", "/sessions/none/message", &key, Some(json!({"text": "a"}))).await;
    assert_eq!((reply.error(), reply.header("x-paddock-turn-id")), ((404, "not_found"), "my turn"));
    let reply = gateway.ask_with("POST", MESSAGE, &[("content-type", "text/plain")], None).await;
    assert_eq!(reply.error(), (415, "unsupported_media_type"));
    assert!(uuid::Uuid::parse_str(reply.header("x-paddock-turn-id")).is_ok());

    let wrong_key = [("authorization", "Bearer wrong"), ("idempotency-key", "my turn")];
    let reply = gateway.send(unauthorised(&wrong_key)).await;
    assert_eq!((reply.error(), reply.header("x-paddock-turn-id")), ((401, "unauthorized"), "my turn"));
    let unsynced = TestGateway::with(Setup { synced: false, ..Setup::default() }).await;
    let reply = unsynced.ask_with("POST", MESSAGE, &key, Some(json!({"text": "a"}))).await;
    assert_eq!((reply.error(), reply.header("x-paddock-turn-id")), ((503, "not_synced"), "my turn"));

    let other = json!({"text": "a", "message_id": "other"});
    let reply = gateway.ask_with("POST", MESSAGE, &key, Some(other)).await;
    assert_eq!(reply.error(), (400, "bad_request"));
    let reply =
        gateway.ask_with("POST", MESSAGE, &[("idempotency-key", "")], Some(json!({"text": "a"}))).await;
    assert_eq!(reply.error(), (400, "bad_request"));
}

fn unauthorised(headers: &[(&str, &str)]) -> http::Request<Full<Bytes>> {
    let mut request =
        http::Request::builder().method("POST").uri(format!("{BASE}{MESSAGE}")).header("host", "gateway");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_key_that_a_header_would_not_carry_unchanged_is_refused() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for id in [" m", "m ", " ", ""] {
        let reply = gateway.ask("POST", MESSAGE, Some(json!({"text": "a", "message_id": id}))).await;
        assert_eq!(reply.error(), (400, "bad_request"), "{id:?}");
        assert!(
            reply.body["error"].as_str().unwrap().starts_with("message_id: must be 1 to 128"),
            "{reply:?}"
        );
    }
    // In a header the spaces are no part of the value.
    let key = [("idempotency-key", " m ")];
    let reply = gateway.ask_with("POST", MESSAGE, &key, Some(json!({"text": "a", "message_id": "m"}))).await;
    assert_eq!((reply.status, reply.header("x-paddock-turn-id")), (200, "m"));
    assert_eq!(runner.count(), 1);
}

#[tokio::test]
async fn bad_messages_are_refused_and_no_runner_hears_of_them() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for (body, named) in [
        (json!({}), "text"),
        (json!({"text": "a", "parts": [{"type": "text"}]}), "text"),
        (json!({"parts": []}), "parts"),
        (json!({"parts": [{"text": "no type"}]}), "parts[0].type"),
        (json!(["text"]), "body"),
        (json!({"text": "a", "attachments": [{}]}), "attachments[0]"),
    ] {
        let reply = gateway.ask("POST", MESSAGE, Some(body.clone())).await;
        assert_eq!(reply.error(), (400, "bad_request"), "{body}");
        assert!(reply.body["error"].as_str().unwrap().contains(named), "{reply:?}");
    }
    for path in ["/sessions/s1/message?wait=soon", "/sessions/s1/message?wait=1s&wait=2s"] {
        assert_eq!(gateway.ask("POST", path, Some(json!({"text": "a"}))).await.error(), (400, "bad_request"));
    }
    let raw = gateway.raw().await;
    let bad = format!(
        "{}Content-Type: application/json\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{{\"text\": ",
        head("POST", MESSAGE)
    );
    let answer = raw.exchange(bad).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("malformed JSON"), "{answer}");
    assert_eq!(runner.count(), 0);
}

#[tokio::test]
async fn a_session_that_takes_no_messages_says_why() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.put_session("creating", json!({"phase": "Creating", "step": "starting_pod"}));
    gateway.put_session(
        "failed",
        json!({"phase": "Failed", "reason": "CrashLoop", "message": "look at the logs"}),
    );
    gateway.put_session("dead", json!({"phase": "Dead", "reason": "Deleted"}));
    for (session, code) in [
        ("creating", "creating"),
        ("failed", "failed"),
        ("dead", "dead"),
        ("nope", "not_found"),
        ("NOT-A-NAME", "not_found"),
    ] {
        let reply = gateway.message(session, "hi").await;
        assert_eq!(reply.error(), (404, code));
        assert_eq!(reply.headers.contains_key("retry-after"), code == "creating");
    }
    assert!(
        gateway.message("failed", "hi").await.body["error"].as_str().unwrap().contains("look at the logs")
    );

    let runner = FakeRunner::start("pod-2").await;
    let mut status = runner.ready_status();
    status["capabilities"] = json!({"messages": false, "terminal": true});
    gateway.put_session("tui", status);
    let reply = gateway.message("tui", "hi").await;
    assert_eq!(reply.error(), (409, "terminal_only"));
    assert_eq!(reply.body["tty_url"], "/api/v1/managed_agents/sessions/tui/tty");
    assert!(
        reply.body["error"].as_str().unwrap().contains("attach to /api/v1/managed_agents/sessions/tui/tty")
    );
}

#[tokio::test]
async fn a_message_is_held_until_its_session_is_ready() {
    let gateway = Arc::new(TestGateway::start().await);
    let runner = FakeRunner::start("pod-1").await;
    for (session, path, headers) in [
        ("a", "/sessions/a/message?wait=60s", vec![]),
        ("b", "/sessions/b/message", vec![("prefer", "wait=60")]),
    ] {
        gateway.put_session(session, json!({"phase": "Creating"}));
        let reads = gateway.cluster.reads();
        let waiting = tokio::spawn({
            let gateway = gateway.clone();
            async move { gateway.ask_with("POST", path, &headers, Some(json!({"text": "hi"}))).await }
        });
        // It has looked, so it waits now.
        soon(async {
            while gateway.cluster.reads() == reads {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(!waiting.is_finished());
        gateway.cluster.put_status(session, runner.ready_status());
        assert_eq!(waiting.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn the_client_s_own_deadline_counts_for_a_session_that_is_not_ready() {
    let gateway = TestGateway::start().await;
    gateway.put_session("s1", json!({"phase": "Creating"}));
    let path = format!("{MESSAGE}?wait=60s");
    let begun = std::time::Instant::now();
    let reply = gateway.ask_with("POST", &path, &[("prefer", "wait=1")], Some(json!({"text": "hi"}))).await;
    // Nothing was delivered, so this is not the error of a turn that goes on.
    assert_eq!(reply.error(), (404, "creating"));
    assert!((1..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_session_that_is_ready_by_the_api_server_is_not_turned_away() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    gateway.put_session("late", json!({"phase": "Creating"}));
    gateway.cluster.set_watch(super::cluster::Watch::Cut);
    gateway.cluster.put_status("late", runner.ready_status());
    gateway.put_session("unseen", runner.ready_status());
    assert_eq!(gateway.message("late", "hi").await.status, 200);
    assert_eq!(gateway.message("unseen", "hi").await.status, 200);
}

#[tokio::test]
async fn errors_of_the_runner_become_errors_of_the_contract() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for (runner_code, status, code) in [
        (ErrorCode::TurnMismatch, 422, "turn_mismatch"),
        (ErrorCode::QueueFull, 429, "queue_full"),
        (ErrorCode::TooLarge, 413, "too_large"),
        (ErrorCode::HarnessFailed, 502, "harness_failed"),
        (ErrorCode::TurnTimeout, 502, "turn_timeout"),
        (ErrorCode::Interrupted, 502, "interrupted"),
        (ErrorCode::NotActivated, 502, "misrouted"),
        (ErrorCode::NotReady, 503, "not_ready"),
        (ErrorCode::ShuttingDown, 503, "not_ready"),
    ] {
        runner.script(Script::Fail(runner_code));
        let reply = gateway.message("s1", "hi").await;
        assert_eq!(reply.error(), (status, code), "{runner_code:?}");
        assert_eq!(reply.headers.contains_key("retry-after"), matches!(status, 429 | 503), "{runner_code:?}");
    }
    assert!(
        gateway.gateway.metrics.encode().contains(r#"paddock_gateway_errors_total{reason="queue_full"} 1"#)
    );
}

#[tokio::test]
async fn a_turn_whose_connection_breaks_is_never_sent_again() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    runner.script(Script::Break);
    assert_eq!(gateway.message("s1", "hi").await.error(), (502, "turn_lost"));
    runner.script(Script::Echo);
    assert_eq!(gateway.message("s1", "next").await.status, 200);
    assert_eq!(runner.count(), 2, "the lost turn was sent again");
}

#[tokio::test]
async fn the_next_turn_goes_over_the_same_connection_and_is_lost_with_it_as_with_any_other() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for text in ["one", "two"] {
        assert_eq!(gateway.message("s1", text).await.status, 200);
    }
    assert_eq!((runner.connections(), runner.count()), (1, 2));
    runner.script(Script::Break);
    assert_eq!(gateway.message("s1", "three").await.error(), (502, "turn_lost"));
    assert_eq!((runner.connections(), runner.count()), (1, 3), "the lost turn was sent again");
    runner.script(Script::Echo);
    assert_eq!(gateway.message("s1", "four").await.status, 200);
    assert_eq!((runner.connections(), runner.count()), (2, 4));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_cancel_its_turn() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let mut raw = gateway.raw().await;
    let body = r#"{"text":"hi"}"#;
    raw.write(format!(
        "{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        head("POST", MESSAGE),
        body.len()
    ))
    .await
    .unwrap();
    runner.seen(1).await;
    drop(raw);
    soon(async {
        let left = r#"requests_total{route="/sessions/{id}/message",method="POST",code="499"} 1"#;
        while !gateway.gateway.metrics.encode().contains(left) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    go.notify_one();
    runner.finished(1).await;
}

#[tokio::test]
async fn the_client_s_own_deadline_ends_its_wait_and_not_its_turn() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let reply = gateway.ask_with("POST", MESSAGE, &[("prefer", "wait=0")], Some(json!({"text": "hi"}))).await;
    assert_eq!(reply.error(), (504, "wait_expired"));
    let seen = runner.seen(1).await;
    assert_eq!(reply.header("x-paddock-turn-id"), seen[0].turn.id);
    go.notify_one();
    runner.finished(1).await;
}

#[tokio::test]
async fn many_sessions_side_by_side_get_their_own_replies() {
    let gateway = Arc::new(TestGateway::start().await);
    let mut runners = Vec::new();
    for n in 0..8 {
        let runner = FakeRunner::start(&format!("pod-{n}")).await;
        gateway.put_session(&format!("s{n}"), runner.ready_status());
        runners.push(runner);
    }
    let asks = (0..64).map(|n| {
        let gateway = gateway.clone();
        async move {
            let (session, text) = (format!("s{}", n % 8), format!("message {n}"));
            let reply = gateway.message(&session, &text).await;
            assert_eq!(reply.body["parts"][0]["text"], text);
        }
    });
    futures::future::join_all(asks).await;
    for (n, runner) in runners.iter().enumerate() {
        assert!(runner.seen(8).await.iter().all(|seen| seen.session_uid == format!("uid-s{n}")));
    }
}

#[tokio::test]
async fn an_abort_ends_the_turn_that_runs() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    runner.script(Script::EchoAfter(Arc::new(Notify::new())));
    let aborted = async {
        runner.seen(1).await;
        gateway.ask("POST", "/sessions/s1/abort", None).await
    };
    let (reply, aborted) = tokio::join!(gateway.message("s1", "hello"), aborted);
    assert_eq!((aborted.status, aborted.body), (200, json!({"ok": true})));
    assert_eq!((reply.status, runner.aborts()), (200, 1), "the turn's own client has its answer");
}

#[tokio::test]
async fn nothing_is_aborted_where_there_is_no_pod() {
    let gateway = TestGateway::start().await;
    gateway.put_session("s1", json!({"phase": "Creating"}));
    gateway.put_session("s2", json!({"phase": "Dead"}));
    for (path, code) in [("s1", "creating"), ("s2", "dead"), ("nobody", "not_found")] {
        let refused = gateway.ask("POST", &format!("/sessions/{path}/abort"), None).await;
        assert_eq!(refused.error(), (404, code), "{path}");
    }
}

#[tokio::test]
async fn a_turn_that_is_silent_for_half_an_hour_is_waited_for() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let half_an_hour = async {
        runner.seen(1).await;
        // From here on the clock is ours: every limit of the gateway's that a silence could reach is reached.
        tokio::time::pause();
        for _ in 0..180 {
            tokio::time::advance(Duration::from_secs(10)).await;
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
        go.notify_one();
    };
    // Without the limits of a test, which the clock would reach as well.
    let (mut sender, connection) = connect(&gateway).await;
    tokio::spawn(connection);
    let request = Request::post(format!("{BASE}/sessions/s1/message"))
        .header("host", "gateway")
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from_static(br#"{"text": "patience"}"#))).unwrap();
    let (answer, ()) = tokio::join!(sender.send_request(request), half_an_hour);
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(std::str::from_utf8(&body).unwrap().contains("patience"), "{body:?}");
    assert_eq!(runner.count(), 1);
}

type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

async fn connect(gateway: &TestGateway) -> (http1::SendRequest<Full<Bytes>>, Connection) {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    http1::handshake(TokioIo::new(stream)).await.unwrap()
}
