//! Two controllers, of which one leads; and two that both believe to.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use tokio::time::{Instant, sleep};

use crate::SERVER;
use crate::controller::{Controller, Leadership};
use crate::place::{Place, millis};
use crate::proxy::{Call, Fault, Proxy, Rule, When};

/// The quickest counts: whatever else the machine does only adds to it.
const ROUNDS: usize = 3;

/// A controller and the name by which it holds the lease.
struct Candidate {
    identity: String,
    controller: Controller,
    _proxy: Arc<Proxy>,
}

impl Candidate {
    async fn start(place: &Place, identity: &str) -> Self {
        let proxy = place.proxy(identity).await;
        let controller = place.controller(identity, &proxy, Leadership::Elected);
        Self { identity: identity.to_owned(), controller, _proxy: proxy }
    }
}

async fn leader_is(place: &Place, identity: &str) {
    let leases: Api<Lease> = Api::namespaced(place.cluster.client.clone(), &place.namespace);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let lease = leases.get_opt(crate::CONTROLLER).await.unwrap().and_then(|lease| lease.spec);
        if lease.and_then(|spec| spec.holder_identity).as_deref() == Some(identity) {
            return;
        }
        assert!(Instant::now() < deadline, "{identity} does not become the leader");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Ends the leader `ROUNDS` times and has a session created at once. Returns how long each took to become Ready.
async fn failovers(place: &Place, end: impl Fn(&Controller)) -> Vec<Duration> {
    let mut leader = Candidate::start(place, "c0").await;
    leader_is(place, "c0").await;
    let mut took = Vec::new();
    for round in 1..=ROUNDS {
        let standby = Candidate::start(place, &format!("c{round}")).await;
        // Until it has seen the lease once it counts from too late.
        sleep(Duration::from_secs(1)).await;
        place.pool_is_full(Duration::from_secs(10)).await;
        leader_is(place, &leader.identity).await;
        let begun = Timestamp::now();
        end(&leader.controller);
        let name = format!("round{round}");
        place.session(&name).await;
        let ready = place.recorder.ready(&name, Duration::from_secs(20)).await;
        took.push(Duration::try_from(ready.duration_since(begun)).unwrap());
        leader.controller.ended(Duration::from_secs(5)).await.expect("the old leader has ended");
        leader = standby;
    }
    place.settles(Timestamp::now()).await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("leader killed", 3).await else { return };
    let mut took = failovers(&place, |leader| {
        rustix::process::kill_process(leader.pid(), rustix::process::Signal::KILL).unwrap()
    })
    .await;
    place.tell(&format!("next session Ready after {took:?} (promised: 3 s)"));
    took.sort();
    assert!(took[0] <= Duration::from_secs(3), "L5: {took:?}");
    place.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_asked_to_stop() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("leader stopped", 3).await else { return };
    let mut took = failovers(&place, Controller::ask_to_stop).await;
    place.tell(&format!("next session Ready after {took:?} (promised: 1 s)"));
    took.sort();
    assert!(took[0] <= Duration::from_secs(1), "L5: {took:?}");
    place.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_lead() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("two leaders", 6).await else { return };
    let place = place.with_rivals(10);
    let (first, second) = (place.proxy("a").await, place.proxy("b").await);
    let _a = place.controller("a", &first, Leadership::Always);
    let _b = place.controller("b", &second, Leadership::Always);
    place.pool_is_full(Duration::from_secs(20)).await;
    // Now one of them is first, now the other.
    let late = Fault::Delay(Duration::from_millis(20));
    first.rules(vec![Rule::new(Call::is_work, When::Every(2), late)]);
    second.rules(vec![Rule::new(Call::is_work, When::Every(3), late)]);
    let begun = Timestamp::now();
    let names = place.sessions(10).await;
    place.all_ready(&names, Duration::from_secs(30)).await;
    place.tell(&format!("10 sessions Ready after {}", millis(begun, Timestamp::now())));
    first.calm();
    place.settles(second.calm()).await;
    let writes = place.writes();
    let conflicts = writes.iter().filter(|write| write.code == 409).count();
    place.tell(&format!("{conflicts} of {} writes met a 409", writes.len()));
    place.verify().await;
}
