//! `POST /agents`, `PATCH /agents/{id}`, `DELETE /agents/{id}`: what is stored, what is shown, and what a failure leaves.

use paddock_api::agent::EnvVar;
use paddock_api::session::DesiredState;
use paddock_kubeio::write::WriteError;
use serde_json::{Value, json};

use super::cluster::{Watch, Write};
use super::logs;
use super::support::{Reply, TestGateway, session};

/// In every value of a variable; it must be nowhere but in Secrets.
const SECRET: &str = "hunter2";

fn lost() -> Option<WriteError> {
    Some(WriteError::Unavailable("cut".into()))
}

fn refused() -> Option<WriteError> {
    Some(WriteError::Rejected { status: 403, reason: "Forbidden".into(), message: "not you".into() })
}

/// The agent that a POST has made.
async fn made(gateway: &TestGateway, body: Value) -> (String, Reply) {
    let reply = gateway.ask("POST", "/agents", Some(body)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    (reply.body["id"].as_str().unwrap().to_owned(), reply)
}

async fn patch(gateway: &TestGateway, id: &str, body: Value) -> Reply {
    let reply = gateway.ask("PATCH", &format!("/agents/{id}"), Some(body)).await;
    assert!(!reply.body.to_string().contains(SECRET), "{reply:?}");
    reply
}

fn from_secret(id: &str, names: &[&str]) -> Vec<EnvVar> {
    let secret = format!("paddock-env-{id}");
    names.iter().map(|name| EnvVar::from_secret(*name, &secret, *name)).collect()
}

fn values(gateway: &TestGateway, id: &str) -> Vec<(String, String)> {
    gateway.cluster.values(&format!("paddock-env-{id}")).into_iter().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn an_agent_is_made_and_read_at_once() {
    let gateway = TestGateway::start().await;
    gateway.cluster.set_watch(Watch::Cut);
    let body = json!({
        "name": "The reviewer", "model": "big", "prompt": "Review.", "branch": "dev", "pfp_url": "data:x",
        "tools": [], "mcp_servers": [], "allow_out": [], "env_var_hosts": {}, "repo_url": "", "unknown": 1,
    });
    let (id, reply) = made(&gateway, body).await;
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    let mut seen = reply.body.clone();
    assert!(seen["created_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    seen.as_object_mut().unwrap().remove("created_at");
    assert_eq!(
        seen,
        json!({
            "id": id, "name": "The reviewer", "model": "big", "prompt": "Review.", "harness_id": "opencode",
            "supports_tui": false, "repo_url": null, "branch": "dev", "pfp_url": "data:x", "mcp_servers": [],
            "requirements": {"pip": [], "npm": []}, "env_vars": {}, "env_var_hosts": {}, "attached_skill_ids": [], "allow_out": [], "deny_out": [],
            "projects": [],
        })
    );
    assert_eq!(gateway.ask("GET", &format!("/agents/{id}"), None).await.body, reply.body);
    let list = gateway.ask("GET", "/agents", None).await.body;
    assert_eq!((&list["total"], &list["data"][0]["id"]), (&json!(1), &json!(id)));
    assert_eq!(list["data"][0]["has_active_session"], false);
    let made = gateway.ask("POST", &format!("/agents/{id}/session?wait=0s"), None).await;
    assert_eq!((made.status, &made.body["agent_id"]), (200, &json!(id)));
    let list = gateway.ask("GET", "/agents", None).await.body;
    assert_eq!(
        (&list["data"][0]["session_count"], &list["data"][0]["has_active_session"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(gateway.cluster.writes(), [Write::CreateAgent], "no variables, no Secret");
}

#[tokio::test]
async fn a_bad_body_makes_nothing() {
    let gateway = TestGateway::start().await;
    for (body, code, field) in [
        (json!([]), "bad_request", "body"),
        (json!({}), "bad_request", "model"),
        (json!({"model": 5}), "bad_request", "model"),
        (json!({"model": "m", "name": ["x"]}), "bad_request", "name"),
        (json!({"model": "m", "harness_id": "Open Code"}), "bad_request", "harness_id"),
        (json!({"model": "m", "allow_out": ["a.example"]}), "unsupported", "allow_out"),
        (json!({"model": "m", "deny_out": ["a.example"]}), "unsupported", "deny_out"),
        (json!({"model": "m", "env_var_hosts": {"A": ["h"]}}), "unsupported", "env_var_hosts"),
        (json!({"model": "m", "repo_url": "git.example/x"}), "bad_request", "repo_url"),
        (json!({"model": "m", "env_vars": {"PATH": "hunter2"}}), "bad_request", "env_vars"),
        (json!({"model": "m", "env_vars": {"A": "***"}}), "bad_request", "env_vars"),
    ] {
        let reply = gateway.ask("POST", "/agents", Some(body)).await;
        assert_eq!(reply.error(), (400, code));
        let sentence = reply.body["error"].as_str().unwrap();
        assert!(sentence.starts_with(&format!("{field}: ")) && !sentence.contains(SECRET), "{sentence}");
    }
    assert_eq!(gateway.ask("POST", "/agents", None).await.error().0, 415);
    assert_eq!(gateway.ask("PUT", "/agents", None).await.error(), (405, "method_not_allowed"));
    assert!(gateway.cluster.agents().is_empty());
}

#[tokio::test]
async fn values_of_variables_are_in_a_secret_that_goes_with_the_agent() {
    let gateway = TestGateway::start().await;
    let body = json!({"model": "m", "env_vars": {"TOKEN": "hunter2", "OTHER": "hunter2 b"}});
    let (id, reply) = made(&gateway, body).await;
    assert_eq!(reply.body["env_vars"], json!({"TOKEN": "***", "OTHER": "***"}));
    let agent = gateway.cluster.agent(&id).unwrap();
    assert_eq!(agent.spec.env, from_secret(&id, &["OTHER", "TOKEN"]));
    assert!(!serde_json::to_string(&agent).unwrap().contains(SECRET));
    assert_eq!(values(&gateway, &id), pairs(&[("OTHER", "hunter2 b"), ("TOKEN", "hunter2")]));
    let secret = gateway.cluster.secret(&format!("paddock-env-{id}")).unwrap();
    let owner = &secret.metadata.owner_references.unwrap()[0];
    assert_eq!(
        (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
        ("paddock.dev/v1alpha1", "Agent", id.as_str(), agent.metadata.uid.as_deref().unwrap())
    );
    // The controller reads no Secret without it.
    assert_eq!(secret.metadata.labels.unwrap()["paddock.dev/env"], "true");
    assert_eq!(gateway.cluster.writes(), [Write::CreateAgent, Write::CreateSecret]);
}

#[tokio::test]
async fn an_agent_whose_values_cannot_be_stored_is_not_left() {
    let gateway = TestGateway::start().await;
    let body = json!({"model": "m", "env_vars": {"TOKEN": "hunter2"}});
    gateway.cluster.fail_next(Write::CreateSecret, |_| refused());
    let reply = gateway.ask("POST", "/agents", Some(body.clone())).await;
    assert_eq!(reply.error(), (503, "cluster_unavailable"));
    assert!(gateway.cluster.agents().is_empty());
    // Where taking it back fails too, it can be deleted by hand, and runs nothing.
    gateway.cluster.fail_next(Write::CreateSecret, |_| refused());
    gateway.cluster.fail_next(Write::DeleteAgent, |_| refused());
    let reply = gateway.ask("POST", "/agents", Some(body)).await;
    assert_eq!(reply.error(), (503, "cluster_unavailable"));
    let [left] = &gateway.cluster.agents()[..] else { panic!("one is left") };
    assert_eq!(gateway.cluster.agent(left).unwrap().spec.env, from_secret(left, &["TOKEN"]));
    assert_eq!(gateway.ask("DELETE", &format!("/agents/{left}"), None).await.status, 204);
    assert!(gateway.cluster.agents().is_empty());
}

#[tokio::test]
async fn lost_answers_are_looked_up_and_nothing_is_made_twice() {
    let gateway = TestGateway::start().await;
    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.fail_next(Write::CreateAgent, |_| lost());
    gateway.cluster.fail_next(Write::CreateSecret, |_| lost());
    let (id, reply) = made(&gateway, json!({"model": "m", "env_vars": {"TOKEN": "hunter2"}})).await;
    assert_eq!(reply.body["created_at"], "2026-02-02T00:00:00Z");
    assert_eq!(gateway.cluster.agents(), [id.as_str()]);
    assert_eq!(values(&gateway, &id), pairs(&[("TOKEN", "hunter2")]));
    gateway.cluster.fail_next(Write::PatchSecret, |_| lost());
    gateway.cluster.fail_next(Write::PatchAgent, |_| lost());
    let body = json!({"prompt": "p", "env_vars": {"TOKEN": "hunter2 new"}});
    let changed = patch(&gateway, &id, body).await;
    assert_eq!((changed.status, &changed.body["prompt"]), (200, &json!("p")));
    assert_eq!(values(&gateway, &id), pairs(&[("TOKEN", "hunter2 new")]));
    gateway.cluster.fail_next(Write::DeleteAgent, |_| lost());
    assert_eq!(gateway.ask("DELETE", &format!("/agents/{id}"), None).await.status, 204);
    assert_eq!(gateway.ask("GET", &format!("/agents/{id}"), None).await.error(), (404, "not_found"));
}

#[tokio::test]
async fn refusals_of_the_api_server_are_told() {
    let gateway = TestGateway::start().await;
    let invalid = |_: &_| {
        Some(WriteError::Rejected { status: 422, reason: "Invalid".into(), message: "model is odd".into() })
    };
    gateway.cluster.fail_next(Write::CreateAgent, invalid);
    let reply = gateway.ask("POST", "/agents", Some(json!({"model": "m"}))).await;
    assert_eq!(reply.error(), (400, "bad_request"));
    gateway.cluster.put_agent("a");
    gateway.cluster.fail_next(Write::PatchAgent, invalid);
    assert_eq!(patch(&gateway, "a", json!({"model": "odd"})).await.error(), (400, "bad_request"));
    gateway.cluster.fail_next(Write::DeleteAgent, |_| refused());
    assert_eq!(gateway.ask("DELETE", "/agents/a", None).await.error(), (503, "cluster_unavailable"));
    gateway.cluster.fail_next(Write::DeleteAgent, |cluster| {
        cluster.fail_next_agent_read(|_| lost());
        lost()
    });
    // What became of it cannot be found out; so it is not said to be gone.
    assert_eq!(gateway.ask("DELETE", "/agents/a", None).await.error(), (503, "cluster_unavailable"));
    assert_eq!(gateway.ask("DELETE", "/agents/a", None).await.error(), (404, "not_found"));
}

#[tokio::test]
async fn a_change_is_partial_and_read_at_once() {
    let gateway = TestGateway::start().await;
    gateway.cluster.put_agent_with("helper", &json!({"idleTimeout": "5m"}));
    gateway.cluster.set_watch(Watch::Cut);
    let before = gateway.cluster.agent("helper").unwrap();
    let changed =
        patch(&gateway, "helper", json!({"prompt": "Be brief.", "pfp_url": "p", "tools": []})).await;
    assert_eq!((changed.status, &changed.body["prompt"]), (200, &json!("Be brief.")));
    assert_eq!(gateway.ask("GET", "/agents/helper", None).await.body, changed.body);
    let after = gateway.cluster.agent("helper").unwrap();
    assert_eq!(after.spec.prompt.as_deref(), Some("Be brief."));
    assert_eq!(after.metadata.annotations.clone().unwrap()["paddock.dev/picture-url"], "p");
    let mut rest = after.clone();
    (rest.spec.prompt, rest.metadata.annotations) = (None, None);
    rest.metadata.resource_version = before.metadata.resource_version.clone();
    assert_eq!(rest, before, "nothing else has changed");

    let cleared = patch(&gateway, "helper", json!({"prompt": null, "pfp_url": null, "name": null})).await;
    assert_eq!(
        (&cleared.body["prompt"], &cleared.body["pfp_url"], &cleared.body["name"]),
        (&Value::Null, &Value::Null, &json!("helper"))
    );
    let nothing = patch(&gateway, "helper", json!({"unknown": 1})).await;
    assert_eq!((nothing.status, &nothing.body), (200, &cleared.body));
    assert_eq!(gateway.cluster.writes(), [Write::PatchAgent; 2]);
    assert_eq!(patch(&gateway, "nobody", json!({"prompt": "p"})).await.error(), (404, "not_found"));
    for body in [json!({"model": null}), json!({"model": ""}), json!({"deny_out": ["x"]})] {
        assert_eq!(patch(&gateway, "helper", body).await.error().0, 400);
    }
}

#[tokio::test]
async fn a_change_does_not_undo_what_somebody_else_changes_meanwhile() {
    let gateway = TestGateway::start().await;
    gateway.cluster.put_agent("helper");
    gateway.cluster.fail_next(Write::PatchAgent, |cluster| {
        cluster.edit_agent("helper", &json!({"spec": {"model": "theirs"}}));
        None
    });
    let changed = patch(&gateway, "helper", json!({"prompt": "ours"})).await;
    assert_eq!((&changed.body["prompt"], &changed.body["model"]), (&json!("ours"), &json!("theirs")));
    let stored = gateway.cluster.agent("helper").unwrap().spec;
    assert_eq!((stored.prompt.as_deref(), stored.model.as_str()), (Some("ours"), "theirs"));
    // Deleted and made anew: not the agent that was meant, but the one that the client names now.
    gateway.cluster.fail_next(Write::PatchAgent, |cluster| {
        cluster.edit_agent("helper", &json!({"metadata": {"uid": "another"}}));
        None
    });
    assert_eq!(patch(&gateway, "helper", json!({"prompt": "again"})).await.status, 200);
}

#[tokio::test]
async fn a_set_of_variables_takes_the_place_of_the_one_before() {
    let gateway = TestGateway::start().await;
    let all = json!({"KEPT": "hunter2 k", "CHANGED": "hunter2 c", "GONE": "hunter2 g", "NULL": "hunter2 n"});
    let (id, shown) = made(&gateway, json!({"model": "m", "env_vars": all})).await;
    // As a client does that was shown the agent, changes something and sends it back.
    let mut again = shown.body.clone();
    again["prompt"] = json!("p");
    let same = patch(&gateway, &id, again).await;
    assert_eq!((same.status, &same.body["env_vars"]), (200, &shown.body["env_vars"]));
    assert_eq!(values(&gateway, &id).len(), 4);

    let body =
        json!({"env_vars": {"KEPT": "***", "CHANGED": "hunter2 c2", "NULL": null, "ADDED": "hunter2 a"}});
    let changed = patch(&gateway, &id, body).await;
    assert_eq!(changed.body["env_vars"], json!({"KEPT": "***", "CHANGED": "***", "ADDED": "***"}));
    let expected = pairs(&[("ADDED", "hunter2 a"), ("CHANGED", "hunter2 c2"), ("KEPT", "hunter2 k")]);
    assert_eq!(values(&gateway, &id), expected);
    let env = gateway.cluster.agent(&id).unwrap().spec.env;
    assert_eq!(env, from_secret(&id, &["ADDED", "CHANGED", "KEPT"]));
    // New values first, then the agent, then what nobody uses any more.
    let writes = gateway.cluster.writes();
    assert_eq!(writes[writes.len() - 3..], [Write::PatchSecret, Write::PatchAgent, Write::PatchSecret]);

    assert_eq!(patch(&gateway, &id, json!({"env_vars": {"NEW": "***"}})).await.error(), (400, "bad_request"));
    assert_eq!(values(&gateway, &id), expected);
    assert_eq!(patch(&gateway, &id, json!({"env_vars": {}})).await.body["env_vars"], json!({}));
    assert_eq!(values(&gateway, &id), []);
    assert!(gateway.cluster.agent(&id).unwrap().spec.env.is_empty());
}

#[tokio::test]
async fn variables_of_an_agent_made_with_kubectl_are_changed_too() {
    let gateway = TestGateway::start().await;
    gateway.cluster.put_agent("helper");
    let env = json!([
        {"name": "PLAIN", "value": "hunter2 p"},
        {"name": "THEIRS", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "k"}}},
    ]);
    gateway.cluster.edit_agent("helper", &json!({"spec": {"env": env}}));
    let body = json!({"env_vars": {"PLAIN": "***", "THEIRS": "***", "OURS": "hunter2 o"}});
    assert_eq!(patch(&gateway, "helper", body).await.status, 200);
    let stored = gateway.cluster.agent("helper").unwrap().spec.env;
    assert_eq!(
        stored[1..],
        [EnvVar::plain("PLAIN", "hunter2 p"), EnvVar::from_secret("THEIRS", "theirs", "k")]
    );
    assert_eq!(stored[..1], from_secret("helper", &["OURS"]));
    assert_eq!(values(&gateway, "helper"), pairs(&[("OURS", "hunter2 o")]));
}

#[tokio::test]
async fn a_secret_that_is_not_the_agent_s_is_not_touched() {
    let gateway = TestGateway::start().await;
    gateway.cluster.put_agent("helper");
    gateway
        .cluster
        .put_secret(json!({"metadata": {"name": "paddock-env-helper", "uid": "u"}, "data": {"A": "eA=="}}));
    let reply = patch(&gateway, "helper", json!({"env_vars": {"A": "hunter2"}})).await;
    assert_eq!(reply.error(), (503, "cluster_unavailable"));
    assert_eq!(values(&gateway, "helper"), pairs(&[("A", "x")]));
    assert_eq!(gateway.cluster.writes(), []);
}

#[tokio::test]
async fn what_fails_half_way_is_done_by_the_same_request_once_more() {
    let gateway = TestGateway::start().await;
    let (id, _) = made(&gateway, json!({"model": "m", "env_vars": {"OLD": "hunter2 o"}})).await;
    let body = json!({"prompt": "p", "env_vars": {"NEW": "hunter2 n"}});
    gateway.cluster.fail_next(Write::PatchAgent, |_| refused());
    assert_eq!(patch(&gateway, &id, body.clone()).await.error(), (503, "cluster_unavailable"));
    let agent = gateway.cluster.agent(&id).unwrap();
    assert_eq!((agent.spec.env, agent.spec.prompt), (from_secret(&id, &["OLD"]), None), "as it was");
    assert!(values(&gateway, &id).contains(&("OLD".to_owned(), "hunter2 o".to_owned())));
    // Somebody else writes to the Secret while it goes on: nothing is taken out on an old view of it.
    gateway.cluster.fail_next(Write::PatchSecret, |cluster| {
        let name = cluster.agents()[0].clone();
        let mut secret =
            serde_json::to_value(cluster.secret(&format!("paddock-env-{name}")).unwrap()).unwrap();
        secret["data"]["LATE"] = json!("eA==");
        cluster.put_secret(secret);
        None
    });
    assert_eq!(patch(&gateway, &id, body).await.status, 200);
    assert_eq!(values(&gateway, &id), pairs(&[("NEW", "hunter2 n")]));
    // A failure to take out what nobody uses is no failure of the change; the next one does it.
    gateway.cluster.fail_next(Write::PatchSecret, |_| refused());
    assert_eq!(patch(&gateway, &id, json!({"env_vars": {}})).await.status, 200);
    assert_eq!(values(&gateway, &id), pairs(&[("NEW", "hunter2 n")]));
    assert_eq!(patch(&gateway, &id, json!({"env_vars": {}})).await.status, 200);
    assert_eq!(values(&gateway, &id), []);
}

#[tokio::test]
async fn a_deleted_agent_s_sessions_are_stopped() {
    let gateway = TestGateway::start().await;
    let (id, _) = made(&gateway, json!({"model": "m", "env_vars": {"TOKEN": "hunter2"}})).await;
    for (name, phase) in
        [("ready", "Ready"), ("new", "Creating"), ("resting", "Suspended"), ("over", "Failed")]
    {
        let mut object = session(name, json!({"phase": phase}));
        object["spec"]["agentRef"]["name"] = json!(id);
        if phase == "Suspended" {
            object["spec"]["state"] = json!("Suspended");
        }
        gateway.cluster.put(object);
    }
    gateway.put_session("other", json!({"phase": "Ready"}));
    gateway.cluster.set_watch(Watch::Cut);
    let path = format!("/agents/{id}");
    // A session that cannot be stopped: the agent stays, and the request can be repeated.
    gateway.cluster.fail_next_patch(|_| refused());
    assert_eq!(gateway.ask("DELETE", &path, None).await.error(), (503, "cluster_unavailable"));
    assert_eq!(gateway.ask("GET", &path, None).await.status, 200);

    let reply = gateway.ask("DELETE", &path, None).await;
    assert_eq!((reply.status, &reply.body), (204, &Value::Null));
    let state = |name: &str| gateway.cluster.session(name).spec.state;
    for name in ["ready", "new", "resting"] {
        assert_eq!(state(name), DesiredState::Stopped, "{name}");
    }
    assert_eq!((state("over"), state("other")), (DesiredState::Running, DesiredState::Running));
    assert_eq!(gateway.ask("GET", "/sessions/ready", None).await.body["status"], "dead");
    // The watch is cut, and still it is gone at once.
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/session")),
        ("PATCH", path),
    ] {
        let body = (method == "PATCH").then(|| json!({"prompt": "p"}));
        assert_eq!(gateway.ask(method, &path, body).await.error(), (404, "not_found"), "{method}");
    }
    assert_eq!(gateway.ask("GET", "/agents", None).await.body["total"], 0);
    assert!(gateway.cluster.secret(&format!("paddock-env-{id}")).is_none());
}

#[tokio::test]
async fn sessions_that_are_made_during_a_deletion_are_stopped_too() {
    let gateway = TestGateway::start().await;
    gateway.cluster.put_agent("helper");
    gateway.cluster.fail_next(Write::DeleteAgent, |cluster| {
        cluster.put(session("late", json!({"phase": "Creating"})));
        None
    });
    assert_eq!(gateway.ask("DELETE", "/agents/helper", None).await.status, 204);
    assert_eq!(gateway.cluster.session("late").spec.state, DesiredState::Stopped);
}

#[tokio::test]
async fn no_value_of_a_variable_is_in_an_answer_or_in_the_log() {
    logs::keep();
    let gateway = TestGateway::start().await;
    let mut replies = Vec::new();
    let env = json!({"TOKEN": "hunter2"});
    for fault in [lost, refused] {
        for write in [Write::CreateAgent, Write::CreateSecret, Write::PatchAgent, Write::PatchSecret] {
            gateway.cluster.fail_next(write, move |_| fault());
            let reply = gateway.ask("POST", "/agents", Some(json!({"model": "m", "env_vars": env}))).await;
            replies.push(reply);
            for id in gateway.cluster.agents() {
                let path = format!("/agents/{id}");
                let body = json!({"prompt": "p", "env_vars": {"TOKEN": "hunter2", "B": "hunter2"}});
                replies.push(gateway.ask("PATCH", &path, Some(body)).await);
                replies.push(gateway.ask("GET", &path, None).await);
                replies.push(gateway.ask("DELETE", &path, None).await);
            }
        }
    }
    for env in
        [json!("hunter2"), json!({"A": ["hunter2"]}), json!({"A-": "hunter2"}), json!({"A": "hunter2\u{0}"})]
    {
        let reply = gateway.ask("POST", "/agents", Some(json!({"model": "m", "env_vars": env}))).await;
        assert_eq!(reply.status, 400);
        replies.push(reply);
    }
    // Cut off in the middle of a value.
    let body = r#"{"model": "m", "env_vars": {"TOKEN": "hunter2"#;
    let head = super::support::head("POST", "/agents");
    let length = body.len();
    let raw = gateway.raw().await;
    let answer = raw
        .exchange(format!(
            "{head}Content-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 400") && !answer.contains(SECRET), "{answer}");
    assert!(
        replies.iter().any(|reply| reply.status == 503) && replies.iter().any(|reply| reply.status == 200)
    );
    for reply in &replies {
        assert!(!reply.body.to_string().contains(SECRET), "{reply:?}");
    }
    let text = logs::all();
    assert!(text.contains("made an agent") && text.contains("/agents/{id}"), "the log is read");
    assert!(
        !text.contains(SECRET),
        "{}",
        text.lines().find(|line| line.contains(SECRET)).unwrap_or_default()
    );
}
