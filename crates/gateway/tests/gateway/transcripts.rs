//! What was said is kept, and no reply is given out before.

use paddock_api::labels;
use paddock_runnerapi::{ErrorCode, Saved};
use paddock_transcripts::StoreError;
use serde_json::{Value, json};

use super::runner::{FakeRunner, Script};
use super::support::{TestGateway, soon};

fn full() -> StoreError {
    StoreError::Full { doing: "storing entries", cause: "database or disk is full".to_owned() }
}

async fn say(gateway: &TestGateway, turn: &str) -> super::support::Reply {
    let body = json!({"text": format!("words of {turn}")});
    gateway.ask_with("POST", "/sessions/s1/message", &[("idempotency-key", turn)], Some(body)).await
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_reply_is_stored_before_its_client_has_it() {
    let (gateway, _runner, store) = TestGateway::with_store().await;
    for turn in ["a", "b"] {
        assert_eq!(say(&gateway, turn).await.status, 200);
        assert!(store.turns("uid-s1").contains(&format!("ended {turn}")));
    }
    assert_eq!(store.turns("uid-s1"), ["accepted a", "ended a", "accepted b", "ended b"]);
}

#[tokio::test]
async fn a_reply_that_cannot_be_stored_is_not_given_out_and_a_retry_gets_it() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    store.fail(full());
    let refused = say(&gateway, "a").await;
    assert_eq!(refused.error(), (503, "transcript_unavailable"));
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(refused.header("x-paddock-turn-id"), "a");
    let said = refused.body["error"].as_str().unwrap();
    assert!(said.contains("disk is full") && said.contains("Idempotency-Key: a"), "{said}");
    assert!(!said.contains("words of"), "{said}");
    store.recover();
    let reply = say(&gateway, "a").await;
    assert_eq!((reply.status, &reply.body["parts"][0]["text"]), (200, &json!("words of a")));
    assert_eq!(store.turns("uid-s1"), ["accepted a", "ended a"]);
    assert_eq!(runner.count(), 2, "the runner repeats what it knows");
}

#[tokio::test]
async fn an_error_of_the_harness_reaches_the_client_whatever_the_store_does() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    store.fail(full());
    runner.script(Script::Fail(ErrorCode::HarnessFailed));
    assert_eq!(say(&gateway, "a").await.error(), (502, "harness_failed"));
}

#[tokio::test]
async fn what_nobody_waited_for_is_stored_with_the_next_reply() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    for turn in ["x", "y", "z"] {
        runner.runs_by_itself(turn);
    }
    say(&gateway, "a").await;
    let told = store.turns("uid-s1");
    assert_eq!(told.len(), 8);
    assert_eq!((told[0].as_str(), told[7].as_str()), ("accepted x", "ended a"));
}

#[tokio::test]
async fn a_first_prompt_s_reply_is_shown_once_it_is_stored() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    let mut session = super::support::session("s2", runner.ready_status());
    session["spec"]["prompt"] = json!("begin");
    gateway.cluster.put(session);
    runner.runs_by_itself("initial-uid-s2");
    store.fail(full());
    assert_eq!(gateway.ask("GET", "/sessions/s2", None).await.body["response"], Value::Null);
    store.recover();
    let shown = gateway.ask("GET", "/sessions/s2", None).await;
    assert!(shown.body["response"]["parts"].is_array(), "{:?}", shown.body);
    assert_eq!(store.turns("uid-s2").len(), 2);
    gateway.cluster.put_status("s2", json!({"phase": "Dead"}));
    let after = gateway.ask("GET", "/sessions/s2", None).await;
    assert!(after.body["response"]["parts"].is_array(), "also when the pod is gone: {:?}", after.body);
}

#[tokio::test]
async fn turns_of_which_only_the_status_tells_are_stored_too() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    runner.runs_by_itself("x");
    let mut status = runner.ready_status();
    status["turns"] = json!({"total": 1, "running": 0, "queued": 0});
    gateway.cluster.put_status("s1", status);
    until("it is never stored", || store.turns("uid-s1").len() == 2).await;
}

#[tokio::test]
async fn a_pod_that_is_to_be_given_back_is_saved_and_the_controller_told() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    runner.runs_by_itself("x");
    store.fail(full());
    let mut stopping = super::support::session("s1", runner.ready_status());
    stopping["spec"]["state"] = json!("Stopped");
    stopping["status"]["transcriptWanted"] = json!(runner.position().to_string());
    gateway.cluster.put(stopping);
    soon(async {
        while !gateway.gateway.metrics.encode().contains("reason=\"full\"") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let annotation =
        || gateway.cluster.session("s1").metadata.annotations?.get(labels::TRANSCRIPT_SAVED).cloned();
    assert_eq!(annotation(), None, "nothing is said to be saved that is not");
    store.recover();
    until("nobody is told", || annotation().is_some()).await;
    let expected = Saved { pod_uid: "pod-1".to_owned(), through: runner.position() };
    assert_eq!(annotation(), Some(expected.to_string()));
    assert_eq!(store.turns("uid-s1").len(), 2);
    let patches = gateway.cluster.patches().len();
    gateway.put_session("other", json!({"phase": "Creating"}));
    say(&gateway, "a").await;
    assert_eq!(gateway.cluster.patches().len(), patches, "it is told once");
}

#[tokio::test]
async fn the_conversation_is_the_pods_while_there_is_one_and_the_stores_afterwards() {
    let (gateway, runner, _store) = TestGateway::with_store().await;
    say(&gateway, "a").await;
    let live = gateway.ask("GET", "/sessions/s1/messages", None).await;
    assert_eq!((live.status, &live.body[0]["info"]["id"]), (200, &json!("live")));
    let mut dead = runner.ready_status();
    dead["phase"] = json!("Dead");
    dead["endpoint"] = Value::Null;
    gateway.cluster.put_status("s1", dead);
    let stored = gateway.ask("GET", "/sessions/s1/messages", None).await;
    assert_eq!(stored.status, 200);
    let texts: Vec<&Value> =
        stored.body.as_array().unwrap().iter().map(|message| &message["parts"][0]["text"]).collect();
    assert_eq!(texts, ["words of a", "words of a"], "what was asked, and the echo");
    assert_eq!(gateway.ask("GET", "/sessions/nobody/messages", None).await.error(), (404, "not_found"));
}

#[tokio::test]
async fn while_a_session_comes_up_there_are_no_messages() {
    let (gateway, _runner, store) = TestGateway::with_store().await;
    gateway.put_session("s2", json!({"phase": "Creating", "incarnation": 1}));
    let reply = gateway.ask("GET", "/sessions/s2/messages", None).await;
    assert_eq!((reply.status, reply.body), (200, json!([])));
    store.fail(full());
    assert_eq!(
        gateway.ask("GET", "/sessions/s2/messages", None).await.error(),
        (503, "transcript_unavailable")
    );
}

#[tokio::test]
async fn the_journal_of_a_new_pod_goes_behind_that_of_the_one_before() {
    let (gateway, _runner, store) = TestGateway::with_store().await;
    say(&gateway, "a").await;
    let next = FakeRunner::start("pod-2").await;
    next.journal_number(2);
    gateway.cluster.put_status("s1", next.ready_status());
    say(&gateway, "b").await;
    assert_eq!(store.turns("uid-s1"), ["accepted a", "ended a", "accepted b", "ended b"]);
}

#[tokio::test]
async fn many_replies_at_once_are_stored_once_each() {
    let (gateway, _runner, store) = TestGateway::with_store().await;
    let turns: Vec<String> = (0..20).map(|turn| format!("t{turn:02}")).collect();
    let replies = futures::future::join_all(turns.iter().map(|turn| say(&gateway, turn))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let mut ended: Vec<String> =
        store.turns("uid-s1").into_iter().filter(|told| told.starts_with("ended")).collect();
    ended.sort();
    assert_eq!(ended, turns.iter().map(|turn| format!("ended {turn}")).collect::<Vec<_>>());
    assert!(store.appends() <= 40, "{} appends", store.appends());
}

#[tokio::test]
async fn a_new_pod_is_given_what_was_said_before_the_first_turn() {
    let (gateway, runner, store) = TestGateway::with_store().await;
    runner.runs_with_messages("a", &["m1", "m2"]);
    say(&gateway, "b").await;
    let next = FakeRunner::start("pod-2").await;
    next.journal_number(2);
    next.waits_for_the_conversation();
    gateway.cluster.put_status("s1", next.ready_status());
    let stored = gateway.ask("GET", "/sessions/s1/messages", None).await;
    assert_eq!(stored.body.as_array().unwrap().len(), 5, "until then what is stored is shown");
    store.fail(full());
    assert_eq!(say(&gateway, "c").await.error(), (503, "transcript_unavailable"));
    assert_eq!(next.conversation(), None);
    store.recover();
    let reply = say(&gateway, "c").await;
    assert_eq!((reply.status, next.count()), (200, 1), "it reached the harness once");
    let given = next.conversation().expect("the conversation");
    let ids: Vec<&Value> = given.iter().map(|message| &message["info"]["id"]).collect();
    assert_eq!(ids, ["m1", "m2", "reply-a"], "of turns that the harness showed whole");
}
