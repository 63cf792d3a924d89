//! What was said outlives the pod it was said in, and the gateway that passed it on.

use std::time::{Duration, Instant};

use paddock_api::condition::ConditionStatus;
use paddock_api::{Phase, Session, labels};
use paddock_e2e::scenario::{name_of, pod_of};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, scenario, wait};
use reqwest::Method;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);

async fn messages(s: &Scenario, id: &str) -> Vec<Value> {
    let told = s.http.get(&format!("/sessions/{id}/messages")).await.with_status(200);
    told.as_array().expect("a list of messages").clone()
}

fn roles(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["info"]["role"].as_str().unwrap_or_default()).collect()
}

fn ids(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["info"]["id"].as_str().unwrap_or_default()).collect()
}

fn says(messages: &[Value], word: &str) -> bool {
    messages.iter().any(|message| message["parts"].to_string().contains(word))
}

fn transcript_saved(session: &Session) -> Option<ConditionStatus> {
    let conditions = &session.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.kind == "TranscriptSaved").map(|condition| condition.status)
}

#[tokio::test]
async fn outlive_a_session_that_is_stopped() {
    scenario("the transcript of a stopped session", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("scribe", json!({})).await;
        let first = s.word("first");
        let id = s.session("scribe", &agent, json!({ "prompt": format!("say {first}") })).await;
        s.ready(&id).await;
        let word = s.word("written");
        s.http.say(&id, &format!("!run echo {word}")).await.reply();
        let live = messages(s, &id).await;
        assert!(says(&live, &word) && says(&live, &first), "{live:?}");
        assert!(
            live.iter().any(|m| m["parts"].to_string().contains("\"tool\"")),
            "the tool's part is there: {live:?}"
        );

        let asked = Instant::now();
        s.http.delete(&format!("/sessions/{id}")).await.with_status(200);
        let dead = s.ended(&id, Phase::Dead).await;
        measure::times("session with turns: DELETE→Dead, transcript saved", &[asked.elapsed()]);
        assert_eq!(transcript_saved(&dead), Some(ConditionStatus::True), "{:?}", dead.status);
        let annotations = dead.metadata.annotations.clone().unwrap_or_default();
        assert!(annotations[labels::TRANSCRIPT_SAVED].starts_with(&pod_of(&dead).uid), "{annotations:?}");
        let kept = messages(s, &id).await;
        assert_eq!(ids(&kept), ids(&live), "every message, each once, in their order");
        assert_eq!(roles(&kept), roles(&live));
        assert_eq!(kept.last(), live.last(), "word for word");
    })
    .await;
}

#[tokio::test]
async fn outlive_a_pod_that_is_killed() {
    scenario("the transcript of a session whose pod was killed", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("lostpod", json!({})).await;
        let session = s.ready_session("lostpod", &agent).await;
        let id = name_of(&session);
        let word = s.word("acknowledged");
        let reply = s.http.say(&id, &word).await;
        reply.reply();
        let pod = pod_of(&session).name;
        s.kubectl.run(&["delete", "pod", &pod, "--grace-period=0", "--force"]).await;
        s.ended(&id, Phase::Dead).await;
        let kept = messages(s, &id).await;
        assert_eq!(roles(&kept), ["user", "assistant"]);
        assert_eq!(kept[1], reply.json(), "the very reply that the client was given");
        assert!(says(&kept[..1], &word));
    })
    .await;
}

#[tokio::test]
async fn outlive_the_gateway_too() {
    scenario("gateway and pod are killed after a reply", Share::Alone, LIMIT, async |s| {
        let agent = s.agent("survivor", json!({})).await;
        let session = s.ready_session("survivor", &agent).await;
        let id = name_of(&session);
        let reply = s.http.say(&id, &s.word("kept")).await;
        reply.reply();
        let gateways = s.gateways().await;
        assert!(s.sigkill_gateways(&gateways).await > 0, "no gateway found");
        let pod = pod_of(&session).name;
        s.kubectl.run(&["delete", "pod", &pod, "--grace-period=0", "--force"]).await;
        let route = format!("/sessions/{id}/messages");
        let killed = Instant::now();
        let kept = wait::until("a gateway answers again", LIVENESS, async || {
            let answer =
                s.http.request(Method::GET, &route).send().await.map_err(|error| error.to_string())?;
            let told: Value = answer.json().await.map_err(|error| error.to_string())?;
            told.as_array().cloned().ok_or_else(|| told.to_string())
        })
        .await;
        measure::times("gateway SIGKILLed→answers again", &[killed.elapsed()]);
        assert_eq!(kept.last(), Some(&reply.json()));
    })
    .await;
}

#[tokio::test]
async fn go_on_in_the_next_pod() {
    scenario("the conversation of a restarted and of a recovered session", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("goeson", json!({ "lifecycle": { "recovery": "Auto" } })).await;
        let (begun, word) = (s.word("begun"), s.word("pineapple"));
        let id = s.session("goeson", &agent, json!({ "prompt": format!("say {begun}") })).await;
        s.ready(&id).await;
        s.http.say(&id, &format!("remember {word}")).await.reply();
        let before = messages(s, &id).await;

        s.http.post(&format!("/sessions/{id}/restart?wait=240s"), &json!({})).await.with_status(200);
        let restarted = s.incarnation(&id, 2).await;
        assert_eq!(ids(&messages(s, &id).await), ids(&before), "it is there before anybody says anything");
        let mark = s.word("later");
        let asked = Instant::now();
        s.http.say(&id, &mark).await.reply();
        measure::times("first turn after a restart, conversation taken over", &[asked.elapsed()]);
        knows(s, &mark, &[&begun, &word]).await;

        let pod = pod_of(&restarted).name;
        s.kubectl.run(&["delete", "pod", &pod, "--grace-period=0", "--force"]).await;
        s.incarnation(&id, 3).await;
        let last = s.word("last");
        s.http.say(&id, &last).await.reply();
        knows(s, &last, &[&begun, &word, &mark]).await;
        let after = messages(s, &id).await;
        assert_eq!(ids(&after)[..before.len()], ids(&before)[..]);
        assert_eq!(after.len(), before.len() + 4, "two turns more, each once");
        let prompted = s.model.calls_with(&begun).await;
        let ran = prompted.iter().filter(|call| call.last_user_text.contains(&begun)).count();
        assert_eq!(ran, 1, "the session's own prompt ran once, in its first pod");
    })
    .await;
}

/// The model was told all of `words` before `mark`.
async fn knows(s: &Scenario, mark: &str, words: &[&String]) {
    let calls = s.model.calls_with(mark).await;
    let call = calls.last().expect("the model was asked");
    let told = call.earlier_user_texts.join("\n");
    assert!(words.iter().all(|word| told.contains(word.as_str())), "{words:?} before {mark}: {told}");
}
