//! What one can ask about agents and sessions over HTTP.

use std::time::Duration;

use paddock_e2e::scenario::name_of;
use paddock_e2e::{LIVENESS, Share, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn of_agents() {
    scenario("GET agents", Share::Shared, LIMIT, async |s| {
        let shown = format!("Shown {}", s.nonce());
        let agent = s.agent("listed", json!({ "displayName": shown, "prompt": "be brief" })).await;
        let one = wait::until("the gateway has seen the agent", LIVENESS, async || {
            let answer = s.http.get(&format!("/agents/{agent}")).await;
            if answer.status == 200 { Ok(answer.json()) } else { Err(answer.body_text()) }
        })
        .await;
        assert_eq!(one["id"], agent, "{one}");
        assert_eq!(one["name"], shown, "{one}");
        assert_eq!(one["model"], "scripted", "{one}");
        assert_eq!(one["harness_id"], "opencode", "{one}");
        assert_eq!(one["prompt"], "be brief", "{one}");
        let all = s.http.get("/agents?limit=200").await.with_status(200);
        let data = all["data"].as_array().unwrap_or_else(|| panic!("no data: {all}"));
        // The `lap` CLI finds an agent by its name here.
        assert!(data.iter().any(|entry| entry["id"] == agent && entry["name"] == shown), "{all}");
        assert!(all["total"].as_u64().is_some_and(|total| total >= 1), "{all}");
        s.http.get("/agents/unknown").await.error(404, None);
    })
    .await;
}

#[tokio::test]
async fn of_sessions() {
    scenario("GET sessions", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("listed", json!({})).await;
        let older = name_of(&s.ready_session("older", &agent).await);
        // Creation times have a resolution of one second.
        let first_made =
            s.http.get(&format!("/sessions/{older}")).await.with_status(200)["created_at"].clone();
        let newer = wait::until("a session of a later second", LIVENESS, async || {
            let now = jiff::Timestamp::now();
            let first: jiff::Timestamp =
                first_made.as_str().and_then(|at| at.parse().ok()).expect("RFC 3339");
            if now.as_second() > first.as_second() { Ok(()) } else { Err(now.to_string()) }
        });
        newer.await;
        let newer = name_of(&s.ready_session("newer", &agent).await);

        let ids = |list: &Value| -> Vec<String> {
            let list = list.as_array().unwrap_or_else(|| panic!("not a bare array: {list}"));
            list.iter().filter_map(|entry| entry["id"].as_str().map(str::to_owned)).collect()
        };
        let all = s.http.get("/sessions?limit=200").await.with_status(200);
        assert!(ids(&all).contains(&older) && ids(&all).contains(&newer), "{all}");
        let of_agent = s.http.get(&format!("/sessions?agent_id={agent}")).await.with_status(200);
        assert_eq!(ids(&of_agent), [newer.clone(), older.clone()], "newest first");
        let one = s.http.get(&format!("/sessions?agent_id={agent}&limit=1")).await.with_status(200);
        assert_eq!(ids(&one).join(" "), newer);
        for query in ["limit=0", "limit=201", "limit=many", "status=no-such-status"] {
            s.http.get(&format!("/sessions?{query}")).await.error(400, None);
        }
        let single = s.http.get(&format!("/sessions/{newer}")).await.with_status(200);
        assert_eq!(single["status"], "ready", "{single}");
        assert_eq!(single["agent_id"], agent, "{single}");
        assert!(single["harness_session_id"].as_str().is_some_and(|id| !id.is_empty()), "{single}");
        assert_eq!(single["failure_reason"], Value::Null, "{single}");
        s.http.get("/sessions/unknown").await.error(404, Some("not_found"));
    })
    .await;
}
