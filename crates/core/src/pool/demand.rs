//! How large a pool that follows demand shall be.
//!
//! Every member of a pool is a spare one: a session that takes it takes it out. So the size is the number of
//! members that shall wait for sessions: the spare ones that are always wanted, and as many as sessions are
//! likely to take before replacements have booted. That is foretold from the sessions of the last minute
//! (the stable window) and of the last seconds (the panic window), as Knative's autoscaler does it. Growing is
//! immediate, shrinking slow.
//!
//! Nothing of it is written anywhere: `spec.replicas` belongs to whoever set it. A new leader finds the
//! members and the ages of the sessions, which tell it nearly as much.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use paddock_api::{SandboxWarmPool, labels};

use crate::catalog;
use crate::ids::{is_deleting, label, uid};
use crate::pool::settings::Scaling;
use crate::session::Context;
use crate::store::Stored;

/// Sessions of this long ago tell the usual demand.
const STABLE_WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// Sessions of this long ago tell of a burst.
const PANIC_WINDOW: SignedDuration = SignedDuration::from_secs(6);
/// How many boots of a member fit into the stable window: half a minute each, on a busy node.
const BOOTS_PER_WINDOW: usize = 2;
/// How long less must have been wanted before the pool shrinks, and the time between two steps.
const SHRINK_AFTER: SignedDuration = SignedDuration::from_secs(300);

/// What is remembered of demand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// When which session asked for a member, by the session's UID.
    claims: BTreeMap<String, Timestamp>,
    /// The sessions from before this leader's time are among them.
    rebuilt: bool,
    /// The size last decided on.
    size: Option<usize>,
    /// When the pool may shrink, while less is wanted than there is.
    shrink_at: Option<Timestamp>,
}

impl Memory {
    /// Notes that a session has asked for a member, whether it got one or not. True when that is news.
    pub(crate) fn note(&mut self, session_uid: &str, now: Timestamp) -> bool {
        self.claims.insert(session_uid.to_owned(), now).is_none()
    }

    fn since(&self, from: Timestamp) -> usize {
        self.claims.values().filter(|at| **at > from).count()
    }
}

/// The size, and when it is to be looked at again.
pub(super) fn size(
    ctx: Context<'_>,
    pool: &SandboxWarmPool,
    scaling: Scaling,
    members: usize,
    memory: &mut Memory,
) -> (usize, Option<Timestamp>) {
    if !memory.rebuilt {
        rebuild(ctx, pool, memory);
    }
    memory.claims.retain(|_, at| ctx.now - STABLE_WINDOW < *at);
    let size = memory.size.unwrap_or(members).clamp(scaling.min, scaling.max);
    let wanted = wanted(memory, size, scaling.spare.rounded_up(in_use(ctx, pool)), ctx.now)
        .clamp(scaling.min, scaling.max);
    let size = if wanted >= size {
        memory.shrink_at = None;
        wanted
    } else {
        let at = *memory.shrink_at.get_or_insert(ctx.now + SHRINK_AFTER);
        if ctx.now >= at {
            memory.shrink_at = Some(ctx.now + SHRINK_AFTER);
            // Half of the way: a large pool comes down in some steps, and never all at once.
            size - (size - wanted).div_ceil(2)
        } else {
            size
        }
    };
    memory.size = Some(size);
    let forgotten = memory.claims.values().min().map(|at| *at + STABLE_WINDOW);
    (size, [memory.shrink_at, forgotten].into_iter().flatten().min())
}

fn wanted(memory: &Memory, size: usize, spare: usize, now: Timestamp) -> usize {
    let stable = memory.since(now - STABLE_WINDOW).div_ceil(BOOTS_PER_WINDOW);
    let burst = memory.since(now - PANIC_WINDOW);
    // A burst that took half of the pool is likely to be followed by another one before the pool is full again.
    let panic = if burst * 2 >= size { burst } else { 0 };
    spare + stable.max(panic)
}

/// Sessions that run from the pool's template.
fn in_use(ctx: Context<'_>, pool: &SandboxWarmPool) -> usize {
    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    let template = labels::name_hash(&pool.spec.sandbox_template_ref.name);
    ctx.store
        .sandboxes
        .in_namespace(namespace)
        .filter(|s| label(&s.metadata, labels::SESSION_UID).is_some() && !is_deleting(&s.metadata))
        .filter(|s| label(&s.metadata, labels::TEMPLATE_REF_HASH) == Some(&template))
        .count()
}

/// Takes the sessions of an earlier leader's time for claims.
fn rebuild(ctx: Context<'_>, pool: &SandboxWarmPool, memory: &mut Memory) {
    memory.rebuilt = true;
    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    for session in ctx.store.sessions.in_namespace(namespace) {
        let restarted = session.status.as_ref().and_then(|status| status.incarnation_since);
        let created = session.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let Some(asked) = restarted.or(created) else { continue };
        let ours = || catalog::pool(ctx.store, session).is_some_and(|p| p.uid() == pool.uid());
        if ctx.now - STABLE_WINDOW < asked && ours() {
            memory.claims.entry(uid(&session.metadata).to_owned()).or_insert(asked.min(ctx.now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    fn claims(at_seconds: impl IntoIterator<Item = i64>) -> Memory {
        let mut memory = Memory::default();
        for (n, second) in at_seconds.into_iter().enumerate() {
            memory.note(&format!("s{n}"), at(second));
        }
        memory
    }

    #[test]
    fn a_quiet_pool_has_its_spare_members() {
        assert_eq!(wanted(&claims([]), 3, 3, at(60)), 3);
    }

    #[test]
    fn steady_demand_is_met_while_replacements_boot() {
        // A session every six seconds: five in the time that a member needs to boot.
        assert_eq!(wanted(&claims((0..10).map(|n| n * 6)), 20, 1, at(55)), 1 + 5);
    }

    #[test]
    fn a_burst_counts_in_full_and_a_trickle_does_not() {
        assert_eq!(wanted(&claims([58; 15]), 5, 2, at(60)), 2 + 15);
        assert_eq!(wanted(&claims([59]), 10, 2, at(60)), 2 + 1);
    }

    #[test]
    fn a_session_that_tries_again_is_one_claim() {
        let mut memory = Memory::default();
        assert!(memory.note("s", at(0)));
        assert!(!memory.note("s", at(1)));
        assert_eq!(memory.since(at(-1)), 1);
    }
}
