//! Each harness that answers messages, from a warm start to the session's next pod.

use std::time::{Duration, Instant};

use paddock_api::session::StartupPath;
use paddock_e2e::objects::Kind;
use paddock_e2e::watcher::Watcher;
use paddock_e2e::{Scenario, Share, measure, pool, scenario};
use reqwest::Method;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);

/// A 1×1 image.
const IMAGE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A harness under test.
struct Known {
    harness: &'static str,
    /// Where it asks for models.
    path: &'static str,
}

#[tokio::test]
async fn opencode_works_from_a_warm_start_to_the_next_pod() {
    let known = Known { harness: "opencode", path: "/v1/chat/completions" };
    scenario("opencode", Share::Shared, LIMIT, async |s| life(s, &known).await).await;
}

#[tokio::test]
async fn the_claude_agent_sdk_works_from_a_warm_start_to_the_next_pod() {
    let known = Known { harness: "claude-agent-sdk", path: "/v1/messages" };
    scenario("the Claude Agent SDK", Share::Shared, LIMIT, async |s| life(s, &known).await).await;
}

#[tokio::test]
async fn codex_works_from_a_warm_start_to_the_next_pod() {
    let known = Known { harness: "codex-app-server", path: "/v1/responses" };
    scenario("Codex's app server", Share::Shared, LIMIT, async |s| life(s, &known).await).await;
}

async fn life(s: &Scenario, known: &Known) {
    let harness = known.harness;
    let original = if harness == "opencode" { &s.env.default_pool } else { harness };
    let pool = s.private_pool(harness).of(original).replicas(1).create().await;
    pool::full(s, &s.env.namespace, &pool).await;
    let sign = s.word("sign");
    let spec =
        json!({ "harness": harness, "poolRef": { "name": pool }, "prompt": format!("Your sign is {sign}.") });
    let agent = s.agent(harness, spec).await;
    let made = s.http.post(&format!("/agents/{agent}/session?wait=240s"), &json!({})).await;
    let id = made.with_status(200)["id"].as_str().expect("an id").to_owned();
    s.record(Kind::Session, &s.env.namespace, &id);
    measure::times(&format!("{harness}: POST session→ready, warm"), &[made.took]);
    let session = s.ready(&id).await;
    let status = session.status.as_ref().expect("a status");
    assert_eq!(status.startup.as_ref().map(|startup| startup.path), Some(StartupPath::Warm));

    // Its shell works in the pod, and its model is behind LiteLLM.
    let word = s.word("made");
    let first = s.http.say(&id, &format!("!run echo {word} > made.txt; pwd")).await;
    assert!(first.reply().contains("/workspace"), "{}", first.body_text());
    measure::times(&format!("{harness}: first turn, with a shell command"), &[first.took]);
    let file = s.exec(&session, &["cat", "/workspace/made.txt"]).await.succeeded();
    assert_eq!(file.trim(), word);
    let calls = s.model.calls_with(&word).await;
    assert!(calls.iter().any(|call| call.system.contains(&sign)), "the agent's prompt: {calls:?}");
    assert!(calls.iter().all(|call| call.model == "scripted"), "{calls:?}");
    s.went_through_litellm(&session, known.path).await;
    assert!(
        s.http.say(&id, "!run cat made.txt").await.reply().contains(&word),
        "the next turn sees the file"
    );

    let seen = s.word("seen");
    let attachments = json!([{ "name": "dot.png", "mime_type": "image/png", "base64": IMAGE }]);
    s.http.message(&id, &json!({ "text": seen, "attachments": attachments })).await.reply();
    let images = [format!("data:image/png;base64,{IMAGE}")];
    let calls = s.model.calls_with(&seen).await;
    assert!(calls.iter().any(|call| call.images == images), "the model was shown the image: {calls:?}");

    aborted_in_the_middle_of_a_reply(s, harness, &id).await;

    let before = ids(s, &id).await;
    let restarted = s.http.post(&format!("/sessions/{id}/restart?wait=240s"), &json!({})).await;
    restarted.with_status(200);
    measure::times(&format!("{harness}: POST restart→ready"), &[restarted.took]);
    s.incarnation(&id, 2).await;
    assert_eq!(ids(s, &id).await, before, "what was said is there before anybody says more");
    let later = s.word("later");
    let answer = s.http.say(&id, &later).await;
    assert!(answer.reply().contains(&later), "{}", answer.body_text());
    measure::times(
        &format!("{harness}: first turn after a restart, conversation taken over"),
        &[answer.took],
    );
    let calls = s.model.calls_with(&later).await;
    let call = calls.last().expect("the model was asked");
    let told = call.earlier_user_texts.join("\n");
    assert!(told.contains(&word) && told.contains(&seen), "the model knows what was said before: {told}");
    assert_eq!(call.images, images, "and the image");
    assert_eq!(ids(s, &id).await[..before.len()], before);
}

async fn aborted_in_the_middle_of_a_reply(s: &Scenario, harness: &str, id: &str) {
    let events = s.http.request(Method::GET, &format!("/sessions/{id}/events"));
    let mut watcher = Watcher::begin(events).await;
    let (begin, end) = (s.word("begin"), s.word("end"));
    let text = format!("!chunks 200 300\n!say {begin} {} {end}", "and on ".repeat(200));
    let abort = async {
        let is_text = |data: &Value| data["event"]["type"] == "message.part.delta";
        watcher.until("a piece of the reply", is_text).await;
        let asked = Instant::now();
        s.http.post(&format!("/sessions/{id}/abort"), &json!({})).await.with_status(200);
        asked
    };
    let (answer, asked) = tokio::join!(s.http.say(id, &text), abort);
    measure::times(&format!("{harness}: abort in a reply→its answer"), &[asked.elapsed()]);
    let told = answer.with_status(200);
    assert_eq!(told["info"]["error"]["name"], "MessageAbortedError", "{told}");
    let said = answer.reply();
    assert!(said.contains(&begin[..2]) && !said.contains(&end), "what was said until then: {said:?}");
    let next = s.word("next");
    assert!(s.http.say(id, &format!("!say {next}")).await.reply().contains(&next), "the session goes on");
}

/// The ids of a session's messages, oldest first.
async fn ids(s: &Scenario, id: &str) -> Vec<String> {
    let told = s.http.get(&format!("/sessions/{id}/messages")).await.with_status(200);
    let messages = told.as_array().expect("a list of messages");
    messages.iter().map(|message| message["info"]["id"].as_str().expect("an id").to_owned()).collect()
}
