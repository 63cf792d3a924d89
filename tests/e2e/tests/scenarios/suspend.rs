//! A session rests without a pod, and goes on where it was.

use std::time::{Duration, Instant};

use paddock_api::session::{DesiredState, Reason};
use paddock_api::{Phase, Session};
use paddock_e2e::scenario::{name_of, pod_of};
use paddock_e2e::{Answer, LIVENESS, Scenario, Share, measure, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);
/// Longer than any of these steps takes on a loaded machine.
const PATIENT: &str = "?wait=240s";

async fn post(s: &Scenario, id: &str, action: &str) -> Answer {
    s.http.post(&format!("/sessions/{id}/{action}{PATIENT}"), &json!({})).await
}

fn incarnation(session: &Session) -> u32 {
    session.status.as_ref().expect("a status").incarnation
}

#[tokio::test]
async fn over_http_files_and_conversation_stay() {
    scenario("suspend and resume over HTTP", Share::Shared, LIMIT, async |s| {
        let agent = s.persistent_agent("rest", json!({})).await;
        let before = s.ready_session("rest", &agent).await;
        let id = name_of(&before);
        let (key, word) = (s.word("key-"), s.word("kept"));
        let first = s.http.say_once(&id, &key, &format!("!run echo {word} > kept.txt")).await;
        first.reply();

        let started = Instant::now();
        let told = post(s, &id, "suspend").await.with_status(200);
        measure::times("persistent session: POST suspend→answer", &[started.elapsed()]);
        assert_eq!((&told["id"], &told["status"]), (&json!(id), &json!("suspended")), "{told}");
        let resting = s.suspended(&id).await;
        assert_eq!(resting.spec.state, DesiredState::Suspended);
        assert_eq!(s.kubectl.row("sessions", &id).await.cell("PHASE"), "Suspended");
        assert_eq!(post(s, &id, "suspend").await.with_status(200)["status"], "suspended", "once more");
        let listed = s.http.get("/sessions?status=suspended&limit=200").await.with_status(200);
        let listed = listed.as_array().expect("a list");
        assert!(listed.iter().any(|session| session["id"] == json!(id)), "{listed:?}");

        let started = Instant::now();
        let told = post(s, &id, "resume").await.with_status(200);
        measure::times("persistent session: POST resume→ready", &[started.elapsed()]);
        assert_eq!((&told["id"], &told["status"]), (&json!(id), &json!("ready")), "{told}");
        let after = s.ready(&id).await;
        assert_eq!(incarnation(&after), incarnation(&before) + 1);
        assert_ne!(pod_of(&after).uid, pod_of(&before).uid, "a pod serves one incarnation");
        let cat = s.http.say(&id, "!run cat kept.txt").await;
        assert!(cat.reply().contains(&word), "the files are there: {}", cat.body_text());
        let mark = s.word("later");
        s.http.say(&id, &mark).await.reply();
        let calls = s.model.calls_with(&mark).await;
        let earlier = calls.iter().flat_map(|call| &call.earlier_user_texts);
        assert!(
            earlier.into_iter().any(|text| text.contains(&word)),
            "the harness knows what was said before"
        );
        // An old key still names its old turn.
        let replayed = s.http.say_once(&id, &key, &format!("!run echo {word} > kept.txt")).await;
        assert_eq!(replayed.with_status(200), first.json(), "replayed, not run again");
        assert_eq!(post(s, &id, "resume").await.with_status(200)["status"], "ready", "once more");
    })
    .await;
}

#[tokio::test]
async fn with_kubectl_and_messages_resume_it() {
    scenario("suspend with kubectl, resume by messages", Share::Shared, LIMIT, async |s| {
        let agent = s.persistent_agent("wake", json!({})).await;
        let before = s.ready_session("wake", &agent).await;
        let id = name_of(&before);
        let word = s.word("kept");
        s.http.say(&id, &format!("!run echo {word} > kept.txt")).await.reply();
        s.patch_session(&id, json!({ "state": "Suspended" })).await;
        s.suspended(&id).await;

        // Three at once: one resumes it, each is answered.
        let words = [s.word("one"), s.word("two"), s.word("three")];
        let started = Instant::now();
        let texts = words.iter().map(|word| format!("!run cat kept.txt; echo {word}"));
        let texts: Vec<String> = texts.collect();
        let answers = futures::future::join_all(texts.iter().map(|text| s.http.say(&id, text))).await;
        measure::times("message to a suspended session→reply", &[started.elapsed()]);
        for (answer, own) in answers.iter().zip(&words) {
            let reply = answer.reply();
            assert!(reply.contains(own) && reply.contains(&word), "its own reply, with the file: {reply}");
        }
        for own in &words {
            let turns =
                s.model.calls_with(own).await.into_iter().filter(|call| call.last_user_text.contains(own));
            // One call that asks for the command, one that has its output: none of the turns ran twice.
            assert!(turns.count() <= 2, "{own} reached the model more than once");
        }
        let after = s.ready(&id).await;
        assert_eq!(incarnation(&after), incarnation(&before) + 1, "it was resumed once");
        assert_eq!(after.spec.state, DesiredState::Running);

        // And back and forth with kubectl alone.
        s.patch_session(&id, json!({ "state": "Suspended" })).await;
        s.suspended(&id).await;
        s.patch_session(&id, json!({ "state": "Running" })).await;
        let again = s.ready(&id).await;
        assert_eq!(incarnation(&again), incarnation(&after) + 1);
        assert!(s.http.say(&id, "!run cat kept.txt").await.reply().contains(&word));
    })
    .await;
}

#[tokio::test]
async fn a_message_while_it_is_being_suspended_loses_nothing() {
    scenario("a message races with a suspension", Share::Shared, LIMIT, async |s| {
        let agent = s.persistent_agent("race", json!({})).await;
        let id = name_of(&s.ready_session("race", &agent).await);
        let word = s.word("raced");
        s.patch_session(&id, json!({ "state": "Suspended" })).await;
        let answer = s.http.say(&id, &format!("!run echo {word} >> raced.txt; cat raced.txt")).await;
        // Where the pod was given the turn before the gateway knew, it may be interrupted, and is told to be.
        if answer.status == 502 {
            answer.error(502, None);
            s.log("the turn had begun already");
            // Nobody has taken the wish back by that; the next message does.
            let next = s.word("next");
            assert!(s.http.say(&id, &next).await.reply().contains(&next), "the session goes on");
        } else {
            assert_eq!(answer.reply().matches(&word).count(), 1, "it ran once: {}", answer.body_text());
        }
        s.ready(&id).await;
    })
    .await;
}

#[tokio::test]
async fn a_message_does_not_resume_it_where_the_agent_says_so() {
    scenario("resumeOnMessage: false", Share::Shared, LIMIT, async |s| {
        let rules = json!({ "lifecycle": { "resumeOnMessage": false } });
        let agent = s.persistent_agent("sleepy", rules).await;
        let id = name_of(&s.ready_session("sleepy", &agent).await);
        post(s, &id, "suspend").await.with_status(200);
        let error = s.http.say(&id, "hello").await.error(404, Some("suspended"));
        assert!(error["error"].as_str().is_some_and(|text| text.contains("/resume")), "{error}");
        assert_eq!(s.suspended(&id).await.spec.state, DesiredState::Suspended);
        post(s, &id, "resume").await.with_status(200);
        assert!(s.http.say(&id, "!say awake").await.reply().contains("awake"));
    })
    .await;
}

#[tokio::test]
async fn without_a_persistent_workspace_is_refused() {
    scenario("suspend an ephemeral session", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("fleeting", json!({})).await;
        let before = s.ready_session("fleeting", &agent).await;
        let id = name_of(&before);
        let error = post(s, &id, "suspend").await.error(409, Some("workspace_not_persistent"));
        assert!(error["error"].as_str().is_some_and(|text| text.contains("Persistent")), "{error}");
        assert!(s.http.say(&id, "!say on").await.reply().contains("on"));

        s.patch_session(&id, json!({ "state": "Suspended" })).await;
        let refused = wait::watch(&s.api::<Session>(), &id, "it says why", LIVENESS, |session| {
            let status = session.status.as_ref()?;
            (status.reason == Some(Reason::WorkspaceNotPersistent)).then(|| status.clone())
        })
        .await;
        assert_eq!(refused.phase, Phase::Ready);
        assert!(!refused.message.is_empty());
        assert!(s.http.say(&id, "!say still").await.reply().contains("still"), "it goes on all the same");
        s.patch_session(&id, json!({ "state": "Running" })).await;
        assert_eq!(pod_of(&s.ready(&id).await).uid, pod_of(&before).uid, "it kept its pod");
    })
    .await;
}

#[tokio::test]
async fn what_does_not_run_is_not_suspended() {
    scenario("suspend what does not run", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("ended", json!({})).await;
        let id = s.session("ended", &agent, Value::Null).await;
        s.ready(&id).await;
        s.http.delete(&format!("/sessions/{id}")).await.with_status(200);
        s.ended(&id, Phase::Dead).await;
        post(s, &id, "suspend").await.error(404, Some("dead"));
        post(s, &id, "resume").await.error(404, Some("dead"));
        post(s, "unknown", "suspend").await.error(404, Some("not_found"));
    })
    .await;
}
