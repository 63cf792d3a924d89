//! `POST /sessions/{id}/suspend`, `/resume`, `/restart` and `/stop`: what the controller is told, and what clients are.

use std::sync::Arc;

use paddock_api::Session;
use paddock_api::session::DesiredState;
use paddock_kubeio::write::WriteError;
use serde_json::{Value, json};

use super::cluster::Watch;
use super::runner::FakeRunner;
use super::support::{Reply, TestGateway, session, soon};

pub const SUSPENDED: &str = "SuspendRequested";

/// The status of a session that rests.
pub fn suspended() -> Value {
    json!({"phase": "Suspended", "reason": SUSPENDED, "incarnation": 1, "capabilities": {"messages": true, "terminal": false}})
}

/// The status of a session whose next pod is starting.
pub fn coming_back() -> Value {
    json!({"phase": "Creating", "reason": "Resuming", "incarnation": 2})
}

/// The status of a session that has `runner` as its `incarnation`-th pod.
pub fn ready(runner: &FakeRunner, incarnation: u32) -> Value {
    let mut status = runner.ready_status();
    status["incarnation"] = json!(incarnation);
    status
}

/// Returns once the gateway knows that session `s1` is as said.
pub async fn when(gateway: &TestGateway, as_said: impl Fn(&Session) -> bool) {
    let never = tokio::time::Instant::now() + std::time::Duration::from_secs(3600);
    let seen = gateway.gateway.index.session_when("s1", never, |s| s.is_some_and(&as_said));
    soon(seen).await.unwrap();
}

/// The session shall be in this state.
pub fn told(state: DesiredState) -> impl Fn(&Session) -> bool {
    move |session| session.spec.state == state
}

async fn post(gateway: &TestGateway, action: &str) -> Reply {
    gateway.ask("POST", &format!("/sessions/s1/{action}"), None).await
}

fn says(reply: &Reply, text: &str) -> bool {
    reply.body["error"].as_str().unwrap().contains(text)
}

/// A gateway with a suspended session `s1`, and the runner of its next pod.
pub async fn with_suspended_session() -> (TestGateway, FakeRunner) {
    let gateway = TestGateway::start().await;
    let mut object = session("s1", suspended());
    object["spec"]["state"] = json!("Suspended");
    gateway.cluster.put(object);
    (gateway, FakeRunner::start("pod-2").await)
}

#[tokio::test]
async fn a_session_is_suspended_and_the_answer_comes_when_it_is() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let controller = async {
        when(&gateway, told(DesiredState::Suspended)).await;
        gateway.cluster.put_status("s1", suspended());
    };
    let (reply, ()) = tokio::join!(post(&gateway, "suspend"), controller);
    assert_eq!(
        (reply.status, &reply.body["status"], &reply.body["id"]),
        (200, &json!("suspended"), &json!("s1"))
    );
    assert_eq!((&reply.body["sandbox_url"], &reply.body["phase"]), (&Value::Null, &Value::Null));
    assert_eq!(gateway.cluster.patches(), [json!({"spec": {"state": "Suspended"}})]);

    let again = post(&gateway, "suspend").await;
    assert_eq!((again.status, &again.body["status"]), (200, &json!("suspended")));
    assert_eq!(gateway.cluster.patches().len(), 1);
    gateway.put_session("other", json!({"phase": "Dead"}));
    let listed = gateway.ask("GET", "/sessions?status=suspended", None).await;
    assert_eq!(listed.body, json!([again.body]));
}

#[tokio::test]
async fn what_is_not_ready_is_not_suspended_and_says_why() {
    let gateway = TestGateway::start().await;
    for (status, expected, text) in [
        (json!({"phase": "Creating"}), (409, "creating"), "wait until it is ready"),
        (
            json!({"phase": "Failed", "message": "the image is missing"}),
            (404, "failed"),
            "the image is missing",
        ),
        (json!({"phase": "Dead", "reason": "Deleted"}), (404, "dead"), "/sessions/s1/restart"),
    ] {
        gateway.put_session("s1", status);
        let reply = post(&gateway, "suspend").await;
        assert_eq!(reply.error(), expected);
        assert!(says(&reply, text), "{reply:?}");
    }
    for action in ["suspend", "resume", "restart", "stop"] {
        let path = format!("/sessions/none/{action}");
        assert_eq!(gateway.ask("POST", &path, None).await.error(), (404, "not_found"));
        let reply = gateway.ask("GET", &path, None).await;
        assert_eq!((reply.error(), reply.header("allow")), ((405, "method_not_allowed"), "POST"));
        let bad = format!("/sessions/s1/{action}?wait=soon");
        assert!(action == "stop" || gateway.ask("POST", &bad, None).await.status == 400, "{action}");
    }
    assert!(gateway.cluster.patches().is_empty());
}

#[tokio::test]
async fn a_session_that_cannot_be_suspended_stays_as_it_was() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let mut refusal = runner.ready_status();
    refusal["reason"] = json!("WorkspaceNotPersistent");
    refusal["message"] = json!("the workspace is Ephemeral");
    let controller = async {
        when(&gateway, told(DesiredState::Suspended)).await;
        gateway.cluster.put_status("s1", refusal.clone());
    };
    let (reply, ()) = tokio::join!(post(&gateway, "suspend"), controller);
    assert_eq!(reply.error(), (409, "workspace_not_persistent"));
    assert!(says(&reply, "the workspace is Ephemeral"), "{reply:?}");
    assert_eq!(gateway.cluster.session("s1").spec.state, DesiredState::Running);

    // What somebody else has asked for is not taken back, and is in nobody's way.
    gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
    assert_eq!(post(&gateway, "suspend").await.error(), (409, "workspace_not_persistent"));
    assert_eq!(gateway.cluster.session("s1").spec.state, DesiredState::Suspended);
    assert_eq!((gateway.message("s1", "hi").await.status, runner.count()), (200, 1));
    let resumed = post(&gateway, "resume").await;
    assert_eq!((resumed.status, &resumed.body["status"]), (200, &json!("ready")));
    assert_eq!(gateway.cluster.session("s1").spec.state, DesiredState::Running);
}

#[tokio::test]
async fn what_takes_longer_than_the_client_waits_goes_on() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    for action in ["suspend", "resume", "restart"] {
        gateway
            .cluster
            .put_spec("s1", &json!({"state": if action == "resume" { "Suspended" } else { "Running" }}));
        gateway
            .cluster
            .put_status("s1", if action == "resume" { suspended() } else { json!({"phase": "Ready"}) });
        let reply = post(&gateway, &format!("{action}?wait=0s")).await;
        assert_eq!(reply.error(), (504, "wait_expired"), "{action}");
        assert!(
            says(&reply, "GET /api/v1/managed_agents/sessions/s1")
                && reply.headers.contains_key("retry-after")
        );
    }
    let patches = gateway.cluster.patches();
    assert_eq!(patches[0], json!({"spec": {"state": "Suspended"}}));
    assert_eq!(patches[1], json!({"spec": {"state": "Running"}}));
    assert!(patches[2]["spec"]["restartedAt"].is_string());
}

#[tokio::test]
async fn what_was_done_is_read_though_the_watch_is_cut() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
    gateway.cluster.put_status("s1", suspended());
    let reply = post(&gateway, "suspend?wait=0s").await;
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("suspended")));
    gateway.cluster.put_status("s1", json!({"phase": "Dead"}));
    gateway.cluster.put_spec("s1", &json!({"state": "Running"}));
    gateway.cluster.put_status("s1", runner.ready_status());
    assert_eq!(post(&gateway, "resume?wait=0s").await.body["status"], "ready");
}

#[tokio::test]
async fn whoever_decides_otherwise_meanwhile_has_decided() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let kubectl = async {
        when(&gateway, told(DesiredState::Suspended)).await;
        gateway.cluster.put_spec("s1", &json!({"state": "Running"}));
    };
    let (reply, ()) = tokio::join!(post(&gateway, "suspend"), kubectl);
    assert_eq!(reply.error(), (409, "superseded"));

    for (state, status) in [("Suspended", suspended()), ("Stopped", json!({"phase": "Dead"}))] {
        gateway.put_session("s1", runner.ready_status());
        let others = async {
            when(&gateway, |session| session.spec.restarted_at.is_some()).await;
            let restarted = gateway.cluster.session("s1").spec.restarted_at;
            gateway.cluster.put_spec("s1", &json!({"state": state}));
            let mut status = status;
            status["restartedAt"] = json!(restarted);
            gateway.cluster.put_status("s1", status);
        };
        let (reply, ()) = tokio::join!(post(&gateway, "restart"), others);
        assert_eq!(reply.error(), (409, "superseded"), "{state}");
    }
}

#[tokio::test]
async fn a_suspended_session_is_resumed_and_the_answer_comes_when_it_is_ready() {
    let (gateway, runner) = with_suspended_session().await;
    let controller = async {
        when(&gateway, told(DesiredState::Running)).await;
        assert_eq!(gateway.ask("GET", "/sessions/s1", None).await.body["status"], "creating");
        assert_eq!(post(&gateway, "suspend").await.error(), (409, "creating"));
        gateway.cluster.put_status("s1", coming_back());
        tokio::task::yield_now().await;
        gateway.cluster.put_status("s1", ready(&runner, 2));
    };
    let (reply, ()) = tokio::join!(post(&gateway, "resume"), controller);
    assert_eq!(
        (reply.status, &reply.body["status"], &reply.body["incarnation"]),
        (200, &json!("ready"), &json!(2))
    );
    assert_eq!(post(&gateway, "resume").await.status, 200);
    assert_eq!(gateway.cluster.patches(), [json!({"spec": {"state": "Running"}})]);
}

#[tokio::test]
async fn a_resumption_waits_for_a_pod_that_is_being_given_up() {
    let (gateway, _leaving) = TestGateway::with_ready_session().await;
    let next = FakeRunner::start("pod-2").await;
    gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
    let resuming = post(&gateway, "resume");
    tokio::pin!(resuming);
    // It has asked by now whatever it would ask.
    for _ in 0..100 {
        tokio::select! {
            reply = &mut resuming => panic!("{reply:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    let controller = async {
        gateway.cluster.put_status("s1", suspended());
        when(&gateway, told(DesiredState::Running)).await;
        gateway.cluster.put_status("s1", ready(&next, 2));
    };
    assert!(gateway.cluster.patches().is_empty());
    let (reply, ()) = tokio::join!(resuming, controller);
    assert_eq!((reply.status, &reply.body["incarnation"]), (200, &json!(2)));
    assert_eq!(gateway.cluster.patches(), [json!({"spec": {"state": "Running"}})]);
}

#[tokio::test]
async fn nobody_is_refused_on_the_index_s_word_alone() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for action in ["suspend", "resume", "restart"] {
        for phase in ["Creating", "Dead"] {
            gateway.put_session("s1", json!({"phase": phase}));
            gateway.cluster.set_watch(Watch::Cut);
            gateway.cluster.put_status("s1", runner.ready_status());
            let status = post(&gateway, &format!("{action}?wait=0s")).await.status;
            assert!(matches!(status, 200 | 504), "{action} {phase}: {status}");
            gateway.cluster.set_watch(Watch::Live);
        }
    }
}

#[tokio::test]
async fn a_start_that_fails_is_told_with_its_reason() {
    let (gateway, _runner) = with_suspended_session().await;
    let failed = json!({"phase": "Failed", "reason": "WorkspaceLost", "message": "the volume is gone"});
    let controller = async {
        when(&gateway, told(DesiredState::Running)).await;
        gateway.cluster.put_status("s1", failed.clone());
    };
    let (reply, ()) = tokio::join!(post(&gateway, "resume"), controller);
    assert_eq!(reply.error(), (502, "start_failed"));
    assert!(says(&reply, "the volume is gone"), "{reply:?}");
    assert_eq!(post(&gateway, "resume").await.error(), (404, "failed"));

    let controller = async {
        when(&gateway, |session| session.restart_wanted()).await;
        let mut failed = failed.clone();
        failed["restartedAt"] = json!(gateway.cluster.session("s1").spec.restarted_at);
        gateway.cluster.put_status("s1", failed);
    };
    let (reply, ()) = tokio::join!(post(&gateway, "restart"), controller);
    assert_eq!(reply.error(), (502, "start_failed"));
    assert!(says(&reply, "the volume is gone"), "{reply:?}");
}

/// Gives `s1` a new pod when it is asked for one.
pub async fn restarts(gateway: &TestGateway, runner: &FakeRunner, incarnation: u32) {
    when(gateway, |session| session.restart_wanted()).await;
    let wanted = json!(gateway.cluster.session("s1").spec.restarted_at);
    let mut status = coming_back();
    status["restartedAt"] = wanted.clone();
    gateway.cluster.put_status("s1", status);
    tokio::task::yield_now().await;
    let mut status = ready(runner, incarnation);
    status["restartedAt"] = wanted;
    gateway.cluster.put_status("s1", status);
}

#[tokio::test]
async fn a_session_in_any_state_but_creating_is_restarted() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let next = FakeRunner::start("pod-2").await;
    let mut before = None;
    for (state, status) in [
        ("Running", runner.ready_status()),
        ("Suspended", suspended()),
        ("Running", json!({"phase": "Failed", "reason": "CrashLoop"})),
        ("Running", json!({"phase": "Dead", "reason": "Deleted"})),
        ("Stopped", json!({"phase": "Dead", "reason": "Stopped"})),
        ("Stopped", runner.ready_status()),
        ("Suspended", runner.ready_status()),
    ] {
        let mut status = status;
        status["restartedAt"] = json!(before);
        gateway.cluster.put_spec("s1", &json!({"state": state}));
        gateway.cluster.put_status("s1", status.clone());
        let (reply, ()) = tokio::join!(post(&gateway, "restart"), restarts(&gateway, &next, 2));
        assert_eq!((reply.status, &reply.body["status"]), (200, &json!("ready")), "{state} {status}");
        assert_eq!((&reply.body["id"], &reply.body["incarnation"]), (&json!("s1"), &json!(2)));
        let spec = gateway.cluster.session("s1").spec;
        assert_eq!(spec.state, DesiredState::Running);
        assert!(spec.restarted_at > before, "{:?} after {before:?}", spec.restarted_at);
        before = spec.restarted_at;
        assert_eq!(gateway.message("s1", "hi").await.status, 200);
    }
    assert_eq!((runner.count(), next.count()), (0, 7));
}

#[tokio::test]
async fn of_two_restarts_at_once_one_is_done() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let next = FakeRunner::start("pod-2").await;
    let both = async { tokio::join!(post(&gateway, "restart"), post(&gateway, "restart")) };
    let controller = async {
        when(&gateway, |session| session.restart_wanted()).await;
        // Both have looked once the other one is refused.
        soon(async {
            while !gateway.gateway.metrics.encode().contains(r#"errors_total{reason="creating"} 1"#) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        restarts(&gateway, &next, 2).await;
    };
    let ((one, two), ()) = tokio::join!(both, controller);
    let (done, refused) = if one.status == 200 { (one, two) } else { (two, one) };
    assert_eq!((done.status, refused.error()), (200, (409, "creating")));
    assert_eq!(gateway.cluster.patches().len(), 1);
    gateway.put_session("s1", json!({"phase": "Creating"}));
    assert_eq!(post(&gateway, "restart").await.error(), (409, "creating"));
}

#[tokio::test]
async fn a_rival_s_restart_that_the_index_does_not_know_yet_counts() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.put_spec("s1", &json!({"restartedAt": "2026-01-01T00:00:00Z"}));
    assert_eq!(post(&gateway, "restart").await.error(), (409, "creating"));
    assert!(gateway.cluster.patches().is_empty());
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_and_the_wish_is_not_repeated() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let next = FakeRunner::start("pod-2").await;
    gateway.cluster.fail_next_patch(|_| Some(WriteError::Unavailable("cut".into())));
    let (reply, ()) = tokio::join!(post(&gateway, "restart"), restarts(&gateway, &next, 2));
    assert_eq!((reply.status, gateway.cluster.patches().len()), (200, 1));
    gateway.cluster.fail_next_patch(|_| Some(WriteError::Throttled { retry_after: None }));
    assert_eq!(post(&gateway, "restart").await.error(), (503, "cluster_unavailable"));
}

#[tokio::test]
async fn a_stop_is_a_delete_and_a_restart_the_way_back() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let stopped = post(&gateway, "stop").await;
    assert_eq!((stopped.status, stopped.body), (200, json!({"id": "s1", "status": "deleted"})));
    assert_eq!(gateway.cluster.session("s1").spec.state, DesiredState::Stopped);
    assert_eq!(post(&gateway, "stop").await.body, json!({"id": "s1", "status": "dead"}));
    let reply = gateway.message("s1", "hi").await;
    assert_eq!(reply.error(), (404, "dead"));
    assert!(says(&reply, "POST /api/v1/managed_agents/sessions/s1/restart"), "{reply:?}");
    assert_eq!(post(&gateway, "resume").await.error(), (404, "dead"));

    // Another replica has restarted it, and this one's watch is behind.
    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.put_spec("s1", &json!({"state": "Running", "restartedAt": "2026-01-01T00:00:00Z"}));
    assert_eq!(post(&gateway, "stop").await.body["status"], "deleted");
}

#[tokio::test]
async fn a_session_shows_its_use_and_its_rules() {
    let gateway = Arc::new(TestGateway::start().await);
    let runner = FakeRunner::start("pod-1").await;
    let mut status = runner.ready_status();
    status["lastActivityTime"] = json!("2026-02-03T04:05:06Z");
    status["turns"] = json!({"total": 7, "running": 1});
    gateway.put_session("s1", status);
    let shown = async || gateway.ask("GET", "/sessions/s1", None).await.body;
    let seen = shown().await;
    assert_eq!((&seen["last_seen_at"], &seen["turns"]), (&json!("2026-02-03T04:05:06Z"), &json!(7)));
    assert_eq!(seen["idle_timeout_ms"], Value::Null);
    gateway.cluster.put_agent_with("helper", &json!({"idleTimeout": "15m"}));
    assert_eq!(shown().await["idle_timeout_ms"], 900_000);
    let listed = gateway.ask("GET", "/sessions", None).await.body;
    assert_eq!(listed[0]["idle_timeout_ms"], 900_000);
    gateway.cluster.put_spec("s1", &json!({"lifecycle": {"idleTimeout": "0s"}}));
    assert_eq!(shown().await["idle_timeout_ms"], Value::Null);
}
