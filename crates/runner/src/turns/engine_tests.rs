use std::sync::atomic::Ordering;
use std::time::Instant;

use paddock_runnerapi::{ActivateRequest, AgentBinding, Equipment, SessionRef};
use serde_json::{Value, json};

use super::super::testing::{Disk, MemoryStorage};
use super::*;
use crate::harness::fake::FakeHarness;

pub(in crate::turns) struct Fixture {
    pub(in crate::turns) harness: Arc<FakeHarness>,
    pub(in crate::turns) storage: MemoryStorage,
    pub(in crate::turns) engine: Engine,
}

fn activation(turn_timeout_ms: u64) -> Activation {
    let agent = AgentBinding {
        model: "m".into(),
        prompt: None,
        env: vec![],
        equipment: Equipment::default(),
        turn_timeout_ms,
        max_queued_turns: 2,
    };
    let session = SessionRef { namespace: "n".into(), name: "s".into(), uid: "u".into() };
    let request = ActivateRequest {
        session,
        incarnation: 1,
        agent,
        title: String::new(),
        continues: false,
        initial_turn: None,
    };
    Activation { request, harness_session_id: "ses_1".into(), took_ms: 1, steps: Vec::new(), pod_uid: None }
}

pub(in crate::turns) async fn start(turn_timeout_ms: u64) -> Fixture {
    let storage = MemoryStorage::default();
    let harness = Arc::new(FakeHarness::default());
    let engine = resume(&storage, &harness, turn_timeout_ms).await;
    Fixture { harness, storage, engine }
}

/// The engine of a pod that goes on with what was said in an earlier one.
pub(in crate::turns) async fn continued() -> Fixture {
    let (storage, harness) = (MemoryStorage::default(), Arc::new(FakeHarness::default()));
    let mut activation = activation(10_000);
    activation.request.continues = true;
    let as_harness = Arc::clone(&harness) as Arc<dyn MessageHarness>;
    let mut past = Restored::default();
    let engine =
        Engine::new(as_harness, storage.journal(), Meter::start(), &activation, &mut past).await.unwrap();
    Fixture { harness, storage, engine }
}

/// An engine over what the storage holds, as after a restart.
pub(in crate::turns) async fn resume(
    storage: &MemoryStorage,
    harness: &Arc<FakeHarness>,
    turn_timeout_ms: u64,
) -> Engine {
    let (journal, mut restored) = storage.reopened();
    let harness = Arc::clone(harness) as Arc<dyn MessageHarness>;
    let activation = activation(turn_timeout_ms);
    Engine::new(harness, journal, Meter::start(), &activation, &mut restored).await.unwrap()
}

fn turn(id: &str, text: &str) -> TurnRequest {
    TurnRequest::message(id, vec![json!({"type": "text", "text": text})])
}

impl Fixture {
    pub(in crate::turns) fn submit(
        &self,
        id: &str,
        text: &str,
    ) -> tokio::task::JoinHandle<Result<Bytes, ErrorBody>> {
        let (engine, request) = (self.engine.clone(), turn(id, text));
        tokio::spawn(async move { engine.submit(request).await })
    }

    pub(in crate::turns) async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(begun.elapsed() < Duration::from_secs(10), "not in time: {what}");
            tokio::task::yield_now().await;
        }
    }

    /// How many wait for the end of a turn.
    fn waiters(&self, id: &str) -> usize {
        let table = self.engine.table();
        table.turns[id].waiters.iter().filter(|waiter| !waiter.is_closed()).count()
    }

    pub(in crate::turns) async fn reaches(&self, id: &str, state: TurnState) {
        let reached =
            async |fixture: &Self| fixture.engine.status(id).await.is_ok_and(|(now, _)| now == state);
        self.until(id, reached).await;
    }
}

pub(in crate::turns) fn text(reply: &Result<Bytes, ErrorBody>) -> String {
    let reply: Value = serde_json::from_slice(reply.as_ref().unwrap()).unwrap();
    reply["parts"][0]["text"].as_str().unwrap().to_owned()
}

pub(in crate::turns) fn code(reply: &Result<Bytes, ErrorBody>) -> ErrorCode {
    reply.as_ref().unwrap_err().code
}

#[tokio::test]
async fn a_turn_is_written_before_and_after_it_runs() {
    let fixture = start(10_000).await;
    assert_eq!(text(&fixture.submit("t", "hello").await.unwrap()), "hello");
    assert_eq!(fixture.storage.story(), ["accepted t", "started t", "1 messages t", "completed t"]);
    let (state, outcome) = fixture.engine.status("t").await.unwrap();
    assert_eq!((state, outcome.unwrap().state()), (TurnState::Completed, TurnState::Completed));
    assert_eq!(fixture.engine.status("x").await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn an_abort_stops_the_running_turn_and_no_other() {
    let fixture = start(10_000).await;
    fixture.engine.abort_running().await.unwrap();
    assert_eq!(fixture.harness.aborted.load(Ordering::SeqCst), 0, "nothing runs");
    let first = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let second = fixture.submit("b", "b");
    fixture.reaches("b", TurnState::Queued).await;
    fixture.engine.abort_running().await.unwrap();
    assert_eq!(text(&first.await.unwrap()), "wait a", "it ends as the harness ends it");
    assert_eq!(text(&second.await.unwrap()), "b");
    assert_eq!(fixture.harness.aborted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn turns_run_one_at_a_time_in_the_order_they_came() {
    let fixture = start(10_000).await;
    let first = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let second = fixture.submit("b", "b");
    fixture.reaches("b", TurnState::Queued).await;
    let third = fixture.submit("c", "c");
    fixture.reaches("c", TurnState::Queued).await;
    let fourth = fixture.submit("d", "d").await.unwrap();
    assert_eq!(code(&fourth), ErrorCode::QueueFull);
    assert_eq!(fixture.harness.runs(), ["wait a"]);
    fixture.harness.release("wait a");
    for (task, expected) in [(first, "wait a"), (second, "b"), (third, "c")] {
        assert_eq!(text(&task.await.unwrap()), expected);
    }
    assert_eq!(fixture.harness.runs(), ["wait a", "b", "c"]);
    // The refused one left no trace: its id can be used.
    assert_eq!(text(&fixture.submit("d", "d").await.unwrap()), "d");
}

#[tokio::test]
async fn a_retry_joins_or_replays_and_another_message_is_refused() {
    let fixture = start(10_000).await;
    let first = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let queued = fixture.submit("b", "b");
    fixture.reaches("b", TurnState::Queued).await;
    let joined = [fixture.submit("a", "wait a"), fixture.submit("b", "b")];
    assert_eq!(code(&fixture.submit("a", "other").await.unwrap()), ErrorCode::TurnMismatch);
    fixture.harness.release("wait a");
    let replies = [first.await.unwrap(), queued.await.unwrap()];
    for (joined, reply) in joined.into_iter().zip(&replies) {
        assert_eq!(joined.await.unwrap().unwrap(), reply.as_ref().unwrap());
    }
    assert_eq!(fixture.submit("a", "wait a").await.unwrap().unwrap(), replies[0].as_ref().unwrap());
    assert_eq!(fixture.harness.runs(), ["wait a", "b"]);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    let fixture = start(10_000).await;
    let client = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    client.abort();
    fixture.harness.release("wait a");
    fixture.reaches("a", TurnState::Completed).await;
    assert_eq!(text(&fixture.submit("a", "wait a").await.unwrap()), "wait a");
    assert_eq!(fixture.harness.runs().len(), 1);
}

#[tokio::test]
async fn whoever_asks_for_a_turn_may_wait_for_its_end() {
    let fixture = start(10_000).await;
    let _running = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let (long, short) = (Duration::from_secs(20), Duration::from_millis(1));
    let (state, outcome) = fixture.engine.status_within("a", short).await.unwrap();
    assert_eq!((state, outcome), (TurnState::Running, None), "the wait has passed");
    let asks = fixture.engine.status_within("a", long);
    let ends = async {
        fixture.until("somebody waits", async |fixture| fixture.waiters("a") == 2).await;
        fixture.harness.release("wait a");
    };
    let (told, ()) = tokio::join!(asks, ends);
    let (state, outcome) = told.unwrap();
    assert_eq!((state, outcome.unwrap().state()), (TurnState::Completed, TurnState::Completed));
    let begun = Instant::now();
    assert_eq!(fixture.engine.status_within("a", long).await.unwrap().0, TurnState::Completed);
    let unknown = fixture.engine.status_within("x", long).await;
    assert_eq!(unknown.unwrap_err().code, ErrorCode::NotFound);
    assert!(begun.elapsed() < long, "nobody waits for what is known");
}

#[tokio::test]
async fn failures_are_kept_and_replayed() {
    let fixture = start(10_000).await;
    for _ in 0..2 {
        let failed = fixture.submit("a", "fail a").await.unwrap().unwrap_err();
        assert_eq!(failed.code, ErrorCode::HarnessFailed);
        assert!(failed.error.contains("boom"), "{failed}");
    }
    assert_eq!(fixture.harness.runs().len(), 1);
    assert_eq!(code(&fixture.submit("b", "bad parts").await.unwrap()), ErrorCode::BadRequest);
    assert_eq!(code(&fixture.submit("", "x").await.unwrap()), ErrorCode::BadRequest);
    for id in ["ä", " a", "a ", " "] {
        assert_eq!(code(&fixture.submit(id, "x").await.unwrap()), ErrorCode::BadRequest, "{id:?}");
    }
    assert!(fixture.submit("a b", "x").await.unwrap().is_ok());
}

#[tokio::test]
async fn a_turn_that_takes_too_long_is_aborted_and_the_next_runs() {
    let fixture = start(20).await;
    assert_eq!(code(&fixture.submit("a", "wait a").await.unwrap()), ErrorCode::TurnTimeout);
    assert_eq!(fixture.harness.aborted.load(Ordering::SeqCst), 1);
    assert_eq!(text(&fixture.submit("b", "b").await.unwrap()), "b");
}

#[tokio::test]
async fn stopping_interrupts_what_runs_or_waits_and_takes_nothing_more() {
    let fixture = start(10_000).await;
    let running = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let queued = fixture.submit("b", "b");
    fixture.reaches("b", TurnState::Queued).await;
    fixture.engine.stop("the pod is shutting down").await;
    assert_eq!(code(&running.await.unwrap()), ErrorCode::Interrupted);
    assert_eq!(code(&queued.await.unwrap()), ErrorCode::Interrupted);
    assert_eq!(code(&fixture.submit("c", "c").await.unwrap()), ErrorCode::ShuttingDown);
    // A reply that comes too late changes nothing that was told.
    fixture.harness.release("wait a");
    assert_eq!(code(&fixture.submit("a", "wait a").await.unwrap()), ErrorCode::Interrupted);
    // The next start looks for their ends.
    assert_eq!(fixture.storage.story(), ["accepted a", "started a", "accepted b"]);
    assert_eq!(fixture.harness.runs(), ["wait a"]);
    let engine = resume(&fixture.storage, &fixture.harness, 10_000).await;
    assert_eq!(engine.status("a").await.unwrap().0, TurnState::Interrupted);
    let mut ends = fixture.storage.story()[3..].to_vec();
    ends.sort();
    assert_eq!(ends, ["1 messages a", "interrupted a", "interrupted b"]);
}

#[tokio::test]
async fn after_a_restart_nothing_runs_again() {
    let mut fixture = start(10_000).await;
    fixture.submit("done", "done").await.unwrap().unwrap();
    let _running = fixture.submit("run", "wait run");
    fixture.reaches("run", TurnState::Running).await;
    let _queued = fixture.submit("queue", "queue");
    fixture.reaches("queue", TurnState::Queued).await;
    // The second life sees the journal only.
    fixture.engine = resume(&fixture.storage, &fixture.harness, 10_000).await;
    assert_eq!(text(&fixture.submit("done", "done").await.unwrap()), "done");
    assert_eq!(code(&fixture.submit("run", "wait run").await.unwrap()), ErrorCode::Interrupted);
    assert_eq!(code(&fixture.submit("queue", "queue").await.unwrap()), ErrorCode::Interrupted);
    assert_eq!(code(&fixture.submit("queue", "other").await.unwrap()), ErrorCode::TurnMismatch);
    assert_eq!(fixture.harness.runs(), ["done", "wait run"]);
}

#[tokio::test]
async fn a_reply_that_the_harness_still_has_is_recovered() {
    let mut fixture = start(10_000).await;
    let _running = fixture.submit("run", "wait run");
    fixture.reaches("run", TurnState::Running).await;
    let Record::Started { names, .. } = fixture.storage.records().remove(1) else { panic!("not started") };
    let reply = Bytes::from_static(br#"{"info":{},"parts":[{"type":"text","text":"found"}]}"#);
    fixture.harness.history.lock().unwrap().insert(names.message, reply);
    fixture.engine = resume(&fixture.storage, &fixture.harness, 10_000).await;
    assert_eq!(text(&fixture.submit("run", "wait run").await.unwrap()), "found");
}

#[tokio::test]
async fn on_a_full_disk_no_turn_runs() {
    let fixture = start(10_000).await;
    fixture.storage.becomes(Disk::Full);
    assert_eq!(code(&fixture.submit("a", "a").await.unwrap()), ErrorCode::JournalFailed);
    assert!(fixture.harness.runs().is_empty());
    fixture.storage.becomes(Disk::Good);
    assert_eq!(text(&fixture.submit("a", "a").await.unwrap()), "a");
}

#[tokio::test]
async fn a_reply_that_cannot_be_written_is_not_given_out_until_it_can() {
    let fixture = start(10_000).await;
    let running = fixture.submit("a", "wait a");
    fixture.until("it runs", async |f| !f.harness.runs().is_empty()).await;
    fixture.storage.becomes(Disk::Full);
    fixture.harness.release("wait a");
    assert_eq!(code(&running.await.unwrap()), ErrorCode::JournalFailed);
    assert_eq!(code(&fixture.submit("a", "wait a").await.unwrap()), ErrorCode::JournalFailed);
    fixture.storage.becomes(Disk::Good);
    assert_eq!(text(&fixture.submit("a", "wait a").await.unwrap()), "wait a");
    assert_eq!(fixture.harness.runs().len(), 1);
    assert_eq!(fixture.storage.story().last().unwrap(), "completed a");
}

#[tokio::test]
async fn old_replies_leave_memory_and_are_read_again() {
    let fixture = start(10_000).await;
    for number in 0..70 {
        fixture.submit(&format!("t{number}"), &format!("x{number}")).await.unwrap().unwrap();
    }
    let in_memory = {
        let table = fixture.engine.table();
        let holds = |e: &&Entry| matches!(&e.stage, Stage::Ended(Ended { outcome: Some(_), .. }));
        table.turns.values().filter(holds).count()
    };
    assert_eq!(in_memory, 64);
    assert_eq!(text(&fixture.submit("t0", "x0").await.unwrap()), "x0");
}

fn history_has(fixture: &Fixture, message: &str, text: &str) {
    let reply = json!({"info": {}, "parts": [{"type": "text", "text": text}]}).to_string();
    fixture.harness.history.lock().unwrap().insert(message.to_owned(), reply.into());
}

#[tokio::test]
async fn when_the_harness_dies_no_other_turn_meets_it_and_its_last_reply_is_still_found() {
    let fixture = start(10_000).await;
    let first = fixture.submit("a", "break a");
    fixture.until("it broke off", async |f| !f.harness.runs().is_empty()).await;
    let second = fixture.submit("b", "b");
    fixture.reaches("b", TurnState::Queued).await;
    // What the supervisor does a moment later.
    fixture.engine.stop("the harness ended by itself").await;
    for turn in [first, second] {
        assert_eq!(code(&turn.await.unwrap()), ErrorCode::Interrupted);
    }
    fixture.until("it settles", async |f| f.engine.table().running.is_none()).await;
    assert_eq!(fixture.harness.runs(), ["break a"]);
    assert_eq!(fixture.storage.story(), ["accepted a", "started a", "accepted b"]);
    history_has(&fixture, "msg_0", "found");
    let engine = resume(&fixture.storage, &fixture.harness, 10_000).await;
    assert_eq!(text(&engine.submit(turn("a", "break a")).await), "found");
    assert_eq!(code(&engine.submit(turn("b", "b")).await), ErrorCode::Interrupted);
    let mut ends = fixture.storage.story()[3..].to_vec();
    ends.sort();
    assert_eq!(ends, ["1 messages a", "completed a", "interrupted b"]);
}

#[tokio::test]
async fn a_harness_that_breaks_off_and_lives_is_asked_for_the_reply() {
    let fixture = start(10_000).await;
    let lost = fixture.submit("a", "break a").await.unwrap().unwrap_err();
    assert_eq!(lost.code, ErrorCode::Interrupted);
    assert!(lost.error.contains("new id"), "{lost}");
    assert_eq!(fixture.harness.aborted.load(Ordering::SeqCst), 1);
    history_has(&fixture, "msg_1", "found");
    assert_eq!(text(&fixture.submit("b", "break b").await.unwrap()), "found");
    assert_eq!(text(&fixture.submit("c", "c").await.unwrap()), "c");
    let ends = ["interrupted a", "completed b", "completed c"];
    assert!(ends.iter().all(|end| fixture.storage.story().contains(&(*end).to_owned())));
}

#[tokio::test]
async fn only_so_many_wait_for_one_turn_and_who_left_makes_room() {
    let fixture = start(10_000).await;
    let first = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let waiters = |engine: &Engine| engine.table().turns["a"].waiters.len();
    let joined: Vec<_> = (1..MOST_WAITERS).map(|_| fixture.submit("a", "wait a")).collect();
    fixture.until("all wait", async |f| waiters(&f.engine) == MOST_WAITERS).await;
    let refused = fixture.submit("a", "wait a").await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::QueueFull);
    assert!(refused.error.contains("this very turn"), "{refused}");
    for client in &joined[..2] {
        client.abort();
    }
    fixture.until("they are gone", async |_| joined[..2].iter().all(|client| client.is_finished())).await;
    let late = fixture.submit("a", "wait a");
    fixture.until("those who left are dropped", async |f| waiters(&f.engine) == MOST_WAITERS - 1).await;
    fixture.harness.release("wait a");
    for reply in [first, late] {
        assert_eq!(text(&reply.await.unwrap()), "wait a");
    }
}

#[tokio::test]
async fn large_messages_wait_only_as_far_as_there_is_room() {
    let fixture = start(10_000).await;
    let first = fixture.submit("a", "wait a");
    fixture.reaches("a", TurnState::Running).await;
    let large = "x".repeat(MOST_QUEUED_BYTES / 2);
    let second = fixture.submit("b", &large);
    fixture.reaches("b", TurnState::Queued).await;
    let refused = fixture.submit("c", &large).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::QueueFull);
    assert!(refused.error.contains("larger than"), "{refused}");
    let small = fixture.submit("d", "d");
    fixture.reaches("d", TurnState::Queued).await;
    fixture.harness.release("wait a");
    for turn in [first, second, small] {
        assert!(turn.await.unwrap().is_ok());
    }
    assert_eq!(fixture.engine.table().queued_bytes(), 0);
}

#[tokio::test]
async fn a_session_has_only_so_many_turns() {
    let fixture = start(10_000).await;
    fixture.submit("a", "a").await.unwrap().unwrap();
    {
        let mut table = fixture.engine.table();
        for number in 1..MOST_TURNS {
            let ended = Ended { state: TurnState::Completed, outcome: None, span: None };
            let digest = Digest::of(&TurnRequest::message("t", vec![]));
            let entry = Entry { digest, conversation: None, stage: Stage::Ended(ended), waiters: vec![] };
            table.turns.insert(number.to_string(), entry);
        }
    }
    let refused = fixture.submit("b", "b").await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::JournalFailed);
    assert!(refused.error.contains("another session"), "{refused}");
    assert_eq!(text(&fixture.submit("a", "a").await.unwrap()), "a");
}
