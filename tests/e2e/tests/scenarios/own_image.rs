//! An image of somebody's own, which serves by itself: it runs as it is, beside the runner.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use paddock_api::labels;
use paddock_e2e::git_host::GitHost;
use paddock_e2e::pool::{default_template, full};
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, processes, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(1200);

/// opencode, set up by whoever made the image: it asks for models where its environment says.
fn config() -> String {
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "options": { "baseURL": "{env:LITELLM_API_BASE}/v1", "apiKey": "{env:LITELLM_API_KEY}" },
        "models": { "any": { "name": "any" } },
    });
    json!({
        "provider": { "litellm": provider }, "enabled_providers": ["litellm"], "model": "litellm/any",
        "autoupdate": false, "share": "disabled",
    })
    .to_string()
}

/// A pool whose harness container is opencode's image, with a command of its own and nothing of Paddock's.
async fn pool(s: &Scenario, replicas: i32) -> String {
    let image = default_template(s).await.spec.pod_template.spec["containers"][0]["image"].clone();
    let image = image.as_str().expect("an image").to_owned();
    s.private_pool("own")
        .harness("http")
        .replicas(replicas)
        .describe(labels::RUNNER, "sidecar")
        // It has git; so would any other.
        .describe(labels::RUNNER_IMAGE, image)
        .describe(labels::HARNESS_PORT, "4096")
        .describe(labels::HARNESS_FEATURES, "abort,file-parts")
        .describe(labels::HARNESS_MODEL, "litellm/any")
        .edit(|pod| {
            let harness = &mut pod["containers"][0];
            harness["command"] = json!(["opencode", "serve", "--hostname", "127.0.0.1", "--port", "4096"]);
            let env = harness["env"].as_array_mut().expect("an environment");
            env.push(json!({ "name": "OPENCODE_CONFIG_CONTENT", "value": config() }));
            env.push(json!({ "name": "OPENCODE_DISABLE_MODELS_FETCH", "value": "1" }));
        })
        .create()
        .await
}

#[tokio::test]
async fn works_in_a_pool_as_it_is() {
    scenario("an image of somebody's own", Share::Shared, LIMIT, async |s| {
        let text = s.word("text");
        let (host, mut repositories) = GitHost::start(s, &[("app", &[("README.md", &text)])]).await;
        let app = repositories.remove(0);
        let pool = pool(s, 1).await;
        let prompt = s.word("prompt");
        let files = json!([{ "path": "notes/a.txt", "content": "a note" }]);
        let spec = json!({
            "harness": "http", "poolRef": { "name": pool }, "prompt": prompt, "repo": app.spec(), "files": files,
        });
        let agent = s.agent("own", spec).await;
        full(s, &s.env.namespace, &pool).await;
        let session = s.ready_session("own", &agent).await;
        measure::startup("an image of somebody's own, a private repository", &session);
        let (id, pod) = (name_of(&session), pod_of(&session).name);
        nothing_of_ours(&s.api::<Pod>().get(&pod).await.expect("the session's pod"));

        // A tool changes a file in the workspace that the runner has filled, and the model is the agent's.
        let (word, done) = (s.word("asked"), s.word("done"));
        let command = format!(
            "{word}\n!run cat README.md notes/a.txt; echo {done} >> README.md; git commit --quiet --all --message {done} && git push --quiet 2>&1 && echo pushed"
        );
        let reply = s.http.say(&id, &command).await.reply();
        for expected in [&text, "a note", "pushed"] {
            assert!(reply.contains(expected), "{reply}");
        }
        assert_eq!(host.git(&app, &["show", "main:README.md"]).await, format!("{text}\n{done}"));
        let calls = s.model.calls_with(&word).await;
        assert!(!calls.is_empty() && calls.iter().all(|call| call.system.contains(&prompt)), "{calls:?}");
        let told = s.http.get(&format!("/sessions/{id}/messages")).await.with_status(200);
        assert!(told.as_array().is_some_and(|messages| messages.len() >= 3), "with the tool's step: {told}");

        is_aborted(s, &id).await;

        // Its process ends and is started again by the kubelet: the conversation is in its home, and the session goes on.
        let before = restarts(s, &pod).await;
        let own = processes::of_pod(&pod_of(&session).uid, "opencode");
        assert!(!own.is_empty(), "the pod's processes are on this machine");
        processes::sigkill(&own).await;
        wait::until("the harness's container was started again", LIVENESS, async || {
            let now = restarts(s, &pod).await;
            if now > before { Ok(()) } else { Err(format!("{now} restarts")) }
        })
        .await;
        let again = s.word("again");
        wait::until("the session answers again", LIVENESS, async || {
            let answer = s.http.say(&id, &format!("!say {again}")).await;
            if answer.status == 200 && answer.reply().contains(&again) { Ok(()) } else { Err(answer.body_text()) }
        })
        .await;
        let earlier = s.model.calls_with(&again).await.pop().expect("the model was asked").earlier_user_texts;
        assert!(earlier.iter().any(|said| said.contains(&word)), "it knows what was said before: {earlier:?}");

        let shown = s.http.delete(&format!("/sessions/{id}")).await.with_status(200);
        assert_eq!(shown["status"], "deleted");
        s.nothing_bound_to(&uid(&session)).await;
    })
    .await;
}

async fn is_aborted(s: &Scenario, id: &str) {
    let word = s.word("endless");
    let abort = async {
        wait::until("the model has the turn", LIVENESS, async || {
            let calls = s.model.calls_with(&word).await;
            if calls.is_empty() { Err("not asked yet".to_owned()) } else { Ok(()) }
        })
        .await;
        s.http.post(&format!("/sessions/{id}/abort"), &json!({})).await.with_status(200)
    };
    let endless = format!("{word}\n!hang 300");
    let (reply, told) = tokio::join!(s.http.say(id, &endless), abort);
    assert_eq!(told, json!({ "ok": true }));
    let told = reply.with_status(200);
    assert_eq!(told["info"]["error"]["name"], "MessageAbortedError", "as the harness says it: {told}");
}

/// Restarts of the harness's own container.
async fn restarts(s: &Scenario, pod: &str) -> i32 {
    let pod = s.api::<Pod>().get(pod).await.expect("the session's pod");
    let containers = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
    containers
        .iter()
        .find(|container| container.name == "harness")
        .map_or(0, |container| container.restart_count)
}

/// The harness's container has its own command, and neither the runner nor the model gateway's key.
fn nothing_of_ours(pod: &Pod) {
    let spec = serde_json::to_value(&pod.spec).expect("a pod's spec");
    let harness = &spec["containers"][0];
    assert_eq!(harness["command"][0], "opencode");
    let names = |list: &Value, field: &str| -> Vec<String> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|entry| entry[field].as_str().unwrap_or_default().to_owned()).collect()
    };
    let (env, mounts) = (names(&harness["env"], "name"), names(&harness["volumeMounts"], "mountPath"));
    assert!(env.iter().all(|name| !name.starts_with("PADDOCK_")), "{env:?}");
    assert!(mounts.iter().all(|path| !path.starts_with("/paddock")), "{mounts:?}");
    assert!(!harness.to_string().contains("secretKeyRef"), "{harness}");
}

#[tokio::test]
async fn that_is_described_wrongly_is_said() {
    scenario("an own image with wrong settings", Share::Shared, LIMIT, async |s| {
        let pool = s
            .private_pool("wrong")
            .harness("http")
            .describe(labels::RUNNER, "sidecar")
            .describe(labels::HARNESS_PORT, "7070")
            .create()
            .await;
        let agent = s.agent("wrong", json!({ "harness": "http", "poolRef": { "name": pool } })).await;
        let name = s.session("wrong", &agent, Value::Null).await;
        wait::until("the session says what is wrong", LIVENESS, async || {
            let told = s.http.get(&format!("/sessions/{name}/diagnose")).await.with_status(200).to_string();
            let says = told.contains("paddock.dev/harness-port") && told.contains("which are the runner's");
            if says { Ok(()) } else { Err(told) }
        })
        .await;
        let refused = s.http.post("/agents", &json!({ "model": "m", "harness_id": "http" })).await;
        let made = refused.with_status(200);
        assert_eq!((&made["harness_id"], &made["supports_tui"]), (&json!("http"), &json!(false)));
        let id = made["id"].as_str().expect("an id");
        assert_eq!(s.http.delete(&format!("/agents/{id}")).await.status, 204);
    })
    .await;
}
