//! One pool serves every agent: prompt and environment come with the session, and stay with it.

use std::time::Duration;

use paddock_e2e::scenario::name_of;
use paddock_e2e::{Share, scenario};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn of_one_pool_know_nothing_of_each_other() {
    scenario("two agents, one pool", Share::Shared, LIMIT, async |s| {
        let make = async |what: &str| {
            let (prompt, value) = (s.word(&format!("prompt{what}")), s.word(&format!("value{what}")));
            let spec = json!({
                "prompt": format!("You are {what}. Your password is {prompt}."),
                "env": [{ "name": "TEAM", "value": value }, { "name": "ONLY_IN_AGENT", "value": "yes" }],
            });
            let agent = s.agent(what, spec).await;
            let id = name_of(&s.ready_session(what, &agent).await);
            (id, prompt, value)
        };
        let (red, blue) = tokio::join!(make("red"), make("blue"));
        for ((id, prompt, value), (_, other_prompt, other_value)) in [(&red, &blue), (&blue, &red)] {
            let ask = s.word("ask");
            let reply =
                s.http.say(id, &format!("!run printenv TEAM; printenv ONLY_IN_AGENT; : {ask}")).await.reply();
            assert!(reply.contains(value) && reply.contains("yes"), "the agent's environment: {reply}");
            assert!(!reply.contains(other_value), "the other agent's environment: {reply}");

            let calls = s.model.calls_with(&ask).await;
            assert!(!calls.is_empty(), "the model was asked");
            for call in &calls {
                let system = &call.system;
                assert!(system.contains(prompt), "the agent's prompt is not in the system prompt:\n{system}");
                assert!(!system.contains(other_prompt), "the other agent's prompt is in the call");
            }
            let session = s.ready(id).await;
            let traces = s.files_with(&session, &[other_prompt, other_value]).await;
            assert!(traces.is_empty(), "traces of the other agent in the pod: {traces:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn give_way_to_their_sessions_environment() {
    scenario("environment of a Session", Share::Shared, LIMIT, async |s| {
        let env = json!([{ "name": "LEVEL", "value": "agent" }, { "name": "BASE", "value": "agent" }]);
        let agent = s.agent("env", json!({ "env": env })).await;
        let odd = "a 'quoted' \"text\" with $HOME, `ticks` and \\ backslash";
        let own =
            json!({ "env": [{ "name": "LEVEL", "value": "session" }, { "name": "ODD", "value": odd }] });
        let id = s.session("env", &agent, own).await;
        let session = s.ready(&id).await;
        let reply = s.http.say(&id, "!run printenv LEVEL BASE; printenv ODD > odd.txt").await.reply();
        let words: Vec<&str> = reply.split_whitespace().collect();
        assert!(words.contains(&"session") && words.contains(&"agent"), "{reply}");
        let file = s.exec(&session, &["cat", "/workspace/odd.txt"]).await.succeeded();
        assert_eq!(file.trim_end(), odd, "a value arrives as it was given");
    })
    .await;
}

#[tokio::test]
async fn are_what_the_model_is_asked_with() {
    scenario("the agent's model", Share::Shared, LIMIT, async |s| {
        let model = s.name("model");
        let agent = s.agent("model", json!({ "model": model })).await;
        let id = s.session("model", &agent, Value::Null).await;
        s.ready(&id).await;
        let word = s.word("which");
        assert!(s.http.say(&id, &format!("!say {word}")).await.reply().contains(&word));
        let calls = s.model.calls_with(&word).await;
        assert!(!calls.is_empty() && calls.iter().all(|call| call.model.contains(&model)), "{calls:?}");
    })
    .await;
}
