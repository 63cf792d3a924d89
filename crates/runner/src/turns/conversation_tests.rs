use std::sync::atomic::Ordering;

use serde_json::json;
use serde_json::value::to_raw_value;

use super::super::engine::tests::{code, continued, start, text};
use super::*;

fn messages(count: usize) -> ConversationRequest {
    let message = to_raw_value(&json!({"info": {"id": "m"}, "parts": []})).unwrap();
    ConversationRequest { messages: vec![message; count] }
}

#[tokio::test]
async fn no_turn_is_taken_before_the_harness_knows_what_was_said() {
    let fixture = continued().await;
    let refused = fixture.submit("t", "hello").await.unwrap();
    assert_eq!(code(&refused), ErrorCode::NeedsConversation);
    assert_eq!(fixture.engine.messages().await.unwrap_err().code, ErrorCode::NeedsConversation);
    assert!(fixture.harness.runs().is_empty() && fixture.storage.story().is_empty(), "nothing was done");
    fixture.engine.go_on_with(messages(3)).await.unwrap();
    assert_eq!(fixture.harness.restored.load(Ordering::SeqCst), 3);
    assert_eq!(text(&fixture.submit("t", "hello").await.unwrap()), "hello", "the same id can be used");
}

#[tokio::test]
async fn it_is_given_once_and_what_fails_may_be_tried_again() {
    let fixture = continued().await;
    fixture.harness.failures.store(1, Ordering::SeqCst);
    let failed = fixture.engine.go_on_with(messages(3)).await.unwrap_err();
    assert_eq!(failed.code, ErrorCode::HarnessFailed);
    assert_eq!(code(&fixture.submit("t", "hello").await.unwrap()), ErrorCode::NeedsConversation);
    for _ in 0..2 {
        fixture.engine.go_on_with(messages(3)).await.unwrap();
    }
    assert_eq!(fixture.harness.restored.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_session_that_begins_waits_for_nothing() {
    let fixture = start(10_000).await;
    fixture.submit("t", "hello").await.unwrap().unwrap();
    fixture.engine.go_on_with(messages(3)).await.unwrap();
    assert_eq!(
        fixture.harness.restored.load(Ordering::SeqCst),
        0,
        "a conversation is not mixed into another"
    );
}

#[tokio::test]
async fn nothing_may_have_been_said() {
    let fixture = continued().await;
    fixture.engine.go_on_with(messages(0)).await.unwrap();
    fixture.submit("t", "hello").await.unwrap().unwrap();
}
