//! Keeping a pool at its size.
//!
//! One decision reads its members once and then asks, in this order:
//!
//! | question | answered in |
//! | --- | --- |
//! | what do the annotations say? | `settings` |
//! | how large shall the pool be? | `spec.replicas`, or `demand` |
//! | what is each member good for? | `members` |
//! | which ones will not come up by themselves? | `replace` |
//! | which ones are old, or on nodes that are being emptied? | `rollout` |
//! | which ones are too many? | `excess` |
//! | how many new ones, and how many of them now? | `refill` |
//!
//! Pods, those that are ending included, never exceed the size by more than the surge.

mod demand;
mod excess;
mod members;
mod refill;
mod replace;
mod rollout;
mod settings;
mod status;

use jiff::{SignedDuration, Timestamp};
use paddock_api::{Sandbox, SandboxWarmPool};

use crate::build;
use crate::ids::{Key, is_deleting};
use crate::op::{Op, Target};
use crate::pool::members::{Member, Use};
use crate::session::{Context, Decision};

pub(crate) use settings::follows_demand;

/// Deletes of one decision.
const DELETES_MAX: usize = 16;
/// How long a status may lag behind while the count is about to change again.
const STATUS_LAG: SignedDuration = SignedDuration::from_secs(1);

/// What is remembered about a pool beside its object. All of it may be lost: names are derived, members and
/// sessions tell the rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    settings: settings::Memory,
    replace: replace::Memory,
    /// Members being made.
    pub(crate) refill: refill::Memory,
    /// Sessions that asked for members.
    pub(crate) demand: demand::Memory,
    /// The size last decided on.
    pub(crate) size: Option<usize>,
    /// When a status that was put off is written all the same.
    status_due: Option<Timestamp>,
    /// What people should be told of the pool, each message once.
    pub(crate) news: Vec<String>,
}

/// Decides on `pool`. At most `room` of its members may be under way at once, so that all pools together leave
/// the sessions' own writes room.
pub(crate) fn decide(ctx: Context<'_>, pool: &SandboxWarmPool, room: usize, memory: &mut Memory) -> Decision {
    if is_deleting(&pool.metadata) {
        return Decision::default();
    }
    let (settings, news) = settings::read(pool, &mut memory.settings);
    memory.news.extend(news);

    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    let template = ctx.store.templates.get(&Key::new(namespace, &pool.spec.sandbox_template_ref.name));
    let current = template.map(|template| build::template_hash(template, &ctx.settings.runner));
    let members = members::members(ctx, pool, current.as_deref().unwrap_or_default());
    let mut wakes: Vec<Option<Timestamp>> = members.iter().map(|m| m.until).collect();
    let size = match settings.scaling {
        Some(scaling) => {
            let (size, wake) = demand::size(ctx, pool, scaling, members.len(), &mut memory.demand);
            wakes.push(wake);
            size
        }
        None => usize::try_from(pool.spec.replicas).unwrap_or(0),
    };
    memory.size = Some(size);

    let mut ops = Vec::new();
    let creating = memory.refill.unseen(ctx);
    if let Some(template) = template {
        let strategy = pool.spec.update_strategy.kind;
        let (broken, wake) = replace::broken(&members, ctx.now, &mut memory.replace);
        wakes.push(wake);
        let (outdated, kept): (Vec<_>, Vec<_>) = members
            .iter()
            .copied()
            .filter(|m| !contains(&broken, m))
            .partition(|m| rollout::is_outdated(m, strategy));
        let kept_ready = kept.iter().filter(|m| m.useful == Use::Ready).count();
        let max_unavailable = settings.max_unavailable.rounded_down(size);
        let too_many = excess::excess(&kept, size);
        let missing = size.saturating_sub(kept.len() - too_many.len() + creating);
        let mut gone = broken;
        gone.extend(rollout::dispensable(&outdated, kept_ready, size, max_unavailable, strategy));
        gone.extend(too_many);
        gone.truncate(DELETES_MAX);

        let pods = members.len() + creating + members::ending(ctx, pool);
        let missing = missing.min((size + rollout::surge(size)).saturating_sub(pods));
        let podless = kept.iter().filter(|m| m.useful == Use::Podless).count();
        ops.extend(gone.iter().map(|m| delete(m.sandbox)));
        ops.extend(refill::creates(ctx, pool, template, missing, podless, room, &mut memory.refill));
    } else {
        ops.extend(excess::excess(&members, size).iter().take(DELETES_MAX).map(|m| delete(m.sandbox)));
    }

    let ready = members.iter().filter(|m| m.useful == Use::Ready).count();
    let settled = ops.is_empty() && memory.refill.creating() == 0;
    match status::write(pool, members.len(), ready) {
        // The count is about to change again; but where nothing succeeds it must not stay wrong for ever.
        Some(write) => {
            let due = *memory.status_due.get_or_insert(ctx.now + STATUS_LAG);
            if settled || ctx.now >= due {
                memory.status_due = None;
                ops.push(write);
            } else {
                wakes.push(Some(due));
            }
        }
        None => memory.status_due = None,
    }
    Decision { ops, wake: wakes.into_iter().flatten().min(), ..Decision::default() }
}

fn contains(some: &[Member<'_>], member: &Member<'_>) -> bool {
    some.iter().any(|m| m.sandbox.metadata.name == member.sandbox.metadata.name)
}

fn delete(sandbox: &Sandbox) -> Op {
    Op::DeleteSandbox(Target::of(&sandbox.metadata))
}
