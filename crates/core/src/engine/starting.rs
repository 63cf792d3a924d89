//! Sessions that are being started come before everything else, and a few at a time.
//!
//! A start is two writes, one after the other. If a burst of sessions wrote side by side, the API server would be done with all of
//! them at the same time, which is when the last one is Ready. A few at a time, the oldest first, most are Ready long before, and
//! the last not later. A start that takes its time, because a runner does not answer, soon counts no more.
//!
//! What nobody waits for (new pool members boot for seconds, labels are for people) makes way meanwhile: for a moment
//! altogether, so that a burst has the API server for itself; then, in a stream of sessions that does not break off, one
//! member and one label at a time go on beside it. A server that is quick takes hundreds of those a second, one that has
//! more to do than it can takes few, and its time goes to the starts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use paddock_api::session::DesiredState;

use crate::engine::{Engine, Work};
use crate::ids::{Key, is_deleting};

/// Sessions that are started side by side: enough to keep a server busy that answers in milliseconds.
const SIDE_BY_SIDE: usize = 4;
/// For how long a start keeps others waiting. With a server that is far away, more are under way for it.
const TURN: SignedDuration = SignedDuration::from_millis(20);
/// For how long at a time everything else stands still. A stream of sessions that does not break off stops nothing for longer.
const YIELD_MAX: SignedDuration = SignedDuration::from_millis(500);
/// How many operations of pools, and as many of sandboxes, are under way beside a stream of sessions.
const BESIDE: usize = 1;

/// When a session was made, and its UID where two are equally old.
pub(super) type Age = (Timestamp, String);

/// What is under way, and what waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Starts {
    /// Sessions on their way to Ready with operations in flight, and since when.
    under_way: BTreeMap<Key, Timestamp>,
    /// Sessions whose turn has not come.
    queue: BTreeSet<(Age, Key)>,
    /// Since when there has always been one under way.
    since: Option<Timestamp>,
    /// There has been for so long that others go on beside them.
    is_stream: bool,
    /// What goes on once there is none.
    yielding: BTreeSet<Work>,
    /// What last went on beside them, of each kind: the next is the one after it, so that each has its turn.
    last: Vec<Work>,
}

impl Starts {
    /// How many more may begin.
    fn room(&self, now: Timestamp) -> usize {
        SIDE_BY_SIDE.saturating_sub(self.under_way.values().filter(|since| now < **since + TURN).count())
    }

    /// When there is something to decide although nothing happens before.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        let turn = || {
            let mut since: Vec<Timestamp> = self.under_way.values().copied().collect();
            since.sort_unstable_by(|a, b| b.cmp(a));
            since.get(SIDE_BY_SIDE - 1).map(|since| *since + TURN)
        };
        let turn = if self.queue.is_empty() { None } else { turn() };
        // Later than that, it is an operation's end that makes room.
        let way = self
            .since
            .filter(|_| !self.yielding.is_empty() && !self.is_stream)
            .map(|since| since + YIELD_MAX);
        turn.into_iter().chain(way).min()
    }

    /// The next one of its kind of those that make way.
    fn next_beside(&mut self, is_kind: fn(&Work) -> bool) -> Option<Work> {
        let last = self.last.iter().find(|last| is_kind(last));
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.yielding.range((after, Bound::Unbounded)).find(|work| is_kind(work));
        let next = next.or_else(|| self.yielding.iter().find(|work| is_kind(work)))?.clone();
        self.yielding.remove(&next);
        self.last.retain(|last| !is_kind(last));
        self.last.push(next.clone());
        Some(next)
    }
}

impl Engine {
    /// Whose turn it is now must be decided on. False when it is nobody's.
    pub(super) fn let_sessions_start(&mut self, now: Timestamp) -> bool {
        for _ in 0..self.starts.room(now) {
            let Some((_, session)) = self.starts.queue.pop_first() else { break };
            self.dirty.insert(Work::Session(session));
        }
        self.starts.is_stream |= self.starts.since.is_some_and(|since| now >= since + YIELD_MAX);
        for is_kind in [is_pool, is_sandbox] {
            if self.starts.is_stream && self.room_beside(is_kind) > 0 {
                self.dirty.extend(self.starts.next_beside(is_kind));
            }
        }
        !self.dirty.is_empty()
    }

    /// Whether `work` may be decided on now. If not, its turn comes.
    pub(super) fn has_turn(&mut self, work: &Work, now: Timestamp) -> bool {
        let Work::Session(key) = work else { return true };
        if !self.takes_turns(key) || self.starts.room(now) > 0 {
            return true;
        }
        let is_wanted = |session: &paddock_api::Session| {
            session.spec.state == DesiredState::Running && !is_deleting(&session.metadata)
        };
        if self.store.sessions.get(key).is_none_or(|session| !is_wanted(session)) {
            return true;
        }
        self.starts.queue.insert((self.age(work), key.clone()));
        false
    }

    /// Whether a session is on its way to Ready by what is done here. One whose pod clones and installs for minutes is not: it
    /// is only asked how far it is, and keeps nobody waiting.
    fn takes_turns(&self, session: &Key) -> bool {
        let equips = self.sessions.get(session).is_some_and(|memory| memory.progress.is_some());
        self.store.is_starting(session) && !equips
    }

    /// Operations of `work` are in flight.
    pub(super) fn note_start(&mut self, work: &Work, now: Timestamp) {
        if let Work::Session(key) = work
            && self.takes_turns(key)
        {
            self.starts.under_way.entry(key.clone()).or_insert(now);
            self.starts.since.get_or_insert(now);
        }
    }

    /// The last operation in flight of a session has come back.
    pub(super) fn note_stop(&mut self, session: &Key) {
        self.starts.under_way.remove(session);
        if self.starts.under_way.is_empty() {
            self.starts.since = None;
            self.starts.is_stream = false;
            self.starts.last.clear();
            self.dirty.append(&mut self.starts.yielding);
        }
    }

    /// How many operations that nobody waits for may begin for `work`.
    pub(super) fn beside_starts(&self, work: &Work) -> usize {
        match work {
            Work::Session(_) | Work::Agent(_) => usize::MAX,
            _ if self.starts.since.is_none() => usize::MAX,
            _ if !self.starts.is_stream => 0,
            Work::Pool(_) => self.room_beside(is_pool),
            Work::Sandbox(_) => self.room_beside(is_sandbox),
        }
    }

    /// How many more operations of one kind of work may begin beside a stream of starts.
    fn room_beside(&self, is_kind: fn(&Work) -> bool) -> usize {
        let counts = self.in_flight.counts.iter();
        BESIDE.saturating_sub(counts.filter(|(work, _)| is_kind(work)).map(|(_, count)| count).sum())
    }

    /// `work` has made way, and is decided on again afterwards.
    pub(super) fn note_yield(&mut self, work: &Work) {
        self.starts.yielding.insert(work.clone());
    }
}

fn is_pool(work: &Work) -> bool {
    matches!(work, Work::Pool(_))
}

fn is_sandbox(work: &Work) -> bool {
    matches!(work, Work::Sandbox(_))
}
