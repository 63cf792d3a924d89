//! What a session is told of its agent: environment and model.

use std::time::Duration;

use paddock_e2e::{Share, scenario};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

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
