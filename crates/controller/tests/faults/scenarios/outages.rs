//! The API server goes away and comes back.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use crate::SERVER;
use crate::place::{Place, millis};

const AWAY: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_killed_and_started() {
    let _alone = SERVER.write().await;
    let Some(place) = Place::make("API server restart", 3).await else { return };
    let (_controller, _proxy) = place.with_controller().await;
    place.session("before").await;
    place.recorder.ready("before", Duration::from_secs(10)).await;
    place.pool_is_full(Duration::from_secs(10)).await;

    place.cluster.component("kill", "kube-apiserver").await;
    sleep(AWAY).await;
    let starting = place.cluster.component("start", "kube-apiserver");
    let (back, ()) = tokio::join!(place.cluster.is_back(), starting);
    place.session("after").await;
    let created = Timestamp::now();
    let ready = place.recorder.ready("after", Duration::from_secs(20)).await;
    place.tell(&format!(
        "session Ready {} after the server was back, {} after it was created",
        millis(back, ready),
        millis(created, ready)
    ));
    assert!(ready.duration_since(back).as_secs() < 5, "L6: a restart is noticed within 5 s");
    place.settles(back).await;
    place.verify_what_was_seen().await;
}
