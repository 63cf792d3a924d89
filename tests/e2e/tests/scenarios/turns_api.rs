//! Turns that nobody waits for, and what one can look at when a session does not do as it should.

use std::time::{Duration, Instant};

use paddock_api::Phase;
use paddock_e2e::http::{Answer, message_route};
use paddock_e2e::scenario::name_of;
use paddock_e2e::{LIVENESS, Scenario, Share, measure, scenario, wait};
use reqwest::Method;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

async fn post(s: &Scenario, session: &str, key: &str, text: &str) -> Answer {
    let request = s.http.request(Method::POST, &message_route(session));
    let request = request.header("idempotency-key", key).header("prefer", "respond-async");
    s.http.send(request.json(&json!({ "text": text }))).await
}

async fn turn(s: &Scenario, session: &str, key: &str, query: &str) -> Value {
    s.http.get(&format!("/sessions/{session}/turns/{key}{query}")).await.with_status(200)
}

fn kinds(log: &Value) -> Vec<&str> {
    let entries = log.as_array().expect("a list of entries");
    entries.iter().map(|entry| entry["kind"].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_turn_is_accepted_waited_for_and_kept() {
    scenario("respond-async, and the reply later", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("later", json!({})).await;
        let id = name_of(&s.ready_session("later", &agent).await);
        let (key, word) = (s.word("key-"), s.word("done"));
        let text = format!("!run sleep 5; echo {word}");
        let accepted = post(s, &id, &key, &text).await;
        let body = accepted.with_status(202);
        assert_eq!(body["id"], json!(key), "{body}");
        let location = accepted.header("location").to_owned();
        assert_eq!(location, format!("{}/sessions/{id}/turns/{key}", paddock_e2e::http::BASE));
        assert!(accepted.took < Duration::from_secs(4), "it waited for the turn: {:?}", accepted.took);
        measure::times("respond-async: message→202", &[accepted.took]);

        let queued = s.word("queued-");
        assert_eq!(post(s, &id, &queued, "!say next").await.with_status(202)["state"], "queued");
        assert_eq!(turn(s, &id, &key, "").await["state"], "running");
        let asked = Instant::now();
        let ended = turn(s, &id, &key, "?wait=60s").await;
        assert_eq!(ended["state"], "completed", "{ended}");
        assert!(ended["reply"]["parts"].to_string().contains(&word), "{ended}");
        assert!(asked.elapsed() < Duration::from_secs(30), "the wait ends with the turn");
        assert_eq!(turn(s, &id, &queued, "?wait=60s").await["state"], "completed");
        let joined = s.http.say_once(&id, &key, &text).await;
        assert_eq!(joined.with_status(200), ended["reply"], "the same key has the same reply");
        s.http.get(&format!("/sessions/{id}/turns/never")).await.error(404, Some("not_found"));

        let log = s.http.get(&format!("/sessions/{id}/log")).await.with_status(200);
        let told = kinds(&log);
        assert_eq!(told[..2], ["created", "ready"], "{log}");
        assert!(told.contains(&"user") && told.contains(&"tool") && told.contains(&"response"), "{log}");
        let logs = s.http.get(&format!("/sessions/{id}/sandbox_logs")).await;
        assert_eq!((logs.status.as_u16(), logs.header("content-type")), (200, "text/plain; charset=utf-8"));
        assert!(logs.body_text().contains(&key), "the runner logs its turns: {}", logs.body_text());
        let line = s.http.get(&format!("/sessions/{id}/sandbox_logs?tailLines=1")).await;
        assert_eq!(line.body_text().lines().count(), 1, "{}", line.body_text());

        s.http.delete(&format!("/sessions/{id}")).await.with_status(200);
        s.ended(&id, Phase::Dead).await;
        assert_eq!(turn(s, &id, &key, "").await, ended, "also when the pod is gone");
        let log = s.http.get(&format!("/sessions/{id}/log")).await.with_status(200);
        assert_eq!(kinds(&log).last(), Some(&"ended"), "{log}");
        assert!(log.to_string().contains("sleep 5"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    scenario("the diagnosis of two sessions", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("fit", json!({})).await;
        let fit = name_of(&s.ready_session("fit", &agent).await);
        let diagnosis = s.http.get(&format!("/sessions/{fit}/diagnose")).await;
        measure::times("GET diagnose", &[diagnosis.took]);
        let well = diagnosis.with_status(200);
        assert_eq!(well["harness_probe"]["serves_session"], true, "{well}");
        for part in ["session", "agent", "pod", "sandbox", "events"] {
            assert!(well[part]["error"].is_null() && !well[part].is_null(), "{part}: {well}");
        }
        let issues = well["detected_issues"].as_array().expect("a list of issues");
        // Neighbours may have emptied the pool; nothing else is wrong.
        assert!(issues.iter().all(|issue| issue["severity"] == "info"), "{well}");
        assert!(!well.to_string().contains("PADDOCK_"), "an environment is shown: {well}");

        let image = "localhost/paddock/no-such-image:e2e";
        let pool = s.private_pool("pull").edit(|pod| pod["containers"][0]["image"] = json!(image));
        let pool = pool.create().await;
        let agent = s.agent("pull", json!({ "poolRef": { "name": pool } })).await;
        let id = s.session("pull", &agent, Value::Null).await;
        wait::until("the diagnosis names the image", LIVENESS, async || {
            let told = s.http.get(&format!("/sessions/{id}/diagnose")).await.with_status(200);
            let issues = told["detected_issues"].as_array().expect("a list of issues");
            let found = issues.iter().find(|issue| issue["code"] == "image_pull_failed");
            match found.and_then(|issue| issue["message"].as_str()) {
                Some(message) if message.contains(image) => Ok(()),
                _ => Err(told.to_string()),
            }
        })
        .await;
        let logs = s.http.get(&format!("/sessions/{id}/sandbox_logs")).await;
        assert!(matches!(logs.status.as_u16(), 200 | 404), "nothing was written: {}", logs.body_text());
    })
    .await;
}
