//! A turn that is silent for six minutes is waited for.

use std::time::{Duration, Instant};

use paddock_e2e::{Share, measure, scenario};
use serde_json::json;

const SILENCE: Duration = Duration::from_secs(360);
const LIMIT: Duration = Duration::from_secs(900);

#[tokio::test]
async fn of_six_minutes_is_waited_for() {
    scenario("a silent turn of six minutes", Share::Shared, LIMIT, async |s| {
        let agent = s.agent("silent", json!({ "lifecycle": { "turnTimeout": "15m" } })).await;
        let session = s.ready_session("silent", &agent).await;
        let name = session.metadata.name.as_deref().expect("a name");
        // From here on it only waits; whatever the other scenarios break meanwhile must not end its turn.
        s.leave_the_cluster_to_others();
        s.log("asks, and hears nothing for six minutes");
        let asked = Instant::now();
        // Other scenarios kill gateways meanwhile: then the client waits on for the same turn.
        let (reply, _) =
            s.tell(name, &s.word("silent"), &format!("!hang {}", SILENCE.as_secs()), LIMIT).await;
        assert!(reply.to_string().contains(&format!("hung {}", SILENCE.as_secs())), "{reply}");
        assert!(asked.elapsed() >= SILENCE, "answered after {:?}", asked.elapsed());
        measure::times("silent turn of 360 s, until its reply", &[asked.elapsed()]);
        // The session is as good as before.
        let word = s.word("after");
        let (reply, _) = s.tell(name, &word, &format!("!say {word}"), LIMIT).await;
        assert!(reply.to_string().contains(&word), "{reply}");
    })
    .await;
}
