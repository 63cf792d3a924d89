//! `ANY /sessions/{id}/opencode/{path}`: what passes, what is a turn, and what is closed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http_body_util::Full;
use paddock_gateway::server::drain::Stage;
use paddock_runnerapi::ErrorCode;
use serde_json::{Value, json};

use super::runner::Script;
use super::support::{BASE, KEY, TestGateway, soon};

const API: &str = "/sessions/s1/opencode";

fn words(text: &str) -> Value {
    json!({"parts": [{"type": "text", "text": text}]})
}

#[tokio::test]
async fn a_request_that_begins_no_work_passes_as_it_is() {
    let (gateway, _runner, _store) = TestGateway::with_store().await;
    let body = json!({"title": "one"});
    let headers = [("cookie", "a=b"), ("x-opencode-directory", "/workspace"), ("x-other", "1")];
    let path = format!("{API}/session?directory=%2Fworkspace");
    let passed = gateway.ask_with("POST", &path, &headers, Some(body.clone())).await;
    assert_eq!(passed.status, 200, "{}", passed.body);
    let told = &passed.body;
    assert_eq!((&told["method"], &told["path"]), (&json!("POST"), &json!("/session?directory=%2Fworkspace")));
    assert_eq!(serde_json::from_str::<Value>(told["body"].as_str().unwrap()).unwrap(), body);
    let seen = told["headers"].as_object().unwrap();
    assert_eq!(seen["x-opencode-directory"], "/workspace");
    for private in ["cookie", "x-other"] {
        assert!(!seen.contains_key(private), "{private}");
    }
    assert!(!seen["authorization"].as_str().unwrap().contains("key"), "the client's key stays here");
    assert!(!passed.headers.contains_key("set-cookie") && !passed.headers.contains_key("x-pod-internal"));

    let told = gateway.ask("GET", &format!("{API}/"), None).await;
    assert_eq!(told.body["path"], "/");
    // What the harness says is what the client gets.
    assert_eq!(gateway.ask("GET", &format!("{API}/unknown"), None).await.status, 404);
    let deleted = gateway.ask("DELETE", &format!("{API}/session/ses_2"), None).await;
    assert_eq!((deleted.status, &deleted.body["method"]), (200, &json!("DELETE")));
}

#[tokio::test]
async fn a_message_is_a_turn_and_saved_before_its_reply_is_given_out() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    let path = format!("{API}/session/ses_2/message");
    let reply = gateway.ask_with("POST", &path, &[("idempotency-key", "a")], Some(words("hi"))).await;
    assert_eq!((reply.status, &reply.body["parts"][0]["text"]), (200, &json!("hi")), "{}", reply.body);
    assert_eq!(reply.header("x-paddock-turn-id"), "a");
    assert_eq!(store.turns("uid-s1"), ["accepted a", "ended a"]);
    let seen = runner.seen(1).await;
    let call = seen[0].turn.call.as_ref().unwrap();
    assert_eq!(call.path, "/session/ses_2/message");
    assert_eq!(Value::Object(call.body.clone()), words("hi"));

    // A client that names its message has named its turn.
    let named = json!({"messageID": "msg_1", "parts": []});
    let reply = gateway.ask("POST", &path, Some(named)).await;
    assert_eq!(reply.header("x-paddock-turn-id"), "msg_1");

    let path = format!("{API}/session/ses_2/prompt_async");
    let reply = gateway.ask_with("POST", &path, &[("idempotency-key", "b")], Some(words("hi"))).await;
    assert_eq!((reply.status, reply.header("x-paddock-turn-id")), (204, "b"));
    assert_eq!(store.turns("uid-s1").last().unwrap(), "accepted b");
}

#[tokio::test]
async fn a_turn_there_is_refused_as_any_other() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    let path = format!("{API}/session/ses_2/message");
    for (code, refused) in [
        (ErrorCode::QueueFull, (429, "queue_full")),
        (ErrorCode::NotInHarness, (404, "not_found")),
        (ErrorCode::BadRequest, (400, "bad_request")),
        (ErrorCode::Interrupted, (502, "interrupted")),
    ] {
        runner.script(Script::Fail(code));
        assert_eq!(gateway.ask("POST", &path, Some(words("hi"))).await.error(), refused);
    }
    runner.script(Script::Break);
    let seen = runner.count();
    assert_eq!(gateway.ask("POST", &path, Some(words("hi"))).await.error(), (502, "turn_lost"));
    assert_eq!(runner.count(), seen + 1, "nothing is sent twice");
    runner.script(Script::Echo);
    for bad in [json!([]), json!({"messageID": 1}), json!({"messageID": ""})] {
        assert_eq!(gateway.ask("POST", &path, Some(bad)).await.error().0, 400);
    }
}

#[tokio::test]
async fn what_is_closed_reaches_no_pod() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    for (method, path, refused) in [
        ("PATCH", "/config", (403, "forbidden")),
        ("POST", "/api/session/ses_1/prompt", (403, "forbidden")),
        ("POST", "/pty", (403, "forbidden")),
        ("POST", "//session", (404, "not_found")),
        ("POST", "/session/x/mess%61ge", (404, "not_found")),
        ("DELETE", "/session/ses_1;x", (404, "not_found")),
        ("OPTIONS", "/session", (405, "method_not_allowed")),
    ] {
        let reply = gateway.ask(method, &format!("{API}{path}"), None).await;
        assert_eq!(reply.error(), refused, "{method} {path}");
    }
    assert_eq!(runner.count(), 0);
    // The pod knows which conversation is the session's own.
    runner.script(Script::Fail(ErrorCode::Closed));
    let own = gateway.ask("DELETE", &format!("{API}/session/ses_1"), None).await;
    assert_eq!(own.error(), (403, "forbidden"));
    let gone = gateway.ask("GET", "/sessions/nobody/opencode/session", None).await;
    assert_eq!(gone.error(), (404, "not_found"));
}

#[tokio::test]
async fn a_new_pod_is_given_the_conversation_before_it_is_asked() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    runner.waits_for_the_conversation();
    let told = gateway.ask("GET", &format!("{API}/session"), None).await;
    assert_eq!((told.status, &told.body["path"]), (200, &json!("/session")));
    assert_eq!(runner.conversation(), Some(vec![]));
}

#[tokio::test]
async fn events_pass_as_they_come_and_end_with_the_gateway() {
    let (gateway, _runner, _store) = TestGateway::with_store().await;
    let mut stream = gateway.follow("GET", &format!("{API}/event"), &[], None).await;
    assert_eq!(soon(stream.next()).await, Some(json!({})));
    gateway.gateway.drain.advance(Stage::Closing);
    assert_eq!(soon(stream.next()).await, None);
}

#[tokio::test]
async fn the_key_may_be_a_password() {
    let (gateway, _runner, _store) = TestGateway::with_store().await;
    let basic = |user: &str| format!("Basic {}", STANDARD.encode(user));
    for (authorization, status) in
        [(basic(&format!("opencode:{KEY}")), 200), (basic("opencode:wrong"), 401), (basic(KEY), 401)]
    {
        let request = Request::builder()
            .uri(format!("{BASE}{API}/session"))
            .header("host", "gateway")
            .header("authorization", &authorization);
        let told = gateway.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(told.status, status, "{authorization}");
    }
}
