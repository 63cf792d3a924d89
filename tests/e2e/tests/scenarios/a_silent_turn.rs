//! A turn that is silent for six minutes is waited for.

use std::time::Duration;

use paddock_e2e::{Share, measure, scenario};
use serde_json::json;

const SILENCE: Duration = Duration::from_secs(360);

#[tokio::test]
async fn of_six_minutes_is_waited_for() {
    scenario("a silent turn of six minutes", Share::Shared, Duration::from_secs(900), async |s| {
        let agent = s.agent("silent", json!({ "lifecycle": { "turnTimeout": "15m" } })).await;
        let session = s.ready_session("silent", &agent).await;
        let name = session.metadata.name.as_deref().expect("a name");
        // From here on it only waits; whatever the other scenarios break meanwhile must not end its turn.
        s.leave_the_cluster_to_others();
        s.log("asks, and hears nothing for six minutes");
        let answer = s.http.say(name, &format!("!hang {}", SILENCE.as_secs())).await;
        assert!(answer.reply().contains(&format!("hung {}", SILENCE.as_secs())), "{}", answer.body_text());
        assert!(answer.took >= SILENCE, "answered after {:?}", answer.took);
        measure::times("silent turn of 360 s, until its reply", &[answer.took]);
        // The session is as good as before.
        let word = s.word("after");
        assert!(s.http.say(name, &format!("!say {word}")).await.reply().contains(&word));
    })
    .await;
}
