//! The controller is killed in the middle of its work, and started again.

use std::time::Duration;

use jiff::Timestamp;

use crate::SERVER;
use crate::controller::Leadership;
use crate::place::{Place, millis};
use crate::proxy::{Call, Fault, Rule, When};

/// Writes of two warm sessions and their refill, and some more.
const WRITES: u32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_nth_write() {
    let _up = SERVER.read().await;
    killed("killed after the nth write", Fault::KillAfter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_nth_write() {
    let _up = SERVER.read().await;
    killed("killed before the nth write", Fault::KillBefore).await;
}

async fn killed(test: &'static str, fault: fn(rustix::process::Pid) -> Fault) {
    let Some(place) = Place::make(test, 2).await else { return };
    let proxy = place.proxy("a").await;
    let mut controller = place.controller("a", &proxy, Leadership::Always);
    place.pool_is_full(Duration::from_secs(20)).await;
    let mut slowest = Duration::ZERO;
    let mut deaths = 0;
    for n in 1..=WRITES {
        proxy.rules(vec![Rule::new(Call::is_work, When::Nth(n), fault(controller.pid()))]);
        let names = [format!("n{n}a"), format!("n{n}b")];
        for name in &names {
            place.session(name).await;
        }
        // Fewer writes may be made than that; then it simply goes on.
        if controller.ended(Duration::from_secs(2)).await.is_some() {
            deaths += 1;
            controller = place.controller("a", &proxy, Leadership::Always);
        }
        let begun = Timestamp::now();
        proxy.calm();
        place.all_ready(&names, Duration::from_secs(15)).await;
        slowest = slowest.max(Duration::try_from(Timestamp::now().duration_since(begun)).unwrap());
        place.pool_is_full(Duration::from_secs(10)).await;
    }
    place.tell(&format!("{deaths} deaths; two sessions Ready at most {slowest:?} after a start"));
    let last = Timestamp::now();
    place.settles(last).await;
    place.tell(&format!("all done {} later", millis(last, Timestamp::now())));
    place.verify().await;
}
