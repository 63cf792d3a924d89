use serde_json::{Value, json};

use super::*;

fn seen(status: Value) -> Seen {
    let session = serde_json::from_value(json!({
        "apiVersion": "paddock.dev/v1alpha1", "kind": "Session", "metadata": {"name": "s", "uid": "u"},
        "spec": {"agentRef": {"name": "a"}}, "status": status,
    }))
    .unwrap();
    Seen {
        session,
        agent: Part::Unnamed,
        pod: Part::Unnamed,
        sandbox: Part::Unnamed,
        pool: Part::Unnamed,
        events: Part::Found(Vec::new()),
        probe: Part::Unnamed,
    }
}

fn creating() -> Seen {
    seen(json!({"phase": "Creating", "reason": "PodStarting"}))
}

fn with_pod(status: Value) -> Seen {
    let pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status})).unwrap();
    Seen { pod: Part::Found(pod), ..creating() }
}

fn with_container(container: Value) -> Seen {
    with_pod(json!({"phase": "Pending", "containerStatuses": [container]}))
}

/// The codes found, and the message of the first.
#[track_caller]
fn only(seen: &Seen, code: IssueCode, message: &str) {
    let issues = detect(seen);
    assert_eq!(issues.iter().map(|issue| issue.code).collect::<Vec<_>>(), [code]);
    assert!(issues[0].message.contains(message), "{:?}", issues[0]);
    assert!(!issues[0].recommended_action.is_empty());
}

fn pool(replicas: i32, ready: i32, annotations: Value) -> Part<SandboxWarmPool> {
    let pool = json!({
        "metadata": {"name": "warm", "annotations": annotations},
        "spec": {"replicas": replicas, "sandboxTemplateRef": {"name": "t"}},
        "status": {"replicas": ready, "readyReplicas": ready},
    });
    Part::Found(serde_json::from_value(pool).unwrap())
}

#[test]
fn a_session_that_is_well_has_no_issue() {
    let mut well = seen(json!({"phase": "Ready", "reason": "Activated"}));
    well.probe = Part::Found(Probe::Serves { took_ms: 1 });
    well.pool = pool(2, 1, json!({}));
    let running = json!({"name": "harness", "ready": true, "state": {"running": {}}});
    well.pod = with_container(running).pod;
    assert_eq!(detect(&well), []);
    for reason in ["Stopped", "IdleTimeout", "SuspendRequested", "MaxLifetimeReached"] {
        assert_eq!(detect(&seen(json!({"phase": "Dead", "reason": reason}))), [], "{reason}");
    }
}

#[test]
fn images_that_cannot_be_pulled_are_found() {
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"] {
        let state = json!({"waiting": {"reason": reason, "message": "not found: reg/x:1"}});
        only(
            &with_container(json!({"name": "harness", "state": state})),
            IssueCode::ImagePullFailed,
            "reg/x:1",
        );
    }
    let status = json!({"phase": "Failed", "reason": "ImagePullFailed", "message": "no image x"});
    only(&seen(status), IssueCode::ImagePullFailed, "no image x");
}

#[test]
fn the_pods_own_word_comes_before_the_status_and_is_told_once() {
    let state = json!({"waiting": {"reason": "ErrImagePull", "message": "from the pod"}});
    let mut both = with_container(json!({"name": "harness", "state": state}));
    both.session =
        seen(json!({"phase": "Creating", "reason": "ImagePullFailed", "message": "from the status"})).session;
    only(&both, IssueCode::ImagePullFailed, "from the pod");
}

#[test]
fn pods_that_no_node_takes_are_found() {
    let pending = |reason: &str, message: &str| {
        let condition =
            json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message});
        with_pod(json!({"phase": "Pending", "conditions": [condition]}))
    };
    only(&pending("Unschedulable", "0/3 nodes"), IssueCode::Unschedulable, "0/3 nodes");
    only(&pending("SchedulingGated", ""), IssueCode::SchedulingGated, "pod p");
    let bound = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]});
    assert_eq!(detect(&with_pod(bound)), []);
}

#[test]
fn containers_that_were_killed_for_their_memory_are_found() {
    let killed = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
    for field in ["state", "lastState"] {
        let mut container = json!({"name": "harness", "state": {"running": {}}});
        container[field] = killed.clone();
        only(&with_container(container), IssueCode::OutOfMemory, "container harness");
    }
    only(&seen(json!({"phase": "Dead", "reason": "OOMKilled", "message": "x"})), IssueCode::OutOfMemory, "x");
}

#[test]
fn containers_that_do_not_stay_up_are_found() {
    let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}});
    let crashing = json!({"name": "harness", "restartCount": 4, "state": state});
    only(&with_container(crashing), IssueCode::CrashLoop, "4 times: back-off 40s");
    let state =
        json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"x\" not found"}});
    only(
        &with_container(json!({"name": "c", "state": state})),
        IssueCode::ContainerConfigError,
        "secret \"x\"",
    );
    let state = json!({"waiting": {"reason": "PodInitializing"}});
    assert_eq!(detect(&with_container(json!({"name": "c", "state": state}))), []);
    let mut init = with_pod(json!({"initContainerStatuses": [
        {"name": "paddock-runner", "state": {"waiting": {"reason": "ErrImagePull"}}}]}));
    init.probe = Part::Unnamed;
    only(&init, IssueCode::ImagePullFailed, "paddock-runner");
}

#[test]
fn a_pool_without_ready_members_is_told_where_it_shall_have_some() {
    let with = |pool| Seen { pool, ..creating() };
    only(&with(pool(2, 0, json!({}))), IssueCode::PoolEmpty, "pool warm");
    only(&with(pool(0, 0, json!({labels::MAX_REPLICAS: "5"}))), IssueCode::PoolEmpty, "pool warm");
    assert_eq!(detect(&with(pool(0, 0, json!({})))), []);
    only(&with(Part::Missing("warm".into())), IssueCode::PoolMissing, "pool warm does not exist");
}

#[test]
fn an_agent_is_missed_until_the_session_has_its_rules() {
    let mut orphan = creating();
    orphan.agent = Part::Missing("a".into());
    only(&orphan, IssueCode::AgentMissing, "agent a does not exist");
    orphan.session = seen(json!({"phase": "Ready", "agent": {"name": "a", "uid": "u"}})).session;
    assert_eq!(detect(&orphan), []);
}

#[test]
fn what_the_agent_says_of_its_pool_is_told() {
    for (reason, code) in
        [("PoolNotFound", IssueCode::PoolMissing), ("TemplateNotFound", IssueCode::TemplateMissing)]
    {
        let agent = json!({
            "metadata": {"name": "a"}, "spec": {"model": "m"},
            "status": {"conditions": [{"type": "PoolReady", "status": "False", "reason": reason,
                "message": "as told", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        let seen = Seen { agent: Part::Found(serde_json::from_value(agent).unwrap()), ..creating() };
        only(&seen, code, "as told");
    }
}

#[test]
fn a_transcript_that_is_not_stored_is_told() {
    let with = |status: &str, reason: &str| {
        let condition = json!({"type": "TranscriptSaved", "status": status, "reason": reason,
            "message": "look at the gateway's log", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        seen(json!({"phase": "Ready", "reason": "Activated", "conditions": [condition]}))
    };
    only(&with("False", "Saving"), IssueCode::TranscriptNotSaved, "look at the gateway's log");
    assert_eq!(detect(&with("True", "Saved")), []);
    assert_eq!(detect(&with("False", "PodLost")), []);
}

#[test]
fn what_a_session_waits_for_is_told_in_its_own_words() {
    for (reason, code) in [
        ("QuotaExceeded", IssueCode::QuotaExceeded),
        ("MaxSessionsReached", IssueCode::MaxSessionsReached),
        ("Unschedulable", IssueCode::Unschedulable),
        ("PodRejected", IssueCode::PodRejected),
        ("StartupTimeout", IssueCode::StartupTimeout),
        ("ActivationRejected", IssueCode::ActivationRejected),
        ("ActivationFailed", IssueCode::ActivationFailed),
        ("WorkspaceLost", IssueCode::WorkspaceLost),
        ("TemplateNotFound", IssueCode::TemplateMissing),
        ("RecoveryExhausted", IssueCode::CrashLoop),
        ("NodeLost", IssueCode::PodLost),
    ] {
        only(&seen(json!({"phase": "Creating", "reason": reason, "message": "so it is"})), code, "so it is");
    }
}

#[test]
fn a_runner_that_does_not_answer_or_serves_another_is_told() {
    let with =
        |probe| Seen { probe: Part::Found(probe), ..seen(json!({"phase": "Ready", "reason": "Activated"})) };
    only(&with(Probe::Silent("refused".into())), IssueCode::RunnerSilent, "refused");
    only(&with(Probe::Refuses("HTTP 401".into())), IssueCode::RunnerRefuses, "HTTP 401");
    let mut gone = seen(json!({"phase": "Ready", "reason": "Activated"}));
    gone.pod = Part::Missing("p".into());
    only(&gone, IssueCode::PodLost, "pod p does not exist");
    gone.session = creating().session;
    assert_eq!(detect(&gone), [], "a pod that is still to come is not missed");
}

#[test]
fn what_could_not_be_read_is_told_together_and_last() {
    let mut blind = seen(json!({"phase": "Creating", "reason": "QuotaExceeded", "message": "full"}));
    blind.pod = Part::Unread("forbidden".into());
    blind.events = Part::Unread("no answer".into());
    blind.pool = pool(1, 0, json!({}));
    let codes: Vec<_> = detect(&blind).iter().map(|issue| (issue.severity, issue.code)).collect();
    assert_eq!(
        codes,
        [
            (Severity::High, IssueCode::QuotaExceeded),
            (Severity::Med, IssueCode::NotRead),
            (Severity::Info, IssueCode::PoolEmpty)
        ]
    );
    let issues = detect(&blind);
    assert!(issues[1].message.ends_with("pod: forbidden; events: no answer"), "{issues:?}");
}
