//! Sessions with volumes and transcripts are suspended and go on, while writes lose their answers and controllers die.

use std::time::Duration;

use jiff::Timestamp;

use crate::SERVER;
use crate::controller::Leadership;
use crate::place::{Place, millis};
use crate::proxy::{Call, Fault, Rule, When};

/// In a place where things go wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// Writes of a session that is suspended and goes on, and some more.
const WRITES: u32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn every_third_write_of_a_suspension_loses_its_answer() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make_persistent("suspensions, lost answers", 4).await else { return };
    let (_controller, proxy) = place.with_controller().await;
    let names = place.sessions(6).await;
    place.all_ready(&names, PATIENCE).await;
    proxy.rules(vec![
        Rule::new(Call::is_work, When::Every(3), Fault::LoseAnswer),
        Rule::new(Call::is_work, When::Every(7), Fault::CutAnswer),
    ]);
    for _ in 0..3 {
        let begun = Timestamp::now();
        place.want(&names, "Suspended").await;
        place.all_as_wanted(&names, PATIENCE).await;
        let suspended = Timestamp::now();
        place.want(&names, "Running").await;
        place.all_as_wanted(&names, PATIENCE).await;
        place.tell(&format!(
            "6 sessions suspended after {}, Ready again after {}",
            millis(begun, suspended),
            millis(suspended, Timestamp::now())
        ));
    }
    // One of them stays suspended.
    place.want(&names[..1], "Suspended").await;
    place.all_as_wanted(&names, PATIENCE).await;
    place.settles(proxy.calm()).await;
    place.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_nth_write_of_a_suspension() {
    let _up = SERVER.read().await;
    killed("suspensions, killed after the nth write", Fault::KillAfter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_nth_write_of_a_suspension() {
    let _up = SERVER.read().await;
    killed("suspensions, killed before the nth write", Fault::KillBefore).await;
}

async fn killed(test: &'static str, fault: fn(rustix::process::Pid) -> Fault) {
    let Some(place) = Place::make_persistent(test, 2).await else { return };
    let proxy = place.proxy("a").await;
    let mut controller = place.controller("a", &proxy, Leadership::Always);
    place.pool_is_full(PATIENCE).await;
    let names = place.sessions(1).await;
    place.all_ready(&names, PATIENCE).await;
    let mut deaths = 0;
    for n in 1..=WRITES {
        proxy.rules(vec![Rule::new(Call::is_work, When::Nth(n), fault(controller.pid()))]);
        for state in ["Suspended", "Running"] {
            place.want(&names, state).await;
            let done = place.all_as_wanted(&names, PATIENCE);
            let mut done = std::pin::pin!(done);
            loop {
                tokio::select! {
                    () = &mut done => break,
                    ended = controller.ended(PATIENCE) => if ended.is_some() {
                        deaths += 1;
                        controller = place.controller("a", &proxy, Leadership::Always);
                    }
                }
            }
        }
        // It may die of what comes after. Once all is calm it cannot any more.
        let died_late = controller.ended(Duration::from_secs(1)).await.is_some();
        proxy.calm();
        if died_late || controller.ended(Duration::from_millis(100)).await.is_some() {
            deaths += 1;
            controller = place.controller("a", &proxy, Leadership::Always);
        }
        place.pool_is_full(PATIENCE).await;
    }
    place.tell(&format!("{deaths} deaths in {WRITES} suspensions"));
    assert!(deaths >= WRITES / 2, "few of them met the controller at work: {deaths}");
    place.settles(Timestamp::now()).await;
    place.verify().await;
}
