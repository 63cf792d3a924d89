//! Which pod a message goes to, and what follows when it is not there.

use std::time::Duration;

use paddock_api::{ConditionStatus, Phase};
use paddock_gateway::gateway::RelayTimes;
use paddock_kubeio::write::WriteError;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::cluster::Watch;
use super::runner::{FakeRunner, Script, ready_status};
use super::support::{Setup, TestGateway};

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

/// The pod that `ready_status` names.
fn pod(uid: &str, phase: &str, deleted: Value) -> Value {
    json!({"metadata": {"name": "pod", "uid": uid, "deletionTimestamp": deleted}, "status": {"phase": phase}})
}

#[tokio::test]
async fn a_pod_that_runs_is_not_given_up_though_it_refuses() {
    let gateway = TestGateway::start().await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    gateway.cluster.put_pod(pod("pod-1", "Running", Value::Null));
    let before = gateway.cluster.session("s1");
    let key = [("idempotency-key", "k1")];
    for _ in 0..2 {
        let message = Some(json!({"text": "hi"}));
        let reply = gateway.ask_with("POST", "/sessions/s1/message", &key, message).await;
        assert_eq!(reply.error(), (503, "not_ready"));
        assert_eq!((reply.header("retry-after"), reply.header("x-paddock-turn-id")), ("2", "k1"));
        assert!(reply.body["error"].as_str().unwrap().contains("Idempotency-Key: k1"), "{reply:?}");
    }
    assert_eq!(gateway.cluster.session("s1"), before);
    assert!(gateway.gateway.metrics.encode().contains("sessions_marked_dead_total 0"));
}

#[tokio::test]
async fn a_pod_that_is_lost_is_given_up() {
    let gateway = TestGateway::start().await;
    let now = json!("2026-01-01T00:00:00Z");
    for (name, pod) in [
        ("replaced", pod("pod-2", "Running", Value::Null)),
        ("terminating", pod("pod-1", "Running", now)),
        ("failed", pod("pod-1", "Failed", Value::Null)),
    ] {
        gateway.put_session(name, ready_status(nowhere().await, "pod-1"));
        gateway.cluster.put_pod(pod);
        assert_eq!(gateway.message(name, "hi").await.error(), (502, "unreachable"), "{name}");
        assert_eq!(gateway.cluster.session(name).status.unwrap().phase, Phase::Dead, "{name}");
    }
}

#[tokio::test]
async fn a_pod_that_cannot_be_read_is_not_given_up() {
    let gateway = TestGateway::start().await;
    gateway.put_session("s1", ready_status(nowhere().await, "pod-1"));
    let before = gateway.cluster.session("s1");
    gateway.cluster.fail_next_pod_read(|_| Some(WriteError::Unavailable("down".into())));
    assert_eq!(gateway.message("s1", "hi").await.error(), (502, "unreachable"));
    assert_eq!(gateway.cluster.session("s1"), before);
}

#[tokio::test]
async fn a_machine_that_does_not_answer_is_not_believed_about_its_pod() {
    let relay = RelayTimes {
        connect: Duration::from_millis(100),
        retry_pause: Duration::ZERO,
        ..RelayTimes::default()
    };
    let gateway = TestGateway::with(Setup { relay, ..Setup::default() }).await;
    // A listener whose queue is full: the kernel drops what comes, as a lost machine would.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = socket.listen(1).unwrap();
    let address = silent.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queued.push(stream.unwrap());
        assert!(queued.len() < 16, "the queue never fills");
    }
    gateway.put_session("s1", ready_status(address, "pod-1"));
    gateway.cluster.put_pod(pod("pod-1", "Running", Value::Null));
    assert_eq!(gateway.message("s1", "hi").await.error(), (502, "unreachable"));
    assert_eq!(gateway.cluster.session("s1").status.unwrap().phase, Phase::Dead);
    let metrics = gateway.gateway.metrics.encode();
    assert!(metrics.contains(r#"relay_connect_failures_total{reason="timed_out"} 2"#), "{metrics}");
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
    gateway.cluster.put_status("s1", json!({"phase": "Dead", "reason": "Deleted"}));
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
