use std::sync::atomic::Ordering;

use paddock_runnerapi::{AgentBinding, EnvVar, InitialTurn, SessionRef};

use super::*;
use crate::harness::fake::FakeHarness;
use crate::turns::testing::{Disk, MemoryStorage};

fn request(uid: &str, incarnation: u32) -> ActivateRequest {
    let agent = AgentBinding {
        model: "m".into(),
        prompt: None,
        env: vec![],
        turn_timeout_ms: 10_000,
        max_queued_turns: 2,
    };
    let session = SessionRef { namespace: "n".into(), name: "s".into(), uid: uid.into() };
    ActivateRequest { session, incarnation, agent, title: String::new(), initial_turn: None }
}

fn pod() -> (Arc<FakeHarness>, MemoryStorage, Arc<Activator>) {
    let (harness, storage) = (Arc::new(FakeHarness::default()), MemoryStorage::default());
    let activator = Activator::new(Arc::clone(&harness) as Arc<dyn Harness>, storage.journal());
    (harness, storage, Arc::new(activator))
}

fn code(answer: &Result<ActivateResponse, ErrorBody>) -> ErrorCode {
    answer.as_ref().unwrap_err().code
}

#[tokio::test]
async fn the_first_session_wins_and_is_answered_the_same_again() {
    let (harness, storage, activator) = pod();
    let first = activator.activate(request("u1", 1)).await.unwrap();
    assert_eq!(storage.story(), ["activated u1"]);
    assert_eq!(activator.activate(request("u1", 1)).await.unwrap(), first);
    assert_eq!(code(&activator.activate(request("u2", 1)).await), ErrorCode::BoundToOther);
    assert_eq!(code(&activator.activate(request("u1", 2)).await), ErrorCode::BoundToOther);
    assert_eq!(harness.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn of_many_at_once_one_session_wins() {
    let (harness, storage, activator) = pod();
    let ask = |number: usize| {
        let activator = Arc::clone(&activator);
        async move { activator.activate(request(&format!("u{}", number % 3), 1)).await }
    };
    let answers = futures::future::join_all((0..12).map(ask)).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (4, 8));
    assert!(won.iter().all(|answer| answer == &won[0]));
    assert!(lost.iter().all(|answer| code(answer) == ErrorCode::BoundToOther));
    assert_eq!(harness.opened.load(Ordering::SeqCst), 1);
    assert_eq!(storage.story().len(), 1);
}

#[tokio::test]
async fn a_failed_activation_may_be_tried_again_by_its_session_only() {
    let (harness, storage, activator) = pod();
    harness.failures.store(1, Ordering::SeqCst);
    assert_eq!(code(&activator.activate(request("u1", 1)).await), ErrorCode::HarnessFailed);
    assert_eq!(code(&activator.activate(request("u2", 1)).await), ErrorCode::BoundToOther);
    storage.becomes(Disk::Full);
    assert_eq!(code(&activator.activate(request("u1", 1)).await), ErrorCode::JournalFailed);
    assert!(activator.bound().is_none());
    storage.becomes(Disk::Good);
    assert!(activator.activate(request("u1", 1)).await.is_ok());
}

#[tokio::test]
async fn the_initial_turn_runs_once_and_not_again_after_a_restart() {
    let (harness, storage, activator) = pod();
    let mut asked = request("u1", 1);
    asked.initial_turn = Some(InitialTurn { id: "initial".into(), text: "begin".into() });
    let answer = activator.activate(asked.clone()).await.unwrap();
    activator.activate(asked.clone()).await.unwrap();
    let parts = vec![json!({"type": "text", "text": "next"})];
    activator.bound().unwrap().engine.submit(TurnRequest { id: "t".into(), parts }).await.unwrap();
    assert_eq!(harness.runs(), ["begin", "next"]);

    let (journal, restored) = storage.reopened();
    let second = Arc::new(Activator::new(Arc::clone(&harness) as Arc<dyn Harness>, journal));
    second.restore(restored).await.unwrap();
    assert_eq!(harness.reopened.load(Ordering::SeqCst), 1);
    assert_eq!(second.activate(asked).await.unwrap(), answer);
    assert_eq!(code(&second.activate(request("u2", 1)).await), ErrorCode::BoundToOther);
    let parts = vec![json!({"type": "text", "text": "begin"})];
    let bound = second.bound().unwrap();
    bound.engine.submit(TurnRequest { id: "initial".into(), parts }).await.unwrap();
    assert_eq!(harness.runs(), ["begin", "next"]);
}

#[tokio::test]
async fn the_initial_turn_may_come_with_a_later_activation() {
    let (harness, storage, activator) = pod();
    let answer = activator.activate(request("u1", 1)).await.unwrap();
    let mut asked = request("u1", 1);
    asked.initial_turn = Some(InitialTurn { id: "initial".into(), text: "begin".into() });
    for _ in 0..3 {
        assert_eq!(activator.activate(asked.clone()).await.unwrap(), answer);
    }
    let begin =
        || TurnRequest { id: "initial".into(), parts: vec![json!({"type": "text", "text": "begin"})] };
    activator.bound().unwrap().engine.submit(begin()).await.unwrap();
    assert_eq!(harness.runs(), ["begin"]);

    let (journal, restored) = storage.reopened();
    let second = Arc::new(Activator::new(Arc::clone(&harness) as Arc<dyn Harness>, journal));
    second.restore(restored).await.unwrap();
    second.bound().unwrap().engine.submit(begin()).await.unwrap();
    assert_eq!(harness.runs(), ["begin"]);
}

#[tokio::test]
async fn an_environment_that_no_shell_takes_is_refused_before_the_pod_is_claimed() {
    let (_, _, activator) = pod();
    for (name, value) in [("1A", "x"), ("", "x"), ("A B", "x"), ("A;id", "x"), ("A", "x\0")] {
        let mut asked = request("u1", 1);
        asked.agent.env = vec![EnvVar { name: name.into(), value: value.into() }];
        assert_eq!(code(&activator.activate(asked).await), ErrorCode::BadRequest, "{name:?}");
    }
    assert!(activator.activate(request("u2", 1)).await.is_ok());
}
