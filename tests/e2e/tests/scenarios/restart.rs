//! A session gets a new pod and stays what it is.

use std::time::{Duration, Instant};

use paddock_api::{Phase, Session};
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{Answer, Scenario, Share, measure, scenario};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(900);

async fn restart(s: &Scenario, id: &str) -> Answer {
    s.http.post(&format!("/sessions/{id}/restart?wait=240s"), &json!({})).await
}

/// What stays over a restart, and what does not.
fn check(before: &Session, after: &Session) {
    assert_eq!(uid(before), uid(after), "it is the same object");
    let (old, new) = (before.status.as_ref().expect("a status"), after.status.as_ref().expect("a status"));
    assert_eq!(new.incarnation, old.incarnation + 1);
    assert!(new.restarted_at.is_some() && new.restarted_at == after.spec.restarted_at, "{new:?}");
    assert_ne!(new.restarted_at, old.restarted_at);
    assert_ne!(pod_of(after).uid, pod_of(before).uid, "a pod serves one incarnation");
}

#[tokio::test]
async fn of_a_ready_session_keeps_id_and_files() {
    scenario("restart a persistent session", Share::Shared, LIMIT, async |s| {
        let agent = s.persistent_agent("anew", json!({})).await;
        let before = s.ready_session("anew", &agent).await;
        let id = name_of(&before);
        let (key, word) = (s.word("key-"), s.word("kept"));
        let first = s.http.say_once(&id, &key, &format!("!run echo {word} > kept.txt")).await;
        first.reply();
        let started = Instant::now();
        let told = restart(s, &id).await.with_status(200);
        measure::times("persistent session: POST restart→ready", &[started.elapsed()]);
        assert_eq!((&told["id"], &told["status"]), (&json!(id), &json!("ready")), "{told}");
        let after = s.ready(&id).await;
        check(&before, &after);
        assert!(s.http.say(&id, "!run cat kept.txt").await.reply().contains(&word), "the files are there");
        let replayed = s.http.say_once(&id, &key, &format!("!run echo {word} > kept.txt")).await;
        assert_eq!(replayed.with_status(200), first.json(), "an old key names its old turn");

        // The same with kubectl, from Suspended.
        s.patch_session(&id, json!({ "state": "Suspended" })).await;
        s.suspended(&id).await;
        let again = jiff::Timestamp::now().to_string();
        s.patch_session(&id, json!({ "state": "Running", "restartedAt": again })).await;
        check(&after, &s.ready(&id).await);
        assert!(s.http.say(&id, "!run cat kept.txt").await.reply().contains(&word));
    })
    .await;
}

#[tokio::test]
async fn brings_back_a_dead_session() {
    scenario("restart a dead session", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("revived", json!({})).await;
        let before = s.ready_session("revived", &agent).await;
        let id = name_of(&before);
        let pod = pod_of(&before).name;
        s.kubectl.run(&["delete", "pod", &pod, "--wait=false"]).await.succeeded();
        let dead = s.ended(&id, Phase::Dead).await;
        assert!(
            dead.status.is_some_and(|status| status.finished_at.is_some()),
            "an ended session says since when"
        );
        let error = s.http.say(&id, "hello").await.error(404, Some("dead"));
        assert!(error["error"].as_str().is_some_and(|text| text.contains("/restart")), "{error}");

        let started = Instant::now();
        let told = restart(s, &id).await.with_status(200);
        measure::times("dead session: POST restart→ready", &[started.elapsed()]);
        assert_eq!((&told["id"], &told["status"]), (&json!(id), &json!("ready")), "{told}");
        let after = s.ready(&id).await;
        check(&before, &after);
        assert!(after.status.is_some_and(|status| status.finished_at.is_none()), "it has not ended any more");
        let word = s.word("revived");
        assert!(s.http.say(&id, &format!("!say {word}")).await.reply().contains(&word));
    })
    .await;
}

#[tokio::test]
async fn brings_back_a_stopped_session_once() {
    scenario("restart a stopped session, twice at once", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("stopped", json!({})).await;
        let before = s.ready_session("stopped", &agent).await;
        let id = name_of(&before);
        let stopped = s.http.post(&format!("/sessions/{id}/stop"), &json!({})).await.with_status(200);
        assert_eq!(stopped, json!({ "id": id, "status": "deleted" }));
        s.ended(&id, Phase::Dead).await;
        s.nothing_bound_to(&uid(&before)).await;
        let both = futures::future::join_all([restart(s, &id), restart(s, &id)]).await;
        let done = both.iter().filter(|answer| answer.status == 200).count();
        if done == 2 {
            s.log("the second one came when the first was done");
        } else {
            assert_eq!(done, 1, "{both:?}");
            let refused = both.iter().find(|answer| answer.status != 200).expect("the other one");
            refused.error(409, Some("creating"));
        }
        s.ready(&id).await;
        assert!(s.http.say(&id, "!say back").await.reply().contains("back"));
    })
    .await;
}

#[tokio::test]
async fn that_fails_is_told_with_its_reason() {
    scenario("a restart that fails", Share::Shared, LIMIT, async |s| {
        let pool = s.private_pool("gone").create().await;
        let rules = json!({ "poolRef": { "name": pool }, "lifecycle": { "startupTimeout": "120s" } });
        let agent = s.agent("gone", rules).await;
        let id = name_of(&s.ready_session("gone", &agent).await);
        let resource = "sandboxtemplates.extensions.agents.x-k8s.io";
        s.kubectl.run(&["delete", resource, &pool, "--wait=false"]).await.succeeded();
        let error = restart(s, &id).await.error(502, Some("start_failed"));
        s.log(&format!("the client is told: {error}"));
        let failed = s.ended(&id, Phase::Failed).await;
        assert!(failed.status.is_some_and(|status| status.reason.is_some() && !status.message.is_empty()));
        s.http.say(&id, "hello").await.error(404, Some("failed"));
    })
    .await;
}
