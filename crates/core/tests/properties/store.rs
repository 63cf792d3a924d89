//! Whatever order news arrives in, the store ends up with the truth and never goes back on the way.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use paddock_api::{Session, labels};
use paddock_core::Key;
use paddock_core::store::{Kept, Store, Stored};
use proptest::prelude::*;

use crate::story::{key, session};

/// A random history, and how it is learnt of.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody else creates or changes the object of this name.
    Write(usize),
    /// Somebody else deletes it; the next write makes another of the same name.
    Delete(usize),
    /// We write it: our store knows at once, the watch tells later.
    OwnWrite(usize),
    /// We write it, and the answer comes this many steps late.
    SlowWrite(usize, usize),
    /// The watch delivers its next event.
    Deliver,
    /// The watch delivers an event that it has delivered already.
    Repeat(usize),
    /// The watch begins anew with a complete list.
    List,
    /// A read of the API server itself, answered at once.
    Read(usize),
}

const NAMES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..NAMES).prop_map(Step::Write),
        1 => (0..NAMES).prop_map(Step::Delete),
        2 => (0..NAMES).prop_map(Step::OwnWrite),
        2 => ((0..NAMES), 1usize..6).prop_map(|(name, late)| Step::SlowWrite(name, late)),
        6 => Just(Step::Deliver),
        1 => (0usize..8).prop_map(Step::Repeat),
        1 => Just(Step::List),
        1 => (0..NAMES).prop_map(Step::Read),
    ]
}

/// The API server, one kind.
#[derive(Default)]
struct Server {
    version: u64,
    objects: BTreeMap<Key, Session>,
    events: Vec<(bool, Session)>,
}

impl Server {
    fn write(&mut self, name: usize) -> Session {
        let key = key(&format!("s{name}"));
        self.version += 1;
        let uid = match self.objects.get(&key) {
            Some(old) => old.uid().to_owned(),
            None => format!("uid-{}", self.version),
        };
        let mut object = session(&key.name);
        object.stamp(&uid, &self.version.to_string());
        self.objects.insert(key, object.clone());
        self.events.push((true, object.clone()));
        object
    }

    fn delete(&mut self, name: usize) {
        if let Some(gone) = self.objects.remove(&key(&format!("s{name}"))) {
            self.version += 1;
            self.events.push((false, gone));
        }
    }
}

/// Versions in the store, by name and UID.
fn versions(store: &Store) -> BTreeMap<(Key, String), u64> {
    let row = |o: &Session| ((o.key(), o.uid().to_owned()), o.resource_version().parse().unwrap());
    store.sessions.iter().map(row).collect()
}

fn deliver(store: &mut Store, (exists, object): &(bool, Session)) {
    if *exists {
        // As the engine does: what was seen to go stays gone.
        store.observe(object.clone());
    } else {
        store.remove::<Session>(&object.key(), object.uid());
    }
}

fn list(store: &mut Store, objects: Vec<Session>, now: Timestamp) {
    for (key, uid) in store.missing_from(&objects, now) {
        store.remove::<Session>(&key, &uid);
    }
    for object in objects {
        store.observe(object);
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut now = Timestamp::from_second(1_000).unwrap();
    let (mut server, mut store, mut seen) = (Server::default(), Store::default(), 0);
    let mut late: Vec<(usize, Session)> = Vec::new();
    let mut highest: BTreeMap<(Key, String), u64> = BTreeMap::new();
    for step in steps {
        now += SignedDuration::from_secs(1);
        let mut from_anew = false;
        match step {
            Step::Write(name) => drop(server.write(name)),
            Step::Delete(name) => server.delete(name),
            Step::OwnWrite(name) => {
                let object = server.write(name);
                store.written(object, now);
            }
            Step::SlowWrite(name, steps) => late.push((steps, server.write(name))),
            Step::Deliver => {
                if let Some(event) = server.events.get(seen) {
                    deliver(&mut store, event);
                    seen += 1;
                }
            }
            // Only of what still is: a watch never tells of a life again that it has ended.
            Step::Repeat(back) => {
                let event = seen.checked_sub(back + 1).and_then(|at| server.events.get(at)).cloned();
                if let Some(event) = event
                    && event.0
                    && !store.is_gone::<Session>(event.1.uid())
                    && server.objects.get(&event.1.key()).is_some_and(|o| o.uid() == event.1.uid())
                {
                    deliver(&mut store, &event);
                }
            }
            Step::List => {
                list(&mut store, server.objects.values().cloned().collect(), now);
                seen = server.events.len();
                from_anew = true;
            }
            Step::Read(name) => {
                let found = server.objects.get(&key(&format!("s{name}"))).cloned();
                if let Some(object) = found.filter(|o| !store.is_gone::<Session>(o.uid())) {
                    store.read(object, now);
                }
            }
        }
        for (steps, _) in &mut late {
            *steps -= 1;
        }
        let (due, rest) = late.into_iter().partition(|(steps, _)| *steps == 0);
        late = rest;
        for (_, object) in due {
            store.written(object, now);
        }
        for (object, version) in versions(&store) {
            let before = highest.entry(object.clone()).or_insert(version);
            prop_assert!(version >= *before, "{:?} went back from {} to {}", object, before, version);
            *before = version;
        }
        if from_anew {
            for object in server.objects.values() {
                let have = store.sessions.get(&object.key()).expect("what was listed is here");
                prop_assert_eq!(have.uid(), object.uid());
            }
        }
    }
    // All that was under way arrives; a list after the grace of own writes settles the rest.
    for (_, object) in late {
        store.written(object, now);
    }
    for event in &server.events[seen..] {
        deliver(&mut store, event);
    }
    now += SignedDuration::from_secs(60);
    list(&mut store, server.objects.values().cloned().collect(), now);
    let truth: BTreeMap<(Key, String), u64> = server
        .objects
        .values()
        .map(|o| ((o.key(), o.uid().to_owned()), o.resource_version().parse().unwrap()))
        .collect();
    prop_assert_eq!(versions(&store), truth);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_store_ends_with_the_truth_and_never_goes_back(steps in prop::collection::vec(step(), 0..60)) {
        run(steps)?;
    }
}

/// Which sessions a sandbox is found under is told by its latest version alone.
#[derive(Clone, Debug)]
struct Member {
    version: u64,
    session: Option<u8>,
}

proptest! {
    #[test]
    fn a_sandbox_is_found_under_its_latest_session_only(
        news in prop::collection::vec((1u64..20, prop::option::of(0u8..3)), 1..20),
    ) {
        let mut latest: Option<Member> = None;
        let mut store = Store::default();
        for (version, session) in news {
            // One version has one content.
            if latest.as_ref().is_some_and(|latest| latest.version == version) {
                continue;
            }
            let mut sandbox = paddock_core::build::for_pool(
                &crate::story::pool("opencode", 1),
                &crate::story::template("opencode"),
                &crate::story::runner(),
                0,
            );
            sandbox.stamp("uid-1", &version.to_string());
            if let Some(session) = session {
                let labels = sandbox.metadata.labels.get_or_insert_default();
                labels.insert(labels::SESSION_UID.into(), format!("session-{session}"));
            }
            store.observe(sandbox);
            if latest.as_ref().is_none_or(|latest| latest.version < version) {
                latest = Some(Member { version, session });
            }
            let latest = latest.as_ref().unwrap();
            for session in 0..3 {
                let found = store.sandboxes_of_session(&format!("session-{session}")).count();
                prop_assert_eq!(found, usize::from(latest.session == Some(session)));
            }
        }
        // Nothing outlives its removal.
        let key = store.sandboxes.iter().next().map(Stored::key).unwrap();
        store.remove::<paddock_api::Sandbox>(&key, "uid-1");
        prop_assert!(paddock_api::Sandbox::table(&store).iter().next().is_none());
        prop_assert_eq!((0..3).map(|s| store.sandboxes_of_session(&format!("session-{s}")).count()).sum::<usize>(), 0);
    }
}

#[test]
fn pod_specs_that_are_alike_are_kept_once() {
    let mut store = Store::default();
    let made = |name: &str, image: &str| {
        let template = crate::story::template("opencode");
        let pool = crate::story::pool("opencode", 1);
        let mut sandbox = paddock_core::build::for_pool(&pool, &template, &crate::story::runner(), 0);
        sandbox.metadata.name = Some(name.into());
        sandbox.stamp(name, "1");
        // As one that comes from the API server, it shares nothing yet.
        let mut spec = serde_json::Value::clone(&sandbox.spec.pod_template.spec);
        spec["containers"][0]["image"] = image.into();
        sandbox.spec.pod_template.spec = spec.into();
        sandbox
    };
    // The third has its label from somebody who changed its pod.
    for (name, image) in [("a", "opencode:1"), ("b", "opencode:1"), ("c", "evil:1")] {
        store.observe(made(name, image));
    }
    let spec = |name: &str| {
        let sandbox = store.sandboxes.iter().find(|s| s.metadata.name.as_deref() == Some(name)).unwrap();
        sandbox.spec.pod_template.spec.clone()
    };
    assert!(std::sync::Arc::ptr_eq(&spec("a"), &spec("b")));
    assert_eq!(spec("c")["containers"][0]["image"], "evil:1");
}
