//! `GET /sessions/{id}/diagnose`: what is shown of everything, and what never is.

use paddock_kubeio::write::WriteError;
use serde_json::{Value, json};

use super::runner::Script;
use super::support::TestGateway;

const DIAGNOSE: &str = "/sessions/s1/diagnose";

fn codes(diagnosis: &Value) -> Vec<&str> {
    let issues = diagnosis["detected_issues"].as_array().unwrap();
    issues.iter().map(|issue| issue["code"].as_str().unwrap()).collect()
}

fn agent(pool: &str) -> Value {
    json!({"harness": "opencode", "model": "m", "prompt": "a-secret-prompt", "poolRef": {"name": pool},
        "env": [{"name": "TOKEN", "value": "a-plain-secret"}]})
}

#[tokio::test]
async fn a_session_that_is_well_is_shown_with_all_its_parts() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.cluster.put_agent("helper");
    gateway.cluster.put_sandbox("pool-1", "agent");
    gateway.cluster.put_pod(json!({
        "metadata": {"name": "pod", "uid": "pod-1"}, "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "agent", "ready": true, "restartCount": 0, "state": {"running": {}}}]},
    }));
    gateway.cluster.put_event(json!({
        "type": "Normal", "reason": "Pulled", "message": "image present", "lastTimestamp": "2026-01-01T00:00:01Z",
        "involvedObject": {"kind": "Pod", "name": "pool-1"},
    }));
    gateway.cluster.put_event(json!({
        "type": "Normal", "reason": "Bound", "message": "bound", "lastTimestamp": "2026-01-01T00:00:02Z",
        "involvedObject": {"kind": "Session", "name": "s1"},
    }));
    gateway.cluster.put_event(json!({"involvedObject": {"kind": "Pod", "name": "other"}}));
    let told = gateway.ask("GET", DIAGNOSE, None).await;
    assert_eq!(told.status, 200);
    let told = told.body;
    assert_eq!(codes(&told), [] as [&str; 0], "{told}");
    assert_eq!((&told["session"]["status"], &told["session"]["id"]), (&json!("ready"), &json!("s1")));
    assert_eq!((&told["agent"]["model"], &told["pool"]), (&json!("m"), &Value::Null));
    assert_eq!((&told["pod"]["ready"], &told["pod"]["node"]), (&json!(true), &json!("n")));
    assert_eq!(told["pod"]["containers"][0]["now"], json!({"state": "running"}));
    assert_eq!(told["sandbox"]["name"], "pool-1");
    assert_eq!(
        (&told["harness_probe"]["reachable"], &told["harness_probe"]["serves_session"]),
        (&json!(true), &json!(true))
    );
    let reasons: Vec<&Value> =
        told["events"].as_array().unwrap().iter().map(|event| &event["reason"]).collect();
    assert_eq!(reasons, ["Bound", "Pulled"], "the latest first, and nobody else's");
    assert_eq!(told["events"][1]["object"], "Pod/pool-1");
    assert_eq!(gateway.ask("GET", "/sessions/none/diagnose", None).await.error(), (404, "not_found"));
}

#[tokio::test]
async fn a_session_that_cannot_start_is_explained() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let frozen = json!({"name": "helper", "uid": "u", "spec": agent("warm")});
    gateway.cluster.put_status(
        "s1",
        json!({"phase": "Creating", "step": "starting_pod", "reason": "PodStarting", "message": "waiting", "incarnation": 1,
            "agent": frozen, "sandbox": {"name": "cold", "uid": "u"}}),
    );
    gateway.cluster.put_pool("warm", 0);
    gateway.cluster.put_sandbox("cold", "agent");
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image reg/x:1"}});
    gateway.cluster.put_pod(json!({
        "metadata": {"name": "cold", "uid": "p"},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "agent", "state": waiting}]},
    }));
    let told = gateway.ask("GET", DIAGNOSE, None).await.body;
    assert_eq!(codes(&told), ["image_pull_failed", "pool_empty"]);
    let issue = &told["detected_issues"][0];
    assert_eq!(issue["severity"], "high");
    assert!(issue["message"].as_str().unwrap().contains("reg/x:1"), "{issue}");
    assert!(issue["recommended_action"].as_str().unwrap().contains("pull secret"), "{issue}");
    assert_eq!(told["harness_probe"], Value::Null);
    assert_eq!((&told["pool"]["name"], &told["pool"]["ready_replicas"]), (&json!("warm"), &json!(0)));
    assert_eq!(told["agent"], json!({"exists": false, "name": "helper"}));
}

#[tokio::test]
async fn the_pool_of_an_agent_that_names_none_is_found() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.cluster.put_pool("warm", 0);
    gateway.cluster.put_pool("lukewarm", 0);
    let mut spec = agent("");
    spec.as_object_mut().unwrap().remove("poolRef");
    for (harness, pool) in [("opencode", json!("lukewarm")), ("other", Value::Null)] {
        spec["harness"] = json!(harness);
        let frozen = json!({"name": "helper", "uid": "u", "spec": spec});
        gateway
            .cluster
            .put_status("s1", json!({"phase": "Creating", "reason": "PodStarting", "agent": frozen}));
        let told = gateway.ask("GET", DIAGNOSE, None).await.body;
        assert_eq!(told["pool"]["name"], pool, "of two that suit it is the first by name: {told}");
    }
}

#[tokio::test]
async fn no_environment_prompt_or_spec_is_shown() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let mut session =
        super::support::session("s1", gateway.cluster.session("s1").status.map(|s| json!(s)).unwrap());
    session["spec"]["prompt"] = json!("a-secret-prompt");
    session["spec"]["env"] = json!([{"name": "TOKEN", "value": "a-plain-secret"}]);
    session["status"]["agent"] = json!({"name": "helper", "uid": "u", "spec": agent("warm")});
    gateway.cluster.put(session);
    gateway.cluster.put_agent("helper");
    gateway.cluster.put_sandbox("pool-1", "agent");
    gateway.cluster.put_pool("warm", 1);
    let told = gateway.ask("GET", DIAGNOSE, None).await.body;
    assert_eq!((&told["sandbox"]["exists"], &told["pool"]["exists"]), (&json!(true), &json!(true)));
    let text = told.to_string();
    for secret in ["a-plain-secret", "a-secret-prompt", "TOKEN"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said_in_its_place() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    gateway.cluster.fail_looks(WriteError::Rejected {
        status: 403,
        reason: "Forbidden".to_owned(),
        message: "not allowed".to_owned(),
    });
    gateway.cluster.fail_next_pod_read(|_| Some(WriteError::Unavailable("down".into())));
    gateway.cluster.fail_next_read(|_| Some(WriteError::Unavailable("down".into())));
    runner.script(Script::Hello);
    let told = gateway.ask("GET", DIAGNOSE, None).await;
    assert_eq!(told.status, 200, "the session as it was last known: {told:?}");
    let told = told.body;
    for part in ["pod", "sandbox", "events"] {
        // The pool is not known without the agent.
        assert!(told[part]["error"].is_string(), "{part}: {told}");
    }
    assert_eq!(told["session"]["id"], "s1");
    let probe = &told["harness_probe"];
    assert_eq!((&probe["reachable"], &probe["serves_session"]), (&json!(true), &json!(false)));
    assert_eq!(codes(&told), ["agent_missing", "runner_refuses", "not_read"]);
    let message = told["detected_issues"][2]["message"].as_str().unwrap();
    assert!(message.contains("sandbox: ") && message.contains("not allowed"), "{message}");
}

#[tokio::test]
async fn a_runner_that_nobody_reaches_is_told() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.cluster.put_agent("helper");
    let nowhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    gateway.cluster.put_status("s1", super::runner::ready_status(nowhere, "pod-1"));
    let told = gateway.ask("GET", DIAGNOSE, None).await.body;
    assert_eq!(told["harness_probe"]["reachable"], false);
    assert_eq!(codes(&told), ["pod_lost", "runner_silent"], "and its pod does not exist");
}
