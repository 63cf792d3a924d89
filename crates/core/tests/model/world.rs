//! Two real engines on one simulated cluster, and everything that can happen to them next.
//!
//! Time stands still while anything can happen without it. What pools, agents and sandboxes want for themselves is
//! done the moment it is decided; only the sessions' operations are slow, get lost, or are answered late.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::SignedDuration;
use paddock_api::session::Phase;
use paddock_core::engine::Work;
use paddock_core::ids::{controller_uid, uid};
use paddock_core::op::{Op, Outcome, RunnerFailure, WriteFailure};
use paddock_core::pod::PodPhase;
use paddock_core::store::Stored;
use paddock_core::{Change, Command, Engine};

use crate::cluster::{BOOT, Cluster, Event};
use crate::story::{Story, runner, session};

/// A controller process.
#[derive(Clone)]
struct Process {
    engine: Engine,
    seen: usize,
    under_way: Vec<Command>,
    answers: Vec<(Command, Outcome)>,
}

/// One state.
#[derive(Clone)]
pub struct World {
    cluster: Cluster,
    processes: Vec<Process>,
    /// Where a process begins that knows nothing: with lists of long ago.
    beginner: Process,
    /// Crashes and lost answers that may still happen.
    faults: u8,
    names: Names,
    /// Events up to here have given theirs.
    named: usize,
    /// How it came about.
    pub trail: Vec<String>,
}

impl World {
    /// Engines that lead, all of them, sessions that nobody has looked at, and a pool that is full.
    pub fn new(engines: usize, sessions: usize, pool: i32, faults: u8) -> Self {
        let mut cluster = Story::with_pool(pool).cluster;
        cluster.rivals = true;
        for n in 0..sessions {
            cluster.add_session(session(&format!("s{n}")));
        }
        let mut engine = Engine::new(runner());
        for list in cluster.lists() {
            list.feed(&mut engine, cluster.now);
        }
        let seen = cluster.events.len();
        let mut beginner = Process { engine, seen, under_way: Vec::new(), answers: Vec::new() };
        let mut first = beginner.clone();
        first.engine.set_leading(true, cluster.now);
        // A successor's term begins after the sessions were made, so it has to ask what became of them.
        beginner.engine.set_leading(true, cluster.now + SignedDuration::from_nanos(1));
        let mut world = Self {
            cluster,
            processes: vec![first; engines],
            beginner,
            faults,
            names: Names::default(),
            named: 0,
            trail: Vec::new(),
        };
        world.go_on();
        world
    }

    /// All that can happen next.
    pub fn next(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |what: String, change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            world.trail.push(what);
            world.go_on();
            world.check();
            all.push(world);
        };
        for (p, process) in self.processes.iter().enumerate() {
            if process.seen < self.cluster.events.len() {
                add(format!("{p} sees {}", name(&self.cluster.events[process.seen])), &|w| w.deliver(p));
            }
            for (n, command) in process.under_way.iter().enumerate() {
                let what = format!("{p} {:?} {}", command.work, op_name(&command.op));
                add(format!("{what} is done"), &|w| {
                    let command = w.processes[p].under_way.remove(n);
                    let outcome = w.cluster.perform(&command.op);
                    w.processes[p].answers.push((command, outcome));
                });
                if self.faults > 0 {
                    for done in [true, false] {
                        let how = if done { "answer" } else { "request" };
                        add(format!("{what}: the {how} is lost"), &|w| w.lose(p, n, done));
                    }
                }
            }
            for n in 0..process.answers.len() {
                add(format!("{p} is answered ({})", op_name(&process.answers[n].0.op)), &|w| {
                    let (command, outcome) = w.processes[p].answers.remove(n);
                    w.answer(p, command, outcome);
                });
            }
            if self.faults > 0 {
                add(format!("{p} crashes"), &|w| {
                    w.faults -= 1;
                    w.processes[p] = w.beginner.clone();
                });
            }
        }
        let quiet = self
            .processes
            .iter()
            .all(|p| p.seen == self.cluster.events.len() && p.under_way.is_empty() && p.answers.is_empty());
        if quiet && !self.is_settled() {
            add("time passes".into(), &|w| w.cluster.now = w.next_moment());
        } else if quiet {
            self.check_at_rest();
        }
        all
    }

    fn deliver(&mut self, p: usize) {
        let process = &mut self.processes[p];
        self.cluster.events[process.seen].clone().feed(&mut process.engine, self.cluster.now);
        process.seen += 1;
    }

    fn lose(&mut self, p: usize, n: usize, done: bool) {
        self.faults -= 1;
        let command = self.processes[p].under_way.remove(n);
        if done {
            let _ = self.cluster.perform(&command.op);
        }
        let outcome = match command.op {
            Op::Activate(_) => Outcome::Refused(RunnerFailure::Unavailable("timeout".into())),
            _ => Outcome::Failed(WriteFailure::Unavailable("timeout".into())),
        };
        self.answer(p, command, outcome);
    }

    fn answer(&mut self, p: usize, command: Command, outcome: Outcome) {
        let process = &mut self.processes[p];
        let more = process.engine.complete(command, outcome, self.cluster.now);
        process.under_way.extend(more);
    }

    /// Everything that is not left to chance.
    fn go_on(&mut self) {
        for p in 0..self.processes.len() {
            loop {
                let process = &mut self.processes[p];
                process.under_way.extend(process.engine.next(self.cluster.now));
                let chore = process.under_way.iter().position(|c| !matches!(c.work, Work::Session(_)));
                let Some(at) = chore else { break };
                let command = process.under_way.remove(at);
                let outcome = self.cluster.perform(&command.op);
                self.answer(p, command, outcome);
            }
            // Their order means nothing.
            self.processes[p].under_way.sort_by_cached_key(|command| format!("{command:?}"));
            self.processes[p].answers.sort_by_cached_key(|answer| format!("{answer:?}"));
        }
        self.cluster.live();
        self.names.learn(&self.cluster.events[self.named..]);
        // What everybody has seen is of no use any more.
        let seen = self.processes.iter().map(|p| p.seen);
        let cut = seen.chain((self.faults > 0).then_some(self.beginner.seen)).min().unwrap_or_default();
        self.cluster.events.drain(..cut);
        self.named = self.cluster.events.len();
        for process in self.processes.iter_mut().chain([&mut self.beginner]) {
            process.seen = process.seen.saturating_sub(cut);
        }
    }

    fn is_settled(&self) -> bool {
        self.cluster.sessions.values().all(|s| s.status.as_ref().is_some_and(|s| s.phase != Phase::Creating))
    }

    /// When somebody wakes up or a pod becomes ready.
    fn next_moment(&self) -> jiff::Timestamp {
        let wakes = self.processes.iter().filter_map(|p| p.engine.next_wake());
        let booted = self.cluster.pods.values().filter(|p| p.phase == PodPhase::Pending);
        let booted = booted.filter_map(|p| p.created.map(|at| at + BOOT));
        let next = wakes.chain(booted).filter(|at| *at > self.cluster.now).min();
        next.unwrap_or_else(|| panic!("nobody wakes up any more: {:#?}", self.trail))
    }

    /// Holds in every state.
    fn check(&self) {
        // Each engine may have made a spare pod for each session.
        let surge = 2 + 2 * self.cluster.sessions.len();
        let safe = std::panic::AssertUnwindSafe(|| self.cluster.check_safety(surge));
        if let Err(panic) = std::panic::catch_unwind(safe) {
            println!("{:#?}", self.trail);
            std::panic::resume_unwind(panic);
        }
        if self.processes.len() == 1 {
            // Nobody else assigns, so a second sandbox means that the first was forgotten.
            for session in self.cluster.sessions.values() {
                assert!(self.assigned(session) <= 1, "an assignment was abandoned: {:#?}", self.trail);
            }
        }
        for session in self.cluster.sessions.values() {
            let Some(status) = session.status.as_ref().filter(|s| s.phase != Phase::Creating) else {
                continue;
            };
            let all = format!("{:?}: {} {:#?}", status.phase, status.message, self.trail);
            assert_eq!(status.phase, Phase::Ready, "a session ended: {all}");
            let pod = status.pod.as_ref().unwrap();
            let found = self.cluster.pods.values().any(|p| p.uid == pod.uid && !p.deleting);
            assert!(found, "the pod of a Ready session is gone: {all}");
            let sandbox =
                self.cluster.sandboxes.values().find(|s| s.metadata.name.as_ref() == Some(&pod.name));
            let owner = sandbox.and_then(|s| controller_uid(&s.metadata));
            assert_eq!(
                owner,
                Some(uid(&session.metadata)),
                "a Ready session's sandbox is not its own: {all}"
            );
        }
    }

    /// Holds once nothing is left to do: every session has one sandbox, and the pool is full again.
    fn check_at_rest(&self) {
        for session in self.cluster.sessions.values() {
            assert_eq!(self.assigned(session), 1, "sandboxes of a session at rest: {:#?}", self.trail);
        }
    }

    fn assigned(&self, session: &paddock_api::Session) -> usize {
        let owner = Some(uid(&session.metadata));
        self.cluster.sandboxes.values().filter(|s| controller_uid(&s.metadata) == owner).count()
    }

    /// The same for all states that only differ in how they came about.
    pub fn fingerprint(&self) -> u128 {
        let c = &self.cluster;
        let mut text = String::new();
        write!(text, "{:?} {} {:?}", c.now, self.faults, c.runners).unwrap();
        versions(&mut text, c.sessions.values());
        versions(&mut text, c.pools.values());
        versions(&mut text, c.agents.values());
        versions(&mut text, c.sandboxes.values());
        versions(&mut text, c.pods.values());
        let text = self.names.plain(&text);
        let mut processes: Vec<String> = self.processes.iter().map(|p| self.told(p)).collect();
        // Which of the processes is which means nothing.
        processes.sort_unstable();
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &text, &processes).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }

    fn told(&self, p: &Process) -> String {
        let mut text = String::new();
        let store = p.engine.store();
        versions(&mut text, store.sessions.iter());
        versions(&mut text, store.pools.iter());
        versions(&mut text, store.agents.iter());
        versions(&mut text, store.sandboxes.iter());
        versions(&mut text, store.pods.iter());
        for event in &self.cluster.events[p.seen..] {
            let (name, uid, version) = identity(event);
            write!(text, "{name} {uid} version:{version};").unwrap();
        }
        write!(text, "{:?} {:?} {:?}", p.engine.memory(), p.under_way, p.answers).unwrap();
        self.names.plain(&text)
    }
}

/// One version of an object has one content, but for a note that it is on its way out.
fn versions<'a, K: Stored + Clone + PartialEq + 'a>(text: &mut String, objects: impl Iterator<Item = &'a K>) {
    for object in objects {
        let mut marked = object.clone();
        marked.mark_deleting();
        let (uid, version, leaves) = (object.uid(), object.resource_version(), marked == *object);
        write!(text, "{uid} version:{version} {leaves};").unwrap();
    }
    text.push('|');
}

/// UIDs and versions are handed out in the order of events, which differs where nothing else does. Told by object
/// and count they do not.
#[derive(Clone, Default)]
struct Names {
    names: BTreeMap<String, String>,
    lives: BTreeMap<String, usize>,
    writes: BTreeMap<String, usize>,
}

impl Names {
    fn learn(&mut self, events: &[Event]) {
        for event in events {
            let (name, uid, version) = identity(event);
            if !self.names.contains_key(&uid) {
                let life = self.lives.entry(name.clone()).or_default();
                *life += 1;
                self.names.insert(uid.clone(), format!("{name}#{life}"));
            }
            if !self.names.contains_key(&version) {
                let count = self.writes.entry(uid).or_default();
                *count += 1;
                self.names.insert(version, format!("v{count}"));
            }
        }
    }

    /// `text` with these names for UIDs and versions.
    fn plain(&self, text: &str) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(at);
            let digits = from.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = from.split_at(digits);
            let version = ["version:", "version: \"", "version: Some(\""].iter().any(|m| before.ends_with(m));
            if let Some(before) = before.strip_suffix("uid-") {
                result.push_str(before);
                let old = format!("uid-{number}");
                result.push_str(self.names.get(&old).unwrap_or(&old));
            } else {
                result.push_str(before);
                let name = self.names.get(number).filter(|_| version);
                result.push_str(name.map_or(number, String::as_str));
            }
            rest = after;
        }
        result.push_str(rest);
        result
    }
}

/// Name, UID and version of an event's object.
fn identity(event: &Event) -> (String, String, String) {
    fn of<K: Stored>(kind: &str, change: &Change<K>) -> (String, String, String) {
        match change {
            Change::Applied(o) | Change::Deleted(o) => {
                (format!("{kind}:{}", o.key()), o.uid().to_owned(), o.resource_version().to_owned())
            }
            Change::Synced(_) => unreachable!("lists are no events of the cluster"),
        }
    }
    match event {
        Event::Session(change) => of("session", change),
        Event::Agent(change) => of("agent", change),
        Event::Template(change) => of("template", change),
        Event::Pool(change) => of("pool", change),
        Event::Sandbox(change) => of("sandbox", change),
        Event::Pod(change) => of("pod", change),
        Event::VolumeClaim(change) => of("claim", change),
        Event::Node(change) => of("node", change),
    }
}

fn name(event: &Event) -> String {
    identity(event).0
}

fn op_name(op: &Op) -> String {
    let text = format!("{op:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}
