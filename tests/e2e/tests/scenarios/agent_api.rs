//! Agents that are made, changed and deleted over HTTP, from which sessions are made at once.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use paddock_api::{Agent, Phase, Session};
use paddock_e2e::objects::Kind;
use paddock_e2e::scenario::uid;
use paddock_e2e::{LIVENESS, Scenario, Share, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

/// Makes an agent, which is removed at the end if the scenario does not do so.
async fn make_agent(s: &Scenario, body: Value) -> Value {
    let agent = s.http.post("/agents", &body).await.with_status(200);
    s.record(Kind::Agent, &s.env.namespace, id_of(&agent));
    agent
}

/// Makes a session and waits until it is Ready.
async fn make_session(s: &Scenario, agent: &str) -> String {
    let session =
        s.http.post(&format!("/agents/{agent}/session?wait=60s"), &json!({})).await.with_status(200);
    let id = id_of(&session).to_owned();
    s.record(Kind::Session, &s.env.namespace, &id);
    s.ready(&id).await;
    id
}

fn id_of(answer: &Value) -> &str {
    answer["id"].as_str().unwrap_or_else(|| panic!("no id: {answer}"))
}

#[tokio::test]
async fn makes_changes_and_deletes_agents() {
    scenario("agents over HTTP", Share::Shared, LIMIT, async |s| {
        let (token, later) = (s.word("token"), s.word("later"));
        let (first, second) = (s.word("first"), s.word("second"));
        let agent = make_agent(
            s,
            json!({
                "name": format!("Made {}", s.nonce()), "model": "scripted", "prompt": format!("Say {first}."),
                "env_vars": {"TOKEN": token, "OTHER": "other"},
            }),
        )
        .await;
        let id = id_of(&agent).to_owned();
        assert_eq!(agent["env_vars"], json!({"TOKEN": "***", "OTHER": "***"}), "{agent}");
        assert_eq!(s.http.get(&format!("/agents/{id}")).await.with_status(200), agent);

        let session = make_session(s, &id).await;
        let ask = s.word("ask");
        // The shell compares: what it prints is no secret.
        let same = format!("!run test \"$TOKEN\" = {token} && echo same; echo $OTHER; : {ask}");
        let reply = s.http.say(&session, &same).await.reply();
        assert!(reply.contains("same") && reply.contains("other"), "the shell has the variables: {reply}");
        assert!(s.model.calls_with(&ask).await.iter().any(|call| call.system.contains(&first)));

        // Where the value is, and where it is not.
        let secret = s.api::<Secret>().get(&format!("paddock-env-{id}")).await.expect("the agent's Secret");
        let data = secret.data.clone().unwrap_or_default();
        assert_eq!(data["TOKEN"].0, token.as_bytes());
        let owned = secret
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.kind == "Agent" && owner.name == id);
        assert!(owned, "the Secret goes with the agent: {:?}", secret.metadata.owner_references);
        let objects =
            s.kubectl.run(&["get", "agents,sessions,sandboxes,pods,events", "-o", "yaml"]).await.succeeded();
        assert!(objects.contains(&id), "the search sees the agent");
        for part in ["controller", "gateway"] {
            let target = format!("deployment/{}-{part}", s.env.release);
            let log = s.kubectl.run(&["logs", &target, "--all-pods", "--tail=-1"]).await.succeeded();
            assert!(!log.contains(&token), "the value is in the {part}'s log");
        }
        // The text itself is not printed.
        assert!(!objects.contains(&token), "the value is in an object");

        // The next session has what was changed, at once; the one before stays as it is.
        let change = json!({"prompt": format!("Say {second}."), "env_vars": {"TOKEN": later, "OTHER": null}});
        let changed = s.http.patch(&format!("/agents/{id}"), &change).await.with_status(200);
        assert_eq!(changed["env_vars"], json!({"TOKEN": "***"}), "{changed}");
        let next = make_session(s, &id).await;
        let ask = s.word("ask");
        let same = format!("!run test \"$TOKEN\" = {later} && echo same; echo \"[$OTHER]\"; : {ask}");
        let reply = s.http.say(&next, &same).await.reply();
        assert!(
            reply.contains("same") && reply.contains("[]"),
            "the new session has the new values: {reply}"
        );
        let calls = s.model.calls_with(&ask).await;
        assert!(!calls.is_empty() && calls.iter().all(|call| call.system.contains(&second)), "{calls:?}");
        let old = format!("!run test \"$TOKEN\" = {token} && echo still");
        assert!(s.http.say(&session, &old).await.reply().contains("still"));

        let entry = s.http.get(&format!("/agents?search={id}")).await.with_status(200);
        assert_eq!(entry["data"][0]["session_count"], 2, "{entry}");
        assert_eq!(entry["data"][0]["has_active_session"], true, "{entry}");

        // Deleted: its sessions end, its Secret goes, and it cannot be found any more.
        assert_eq!(s.http.delete(&format!("/agents/{id}")).await.status, 204);
        s.http.get(&format!("/agents/{id}")).await.error(404, Some("not_found"));
        s.http.delete(&format!("/agents/{id}")).await.error(404, Some("not_found"));
        s.http.post(&format!("/agents/{id}/session"), &json!({})).await.error(404, Some("not_found"));
        for session in [&session, &next] {
            let ended = s.ended(session, Phase::Dead).await;
            s.nothing_bound_to(&uid(&ended)).await;
        }
        wait::gone(&s.api::<Agent>(), &id, LIVENESS).await;
        wait::gone(&s.api::<Secret>(), &format!("paddock-env-{id}"), LIVENESS).await;
    })
    .await;
}

#[tokio::test]
async fn gives_values_only_of_secrets_that_are_meant_for_it() {
    scenario("a Secret that is not marked", Share::Shared, LIMIT, async |s| {
        let (value, name) = (s.word("value"), s.name("unmarked"));
        let env = json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": name, "key": "key"}}}]);
        let agent = s.agent("unmarked", json!({"env": env})).await;
        let owner = s.api::<Agent>().get(&agent).await.expect("the agent");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"key": value},
            "metadata": {"name": name, "ownerReferences": [
                {"apiVersion": "paddock.dev/v1alpha1", "kind": "Agent", "name": agent, "uid": uid(&owner)},
            ]},
        });
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        let secrets = s.api::<Secret>();
        secrets.create(&PostParams::default(), &secret).await.expect("a Secret");

        let id = s.session("unmarked", &agent, Value::Null).await;
        let told = wait::watch(&s.api::<Session>(), &id, "it says what it waits for", LIVENESS, |session| {
            let status = session.status.as_ref()?;
            assert_eq!(status.phase, Phase::Creating, "{}", status.message);
            status.message.contains("is not meant for agents").then(|| status.message.clone())
        })
        .await;
        assert!(told.contains(&name) && !told.contains(&value), "{told}");
        let label = ["label", "secret", &name, "paddock.dev/env=true"];
        s.kubectl.run(&label).await.succeeded();
        s.ready(&id).await;
        let ask = format!("!run test \"$KEY\" = {value} && echo same");
        assert!(s.http.say(&id, &ask).await.reply().contains("same"));
    })
    .await;
}
