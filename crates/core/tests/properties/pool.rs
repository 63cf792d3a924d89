//! A pool's arithmetic through the public engine: never more than is wanted, whatever its members look like.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use paddock_core::op::{Op, Outcome, WriteFailure};
use paddock_core::pod::PodPhase;
use paddock_core::{Engine, Key};
use proptest::prelude::*;

use crate::cluster::Cluster;
use crate::story::{agent, key, pool, runner, session, template};

/// What becomes of a member before the pool is looked at again.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is ready.
    Ready,
    /// It is still starting.
    Starting,
    /// Its pod has failed.
    Failed,
    /// Its Sandbox is gone and its pod takes its time to end.
    Ending,
    /// Its pod is gone and its Sandbox is not.
    Podless,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Ready),
        2 => Just(Fate::Starting),
        1 => Just(Fate::Failed),
        1 => Just(Fate::Ending),
        1 => Just(Fate::Podless),
    ]
}

/// What the pool may be: what is desired, and as much more as is allowed while members are replaced.
fn most(replicas: i32) -> usize {
    let replicas = usize::try_from(replicas).unwrap();
    replicas + replicas.div_ceil(4)
}

struct World {
    cluster: Cluster,
    engine: Engine,
    seen: usize,
}

impl World {
    fn new(replicas: i32) -> Self {
        let cluster = Cluster::new();
        let mut engine = Engine::new(runner());
        engine.set_leading(true, cluster.now);
        let mut world = Self { cluster, engine, seen: 0 };
        world.cluster.put_template(template("opencode"));
        world.cluster.add_agent(agent("coder"));
        world.cluster.add_pool(pool("opencode", replicas));
        world
    }

    /// The watches tell of this many events; the others stay on their way.
    fn see(&mut self, count: usize) {
        let upto = self.seen.saturating_add(count).min(self.cluster.events.len());
        for event in self.cluster.events[self.seen..upto].iter().cloned() {
            event.feed(&mut self.engine, self.cluster.now);
        }
        self.seen = upto;
    }

    /// Does all that is wanted now, without any watch; returns how often that was something.
    fn work(&mut self, lost: &mut impl Iterator<Item = bool>, check: impl Fn(&Cluster)) -> usize {
        let mut rounds = 0;
        loop {
            let commands = self.engine.next(self.cluster.now);
            if commands.is_empty() || rounds > 200 {
                return rounds;
            }
            rounds += 1;
            let mut todo: Vec<_> = commands;
            while let Some(command) = todo.pop() {
                let mut outcome = self.cluster.perform(&command.op);
                if !matches!(command.op, Op::Activate(_)) && lost.next().unwrap_or_default() {
                    outcome = Outcome::Failed(WriteFailure::Unavailable("timeout".into()));
                }
                check(&self.cluster);
                todo.extend(self.engine.complete(command, outcome, self.cluster.now));
            }
        }
    }

    fn members(cluster: &Cluster) -> usize {
        let pool = cluster.pools[&key("opencode")].metadata.uid.clone();
        let owner = |s: &paddock_api::Sandbox| {
            paddock_core::ids::controller_uid(&s.metadata).map(str::to_owned) == pool
        };
        cluster.sandboxes.values().filter(|s| owner(s)).count()
    }

    fn befall(&mut self, fates: &[Fate]) {
        let keys: Vec<Key> = self.cluster.pods.keys().cloned().collect();
        for (key, fate) in keys.iter().zip(fates) {
            let mut pod = self.cluster.pods[key].clone();
            match fate {
                Fate::Ready => {
                    pod.phase = PodPhase::Running;
                    pod.ready = true;
                    pod.ip = Some("10.0.0.9".into());
                    self.cluster.replace_pod(pod);
                }
                Fate::Starting => {}
                Fate::Failed => {
                    pod.phase = PodPhase::Failed;
                    pod.ready = false;
                    self.cluster.replace_pod(pod);
                }
                Fate::Ending => {
                    if let Some(gone) = self.cluster.sandboxes.remove(key) {
                        let change = paddock_core::Change::Deleted(gone);
                        self.cluster.events.push(crate::cluster::Event::Sandbox(change));
                    }
                }
                Fate::Podless => self.cluster.delete_pod(key),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_pool_is_never_larger_than_it_may_be(
        sizes in prop::collection::vec(0i32..12, 1..4),
        fates in prop::collection::vec(prop::collection::vec(fate(), 0..12), 1..4),
        sessions in 0usize..4,
        views in prop::collection::vec(0usize..12, 0..12),
        lost in prop::collection::vec(prop::bool::weighted(0.1), 0..60),
    ) {
        let mut world = World::new(sizes[0]);
        let mut lost = lost.into_iter();
        let mut views = views.into_iter();
        world.see(usize::MAX);
        let mut made = 0;
        for (round, fates) in fates.iter().enumerate() {
            let size = sizes[round % sizes.len()];
            world.cluster.change_pool(&key("opencode"), |p| p.spec.replicas = size);
            // A pool that shrinks has what it had; it may not grow from there.
            world.see(usize::MAX);
            let before = World::members(&world.cluster);
            if made < sessions {
                made += 1;
                world.cluster.add_session(session(&format!("s{made}")));
            }
            // A member that a session is about to take is the pool's still, and no longer counts.
            let bound = most(size).max(before) + made;
            for _ in 0..4 {
                let lost = &mut lost;
                world.work(lost, |cluster| {
                    let members = World::members(cluster);
                    assert!(members <= bound, "{members} members, {bound} may be");
                });
                // Some of the news is late: what we did ourselves must not be done again for that.
                world.see(views.next().unwrap_or(usize::MAX));
                world.cluster.now += SignedDuration::from_secs(1);
            }
            world.befall(fates);
        }
        // Once all news has arrived and nothing gets lost, the pool is what it shall be.
        let size = sizes[(fates.len() - 1) % sizes.len()];
        for _ in 0..400 {
            world.cluster.live();
            world.see(usize::MAX);
            world.work(&mut std::iter::empty(), |_| {});
            world.cluster.now += SignedDuration::from_secs(1);
        }
        prop_assert_eq!(World::members(&world.cluster), usize::try_from(size).unwrap());
        let names: BTreeSet<&Key> = world.cluster.sandboxes.keys().collect();
        for (key, pod) in &world.cluster.pods {
            prop_assert!(names.contains(key), "pod {} has no Sandbox", pod.name);
        }
    }
}
