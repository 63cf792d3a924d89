//! Idleness is measured in the pod: a session that nobody uses rests, and one that is silent at work does not.

use std::time::{Duration, Instant};

use paddock_api::session::{DesiredState, Reason};
use paddock_api::{Phase, Session};
use paddock_e2e::scenario::{name_of, uid};
use paddock_e2e::{LIVENESS, Share, measure, scenario, wait};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(900);
/// The controller does not ask a runner more often than every 30 seconds, so a shorter timeout is not exact.
const IDLE: &str = "40s";

#[tokio::test]
async fn an_unused_session_rests_and_wakes_with_its_files() {
    scenario("idle session", Share::Shared, LIMIT, async |s| {
        let rules = json!({
            "workspace": { "mode": "Persistent", "size": "1Gi" },
            "lifecycle": { "idleTimeout": IDLE },
        });
        let agent = s.agent("resting", rules).await;
        let session = s.ready_session("resting", &agent).await;
        let id = name_of(&session);
        let word = s.word("kept");
        s.http.say(&id, &format!("!run echo {word} > kept.txt")).await.reply();
        let used = Instant::now();
        s.leave_the_cluster_to_others();

        let rested = s.ended(&id, Phase::Suspended).await;
        measure::times("idleTimeout of 40 s: last turn→Suspended", &[used.elapsed()]);
        assert!(used.elapsed() >= Duration::from_secs(40), "rested too early: {:?}", used.elapsed());
        let status = rested.status.clone().expect("a status");
        assert_eq!(status.reason, Some(Reason::IdleTimeout), "{}", status.message);
        assert_eq!(status.turns.expect("turns").total, 1);
        assert!(status.last_activity_time.is_some());
        assert_eq!(rested.spec.state, DesiredState::Suspended, "the wish to rest is in the spec");
        s.nothing_bound_to(&uid(&session)).await;
        assert_eq!(s.kubectl.row("sessions", &id).await.cell("TURNS"), "1");

        s.kubectl
            .run(&["patch", "session", &id, "--type=merge", "-p", r#"{"spec":{"state":"Running"}}"#])
            .await
            .succeeded();
        let again = s.ready(&id).await;
        assert_eq!(again.status.as_ref().expect("a status").incarnation, 2);
        assert!(s.http.say(&id, "!run cat kept.txt").await.reply().contains(&word), "the files are there");
    })
    .await;
}

#[tokio::test]
async fn a_long_silent_turn_is_not_idle() {
    scenario("silent at work", Share::Shared, LIMIT, async |s| {
        let agent =
            s.agent("silent", json!({ "lifecycle": { "idleTimeout": IDLE, "onIdle": "Stop" } })).await;
        let id = name_of(&s.ready_session("silent", &agent).await);
        s.leave_the_cluster_to_others();
        let answer = s.http.say(&id, "!run sleep 110; echo done").await;
        assert!(answer.reply().contains("done"), "{}", answer.body_text());
        assert!(answer.took > Duration::from_secs(105), "{:?}", answer.took);
        // Then nobody uses it any more, and without a volume there is nothing to come back to.
        let dead = s.ended(&id, Phase::Dead).await;
        assert_eq!(dead.status.expect("a status").reason, Some(Reason::IdleTimeout));
    })
    .await;
}

#[tokio::test]
async fn what_is_at_rest_is_not_written_to() {
    scenario("a suspended session is at rest", Share::Shared, LIMIT, async |s| {
        let rules = json!({ "workspace": { "mode": "Persistent", "size": "1Gi" } });
        let agent = s.agent("still", rules).await;
        let name = s.session("still", &agent, json!({ "state": "Suspended" })).await;
        let rested = s.ended(&name, Phase::Suspended).await;
        let version = rested.metadata.resource_version.clone();
        // Another session's whole start passes meanwhile.
        s.ready_session("beside", &agent).await;
        let after: Session = s.api::<Session>().get(&name).await.expect("the session");
        assert_eq!(after.metadata.resource_version, version, "written to although nothing happened");
        wait::until("it has no pod", LIVENESS, async || {
            let (sandboxes, pods) = s.bound_to(&uid(&after)).await;
            if sandboxes.is_empty() && pods.is_empty() { Ok(()) } else { Err("a pod".to_owned()) }
        })
        .await;
    })
    .await;
}
