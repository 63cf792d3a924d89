//! Raw bytes: what a client may send, how much of it, and how slowly.

use std::sync::Arc;
use std::time::Duration;

use paddock_gateway::gateway::Limits;
use serde_json::json;
use tokio::sync::Notify;

use super::runner::{FakeRunner, Script};
use super::support::{BASE, KEY, Setup, TestGateway, head};

const MESSAGE: &str = "/sessions/s1/message";

fn is_error(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.contains("x-request-id: "), "{answer}");
}

async fn with_limits(limits: Limits) -> TestGateway {
    TestGateway::with(Setup { limits, ..Setup::default() }).await
}

#[tokio::test]
async fn host_must_be_there_once() {
    let gateway = TestGateway::start().await;
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: \r\n", "Host: user@a\r\n"] {
        let request = format!(
            "GET {BASE}/sessions HTTP/1.1\r\n{hosts}Authorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
        );
        is_error(&gateway.raw().await.exchange(request).await, 400, "bad_request");
    }
    let old = format!("GET {BASE}/sessions HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\n\r\n");
    assert!(gateway.raw().await.exchange(old).await.starts_with("HTTP/1.0 200 "));
}

#[tokio::test]
async fn two_lengths_are_refused_in_either_order() {
    let gateway = TestGateway::start().await;
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
    ] {
        let request =
            format!("{}{lengths}Content-Type: application/json\r\n\r\n0\r\n\r\n", head("POST", MESSAGE));
        is_error(&gateway.raw().await.exchange(request).await, 400, "bad_request");
    }
    let unknown = format!("{}Transfer-Encoding: gzip\r\n\r\n", head("POST", MESSAGE));
    assert!(gateway.raw().await.exchange(unknown).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn connect_is_refused() {
    let gateway = TestGateway::start().await;
    let answer = gateway
        .raw()
        .await
        .exchange("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n")
        .await;
    is_error(&answer, 405, "method_not_allowed");
    assert!(answer.contains("allow: "));
}

#[tokio::test]
async fn the_key_is_checked_before_anything_else_of_the_api() {
    let gateway = TestGateway::start().await;
    for (path, key, status) in [
        ("/api/v1/managed_agents/sessions", "wrong", 401),
        ("/api/v1/managed_agents/nothing", "wrong", 401),
        ("/api/anything", "wrong", 401),
        ("/api/anything", KEY, 404),
        ("/", "wrong", 404),
        ("/healthz", KEY, 404),
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        );
        let answer = gateway.raw().await.exchange(request).await;
        is_error(&answer, status, if status == 401 { "unauthorized" } else { "not_found" });
        assert_eq!(answer.contains("\"error\":\"unauthorized\""), status == 401);
    }
    // The body is neither waited for nor read.
    let request = format!("POST {BASE}{MESSAGE} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    is_error(&gateway.raw().await.exchange(request).await, 401, "unauthorized");
}

#[tokio::test]
async fn other_methods_are_told_which_ones_there_are() {
    let gateway = TestGateway::start().await;
    let reply = gateway.ask("PUT", "/sessions/s1", None).await;
    assert_eq!((reply.error(), reply.header("allow")), ((405, "method_not_allowed"), "GET, DELETE"));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let gateway = TestGateway::start().await;
    let request = format!(
        "{}Content-Type: application/json\r\nContent-Length: 34603008\r\n\r\n{{",
        head("POST", MESSAGE)
    );
    let answer = gateway.raw().await.exchange(request).await;
    is_error(&answer, 413, "too_large");
    assert!(answer.contains("connection: close\r\n"));
}

#[tokio::test]
async fn a_client_that_sends_too_much_all_the_same_reads_its_answer() {
    let gateway = TestGateway::start().await;
    let body = vec![b'x'; 33 * 1024 * 1024];
    let mut raw = gateway.raw().await;
    raw.write(format!(
        "{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        head("POST", MESSAGE),
        body.len()
    ))
    .await
    .unwrap();
    // It reads only once all is sent, as simple clients do.
    raw.write(&body).await.unwrap();
    is_error(&raw.read_to_end().await, 413, "too_large");
}

#[tokio::test]
async fn a_chunked_body_is_counted_while_it_is_read() {
    let gateway = with_limits(Limits { max_body_bytes: 100, ..Limits::default() }).await;
    let chunk = format!("40\r\n{}\r\n", "x".repeat(64));
    let request = format!(
        "{}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}",
        head("POST", MESSAGE)
    );
    is_error(&gateway.raw().await.exchange(request).await, 413, "too_large");
}

#[tokio::test]
async fn a_badly_chunked_body_is_an_error_of_the_client() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for body in ["xyz\r\n", "5\r\n{}\r\n\r\nzz", "ffffffffffffffffff\r\n{}"] {
        let request = format!(
            "{}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{body}",
            head("POST", MESSAGE)
        );
        is_error(&gateway.raw().await.exchange(request).await, 400, "bad_request");
    }
    assert_eq!(runner.count(), 0);
}

#[tokio::test]
async fn a_chunked_message_is_taken_and_nothing_may_follow_it() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let body = r#"{"text":"hi"}"#;
    let request = format!(
        "{}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n{}\r\n",
        head("POST", MESSAGE),
        body.len(),
        head("GET", "/sessions"),
    );
    let answer = gateway.raw().await.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let mut raw = gateway.raw().await;
    for _ in 0..3 {
        let body = r#"{"text":"hi"}"#;
        let request = format!(
            "{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            head("POST", MESSAGE),
            body.len()
        );
        raw.write(request).await.unwrap();
        assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 "));
        raw.write(format!("{}\r\n", head("GET", "/sessions/s1"))).await.unwrap();
        assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn a_slow_head_is_given_up_and_a_silent_connection_closed() {
    let quick = Limits { head_timeout: Duration::from_millis(100), ..Limits::default() };
    let gateway = with_limits(quick).await;
    let mut raw = gateway.raw().await;
    raw.write("GET / HTTP/1.1\r\nHo").await.unwrap();
    is_error(&raw.read_to_end().await, 408, "request_timeout");
    assert_eq!(gateway.raw().await.read_to_end().await, "");
}

#[tokio::test]
async fn a_slow_head_has_no_more_time_on_a_used_connection() {
    let quick = Limits { head_timeout: Duration::from_millis(100), ..Limits::default() };
    let gateway = with_limits(quick).await;
    let mut raw = gateway.raw().await;
    raw.write(format!("{}\r\n", head("GET", "/sessions"))).await.unwrap();
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 "));
    raw.write("GET / HT").await.unwrap();
    is_error(&raw.read_to_end().await, 408, "request_timeout");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_stalled_body_given_up() {
    let quick = Limits { idle_timeout: Duration::from_millis(100), ..Limits::default() };
    let gateway = with_limits(quick).await;
    let mut raw = gateway.raw().await;
    raw.write(format!("{}\r\n", head("GET", "/sessions"))).await.unwrap();
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(raw.read_to_end().await, "");

    let request =
        format!("{}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{", head("POST", MESSAGE));
    is_error(&gateway.raw().await.exchange(request).await, 408, "request_timeout");
}

#[tokio::test]
async fn a_silent_turn_outlasts_every_limit_of_the_connection() {
    let quick = Limits {
        head_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let gateway = with_limits(quick).await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.ready_status());
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let turn = gateway.message("s1", "hi");
    let passage_of_time = async {
        runner.seen(1).await;
        // Connections that come after the turn began and run into the limits show that they are over for it too.
        for _ in 0..3 {
            assert_eq!(gateway.raw().await.read_to_end().await, "");
        }
        go.notify_one();
    };
    let (reply, ()) = tokio::join!(turn, passage_of_time);
    assert_eq!((reply.status, &reply.body["parts"][0]["text"]), (200, &json!("hi")));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let gateway = TestGateway::start().await;
    let request = format!("{}X-Large: {}\r\n\r\n", head("GET", "/sessions"), "x".repeat(64 * 1024));
    is_error(&gateway.raw().await.exchange(request).await, 431, "headers_too_large");
}

#[tokio::test]
async fn what_is_no_http_is_no_request() {
    let gateway = TestGateway::start().await;
    for bytes in [
        "\u{16}\u{3}\u{1}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    ] {
        let answer = gateway.raw().await.exchange(bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
    }
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_their_turn() {
    let gateway = with_limits(Limits { max_connections: 1, ..Limits::default() }).await;
    let mut first = gateway.raw().await;
    first.write(format!("{}\r\n", head("GET", "/sessions"))).await.unwrap();
    first.read_answer().await;
    let mut second = gateway.raw().await;
    second.write(format!("{}Connection: close\r\n\r\n", head("GET", "/sessions"))).await.unwrap();
    drop(first);
    assert!(second.read_to_end().await.starts_with("HTTP/1.1 200 "));
}
