//! A pool's members, and what each of them is good for.

use jiff::{SignedDuration, Timestamp};
use paddock_api::labels::{self, name_hash};
use paddock_api::session::Reason;
use paddock_api::{Sandbox, SandboxWarmPool};

use crate::health::{self, Health};
use crate::ids::{Key, is_deleting, label, uid};
use crate::node::{self, Standing};
use crate::pod::Pod;
use crate::session::{Context, is_current, session_of};

/// How long a member that has a node may take to serve, or may be not ready afterwards: as long as a session
/// waits for its own pod by default.
const STARTUP_LIMIT: SignedDuration = SignedDuration::from_secs(300);

/// What a member is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It can be adopted at once.
    Ready,
    /// It can be adopted, but its node is about to be emptied.
    Leaving,
    /// It may come up by itself, or when somebody makes room, an image or a Secret; another one would wait as
    /// well.
    Waiting,
    /// Its pod is not there yet.
    Podless,
    /// It will not come up by itself, but another one may.
    Broken,
}

/// A member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) useful: Use,
    /// It was made from an older template.
    pub(super) stale: bool,
    /// What its node means for it.
    pub(super) standing: Standing,
    /// When `useful` changes if nothing happens before.
    pub(super) until: Option<Timestamp>,
}

impl Member<'_> {
    /// True when a session could take it.
    pub(super) fn serves(&self) -> bool {
        matches!(self.useful, Use::Ready | Use::Leaving)
    }
}

/// The members of `pool` that are neither on their way out nor promised to a session. `current` is the hash
/// of the template as it is.
pub(super) fn members<'a>(ctx: Context<'a>, pool: &SandboxWarmPool, current: &str) -> Vec<Member<'a>> {
    ctx.store
        .sandboxes_of_pool(uid(&pool.metadata))
        .filter(|s| s.metadata.namespace == pool.metadata.namespace)
        .filter(|s| !is_deleting(&s.metadata) && !ctx.reserved.contains_key(&Key::of(&s.metadata)))
        .map(|sandbox| {
            let stale = label(&sandbox.metadata, labels::TEMPLATE_HASH) != Some(current);
            let Some(pod) = ctx.store.pod_of(sandbox) else {
                // Perhaps the template as it was cannot be made into a pod.
                let useful = if stale { Use::Broken } else { Use::Podless };
                return Member { sandbox, useful, stale, standing: Standing::Fine, until: None };
            };
            let standing = node::standing(ctx.store, pod);
            let (useful, until) = usefulness(ctx, pod, stale, standing);
            Member { sandbox, useful, stale, standing, until }
        })
        .collect()
}

fn usefulness(ctx: Context<'_>, pod: &Pod, stale: bool, standing: Standing) -> (Use, Option<Timestamp>) {
    if let Standing::Silent { lost_at } = standing {
        let lost = ctx.now >= lost_at;
        return if lost { (Use::Broken, None) } else { (Use::Waiting, Some(lost_at)) };
    }
    match health::of(pod, ctx.now) {
        Health::Serving(_) if standing == Standing::Cordoned => (Use::Leaving, None),
        Health::Serving(_) => (Use::Ready, None),
        Health::Ended(..) | Health::Hopeless(Reason::CrashLoop, _) => (Use::Broken, None),
        // What an older template asks for in vain, the new one may not.
        Health::Hopeless(..) if stale => (Use::Broken, None),
        Health::Starting(Reason::PodStarting, _) => match pod.starting_since().map(|at| at + STARTUP_LIMIT) {
            Some(limit) if ctx.now >= limit => (Use::Broken, None),
            limit => (Use::Waiting, limit),
        },
        Health::Doubtful(_, _, until) => (Use::Waiting, Some(until)),
        Health::Starting(..) | Health::Hopeless(..) | Health::Gone(..) => (Use::Waiting, None),
    }
}

/// Pods beyond those of members that stand on the pool's account until they are gone: of members that were
/// deleted, and of cold sandboxes that live sessions have given back. What a lost node had stays in the API server until the node
/// is back or taken away, which may be never: it stands on nobody's account.
pub(super) fn ending(ctx: Context<'_>, pool: &SandboxWarmPool) -> usize {
    let namespace = pool.metadata.namespace.as_deref().unwrap_or_default();
    let account = Account::of(pool);
    ctx.store
        .pods
        .in_namespace(namespace)
        .filter(|pod| ctx.store.sandboxes.get(&pod.key()).is_none_or(|s| is_given_up(ctx, s)))
        .filter(|pod| !node::node_lost(ctx.store, pod, ctx.now))
        .filter(|pod| account.has_member(pod) || (account.has_cold(pod) && has_live_session(ctx, pod)))
        .count()
}

/// Whose pods, once their Sandboxes go, stand on the account of a pool.
pub(crate) struct Account {
    pool: String,
    template: String,
}

impl Account {
    /// That of `pool`.
    pub(crate) fn of(pool: &SandboxWarmPool) -> Self {
        Self {
            pool: name_hash(pool.metadata.name.as_deref().unwrap_or_default()),
            template: name_hash(&pool.spec.sandbox_template_ref.name),
        }
    }

    /// A member, or a cold pod from the same template.
    pub(crate) fn has(&self, pod: &Pod) -> bool {
        self.has_member(pod) || self.has_cold(pod)
    }

    fn has_member(&self, pod: &Pod) -> bool {
        pod.labels.get(labels::WARM_POOL_SANDBOX) == Some(&self.pool)
    }

    fn has_cold(&self, pod: &Pod) -> bool {
        pod.labels.get(labels::LAUNCH_TYPE).is_some_and(|launch| launch == "cold")
            && pod.labels.get(labels::TEMPLATE_REF_HASH) == Some(&self.template)
    }
}

/// On its way out, or about to be: its session has gone on to another incarnation.
fn is_given_up(ctx: Context<'_>, sandbox: &Sandbox) -> bool {
    is_deleting(&sandbox.metadata)
        || session_of(ctx.store, sandbox).is_some_and(|session| !is_current(session, sandbox))
}

fn has_live_session(ctx: Context<'_>, pod: &Pod) -> bool {
    let Some(name) = pod.labels.get(labels::SESSION) else { return false };
    ctx.store
        .sessions
        .get(&Key::new(pod.namespace.clone(), name.clone()))
        .is_some_and(|session| session.status.as_ref().is_none_or(|status| !status.phase.is_final()))
}
