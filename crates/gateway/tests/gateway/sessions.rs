//! Making, reading, listing and ending sessions; agents; the state of the gateway itself.

use std::sync::Arc;

use paddock_api::session::DesiredState;
use paddock_kubeio::write::WriteError;
use serde_json::{Value, json};

use super::cluster::Watch;
use super::runner::FakeRunner;
use super::support::{Setup, TestGateway, session, soon};

const CREATE: &str = "/agents/helper/session";

async fn with_agent() -> TestGateway {
    let gateway = TestGateway::start().await;
    gateway.cluster.put_agent("helper");
    gateway
}

#[tokio::test]
async fn a_session_is_made_and_read_at_once() {
    let gateway = with_agent().await;
    gateway.cluster.set_watch(Watch::Cut);
    let body = json!({"title": "Fix it", "initial_prompt": "Go", "unknown": true});
    let made = gateway.ask("POST", "/agents/helper/session?wait=0s", Some(body)).await;
    assert_eq!((made.status, &made.body["status"]), (200, &json!("creating")));
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert_eq!((&made.body["agent_id"], &made.body["title"]), (&json!("helper"), &json!("Fix it")));
    let read = gateway.ask("GET", &format!("/sessions/{id}"), None).await;
    assert_eq!((read.status, &read.body), (200, &made.body));
    let listed = gateway.ask("GET", "/sessions", None).await;
    assert_eq!(listed.body, json!([made.body]));
    let stored = gateway.cluster.session(id);
    assert_eq!(stored.spec.prompt.as_deref(), Some("Go"));
    assert_eq!(stored.spec.agent_ref.unwrap().name, "helper");
    assert_eq!(stored.metadata.labels.unwrap()["paddock.dev/agent"], "helper");
    // The controller makes it from no earlier state of its agent.
    assert_eq!(stored.metadata.annotations.unwrap()["paddock.dev/agent-seen"], "uid-helper/1");
}

#[tokio::test]
async fn the_answer_waits_for_ready() {
    let gateway = Arc::new(with_agent().await);
    let runner = FakeRunner::start("pod-1").await;
    let making = tokio::spawn({
        let gateway = gateway.clone();
        async move {
            gateway
                .ask("POST", "/agents/helper/session?wait=60s", Some(json!({"initial_prompt": "Go"})))
                .await
        }
    });
    let id = soon(async {
        loop {
            if let Some(session) = gateway.gateway.index.sessions().pop() {
                return session.metadata.name.clone().unwrap();
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!making.is_finished());
    gateway.cluster.put_status(&id, runner.ready_status());
    let made = making.await.unwrap();
    assert_eq!(
        (made.status, &made.body["status"], &made.body["phase"]),
        (200, &json!("ready"), &json!("ready"))
    );
    assert_eq!(made.body["harness_session_id"], "ses_1");
    // The initial prompt's reply comes from the runner.
    let reply = json!({"parts": [{"type": "text", "text": format!("reply to initial-uid-{id}")}]});
    assert_eq!(made.body["response"], reply);
}

#[tokio::test]
async fn creating_without_a_body_is_fine_and_with_a_bad_one_is_not() {
    let gateway = with_agent().await;
    let path = "/agents/helper/session?wait=0s";
    assert_eq!(gateway.ask("POST", path, None).await.status, 200);
    assert_eq!(gateway.ask("POST", path, Some(json!({}))).await.status, 200);
    for (body, code) in [
        (json!([]), "bad_request"),
        (json!({"title": 5}), "bad_request"),
        (json!({"env_vars": {"A": "b"}}), "unsupported"),
        (json!({"skill_ids": ["x"]}), "unsupported"),
        (json!({"initial_attachments": [{"mime_type": "image/png"}]}), "unsupported"),
    ] {
        assert_eq!(gateway.ask("POST", path, Some(body)).await.error(), (400, code));
    }
    assert_eq!(gateway.ask_with("POST", path, &[("content-type", "text/plain")], None).await.error().0, 415);
    assert_eq!(gateway.ask("POST", "/agents/nobody/session", None).await.error(), (404, "not_found"));
}

#[tokio::test]
async fn an_agent_that_the_watch_has_not_shown_yet_is_found() {
    let gateway = TestGateway::start().await;
    gateway.cluster.set_watch(Watch::Cut);
    gateway.cluster.put_agent("new");
    assert_eq!(gateway.ask("GET", "/agents/new", None).await.status, 200);
    assert_eq!(gateway.ask("POST", "/agents/new/session?wait=0s", None).await.status, 200);
}

#[tokio::test]
async fn a_key_makes_one_session() {
    let gateway = with_agent().await;
    let (path, key) = ("/agents/helper/session?wait=0s", [("idempotency-key", "once")]);
    let first = gateway.ask_with("POST", path, &key, Some(json!({"title": "t"}))).await;
    let again = gateway.ask_with("POST", path, &key, Some(json!({"title": "t"}))).await;
    assert_eq!((first.status, &first.body["id"]), (again.status, &again.body["id"]));
    let other = gateway.ask_with("POST", path, &key, Some(json!({"title": "other"}))).await;
    assert_eq!(other.error(), (422, "session_mismatch"));
    assert_eq!(gateway.ask("GET", "/sessions", None).await.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_to_a_create_is_looked_up_and_not_repeated() {
    let gateway = with_agent().await;
    gateway.cluster.fail_next_create(|_| Some(WriteError::Unavailable("cut".into())));
    assert_eq!(gateway.ask("POST", "/agents/helper/session?wait=0s", None).await.status, 200);
    assert_eq!(gateway.ask("GET", "/sessions", None).await.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn refusals_of_the_api_server_are_told() {
    let gateway = with_agent().await;
    gateway.cluster.fail_next_create(|_| {
        Some(WriteError::Throttled { retry_after: Some(std::time::Duration::from_secs(7)) })
    });
    let reply = gateway.ask("POST", CREATE, None).await;
    assert_eq!((reply.error(), reply.header("retry-after")), ((503, "cluster_unavailable"), "7"));
    gateway.cluster.fail_next_create(|_| {
        Some(WriteError::Rejected { status: 422, reason: "Invalid".into(), message: "title is odd".into() })
    });
    assert_eq!(gateway.ask("POST", CREATE, None).await.error(), (400, "bad_request"));
    gateway.cluster.fail_next_read(|_| Some(WriteError::Unavailable("down".into())));
    assert_eq!(gateway.ask("GET", "/sessions/x", None).await.error(), (503, "cluster_unavailable"));
}

#[tokio::test]
async fn a_deleted_session_is_stopped_and_stays_on_record() {
    let (gateway, _runner) = TestGateway::with_ready_session().await;
    gateway.cluster.set_watch(Watch::Cut);
    let reply = gateway.ask("DELETE", "/sessions/s1", None).await;
    assert_eq!((reply.status, reply.body), (200, json!({"id": "s1", "status": "deleted"})));
    assert_eq!(gateway.cluster.session("s1").spec.state, DesiredState::Stopped);
    assert_eq!(gateway.ask("GET", "/sessions/s1", None).await.body["status"], "dead");
    assert_eq!(gateway.message("s1", "hi").await.error(), (404, "dead"));
    let again = gateway.ask("DELETE", "/sessions/s1", None).await;
    assert_eq!((again.status, again.body), (200, json!({"id": "s1", "status": "dead"})));
    assert_eq!(gateway.ask("DELETE", "/sessions/none", None).await.error(), (404, "not_found"));
}

#[tokio::test]
async fn a_stop_goes_through_though_the_controller_writes_meanwhile() {
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let status = runner.ready_status();
    gateway.cluster.fail_next_patch(move |cluster| {
        cluster.put_status("s1", status);
        None
    });
    assert_eq!(gateway.ask("DELETE", "/sessions/s1", None).await.body["status"], "deleted");
    assert_eq!(gateway.cluster.session("s1").spec.state, DesiredState::Stopped);
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_are_newest_first_filtered_and_paged() {
    let gateway = TestGateway::start().await;
    for (name, second, agent, phase) in
        [("a", 1, "x", "Dead"), ("b", 2, "y", "Creating"), ("c", 2, "x", "Creating"), ("d", 3, "x", "Failed")]
    {
        let mut object = session(name, json!({"phase": phase}));
        object["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:0{second}Z"));
        object["spec"]["agentRef"]["name"] = json!(agent);
        gateway.cluster.put(object);
    }
    let list = async |query: &str| gateway.ask("GET", &format!("/sessions{query}"), None).await;
    assert_eq!(ids(&list("").await.body), ["d", "c", "b", "a"]);
    assert_eq!(ids(&list("?agent_id=x&ignored=1").await.body), ["d", "c", "a"]);
    assert_eq!(ids(&list("?status=creating").await.body), ["c", "b"]);
    assert!(list("").await.headers.get("link").is_none());

    let mut query = "?limit=2&agent_id=x".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = list(&query).await;
        pages.push(ids(&page.body).join(" "));
        let Some(link) = page.headers.get("link") else { break };
        let link = link.to_str().unwrap();
        assert!(link.ends_with(">; rel=\"next\""), "{link}");
        query = link.split(['?', '>']).nth(1).map(|query| format!("?{query}")).unwrap();
    }
    assert_eq!(pages, ["d c", "a"]);
    for query in
        ["?limit=0", "?limit=201", "?limit=x", "?status=odd", "?cursor=odd", "?status=dead&status=ready"]
    {
        assert_eq!(list(query).await.error(), (400, "bad_request"), "{query}");
    }
}

#[tokio::test]
async fn agents_are_listed_with_their_sessions() {
    let gateway = TestGateway::start().await;
    for name in ["alpha", "beta", "helper"] {
        gateway.cluster.put_agent(name);
    }
    gateway.put_session("s1", json!({"phase": "Creating"}));
    gateway.put_session("s2", json!({"phase": "Dead"}));
    let list = async |query: &str| gateway.ask("GET", &format!("/agents{query}"), None).await;
    let all = list("?sort=sessions").await.body;
    assert_eq!((&all["total"], &all["limit"], &all["offset"]), (&json!(3), &json!(200), &json!(0)));
    let first = &all["data"][0];
    assert_eq!((&first["id"], &first["name"]), (&json!("helper"), &json!("The helper")));
    assert_eq!((&first["session_count"], &first["has_active_session"]), (&json!(2), &json!(true)));
    let page = list("?sort=name&order=asc&limit=1&offset=1").await.body;
    assert_eq!((&page["data"][0]["id"], &page["total"]), (&json!("beta"), &json!(3)));
    assert_eq!(list("?search=ALPH").await.body["data"][0]["id"], "alpha");
    for query in ["?sort=odd", "?order=up", "?limit=0", "?offset=-1"] {
        assert_eq!(list(query).await.error(), (400, "bad_request"), "{query}");
    }
    let one = gateway.ask("GET", "/agents/alpha", None).await;
    assert_eq!(
        (one.status, &one.body["harness_id"], &one.body["model"]),
        (200, &json!("opencode"), &json!("m"))
    );
    assert_eq!(gateway.ask("GET", "/agents/nobody", None).await.error(), (404, "not_found"));
}

#[tokio::test]
async fn a_gateway_that_has_not_listed_yet_says_so() {
    let gateway = TestGateway::with(Setup { synced: false, ..Setup::default() }).await;
    let reply = gateway.ask("GET", "/sessions", None).await;
    assert_eq!((reply.error(), reply.header("retry-after")), ((503, "not_synced"), "1"));
}

#[tokio::test]
async fn the_way_to_the_api_server_can_be_probed() {
    let gateway = TestGateway::start().await;
    let path = "/../health/k8s";
    assert_eq!(gateway.ask("GET", path, None).await.status, 404);
    let probe = async || {
        let request = http::Request::get("/api/v1/health/k8s")
            .header("host", "g")
            .header("authorization", format!("Bearer {}", super::support::KEY));
        gateway.send(request.body(Default::default()).unwrap()).await
    };
    let reply = probe().await;
    assert_eq!((reply.status, &reply.body["ok"]), (200, &json!(true)));
    assert!(reply.body["elapsed_ms"].is_u64());
    gateway.cluster.fail_next_read(|_| Some(WriteError::Unavailable("down".into())));
    let reply = probe().await;
    assert_eq!((reply.status, &reply.body["ok"]), (503, &json!(false)));
}
