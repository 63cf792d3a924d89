//! Keeping a pool at its size.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use paddock_api::labels::{self, name_hash};
use paddock_api::pool::UpdateStrategyType;
use paddock_api::{Sandbox, SandboxWarmPool, SandboxWarmPoolStatus};

use crate::build;
use crate::health::{self, Health};
use crate::ids::{Key, annotation, derived_name, is_deleting, label, uid};
use crate::op::{Op, Patch, Target, merge_diff};
use crate::session::{Context, Decision};

/// Creates and deletes of one pool in flight at a time.
const MAX_BATCH: usize = 16;
/// Shortest time between two replacements of broken members, doubled up to the limit below while they keep
/// breaking.
const REPLACE_BACKOFF: SignedDuration = SignedDuration::from_secs(2);
/// Longest time between two replacements.
const REPLACE_BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(120);

/// What is remembered about a pool beside its object.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The next member's ordinal, once it was worked out.
    pub next_ordinal: Option<u64>,
    /// Rounds of replacing broken members since all members were last ready.
    pub replaced: u32,
    /// No broken member is replaced before.
    pub replace_after: Option<Timestamp>,
    /// The last decision left the status for the next one.
    pub status_put_off: bool,
}

/// Decides on `pool`.
pub fn decide(ctx: Context<'_>, pool: &SandboxWarmPool, memory: &mut Memory) -> Decision {
    if is_deleting(&pool.metadata) {
        return Decision::default();
    }
    let members: Vec<&Sandbox> = ctx
        .store
        .sandboxes_of_pool(uid(&pool.metadata))
        .filter(|s| s.metadata.namespace == pool.metadata.namespace)
        .filter(|s| !is_deleting(&s.metadata) && !ctx.reserved.contains_key(&Key::of(&s.metadata)))
        .collect();
    let ready = members.iter().filter(|s| is_ready(ctx, s)).count();
    if ready == members.len() && memory.replace_after.is_none_or(|after| ctx.now >= after) {
        memory.replaced = 0;
        memory.replace_after = None;
    }

    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    let template = ctx.store.templates.get(&Key::new(namespace, &pool.spec.sandbox_template_ref.name));
    let mut wake = None;
    let mut ops = Vec::new();
    let desired = usize::try_from(pool.spec.replicas).unwrap_or(0);
    if let Some(template) = template {
        let current = build::template_hash(template, &ctx.settings.runner);
        let (broken, kept) = split_broken(ctx, pool, &members, &current, memory, &mut wake);
        let ending = broken.len() + leaving(ctx, pool);
        ops.extend(broken.into_iter().map(|s| Op::DeleteSandbox(Target::of(&s.metadata))));
        ops.extend(excess(ctx, &kept, desired, &current));
        let mut ordinal = next_ordinal(ctx, pool, memory);
        let room = (desired + surge(desired)).saturating_sub(kept.len() + ending);
        let wanted = desired.saturating_sub(kept.len()).min(room).min(MAX_BATCH);
        for _ in 0..wanted {
            let mut sandbox = build::for_pool(pool, template, &ctx.settings.runner, ordinal);
            while ctx.name_taken(&Key::of(&sandbox.metadata)) {
                ordinal += 1;
                sandbox = build::for_pool(pool, template, &ctx.settings.runner, ordinal);
            }
            ops.push(Op::CreateSandbox(Box::new(sandbox)));
            ordinal += 1;
        }
        memory.next_ordinal = Some(ordinal);
        ops.truncate(MAX_BATCH);
    } else {
        ops.extend(excess(ctx, &members, desired, ""));
    }
    if ops.is_empty() || memory.status_put_off {
        memory.status_put_off = false;
        ops.extend(status(pool, members.len(), ready));
    } else {
        // The count is about to change again; but where nothing succeeds it must not stay wrong for ever.
        memory.status_put_off = true;
    }
    Decision { ops, reserve: None, wake }
}

/// How many pods may exist beyond the pool's size while members are replaced: as many as a Deployment allows.
fn surge(desired: usize) -> usize {
    desired.div_ceil(4)
}

/// Pods of members that are gone, while the pods themselves are still ending.
fn leaving(ctx: Context<'_>, pool: &SandboxWarmPool) -> usize {
    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    let hash = name_hash(pool.metadata.name.as_deref().unwrap_or_default());
    ctx.store
        .pods
        .in_namespace(namespace)
        .filter(|pod| pod.labels.get(labels::WARM_POOL_SANDBOX) == Some(&hash))
        .filter(|pod| ctx.store.sandboxes.get(&pod.key()).is_none_or(|s| is_deleting(&s.metadata)))
        .count()
}

fn is_ready(ctx: Context<'_>, sandbox: &Sandbox) -> bool {
    ctx.store.pod_of(sandbox).is_some_and(|pod| pod.serving_ip().is_some())
}

/// Members to replace now, and all others. A member that merely waits for a node or an image is kept:
/// another one would wait as well.
fn split_broken<'a>(
    ctx: Context<'_>,
    pool: &SandboxWarmPool,
    members: &[&'a Sandbox],
    current: &str,
    memory: &mut Memory,
    wake: &mut Option<Timestamp>,
) -> (Vec<&'a Sandbox>, Vec<&'a Sandbox>) {
    let recreate = pool.spec.update_strategy.kind == UpdateStrategyType::Recreate;
    let is_stale = |s: &Sandbox| label(&s.metadata, labels::TEMPLATE_HASH) != Some(current);
    let (stale, members): (Vec<_>, Vec<_>) = members.iter().copied().partition(|s| recreate && is_stale(s));
    let (broken, mut kept): (Vec<_>, Vec<_>) = members.into_iter().partition(|s| {
        let health = ctx.store.pod_of(s).map(|pod| health::of(pod, ctx.now));
        // A crashing member of an older template may be cured by the new one; image trouble likewise.
        let cured_by_template = is_stale(s) && matches!(health, None | Some(Health::Hopeless(..)));
        cured_by_template
            || matches!(
                health,
                Some(Health::Ended(..)) | Some(Health::Hopeless(paddock_api::session::Reason::CrashLoop, _))
            )
    });
    let mut replace = stale;
    if !broken.is_empty() {
        if memory.replace_after.is_none_or(|after| ctx.now >= after) {
            let factor = 1i32.checked_shl(memory.replaced.min(16)).unwrap_or(i32::MAX);
            let pause = REPLACE_BACKOFF.saturating_mul(factor).min(REPLACE_BACKOFF_MAX);
            memory.replaced += 1;
            memory.replace_after = Some(ctx.now + pause);
            replace.extend(broken);
        } else {
            *wake = memory.replace_after;
            kept.extend(broken);
        }
    }
    (replace, kept)
}

/// Deletes of members beyond `desired`: those that are furthest from being useful first.
fn excess(ctx: Context<'_>, members: &[&Sandbox], desired: usize, current: &str) -> Vec<Op> {
    let surplus = members.len().saturating_sub(desired);
    let mut order: Vec<&&Sandbox> = members.iter().collect();
    order.sort_by_key(|s| {
        let stale = label(&s.metadata, labels::TEMPLATE_HASH) != Some(current);
        (is_ready(ctx, s), !stale, Reverse(s.metadata.creation_timestamp.as_ref().map(|t| t.0)))
    });
    order.into_iter().take(surplus).map(|s| Op::DeleteSandbox(Target::of(&s.metadata))).collect()
}

/// One more than every ordinal that this pool's sandboxes, adopted ones included, were named after.
fn next_ordinal(ctx: Context<'_>, pool: &SandboxWarmPool, memory: &Memory) -> u64 {
    if let Some(next) = memory.next_ordinal {
        return next;
    }
    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    ctx.store
        .sandboxes
        .in_namespace(namespace)
        .filter_map(|s| {
            let ordinal: u64 = annotation(&s.metadata, labels::POOL_ORDINAL)?.parse().ok()?;
            let ours = s.metadata.name.as_deref() == Some(&derived_name(name, uid(&pool.metadata), ordinal));
            ours.then_some(ordinal + 1)
        })
        .max()
        .unwrap_or(0)
}

fn status(pool: &SandboxWarmPool, replicas: usize, ready: usize) -> Option<Op> {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let status = SandboxWarmPoolStatus {
        observed_generation: pool.metadata.generation.unwrap_or_default(),
        replicas: count(replicas),
        ready_replicas: count(ready),
        selector: format!("{}={}", labels::WARM_POOL_SANDBOX, name_hash(name)),
    };
    if pool.status.as_ref() == Some(&status) {
        return None;
    }
    let mut after = pool.clone();
    after.status = Some(status);
    let patch = serde_json::json!({"status": merge_diff(&pool.status, &after.status)});
    Some(Op::PatchPoolStatus(Patch { target: Target::of(&pool.metadata), patch, after: Box::new(after) }))
}
