//! What clients read, as whole values.

use serde_json::{Value, json};

use super::*;
use crate::agent::{Agent, AgentSpec};
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
        serde_json::to_value(ApiSession::new(&fresh, None, None)).unwrap(),
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
    let seen = ApiSession::new(&ready, None, None);
    assert_eq!(seen.tty_url.as_deref(), Some("/api/v1/managed_agents/sessions/s1/tty"));
    assert_eq!((seen.phase, seen.status), (Some(ApiPhase::Ready), ApiStatus::Ready));
    assert_eq!(seen.title_preview.unwrap().len(), 60);
    assert_eq!((seen.task_arn.as_deref(), seen.incarnation), (Some("pool-1"), 2));
}

#[test]
fn what_a_pod_is_doing_is_told_in_the_words_that_clients_know() {
    for (step, phase) in [
        ("starting_pod", "pod_pending"),
        ("activating", "waiting_harness"),
        ("cloning_repo", "cloning_repo"),
        ("writing_files", "cloning_repo"),
        ("installing_requirements", "installing_deps"),
        ("connecting_mcp", "harness_ready"),
        ("opening_harness", "harness_ready"),
    ] {
        let status = json!({"phase": "Creating", "step": step, "message": "at work"});
        let session = session(json!({"spec": {"agentRef": {"name": "a"}}, "status": status}));
        let seen = serde_json::to_value(ApiSession::new(&session, None, None)).unwrap();
        assert_eq!((&seen["phase"], &seen["phase_detail"]), (&json!(phase), &json!("at work")), "{step}");
    }
}

#[test]
fn failures_are_told_and_a_stop_is_not_one() {
    let failed = session(json!({"spec": {"agentRef": {"name": "a"}},
        "status": {"phase": "Failed", "reason": "CrashLoop", "message": "see the logs"}}));
    let seen = ApiSession::new(&failed, None, None);
    assert_eq!(seen.failure_reason.as_deref(), Some("CrashLoop: see the logs"));
    assert_eq!((seen.phase, seen.status), (None, ApiStatus::Failed));
    let stopping = session(
        json!({"spec": {"agentRef": {"name": "a"}, "state": "Stopped"}, "status": {"phase": "Ready"}}),
    );
    let seen = ApiSession::new(&stopping, None, None);
    assert_eq!((seen.failure_reason, seen.status), (None, ApiStatus::Dead));
}

#[test]
fn what_a_session_was_told_counts_before_the_controller_has_done_it() {
    let status =
        |spec: Value, status: Value| ApiStatus::of(&session(json!({"spec": spec, "status": status})));
    let resting = json!({"phase": "Suspended"});
    assert_eq!(status(json!({"state": "Suspended"}), resting.clone()), ApiStatus::Suspended);
    assert_eq!(status(json!({"state": "Running"}), resting.clone()), ApiStatus::Creating);
    assert_eq!(status(json!({"state": "Stopped"}), resting), ApiStatus::Dead);
    // It takes messages until it is suspended.
    assert_eq!(status(json!({"state": "Suspended"}), json!({"phase": "Ready"})), ApiStatus::Ready);
    let again = json!({"restartedAt": "2026-01-02T00:00:00Z"});
    for phase in ["Ready", "Suspended", "Failed", "Dead"] {
        assert_eq!(status(again.clone(), json!({"phase": phase})), ApiStatus::Creating, "{phase}");
    }
    let done = json!({"phase": "Ready", "restartedAt": "2026-01-02T00:00:00Z"});
    assert_eq!(status(again, done), ApiStatus::Ready);
}

#[test]
fn the_rules_are_the_session_s_own_then_those_it_has_frozen_then_the_agent_s() {
    let spec = |idle: &str| {
        serde_json::from_value::<AgentSpec>(json!({"model": "m", "lifecycle": {"idleTimeout": idle}}))
            .unwrap()
    };
    let saved = spec("3m");
    let idle = |whole: &Session, saved: Option<&AgentSpec>| {
        ApiSession::new(whole, whole.lifecycle(saved).as_ref(), None).idle_timeout_ms
    };
    let fresh = session(json!({"spec": {"agentRef": {"name": "a"}}, "status": null}));
    assert_eq!((idle(&fresh, Some(&saved)), idle(&fresh, None)), (Some(180_000), None));
    let bound = session(
        json!({"spec": {"agentRef": {"name": "a"}}, "status": {"agent": {"name": "a", "spec": spec("2m")}}}),
    );
    assert_eq!(idle(&bound, Some(&saved)), Some(120_000));
    let own =
        session(json!({"spec": {"agent": spec("2m"), "lifecycle": {"idleTimeout": "1m"}}, "status": null}));
    assert_eq!(idle(&own, None), Some(60_000));
    let never = session(json!({"spec": {"agent": spec("0s")}, "status": null}));
    assert_eq!(idle(&never, None), None);
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
fn an_agent_shows_what_http_clients_have_left_with_it() {
    let agent: Agent = serde_json::from_value(json!({
        "apiVersion": "paddock.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "a", "annotations": {"paddock.dev/branch": "dev", "paddock.dev/picture-url": "http://p"}},
        "spec": {"model": "m", "env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "t"}}}]},
    }))
    .unwrap();
    let seen = ApiAgent::new(&agent);
    assert_eq!((seen.branch.as_str(), seen.pfp_url.as_deref()), ("dev", Some("http://p")));
    assert_eq!(serde_json::to_value(&seen.env_vars).unwrap(), json!({"T": "***"}));
    let bare = ApiAgent::new(&Agent::new("b", AgentSpec::default()));
    assert_eq!((bare.branch.as_str(), bare.pfp_url), ("main", None));
}

#[test]
fn every_code_is_written_as_its_word() {
    for code in [
        ErrorCode::NotFound,
        ErrorCode::TurnLost,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::WorkspaceNotPersistent,
    ] {
        assert_eq!(serde_json::to_value(code).unwrap(), json!(code.as_str()));
    }
}
