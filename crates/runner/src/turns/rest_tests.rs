use std::sync::atomic::Ordering;
use std::time::Instant;

use paddock_runnerapi::TurnState;

use super::super::engine::tests::{Fixture, code, resume, start, text};
use super::super::testing::Disk;
use super::*;

const NOW: QuiesceRequest = QuiesceRequest { if_idle_ms: None };

fn if_idle(milliseconds: u64) -> QuiesceRequest {
    QuiesceRequest { if_idle_ms: Some(milliseconds) }
}

/// Idle time is measured in real time, so waiting for it is waiting for a condition.
async fn idle_for(fixture: &Fixture, milliseconds: u64) {
    let reached = async |fixture: &Fixture| fixture.engine.activity().await.idle_ms >= milliseconds;
    fixture.until("it is idle", reached).await;
}

#[tokio::test]
async fn a_session_is_idle_since_its_last_turn_and_turns_are_counted() {
    let fixture = start(10_000).await;
    fixture.submit("a", "a").await.unwrap().unwrap();
    idle_for(&fixture, 5).await;
    let running = fixture.submit("b", "wait b");
    fixture.reaches("b", TurnState::Running).await;
    let queued = fixture.submit("c", "wait c");
    fixture.reaches("c", TurnState::Queued).await;
    let activity = fixture.engine.activity().await;
    let turns = TurnCounts { total: 3, running: 1, queued: 1 };
    let transcript = fixture.engine.position();
    assert_eq!(activity, Activity { idle_ms: 0, turns, quiesced: false, transcript });
    fixture.harness.release("wait b");
    running.await.unwrap().unwrap();
    fixture.reaches("c", TurnState::Running).await;
    assert_eq!(fixture.engine.activity().await.idle_ms, 0);
    fixture.harness.release("wait c");
    queued.await.unwrap().unwrap();
    idle_for(&fixture, 5).await;
    let resumed = resume(&fixture.storage, &fixture.harness, 10_000).await;
    assert_eq!(resumed.activity().await.turns, TurnCounts { total: 3, running: 0, queued: 0 });
}

#[tokio::test]
async fn turns_that_are_left_or_refused_do_not_keep_a_session_busy() {
    let fixture = start(10_000).await;
    let running = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let queued = fixture.submit("b", "b");
    fixture.reaches("b", TurnState::Queued).await;
    fixture.submit("c", "bad").await.unwrap().unwrap_err();
    fixture.engine.stop("test").await;
    fixture.harness.release("wait a");
    for turn in [running, queued] {
        turn.await.unwrap().unwrap_err();
    }
    idle_for(&fixture, 1).await;
}

#[tokio::test]
async fn a_harness_at_work_without_a_turn_is_not_idle() {
    let fixture = start(10_000).await;
    idle_for(&fixture, 20).await;
    let begun = Instant::now();
    fixture.harness.works.store(true, Ordering::SeqCst);
    assert_eq!(fixture.engine.activity().await.idle_ms, 0);
    assert_eq!(fixture.engine.quiesce(if_idle(0)).await.unwrap_err().code, ErrorCode::Busy);
    fixture.harness.works.store(false, Ordering::SeqCst);
    // Its last work counts, and not what was before.
    let idle = Duration::from_millis(fixture.engine.activity().await.idle_ms);
    assert!(idle <= begun.elapsed(), "{idle:?}");
    idle_for(&fixture, 20).await;
    fixture.engine.quiesce(if_idle(20)).await.unwrap();
}

#[tokio::test]
async fn only_an_idle_session_is_brought_to_rest_where_that_was_asked() {
    let fixture = start(10_000).await;
    assert_eq!(fixture.engine.quiesce(if_idle(3_600_000)).await.unwrap_err().code, ErrorCode::Busy);
    let running = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let refused = fixture.engine.quiesce(if_idle(0)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.error.contains("is busy"), "{refused}");
    fixture.harness.release("wait a");
    running.await.unwrap().unwrap();
    let speaks = fixture.engine.busy();
    assert_eq!(fixture.engine.quiesce(if_idle(0)).await.unwrap_err().code, ErrorCode::Busy);
    drop(speaks);
    // Nothing has changed by all that.
    assert_eq!(text(&fixture.submit("b", "b").await.unwrap()), "b");
    idle_for(&fixture, 5).await;
    let rest = fixture.engine.quiesce(if_idle(5)).await.unwrap();
    assert!(rest.quiesced && rest.idle_ms >= 5, "{rest:?}");
}

#[tokio::test]
async fn at_rest_new_turns_are_refused_and_known_ones_told_as_ever() {
    let fixture = start(10_000).await;
    let done = fixture.submit("done", "done").await.unwrap();
    fixture.engine.quiesce(NOW).await.unwrap();
    let refused = fixture.submit("new", "new").await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Quiesced);
    assert!(refused.error.contains("the next pod takes the message"), "{refused}");
    assert_eq!(fixture.submit("done", "done").await.unwrap(), done);
    // Asked again, also where the refused turn was activity.
    assert!(fixture.engine.quiesce(if_idle(3_600_000)).await.unwrap().quiesced);
    assert_eq!(fixture.harness.runs(), ["done"]);
    // It is in memory only: the next pod takes turns, and the refused one left no trace.
    let next = resume(&fixture.storage, &fixture.harness, 10_000).await;
    assert!(!next.activity().await.quiesced && !next.knows("new"));
}

#[tokio::test]
async fn turns_that_run_or_wait_go_on_at_rest_and_can_be_joined() {
    let fixture = start(10_000).await;
    let running = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let queued = fixture.submit("b", "b");
    fixture.reaches("b", TurnState::Queued).await;
    let rest = fixture.engine.quiesce(NOW).await.unwrap();
    assert_eq!((rest.idle_ms, rest.turns.running, rest.turns.queued), (0, 1, 1));
    let joined = fixture.submit("b", "b");
    assert_eq!(code(&fixture.submit("c", "c").await.unwrap()), ErrorCode::Quiesced);
    fixture.harness.release("wait a");
    for turn in [running, queued, joined] {
        turn.await.unwrap().unwrap();
    }
    assert_eq!(fixture.harness.runs(), ["wait a", "b"]);
}

/// Whichever comes first, the turn runs or is for the next pod; never both, never neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_and_the_rest_at_the_same_moment() {
    for round in 0..100 {
        let fixture = start(10_000).await;
        let turn = fixture.submit("a", "a");
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let rest = fixture.engine.quiesce(if_idle(0)).await;
        match turn.await.unwrap() {
            Ok(_) => {
                assert_eq!(fixture.harness.runs(), ["a"]);
                assert!(rest.is_err() || rest.is_ok_and(|rest| rest.turns.total == 1));
            }
            Err(refused) => {
                assert_eq!(refused.code, ErrorCode::Quiesced);
                assert!(rest.is_ok() && fixture.harness.runs().is_empty());
                assert!(fixture.storage.story().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn a_turn_that_comes_while_the_rest_is_written_is_for_the_next_pod() {
    let fixture = start(10_000).await;
    fixture.storage.becomes(Disk::Slow);
    let engine = fixture.engine.clone();
    let rest = tokio::spawn(async move { engine.quiesce(if_idle(0)).await });
    let at_the_disk = async |f: &Fixture| f.engine.0.admission.try_lock().is_err();
    fixture.until("it is being written", at_the_disk).await;
    let turn = fixture.submit("a", "a");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    fixture.storage.becomes(Disk::Good);
    assert!(rest.await.unwrap().unwrap().quiesced);
    assert_eq!(code(&turn.await.unwrap()), ErrorCode::Quiesced);
    assert!(fixture.storage.story().is_empty() && fixture.harness.runs().is_empty());
}

#[tokio::test]
async fn a_journal_that_may_be_incomplete_is_no_rest() {
    let fixture = start(10_000).await;
    fixture.storage.becomes(Disk::FailingSync);
    assert_eq!(fixture.engine.quiesce(NOW).await.unwrap_err().code, ErrorCode::JournalFailed);
    assert!(!fixture.engine.activity().await.quiesced);
}
