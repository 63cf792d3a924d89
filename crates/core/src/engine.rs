//! Which object is decided on when, and what follows from an operation's outcome.
//!
//! One rule keeps this simple: while operations of an object are in flight, that object is not decided on.
//! When the last of them has come back, it is decided on again, on a store that holds their results. Only the
//! members that a pool is making do not hold it up: it knows them by name and counts them ([`refilling`]).

mod completion;
mod order;
mod refilling;
mod routing;
mod starting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session};

use crate::build::RunnerSettings;
use crate::ids::Key;
use crate::node::Node;
use crate::op::{Op, Outcome, Target};
use crate::pod::Pod;
use crate::session::{Context, Decision, SandboxBusy};
use crate::store::{Store, UNSEEN_LIMIT};
use crate::volume_claim::VolumeClaim;
use crate::{agent, pool, sandbox, session};

/// First pause after a failed operation; doubled up to [`BACKOFF_MAX`].
const BACKOFF: SignedDuration = SignedDuration::from_millis(100);
/// Longest pause after failed operations.
const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(5);
/// Longest pause after writes that met newer objects.
const STUMBLE_MAX: SignedDuration = SignedDuration::from_millis(300);

/// The controller's settings, as far as decisions depend on them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The runner that goes into harness pods.
    pub runner: RunnerSettings,
    /// Namespaces whose gateways save transcripts: there pods are not taken away on purpose before.
    pub keeps_transcripts_in: BTreeSet<String>,
    /// Since when this process leads. Sessions older than that may have been bound by an earlier leader.
    pub leading_since: Timestamp,
}

/// An object that decisions are made about. Sorted by urgency: waiting sessions come before refills.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// A Session.
    Session(Key),
    /// A Sandbox.
    Sandbox(Key),
    /// A pool.
    Pool(Key),
    /// An Agent.
    Agent(Key),
}

/// Something a watch has told.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// All objects of the kind; others no longer exist.
    Synced(Vec<K>),
    /// One object as it is now.
    Applied(K),
    /// One object as it was before it went.
    Deleted(K),
}

impl<K> Change<K> {
    /// The same change of what `convert` makes of the objects.
    pub fn map<T>(self, convert: impl Fn(K) -> T) -> Change<T> {
        match self {
            Self::Synced(objects) => Change::Synced(objects.into_iter().map(convert).collect()),
            Self::Applied(object) => Change::Applied(convert(object)),
            Self::Deleted(object) => Change::Deleted(convert(object)),
        }
    }
}

/// An operation to perform, and what to report its outcome with.
#[derive(Clone, Debug)]
pub struct Command {
    /// Whose decision it is.
    pub work: Work,
    /// What to do.
    pub op: Op,
    /// The term of leadership it belongs to.
    pub term: u64,
}

/// See the module.
///
/// All maps are ordered, so that [`Engine::memory`] reads the same however it came about.
#[derive(Clone, Debug)]
pub struct Engine {
    store: Store,
    settings: Settings,
    leading: bool,
    term: u64,
    dirty: BTreeSet<Work>,
    in_flight: InFlight,
    backoff: BTreeMap<Work, Backoff>,
    wakes: BTreeSet<(Timestamp, Work)>,
    wake_of: BTreeMap<Work, Timestamp>,
    reserved: BTreeMap<Key, Key>,
    sessions: BTreeMap<Key, session::Memory>,
    sandboxes: BTreeMap<Key, sandbox::Memory>,
    pools: BTreeMap<Key, pool::Memory>,
    /// Sessions that start cold, and would rather have a pool member.
    hopeful: BTreeSet<Key>,
    /// Pools that would make more members if others made fewer.
    starved: BTreeSet<Key>,
    /// Sessions that are being started.
    starts: starting::Starts,
    /// Sandboxes and pods that we wrote or read, in order: when a watch must have shown them.
    unseen: VecDeque<(Timestamp, Key)>,
    notices: Vec<Notice>,
}

/// Something that people should hear of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The SandboxWarmPool it is about.
    pub pool: Target,
    /// One word.
    pub reason: &'static str,
    /// What is the matter, and what to do.
    pub message: String,
}

#[derive(Clone, Debug, Default)]
struct InFlight {
    counts: BTreeMap<Work, usize>,
    /// Sandboxes whose deletion is in flight.
    deletes: BTreeSet<Key>,
}

impl SandboxBusy for InFlight {
    fn is_busy(&self, sandbox: &Key) -> bool {
        self.deletes.contains(sandbox) || self.counts.contains_key(&Work::Sandbox(sandbox.clone()))
    }
}

#[derive(Clone, Copy, Debug)]
struct Backoff {
    failures: u32,
    until: Timestamp,
}

impl Engine {
    /// An engine that has seen nothing and does not lead.
    pub fn new(runner: RunnerSettings) -> Self {
        Self {
            store: Store::default(),
            settings: Settings {
                runner,
                keeps_transcripts_in: BTreeSet::new(),
                leading_since: Timestamp::MAX,
            },
            leading: false,
            term: 0,
            dirty: BTreeSet::new(),
            in_flight: InFlight::default(),
            backoff: BTreeMap::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            reserved: BTreeMap::new(),
            sessions: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            pools: BTreeMap::new(),
            hopeful: BTreeSet::new(),
            starved: BTreeSet::new(),
            starts: starting::Starts::default(),
            unseen: VecDeque::new(),
            notices: Vec::new(),
        }
    }

    /// From now on pods in these namespaces are not taken away on purpose before a gateway has saved their transcripts.
    pub fn keep_transcripts_in(&mut self, namespaces: impl IntoIterator<Item = String>) {
        self.settings.keeps_transcripts_in.extend(namespaces);
    }

    /// The cluster as last seen.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All that decisions depend on beside the [`Store`] and the settings: two engines with the same objects that read
    /// the same here go on alike. For tests that visit every state.
    #[doc(hidden)]
    pub fn memory(&self) -> impl std::fmt::Debug {
        let queues = (&self.dirty, &self.in_flight, &self.backoff, &self.wakes, &self.reserved);
        let waiting = (&self.hopeful, &self.starved, &self.starts);
        (self.leading, queues, &self.sessions, &self.sandboxes, &self.pools, waiting)
    }

    /// Starts or ends a term of leadership. What was remembered of an earlier term is forgotten: others
    /// may have led since. Outcomes of an earlier term's operations are ignored.
    pub fn set_leading(&mut self, leading: bool, now: Timestamp) {
        if leading == self.leading {
            return;
        }
        self.leading = leading;
        self.term += 1;
        self.settings.leading_since = if leading { now } else { Timestamp::MAX };
        self.in_flight = InFlight::default();
        self.backoff.clear();
        self.wakes.clear();
        self.wake_of.clear();
        self.reserved.clear();
        self.sessions.clear();
        self.sandboxes.clear();
        self.pools.clear();
        self.hopeful.clear();
        self.starved.clear();
        self.starts = starting::Starts::default();
        self.dirty.clear();
        if leading {
            self.dirty = self.all_work();
        }
    }

    /// True while this engine decides.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// What people should hear, each once.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The size that a pool is kept at, once it was decided on.
    pub fn pool_size(&self, pool: &Key) -> Option<usize> {
        self.pools.get(pool).and_then(|memory| memory.size)
    }

    /// Number of operations in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.counts.values().sum()
    }

    /// When [`Engine::next`] has something to do even if nothing happens before.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let unseen = self.unseen.front().map(|(at, _)| *at);
        let starts = self.starts.next_wake();
        self.wakes.first().map(|(at, _)| *at).into_iter().chain(unseen).chain(starts).min()
    }

    /// Everything to be done now. Call it after every change and outcome, and at [`Engine::next_wake`].
    pub fn next(&mut self, now: Timestamp) -> Vec<Command> {
        while let Some((at, work)) = self.wakes.first().cloned() {
            if at > now {
                break;
            }
            self.wakes.pop_first();
            self.wake_of.remove(&work);
            self.dirty.insert(work);
        }
        // One that lies further ahead than any can is from before the clock was set back.
        let is_due = |at: Timestamp| at <= now || at > now + UNSEEN_LIMIT;
        while let Some((_, sandbox)) = self.unseen.pop_front_if(|(at, _)| is_due(*at)) {
            self.dirty.insert(Work::Sandbox(sandbox));
        }
        let mut commands = Vec::new();
        if !self.leading {
            self.dirty.clear();
            return commands;
        }
        let mut sessions = VecDeque::new();
        loop {
            let Some(work) = self.most_urgent(&mut sessions) else {
                if self.let_sessions_start(now) {
                    continue;
                }
                break;
            };
            if self.is_held_up(&work) {
                continue; // Decided on again when the last operation is back.
            }
            if let Some(backoff) = self.backoff.get(&work).filter(|b| b.until > now) {
                let until = backoff.until;
                self.wake_at(work, until);
                continue;
            }
            if !self.has_turn(&work, now) {
                continue;
            }
            let decision = self.decide(&work, now);
            self.release_reservations(&work, decision.reserve.as_ref());
            if let Some(sandbox) = decision.reserve {
                let Work::Session(session) = &work else { continue };
                self.reserved.insert(sandbox, session.clone());
            }
            if let Work::Session(session) = &work {
                if decision.hopes {
                    self.hopeful.insert(session.clone());
                } else {
                    self.hopeful.remove(session);
                }
            }
            if decision.yields {
                self.note_yield(&work);
            }
            if let Some(at) = decision.wake {
                self.wake_at(work.clone(), at);
            }
            self.follow_up(&work, &decision.ops, now);
            if decision.ops.is_empty() {
                if !self.in_flight.counts.contains_key(&work) {
                    self.backoff.remove(&work);
                }
                continue;
            }
            self.note_start(&work, now);
            *self.in_flight.counts.entry(work.clone()).or_default() += decision.ops.len();
            self.in_flight.deletes.extend(decision.ops.iter().filter_map(deleted_sandbox).cloned());
            let term = self.term;
            commands.extend(decision.ops.into_iter().map(|op| Command { work: work.clone(), op, term }));
        }
        commands
    }

    fn decide(&mut self, work: &Work, now: Timestamp) -> Decision {
        let beside = self.beside_starts(work);
        let ctx = Context {
            store: &self.store,
            settings: &self.settings,
            reserved: &self.reserved,
            busy: &self.in_flight,
            beside,
            now,
        };
        match work {
            Work::Session(key) => match self.store.sessions.get(key) {
                Some(session) => session::decide(ctx, session, self.sessions.entry(key.clone()).or_default()),
                None => {
                    let left = self.sessions.get(key).and_then(|memory| session::spoilt(ctx, memory));
                    if left.is_none() {
                        self.sessions.remove(key);
                    }
                    Decision { ops: left.into_iter().collect(), ..Decision::default() }
                }
            },
            Work::Sandbox(key) if let Some(ask) = sandbox::never_seen(&self.store, key, now) => {
                Decision { ops: vec![Op::Refresh(ask)], ..Decision::default() }
            }
            Work::Sandbox(key) => match self.store.sandboxes.get(key) {
                Some(sandbox) => {
                    sandbox::decide(ctx, sandbox, self.sandboxes.entry(key.clone()).or_default())
                }
                None => {
                    self.sandboxes.remove(key);
                    Decision::default()
                }
            },
            Work::Pool(key) => match self.store.pools.get(key) {
                Some(pool) => {
                    let room = refilling::room(&self.pools, key);
                    pool::decide(ctx, pool, room, self.pools.entry(key.clone()).or_default())
                }
                None => {
                    self.pools.remove(key);
                    Decision::default()
                }
            },
            Work::Agent(key) => match self.store.agents.get(key) {
                Some(agent) => agent::decide(&self.store, agent, now),
                None => Decision::default(),
            },
        }
    }

    /// Gives back what a session no longer wants, and lets its pool look again.
    fn release_reservations(&mut self, work: &Work, wanted: Option<&Key>) {
        let Work::Session(session) = work else { return };
        let released: Vec<Key> = self
            .reserved
            .iter()
            .filter(|(sandbox, by)| *by == session && Some(*sandbox) != wanted)
            .map(|(sandbox, _)| sandbox.clone())
            .collect();
        for sandbox in released {
            self.reserved.remove(&sandbox);
            self.touch_sandbox(&sandbox);
        }
    }

    fn wake_at(&mut self, work: Work, at: Timestamp) {
        if let Some(old) = self.wake_of.insert(work.clone(), at) {
            self.wakes.remove(&(old, work.clone()));
        }
        self.wakes.insert((at, work));
    }

    /// Notes that what we knew was stale. Once is normal and costs no pause; again and again would be a
    /// tight loop against the API server.
    fn stumble(&mut self, work: &Work, now: Timestamp) {
        if self.backoff.contains_key(work) {
            self.fail(work, now, None);
            // Another writer's conflicts are no sign of trouble, and must not stop progress.
            if let Some(backoff) = self.backoff.get_mut(work) {
                backoff.until = backoff.until.min(now + STUMBLE_MAX);
            }
        } else {
            self.backoff.insert(work.clone(), Backoff { failures: 0, until: now });
        }
    }

    /// A step of a session is done: one of its failures is forgiven. Its life has many steps, and where one in three fails, the
    /// pauses would only ever grow.
    fn forgive(&mut self, work: &Work) {
        if let (Work::Session(_), Some(backoff)) = (work, self.backoff.get_mut(work)) {
            backoff.failures = backoff.failures.saturating_sub(1);
        }
    }

    fn fail(&mut self, work: &Work, now: Timestamp, retry_after: Option<SignedDuration>) {
        let last = self.backoff.get(work).copied();
        // Operations of one decision that fail together have failed once.
        let failures =
            last.map_or(0, |b| if b.until > now { b.failures.saturating_sub(1) } else { b.failures });
        let doubled = BACKOFF.saturating_mul(1i32.checked_shl(failures.min(16)).unwrap_or(i32::MAX));
        let pause = retry_after.unwrap_or(SignedDuration::ZERO).max(doubled.min(BACKOFF_MAX));
        let until = last.map_or(Timestamp::MIN, |b| b.until).max(now + pause);
        self.backoff.insert(work.clone(), Backoff { failures: failures + 1, until });
    }
}

/// Takes in what the watches tell.
impl Engine {
    /// Sessions.
    pub fn sessions_changed(&mut self, change: Change<Session>, now: Timestamp) {
        self.apply(change, now);
    }

    /// Agents.
    pub fn agents_changed(&mut self, change: Change<Agent>, now: Timestamp) {
        self.apply(change, now);
    }

    /// SandboxTemplates.
    pub fn templates_changed(&mut self, change: Change<SandboxTemplate>, now: Timestamp) {
        self.apply(change, now);
    }

    /// SandboxWarmPools.
    pub fn pools_changed(&mut self, change: Change<SandboxWarmPool>, now: Timestamp) {
        self.apply(change, now);
    }

    /// Sandboxes.
    pub fn sandboxes_changed(&mut self, change: Change<Sandbox>, now: Timestamp) {
        self.apply(change, now);
    }

    /// Pods.
    pub fn pods_changed(&mut self, change: Change<Pod>, now: Timestamp) {
        self.apply(change, now);
    }

    /// Volume claims.
    pub fn volume_claims_changed(&mut self, change: Change<VolumeClaim>, now: Timestamp) {
        self.apply(change, now);
    }

    /// Nodes.
    pub fn nodes_changed(&mut self, change: Change<Node>, now: Timestamp) {
        if let Change::Applied(node) = &change
            && self.store.nodes.get(&node.key()).is_some_and(|known| known.tells_the_same_as(node))
        {
            // Nodes report every few seconds that they are well. That is no reason to decide on their pods.
            self.store.observe(node.clone());
            return;
        }
        self.apply(change, now);
    }

    /// Reports what came of `command`.
    pub fn complete(&mut self, command: Command, outcome: Outcome, now: Timestamp) -> Vec<Command> {
        if command.term != self.term {
            return Vec::new();
        }
        let follow_up = self.learn(&command, outcome, now);
        let more = follow_up.len();
        let count = self.in_flight.counts.entry(command.work.clone()).or_insert(1);
        *count = *count + more - 1;
        if *count == 0 {
            self.in_flight.counts.remove(&command.work);
            match &command.work {
                Work::Sandbox(key) => self.touch_sandbox(&key.clone()),
                Work::Session(key) => self.note_stop(&key.clone()),
                Work::Pool(_) | Work::Agent(_) => {}
            }
        }
        if let Some(key) = deleted_sandbox(&command.op) {
            self.in_flight.deletes.remove(key);
        }
        if !self.is_held_up(&command.work) {
            self.dirty.insert(command.work.clone());
        }
        let term = self.term;
        follow_up.into_iter().map(|op| Command { work: command.work.clone(), op, term }).collect()
    }
}

fn deleted_sandbox(op: &Op) -> Option<&Key> {
    match op {
        Op::DeleteSandbox(target) => Some(&target.key),
        _ => None,
    }
}
