//! A model that fails is the turn's failure, not the session's.

use std::time::Duration;

use paddock_e2e::scenario::name_of;
use paddock_e2e::{Share, measure, scenario};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(600);

// Alone: LiteLLM may rest a model that fails, and the others use the same one.
#[tokio::test]
async fn a_refusal_is_in_the_reply() {
    scenario("the model answers 400", Share::Alone, LIMIT, async |s| {
        let agent = s.agent("refused", json!({})).await;
        let id = name_of(&s.ready_session("refused", &agent).await);
        let answer = s.http.say(&id, "!fail 400").await;
        let reply = answer.with_status(200);
        assert!(reply["info"]["error"].is_object(), "info.error tells what the model said: {reply}");
        let word = s.word("after");
        let after = s.http.say(&id, &format!("!say {word}")).await;
        assert!(after.reply().contains(&word), "the session goes on: {}", after.body_text());
    })
    .await;
}

#[tokio::test]
async fn one_without_end_is_ended_by_the_turn_timeout() {
    scenario("the model answers 503 for ever", Share::Alone, LIMIT, async |s| {
        let agent = s.agent("endless", json!({ "lifecycle": { "turnTimeout": "20s" } })).await;
        let id = name_of(&s.ready_session("endless", &agent).await);
        let answer = s.http.say(&id, "!fail 503").await;
        answer.error(502, Some("turn_timeout"));
        assert!(!answer.header("x-paddock-turn-id").is_empty(), "a 502 names its turn: {:?}", answer.headers);
        measure::times("turnTimeout of 20 s→502", &[answer.took]);
        let word = s.word("after");
        let after = s.http.say(&id, &format!("!say {word}")).await;
        assert!(after.reply().contains(&word), "the session goes on: {}", after.body_text());
    })
    .await;
}

#[tokio::test]
async fn silence_is_ended_by_the_turn_timeout() {
    scenario("a turn longer than turnTimeout", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("slow", json!({ "lifecycle": { "turnTimeout": "8s" } })).await;
        let id = name_of(&s.ready_session("slow", &agent).await);
        let answer = s.http.say(&id, "!hang 60").await;
        answer.error(502, Some("turn_timeout"));
        assert!(answer.took < Duration::from_secs(60), "it took {:?}", answer.took);
        let told = s.http.get(&format!("/sessions/{id}")).await.with_status(200);
        assert_eq!(told["status"], "ready", "a turn's end is not the session's: {told}");
    })
    .await;
}
