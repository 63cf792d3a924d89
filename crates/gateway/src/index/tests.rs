use super::store::UNCONFIRMED;
use super::*;
use serde_json::json;
use std::time::Duration;

fn session(name: &str, uid: &str, version: u64, phase: &str) -> Session {
    serde_json::from_value(json!({
        "apiVersion": "paddock.dev/v1alpha1", "kind": "Session",
        "metadata": {"name": name, "uid": uid, "resourceVersion": version.to_string()},
        "spec": {"agentRef": {"name": "a"}}, "status": {"phase": phase},
    }))
    .unwrap()
}

/// Everything a reader sees, as (name, version).
fn seen(store: &Store<Session>, now: Instant) -> Vec<(String, String)> {
    let mut seen: Vec<_> = store
        .all(now)
        .iter()
        .map(|s| (s.metadata.name.clone().unwrap(), s.metadata.resource_version.clone().unwrap()))
        .collect();
    seen.sort();
    seen
}

fn is(pairs: &[(&str, u64)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, version)| ((*name).to_owned(), version.to_string())).collect()
}

#[test]
fn a_list_replaces_everything_and_events_change_it() {
    let now = Instant::now();
    let mut store = Store::default();
    assert!(!store.synced());
    assert_eq!(
        store.apply(Event::Synced(vec![session("a", "1", 5, "Ready"), session("b", "2", 6, "Ready")])),
        Effect::Changed
    );
    assert!(store.synced());
    assert_eq!(store.apply(Event::Applied(session("a", "1", 7, "Dead"))), Effect::Changed);
    assert_eq!(store.apply(Event::Applied(session("a", "1", 7, "Dead"))), Effect::Unchanged);
    assert_eq!(store.apply(Event::Deleted(session("b", "2", 8, "Ready"))), Effect::Changed);
    assert_eq!(seen(&store, now), is(&[("a", 7)]));
    let same = vec![session("a", "1", 7, "Dead")];
    assert_eq!(store.apply(Event::Synced(same)), Effect::Unchanged);
    assert_eq!(store.apply(Event::Synced(vec![])), Effect::Changed);
    assert_eq!(seen(&store, now), is(&[]));
}

#[test]
fn an_own_write_is_read_at_once_and_until_the_watch_has_it() {
    let now = Instant::now();
    let mut store = Store::default();
    store.apply(Event::Synced(vec![session("a", "1", 5, "Ready")]));
    assert_eq!(store.record(session("a", "1", 9, "Dead"), now), Effect::Changed);
    assert_eq!(store.record(session("new", "2", 10, "Creating"), now), Effect::Changed);
    assert_eq!(seen(&store, now), is(&[("a", 9), ("new", 10)]));
    // The watch is behind: an event and a list from before our writes hide neither.
    store.apply(Event::Applied(session("a", "1", 7, "Ready")));
    store.apply(Event::Synced(vec![session("a", "1", 7, "Ready")]));
    assert_eq!(seen(&store, now), is(&[("a", 9), ("new", 10)]));
    // It catches up, and from then on its word counts.
    store.apply(Event::Applied(session("new", "2", 11, "Ready")));
    store.apply(Event::Applied(session("a", "1", 12, "Dead")));
    store.apply(Event::Deleted(session("a", "1", 13, "Dead")));
    assert_eq!(seen(&store, now), is(&[("new", 11)]));
}

#[test]
fn a_read_that_is_older_than_the_watch_changes_nothing() {
    let now = Instant::now();
    let mut store = Store::default();
    store.apply(Event::Synced(vec![session("a", "1", 5, "Ready")]));
    assert_eq!(store.record(session("a", "1", 5, "Ready"), now), Effect::Unchanged);
    assert_eq!(store.record(session("a", "1", 4, "Creating"), now), Effect::Unchanged);
    assert_eq!(seen(&store, now), is(&[("a", 5)]));
}

#[test]
fn the_deletion_of_a_namesake_leaves_our_write_alone() {
    let now = Instant::now();
    let mut store = Store::default();
    store.apply(Event::Synced(vec![session("a", "old", 5, "Dead")]));
    store.record(session("a", "new", 9, "Creating"), now);
    store.apply(Event::Deleted(session("a", "old", 8, "Dead")));
    assert_eq!(seen(&store, now), is(&[("a", 9)]));
}

#[test]
fn a_write_that_is_never_confirmed_is_forgotten() {
    let now = Instant::now();
    let mut store = Store::default();
    store.apply(Event::Synced(vec![]));
    store.record(session("ghost", "1", 9, "Creating"), now);
    assert_eq!(seen(&store, now + UNCONFIRMED - Duration::from_millis(1)), is(&[("ghost", 9)]));
    assert_eq!(seen(&store, now + UNCONFIRMED), is(&[]));
}

#[test]
fn what_we_have_deleted_is_not_read_any_more_and_a_namesake_is() {
    let now = Instant::now();
    let mut store = Store::default();
    let old = session("a", "old", 5, "Ready");
    store.apply(Event::Synced(vec![old.clone(), session("b", "2", 6, "Ready")]));
    assert_eq!(store.record_deletion(&old, now), Effect::Changed);
    assert_eq!(seen(&store, now), is(&[("b", 6)]));
    // The watch is behind.
    store.apply(Event::Applied(session("a", "old", 7, "Ready")));
    store.apply(Event::Synced(vec![session("a", "old", 7, "Ready"), session("b", "2", 6, "Ready")]));
    assert_eq!(seen(&store, now), is(&[("b", 6)]));
    store.apply(Event::Applied(session("a", "new", 9, "Ready")));
    assert_eq!(seen(&store, now), is(&[("a", 9), ("b", 6)]));
    // A deletion that something holds up is told again after a while.
    store.record_deletion(&session("b", "2", 6, "Ready"), now);
    assert_eq!(seen(&store, now), is(&[("a", 9)]));
    assert_eq!(seen(&store, now + UNCONFIRMED), is(&[("a", 9), ("b", 6)]));
}

#[tokio::test]
async fn a_reader_waits_for_a_change_and_no_longer_than_its_deadline() {
    let index = Arc::new(Index::default());
    index.apply_session(Event::Synced(vec![session("a", "1", 5, "Creating")]));
    let ready = |s: Option<&Session>| {
        s.and_then(|s| s.status.as_ref()).is_some_and(|status| status.phase == paddock_api::Phase::Ready)
    };
    let past = tokio::time::Instant::now();
    let still = index.session_when("a", past, ready).await.unwrap();
    assert_eq!(still.metadata.resource_version.as_deref(), Some("5"));

    let waiting = tokio::spawn({
        let index = index.clone();
        async move { index.session_when("a", past + Duration::from_secs(30), ready).await }
    });
    index.apply_session(Event::Applied(session("other", "2", 6, "Ready")));
    index.apply_session(Event::Applied(session("a", "1", 7, "Ready")));
    assert_eq!(waiting.await.unwrap().unwrap().metadata.resource_version.as_deref(), Some("7"));
}
