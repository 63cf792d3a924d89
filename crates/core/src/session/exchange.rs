//! A session that found its pool empty gives its own pod up for a member that becomes ready first.
//!
//! Only a pod that runs nothing yet is given up: one without a node, or whose image is still being pulled. One that boots is
//! as far as a new member would be, and one that was asked for a moment ago most likely boots soon. Of several sessions that wait,
//! the oldest is served first.
//!
//! The member is taken by a new incarnation. Its status write decides between rival leaders: whoever still holds to the pod of
//! the old one cannot make the session Ready with it any more, so that the pod may go.

use jiff::{SignedDuration, Timestamp};
use paddock_api::{Sandbox, Session, labels};

use crate::catalog::{ResolvedAgent, Source};
use crate::ids::{Key, label};
use crate::pod::PodPhase;
use crate::session::claim::{self, Choice};
use crate::session::creating::{ask_before_giving_up, pod_was_made};
use crate::session::{Context, Decision, Memory, incarnation};

/// How long a session stays with its own pod at least. It also bounds what an exchange that comes to nothing costs.
const PATIENCE: SignedDuration = SignedDuration::from_secs(1);

/// What a session may do with its own, cold start.
pub(super) enum Exchange {
    /// Go on with it.
    No,
    /// Go on with it, and look again when a member is ready, or at this time.
    Hope(Option<Timestamp>),
    /// This instead.
    Take(Decision),
}

/// Whether `session`, to which `sandbox` is assigned, takes a member of its pools instead.
pub(super) fn exchange(
    ctx: Context<'_>,
    session: &Session,
    memory: &mut Memory,
    agent: &ResolvedAgent,
    source: Source<'_>,
    sandbox: &Sandbox,
) -> Exchange {
    if label(&sandbox.metadata, labels::LAUNCH_TYPE) != Some("cold") || has_begun(ctx, sandbox) {
        return Exchange::No;
    }
    let patient_until = memory.claimed_at.unwrap_or(ctx.now) + PATIENCE;
    if ctx.now < patient_until {
        return Exchange::Hope(Some(patient_until));
    }
    let Choice::Member(member, _) = claim::choose(ctx, session, memory, agent, source) else {
        return Exchange::Hope(None);
    };
    let reserve = Some(Key::of(&member.metadata));
    // The pod may have come up while we looked elsewhere, and may even have been given the session's prompt.
    if let Some(ask) = ask_before_giving_up(ctx, session, memory, sandbox) {
        return Exchange::Take(Decision { reserve, ..ask });
    }
    memory.exchanges = true;
    let next = incarnation::next(ctx, session, incarnation::Next::Exchange);
    Exchange::Take(Decision { reserve, ..next })
}

/// True once the pod of `sandbox` runs something, and when it is not to be waited for at all.
fn has_begun(ctx: Context<'_>, sandbox: &Sandbox) -> bool {
    match ctx.store.pod_of(sandbox) {
        Some(pod) => pod.phase != PodPhase::Pending || pod.deleting,
        None => pod_was_made(sandbox),
    }
}
