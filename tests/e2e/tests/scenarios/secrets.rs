//! Secrets stay where they belong: not in shells, objects, events or logs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use paddock_e2e::scenario::{name_of, pod_of};
use paddock_e2e::secrecy::clean;
use paddock_e2e::{Scenario, Share, pool, scenario};
use paddock_runnerapi::env::MODEL_API_KEY;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(600);

/// The key that the pool's pods use for the model gateway.
async fn model_key(s: &Scenario) -> String {
    let template = pool::default_template(s).await;
    let containers = template.spec.pod_template.spec["containers"].as_array().cloned().unwrap_or_default();
    let entries = containers.iter().flat_map(|container| container["env"].as_array().into_iter().flatten());
    let mut keys = entries.filter(|entry| entry["name"] == MODEL_API_KEY);
    let entry = keys.next().unwrap_or_else(|| panic!("the template sets no {MODEL_API_KEY}"));
    let reference = &entry["valueFrom"]["secretKeyRef"];
    let name =
        reference["name"].as_str().unwrap_or_else(|| panic!("{MODEL_API_KEY} is not from a Secret: {entry}"));
    let secret = s.api::<Secret>().get(name).await.expect("the model key's Secret");
    let data = secret.data.unwrap_or_default();
    let bytes = data.get(reference["key"].as_str().unwrap_or_default()).expect("the Secret has the key");
    let key = String::from_utf8(bytes.0.clone()).expect("a text");
    assert!(key.len() >= 8, "a key of {} characters would be found everywhere", key.len());
    key
}

#[tokio::test]
async fn appear_nowhere() {
    scenario("secrets", Share::Shared, LIMIT, async |s| {
        let model_key = model_key(s).await;
        let secrets = [("model key", model_key.as_str()), ("master key", s.env.key.as_str())];
        let clean = |place: &str, text: &str| clean(place, text, &secrets);
        let agent =
            s.agent("keys", json!({ "env": [{ "name": "VISIBLE", "value": "visible-value" }] })).await;
        let session = s.ready_session("keys", &agent).await;
        let (id, pod) = (name_of(&session), pod_of(&session).name);

        let env = s.http.say(&id, "!run env").await.reply();
        assert!(env.contains("VISIBLE=visible-value"), "the search must be able to find something: {env}");
        clean("the agent's environment", &env);
        clean(
            "the runner's environment",
            &s.http.say(&id, "!run cat /proc/1/environ | tr '\\0' '\\n'").await.reply(),
        );
        let all = "!run cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | sort -u";
        clean("some process's environment", &s.http.say(&id, all).await.reply());
        let lines = "!run cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '";
        clean("some process's command line", &s.http.say(&id, lines).await.reply());
        let files = s.files_with(&session, &[&model_key, &s.env.key]).await;
        assert!(files.is_empty(), "a key is in files of the pod: {files:?}");

        s.kept_secret(&secrets, &pod).await;
        s.kept_secret_by_pod(&secrets, &pod).await;
        // Error bodies have none either.
        clean("an error", &s.http.get("/sessions/unknown").await.body_text());
    })
    .await;
}
