use paddock_runnerapi::{ErrorCode, TurnState};
use serde_json::{Value, json};

use super::super::engine::tests::{Fixture, code, resume, start};
use super::*;

/// Kind, turn and body of each entry.
fn entries(page: &TranscriptPage) -> Vec<(EntryKind, &str, Value)> {
    let body = |entry: &TranscriptEntry| serde_json::from_str(entry.body.get()).unwrap();
    page.entries.iter().map(|entry| (entry.kind, entry.turn.as_str(), body(entry))).collect()
}

async fn told(fixture: &Fixture) -> TranscriptPage {
    fixture.engine.transcript(0).await.unwrap()
}

#[tokio::test]
async fn a_turn_is_told_with_what_was_asked_its_steps_and_its_reply() {
    let fixture = start(10_000).await;
    *fixture.harness.steps.lock().unwrap() = vec!["step".to_owned()];
    fixture.submit("t", "hello").await.unwrap().unwrap();
    let page = told(&fixture).await;
    let parts = json!([{"type": "text", "text": "hello"}]);
    let told = entries(&page);
    assert_eq!(told[0], (EntryKind::Accepted, "t", json!({"parts": parts})));
    assert_eq!((told[1].0, told[1].1), (EntryKind::Messages, "t"));
    let ids: Vec<&Value> =
        told[1].2["messages"].as_array().unwrap().iter().map(|message| &message["info"]["id"]).collect();
    assert_eq!(ids, ["msg_0", "step"]);
    let end = json!({"state": "completed", "reply": {"info": {}, "parts": parts}});
    assert_eq!(told[2], (EntryKind::Ended, "t", end));
    assert_eq!((told.len(), page.through), (3, page.end));
    assert_eq!(fixture.engine.position(), Position { journal: 1, seq: page.end });
    let rest = fixture.engine.transcript(page.entries[1].seq).await.unwrap();
    assert_eq!(entries(&rest), told[2..]);
}

#[tokio::test]
async fn before_the_first_turn_there_is_nothing_to_keep() {
    let fixture = start(10_000).await;
    assert_eq!(fixture.engine.position(), Position { journal: 1, seq: 0 });
    assert_eq!(fixture.engine.activity().await.transcript.seq, 0);
}

#[tokio::test]
async fn the_reply_is_not_among_the_messages_before_it() {
    let fixture = start(10_000).await;
    *fixture.harness.steps.lock().unwrap() = vec!["step".to_owned(), "last".to_owned()];
    let reply = Outcome::Completed(Bytes::from_static(br#"{"info":{"id":"last"},"parts":[]}"#));
    let names = TurnNames { conversation: None, message: "msg".to_owned(), parts: Vec::new() };
    let messages = fixture.engine.messages_beside(Some(&names), &reply).await;
    let ids: Vec<_> = messages.iter().map(|message| message_id(message.get().as_bytes()).unwrap()).collect();
    assert_eq!(ids, ["msg", "step"]);
}

#[tokio::test]
async fn a_turn_that_failed_is_told_too() {
    let fixture = start(10_000).await;
    fixture.submit("t", "fail").await.unwrap().unwrap_err();
    let page = told(&fixture).await;
    let (kind, _, end) = entries(&page).pop().unwrap();
    assert_eq!(
        (kind, &end["state"], &end["error"]["code"]),
        (EntryKind::Ended, &json!("failed"), &json!("harness_failed"))
    );
}

#[tokio::test]
async fn a_place_that_is_none_is_the_callers_mistake() {
    let fixture = start(10_000).await;
    fixture.submit("t", "hello").await.unwrap().unwrap();
    let refused = fixture.engine.transcript(5).await.map(|_| Bytes::new());
    assert_eq!(code(&refused), ErrorCode::BadRequest);
}

#[tokio::test]
async fn places_stay_the_same_after_a_restart() {
    let fixture = start(10_000).await;
    fixture.submit("a", "a").await.unwrap().unwrap();
    let before = told(&fixture).await;
    let again = resume(&fixture.storage, &fixture.harness, 10_000).await;
    let after = again.transcript(0).await.unwrap();
    assert_eq!(entries(&before), entries(&after));
    assert_eq!(before.through, after.through);
    assert_eq!(again.status("a").await.unwrap().0, TurnState::Completed);
}
