//! What happens in a session, told as it happens: `/events`, `/stream` and `/message_stream`.

use std::sync::Arc;
use std::time::Duration;

use paddock_gateway::gateway::{Limits, RelayTimes};
use paddock_gateway::server::accept::Drained;
use paddock_gateway::server::drain::Stage;
use paddock_runnerapi::ErrorCode;
use paddock_transcripts::StoreError;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::runner::{End, FakeRunner, Script};
use super::store::MemoryStore;
use super::support::{Setup, Sse, TestGateway, head, soon};

const EVENTS: &str = "/sessions/s1/events";
const STREAM: &str = "/sessions/s1/stream";
const MESSAGE_STREAM: &str = "/sessions/s1/message_stream";

fn part(number: u32) -> Value {
    json!({"type": "message.part.updated", "properties": {"sessionID": "ses_1", "n": number}})
}

fn idle() -> Value {
    json!({"type": "session.idle", "properties": {"sessionID": "ses_1"}})
}

fn wrapped(event: &Value) -> Value {
    json!({"type": "harness_event", "event": event})
}

async fn events(gateway: &TestGateway) -> Sse {
    gateway.follow("GET", EVENTS, &[], None).await
}

async fn ask(gateway: &TestGateway, text: &str, headers: &[(&str, &str)]) -> Sse {
    gateway.follow("POST", MESSAGE_STREAM, headers, Some(json!({"text": text}))).await
}

/// All that is told until the stream ends.
async fn rest(stream: &mut Sse) -> Vec<Value> {
    let mut told = Vec::new();
    while let Some(data) = stream.next().await {
        told.push(data);
    }
    told
}

async fn with_relay(relay: RelayTimes) -> (TestGateway, FakeRunner) {
    let gateway = TestGateway::with(Setup { relay, ..Setup::default() }).await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.ready_status());
    (gateway, runner)
}

/// How high a metric without labels is.
fn metric(gateway: &TestGateway, name: &str) -> u64 {
    let text = gateway.gateway.metrics.encode();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("paddock_gateway_{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn events_are_told_with_ids_and_nothing_holds_them_back() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    runner.says(&part(1));
    let mut stream = events(&gateway).await;
    for (name, value) in
        [("content-type", "text/event-stream"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
    {
        assert_eq!(stream.headers[name], value, "{name}");
    }
    assert!(!stream.headers.contains_key("x-pod-internal"));
    assert_eq!(stream.next().await.unwrap(), json!({"type": "ready"}));
    assert_eq!(stream.last_id, "1.1", "an id to go on from, before the first event");
    runner.says(&part(2));
    assert_eq!(stream.next().await.unwrap(), wrapped(&part(2)));
    assert_eq!(stream.last_id, "1.2");
    runner.says(&idle());
    assert_eq!(stream.next().await.unwrap(), wrapped(&idle()), "a tail does not end with a turn");
    runner.says(&part(3));
    assert_eq!(stream.next().await.unwrap(), wrapped(&part(3)));
    assert_eq!(metric(&gateway, "streams"), 1);
    drop(stream);
    until("the stream of a client that left is still counted", || metric(&gateway, "streams") == 0).await;
}

#[tokio::test]
async fn a_reader_that_comes_back_goes_on_after_its_last_event() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    (1..=3).for_each(|number| runner.says(&part(number)));
    let resumed: [(&str, &[(&str, &str)]); 3] = [
        (EVENTS, &[("last-event-id", "1.1")]),
        ("/sessions/s1/events?after=1.1", &[]),
        ("/sessions/s1/events?after=1.3", &[("last-event-id", "1.1")]),
    ];
    for (path, headers) in resumed {
        let mut stream = gateway.follow("GET", path, headers, None).await;
        assert_eq!(stream.next().await.unwrap(), json!({"type": "ready"}));
        assert_eq!(stream.last_id, "1.1");
        for number in [2, 3] {
            assert_eq!(stream.next().await.unwrap(), wrapped(&part(number)), "{path}");
        }
    }
    assert_eq!(runner.followers(3).await, ["after=1.1"; 3]);
    for (path, headers) in [
        ("/sessions/s1/events?after=7", &[][..]),
        ("/sessions/s1/events?after=1.1&after=1.2", &[]),
        (STREAM, &[("last-event-id", "evt_1")]),
    ] {
        assert_eq!(
            gateway.ask_with("GET", path, headers, None).await.error(),
            (400, "bad_request"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_lives_and_is_not_taken_for_an_idle_connection() {
    let gateway = TestGateway::with(Setup {
        relay: RelayTimes { heartbeat: Duration::from_millis(20), ..Setup::default().relay },
        limits: Limits { idle_timeout: Duration::from_millis(60), ..Limits::default() },
        ..Setup::default()
    })
    .await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.ready_status());
    let mut stream = events(&gateway).await;
    assert_eq!(stream.next().await.unwrap(), json!({"type": "ready"}));
    stream.beats(10).await;
    runner.says(&part(1));
    assert_eq!(stream.next().await.unwrap(), wrapped(&part(1)));
}

#[tokio::test]
async fn a_session_that_is_not_ready_is_told_by_its_state() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.ask("GET", EVENTS, None).await.error(), (404, "not_found"));
    assert_eq!(gateway.ask("GET", STREAM, None).await.error(), (404, "not_found"));
    for (phase, code) in
        [("Creating", "creating"), ("Suspended", "suspended"), ("Failed", "failed"), ("Dead", "dead")]
    {
        let state = if phase == "Suspended" { "Suspended" } else { "Running" };
        gateway.put_session("s1", json!({"phase": phase, "incarnation": 1}));
        gateway.cluster.put_spec("s1", &json!({"state": state}));
        assert_eq!(gateway.ask("GET", EVENTS, None).await.error(), (409, code), "{phase}");
    }
    for (phase, code) in [("Failed", "failed"), ("Dead", "dead")] {
        gateway.put_session("s1", json!({"phase": phase}));
        assert_eq!(gateway.ask("GET", STREAM, None).await.error(), (410, code));
    }
    gateway.put_session(
        "s1",
        json!({"phase": "Ready", "incarnation": 1, "capabilities": {"messages": false, "terminal": true}}),
    );
    for path in [EVENTS, STREAM] {
        assert_eq!(gateway.ask("GET", path, None).await.error(), (409, "terminal_only"));
    }
    assert_eq!(gateway.ask("POST", EVENTS, None).await.error(), (405, "method_not_allowed"));
    assert_eq!(gateway.ask("GET", MESSAGE_STREAM, None).await.error(), (405, "method_not_allowed"));
}

#[tokio::test]
async fn one_reader_too_many_is_told_to_come_later_and_its_message_is_not_sent() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    runner.script(Script::Fail(ErrorCode::TooManyStreams));
    for path in [EVENTS, STREAM] {
        let refused = gateway.ask("GET", path, None).await;
        assert_eq!((refused.error(), refused.header("retry-after")), ((429, "too_many_streams"), "5"));
    }
    let refused = gateway.ask("POST", MESSAGE_STREAM, Some(json!({"text": "hi"}))).await;
    assert_eq!(refused.error(), (429, "too_many_streams"));
    assert_eq!(runner.count(), 0);
}

#[tokio::test]
async fn a_pod_that_is_lost_is_no_silent_end() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for end in [End::Stopping, End::Broken] {
        let mut stream = events(&gateway).await;
        stream.next().await.unwrap();
        runner.says(&part(1));
        assert_eq!(stream.next().await.unwrap(), wrapped(&part(1)));
        runner.ends_streams(end);
        let error = stream.next().await.unwrap();
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("unreachable")));
        assert!(error["message"].as_str().unwrap().contains("Last-Event-ID"), "{error}");
        assert_eq!(stream.next().await, None, "the stream itself ends in order");
    }
    let mut stream = gateway.follow("GET", STREAM, &[], None).await;
    stream.next().await.unwrap();
    gateway.cluster.put_status("s1", json!({"phase": "Dead", "message": "it was stopped"}));
    runner.ends_streams(End::Stopping);
    let error = stream.next().await.unwrap();
    assert_eq!((&error["type"], &error["properties"]["code"]), (&json!("stream.error"), &json!("dead")));
    assert!(error["properties"]["message"].as_str().unwrap().contains("it was stopped"), "{error}");
    assert_eq!(stream.next().await, None);

    let refusing = FakeRunner::start("pod-1").await;
    let mut status = refusing.ready_status();
    // Nothing listens there.
    status["endpoint"] = json!("127.0.0.1:1");
    gateway.put_session("s1", status);
    assert_eq!(gateway.ask("GET", EVENTS, None).await.error(), (502, "unreachable"));
}

#[tokio::test]
async fn the_plain_stream_is_the_harness_s_own_and_ends_with_its_turn() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let mut once = gateway.follow("GET", STREAM, &[], None).await;
    let mut tail = gateway.follow("GET", "/sessions/s1/stream?follow=1", &[], None).await;
    for stream in [&mut once, &mut tail] {
        assert_eq!(stream.next().await.unwrap(), json!({"type": "stream.opened"}));
    }
    let told = [part(1), idle(), part(2)];
    told.iter().for_each(|event| runner.says(event));
    assert_eq!(rest(&mut once).await, told[..2]);
    for event in &told {
        assert_eq!(tail.next().await.unwrap(), *event);
    }
    assert_eq!(
        gateway.ask("GET", "/sessions/s1/stream?follow=maybe", None).await.error(),
        (400, "bad_request")
    );
}

#[tokio::test]
async fn the_plain_stream_waits_for_its_session() {
    let (gateway, runner) =
        with_relay(RelayTimes { stream_ready: Duration::from_secs(20), ..Setup::default().relay }).await;
    gateway.put_session("s1", json!({"phase": "Creating", "incarnation": 1}));
    let follow = gateway.follow("GET", STREAM, &[], None);
    let becomes_ready = async {
        // It was read again, and waits.
        until("nobody asks for it", || gateway.cluster.reads() > 0).await;
        gateway.cluster.put_status("s1", runner.ready_status());
    };
    let (mut stream, ()) = tokio::join!(follow, becomes_ready);
    assert_eq!(stream.next().await.unwrap(), json!({"type": "stream.opened"}));

    gateway.cluster.put_status("s1", json!({"phase": "Creating", "incarnation": 1}));
    let reads = gateway.cluster.reads();
    let follow = gateway.ask("GET", STREAM, None);
    let fails = async {
        until("nobody asks for it", || gateway.cluster.reads() > reads).await;
        gateway.cluster.put_status("s1", json!({"phase": "Failed"}));
    };
    let (refused, ()) = tokio::join!(follow, fails);
    assert_eq!(refused.error(), (410, "failed"));

    let (gateway, _runner) =
        with_relay(RelayTimes { stream_ready: Duration::from_millis(20), ..Setup::default().relay }).await;
    gateway.put_session("s1", json!({"phase": "Creating", "incarnation": 1}));
    assert_eq!(gateway.ask("GET", STREAM, None).await.error(), (504, "wait_expired"));
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_and_is_told_what_it_missed() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let mut slow = gateway.raw().await;
    slow.write(format!("{}\r\n", head("GET", EVENTS))).await.unwrap();
    runner.followers(1).await;
    let mut quick = events(&gateway).await;
    quick.next().await.unwrap();
    // More than all buffers between pod and client can take.
    let large = json!({"type": "x", "text": "y".repeat(256 << 10)});
    let count = 200;
    for _ in 0..count {
        runner.says(&large);
        assert_eq!(quick.next().await.unwrap()["event"], large);
    }
    assert!(runner.taken() < 2 * count, "what a client does not read is left in the pod");
    assert!(runner.taken() >= count);

    // The real runner keeps less than that, and says so.
    runner.misses("slow_reader");
    let gap = quick.next().await.unwrap();
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("slow_reader")));
    assert_eq!(quick.last_id, format!("1.{}", count + 1));
    let metrics = gateway.gateway.metrics.encode();
    assert!(metrics.contains("paddock_gateway_stream_gaps_total{reason=\"slow_reader\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_client_that_does_not_read_at_all_is_dropped() {
    let gateway = TestGateway::with(Setup {
        limits: Limits { idle_timeout: Duration::from_millis(100), ..Limits::default() },
        ..Setup::default()
    })
    .await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.ready_status());
    let mut stuck = gateway.raw().await;
    stuck.write(format!("{}\r\n", head("GET", EVENTS))).await.unwrap();
    runner.followers(1).await;
    let large = json!({"type": "x", "text": "y".repeat(256 << 10)});
    for _ in 0..200 {
        runner.says(&large);
    }
    until("the stream was never opened", || runner.taken() > 0).await;
    until("it is still served", || metric(&gateway, "streams") == 0).await;
}

#[tokio::test]
async fn a_message_is_told_from_its_beginning_to_its_end() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    runner.says(&part(0));
    let mut stream = ask(&gateway, "work", &[("idempotency-key", "t1")]).await;
    assert_eq!(stream.headers["x-paddock-turn-id"], "t1");
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.next().await.unwrap(), json!({"type": "ready"}));
    let seen = &runner.seen(1).await[0];
    assert_eq!((seen.turn.id.as_str(), &seen.turn.parts[0]["text"]), ("t1", &json!("work")));
    runner.says(&part(1));
    assert_eq!(stream.next().await.unwrap(), wrapped(&part(1)), "nothing of before the turn");
    // The harness's own end may come a moment after the reply.
    go.notify_one();
    runner.finished(1).await;
    runner.says(&part(2));
    runner.says(&idle());
    assert_eq!(rest(&mut stream).await, [wrapped(&part(2)), wrapped(&idle()), json!({"type": "done"})]);
    assert_eq!(stream.last_id, "1.4", "done has the id of the last event");

    // A retry gets the same turn, and the events after the last one it has.
    runner.script(Script::Echo);
    let retry = [("idempotency-key", "t1"), ("last-event-id", "1.3")];
    let mut stream = ask(&gateway, "work", &retry).await;
    assert_eq!(
        rest(&mut stream).await,
        [json!({"type": "ready"}), wrapped(&idle()), json!({"type": "done"})]
    );
}

#[tokio::test]
async fn a_turn_whose_harness_tells_nothing_ends_all_the_same() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    let mut stream = ask(&gateway, "hi", &[]).await;
    assert_eq!(rest(&mut stream).await, [json!({"type": "ready"}), json!({"type": "done"})]);
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_told_by_its_status() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for (body, code) in [(json!({}), "bad_request"), (json!({"text": ""}), "bad_request")] {
        assert_eq!(gateway.ask("POST", MESSAGE_STREAM, Some(body)).await.error(), (400, code));
    }
    let bad_id = [("last-event-id", "x")];
    let refused = gateway.ask_with("POST", MESSAGE_STREAM, &bad_id, Some(json!({"text": "a"}))).await;
    assert_eq!(refused.error(), (400, "bad_request"));
    gateway.put_session("s2", json!({"phase": "Dead"}));
    for (session, code) in [("s2", "dead"), ("none", "not_found")] {
        let path = format!("/sessions/{session}/message_stream");
        let refused = gateway.ask("POST", &path, Some(json!({"text": "a"}))).await;
        assert_eq!(refused.error(), (404, code));
        assert!(refused.headers.contains_key("x-paddock-turn-id"));
    }
    assert_eq!(runner.count(), 0);
}

#[tokio::test]
async fn a_turn_that_fails_ends_its_stream_with_the_error_of_a_message() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for (script, code) in [
        (Script::Fail(ErrorCode::HarnessFailed), "harness_failed"),
        (Script::Fail(ErrorCode::TurnMismatch), "turn_mismatch"),
        (Script::Fail(ErrorCode::QueueFull), "queue_full"),
        (Script::Break, "turn_lost"),
    ] {
        runner.script(script);
        let told = rest(&mut ask(&gateway, "hi", &[]).await).await;
        assert_eq!(told[0], json!({"type": "ready"}));
        assert_eq!((&told[1]["type"], &told[1]["code"]), (&json!("error"), &json!(code)));
        assert!(!told[1]["message"].as_str().unwrap().is_empty());
        assert_eq!(told.len(), 2, "{told:?}");
    }
    runner.script(Script::EchoAfter(Arc::default()));
    let told = rest(&mut ask(&gateway, "hi", &[("prefer", "wait=0")]).await).await;
    assert_eq!(told[1]["code"], "wait_expired", "{told:?}");
}

#[tokio::test]
async fn a_turn_is_done_once_it_is_stored_and_not_before() {
    let store = Arc::new(MemoryStore::default());
    let gateway = TestGateway::with(Setup { store: Some(store.clone()), ..Setup::default() }).await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.ready_status());
    store.fail(StoreError::Full { doing: "storing entries", cause: "database or disk is full".to_owned() });
    let key = [("idempotency-key", "t1")];
    let told = rest(&mut ask(&gateway, "hi", &key).await).await;
    assert_eq!(told.last().unwrap()["code"], "transcript_unavailable", "{told:?}");
    store.recover();
    let told = rest(&mut ask(&gateway, "hi", &key).await).await;
    assert_eq!(*told.last().unwrap(), json!({"type": "done"}));
    assert_eq!(store.turns("uid-s1"), ["accepted t1", "ended t1"]);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_cancel_its_turn() {
    let store = Arc::new(MemoryStore::default());
    let gateway = TestGateway::with(Setup { store: Some(store.clone()), ..Setup::default() }).await;
    let runner = FakeRunner::start("pod-1").await;
    gateway.put_session("s1", runner.ready_status());
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let mut stream = ask(&gateway, "hi", &[("idempotency-key", "t1")]).await;
    stream.next().await.unwrap();
    runner.seen(1).await;
    drop(stream);
    until("the stream is still served", || metric(&gateway, "streams") == 0).await;
    go.notify_one();
    runner.finished(1).await;
    until("its reply is not stored", || store.turns("uid-s1").contains(&"ended t1".to_owned())).await;
}

#[tokio::test]
async fn events_go_on_with_the_pod_that_takes_the_turn() {
    let (gateway, first) = TestGateway::with_ready_session().await;
    first.script(Script::Fail(ErrorCode::Quiesced));
    let mut stream = ask(&gateway, "hi", &[]).await;
    assert_eq!(stream.next().await.unwrap(), json!({"type": "ready"}));
    first.seen(1).await;
    let second = FakeRunner::start("pod-2").await;
    let go = Arc::new(Notify::new());
    second.script(Script::EchoAfter(go.clone()));
    second.says(&part(1));
    gateway.cluster.put_status("s1", second.ready_status());
    first.ends_streams(End::Stopping);
    second.followers(1).await;
    assert_eq!(stream.next().await.unwrap(), wrapped(&part(1)));
    second.says(&idle());
    go.notify_one();
    assert_eq!(rest(&mut stream).await, [wrapped(&idle()), json!({"type": "done"})]);
    assert_eq!((first.harness(), second.harness()), (0, 1));
}

#[tokio::test]
async fn a_drain_ends_those_who_only_read_and_lets_turns_be_told_to_their_end() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let go = Arc::new(Notify::new());
    runner.script(Script::EchoAfter(go.clone()));
    let mut tail = events(&gateway).await;
    let mut plain = gateway.follow("GET", "/sessions/s1/stream?follow=1", &[], None).await;
    let mut turn = ask(&gateway, "hi", &[]).await;
    for stream in [&mut tail, &mut plain, &mut turn] {
        stream.next().await.unwrap();
    }
    gateway.stop.cancel();
    soon(gateway.gateway.drain.reached(Stage::Closing)).await;
    for stream in [&mut tail, &mut plain] {
        assert_eq!(stream.next().await, None, "an end, and no error");
    }
    runner.says(&part(1));
    assert_eq!(turn.next().await.unwrap(), wrapped(&part(1)));
    runner.says(&idle());
    go.notify_one();
    assert_eq!(rest(&mut turn).await, [wrapped(&idle()), json!({"type": "done"})]);
    assert_eq!(soon(gateway.served).await.unwrap().unwrap(), Drained::Completely);
}
