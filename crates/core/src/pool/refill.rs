//! Making members: how many at once, and under which names.
//!
//! Like a ReplicaSet, a pool starts slowly: one member first, and with each that succeeds one more may be
//! under way, up to a limit; after a failure it is one again. A quota that is full costs one refused request
//! at a time, not one per missing member. Unlike a ReplicaSet's, the rounds do not wait for each other: members under
//! way are known by name and counted, so that the next ones may follow at once.

use std::collections::{BTreeMap, BTreeSet};

use paddock_api::{Sandbox, SandboxTemplate, SandboxWarmPool, labels};

use crate::build;
use crate::ids::{Key, annotation, derived_name, uid};
use crate::op::Op;
use crate::session::Context;

/// Members of one pool that may be under way at once. More does not fill a pool faster: the API server
/// answers in milliseconds, and nodes boot pods in seconds.
const WINDOW_MAX: usize = 16;

/// What is remembered of making members.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// The first ordinal that was never tried, once it was worked out.
    next: Option<u64>,
    /// Ordinals and names of creates in flight.
    creating: BTreeMap<u64, Key>,
    /// Ordinals whose create failed, or of which nobody knows. They are tried again under the same name, so
    /// that a lost answer never makes a second member.
    again: BTreeSet<u64>,
    /// How many members may be under way at once.
    window: usize,
    /// How many were when last decided: creates in flight, and members whose pod is not there yet.
    under_way: usize,
    /// More would have been made if other pools had left room.
    starved: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            next: None,
            creating: BTreeMap::new(),
            again: BTreeSet::new(),
            window: 1,
            under_way: 0,
            starved: false,
        }
    }
}

impl Memory {
    /// Creates in flight.
    pub(crate) fn creating(&self) -> usize {
        self.creating.len()
    }

    /// Creates in flight of members that no watch has shown yet; others are counted as members already.
    pub(super) fn unseen(&self, ctx: Context<'_>) -> usize {
        self.creating.values().filter(|key| ctx.store.sandboxes.get(key).is_none()).count()
    }

    /// Members under way when last decided.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// True when only other pools stood in the way.
    pub(crate) fn starved(&self) -> bool {
        self.starved
    }

    /// The create of `sandbox` has come back.
    pub(crate) fn answered(&mut self, sandbox: &Sandbox, made: bool) {
        let Some(ordinal) = ordinal(sandbox) else { return };
        self.creating.remove(&ordinal);
        if !made {
            self.again.insert(ordinal);
        }
    }

    /// A member has got its pod.
    pub(crate) fn succeeded(&mut self) {
        self.window = (self.window + 1).min(WINDOW_MAX);
    }

    /// A member or its pod could not be made.
    pub(crate) fn failed(&mut self) {
        self.window = 1;
    }
}

/// What is made now.
pub(super) struct Refill {
    /// The creates.
    pub(super) ops: Vec<Op>,
    /// More would have been made if no sessions were being started: a new member boots for seconds, it can wait.
    pub(super) yields: bool,
}

/// Makes up to `wanted` members. `podless` members have no pod yet; `room` is what other pools leave.
pub(super) fn creates(
    ctx: Context<'_>,
    pool: &SandboxWarmPool,
    template: &SandboxTemplate,
    wanted: usize,
    podless: usize,
    room: usize,
    memory: &mut Memory,
) -> Refill {
    let under_way = memory.unseen(ctx) + podless;
    let alone = wanted.min(memory.window.saturating_sub(under_way));
    let fair = alone.min(room.saturating_sub(under_way));
    memory.starved = fair < alone;
    let count = fair.min(ctx.beside);
    let mut ops = Vec::with_capacity(count);
    let mut next = memory.next.unwrap_or_else(|| first_free(ctx, pool));
    while ops.len() < count {
        let ordinal = memory.again.pop_first().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        let sandbox = build::for_pool(pool, template, &ctx.settings.runner, ordinal);
        if memory.creating.contains_key(&ordinal) || ctx.name_taken(&sandbox) {
            continue;
        }
        memory.creating.insert(ordinal, Key::of(&sandbox.metadata));
        ops.push(Op::CreateSandbox(Box::new(sandbox)));
    }
    memory.next = Some(next);
    memory.under_way = under_way + ops.len();
    Refill { ops, yields: count < fair }
}

fn ordinal(sandbox: &Sandbox) -> Option<u64> {
    annotation(&sandbox.metadata, labels::POOL_ORDINAL)?.parse().ok()
}

/// One more than every ordinal that this pool's sandboxes, adopted ones included, were named after.
fn first_free(ctx: Context<'_>, pool: &SandboxWarmPool) -> u64 {
    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    ctx.store
        .sandboxes
        .in_namespace(namespace)
        .filter_map(|s| {
            let ordinal = ordinal(s)?;
            let ours = s.metadata.name.as_deref() == Some(&derived_name(name, uid(&pool.metadata), ordinal));
            ours.then_some(ordinal + 1)
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_opens_with_success_and_closes_with_failure() {
        let mut memory = Memory::default();
        assert_eq!(memory.window, 1);
        (0..3).for_each(|_| memory.succeeded());
        assert_eq!(memory.window, 4);
        (0..100).for_each(|_| memory.succeeded());
        assert_eq!(memory.window, WINDOW_MAX);
        memory.failed();
        assert_eq!(memory.window, 1);
    }
}
