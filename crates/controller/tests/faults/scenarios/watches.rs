//! Watches that break, lose their place, or fall silent.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::SERVER;
use crate::place::{Place, millis};
use crate::proxy::{Call, Fault, Order, Proxy, Refusal, Rule, When};

const STORM: Duration = Duration::from_secs(5);
const HEALTHY: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn cuts_and_expiries_all_the_time() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("watches cut and expired", 4).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    // One after the other, a watch is refused as too old, accepted, and then told that it is too old.
    proxy.rules(vec![
        Rule::new(Call::is_watch, When::Every(3), Fault::Refuse(Refusal::EXPIRED)),
        Rule::new(Call::is_watch, When::Every(4), Fault::ExpireInBand),
        Rule::new(Call::is_watch, When::Every(5), Fault::CutAnswer),
    ]);
    let end = Instant::now() + STORM;
    let names = place.sessions(10).await;
    let mut cuts = 0;
    while Instant::now() < end {
        proxy.order(Order::Cut);
        cuts += 1;
        sleep(Duration::from_millis(200)).await;
    }
    let over = proxy.calm();
    let expired = proxy.log().iter().filter(|call| call.is_watch() && call.disturbed).count();
    place.all_ready(&names, Duration::from_secs(10)).await;
    place.tell(&format!("all watches cut {cuts} times, {expired} refused; 10 sessions Ready"));
    place.settles(over).await;
    place.verify().await;
}

/// The first watch of each kind.
fn first_of_its_kind() -> impl Fn(&Call) -> bool + Send {
    let seen = Mutex::new(HashSet::new());
    move |call| call.is_watch() && seen.lock().insert(call.resource.clone())
}

/// Turns every watch away once, one half by an event and the other by an answer.
fn all_expire(proxy: &Proxy) {
    proxy.rules(vec![
        Rule::new(first_of_its_kind(), When::Every(2), Fault::ExpireInBand),
        Rule::new(first_of_its_kind(), When::Always, Fault::Refuse(Refusal::EXPIRED)),
    ]);
    proxy.order(Order::Cut);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_places() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("410 on all watches", 2).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    // Watches that live for less count as trouble themselves.
    sleep(HEALTHY).await;
    all_expire(&proxy);
    let begun = Timestamp::now();
    place.session("unseen").await;
    let ready = place.recorder.ready("unseen", Duration::from_secs(10)).await;
    let expired = proxy.log().iter().filter(|call| call.disturbed).count();
    place.tell(&format!("session Ready {} after {expired} watches met a 410", millis(begun, ready)));
    assert!(ready.duration_since(begun).as_secs() < 2, "L6: a 410 is noticed within 2 s");
    place.settles(proxy.calm()).await;
    place.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_at_one_end_only() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("frozen watches", 2).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    place.session("before").await;
    place.recorder.ready("before", Duration::from_secs(10)).await;
    proxy.order(Order::Freeze);
    let begun = Timestamp::now();
    place.session("unseen").await;
    let ready = place.recorder.ready("unseen", Duration::from_secs(60)).await;
    place.tell(&format!("session Ready {} after all watches froze", millis(begun, ready)));
    assert!(ready.duration_since(begun).as_secs() >= 1, "the watches were frozen");
    place.session("after").await;
    place.recorder.ready("after", Duration::from_secs(10)).await;
    // The last of the frozen watches may be found out a few seconds later.
    place.pool_is_full(Duration::from_secs(20)).await;
    place.settles(Timestamp::now()).await;
    place.verify().await;
}
