//! Messages and their replies: text, parts, real work, retries, order.

use std::time::{Duration, Instant};

use paddock_e2e::http::message_route;
use paddock_e2e::scenario::name_of;
use paddock_e2e::{LIVENESS, Share, measure, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn text_and_parts_reach_the_agent() {
    scenario("a message with text and one with parts", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("talk", json!({})).await;
        let id = name_of(&s.ready_session("talk", &agent).await);

        let words = s.word("plain");
        let first = s.http.say(&id, &words).await;
        assert_eq!(first.reply().trim(), format!("echo: {words}"));
        assert!(!first.header("x-paddock-turn-id").is_empty(), "{:?}", first.headers);
        measure::times("first message→reply (echo)", &[first.took]);

        let words = s.word("part");
        let second = s.http.message(&id, &json!({ "parts": [{ "type": "text", "text": words }] })).await;
        assert_eq!(second.reply().trim(), format!("echo: {words}"));
        assert_ne!(second.header("x-paddock-turn-id"), first.header("x-paddock-turn-id"));

        let (one, two) = (s.word("one"), s.word("two"));
        let parts = json!([{ "type": "text", "text": one }, { "type": "text", "text": two }]);
        s.http.message(&id, &json!({ "parts": parts })).await.reply();
        let calls = s.model.calls_with(&two).await;
        assert!(calls.iter().any(|call| call.last_user_text.contains(&one)), "both parts are one message");

        let mut later = Vec::new();
        for _ in 0..5 {
            let answer = s.http.say(&id, "!say again").await;
            assert!(answer.reply().contains("again"));
            later.push(answer.took);
        }
        measure::times("later message→reply", &later);
        let slow = s.http.say(&id, "!chunks 5 200").await;
        assert!(!slow.reply().is_empty(), "a reply that came in pieces is whole");
    })
    .await;
}

#[tokio::test]
async fn the_agent_really_works_in_its_workspace() {
    scenario("an agent runs a command and writes a file", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("work", json!({})).await;
        let session = s.ready_session("work", &agent).await;
        let id = name_of(&session);

        let word = s.word("made");
        let answer =
            s.http.say(&id, &format!("!run mkdir -p out && echo {word} > out/by-shell.txt && pwd")).await;
        let reply = answer.reply();
        assert!(reply.contains("ran:") && reply.contains("/workspace"), "{reply}");
        let file = s.exec(&session, &["cat", "/workspace/out/by-shell.txt"]).await.succeeded();
        assert_eq!(file.trim(), word, "the file that the agent's shell wrote");
        measure::times("message→reply, with a shell command", &[answer.took]);

        let word = s.word("written");
        s.http.say(&id, &format!("!write by-tool.txt {word}")).await.reply();
        let file = s.exec(&session, &["cat", "/workspace/by-tool.txt"]).await.succeeded();
        assert_eq!(file.trim(), word, "the file that the agent's write tool wrote");

        let log = s.http.say(&id, "!run git -C /workspace log --format=%s && git status --short").await;
        let reply = log.reply();
        assert!(reply.contains("Empty workspace") && reply.contains("by-tool.txt"), "git works: {reply}");

        // What a person puts into the pod, the agent sees.
        let word = s.word("given");
        let put = format!("echo {word} > /workspace/given.txt");
        s.exec(&session, &["sh", "-c", &put]).await.succeeded();
        assert!(s.http.say(&id, "!run cat given.txt").await.reply().contains(&word));
    })
    .await;
}

#[tokio::test]
async fn a_retry_replays_the_turn() {
    scenario("Idempotency-Key", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("retry", json!({})).await;
        let session = s.ready_session("retry", &agent).await;
        let id = name_of(&session);

        let (key, word) = (s.word("key-"), s.word("once"));
        let text = format!("!say {word}");
        let first = s.http.say_once(&id, &key, &text).await;
        assert!(first.reply().contains(&word));
        assert_eq!(s.model.calls_with(&word).await.len(), 1, "one turn is one call of the model");
        let again = s.http.say_once(&id, &key, &text).await;
        assert_eq!(again.with_status(200), first.json(), "a retry has the same reply");
        assert_eq!(again.header("x-paddock-turn-id"), first.header("x-paddock-turn-id"));
        assert_eq!(s.model.calls_with(&word).await.len(), 1, "a retry calls no model");

        let other = s.http.say_once(&id, &key, "!say something else").await;
        other.error(422, None);
        assert!(s.http.say(&id, "!say on").await.reply().contains("on"), "a 422 harms nothing");
        let old = s.http.say_once(&id, &key, &text).await;
        assert_eq!(old.with_status(200), first.json(), "an older turn is replayed, not run again");

        // A retry that comes while the turn runs joins it.
        let (key, mark) = (s.word("key-"), s.word("joined"));
        let text = format!("!run echo {mark} >> joined.txt; sleep 3");
        let both = [s.http.say_once(&id, &key, &text), s.http.say_once(&id, &key, &text)];
        let both = futures::future::join_all(both).await;
        assert_eq!(both[0].with_status(200), both[1].with_status(200));
        let file = s.exec(&session, &["cat", "/workspace/joined.txt"]).await.succeeded();
        assert_eq!(file.lines().count(), 1, "the command ran once:\n{file}");

        // The body's message_id is such a key too.
        let (key, word) = (s.word("id-"), s.word("body"));
        let body = json!({ "text": format!("!say {word}"), "message_id": key });
        let first = s.http.message(&id, &body).await;
        let again = s.http.message(&id, &body).await;
        assert_eq!(first.with_status(200), again.with_status(200));
    })
    .await;
}

#[tokio::test]
async fn two_at_once_have_each_their_own_reply() {
    scenario("two concurrent messages", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("both", json!({})).await;
        let id = name_of(&s.ready_session("both", &agent).await);
        for _ in 0..3 {
            let words = [s.word("left"), s.word("right")];
            let texts = [format!("!run sleep 1; echo {}", words[0]), format!("!say {}", words[1])];
            let replies = futures::future::join_all(texts.iter().map(|text| s.http.say(&id, text))).await;
            let replies: Vec<String> = replies.iter().map(|answer| answer.reply()).collect();
            for (own, other) in [(0, 1), (1, 0)] {
                assert!(replies[own].contains(&words[own]), "not its own reply: {replies:?}");
                assert!(!replies[own].contains(&words[other]), "the other one's reply: {replies:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_end_the_turn() {
    scenario("the client goes away", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("away", json!({})).await;
        let session = s.ready_session("away", &agent).await;
        let id = name_of(&session);
        let (key, word) = (s.word("key-"), s.word("stays"));
        let text = format!("!run sleep 4; echo {word} > stays.txt");
        let hasty = s.http.say_once(&id, &key, &text);
        assert!(tokio::time::timeout(Duration::from_secs(2), hasty).await.is_err(), "the turn takes longer");
        let file = wait::until("the turn has written its file", LIVENESS, async || {
            let output = s.exec(&session, &["cat", "/workspace/stays.txt"]).await;
            if output.ok { Ok(output.stdout) } else { Err(output.stderr) }
        });
        assert_eq!(file.await.trim(), word);
        // With its key the reply can still be had.
        let late = s.http.say_once(&id, &key, &text).await;
        assert!(late.reply().contains("ran:"), "{}", late.body_text());
    })
    .await;
}

#[tokio::test]
async fn a_sessions_own_prompt_runs_exactly_once() {
    scenario("a Session with a prompt", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("prompt", json!({})).await;
        let word = s.word("first");
        let prompt = json!({ "prompt": format!("!run echo {word} >> first.txt") });
        let id = s.session("prompt", &agent, prompt).await;
        let session = s.ready(&id).await;
        let written = async || {
            let output = s.exec(&session, &["cat", "/workspace/first.txt"]).await;
            if output.ok { Ok(output.stdout) } else { Err(output.stderr) }
        };
        wait::until("the first turn has written its file", LIVENESS, written).await;
        // A later message is answered after it, and does not run it again.
        assert!(s.http.say(&id, "!say later").await.reply().contains("later"));
        let file = s.exec(&session, &["cat", "/workspace/first.txt"]).await.succeeded();
        assert_eq!(file.lines().collect::<Vec<_>>(), [word.as_str()]);
    })
    .await;
}

#[tokio::test]
async fn a_message_waits_for_a_creating_session_when_asked_to() {
    scenario("a message with ?wait=", Share::Shared, LIMIT, async |s| {
        let empty = s.private_pool("empty").create().await;
        let agent = s.agent("wait", json!({ "poolRef": { "name": empty } })).await;
        let id = s.session("wait", &agent, Value::Null).await;
        let word = s.word("patient");
        let request = s.http.request(reqwest::Method::POST, &format!("{}?wait=240s", message_route(&id)));
        let answer = s.http.send(request.json(&json!({ "text": format!("!say {word}") }))).await;
        assert!(answer.reply().contains(&word), "{}", answer.body_text());
    })
    .await;
}

#[tokio::test]
async fn are_aborted() {
    scenario("a turn is aborted", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("aborted", json!({})).await;
        let id = name_of(&s.ready_session("aborted", &agent).await);
        let word = s.word("endless");
        let endless = format!("{word}\n!hang 300");
        let abort = async {
            wait::until("the model has the turn", LIVENESS, async || {
                let calls = s.model.calls_with(&word).await;
                if calls.is_empty() { Err("not asked yet".to_owned()) } else { Ok(()) }
            })
            .await;
            let asked = Instant::now();
            let told = s.http.post(&format!("/sessions/{id}/abort"), &json!({})).await.with_status(200);
            assert_eq!(told, json!({ "ok": true }));
            asked
        };
        let (reply, asked) = tokio::join!(s.http.say(&id, &endless), abort);
        measure::times("POST abort→the turn's own answer", &[asked.elapsed()]);
        let told = reply.with_status(200);
        assert_eq!(told["info"]["error"]["name"], "MessageAbortedError", "as the harness says it: {told}");
        let next = s.word("next");
        assert!(s.http.say(&id, &next).await.reply().contains(&next), "the session goes on");
    })
    .await;
}
