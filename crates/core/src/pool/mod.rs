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

use jiff::Timestamp;
use paddock_api::SandboxWarmPool;

use crate::build;
use crate::ids::{Key, is_deleting};
use crate::op::{Op, Target};
use crate::pool::members::{Member, Use};
use crate::pool::settings::Settings;
use crate::pool::status::Count;
use crate::session::{Context, Decision};

pub(crate) use members::Account;
pub(crate) use settings::follows_demand;

/// Deletes of one decision.
const DELETES_MAX: usize = 16;

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
        None => {
            memory.demand = demand::Memory::default();
            usize::try_from(pool.spec.replicas).unwrap_or(0)
        }
    };
    memory.size = Some(size);

    let mut yields = false;
    let mut ops = match template {
        Some(template) => {
            let mut gone = Vec::new();
            let missing = replacements(ctx, pool, &settings, &members, size, memory, &mut gone, &mut wakes);
            let podless = members.iter().filter(|m| m.useful == Use::Podless).count();
            let mut ops: Vec<Op> = gone.iter().take(DELETES_MAX).map(delete).collect();
            let refill = refill::creates(ctx, pool, template, missing, podless, room, &mut memory.refill);
            ops.extend(refill.ops);
            yields = refill.yields;
            ops
        }
        // Nothing can be made, and nothing told to be old; but what is too much may go.
        None => excess::excess(&members, size).iter().take(DELETES_MAX).map(delete).collect(),
    };
    let ready = members.iter().filter(|m| m.useful == Use::Ready).count();
    let busy = !ops.is_empty() || yields || memory.refill.creating() > 0;
    let count = if busy { Count::Changing } else { Count::Settled };
    let (write, due) = status::write(pool, members.len(), ready, count, ctx.now, &mut memory.status_due);
    ops.extend(write);
    wakes.push(due);
    Decision { ops, wake: wakes.into_iter().flatten().min(), yields, ..Decision::default() }
}

/// Puts the members that go now into `gone`, and tells how many new ones may be made.
#[allow(clippy::too_many_arguments, reason = "all that is known of a pool, weighed in one place")]
fn replacements<'a>(
    ctx: Context<'_>,
    pool: &SandboxWarmPool,
    settings: &Settings,
    members: &[Member<'a>],
    size: usize,
    memory: &mut Memory,
    gone: &mut Vec<Member<'a>>,
    wakes: &mut Vec<Option<Timestamp>>,
) -> usize {
    let strategy = pool.spec.update_strategy.kind;
    let (broken, wake) = replace::broken(members, ctx.now, &mut memory.replace);
    wakes.push(wake);
    let staying = members.iter().copied().filter(|m| !contains(&broken, m));
    let (outdated, kept): (Vec<_>, Vec<_>) = staying.partition(|m| rollout::is_outdated(m, strategy));
    let too_many = excess::excess(&kept, size);
    let kept_ready = kept.iter().filter(|m| m.useful == Use::Ready).count();
    let max_unavailable = settings.max_unavailable.rounded_down(size);

    let creating = memory.refill.unseen(ctx);
    let missing = size.saturating_sub(kept.len() - too_many.len() + creating);
    gone.extend(broken);
    gone.extend(rollout::dispensable(&outdated, kept_ready, size, max_unavailable, strategy));
    gone.extend(too_many);
    // What goes now is there until it is gone.
    let pods = members.len() + creating + members::ending(ctx, pool);
    missing.min((size + rollout::surge(size)).saturating_sub(pods))
}

fn contains(some: &[Member<'_>], member: &Member<'_>) -> bool {
    some.iter().any(|m| m.sandbox.metadata.name == member.sandbox.metadata.name)
}

fn delete(member: &Member<'_>) -> Op {
    Op::DeleteSandbox(Target::of(&member.sandbox.metadata))
}
