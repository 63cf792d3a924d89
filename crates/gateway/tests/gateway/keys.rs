//! Scoped keys: who gets in, what they see, what they may do, and how often; and what is written down about it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::logs;
use super::runner::{FakeRunner, Script};
use super::support::{BASE, KEY, Reply, Setup, TestGateway, session, soon};

const ALL: &str = "key-for-all-0123456789abcdef";
const READER: &str = "key-that-reads-0123456789abcdef";
const HELPER: &str = "key-for-helper-0123456789abcdef";

/// Every route that names a session, and whether it only reads.
const SESSION_ROUTES: [(&str, &str, bool); 9] = [
    ("GET", "", true),
    ("DELETE", "", false),
    ("POST", "/stop", false),
    ("POST", "/suspend", false),
    ("POST", "/resume", false),
    ("POST", "/restart", false),
    ("POST", "/abort", false),
    ("POST", "/message", false),
    ("GET", "/messages", true),
];

/// Two agents with a session each, `mine` of `helper` and `theirs` of `other`, and one of neither.
async fn two_agents(keys: Value) -> (TestGateway, FakeRunner) {
    let gateway = TestGateway::with(Setup { keys: Some(keys), ..Setup::default() }).await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.cluster.put_agent("helper");
    gateway.cluster.put_agent("other");
    gateway.put_session("mine", runner.ready_status());
    let mut theirs = session("theirs", runner.ready_status());
    theirs["spec"]["agentRef"]["name"] = json!("other");
    gateway.cluster.put(theirs);
    let mut inline = session("inline", runner.ready_status());
    inline["spec"] = json!({"agent": {"model": "m"}});
    gateway.cluster.put(inline);
    (gateway, runner)
}

fn keys() -> Value {
    json!({
        "all": {"key": ALL},
        "reader": {"key": READER, "readOnly": true},
        "helper": {"key": HELPER, "agents": ["helper", "not-made-yet"]},
    })
}

async fn ask(gateway: &TestGateway, key: &str, method: &str, path: &str) -> Reply {
    let body = path.ends_with("/message").then(|| json!({"text": "hi"}));
    gateway.ask_as(key, method, path, &[], body).await
}

/// An error's text, without the id that differs from request to request.
fn words(reply: &Reply) -> String {
    reply.body["error"].as_str().unwrap().to_owned()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn keys_come_and_go_without_a_restart() {
    let (gateway, _runner) = two_agents(json!({})).await;
    let status = async |key| ask(&gateway, key, "GET", "/sessions").await.status;
    assert_eq!(status(ALL).await, 401);
    gateway.put_keys(&json!({"ci": {"key": ALL}}));
    assert_eq!(status(ALL).await, 200);
    // A rotation: both are valid while clients move.
    gateway.put_keys(&json!({"ci": {"key": ALL}, "ci-2": {"key": READER}}));
    assert_eq!((status(ALL).await, status(READER).await), (200, 200));
    gateway.put_keys(&json!({"ci-2": {"key": READER}}));
    assert_eq!((status(ALL).await, status(READER).await), (401, 200));
    let refused = ask(&gateway, ALL, "GET", "/sessions").await;
    assert_eq!((refused.error(), refused.header("www-authenticate")), ((401, "unauthorized"), "Bearer"));
}

#[tokio::test]
async fn a_key_can_be_known_by_its_digest_alone() {
    // printf %s abcdefghijklmnopqrstuvwxyz | sha256sum
    let digest = "71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73";
    let (gateway, _runner) = two_agents(json!({"ci": {"sha256": digest}})).await;
    assert_eq!(ask(&gateway, "abcdefghijklmnopqrstuvwxyz", "GET", "/sessions").await.status, 200);
    assert_eq!(ask(&gateway, digest, "GET", "/sessions").await.status, 401);
}

#[tokio::test]
async fn a_key_without_bounds_may_do_what_the_master_key_may() {
    let (gateway, runner) = two_agents(keys()).await;
    assert_eq!(ids(&ask(&gateway, ALL, "GET", "/sessions").await.body).len(), 3);
    assert_eq!(ask(&gateway, ALL, "POST", "/sessions/theirs/message").await.status, 200);
    assert_eq!(ask(&gateway, ALL, "GET", "/sessions/inline").await.status, 200);
    assert_eq!(ask(&gateway, ALL, "POST", "/agents/other/session?wait=0").await.status, 200);
    assert_eq!(runner.count(), 1);
}

#[tokio::test]
async fn what_a_key_does_not_see_is_not_there_for_it() {
    let (gateway, runner) = two_agents(keys()).await;
    let before = ["theirs", "inline"].map(|name| gateway.cluster.session(name));
    for (method, action, _) in SESSION_ROUTES {
        let missing = ask(&gateway, HELPER, method, &format!("/sessions/missing{action}")).await;
        assert_eq!(missing.error(), (404, "not_found"), "{method} {action}");
        for unseen in ["theirs", "inline"] {
            let reply = ask(&gateway, HELPER, method, &format!("/sessions/{unseen}{action}")).await;
            assert_eq!(reply.error(), (404, "not_found"), "{method} {unseen}{action}");
            assert_eq!(words(&reply), words(&missing).replace("missing", unseen), "{method} {action}");
        }
    }
    for (method, action) in [("GET", ""), ("POST", "/session")] {
        let missing = ask(&gateway, HELPER, method, &format!("/agents/not-made-yet{action}")).await;
        let reply = ask(&gateway, HELPER, method, &format!("/agents/other{action}")).await;
        assert_eq!((missing.error(), reply.error()), ((404, "not_found"), (404, "not_found")));
        assert_eq!(words(&reply), words(&missing).replace("not-made-yet", "other"));
    }
    assert_eq!(["theirs", "inline"].map(|name| gateway.cluster.session(name)), before);
    assert_eq!((runner.count(), runner.aborts(), gateway.cluster.patches()), (0, 0, vec![]));
}

#[tokio::test]
async fn lists_and_their_totals_tell_of_nothing_else() {
    let (gateway, _runner) = two_agents(keys()).await;
    assert_eq!(ids(&ask(&gateway, HELPER, "GET", "/sessions").await.body), ["mine"]);
    let page = ask(&gateway, HELPER, "GET", "/sessions?limit=1").await;
    assert!(!page.headers.contains_key("link"), "there is no next page for this key");
    assert_eq!(ids(&ask(&gateway, HELPER, "GET", "/sessions?agent_id=other").await.body), [""; 0]);
    let agents = ask(&gateway, HELPER, "GET", "/agents").await.body;
    assert_eq!((ids(&agents["data"]), &agents["total"]), (vec!["helper"], &json!(1)));
    assert_eq!(agents["data"][0]["session_count"], 1);
    let searched = ask(&gateway, HELPER, "GET", "/agents?search=other").await.body;
    assert_eq!((ids(&searched["data"]), &searched["total"]), (vec![], &json!(0)));
    assert_eq!(ask(&gateway, ALL, "GET", "/agents").await.body["total"], 2);
}

#[tokio::test]
async fn a_key_for_an_agent_uses_it() {
    let (gateway, runner) = two_agents(keys()).await;
    let made = ask(&gateway, HELPER, "POST", "/agents/helper/session?wait=0").await;
    assert_eq!((made.status, &made.body["agent_id"]), (200, &json!("helper")));
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(ask(&gateway, HELPER, "GET", &format!("/sessions/{id}")).await.status, 200);
    assert_eq!(ask(&gateway, HELPER, "POST", "/sessions/mine/message").await.status, 200);
    assert_eq!(ask(&gateway, HELPER, "POST", "/sessions/mine/abort").await.status, 200);
    assert_eq!(ask(&gateway, HELPER, "DELETE", "/sessions/mine").await.body["status"], "deleted");
    assert_eq!((runner.count(), runner.aborts()), (1, 1));
    gateway.cluster.put_agent("not-made-yet");
    assert_eq!(ask(&gateway, HELPER, "GET", "/agents/not-made-yet").await.status, 200);
}

#[tokio::test]
async fn a_session_that_the_index_does_not_know_yet_is_judged_too() {
    let (gateway, _runner) = two_agents(keys()).await;
    gateway.cluster.set_watch(super::cluster::Watch::Cut);
    let mut late = session("late", json!({"phase": "Creating"}));
    late["spec"]["agentRef"]["name"] = json!("other");
    gateway.cluster.put(late);
    gateway.put_session("later", json!({"phase": "Creating"}));
    assert_eq!(ask(&gateway, HELPER, "GET", "/sessions/late").await.error(), (404, "not_found"));
    assert_eq!(ask(&gateway, HELPER, "GET", "/sessions/later").await.status, 200);
}

#[tokio::test]
async fn a_key_that_may_only_read_changes_nothing() {
    let (gateway, runner) = two_agents(keys()).await;
    for (method, action, reads) in SESSION_ROUTES {
        let reply = ask(&gateway, READER, method, &format!("/sessions/mine{action}")).await;
        if reads {
            assert_eq!(reply.status, 200, "{method} {action}");
        } else {
            assert_eq!(reply.error(), (403, "forbidden"), "{method} {action}");
            let missing = ask(&gateway, READER, method, &format!("/sessions/missing{action}")).await;
            assert_eq!((missing.error(), words(&missing)), ((403, "forbidden"), words(&reply)));
        }
    }
    assert_eq!(ask(&gateway, READER, "POST", "/agents/helper/session").await.error(), (403, "forbidden"));
    assert_eq!(ask(&gateway, READER, "GET", "/agents").await.body["total"], 2);
    assert_eq!((runner.count(), runner.aborts(), gateway.cluster.patches()), (0, 0, vec![]));
}

#[tokio::test]
async fn a_key_that_is_used_too_fast_is_told_when_to_come_back() {
    let slow = json!({"slow": {"key": ALL, "requestsPerSecond": 0.01, "burst": 2}, "other": {"key": READER}});
    let (gateway, runner) = two_agents(slow).await;
    for _ in 0..2 {
        assert_eq!(ask(&gateway, ALL, "GET", "/sessions").await.status, 200);
    }
    let refused = ask(&gateway, ALL, "POST", "/sessions/mine/message").await;
    assert_eq!(refused.error(), (429, "rate_limited"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((90..=100).contains(&wait), "{wait}");
    assert_eq!(runner.count(), 0);
    for key in [READER, KEY] {
        assert_eq!(ask(&gateway, key, "GET", "/sessions").await.status, 200, "others are not held up");
    }
    let metrics = gateway.gateway.metrics.encode();
    assert!(metrics.contains(r#"errors_total{reason="rate_limited"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_key_has_so_many_requests_in_flight() {
    let (gateway, runner) = two_agents(json!({"narrow": {"key": ALL, "maxInFlight": 1}})).await;
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let gateway = Arc::new(gateway);
    let turn = tokio::spawn({
        let gateway = gateway.clone();
        async move { ask(&gateway, ALL, "POST", "/sessions/mine/message").await }
    });
    runner.seen(1).await;
    let refused = ask(&gateway, ALL, "GET", "/sessions").await;
    assert_eq!((refused.error(), refused.header("retry-after")), ((429, "too_many_in_flight"), "1"));
    assert_eq!(gateway.ask("GET", "/sessions", None).await.status, 200, "the master key has no limit");
    go.notify_one();
    assert_eq!(turn.await.unwrap().status, 200);
    room_again(&gateway).await;
}

#[tokio::test]
async fn a_request_counts_until_all_of_its_answer_is_sent() {
    let (gateway, _runner) = two_agents(json!({"narrow": {"key": ALL, "maxInFlight": 1}})).await;
    // More than the sockets between them hold.
    let body = json!({"text": "x".repeat(16 << 20)}).to_string();
    let mut slow = gateway.raw().await;
    let head = format!(
        "POST {BASE}/sessions/mine/message HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {ALL}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    slow.write(head + &body).await.unwrap();
    slow.read_first_byte().await;
    assert_eq!(ask(&gateway, ALL, "GET", "/sessions").await.error(), (429, "too_many_in_flight"));
    assert!(slow.read_to_end().await.len() > 16 << 20);
    room_again(&gateway).await;
}

/// The connection's task lets go of a place a moment after its client has read the last byte.
async fn room_again(gateway: &TestGateway) {
    let room = async { while ask(gateway, ALL, "GET", "/sessions").await.status != 200 {} };
    soon(room).await;
}

#[tokio::test]
async fn each_request_is_one_line_of_the_audit_log() {
    logs::keep();
    let (gateway, _runner) = two_agents(keys()).await;
    let audit = async |id: &str, key: &str, method: &str, path: &str| {
        let body = path.contains("/message?").then(|| json!({"text": "said-in-private"}));
        gateway.ask_as(key, method, path, &[("x-request-id", id), ("idempotency-key", "turn-7")], body).await;
        let lines = logs::audit(id);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = lines[0].clone();
        assert!(line["took_ms"].is_u64() && line["trace_id"].as_str().unwrap().len() == 32, "{line}");
        let fields = ["key", "method", "route", "agent", "session", "status", "code", "turn"];
        fields.map(|field| line[field].as_str().map_or_else(|| line[field].to_string(), str::to_owned))
    };
    assert_eq!(
        audit("audit-1", HELPER, "POST", "/sessions/mine/message?token=in-the-query").await,
        ["helper", "POST", "/sessions/{id}/message", "", "mine", "200", "", "turn-7"]
    );
    assert_eq!(
        audit("audit-2", HELPER, "GET", "/sessions/theirs").await,
        ["helper", "GET", "/sessions/{id}", "", "theirs", "404", "not_found", ""]
    );
    assert_eq!(
        audit("audit-3", KEY, "GET", "/agents/helper").await,
        ["master", "GET", "/agents/{id}", "helper", "", "200", "", ""]
    );
    assert_eq!(
        audit("audit-4", "nobodys-key-0123456789abcdef", "GET", "/sessions").await,
        ["-", "GET", "/sessions", "", "", "401", "unauthorized", ""]
    );
    let [key, .., session, status, code, _] =
        audit("audit-5", ALL, "POST", "/agents/helper/session?wait=0").await;
    assert_eq!((key.as_str(), status.as_str(), code.as_str()), ("all", "200", ""));
    assert!(gateway.cluster.session(&session).spec.agent_ref.is_some(), "the session that was made");
    let log = logs::all();
    assert!(!log.contains("in-the-query") && !log.contains("said-in-private"));
}

#[tokio::test]
async fn no_key_is_in_an_answer_a_log_or_a_metric() {
    logs::keep();
    let secret = "a-secret-that-is-nowhere-0123";
    let twin = "another-secret-nowhere-0123";
    let entries = json!({
        "quiet": {"key": secret, "agents": ["helper"], "readOnly": true, "requestsPerSecond": 0.01, "burst": 8},
        "twin-a": {"key": twin}, "twin-b": {"key": twin},
        "typo": {"key": twin, "readonly": true}, "wrong": {"key": [twin]}, "bare": twin,
    });
    let (gateway, _runner) = two_agents(entries.clone()).await;
    // The same again, as a list after a lost watch brings it.
    gateway.put_keys(&entries);
    let mut said = String::new();
    for (key, count) in [(secret, 10), (twin, 1)] {
        for _ in 0..count {
            for (method, path) in
                [("GET", "/sessions/mine"), ("GET", "/sessions/theirs"), ("POST", "/sessions/mine/message")]
            {
                said += &format!("{:?}", ask(&gateway, key, method, path).await);
            }
        }
    }
    for status in ["status: 200", "status: 401", "status: 403", "status: 404", "status: 429"] {
        assert!(said.contains(status), "{status}");
    }
    let log = logs::all();
    for entry in ["twin-a", "twin-b", "typo", "wrong", "bare"] {
        assert_eq!(log.matches(&format!(r#""entry":"{entry}""#)).count(), 1, "{entry} is told once");
    }
    assert!(log.contains("these scoped keys are valid now") && log.contains(r#""key":"quiet""#));
    for (place, text) in
        [("an answer", said), ("the log", log), ("a metric", gateway.gateway.metrics.encode())]
    {
        for value in [secret, twin] {
            // The text itself is not printed: it would put the key into one more log.
            assert!(!text.contains(value), "a key is in {place}");
        }
    }
}
