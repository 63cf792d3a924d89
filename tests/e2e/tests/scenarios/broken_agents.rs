//! Agents that point nowhere: their sessions fail with a reason, say what to do, and keep no pod.

use std::time::{Duration, Instant};

use paddock_api::session::Reason;
use paddock_api::{Phase, Session};
use paddock_e2e::scenario::uid;
use paddock_e2e::{Scenario, Share, measure, scenario};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);

/// Waits until a session has failed for `reason`, and checks what it leaves and how it tells.
pub async fn fails(s: &Scenario, name: &str, reason: Reason, word: &str) {
    let started = Instant::now();
    let session: Session = s.ended(name, Phase::Failed).await;
    let status = session.status.clone().expect("a status");
    assert_eq!(status.reason, Some(reason), "{name}: {}", status.message);
    assert!(!status.message.is_empty(), "{name}: failed without a message");
    assert!(status.message.contains(word), "{name}: the message does not say {word:?}: {}", status.message);
    measure::times(&format!("failed with {reason:?} after"), &[started.elapsed()]);
    s.log(&format!("{reason:?}: {}", status.message));
    let row = s.kubectl.row("sessions", name).await;
    assert_eq!(row.cell("PHASE"), "Failed");
    assert_eq!(row.cell("REASON"), format!("{reason:?}"));
    s.nothing_bound_to(&uid(&session)).await;
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    scenario("agents that point nowhere", Share::Shared, LIMIT, async |s| {
        // Something may be created a moment after the Session that needs it: so it is waited for, but not for long.
        let soon = json!({ "lifecycle": { "startupTimeout": "10s" } });
        let no_agent = s.name("no-agent");
        let no_pool = s.name("no-pool");
        let pooled = s.agent("pooled", json!({ "poolRef": { "name": no_pool } })).await;
        let harnessed = s.agent("harnessed", json!({ "harness": "no-such-harness" })).await;
        let orphan = s.session("orphan", &no_agent, soon.clone()).await;
        let poolless = s.session("poolless", &pooled, soon.clone()).await;
        let templateless = s.session("templateless", &harnessed, soon).await;
        tokio::join!(
            fails(s, &orphan, Reason::AgentNotFound, &no_agent),
            fails(s, &poolless, Reason::PoolNotFound, &no_pool),
            fails(s, &templateless, Reason::TemplateNotFound, "no-such-harness"),
        );
    })
    .await;
}

#[tokio::test]
async fn an_agent_may_come_after_its_session() {
    scenario("the Agent comes last", Share::Shared, LIMIT, async |s| {
        let name = s.name("late");
        s.session("early", &name, Value::Null).await;
        let agent = s.agent("late", json!({})).await;
        assert_eq!(agent, name);
        s.ready(&s.name("early")).await;
    })
    .await;
}

#[tokio::test]
async fn pods_that_cannot_run_are_explained() {
    scenario("pods that cannot run", Share::Shared, LIMIT, async |s| {
        let image = "localhost/paddock/no-such-image:e2e";
        let imageless = s.private_pool("imageless").edit(|pod| pod["containers"][0]["image"] = json!(image));
        let imageless = imageless.create().await;
        let crash =
            s.private_pool("crashing").edit(|pod| pod["containers"][0]["command"] = json!(["/bin/false"]));
        let crashing = crash.create().await;
        let sleep = s.private_pool("sleeping").edit(|pod| {
            pod["containers"][0]["command"] = json!(["sleep", "86400"]);
        });
        let sleeping = sleep.create().await;
        let with_pool = |pool: &str| json!({ "poolRef": { "name": pool } });
        let a = s.agent("imageless", with_pool(&imageless)).await;
        let b = s.agent("crashing", with_pool(&crashing)).await;
        let c = s.agent("sleeping", with_pool(&sleeping)).await;
        let first = s.session("imageless", &a, Value::Null).await;
        let second = s.session("crashing", &b, Value::Null).await;
        let impatient = json!({ "lifecycle": { "startupTimeout": "15s" } });
        let third = s.session("sleeping", &c, impatient).await;
        tokio::join!(
            fails(s, &first, Reason::ImagePullFailed, image),
            fails(s, &second, Reason::CrashLoop, ""),
            fails(s, &third, Reason::StartupTimeout, ""),
        );
    })
    .await;
}
