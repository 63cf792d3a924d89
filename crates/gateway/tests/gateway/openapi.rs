//! The OpenAPI document: how it is served, that each of its operations can be asked, and that the tests notice where an answer is
//! not as it says.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request};
use http_body_util::Full;
use paddock_contract::{Answered, Asked, Operation, Place};
use serde_json::{Value, json};

use super::contract::CONTRACT;
use super::lifecycle::{restarts, with_suspended_session};
use super::runner::FakeRunner;
use super::support::{BASE, KEY, Reply, TestGateway};

async fn document(gateway: &TestGateway, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::get("/openapi.json").header("host", "gateway");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    gateway.send(request.body(Full::default()).unwrap()).await
}

#[tokio::test]
async fn the_document_is_there_for_everybody_and_not_sent_twice() {
    // Also before the gateway knows anything of its cluster.
    let gateway = TestGateway::with(super::support::Setup { synced: false, ..Default::default() }).await;
    let told = document(&gateway, &[]).await;
    assert_eq!((told.status, told.header("content-type")), (200, "application/json"));
    assert_eq!(told.body, paddock_gateway::openapi::document());
    assert_eq!(told.header("cache-control"), "no-cache");
    let tag = told.header("etag");
    for known in [tag, &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
        let known = document(&gateway, &[("if-none-match", known)]).await;
        assert_eq!((known.status, known.header("etag")), (304, tag));
    }
    assert_eq!(document(&gateway, &[("if-none-match", "\"other\"")]).await.status, 200);
    let mut post = Request::post("/openapi.json").header("host", "gateway");
    for _ in 0..2 {
        let refused = gateway.send(post.body(Full::default()).unwrap()).await;
        assert_eq!((refused.error(), refused.header("allow")), ((405, "method_not_allowed"), "GET"));
        post = Request::delete("/openapi.json").header("host", "gateway");
    }
}

/// A gateway on which any operation has something to do, and the session and agent that it is about.
async fn ready_for(template: &str) -> (TestGateway, FakeRunner) {
    let (gateway, runner) = match template.strip_prefix(BASE) {
        Some("/sessions/{id}/suspend") => with_suspended_session().await,
        _ => TestGateway::with_ready_session().await,
    };
    gateway.cluster.put_agent("helper");
    gateway.cluster.put_sandbox("pool-1", "agent");
    gateway.cluster.put_log("pool-1", b"one line\n");
    (gateway, runner)
}

/// The operation's path, about something that there is.
fn path_of(operation: &Operation) -> String {
    let id = if operation.template.contains("/agents/") { "helper" } else { "s1" };
    let within = if ["GET", "POST"].contains(&&*operation.method) { "session" } else { "session/ses_2" };
    let path = operation.template.replace("{id}", id).replace("{turn}", "t1").replace("{path}", within);
    assert!(!path.contains('{'), "{path}: say what its parameters may be");
    path
}

/// The bodies that the document has for the operation; none is one too.
fn bodies_of(operation: &Operation) -> Vec<Option<&Value>> {
    let examples = &operation.examples;
    if examples.is_empty() { vec![None] } else { examples.iter().map(Some).collect() }
}

fn request(method: &str, path: &str, body: Option<&Value>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "gateway");
    request = request.header("authorization", format!("Bearer {KEY}"));
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    request.body(Full::new(bytes)).unwrap()
}

#[tokio::test]
async fn a_parameter_of_the_document_is_one_that_the_gateway_reads() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.cluster.put_agent("helper");
    let mut refused = 0;
    for operation in CONTRACT.operations() {
        let path = path_of(operation);
        let body = bodies_of(operation)[0];
        for (place, name, wrong) in operation.wrong_parameters() {
            let request = match place {
                Place::Query => request(&operation.method, &format!("{path}?{name}={wrong}"), body),
                Place::Header => {
                    let mut request = request(&operation.method, &path, body);
                    request.headers_mut().insert(HeaderName::try_from(name).unwrap(), wrong.parse().unwrap());
                    request
                }
            };
            let reply = gateway.send(request).await;
            assert_eq!(reply.error(), (400, "bad_request"), "{name} of {} {path}", operation.method);
            assert!(reply.body["error"].as_str().unwrap().contains(name), "{reply:?}");
            refused += 1;
        }
    }
    assert!(refused > 20, "{refused}");
}

#[tokio::test]
async fn every_operation_of_the_document_can_be_asked() {
    let mut asked = 0;
    for operation in CONTRACT.operations() {
        let Operation { method, template, .. } = operation;
        let path = path_of(operation);
        for body in bodies_of(operation) {
            let (gateway, runner) = ready_for(template).await;
            let what = format!("{method} {path} {}", body.unwrap_or(&Value::Null));
            asked += 1;
            if operation.streams() {
                let path = path.strip_prefix(BASE).unwrap();
                let mut events = gateway.follow(method, path, &[], body.cloned()).await;
                assert!(events.next().await.is_some(), "{what}");
                continue;
            }
            let answer = gateway.send(request(method, &path, body));
            // The part of the controller, where one is needed.
            let reply = if template.ends_with("/restart") {
                tokio::join!(answer, restarts(&gateway, &runner, 2)).0
            } else {
                answer.await
            };
            if method == "PUT" {
                // Nothing of the harness's own API that takes PUT is open.
                assert_eq!(reply.error(), (403, "forbidden"), "{what}");
            } else if template.ends_with("/tty") {
                // What opens a WebSocket is in `terminal`.
                assert_eq!(reply.error(), (426, "upgrade_required"), "{what}");
            } else {
                assert!(reply.status < 300, "{what}: {reply:?}");
            }
        }
    }
    assert!(asked > 25, "{asked}");
}

#[tokio::test]
async fn an_answer_that_is_not_as_the_document_says_is_noticed() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let real = gateway.ask("GET", "/sessions/s1", None).await;
    let check = |status: u16, headers: &HeaderMap, body: &Value| {
        let asked = Asked { method: "GET", target: &format!("{BASE}/sessions/s1?x=1"), body: &[] };
        let body = body.to_string();
        let checked = CONTRACT.check(asked, Answered { status, headers, body: body.as_bytes() });
        checked.map_err(|violation| violation.to_string())
    };
    let problem = |status, headers: &HeaderMap, body: &Value| check(status, headers, body).unwrap_err();
    check(200, &real.headers, &real.body).unwrap();

    assert!(problem(201, &real.headers, &real.body).contains("no such status"));
    let mut less = real.body.clone();
    less.as_object_mut().unwrap().remove("incarnation");
    assert!(problem(200, &real.headers, &less).contains("\"incarnation\" is a required property"));
    let mut more = real.body.clone();
    more["secret"] = json!("x");
    assert!(
        problem(200, &real.headers, &more).contains("'secret' was unexpected"),
        "{}",
        problem(200, &real.headers, &more)
    );
    let mut other = real.body.clone();
    other["status"] = json!("unheard-of");
    assert!(problem(200, &real.headers, &other).contains("unheard-of"));
    let mut other = real.body.clone();
    other["created_at"] = json!("yesterday");
    assert!(problem(200, &real.headers, &other).contains("date-time"));

    let mut headers = real.headers.clone();
    headers.insert("x-pod", "1".parse().unwrap());
    assert!(problem(200, &headers, &real.body).contains("no header x-pod"));
    let mut headers = real.headers.clone();
    headers.remove("x-request-id");
    assert!(problem(200, &headers, &real.body).contains("header x-request-id is missing"));
    let mut headers = real.headers.clone();
    headers.insert("content-type", "text/html".parse().unwrap());
    assert!(problem(200, &headers, &real.body).contains("no text/html"));

    // A code that exists, of another route.
    let error = |code: &str| json!({"error": "x", "code": code, "request_id": "r"});
    check(404, &real.headers, &error("not_found")).unwrap();
    assert!(problem(404, &real.headers, &error("creating")).contains("\"creating\""));
}
