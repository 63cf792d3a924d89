//! Turns that nobody waits for: accepted with 202, and asked for later.

use paddock_runnerapi::ErrorCode;
use paddock_transcripts::StoreError;
use serde_json::{Value, json};

use super::runner::{FakeRunner, Script};
use super::support::{BASE, Reply, TestGateway, soon};

fn down() -> StoreError {
    StoreError::Full { doing: "storing entries", cause: "database or disk is full".to_owned() }
}

async fn post(gateway: &TestGateway, key: &str) -> Reply {
    let headers = [("idempotency-key", key), ("prefer", "respond-async")];
    let body = json!({"text": format!("words of {key}")});
    soon(gateway.ask_with("POST", "/sessions/s1/message", &headers, Some(body))).await
}

async fn look(gateway: &TestGateway, turn: &str) -> Reply {
    gateway.ask("GET", &format!("/sessions/s1/turns/{turn}"), None).await
}

fn reply_of(words: &str) -> Value {
    json!({"info": {"n": 1.50}, "parts": [{"type": "text", "text": words}]})
}

#[tokio::test]
async fn a_message_is_answered_when_it_is_accepted_and_its_reply_is_had_later() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    let accepted = post(&gateway, "a").await;
    assert_eq!((accepted.status, &accepted.body), (202, &json!({"id": "a", "state": "running"})));
    assert_eq!(accepted.header("location"), format!("{BASE}/sessions/s1/turns/a"));
    assert_eq!(accepted.header("x-paddock-turn-id"), "a");
    assert_eq!(accepted.header("preference-applied"), "respond-async");
    assert_eq!(store.turns("uid-s1"), ["accepted a"], "what is said to be accepted is not lost with the pod");

    runner.answers_about("a", Some(json!({"id": "a", "state": "running"})));
    let running = look(&gateway, "a?wait=60s").await;
    assert_eq!((running.status, &running.body), (200, &json!({"id": "a", "state": "running"})));
    let waited: u64 =
        runner.looks()[0].strip_prefix("/v1/turns/a?wait_ms=").expect("a wait").parse().unwrap();
    assert!((50_000..=60_000).contains(&waited), "{waited}");

    runner.ends("a", &json!({"state": "completed", "reply": reply_of("done")}));
    let ended = look(&gateway, "a").await;
    assert_eq!(ended.body, json!({"id": "a", "state": "completed", "reply": reply_of("done")}));
    assert_eq!(ended.header("x-paddock-turn-id"), "a");
    assert_eq!(store.turns("uid-s1"), ["accepted a", "ended a"], "it is stored before it is told");
    assert!(runner.looks()[1].ends_with("?wait_ms=0"), "{:?}", runner.looks());
}

#[tokio::test]
async fn without_the_preference_and_with_an_unknown_one_the_reply_is_waited_for() {
    let (gateway, _runner, _store) = TestGateway::with_store().await;
    for prefer in ["handling=lenient", "respond-synchronously"] {
        let body = Some(json!({"text": "hi"}));
        let reply = gateway.ask_with("POST", "/sessions/s1/message", &[("prefer", prefer)], body).await;
        assert_eq!((reply.status, &reply.body["parts"][0]["text"]), (200, &json!("hi")));
        assert!(!reply.headers.contains_key("location"));
    }
}

#[tokio::test]
async fn the_same_key_joins_and_a_key_of_any_characters_has_a_location() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    assert_eq!(
        post(&gateway, "a/b c?%").await.header("location"),
        format!("{BASE}/sessions/s1/turns/a%2Fb%20c%3F%25")
    );
    assert_eq!(post(&gateway, "a/b c?%").await.status, 202);
    assert_eq!(store.turns("uid-s1"), ["accepted a/b c?%"]);
    runner.ends("a/b c?%", &json!({"state": "completed", "reply": reply_of("x")}));
    let told = look(&gateway, "a%2Fb%20c%3F%25").await;
    assert_eq!(
        (told.status, &told.body["id"], &told.body["state"]),
        (200, &json!("a/b c?%"), &json!("completed"))
    );
}

#[tokio::test]
async fn a_refusal_is_answered_as_ever() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    for (code, refused) in [
        (ErrorCode::TurnMismatch, (422, "turn_mismatch")),
        (ErrorCode::QueueFull, (429, "queue_full")),
        (ErrorCode::JournalFailed, (502, "journal_failed")),
    ] {
        runner.script(Script::Fail(code));
        assert_eq!(post(&gateway, "a").await.error(), refused);
    }
    assert_eq!(gateway.ask("GET", "/sessions/nobody/turns/a", None).await.error(), (404, "not_found"));
}

#[tokio::test]
async fn an_acceptance_that_cannot_be_stored_is_not_told() {
    let (gateway, _runner, store) = TestGateway::with_store().await;
    store.fail(down());
    let refused = post(&gateway, "a").await;
    assert_eq!(
        (refused.error(), refused.header("x-paddock-turn-id")),
        ((503, "transcript_unavailable"), "a")
    );
    assert!(refused.body["error"].as_str().unwrap().contains("accepted and runs"), "{refused:?}");
    store.recover();
    assert_eq!(post(&gateway, "a").await.status, 202);
}

#[tokio::test]
async fn an_outcome_that_cannot_be_stored_is_not_told_and_one_that_runs_is() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    post(&gateway, "a").await;
    post(&gateway, "b").await;
    runner.ends("a", &json!({"state": "completed", "reply": reply_of("secret words")}));
    runner.answers_about("b", Some(json!({"id": "b", "state": "queued"})));
    store.fail(down());
    let refused = look(&gateway, "a").await;
    assert_eq!((refused.error(), refused.header("retry-after")), ((503, "transcript_unavailable"), "2"));
    assert!(!refused.body.to_string().contains("secret words"));
    assert_eq!(look(&gateway, "b").await.body["state"], "queued");
    store.recover();
    assert_eq!(look(&gateway, "a").await.body["reply"], reply_of("secret words"));
}

#[tokio::test]
async fn a_turn_that_failed_says_why() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    post(&gateway, "a").await;
    let error = json!({"code": "turn_timeout", "error": "took too long"});
    runner.ends("a", &json!({"state": "failed", "error": error}));
    let told = look(&gateway, "a").await;
    assert_eq!((told.status, &told.body), (200, &json!({"id": "a", "state": "failed", "error": error})));
}

#[tokio::test]
async fn when_the_pod_is_gone_what_is_stored_is_told() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    post(&gateway, "a").await;
    post(&gateway, "b").await;
    runner.ends("a", &json!({"state": "completed", "reply": reply_of("kept")}));
    look(&gateway, "a").await;
    gateway.cluster.put_status("s1", json!({"phase": "Dead", "incarnation": 1}));
    let kept = look(&gateway, "a").await;
    assert_eq!(kept.body, json!({"id": "a", "state": "completed", "reply": reply_of("kept")}));
    let lost = look(&gateway, "b").await;
    assert_eq!((lost.status, &lost.body["state"]), (200, &json!("interrupted")));
    assert_eq!(lost.body["error"]["code"], "interrupted");
    assert_eq!(look(&gateway, "c").await.error(), (404, "not_found"));
    store.fail(down());
    assert_eq!(look(&gateway, "b").await.error(), (503, "transcript_unavailable"));
}

#[tokio::test]
async fn a_new_pod_that_does_not_know_a_turn_is_not_its_end() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    post(&gateway, "a").await;
    runner.ends("a", &json!({"state": "completed", "reply": reply_of("kept")}));
    look(&gateway, "a").await;
    let next = FakeRunner::start("pod-2").await;
    next.journal_number(2);
    next.answers_about("a", None);
    next.answers_about("c", None);
    gateway.cluster.put_status("s1", next.ready_status());
    assert_eq!(look(&gateway, "a").await.body["reply"], reply_of("kept"));
    assert_eq!(look(&gateway, "c").await.error(), (404, "not_found"));
}

#[tokio::test]
async fn a_pod_that_cannot_be_asked_is_no_verdict_on_a_turn() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    post(&gateway, "a").await;
    runner.script(Script::Hello);
    let unknown = look(&gateway, "a").await;
    assert_eq!(unknown.error(), (502, "unreachable"));
    assert_eq!(look(&gateway, "never").await.error(), (502, "unreachable"));
}

#[tokio::test]
async fn while_the_next_pod_comes_up_it_is_waited_for() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    post(&gateway, "a").await;
    gateway.cluster.put_status("s1", json!({"phase": "Creating", "incarnation": 2, "reason": "Recovering"}));
    let coming = look(&gateway, "a").await;
    assert_eq!((coming.error(), coming.header("retry-after")), ((503, "not_ready"), "2"));
    runner.answers_about(
        "a",
        Some(json!({"id": "a", "state": "interrupted", "error": {"code": "interrupted", "error": "x"}})),
    );
    let reads = gateway.cluster.reads();
    let waits = look(&gateway, "a?wait=60s");
    let comes = async {
        while gateway.cluster.reads() == reads {
            tokio::task::yield_now().await;
        }
        gateway.cluster.put_status("s1", runner.ready_status());
    };
    let (told, ()) = soon(async { tokio::join!(waits, comes) }).await;
    assert_eq!((told.status, &told.body["state"]), (200, &json!("interrupted")));
    gateway.put_session("s2", json!({"phase": "Creating", "incarnation": 1}));
    let first = gateway.ask("GET", "/sessions/s2/turns/a?wait=60s", None).await;
    assert_eq!(first.error(), (404, "not_found"), "a first pod has nothing to tell of turns before it");
}

#[tokio::test]
async fn malformed_questions_are_refused() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    for path in ["a?wait=61s", "a?wait=soon", "a?wait=1s&wait=2s", "%zz", "%20a", "%C3%A4", &"x".repeat(129)]
    {
        let refused = look(&gateway, path).await;
        assert_eq!(refused.error(), (400, "bad_request"), "{path}");
    }
    assert!(runner.looks().is_empty());
    assert_eq!(look(&gateway, "a/b").await.error(), (404, "not_found"));
    assert_eq!(gateway.ask("POST", "/sessions/s1/turns/a", None).await.error(), (405, "method_not_allowed"));
}

#[tokio::test]
async fn without_a_store_the_pod_alone_is_asked() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    assert_eq!(post(&gateway, "a").await.status, 202);
    runner.answers_about("b", None);
    assert_eq!(look(&gateway, "a").await.body["state"], "completed");
    assert_eq!(look(&gateway, "b").await.error(), (404, "not_found"));
    gateway.cluster.put_status("s1", json!({"phase": "Dead"}));
    assert_eq!(look(&gateway, "a").await.error(), (404, "not_found"));
}
