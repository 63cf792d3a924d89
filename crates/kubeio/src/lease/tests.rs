//! Elections on a small Lease store that can be frozen and meddled with. Time is virtual.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Elector, LeaseTiming};
use crate::client::ClientOptions;
use crate::testing::{Log, Seen, refusal, reply, server, silence};

#[derive(Default)]
struct Store {
    lease: Option<Value>,
    version: u64,
}

impl Store {
    fn put(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        lease["metadata"]["uid"] = "uid".into();
        self.lease = Some(lease.clone());
        lease
    }

    fn holder(&self) -> String {
        let holder = self.lease.as_ref().map(|lease| lease["spec"]["holderIdentity"].clone());
        holder.and_then(|holder| holder.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// One candidate's way to the shared store, which can be cut.
struct Candidate {
    leads: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    frozen: Arc<Mutex<bool>>,
    log: Log,
}

impl Candidate {
    fn new(store: &Arc<Mutex<Store>>, identity: &str) -> Self {
        let frozen = Arc::new(Mutex::new(false));
        let (store, cut) = (Arc::clone(store), Arc::clone(&frozen));
        let (client, log) = server(&ClientOptions::default(), move |seen: Seen| {
            let (store, cut) = (Arc::clone(&store), Arc::clone(&cut));
            async move {
                // A round trip, so that candidates do come between each other's reads and writes.
                sleep(Duration::from_millis(5)).await;
                if *cut.lock() {
                    return silence().await;
                }
                let mut store = store.lock();
                Ok(match (seen.method, store.lease.clone()) {
                    (Method::GET, None) => refusal(404, "NotFound"),
                    (Method::GET, Some(lease)) => reply(200, &lease),
                    (Method::POST, Some(_)) => refusal(409, "AlreadyExists"),
                    (Method::POST, None) => reply(201, &store.put(seen.body)),
                    (_, Some(lease))
                        if lease["metadata"]["resourceVersion"]
                            == seen.body["metadata"]["resourceVersion"] =>
                    {
                        reply(200, &store.put(seen.body))
                    }
                    _ => refusal(409, "Conflict"),
                })
            }
        });
        let (state, leads) = watch::channel(false);
        let stop = CancellationToken::new();
        let elector = Elector::new(client, "ns", "leader", identity, LeaseTiming::default());
        let task = tokio::spawn(elector.run(state, stop.clone()));
        Self { leads, stop, task, frozen, log }
    }

    async fn leads_is(&mut self, expected: bool) -> Duration {
        let begun = Instant::now();
        let wait = self.leads.wait_for(|leads| *leads == expected);
        timeout(Duration::from_secs(60), wait).await.expect("a change").expect("a running elector");
        begun.elapsed()
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }
}

fn store() -> Arc<Mutex<Store>> {
    Arc::default()
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_second_waits() {
    let store = store();
    let mut first = Candidate::new(&store, "first");
    assert!(first.leads_is(true).await < Duration::from_millis(100));
    let second = Candidate::new(&store, "second");
    sleep(Duration::from_secs(60)).await;
    assert!(first.leads() && !second.leads());
    let writes = first.log.all().iter().filter(|seen| seen.method != Method::GET).count();
    assert!(writes <= 2 * 60 + 5, "{writes} writes in a minute");
    assert!(second.log.all().iter().all(|seen| seen.method == Method::GET), "a follower writes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_within_three_seconds() {
    let store = store();
    let mut first = Candidate::new(&store, "first");
    first.leads_is(true).await;
    let mut second = Candidate::new(&store, "second");
    for after in [3000, 3100, 3200, 3300, 3400] {
        sleep(Duration::from_millis(after)).await;
        first.task.abort();
        let took = second.leads_is(true).await;
        assert!(took <= Duration::from_millis(2600), "{took:?}");
        first = second;
        second = Candidate::new(&store, &format!("after-{after}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_gives_the_lease_back() {
    let store = store();
    let mut first = Candidate::new(&store, "first");
    first.leads_is(true).await;
    let mut second = Candidate::new(&store, "second");
    sleep(Duration::from_secs(10)).await;
    first.stop.cancel();
    assert!(second.leads_is(true).await < Duration::from_secs(1));
    assert!(!first.leads());
    first.task.await.unwrap();
    second.stop.cancel();
    second.task.await.unwrap();
    assert_eq!(store.lock().holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_starts() {
    let store = store();
    let mut first = Candidate::new(&store, "first");
    first.leads_is(true).await;
    let mut second = Candidate::new(&store, "second");
    sleep(Duration::from_secs(10)).await;
    *first.frozen.lock() = true;
    assert!(first.leads_is(false).await <= Duration::from_millis(1500));
    assert!(!second.leads(), "the second must not lead yet");
    assert!(second.leads_is(true).await < Duration::from_secs(2));
    *first.frozen.lock() = false;
    sleep(Duration::from_secs(10)).await;
    assert!(second.leads() && !first.leads());
}

#[tokio::test(start_paused = true)]
async fn at_no_time_do_two_lead() {
    let store = store();
    let candidates: Vec<_> = (0..4).map(|index| Candidate::new(&store, &format!("c{index}"))).collect();
    let mut terms = 0;
    for round in 0..2000 {
        sleep(Duration::from_millis(50)).await;
        let leaders: Vec<_> = candidates.iter().filter(|candidate| candidate.leads()).collect();
        assert!(leaders.len() <= 1, "round {round}");
        // Every few seconds the leader loses its connection for a while.
        if round % 100 == 0 {
            candidates.iter().for_each(|candidate| *candidate.frozen.lock() = false);
        } else if round % 100 == 50
            && let [leader] = leaders[..]
        {
            *leader.frozen.lock() = true;
            terms += 1;
        }
    }
    assert!(terms >= 15, "{terms} terms");
}

#[tokio::test(start_paused = true)]
async fn the_clocks_of_others_do_not_matter() {
    for renewed in ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"] {
        let store = store();
        store.lock().put(json!({"metadata": {"name": "leader"}, "spec": {
            "holderIdentity": "dead", "leaseDurationSeconds": 2, "renewTime": renewed, "leaseTransitions": 4}}));
        let mut candidate = Candidate::new(&store, "new");
        let took = candidate.leads_is(true).await;
        assert!(took >= Duration::from_secs(2), "a lease seen for the first time may be alive: {took:?}");
        assert!(took < Duration::from_millis(2100), "{took:?}");
        assert_eq!(store.lock().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 5);
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_who_touches_the_object_disturbs_nobody() {
    let store = store();
    let mut first = Candidate::new(&store, "first");
    first.leads_is(true).await;
    let meddler = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for count in 0.. {
                sleep(Duration::from_millis(13)).await;
                let mut store = store.lock();
                if let Some(mut lease) = store.lease.clone() {
                    lease["metadata"]["annotations"] = json!({"count": count.to_string()});
                    store.put(lease);
                }
            }
        }
    });
    let mut second = Candidate::new(&store, "second");
    sleep(Duration::from_secs(60)).await;
    assert!(first.leads(), "the leader keeps its lease");
    first.task.abort();
    assert!(second.leads_is(true).await < Duration::from_secs(4), "and a dead one loses it");
    meddler.abort();
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_made_again() {
    let store = store();
    let mut first = Candidate::new(&store, "first");
    first.leads_is(true).await;
    store.lock().lease = None;
    first.leads_is(false).await;
    assert!(first.leads_is(true).await < Duration::from_secs(1));
}
