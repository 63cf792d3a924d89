//! What pools need to know beside their own objects: which of their members are being made, who asks for
//! members, and how much the other pools have under way.

use std::collections::BTreeMap;

use jiff::Timestamp;
use paddock_api::{Sandbox, SandboxWarmPool};

use crate::catalog;
use crate::engine::{Engine, Notice, Work};
use crate::ids::{Key, controller_uid, uid};
use crate::op::{Op, Target};
use crate::pool;
use crate::store::Stored;

/// Members of all pools that may be under way at once. The client has 64 requests in flight at most; the rest is
/// for sessions.
const UNDER_WAY_MAX: usize = 48;

/// How many members of `pool` may be under way at once, as far as the others leave room.
pub(super) fn room(pools: &BTreeMap<Key, pool::Memory>, pool: &Key) -> usize {
    let others = pools.iter().filter(|(key, _)| *key != pool).map(|(_, memory)| memory.refill.under_way());
    UNDER_WAY_MAX.saturating_sub(others.sum())
}

impl Engine {
    /// True while an operation in flight forbids a decision on `work`.
    pub(super) fn is_held_up(&self, work: &Work) -> bool {
        let in_flight = self.in_flight.counts.get(work).copied().unwrap_or(0);
        let known = match work {
            Work::Pool(key) => self.pools.get(key).map_or(0, |memory| memory.refill.creating()),
            _ => 0,
        };
        in_flight > known
    }

    /// What a decision means for pools.
    pub(super) fn follow_up(&mut self, work: &Work, ops: &[Op], now: Timestamp) {
        match work {
            Work::Session(key) => {
                let cold = ops.iter().any(|op| matches!(op, Op::CreateSandbox(_)));
                let adopts = ops.iter().any(|op| matches!(op, Op::PatchSandbox(_)));
                if cold || adopts {
                    self.note_claim(key, now);
                }
            }
            Work::Pool(key) => self.pool_decided(key),
            Work::Sandbox(_) | Work::Agent(_) => {}
        }
    }

    fn note_claim(&mut self, session: &Key, now: Timestamp) {
        let Some(session) = self.store.sessions.get(session) else { return };
        let Some(pool) = catalog::pool(&self.store, session).filter(|pool| pool::follows_demand(pool)) else {
            return;
        };
        let key = Stored::key(pool);
        let memory = self.pools.entry(key.clone()).or_default();
        if memory.demand.note(uid(&session.metadata), now) {
            self.dirty.insert(Work::Pool(key));
        }
    }

    fn pool_decided(&mut self, key: &Key) {
        let Some(memory) = self.pools.get_mut(key) else { return };
        let news = std::mem::take(&mut memory.news);
        if let Some(pool) = self.store.pools.get(key) {
            let about =
                |message| Notice { pool: Target::of(&pool.metadata), reason: "InvalidAnnotation", message };
            self.notices.extend(news.into_iter().map(about));
        }
        if memory.refill.starved() {
            self.starved.insert(key.clone());
        } else {
            self.starved.remove(key);
        }
    }

    /// A member of a pool is made, or could not be: others may have room now.
    pub(super) fn member_answered(&mut self, pool: &Key, sandbox: &Sandbox, made: bool) {
        let Some(memory) = self.pools.get_mut(pool) else { return };
        memory.refill.answered(sandbox, made);
        if !made {
            memory.refill.failed();
        }
    }

    /// The pod of `sandbox` is made, or could not be. If it is a pool's, the pool makes more at once, or fewer.
    pub(super) fn pod_answered(&mut self, sandbox: &Key, made: bool) {
        let Some(pool) = self.store.sandboxes.get(sandbox).and_then(|s| self.pool_of(s)).map(Stored::key)
        else {
            return;
        };
        let memory = self.pools.entry(pool).or_default();
        if made {
            memory.refill.succeeded();
            let starved = std::mem::take(&mut self.starved);
            self.dirty.extend(starved.into_iter().map(Work::Pool));
        } else {
            memory.refill.failed();
        }
    }

    /// The pool that owns `sandbox`.
    pub(super) fn pool_of(&self, sandbox: &Sandbox) -> Option<&SandboxWarmPool> {
        let owner = controller_uid(&sandbox.metadata)?;
        let namespace = sandbox.metadata.namespace.as_deref().unwrap_or_default();
        self.store.pools_in(namespace).find(|pool| pool.uid() == owner)
    }
}
