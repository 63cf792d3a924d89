//! Somebody else writes to our objects all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::SERVER;
use crate::cluster::{POOL, SANDBOX, SESSION};
use crate::place::{Place, millis};

/// L8: so many writes a second, for so long at least.
const PER_SECOND: u32 = 100;
const HOW_LONG: Duration = Duration::from_secs(10);
/// So that a slow machine writes less, and is not merely flooded.
const AT_ONCE: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn annotates_our_objects_a_hundred_times_a_second() {
    let _up = SERVER.read().await;
    let Some(place) = Place::make("rival writer", 3).await else { return };
    let place = Arc::new(place);
    let (_controller, _proxy) = place.with_controller().await;
    let written = Arc::new(AtomicU32::new(0));
    let stop = CancellationToken::new();
    let rival = tokio::spawn(scribble(place.clone(), written.clone(), stop.clone()));
    let start = Instant::now();
    let mut took = Vec::new();
    while start.elapsed() < HOW_LONG {
        let name = format!("s{}", took.len());
        let begun = Timestamp::now();
        place.session(&name).await;
        let ready = place.recorder.ready(&name, Duration::from_secs(60)).await;
        took.push(millis(begun, ready));
    }
    stop.cancel();
    rival.await.unwrap();
    let over = Timestamp::now();
    let calls = place.calls();
    let conflicts = calls.iter().filter(|call| call.answer.is_some_and(|(_, status)| status == 409)).count();
    place.tell(&format!(
        "{} sessions Ready one after the other within {:?}, beside {} writes of the rival, with {conflicts} conflicts: \
         {took:?}",
        took.len(),
        start.elapsed(),
        written.load(Ordering::Relaxed)
    ));
    place.settles(over).await;
    Arc::into_inner(place).unwrap().verify().await;
}

/// Annotates the newest sessions, the pool and its sandboxes in turn.
async fn scribble(place: Arc<Place>, written: Arc<AtomicU32>, stop: CancellationToken) {
    let mut pace = interval(Duration::from_secs(1) / PER_SECOND);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0_usize.. {
        if stop.is_cancelled() {
            break;
        }
        pace.tick().await;
        let held = places.clone().acquire_owned().await.unwrap();
        let victims = place.recorder.look(|world| {
            let named = |kind, object: &serde_json::Value| {
                (kind, object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            };
            let sessions = world.all(&SESSION).filter(|s| s["status"]["phase"] != "Ready");
            let members =
                world.all(&SANDBOX).filter(|s| s["metadata"]["labels"]["paddock.dev/session-uid"].is_null());
            sessions
                .map(|session| named(SESSION, session))
                .chain(members.map(|member| named(SANDBOX, member)))
                .chain([(POOL, "pool".to_owned())])
                .collect::<Vec<_>>()
        });
        let (kind, name) = victims[turn % victims.len()].clone();
        let api = place.cluster.api(&kind, &place.namespace);
        let written = written.clone();
        tasks.spawn(async move {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"rival": turn.to_string()}}}));
            let _held = held;
            if api.patch(&name, &PatchParams::default(), &patch).await.is_ok() {
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
}
