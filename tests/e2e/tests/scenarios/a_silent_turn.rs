//! A turn that is silent for six minutes is waited for.

use std::time::{Duration, Instant};

use paddock_e2e::http::Unanswered;
use paddock_e2e::{Scenario, Share, measure, scenario};
use serde_json::{Value, json};

const SILENCE: Duration = Duration::from_secs(360);
/// Pause before the client tries again.
const RETRY: Duration = Duration::from_millis(200);

#[tokio::test]
async fn of_six_minutes_is_waited_for() {
    scenario("a silent turn of six minutes", Share::Shared, Duration::from_secs(900), async |s| {
        let agent = s.agent("silent", json!({ "lifecycle": { "turnTimeout": "15m" } })).await;
        let session = s.ready_session("silent", &agent).await;
        let name = session.metadata.name.as_deref().expect("a name");
        // From here on it only waits; whatever the other scenarios break meanwhile must not end its turn.
        s.leave_the_cluster_to_others();
        s.log("asks, and hears nothing for six minutes");
        let asked = Instant::now();
        let reply = tell(s, name, &s.word("silent"), &format!("!hang {}", SILENCE.as_secs())).await;
        assert!(reply.to_string().contains(&format!("hung {}", SILENCE.as_secs())), "{reply}");
        assert!(asked.elapsed() >= SILENCE, "answered after {:?}", asked.elapsed());
        measure::times("silent turn of 360 s, until its reply", &[asked.elapsed()]);
        // The session is as good as before.
        let word = s.word("after");
        let reply = tell(s, name, &word, &format!("!say {word}")).await;
        assert!(reply.to_string().contains(&word), "{reply}");
    })
    .await;
}

/// Other scenarios kill gateways meanwhile: then the client sends its message again with the same key, and waits on for the
/// same turn.
async fn tell(s: &Scenario, session: &str, key: &str, text: &str) -> Value {
    loop {
        match s.http.try_once(session, key, text).await {
            Ok(reply) => return reply,
            Err(Unanswered::ForNow(why)) => s.log(&format!("asks again: {why}")),
            Err(Unanswered::ForGood(why)) => panic!("{text}: {why}"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
