//! A session can be watched while it works, and a watcher that was cut off misses nothing.

use std::time::Duration;

use paddock_e2e::scenario::name_of;
use paddock_e2e::watcher::{Told, Watcher};
use paddock_e2e::{Scenario, Share, scenario};
use reqwest::Method;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

fn is_idle(data: &Value) -> bool {
    data["event"]["type"] == "session.idle"
}

/// Whether the event shows what a shell command printed.
fn ran(data: &Value, word: &str) -> bool {
    let part = &data["event"]["properties"]["part"];
    part["type"] == "tool" && part["state"]["output"].as_str().is_some_and(|output| output.contains(word))
}

fn numbers(told: &[Told]) -> Vec<u64> {
    told.iter()
        .map(|told| told.id.split_once('.').expect("two numbers").1.parse().expect("a number"))
        .collect()
}

async fn message_stream(s: &Scenario, id: &str, text: &str) -> Watcher {
    let route = format!("/sessions/{id}/message_stream");
    Watcher::begin(s.http.request(Method::POST, &route).json(&json!({ "text": text }))).await
}

#[tokio::test]
async fn show_a_turn_as_it_goes_and_forget_nothing_for_who_comes_back() {
    scenario("events of a session", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("watched", json!({})).await;
        let session = s.ready_session("watched", &agent).await;
        let id = name_of(&session);
        let events = || s.http.request(Method::GET, &format!("/sessions/{id}/events"));
        let mut watcher = Watcher::begin(events()).await;
        assert_eq!(watcher.next().await.expect("an event").data, json!({ "type": "ready" }));

        let first = s.word("first");
        let mut turn = message_stream(s, &id, &format!("!run echo {first}")).await;
        let told =
            turn.until("done", |data| data["type"] != "ready" && data["type"] != "harness_event").await;
        assert_eq!(told.first().expect("events").data, json!({ "type": "ready" }));
        let last = &told.last().expect("events").data;
        assert_eq!(*last, json!({ "type": "done" }), "no gap, no error");
        assert!(turn.next().await.is_none(), "nothing comes after done");
        assert!(told.iter().any(|told| ran(&told.data, &first)), "the tool's part is among the events");
        assert!(numbers(&told).is_sorted(), "ids grow: {:?}", numbers(&told));

        // Who only watches is told the same. Then its connection is cut, in the middle of what it would have read.
        let seen = watcher.until("the tool's part", |data| ran(data, &first)).await;
        let last_id = seen.last().expect("events").id.clone();
        drop(watcher);
        let second = s.word("second");
        s.http.say(&id, &format!("!run echo {second}")).await.reply();

        let mut watcher = Watcher::begin(events().header("Last-Event-ID", &last_id)).await;
        let ready = watcher.next().await.expect("an event");
        assert_eq!((&ready.id, &ready.data), (&last_id, &json!({ "type": "ready" })));
        let mut missed = watcher.until("the end of the first turn", is_idle).await;
        missed.extend(watcher.until("the second turn", |data| ran(data, &second)).await);
        assert!(missed.iter().all(|told| told.data["type"] == "harness_event"), "nothing was lost");
        let numbers = numbers(&missed);
        let begin: u64 = last_id.split_once('.').expect("two numbers").1.parse().expect("a number");
        let expected: Vec<u64> = (begin + 1..).take(numbers.len()).collect();
        assert_eq!(numbers, expected, "every event after the last one, each once");
    })
    .await;
}

#[tokio::test]
async fn end_with_a_turn_or_with_the_session() {
    scenario("the plain stream of a session, and its end", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("ending", json!({})).await;
        // It is asked for at once, and waits until the session is ready.
        let id = s.session("ending", &agent, Value::Null).await;
        let mut once = Watcher::begin(s.http.request(Method::GET, &format!("/sessions/{id}/stream"))).await;
        assert_eq!(once.next().await.expect("an event").data, json!({ "type": "stream.opened" }));
        let mut tail = Watcher::begin(s.http.request(Method::GET, &format!("/sessions/{id}/events"))).await;
        s.http.say(&id, &s.word("hello")).await.reply();
        let told = once.until("idle", |data| data["type"] == "session.idle").await;
        assert!(
            told.iter().any(|told| told.data["type"] == "message.part.updated"),
            "the harness's own events"
        );
        assert!(once.next().await.is_none(), "it ends with the turn");

        s.http.delete(&format!("/sessions/{id}")).await.with_status(200);
        let end = tail.until("the end", |data| data["type"] == "error").await;
        assert!(end.last().expect("an error").data["message"].is_string());
        assert!(tail.next().await.is_none(), "an end in order");
        s.ended(&id, paddock_api::Phase::Dead).await;
        s.http.get(&format!("/sessions/{id}/events")).await.error(409, Some("dead"));
        s.http.get(&format!("/sessions/{id}/stream")).await.error(410, Some("dead"));
    })
    .await;
}
