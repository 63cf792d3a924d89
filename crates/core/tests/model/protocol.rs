//! What controllers, API server and runners do with a [`World`], as design.md ("Warm create, the hot path") and
//! `src/session/creating.rs` have it. Each rule can be left out, to see that the search notices.
//!
//! Left out on purpose: cold starts (a session without a sandbox waits), pods that die, sessions that end.

use crate::claim::{MOST, Row, World, base, link, session};
use crate::search::{Model, Step};

/// One rule of the protocol, to be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The assignment carries the resourceVersion it was decided on.
    Precondition,
    /// A runner serves the first session that asks, and no other.
    RunnerLock,
    /// Ready is written once the sandbox is assigned and the runner has confirmed.
    BothBeforeReady,
    /// A new leader asks the API server for what earlier ones assigned.
    AskAfterTakeover,
    /// A 409 or 404 only proves that the view is stale.
    LookAfterConflict,
    /// An assignment whose answer was lost may have been made: the API server is asked, as after a takeover.
    AskAfterLoss,
    /// The status carries the resourceVersion it was decided on.
    StatusPrecondition,
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Controllers, all of which believe to lead.
    pub controllers: usize,
    /// Sessions.
    pub sessions: usize,
    /// Sandboxes, all in the pool and ready.
    pub sandboxes: usize,
    /// Crashes; [`ANY`] for as many as there may be.
    pub crashes: u8,
    /// Lost requests and answers.
    pub losses: u8,
    /// See [`Requests`].
    pub requests: Requests,
}

/// How long requests are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// Any time: what is under way is part of the state.
    Slow,
    /// No time: a decision and what comes of one of its requests are one step. As a view may be as old as it
    /// likes, a request that arrives late is one that is decided on late, on an old view; so nothing that
    /// can go wrong gets lost, and far larger searches are possible.
    Instant,
}

/// No limit.
pub const ANY: u8 = u8::MAX;

/// The protocol.
pub struct Protocol {
    size: Size,
    without: &'static [Rule],
    orders: Vec<[usize; MOST]>,
}

/// What happens, to whom: controller, session, sandbox.
pub type Label = (&'static str, usize, usize, usize);

impl Protocol {
    /// The protocol, but for the rules that are left out.
    pub fn new(size: Size, without: &'static [Rule]) -> Self {
        const ORDERS: [[usize; MOST]; 6] = [[0, 1, 2], [1, 0, 2], [2, 0, 1], [2, 1, 0], [0, 2, 1], [1, 2, 0]];
        let keeps = |order: &&[usize; MOST]| (size.sessions..MOST).all(|s| order[s] == s);
        Self { size, without, orders: ORDERS.iter().filter(keeps).copied().collect() }
    }

    fn holds(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }
}

const S1: &str = "S1: a pod serves two sessions";
const S2: &str = "S2: a session is Ready on two pods";
const NOT_CONFIRMED: &str = "a Ready session's pod is not assigned to it, not confirmed, or gone";
const S4: &str = "S4: a session's sandbox is deleted by the rules of another";
const ABANDONED: &str = "a committed assignment is abandoned while its pod lives";
const LEFT: &str = "at rest a session waits although a sandbox is free or assigned to it";
const EXTRA: &str = "at rest a Ready session has another sandbox as well";

impl Model for Protocol {
    type State = World;
    type Label = Label;

    fn initial(&self) -> World {
        let mut world = World {
            rows: [Row { base: 0, links: [0; MOST] }; MOST],
            sessions: [0; MOST],
            crashes: self.size.crashes,
            losses: self.size.losses,
        };
        for (b, row) in world.rows.iter_mut().enumerate() {
            if b < self.size.sandboxes {
                row.base = base::ALIVE as u16;
            } else {
                row.base = base::ABSENT as u16;
                (0..self.size.controllers).for_each(|c| row.see_gone(c));
            }
        }
        for c in 0..self.size.controllers {
            (0..self.size.sessions).for_each(|s| world.set(c, s, session::ASKED));
        }
        world
    }

    fn canonical(&self, world: &World) -> World {
        world.canonical(&self.orders, self.size.controllers)
    }

    fn broken(&self, world: &World) -> Option<&'static str> {
        if world.rows.iter().any(|row| row.served() > 1) {
            return Some(S1);
        }
        for s in 0..self.size.sessions {
            let routed = world.rows.iter().filter(|row| row.links[s] & link::ROUTED != 0);
            if routed.clone().count() > 1 {
                return Some(S2);
            }
            let both = link::OWNER | link::SERVES;
            if !routed.into_iter().all(|row| row.is_alive() && row.links[s] & both == both) {
                return Some(NOT_CONFIRMED);
            }
        }
        None
    }

    fn broken_at_rest(&self, world: &World) -> Option<&'static str> {
        for s in 0..self.size.sessions {
            let alive = || world.rows.iter().filter(|row| row.is_alive());
            let mine = alive().filter(|row| row.owner() == Some(s)).count();
            let free = alive().filter(|row| row.owner().is_none() && !row.serves_other(s)).count();
            if world.is_ready(s) && mine != 1 {
                return Some(EXTRA);
            }
            if !world.is_ready(s) && mine + free > 0 {
                return Some(LEFT);
            }
        }
        None
    }

    fn steps(&self, world: &World, out: &mut Vec<Step<World, Label>>) {
        for c in 0..self.size.controllers {
            for s in 0..self.size.sessions {
                if world.is_busy(c, s) {
                    for b in 0..self.size.sandboxes {
                        self.perform(world, c, s, b, out);
                    }
                } else if self.size.requests == Requests::Slow {
                    self.decide(world, c, s, out);
                } else {
                    self.decide_and_perform(world, c, s, out);
                }
                if world.is_ready(s) && !world.has(c, s, session::SEEN_READY) {
                    let mut to = *world;
                    to.set(c, s, session::SEEN_READY);
                    out.push(calm(("sees Ready", c, s, MOST), to));
                }
            }
            for b in 0..self.size.sandboxes {
                let mut to = *world;
                if to.rows[b].deliver(c) {
                    out.push(calm(("sees the sandbox", c, MOST, b), to));
                }
            }
            if world.crashes > 0 {
                let mut to = *world;
                to.crashes -= u8::from(world.crashes != ANY);
                to.rows.iter_mut().take(self.size.sandboxes).for_each(|row| row.crash(c));
                for s in 0..self.size.sessions {
                    to.clear(c, s, (1 << session::WIDTH) - 1);
                    if !self.holds(Rule::AskAfterTakeover) {
                        to.set(c, s, session::ASKED);
                    }
                }
                if to != *world {
                    let label = ("crashes", c, MOST, MOST);
                    out.push(Step { label, to, fault: true, broken: None });
                }
            }
        }
        for step in out {
            step.to.rows.iter_mut().for_each(|row| row.forget_what_is_over(self.size.controllers));
        }
    }
}

fn calm(label: Label, to: World) -> Step<World, Label> {
    Step { label, to, fault: false, broken: None }
}

/// What a controller decides.
impl Protocol {
    fn decide_and_perform(&self, world: &World, c: usize, s: usize, out: &mut Vec<Step<World, Label>>) {
        let mut decided = Vec::new();
        self.decide(world, c, s, &mut decided);
        for decision in decided {
            if !decision.to.is_busy(c, s) {
                out.push(decision);
                continue;
            }
            let first = out.len();
            for b in 0..self.size.sandboxes {
                self.perform(&decision.to, c, s, b, out);
            }
            for step in &mut out[first..] {
                let all = link::UNDER_WAY | 3 << link::DELETE_VERSION;
                step.to.rows.iter_mut().for_each(|row| row.clear(c, s, all));
            }
            // Nothing learnt is nothing happened.
            out.retain(|step| step.to != *world);
        }
    }

    fn decide(&self, world: &World, c: usize, s: usize, out: &mut Vec<Step<World, Label>>) {
        if world.has(c, s, session::SEEN_READY) {
            self.watch_over(world, c, s, out);
        } else if !world.has(c, s, session::ASKED) {
            let mut to = *world;
            to.set(c, s, session::ASKED);
            let mine = |row: &&mut Row| row.owner() == Some(s) && row.is_alive();
            to.rows.iter_mut().filter(mine).for_each(|row| row.see(c));
            out.push(calm(("asks for assignments", c, s, MOST), to));
        } else {
            let bound: Vec<usize> = (0..MOST).filter(|b| world.rows[*b].has(c, s, link::SEEN)).collect();
            let confirmed = bound.iter().copied().find(|b| world.rows[*b].has(c, s, link::CONFIRMED));
            match (confirmed, bound.is_empty()) {
                (Some(b), _) => self.with_sandbox(world, c, s, b, out),
                (None, false) => bound.into_iter().for_each(|b| self.with_sandbox(world, c, s, b, out)),
                (None, true) => self.without_sandbox(world, c, s, out),
            }
        }
    }

    /// Ready: the sandbox in the status won, all others that are assigned go.
    fn watch_over(&self, world: &World, c: usize, s: usize, out: &mut Vec<Step<World, Label>>) {
        let mut to = *world;
        let mut any = false;
        for row in &mut to.rows {
            row.clear(c, s, link::RESERVED);
            if row.has(c, s, link::SEEN) && row.links[s] & link::ROUTED == 0 {
                delete(row, c, s);
                any = true;
            }
        }
        if any {
            out.push(calm(("deletes what is too many", c, s, MOST), to));
        }
    }

    fn with_sandbox(&self, world: &World, c: usize, s: usize, b: usize, out: &mut Vec<Step<World, Label>>) {
        let mut to = *world;
        to.rows.iter_mut().for_each(|row| row.clear(c, s, link::RESERVED));
        let row = &mut to.rows[b];
        let what = if row.has(c, s, link::CONFIRMED) || !self.holds(Rule::BothBeforeReady) {
            row.set(c, s, link::STATUS);
            "writes Ready"
        } else if row.has(c, s, link::REFUSED) {
            delete(row, c, s);
            "discards a spoilt sandbox"
        } else {
            row.set(c, s, link::ACTIVATE);
            "activates again"
        };
        out.push(calm((what, c, s, b), to));
    }

    fn without_sandbox(&self, world: &World, c: usize, s: usize, out: &mut Vec<Step<World, Label>>) {
        let may_take = |b: &usize| {
            let row = &world.rows[*b];
            let seen = (0..MOST).any(|other| row.has(c, other, link::SEEN));
            let held = (0..MOST).any(|other| other != s && row.has(c, other, link::RESERVED));
            !row.seen_gone(c) && !seen && !held && !row.has(c, s, link::REFUSED)
        };
        let reserved = (0..MOST).find(|b| world.rows[*b].has(c, s, link::RESERVED));
        if let Some(b) = reserved.filter(may_take) {
            self.adopt(*world, c, s, b, out);
            return;
        }
        let mut fresh = *world;
        if reserved.is_some() {
            fresh.rows.iter_mut().for_each(|row| row.clear(c, s, link::RESERVED | link::CONFIRMED));
        }
        let mut any = false;
        for b in (0..MOST).filter(may_take) {
            self.adopt(fresh, c, s, b, out);
            any = true;
        }
        if !any && fresh != *world {
            out.push(calm(("lets a sandbox go", c, s, MOST), fresh));
        }
    }

    /// The assignment and the activation, side by side.
    fn adopt(&self, mut to: World, c: usize, s: usize, b: usize, out: &mut Vec<Step<World, Label>>) {
        let row = &mut to.rows[b];
        row.set(c, s, link::RESERVED | link::PATCH);
        if !row.has(c, s, link::CONFIRMED) {
            row.set(c, s, link::ACTIVATE);
        }
        out.push(calm(("adopts", c, s, b), to));
    }
}

fn delete(row: &mut Row, c: usize, s: usize) {
    let version = row.seen_version(c);
    row.set(c, s, link::DELETE | version << link::DELETE_VERSION);
}

/// What becomes of what is under way.
impl Protocol {
    fn perform(&self, world: &World, c: usize, s: usize, b: usize, out: &mut Vec<Step<World, Label>>) {
        let row = &world.rows[b];
        if row.has(c, s, link::PATCH) {
            self.patch(world, c, s, b, out);
        }
        if row.has(c, s, link::ACTIVATE) {
            self.activate(world, c, s, b, out);
        }
        if row.has(c, s, link::DELETE) {
            self.remove(world, c, s, b, out);
        }
        if row.has(c, s, link::STATUS) {
            self.write_ready(world, c, s, b, out);
        }
    }

    /// `before` has the request done with and nothing learnt: that is what is left when the request is lost;
    /// `done` has its effect too: that is what is left when the answer is.
    fn lose(
        &self,
        label: Label,
        before: World,
        done: Option<World>,
        broken: Option<&'static str>,
        out: &mut Vec<Step<World, Label>>,
    ) {
        if before.losses == 0 {
            return;
        }
        let mut push = |mut to: World, broken| {
            to.losses -= u8::from(to.losses != ANY);
            out.push(Step { label, to, fault: true, broken });
        };
        push(before, None);
        if let Some(done) = done {
            push(done, broken);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "passed on as they are")]
    fn lose_assignment(
        &self,
        c: usize,
        s: usize,
        b: usize,
        mut before: World,
        mut done: Option<World>,
        broken: Option<&'static str>,
        out: &mut Vec<Step<World, Label>>,
    ) {
        if self.holds(Rule::AskAfterLoss) {
            before.clear(c, s, session::ASKED);
            done.iter_mut().for_each(|done| done.clear(c, s, session::ASKED));
        }
        self.lose(("loses the assignment's answer", c, s, b), before, done, broken, out);
    }

    fn patch(&self, world: &World, c: usize, s: usize, b: usize, out: &mut Vec<Step<World, Label>>) {
        let mut before = *world;
        before.rows[b].clear(c, s, link::PATCH);
        let row = &world.rows[b];
        let fits = row.version() == 0 || !self.holds(Rule::Precondition);
        if row.is_alive() && fits {
            let abandoned = world.rows.iter().enumerate().any(|(other, row)| {
                other != b && row.has(c, s, link::KNOWN) && row.is_alive() && !row.serves_other(s)
            });
            let broken = abandoned.then_some(ABANDONED);
            let mut done = before;
            let row = &mut done.rows[b];
            for other in 0..MOST {
                row.links[other] &= !link::OWNER;
                (0..2).for_each(|c| row.clear(c, other, link::KNOWN));
            }
            row.links[s] |= link::OWNER;
            row.set(c, s, link::KNOWN);
            row.bump();
            self.lose_assignment(c, s, b, before, Some(done), broken, out);
            done.rows[b].see(c);
            out.push(Step { label: ("assigns", c, s, b), to: done, fault: false, broken });
            return;
        }
        self.lose_assignment(c, s, b, before, None, None, out);
        if self.holds(Rule::LookAfterConflict) {
            before.rows[b].see(c);
        } else {
            before.rows[b].see_gone(c);
        }
        out.push(calm(("fails to assign", c, s, b), before));
    }

    fn activate(&self, world: &World, c: usize, s: usize, b: usize, out: &mut Vec<Step<World, Label>>) {
        let mut before = *world;
        before.rows[b].clear(c, s, link::ACTIVATE);
        let row = &world.rows[b];
        if !row.is_alive() {
            out.push(calm(("reaches no runner", c, s, b), before));
            return;
        }
        let accepts = !row.serves_other(s) || !self.holds(Rule::RunnerLock);
        let mut done = before;
        if accepts {
            done.rows[b].links[s] |= link::SERVES;
        }
        self.lose(("loses the activation's answer", c, s, b), before, accepts.then_some(done), None, out);
        // What is remembered is the latest answer only.
        let (bit, what) =
            if accepts { (link::CONFIRMED, "activates") } else { (link::REFUSED, "is refused") };
        done.rows.iter_mut().for_each(|row| row.clear(c, s, bit));
        if !done.rows[b].seen_gone(c) {
            done.rows[b].set(c, s, bit);
        }
        out.push(calm((what, c, s, b), done));
    }

    fn remove(&self, world: &World, c: usize, s: usize, b: usize, out: &mut Vec<Step<World, Label>>) {
        let row = &world.rows[b];
        let asked = row.links[s] >> (link::FIRST + link::WIDTH * c as u32 + link::DELETE_VERSION) & 3;
        let mut before = *world;
        before.rows[b].clear(c, s, link::DELETE | 3 << link::DELETE_VERSION);
        if row.is_alive() && row.version() != asked {
            before.rows[b].see(c);
            out.push(calm(("fails to delete", c, s, b), before));
            return;
        }
        let mut done = before;
        done.rows[b].base &= !(base::ALIVE as u16);
        let broken = match row.owner() {
            Some(owner) if row.is_alive() && owner != s => Some(S4),
            // Ready elsewhere: a rival's assignment won.
            Some(_) if row.is_alive() && !row.serves_other(s) && !world.is_ready(s) => Some(ABANDONED),
            _ => None,
        };
        self.lose(("loses the deletion's answer", c, s, b), before, Some(done), broken, out);
        done.rows[b].see_gone(c);
        out.push(Step { label: ("deletes", c, s, b), to: done, fault: false, broken });
    }

    fn write_ready(&self, world: &World, c: usize, s: usize, b: usize, out: &mut Vec<Step<World, Label>>) {
        let mut before = *world;
        before.rows[b].clear(c, s, link::STATUS);
        let label = ("loses the status's answer", c, s, b);
        if world.is_ready(s) && self.holds(Rule::StatusPrecondition) {
            self.lose(label, before, None, None, out);
            before.set(c, s, session::SEEN_READY);
            out.push(calm(("fails to write Ready", c, s, b), before));
            return;
        }
        let mut done = before;
        done.rows.iter_mut().for_each(|row| row.links[s] &= !link::ROUTED);
        done.rows[b].links[s] |= link::ROUTED;
        done.sessions[s] |= session::READY as u16;
        self.lose(label, before, Some(done), None, out);
        done.set(c, s, session::SEEN_READY);
        out.push(calm(("makes it Ready", c, s, b), done));
    }
}
