//! Messages to sessions that are suspended, or on their way there: the client sees its reply, and a harness its turn
//! once.

use std::sync::Arc;

use paddock_api::Phase;
use paddock_api::session::DesiredState;
use paddock_runnerapi::ErrorCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::cluster::Watch;
use super::lifecycle::{coming_back, ready, suspended, told, when, with_suspended_session};
use super::runner::{FakeRunner, Script, ready_status};
use super::support::{Reply, TestGateway, soon};

const MESSAGE: &str = "/sessions/s1/message";

/// Resumes `s1` when it is asked to, with `runner` as the next pod.
async fn resumes(gateway: &TestGateway, runner: &FakeRunner) {
    when(gateway, told(DesiredState::Running)).await;
    gateway.cluster.put_status("s1", coming_back());
    tokio::task::yield_now().await;
    gateway.cluster.put_status("s1", ready(runner, 2));
}

/// Suspends `s1`, which was told so, and then does as [`resumes`].
async fn suspends_and_resumes(gateway: &TestGateway, runner: &FakeRunner) {
    gateway.cluster.put_status("s1", suspended());
    resumes(gateway, runner).await;
}

/// Returns once the gateway has read `s1` from the API server `count` times.
async fn read(gateway: &TestGateway, count: usize) {
    soon(async {
        while gateway.cluster.reads() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn text(reply: &Reply) -> &str {
    reply.body["parts"][0]["text"].as_str().unwrap_or_else(|| panic!("{reply:?}"))
}

#[tokio::test]
async fn a_message_resumes_its_session_and_is_answered() {
    let (gateway, runner) = with_suspended_session().await;
    let (reply, ()) = tokio::join!(gateway.message("s1", "good morning"), resumes(&gateway, &runner));
    assert_eq!((reply.status, text(&reply)), (200, "good morning"));
    assert_eq!(gateway.cluster.patches(), [json!({"spec": {"state": "Running"}})]);
    assert_eq!(reply.header("x-paddock-turn-id"), runner.seen(1).await[0].turn.id);
    assert!(gateway.gateway.metrics.encode().contains("sessions_resumed_by_message_total 1"));
}

#[tokio::test]
async fn of_the_harness_s_own_api_what_changes_something_resumes_it_too() {
    let (gateway, runner) = with_suspended_session().await;
    let ask = |method: &'static str, path: &str, body: Option<Value>| {
        let path = format!("/sessions/s1/opencode{path}");
        let gateway = &gateway;
        async move { gateway.ask(method, &path, body).await }
    };
    for (method, path) in
        [("GET", "/session"), ("POST", "/session/ses_1/abort"), ("POST", "/permission/p/reply")]
    {
        assert_eq!(ask(method, path, None).await.error(), (404, "suspended"), "{method} {path}");
    }
    assert_eq!(gateway.cluster.patches(), Vec::<Value>::new(), "reading and steering wake nobody");
    let made = ask("POST", "/session", Some(json!({})));
    let (made, ()) = tokio::join!(made, resumes(&gateway, &runner));
    assert_eq!((made.status, &made.body["path"]), (200, &json!("/session")), "{made:?}");
    assert_eq!(gateway.cluster.patches(), [json!({"spec": {"state": "Running"}})]);
}

#[tokio::test]
async fn many_messages_resume_it_once_and_each_has_its_own_reply() {
    let (gateway, runner) = with_suspended_session().await;
    let texts: Vec<String> = (0..8).map(|n| format!("message {n}")).collect();
    let messages = futures::future::join_all(texts.iter().map(|text| gateway.message("s1", text)));
    let controller = async {
        when(&gateway, told(DesiredState::Running)).await;
        gateway.cluster.put_status("s1", coming_back());
        // This one finds it creating already.
        let late = gateway.message("s1", "late");
        let then = async {
            read(&gateway, 9).await;
            gateway.cluster.put_status("s1", ready(&runner, 2));
        };
        tokio::join!(late, then).0
    };
    let (replies, late) = tokio::join!(messages, controller);
    for (reply, sent) in replies.iter().zip(&texts) {
        assert_eq!((reply.status, text(reply)), (200, sent.as_str()));
    }
    assert_eq!(text(&late), "late");
    assert_eq!(gateway.cluster.patches().len(), 1);
    assert_eq!(runner.count(), 9);
}

#[tokio::test]
async fn who_loses_the_race_to_resume_it_is_held_like_the_winner() {
    let (gateway, runner) = with_suspended_session().await;
    gateway.cluster.fail_next_patch(|cluster| {
        cluster.put_spec("s1", &json!({"state": "Running"}));
        None
    });
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), resumes(&gateway, &runner));
    assert_eq!((reply.status, runner.count()), (200, 1));
    assert!(gateway.cluster.patches().is_empty());
}

#[tokio::test]
async fn a_session_that_is_not_to_be_resumed_by_a_message_says_what_to_do() {
    let (gateway, runner) = with_suspended_session().await;
    let no = json!({"resumeOnMessage": false});
    let frozen = |rules: &Value| {
        let mut status = suspended();
        status["agent"] = json!({"name": "helper", "spec": {"model": "m", "lifecycle": rules}});
        status
    };
    let refused = async || {
        let reply = gateway.message("s1", "hi").await;
        assert_eq!(reply.error(), (404, "suspended"));
        let says = reply.body["error"].as_str().unwrap();
        assert!(says.contains("POST /api/v1/managed_agents/sessions/s1/resume"), "{says}");
    };
    // The Agent's rules, then those that the session has frozen, then its own.
    gateway.cluster.put_agent_with("helper", &no);
    refused().await;
    gateway.cluster.put_agent("helper");
    gateway.cluster.put_status("s1", frozen(&no));
    refused().await;
    gateway.cluster.put_agent_with("helper", &no);
    gateway.cluster.put_status("s1", frozen(&json!({})));
    gateway.cluster.put_spec("s1", &json!({"lifecycle": no}));
    refused().await;
    assert!(gateway.cluster.patches().is_empty());
    gateway.cluster.put_spec("s1", &json!({"lifecycle": {"resumeOnMessage": true}}));
    gateway.cluster.put_status("s1", frozen(&no));
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), resumes(&gateway, &runner));
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_wait_has_it_resumed_all_the_same() {
    let (gateway, runner) = with_suspended_session().await;
    let path = format!("{MESSAGE}?wait=0s");
    let reply = gateway.ask("POST", &path, Some(json!({"text": "hi"}))).await;
    assert_eq!(reply.error(), (404, "creating"));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(gateway.cluster.session("s1").spec.state, DesiredState::Running);
    assert_eq!(runner.count(), 0);

    // While it leaves its pod there is nothing to resume yet.
    gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
    gateway.cluster.put_status("s1", ready(&runner, 1));
    let reply = gateway.ask("POST", &path, Some(json!({"text": "hi"}))).await;
    assert_eq!(reply.error(), (503, "not_ready"));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(gateway.cluster.patches().len(), 1);
}

#[tokio::test]
async fn a_resumption_that_fails_is_told_to_the_message_too() {
    let (gateway, _runner) = with_suspended_session().await;
    let controller = async {
        when(&gateway, told(DesiredState::Running)).await;
        let failed = json!({"phase": "Failed", "reason": "WorkspaceLost", "message": "the volume is gone"});
        gateway.cluster.put_status("s1", failed);
    };
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), controller);
    assert_eq!(reply.error(), (404, "failed"));
    assert!(reply.body["error"].as_str().unwrap().contains("the volume is gone"), "{reply:?}");
}

#[tokio::test]
async fn a_terminal_is_not_woken_by_a_message() {
    let (gateway, _runner) = with_suspended_session().await;
    let mut status = suspended();
    status["capabilities"] = json!({"messages": false, "terminal": true});
    gateway.cluster.put_status("s1", status);
    assert_eq!(gateway.message("s1", "hi").await.error(), (409, "terminal_only"));
    assert!(gateway.cluster.patches().is_empty());
}

#[tokio::test]
async fn a_turn_that_a_quiesced_pod_refuses_reaches_a_harness_once() {
    let (gateway, quiesced) = TestGateway::with_ready_session().await;
    let next = FakeRunner::start("pod-2").await;
    quiesced.script(Script::Fail(ErrorCode::Quiesced));
    let key = [("idempotency-key", "k1")];
    let message = gateway.ask_with("POST", MESSAGE, &key, Some(json!({"text": "hi"})));
    let controller = async {
        // The idle session's pod is quiesced before anything of it stands in the object.
        quiesced.seen(1).await;
        read(&gateway, 1).await;
        gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
        tokio::task::yield_now().await;
        suspends_and_resumes(&gateway, &next).await;
    };
    let (reply, ()) = tokio::join!(message, controller);
    assert_eq!((reply.status, text(&reply), reply.header("x-paddock-turn-id")), (200, "hi", "k1"));
    assert_eq!((quiesced.count(), next.count()), (1, 1));
    assert_eq!((next.seen(1).await[0].turn.id.as_str(), quiesced.harness()), ("k1", 0));
    assert_eq!(next.harness(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_held_turn_not_back() {
    let (gateway, quiesced) = TestGateway::with_ready_session().await;
    let next = FakeRunner::start("pod-2").await;
    quiesced.script(Script::Fail(ErrorCode::Quiesced));
    let prefer = [("prefer", "wait=1")];
    let reply = gateway.ask_with("POST", MESSAGE, &prefer, Some(json!({"text": "hi"}))).await;
    // Its own deadline; by then the turn was on its way.
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(quiesced.count(), 1);
    assert_eq!(next.count(), 0);
}

#[tokio::test]
async fn a_session_that_shall_be_suspended_is_given_no_turn_before_it_is() {
    let (gateway, leaving) = TestGateway::with_ready_session().await;
    let next = FakeRunner::start("pod-2").await;
    gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
    let controller = async {
        read(&gateway, 1).await;
        suspends_and_resumes(&gateway, &next).await;
    };
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), controller);
    assert_eq!((reply.status, leaving.count(), next.count()), (200, 0, 1));
}

#[tokio::test]
async fn a_turn_that_may_have_begun_is_never_sent_again_though_the_session_is_suspended() {
    for (script, expected) in [
        (Script::Break, (502, "turn_lost")),
        (Script::Fail(ErrorCode::Interrupted), (502, "interrupted")),
        (Script::Fail(ErrorCode::HarnessFailed), (502, "harness_failed")),
        (Script::Fail(ErrorCode::TurnTimeout), (502, "turn_timeout")),
        (Script::Fail(ErrorCode::JournalFailed), (502, "journal_failed")),
        (Script::Fail(ErrorCode::NotReady), (503, "not_ready")),
    ] {
        let (gateway, leaving) = TestGateway::with_ready_session().await;
        gateway.cluster.set_watch(Watch::Cut);
        gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
        leaving.script(script);
        assert_eq!(gateway.message("s1", "hi").await.error(), expected);
        assert_eq!(leaving.count(), 1);
        assert!(gateway.cluster.patches().is_empty());
    }
}

#[tokio::test]
async fn a_runner_that_ends_has_run_nothing_and_the_session_tells_what_follows() {
    let (gateway, ending) = TestGateway::with_ready_session().await;
    ending.script(Script::Fail(ErrorCode::ShuttingDown));
    // It may be started again in its pod.
    assert_eq!(gateway.message("s1", "hi").await.error(), (503, "not_ready"));

    let next = FakeRunner::start("pod-2").await;
    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
    gateway.cluster.set_watch(Watch::Live);
    let controller = async {
        ending.seen(2).await;
        read(&gateway, 3).await;
        suspends_and_resumes(&gateway, &next).await;
    };
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), controller);
    assert_eq!((reply.status, ending.harness(), next.harness()), (200, 0, 1));
}

/// An address where nothing listens.
async fn nowhere() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_pod_that_was_told_to_go_is_no_proof_of_death() {
    let restarted = json!({"restartedAt": "2026-01-01T00:00:00Z"});
    for told in [json!({"state": "Suspended"}), restarted] {
        let gateway = TestGateway::start().await;
        let next = FakeRunner::start("pod-2").await;
        gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
        gateway.cluster.set_watch(Watch::Cut);
        gateway.cluster.put_spec("s1", &told);
        gateway.cluster.set_watch(Watch::Live);
        let controller = async {
            read(&gateway, 2).await;
            assert_eq!(gateway.cluster.session("s1").status.unwrap().phase, Phase::Ready);
            if told["state"] == "Suspended" {
                suspends_and_resumes(&gateway, &next).await;
            } else {
                let mut status = ready(&next, 2);
                status["restartedAt"] = told["restartedAt"].clone();
                gateway.cluster.put_status("s1", status);
            }
        };
        let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), controller);
        assert_eq!((reply.status, next.count()), (200, 1), "{told}");
        assert!(gateway.gateway.metrics.encode().contains("sessions_marked_dead_total 0"), "{told}");
    }
}

#[tokio::test]
async fn a_suspension_that_comes_between_look_and_mark_counts() {
    let gateway = TestGateway::start().await;
    let next = FakeRunner::start("pod-2").await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    gateway.cluster.fail_next_patch(|cluster| {
        cluster.put_spec("s1", &json!({"state": "Suspended"}));
        None
    });
    let controller = async {
        when(&gateway, told(DesiredState::Suspended)).await;
        suspends_and_resumes(&gateway, &next).await;
    };
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), controller);
    assert_eq!((reply.status, next.count()), (200, 1));
    assert!(gateway.gateway.metrics.encode().contains("sessions_marked_dead_total 0"));
}

#[tokio::test]
async fn a_session_that_cannot_be_suspended_is_not_marked_while_somebody_wishes_it() {
    let gateway = TestGateway::start().await;
    let mut status = ready_status(nowhere().await, "pod-1");
    status["reason"] = json!("WorkspaceNotPersistent");
    gateway.put_session("s1", status);
    gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
    assert_eq!(gateway.message("s1", "hi").await.error(), (502, "unreachable"));
    assert_eq!(gateway.cluster.session("s1").status.unwrap().phase, Phase::Ready);
}

#[tokio::test]
async fn a_session_that_recovers_by_itself_is_left_to_it_and_its_message_waits() {
    let gateway = TestGateway::start().await;
    let next = FakeRunner::start("pod-2").await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    gateway.cluster.put_spec("s1", &json!({"lifecycle": {"recovery": "Auto"}}));
    let controller = async {
        // Once by the relay, once by whoever holds the message.
        read(&gateway, 2).await;
        assert_eq!(gateway.cluster.session("s1").status.unwrap().phase, Phase::Ready);
        let recovering = json!({"phase": "Creating", "reason": "Recovering", "incarnation": 2});
        gateway.cluster.put_status("s1", recovering);
        tokio::task::yield_now().await;
        gateway.cluster.put_status("s1", ready(&next, 2));
    };
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), controller);
    assert_eq!((reply.status, next.count()), (200, 1));
    assert!(gateway.gateway.metrics.encode().contains("sessions_marked_dead_total 0"));
}

#[tokio::test]
async fn a_running_turn_is_not_disturbed_by_a_suspension() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let controller = async {
        runner.seen(1).await;
        gateway.cluster.put_spec("s1", &json!({"state": "Suspended"}));
        go.notify_one();
    };
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), controller);
    assert_eq!((reply.status, runner.count()), (200, 1));
}

#[tokio::test]
async fn a_namesake_does_not_get_a_held_message() {
    let (gateway, runner) = with_suspended_session().await;
    let controller = async {
        when(&gateway, told(DesiredState::Running)).await;
        let mut namesake = super::support::session("s1", runner.ready_status());
        namesake["metadata"]["uid"] = json!("another");
        gateway.cluster.put(namesake);
    };
    let (reply, ()) = tokio::join!(gateway.message("s1", "hi"), controller);
    assert_eq!((reply.error(), runner.count()), ((404, "dead"), 0));
}
