//! A Session is applied, or asked for over HTTP, and becomes Ready: from the pool, or cold where it is empty.

use std::time::{Duration, Instant};

use paddock_api::Session;
use paddock_api::session::StartupPath;
use paddock_e2e::objects::{self, Kind};
use paddock_e2e::scenario::{name_of, pod_of};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, pool, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);

/// What a user and what a watcher waits for a session.
struct Start {
    /// From the start of `kubectl apply` until a watcher sees Ready.
    typed: Duration,
    /// From the moment a watcher sees the Session until it sees it Ready.
    seen: Duration,
    session: Session,
}

/// Applies a Session and watches it until it is Ready.
async fn apply_and_watch(s: &Scenario, name: &str, agent: &str, server_side: bool) -> Start {
    let manifest = objects::session(&s.env.namespace, name, agent, &Value::Null);
    s.record_manifest(&manifest);
    let mut first_seen = None;
    let started = Instant::now();
    let api = s.api::<Session>();
    let watching = wait::watch(&api, name, "the session is Ready", LIVENESS, |session| {
        first_seen.get_or_insert_with(Instant::now);
        let phase = session.status.as_ref().map(|status| status.phase);
        assert!(phase.is_none_or(|phase| !phase.is_final()), "{name} ended: {session:?}");
        (phase == Some(paddock_api::Phase::Ready)).then(|| (Instant::now(), session.clone()))
    });
    let applying = async {
        let output = match server_side {
            true => s.kubectl.apply_server_side(&manifest).await,
            false => s.kubectl.apply(&manifest).await,
        };
        output.succeeded();
    };
    let ((ready, session), ()) = tokio::join!(watching, applying);
    let seen = ready - first_seen.expect("the watch delivered a state");
    Start { typed: ready - started, seen, session }
}

fn path(session: &Session) -> StartupPath {
    let status = session.status.as_ref().expect("a status");
    status.startup.as_ref().expect("a Ready session tells how it started").path
}

/// Everything that a Ready session tells is there and true.
async fn is_what_it_says(s: &Scenario, session: &Session, agent: &str) {
    let name = name_of(session);
    let status = session.status.as_ref().expect("a status");
    let pod = pod_of(session);
    assert_eq!(status.endpoint.as_deref(), Some(format!("{}:7070", pod.ip).as_str()));
    assert_eq!(status.incarnation, 1);
    assert_eq!(status.observed_generation, session.metadata.generation.unwrap_or_default());
    assert_eq!(status.agent.as_ref().map(|agent| agent.name.as_str()), Some(agent));
    assert!(status.harness_session_id.as_deref().is_some_and(|id| !id.is_empty()), "no harness session");
    assert!(status.capabilities.is_some_and(|can| can.messages), "opencode answers messages");
    let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
    assert_eq!(ready.map(|c| c.status), Some(paddock_api::ConditionStatus::True), "{:?}", status.conditions);

    let uid = paddock_e2e::scenario::uid(session);
    let (sandboxes, _) = s.bound_to(&uid).await;
    let names: Vec<String> = sandboxes.iter().map(name_of).collect();
    assert_eq!(names.len(), 1, "sandboxes with its UID: {names:?}");
    assert_eq!(status.sandbox.as_ref().map(|sandbox| &sandbox.name), names.first());
    assert_eq!(names[0], pod.name, "a pod has its sandbox's name");
    let real = s.api::<k8s_openapi::api::core::v1::Pod>().get(&pod.name).await.expect("the session's pod");
    assert_eq!(real.metadata.uid.as_deref(), Some(pod.uid.as_str()), "status names another pod");

    // "Is it up, where, how long, why not": one line of kubectl.
    let row = s.kubectl.row("sessions", &name).await;
    assert_eq!(row.cell("NAME"), name);
    assert_eq!(row.cell("AGENT"), agent);
    assert_eq!(row.cell("PHASE"), "Ready");
    assert_eq!(row.cell("READY"), "True");
    assert_eq!(row.cell("NODE"), pod.node);
    assert!(!row.cell("AGE").is_empty(), "{row:?}");
}

#[tokio::test]
async fn with_kubectl_a_session_is_ready_from_the_pool() {
    scenario("kubectl apply, warm", Share::Alone, LIMIT, async |s| {
        let agent = s.agent("warm", json!({})).await;
        let (mut typed, mut seen, mut refill) = (Vec::new(), Vec::new(), Vec::new());
        for n in 1..=5 {
            pool::full(s, &s.env.namespace, &s.env.default_pool).await;
            let name = s.name(&format!("warm{n}"));
            let start = apply_and_watch(s, &name, &agent, false).await;
            assert_eq!(path(&start.session), StartupPath::Warm, "{:?}", start.session.status);
            if n == 1 {
                is_what_it_says(s, &start.session, &agent).await;
            }
            typed.push(start.typed);
            seen.push(start.seen);
            let used = Instant::now();
            pool::full(s, &s.env.namespace, &s.env.default_pool).await;
            refill.push(used.elapsed());
        }
        measure::times("warm kubectl apply→Ready", &typed);
        measure::times("warm Session seen→Ready, by a watcher", &seen);
        measure::times("pool refilled after a use", &refill);
    })
    .await;
}

#[tokio::test]
async fn with_kubectl_a_session_is_ready_without_a_pool_member() {
    scenario("kubectl apply, cold", Share::Alone, LIMIT, async |s| {
        let empty = s.private_pool("empty").create().await;
        let agent = s.agent("cold", json!({ "poolRef": { "name": empty } })).await;
        let (mut typed, mut seen) = (Vec::new(), Vec::new());
        for n in 1..=2 {
            let name = s.name(&format!("cold{n}"));
            let start = apply_and_watch(s, &name, &agent, true).await;
            assert_eq!(path(&start.session), StartupPath::Cold, "{:?}", start.session.status);
            is_what_it_says(s, &start.session, &agent).await;
            typed.push(start.typed);
            seen.push(start.seen);
        }
        measure::times("cold kubectl apply→Ready", &typed);
        measure::times("cold Session seen→Ready, by a watcher", &seen);
    })
    .await;
}

/// Asks for a session over HTTP and polls it until it is ready, as the `lap` CLI does, only faster.
async fn post_and_poll(s: &Scenario, agent: &str) -> (String, Duration) {
    let started = Instant::now();
    let made = s.http.post(&format!("/agents/{agent}/session"), &json!({ "title": "over HTTP" })).await;
    let made = made.with_status(200);
    let id = made["id"].as_str().expect("an id").to_owned();
    s.record(Kind::Session, &s.env.namespace, &id);
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "a session made over HTTP has a UUID: {made}");
    assert_eq!(made["agent_id"], agent, "{made}");
    assert!(made["status"] == "creating" || made["status"] == "ready", "{made}");
    wait::until("GET tells that the session is ready", LIVENESS, async || {
        // Read your writes: it is there from the first GET on.
        let now = s.http.get(&format!("/sessions/{id}")).await.with_status(200);
        match now["status"].as_str() {
            Some("ready") => Ok(()),
            Some("creating") => Err(now.to_string()),
            _ => panic!("{id} ended: {now}"),
        }
    })
    .await;
    (id, started.elapsed())
}

#[tokio::test]
async fn over_http_a_session_is_ready_from_the_pool() {
    scenario("POST session, warm", Share::Alone, LIMIT, async |s| {
        let agent = s.agent("warm", json!({})).await;
        let mut times = Vec::new();
        for _ in 1..=2 {
            pool::full(s, &s.env.namespace, &s.env.default_pool).await;
            let (id, took) = post_and_poll(s, &agent).await;
            times.push(took);
            let session = s.ready(&id).await;
            assert_eq!(path(&session), StartupPath::Warm, "{:?}", session.status);
            assert_eq!(session.spec.title.as_deref(), Some("over HTTP"));
            let word = s.word("hello");
            assert!(s.http.say(&id, &format!("!say {word}")).await.reply().contains(&word));
        }
        measure::times("warm POST session→ready, by polling GET", &times);
    })
    .await;
}

#[tokio::test]
async fn over_http_a_session_is_ready_without_a_pool_member() {
    scenario("POST session, cold", Share::Alone, LIMIT, async |s| {
        let empty = s.private_pool("empty").create().await;
        let agent = s.agent("cold", json!({ "poolRef": { "name": empty } })).await;
        let (id, took) = post_and_poll(s, &agent).await;
        let session = s.ready(&id).await;
        assert_eq!(path(&session), StartupPath::Cold, "{:?}", session.status);
        let word = s.word("hello");
        assert!(s.http.say(&id, &format!("!say {word}")).await.reply().contains(&word));
        measure::times("cold POST session→ready, by polling GET", &[took]);
    })
    .await;
}

#[tokio::test]
async fn an_inline_agent_needs_no_agent_object() {
    scenario("a Session with an inline agent", Share::Shared, LIMIT, async |s| {
        let name = s.name("inline");
        let spec = json!({ "agent": { "model": "scripted" } });
        s.apply(&objects::session_with_spec(&s.env.namespace, &name, spec)).await;
        s.ready(&name).await;
        let word = s.word("hello");
        assert!(s.http.say(&name, &format!("!say {word}")).await.reply().contains(&word));
    })
    .await;
}
