//! A server that refuses everything for a while.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use crate::SERVER;
use crate::checker::pace;
use crate::place::{Place, millis};
use crate::proxy::{Call, Fault, Order, Proxy, Refusal, Rule, Verb, When};

/// How long a storm lasts.
const STORM: Duration = Duration::from_secs(5);
/// L7: at most five requests a second, looked at over four; one more begins the next, and two may have been held up on
/// their way on a busy machine.
const WINDOW: Duration = Duration::from_secs(4);
const AT_MOST: usize = 4 * 5 + 1 + 2;
/// What is under way when a storm breaks has been sent already.
const ONSET: SignedDuration = SignedDuration::from_secs(1);

/// Answers everything with `refusal` for the length of a storm, while 10 sessions want to be served. Returns when it
/// began and ended.
async fn storm(place: &Place, proxy: &Proxy, refusal: Refusal) -> (Timestamp, Timestamp) {
    proxy.rules(vec![Rule::new(|call| !call.is_lease(), When::Always, Fault::Refuse(refusal))]);
    proxy.order(Order::Cut);
    let begun = Timestamp::now();
    let names = place.sessions(10).await;
    sleep(STORM).await;
    let over = proxy.calm();
    place.all_ready(&names, Duration::from_secs(10)).await;
    place.tell(&format!("10 sessions Ready {} after the storm", millis(over, Timestamp::now())));
    (begun, over)
}

fn rate(proxy: &Proxy, (begun, over): (Timestamp, Timestamp)) -> (usize, usize) {
    let calls = proxy.log();
    let all = calls.iter().filter(|call| call.at > begun && call.at < over).count();
    (all, pace::busiest(&calls, WINDOW, begun + ONSET, over))
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_with_retry_after() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("storm of 429", 4).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    let times = storm(&place, &proxy, Refusal::too_many(2)).await;
    let (all, busiest) = rate(&proxy, times);
    place.tell(&format!("{all} requests in the storm of {STORM:?}, at most {busiest} in {WINDOW:?}"));
    assert!(busiest <= AT_MOST, "L7: {busiest} requests in {WINDOW:?}");
    let impatient = pace::impatient(&proxy.log());
    assert!(impatient.is_empty(), "{impatient:#?}");
    place.settles(times.1).await;
    place.verify().await;
}

/// What the API server does by itself when it is flooded: its priority and fairness holds back one kind of request and
/// not the other, and good answers come between the bad ones.
#[tokio::test(flavor = "multi_thread")]
async fn writes_are_throttled_and_reads_are_not() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("429 for writes", 4).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    let throttle = Fault::Refuse(Refusal::too_many(1));
    proxy.rules(vec![Rule::new(Call::is_work, When::Always, throttle)]);
    let begun = Timestamp::now();
    let names = place.sessions(10).await;
    let end = Instant::now() + STORM;
    while Instant::now() < end {
        sleep(Duration::from_millis(700)).await;
        proxy.order(Order::Cut);
    }
    let over = proxy.calm();
    place.all_ready(&names, Duration::from_secs(10)).await;
    let refused: Vec<Call> = proxy.log().into_iter().filter(|call| call.disturbed).collect();
    let busiest = pace::busiest(&refused, WINDOW, begun + ONSET, over);
    place.tell(&format!(
        "{} writes refused in {STORM:?}, at most {busiest} in {WINDOW:?}; 10 sessions Ready {} later",
        refused.len(),
        millis(over, Timestamp::now())
    ));
    assert!(busiest <= AT_MOST, "L7: {busiest} requests in {WINDOW:?}");
    let impatient = pace::impatient(&proxy.log());
    assert!(impatient.is_empty(), "{impatient:#?}");
    place.settles(over).await;
    place.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_errors() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("storm of 503 and 500", 4).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    let times = storm(&place, &proxy, Refusal::UNAVAILABLE).await;
    let (all, busiest) = rate(&proxy, times);
    place.tell(&format!("{all} requests in the storm of {STORM:?}, at most {busiest} in {WINDOW:?}"));
    assert!(busiest <= AT_MOST, "L7: {busiest} requests in {WINDOW:?}");

    // Every other request fails: the server is neither well nor away.
    proxy.rules(vec![Rule::new(Call::is_work, When::Every(2), Fault::Refuse(Refusal::INTERNAL))]);
    let begun = Timestamp::now();
    let more: Vec<String> = (0..5).map(|index| format!("later{index}")).collect();
    for name in &more {
        place.session(name).await;
    }
    place.all_ready(&more, Duration::from_secs(30)).await;
    place.tell(&format!(
        "5 sessions Ready after {} while every other write fails",
        millis(begun, Timestamp::now())
    ));
    place.settles(proxy.calm()).await;
    place.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("storm of 409", 4).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    let creates = |call: &Call| call.verb == Verb::Create && call.is_work();
    proxy.rules(vec![
        Rule::new(creates, When::Always, Fault::Refuse(Refusal::EXISTS)),
        Rule::new(Call::is_work, When::Always, Fault::Refuse(Refusal::CONFLICT)),
    ]);
    let begun = Timestamp::now();
    let names = place.sessions(10).await;
    sleep(STORM).await;
    let over = proxy.calm();
    let (all, busiest) = rate(&proxy, (begun, over));
    place.all_ready(&names, Duration::from_secs(10)).await;
    place.tell(&format!(
        "{all} requests in the storm of {STORM:?}, at most {busiest} in {WINDOW:?}; 10 sessions Ready {} after it",
        millis(over, Timestamp::now())
    ));
    place.settles(over).await;
    place.verify().await;
}
