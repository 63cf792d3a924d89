//! Scoped keys on a real cluster: with the permission that the chart gives, made and taken back with kubectl.

use std::time::Duration;

use paddock_e2e::scenario::name_of;
use paddock_e2e::{LIVENESS, Scenario, Share, scenario, wait};
use serde_json::{Value, json};
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(600);

/// A key as people make them, and its hash.
async fn new_key(s: &Scenario) -> (String, String) {
    let key = format!("pk-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let script = "printf %s \"$1\" | sha256sum | cut -d ' ' -f 1";
    let hash = tokio::process::Command::new("sh").args(["-c", script, "sh", &key]).output().await;
    let hash = String::from_utf8(hash.expect("sha256sum runs").stdout).expect("a text").trim().to_owned();
    s.log("made a key");
    (key, hash)
}

/// Waits until the gateway answers a key so. A change is told by a watch, which takes a moment.
async fn answers(s: &Scenario, key: &str, route: &str, status: u16) -> Value {
    let http = s.http.with_key(key);
    wait::until(&format!("GET {route} is answered {status}"), LIVENESS, async || {
        let answer = http.get(route).await;
        if answer.status == status { Ok(answer.json()) } else { Err(answer.body_text()) }
    })
    .await
}

// One scenario for all: there is one Secret with keys.
#[tokio::test]
async fn open_what_they_say_and_nothing_else() {
    scenario("scoped keys", Share::Shared, LIMIT, async |s| {
        let (mine, theirs) = (s.agent("mine", json!({})).await, s.agent("theirs", json!({})).await);
        let my_session = name_of(&s.ready_session("mine", &mine).await);
        let their_session = name_of(&s.ready_session("theirs", &theirs).await);
        let ((key, hash), (reader, reader_hash), (next, next_hash)) =
            (new_key(s).await, new_key(s).await, new_key(s).await);

        let secret = format!("{}-api-keys", s.env.release);
        let (entry, reader_entry, next_entry) = (s.name("mine"), s.name("reader"), s.name("next"));
        let bound = |hash: &str| json!({ "sha256": hash, "agents": [mine] }).to_string();
        let only_reads =
            json!({ "sha256": reader_hash, "agents": [mine], "readOnly": true, "maxInFlight": 4 });
        s.apply(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "namespace": s.env.namespace, "name": secret },
            "stringData": {
                &entry: bound(&hash),
                &reader_entry: only_reads.to_string(),
                s.name("broken"): json!({ "sha256": next_hash, "readonly": true }).to_string(),
            },
        }))
        .await;

        let list = answers(s, &key, "/sessions", 200).await;
        let ids: Vec<&str> =
            list.as_array().into_iter().flatten().filter_map(|one| one["id"].as_str()).collect();
        assert_eq!(ids, [my_session.as_str()]);
        let agents = answers(s, &key, "/agents", 200).await;
        assert_eq!((&agents["total"], &agents["data"][0]["id"]), (&json!(1), &json!(mine)), "{agents}");
        let http = s.http.with_key(&key);
        assert!(http.say(&my_session, "!say for my key").await.reply().contains("for my key"));
        http.say(&their_session, "!say not for my key").await.error(404, Some("not_found"));
        http.get(&format!("/sessions/{their_session}")).await.error(404, Some("not_found"));
        http.post(&format!("/agents/{theirs}/session"), &json!({})).await.error(404, Some("not_found"));
        assert!(s.model.calls_with("not for my key").await.is_empty());

        answers(s, &reader, &format!("/sessions/{my_session}"), 200).await;
        let reading = s.http.with_key(&reader);
        reading.say(&my_session, "!say no").await.error(403, Some("forbidden"));
        reading.delete(&format!("/sessions/{my_session}")).await.error(403, Some("forbidden"));
        s.http.with_key(&next).get("/sessions").await.error(401, Some("unauthorized"));

        // A rotation as the documentation has it.
        let patch =
            json!({ "stringData": { &next_entry: bound(&next_hash) }, "data": { s.name("broken"): null } });
        s.kubectl
            .run(&["patch", "secret", &secret, "--type=merge", "-p", &patch.to_string()])
            .await
            .succeeded();
        answers(s, &next, &format!("/sessions/{my_session}"), 200).await;
        answers(s, &key, &format!("/sessions/{my_session}"), 200).await;
        let patch = json!([{ "op": "remove", "path": format!("/data/{entry}") }]).to_string();
        s.kubectl.run(&["patch", "secret", &secret, "--type=json", "-p", &patch]).await.succeeded();
        answers(s, &key, "/sessions", 401).await;
        answers(s, &next, "/sessions", 200).await;

        let gateway = format!("deployment/{}-gateway", s.env.release);
        let log = s.kubectl.run(&["logs", &gateway, "--all-pods", "--tail=5000"]).await.succeeded();
        assert!(log.contains(&s.name("broken")) && log.contains(&entry), "the log names entries");
        for key in [&key, &reader, &next, &hash, &reader_hash, &next_hash] {
            // The text itself is not printed: it would put the key into one more log.
            assert!(!log.contains(key.as_str()), "a key or its hash is in the gateway's log");
        }

        s.kubectl.run(&["delete", "secret", &secret]).await.succeeded();
        answers(s, &next, "/sessions", 401).await;
        s.log("a deleted Secret leaves the master key only");
        s.http.get("/sessions").await.with_status(200);

        let account = format!("--as=system:serviceaccount:{}:{}-gateway", s.env.namespace, s.env.release);
        for verb in ["list", "watch"] {
            let may = s.kubectl.run(&["auth", "can-i", verb, "secrets", &account]).await;
            assert_eq!(may.stdout.trim(), "no", "the gateway may {verb} Secrets that it knows no name of");
        }
    })
    .await;
}
