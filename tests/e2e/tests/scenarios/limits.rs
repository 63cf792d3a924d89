//! How many, how long, and for how long it is remembered.

use std::time::{Duration, Instant};

use paddock_api::session::Reason;
use paddock_api::{Phase, Session};
use paddock_e2e::scenario::{name_of, uid};
use paddock_e2e::{LIVENESS, Share, measure, objects, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);

#[tokio::test]
async fn max_sessions_is_exact_in_a_burst_of_fifty() {
    scenario("maxSessions", Share::Alone, LIMIT, async |s| {
        const MOST: usize = 3;
        let agent = s.agent("few", json!({ "maxSessions": MOST })).await;
        let names: Vec<String> = (1..=50).map(|n| s.name(&format!("few{n}"))).collect();
        let make = |name: &String| objects::session(&s.env.namespace, name, &agent, &Value::Null);
        let applied = Instant::now();
        s.apply(&objects::list(names.iter().map(make).collect())).await;
        let sessions = s.api::<Session>();
        let settled = wait::until("each is Ready or Failed", LIVENESS, async || {
            let all = sessions.list(&Default::default()).await.map_err(|error| error.to_string())?;
            let ours: Vec<Session> = all.items.into_iter().filter(|x| names.contains(&name_of(x))).collect();
            let phase = |session: &Session| session.status.as_ref().map(|status| status.phase);
            let live = ours.iter().filter(|x| phase(x).is_some_and(|phase| phase == Phase::Ready)).count();
            assert!(live <= MOST, "{live} sessions are Ready");
            let open =
                ours.iter().filter(|x| !matches!(phase(x), Some(Phase::Ready | Phase::Failed))).count();
            if open == 0 { Ok(ours) } else { Err(format!("{open} of {} are neither", ours.len())) }
        })
        .await;
        measure::times("50 created at once, maxSessions 3: all decided after", &[applied.elapsed()]);
        let refused: Vec<&Session> = settled
            .iter()
            .filter(|x| x.status.as_ref().is_some_and(|status| status.phase == Phase::Failed))
            .collect();
        assert_eq!(refused.len(), 50 - MOST);
        for session in &refused {
            let status = session.status.as_ref().expect("a status");
            assert_eq!(status.reason, Some(Reason::MaxSessionsReached), "{}", status.message);
            assert!(status.message.contains("maxSessions"), "{}", status.message);
        }

        // A place that becomes free goes to the next one that asks.
        let live = settled.iter().find(|x| !refused.iter().any(|r| uid(*r) == uid(*x))).expect("a live one");
        s.http.delete(&format!("/sessions/{}", name_of(live))).await.with_status(200);
        s.ended(&name_of(live), Phase::Dead).await;
        s.ready_session("late", &agent).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_in_time_and_so_does_its_record() {
    scenario("maxLifetime and ttlAfterFinished", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("brief", json!({})).await;
        let rules = json!({ "lifecycle": { "maxLifetime": "25s", "ttlAfterFinished": "10s" } });
        let name = s.session("brief", &agent, rules).await;
        s.ready(&name).await;
        let dead = s.ended(&name, Phase::Dead).await;
        let status = dead.status.clone().expect("a status");
        assert_eq!(status.reason, Some(Reason::MaxLifetimeReached), "{}", status.message);
        let lived = status
            .finished_at
            .expect("an end")
            .duration_since(dead.metadata.creation_timestamp.as_ref().expect("a creation").0);
        measure::number("maxLifetime of 25 s: lived, in ms", usize::try_from(lived.as_millis()).unwrap_or(0));
        wait::gone(&s.api::<Session>(), &name, Duration::from_secs(30)).await;
        s.nothing_bound_to(&uid(&dead)).await;
    })
    .await;
}
