//! Which pod a message goes to, and what follows when it is not there.

use paddock_api::{ConditionStatus, Phase};
use paddock_kubeio::write::WriteError;
use serde_json::json;
use tokio::net::TcpListener;

use super::cluster::Watch;
use super::runner::{FakeRunner, Script, ready_status};
use super::support::TestGateway;

/// An address where nothing listens.
async fn nowhere() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_current_address_that_refuses_twice_makes_the_session_dead() {
    let gateway = TestGateway::start().await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    let reply = gateway.message("s1", "hi").await;
    assert_eq!(reply.error(), (502, "unreachable"));
    let status = gateway.cluster.session("s1").status.unwrap();
    assert_eq!(status.phase, Phase::Dead);
    assert_eq!(format!("{:?}", status.reason.unwrap()), "Unreachable");
    assert_eq!(status.conditions[0].status, ConditionStatus::False);
    assert!(status.conditions[0].last_transition_time.as_second() > 1_767_300_000);
    assert!(status.message.contains("nothing listens"));
    let seen = gateway.ask("GET", "/sessions/s1", None).await;
    assert_eq!(seen.body["status"], "dead");
    assert!(seen.body["failure_reason"].as_str().unwrap().starts_with("Unreachable: "));
    assert_eq!(gateway.message("s1", "again").await.error(), (404, "dead"));
    let metrics = gateway.gateway.metrics.encode();
    assert!(metrics.contains(r#"relay_connect_failures_total{reason="refused"} 2"#), "{metrics}");
    assert!(metrics.contains("sessions_marked_dead_total 1"));
}

#[tokio::test]
async fn dead_is_read_at_once_though_the_watch_is_behind() {
    let gateway = TestGateway::start().await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    gateway.cluster.set_watch(Watch::Cut);
    gateway.message("s1", "hi").await;
    assert_eq!(gateway.ask("GET", "/sessions/s1", None).await.body["status"], "dead");
}

#[tokio::test]
async fn a_stale_address_is_no_proof() {
    let gateway = TestGateway::start().await;
    let runner = FakeRunner::start("pod-2").await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.put_status("s1", runner.ready_status());
    let reply = gateway.message("s1", "hi").await;
    assert_eq!((reply.status, runner.count()), (200, 1));
    assert_eq!(gateway.cluster.session("s1").status.unwrap().phase, Phase::Ready);
}

#[tokio::test]
async fn a_session_that_ended_meanwhile_is_told_as_it_is() {
    let gateway = TestGateway::start().await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.put_status("s1", json!({"phase": "Dead", "reason": "PodDeleted"}));
    assert_eq!(gateway.message("s1", "hi").await.error(), (404, "dead"));
}

#[tokio::test]
async fn whoever_changed_the_session_first_has_decided() {
    let gateway = TestGateway::start().await;
    let runner = FakeRunner::start("pod-2").await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    let moved = runner.ready_status();
    gateway.cluster.fail_next_patch(move |cluster| {
        cluster.put_status("s1", moved);
        None
    });
    let reply = gateway.message("s1", "hi").await;
    assert_eq!((reply.status, runner.count()), (200, 1));
    assert_eq!(gateway.cluster.session("s1").status.unwrap().phase, Phase::Ready);
}

#[tokio::test]
async fn without_the_api_server_nothing_is_decided() {
    let gateway = TestGateway::start().await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    gateway.cluster.fail_next_read(|_| Some(WriteError::Unavailable("down".into())));
    assert_eq!(gateway.message("s1", "hi").await.error(), (502, "unreachable"));
    assert_eq!(gateway.cluster.session("s1").status.unwrap().phase, Phase::Ready);
}

#[tokio::test]
async fn another_pod_at_the_address_is_never_given_the_turn() {
    let gateway = TestGateway::start().await;
    let stranger = FakeRunner::start("pod-of-somebody-else").await;
    let own = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", ready_status(stranger.address, "pod-1"));
    let reply = gateway.message("s1", "hi").await;
    assert_eq!(reply.error(), (502, "misrouted"));
    assert_eq!(gateway.cluster.session("s1").status.unwrap().phase, Phase::Ready);

    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.put_status("s1", own.ready_status());
    assert_eq!(gateway.message("s1", "hi").await.status, 200);
    assert_eq!((stranger.count(), own.count()), (0, 1));
}

#[tokio::test]
async fn an_answer_that_is_not_the_runner_s_never_reaches_the_client() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    runner.script(Script::Hello);
    let reply = gateway.message("s1", "hi").await;
    assert_eq!(reply.error(), (502, "misrouted"));
    assert!(!reply.body.to_string().contains("world"));
}

#[tokio::test]
async fn a_namesake_made_meanwhile_does_not_get_the_message() {
    let gateway = TestGateway::start().await;
    let runner = FakeRunner::start("pod-2").await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    gateway.cluster.set_watch(Watch::Cut);
    let mut namesake = super::support::session("s1", runner.ready_status());
    namesake["metadata"]["uid"] = json!("another");
    gateway.cluster.put(namesake);
    assert_eq!(gateway.message("s1", "hi").await.error(), (404, "dead"));
    assert_eq!(runner.count(), 0);
}

#[tokio::test]
async fn address_and_pod_must_agree() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let mut status = runner.ready_status();
    status["pod"]["ip"] = json!("10.9.9.9");
    gateway.put_session("s1", status);
    assert_eq!(gateway.message("s1", "hi").await.error(), (503, "not_ready"));
    assert_eq!(runner.count(), 0);
}
