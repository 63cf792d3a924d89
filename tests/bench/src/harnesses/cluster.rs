//! A harness in Paddock's sandboxes.

#![allow(
    clippy::expect_used,
    reason = "this is a scenario: its only way to fail is to panic, and then it is cleaned up after"
)]

use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use paddock_api::SandboxWarmPool;
use paddock_api::template::SandboxTemplate;
use paddock_e2e::http::message_route;
use paddock_e2e::objects::Kind;
use paddock_e2e::scenario::{name_of, pod_of, uid};
use paddock_e2e::watcher::Watcher;
use paddock_e2e::{Scenario, pool};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Figures, memory};

/// On a terminal's screen, once its program waits for somebody.
const WAITS: [(&str, &str); 2] =
    [("claude-code", "bypass permissions on"), ("codex", "Ask Codex to do anything")];
/// What the model does in the turn in which memory is looked at: a command, and after it an answer.
const WORK: &str = "!run ls -la / > listing.txt; sleep 1; cat listing.txt | wc -l";

/// Measures one harness, of which the chart has a pool.
pub async fn measure(s: &Scenario, harness: &str, rounds: usize) -> Figures {
    let mut figures = Figures { name: harness.to_owned(), ..Figures::default() };
    let pool = s.private_pool(harness).of(harness).create().await;
    for size in 1..=rounds {
        figures.boot_s.push(boot(s, &pool, size).await);
    }
    hold_back_new_members(s, &pool).await;
    let agent = s.agent(harness, json!({ "harness": harness, "poolRef": { "name": pool } })).await;
    for _ in 0..rounds {
        round(s, harness, &pool, &agent, &mut figures).await;
    }
    figures
}

/// Adds one member to a pool, and tells how long it took from its pod's object until that is Ready.
async fn boot(s: &Scenario, pool: &str, size: usize) -> f64 {
    let pods = s.api::<Pod>();
    let watch = WatchParams::default().labels(&format!("{}={}", pool::MARK, s.nonce()));
    let known = pods.list(&Default::default()).await.expect("a list of pods");
    let version = known.metadata.resource_version.unwrap_or_default();
    let mut events = pods.watch(&watch, &version).await.expect("a watch").boxed();
    let patch = Patch::Merge(json!({ "spec": { "replicas": size } }));
    s.api::<SandboxWarmPool>().patch(pool, &PatchParams::default(), &patch).await.expect("a larger pool");
    let ready = async {
        let mut made = None;
        while let Some(event) = events.next().await {
            match event.expect("the watch goes on") {
                WatchEvent::Added(_) => made = Some(Instant::now()),
                WatchEvent::Modified(pod) if is_ready(&pod) => return made.map(|made| made.elapsed()),
                _ => {}
            }
        }
        None
    };
    let took = tokio::time::timeout(paddock_e2e::LIVENESS, ready).await.expect("the pod becomes ready");
    pool::full(s, &s.env.namespace, pool).await;
    took.expect("its beginning was seen").as_secs_f64()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// From here on new members find no node: what is measured shall not share the processor with their start.
async fn hold_back_new_members(s: &Scenario, pool: &str) {
    let selector = json!({ "bench.paddock.dev/never": "true" });
    let patch = json!({ "spec": { "podTemplate": { "spec": { "nodeSelector": selector } } } });
    let templates = s.api::<SandboxTemplate>();
    templates.patch(pool, &PatchParams::default(), &Patch::Merge(patch)).await.expect("a changed template");
}

/// One session: made, spoken to, and ended.
async fn round(s: &Scenario, harness: &str, pool: &str, agent: &str, figures: &mut Figures) {
    figures.idle_mib.push(idle(s, pool).await);
    let begun = Instant::now();
    let made = s.http.post(&format!("/agents/{agent}/session?wait=60s"), &json!({})).await;
    figures.ready_ms.push(millis(begun));
    let made = made.with_status(200);
    assert_eq!(made["status"], "ready", "{made}");
    let id = made["id"].as_str().expect("an id").to_owned();
    s.record(Kind::Session, &s.env.namespace, &id);
    let word = s.word("spoken");
    let screen = WAITS.iter().find(|(name, _)| *name == harness);
    let mut terminal = None;
    if let Some((_, waits)) = screen {
        let mut attached = s.attach(&id).await;
        attached.shows(waits).await;
        attached.prompts(&format!(" !say {word}")).await;
        attached.sees("the reply", |text| text.matches(&word).count() > 1).await;
        terminal = Some(attached);
    } else {
        first_words(s, &id, &word).await;
    }
    figures.first_ms.push(millis(begun));
    let session = s.ready(&id).await;
    let pod = pod_of(&session).uid;
    let work = async {
        match &mut terminal {
            Some(terminal) => {
                terminal.prompts(&format!(" {WORK}")).await;
                terminal.shows("ran: ").await;
            }
            None => {
                s.http.say(&id, WORK).await.with_status(200);
            }
        }
    };
    let ((), most) = memory::most(|| memory::of_pod(&pod), work).await;
    figures.busy_mib.push(most);
    s.http.delete(&format!("/sessions/{id}")).await.with_status(200);
    s.nothing_bound_to(&uid(&session)).await;
}

/// Memory of a pool's member that waits.
async fn idle(s: &Scenario, pool: &str) -> f64 {
    let members = pool::waiting(s, pool).await;
    let member = members.into_iter().find(pool::is_ready).expect("a member that waits");
    let pod: Pod = s.api().get(&name_of(&member)).await.expect("the member's pod");
    memory::of_pod(&uid(&pod))
}

/// Sends a message, and waits for the first of the model's words.
async fn first_words(s: &Scenario, id: &str, word: &str) {
    let route = format!("{}_stream", message_route(id));
    let request = s.http.request(Method::POST, &route).json(&json!({ "text": format!("!say {word}") }));
    let mut events = Watcher::begin(request).await;
    loop {
        let told = events.next().await.expect("words of the model");
        if speaks(&told.data["event"], word) {
            return;
        }
    }
}

/// Whether an event shows the beginning of what the model says; the message itself is told as well.
pub(super) fn speaks(event: &Value, word: &str) -> bool {
    let properties = &event["properties"];
    let text = match event["type"].as_str() {
        Some("message.part.delta") => properties["delta"].as_str(),
        Some("message.part.updated") if properties["part"]["type"] == "text" => {
            properties["part"]["text"].as_str()
        }
        _ => None,
    };
    text.is_some_and(|text| !text.trim().is_empty() && word.starts_with(text.trim()))
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
