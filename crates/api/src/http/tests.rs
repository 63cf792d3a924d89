//! What clients read, as whole values.

use serde_json::{Value, json};

use super::*;
use crate::agent::Agent;
use crate::session::Session;

fn session(value: Value) -> Session {
    let mut whole = json!({
        "apiVersion": "paddock.dev/v1alpha1", "kind": "Session",
        "metadata": {"name": "s1", "creationTimestamp": "2026-01-02T03:04:05Z"},
    });
    whole["spec"] = value["spec"].clone();
    whole["status"] = value["status"].clone();
    serde_json::from_value(whole).unwrap()
}

#[test]
fn a_new_session_is_creating_and_what_it_lacks_is_null() {
    let fresh = session(json!({"spec": {"agentRef": {"name": "helper"}}, "status": null}));
    assert_eq!(
        serde_json::to_value(ApiSession::new(&fresh, None)).unwrap(),
        json!({
            "id": "s1", "agent_id": "helper", "sandbox_url": null, "harness_session_id": null,
            "tty_url": null, "tty_token": null, "supports_tui": false, "status": "creating",
            "task_arn": null, "response": null, "created_at": "2026-01-02T03:04:05Z",
            "last_seen_at": null, "idle_timeout_ms": null, "failure_reason": null,
            "phase": "creating_sandbox", "phase_detail": null, "origin": null, "title_preview": null,
            "sandboxes": {}, "title": null, "turns": 0, "incarnation": 0,
        })
    );
}

#[test]
fn a_ready_terminal_session_tells_where_to_attach() {
    let ready = session(json!({
        "spec": {"agentRef": {"name": "a"}, "title": "x".repeat(100)},
        "status": {"phase": "Ready", "endpoint": "10.0.0.1:7070", "incarnation": 2,
            "sandbox": {"name": "pool-1", "uid": "u"}, "harnessSessionId": "ses_1",
            "capabilities": {"messages": false, "terminal": true}},
    }));
    let seen = ApiSession::new(&ready, None);
    assert_eq!(seen.tty_url.as_deref(), Some("/api/v1/managed_agents/sessions/s1/tty"));
    assert_eq!((seen.phase, seen.status), (Some(ApiPhase::Ready), ApiStatus::Ready));
    assert_eq!(seen.title_preview.unwrap().len(), 60);
    assert_eq!((seen.task_arn.as_deref(), seen.incarnation), (Some("pool-1"), 2));
}

#[test]
fn failures_are_told_and_a_stop_is_not_one() {
    let failed = session(json!({"spec": {"agentRef": {"name": "a"}},
        "status": {"phase": "Failed", "reason": "CrashLoop", "message": "see the logs"}}));
    let seen = ApiSession::new(&failed, None);
    assert_eq!(seen.failure_reason.as_deref(), Some("CrashLoop: see the logs"));
    assert_eq!((seen.phase, seen.status), (None, ApiStatus::Failed));
    let stopping = session(
        json!({"spec": {"agentRef": {"name": "a"}, "state": "Stopped"}, "status": {"phase": "Ready"}}),
    );
    let seen = ApiSession::new(&stopping, None);
    assert_eq!((seen.failure_reason, seen.status), (None, ApiStatus::Dead));
}

#[test]
fn values_of_environment_variables_never_get_out() {
    let agent: Agent = serde_json::from_value(json!({
        "apiVersion": "paddock.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "a"},
        "spec": {"model": "m", "env": [{"name": "TOKEN", "value": "hunter2"}]},
    }))
    .unwrap();
    let text = serde_json::to_string(&ApiAgent::new(&agent)).unwrap();
    assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
}

#[test]
fn every_code_is_written_as_its_word() {
    for code in [ErrorCode::NotFound, ErrorCode::TurnLost, ErrorCode::UnsupportedMediaType] {
        assert_eq!(serde_json::to_value(code).unwrap(), json!(code.as_str()));
    }
}
