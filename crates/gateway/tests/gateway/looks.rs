//! The time line, and the harness's log.

use paddock_kubeio::look::LogQuery;
use paddock_kubeio::write::WriteError;
use serde_json::{Value, json};

use super::runner::Script;
use super::support::{Setup, TestGateway};

const LOGS: &str = "/sessions/s1/sandbox_logs";

#[tokio::test]
async fn a_time_line_is_made_of_the_object_and_the_conversation() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    runner.shows(json!([
        {"info": {"id": "m1", "role": "user", "time": {"created": 1_767_225_605_000_i64}},
         "parts": [{"type": "text", "text": "Go"}]},
        "nonsense",
        {"info": {"id": "m2", "role": "assistant", "time": {"created": 1_767_225_606_000_i64}},
         "parts": [{"id": "p1", "type": "text", "text": "Gone"}]},
    ]));
    let told = gateway.ask("GET", "/sessions/s1/log", None).await;
    assert_eq!(told.status, 200);
    let kinds: Vec<&Value> = told.body.as_array().unwrap().iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["created", "user", "response"]);
    assert_eq!(
        told.body[2],
        json!({"id": "p1", "kind": "response", "at": "2026-01-01T00:00:06Z", "title": "Response", "detail": "Gone"})
    );
    assert_eq!(gateway.ask("GET", "/sessions/none/log", None).await.error(), (404, "not_found"));
    runner.script(Script::Hello);
    assert_eq!(gateway.ask("GET", "/sessions/s1/log", None).await.error(), (502, "unreachable"));
}

#[tokio::test]
async fn a_time_line_outlives_the_pod() {
    let store = std::sync::Arc::new(super::store::MemoryStore::default());
    let gateway = TestGateway::with(Setup { store: Some(store), ..Setup::default() }).await;
    let runner = super::runner::FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.ready_status());
    gateway.message("s1", "hello").await;
    let finished = "2026-01-01T02:00:00Z";
    gateway.cluster.put_status("s1", json!({"phase": "Dead", "reason": "Stopped", "finishedAt": finished}));
    let told = gateway.ask("GET", "/sessions/s1/log", None).await.body;
    let entries = told.as_array().unwrap();
    assert_eq!((&entries[1]["kind"], &entries[1]["detail"]), (&json!("user"), &json!("hello")));
    let last = entries.last().unwrap();
    assert_eq!((&last["kind"], &last["at"]), (&json!("ended"), &json!(finished)));
}

#[tokio::test]
async fn the_log_of_the_harness_s_container_is_plain_text() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.cluster.put_sandbox("pool-1", "agent");
    gateway.cluster.put_log("pool-1", b"one <b>line</b>\nbroken \xff\n");
    let log = gateway.ask("GET", LOGS, None).await;
    assert_eq!((log.status, log.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!(log.header("x-content-type-options"), "nosniff");
    assert_eq!(log.body, json!("one <b>line</b>\nbroken \u{fffd}\n"));
    gateway.ask("GET", &format!("{LOGS}?sinceSeconds=3600&tailLines=5000"), None).await;
    let query = |since_seconds, tail_lines| LogQuery {
        container: "agent".to_owned(),
        since_seconds,
        tail_lines,
        most_bytes: 8 << 20,
    };
    assert_eq!(gateway.cluster.log_queries(), [query(600, 500), query(3600, 5000)]);
    for bad in
        ["sinceSeconds=3601", "sinceSeconds=0", "tailLines=5001", "tailLines=x", "tailLines=1&tailLines=2"]
    {
        let refused = gateway.ask("GET", &format!("{LOGS}?{bad}"), None).await;
        assert_eq!(refused.error(), (400, "bad_request"), "{bad}");
    }
    assert_eq!(gateway.cluster.log_queries().len(), 2);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_an_error() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.cluster.put_sandbox("pool-1", "agent");
    assert_eq!(gateway.ask("GET", LOGS, None).await.error(), (503, "not_ready"), "its pod is gone");
    gateway.cluster.fail_logs(WriteError::Unavailable("the kubelet does not answer".into()));
    let failed = gateway.ask("GET", LOGS, None).await;
    assert_eq!((failed.error(), failed.header("retry-after")), ((503, "cluster_unavailable"), "2"));
    gateway.cluster.fail_looks(WriteError::Throttled { retry_after: None });
    assert_eq!(gateway.ask("GET", LOGS, None).await.error(), (503, "cluster_unavailable"));
    assert_eq!(gateway.ask("GET", "/sessions/none/sandbox_logs", None).await.error(), (404, "not_found"));
    for (phase, code) in [("Dead", "dead"), ("Failed", "failed")] {
        gateway.put_session("s2", json!({"phase": phase}));
        let gone = gateway.ask("GET", "/sessions/s2/sandbox_logs", None).await;
        assert_eq!(gone.error(), (404, code));
    }
}

#[tokio::test]
async fn a_session_that_comes_up_has_written_nothing_yet() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.put_session("s2", json!({"phase": "Creating"}));
    let log = gateway.ask("GET", "/sessions/s2/sandbox_logs", None).await;
    assert_eq!((log.status, log.body), (200, json!("")));
    gateway.put_session("s2", json!({"phase": "Creating", "sandbox": {"name": "cold", "uid": "u"}}));
    gateway.cluster.put_sandbox("cold", "agent");
    let waiting = |message: &str| WriteError::Rejected {
        status: 400,
        reason: "BadRequest".to_owned(),
        message: message.to_owned(),
    };
    gateway
        .cluster
        .fail_logs(waiting("container \"agent\" in pod \"cold\" is waiting to start: PodInitializing"));
    let log = gateway.ask("GET", "/sessions/s2/sandbox_logs", None).await;
    assert_eq!((log.status, log.body), (200, json!("")));
    gateway.cluster.fail_logs(waiting("container agent is not valid for pod cold"));
    let refused = gateway.ask("GET", "/sessions/s2/sandbox_logs", None).await;
    assert_eq!(refused.error(), (503, "cluster_unavailable"));
}
