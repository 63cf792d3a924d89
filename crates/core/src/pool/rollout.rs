//! Replacing members that work, because something better is wanted: those of an older template, and those on
//! nodes that are about to be emptied.
//!
//! As in a Deployment, new members come first as far as the surge allows, and old ones go as new ones become
//! ready. At most `max-unavailable` of the pool's size may be missing for a new template's sake; for a cordoned
//! node's sake none, because its members still serve.

use std::cmp::Reverse;

use paddock_api::pool::UpdateStrategyType;

use crate::node::Standing;
use crate::pool::members::{Member, Use};

/// How many pods may exist beyond the pool's size while members are replaced: as many as a Deployment allows.
pub(super) fn surge(size: usize) -> usize {
    size.div_ceil(4)
}

/// True for a member that shall make room for a new one, although it works or may work yet. With OnReplenish a
/// stale member waits until it is used or lost.
pub(super) fn is_outdated(member: &Member<'_>, strategy: UpdateStrategyType) -> bool {
    (member.stale && strategy == UpdateStrategyType::Recreate)
        || (member.standing != Standing::Fine && member.useful != Use::Broken)
}

/// The outdated members that can go now.
pub(super) fn dispensable<'a>(
    outdated: &[Member<'a>],
    kept_ready: usize,
    size: usize,
    max_unavailable: usize,
    strategy: UpdateStrategyType,
) -> Vec<Member<'a>> {
    let for_template = |m: &Member<'_>| m.stale && strategy == UpdateStrategyType::Recreate;
    // One that does not serve is no loss. On a silent node it may yet come back.
    let (mut serving, waiting): (Vec<_>, Vec<_>) = outdated.iter().copied().partition(Member::serves);
    let mut go: Vec<_> =
        waiting.into_iter().filter(|m| for_template(m) || m.standing == Standing::Cordoned).collect();
    // Stale ones on cordoned nodes first, then other stale ones, then good ones on cordoned nodes; the oldest
    // first.
    serving.sort_by_key(|m| {
        let created = m.sandbox.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (Reverse(for_template(m)), Reverse(m.standing), created)
    });
    let mut available = kept_ready + serving.len();
    for member in serving {
        let floor = if for_template(&member) { size.saturating_sub(max_unavailable) } else { size };
        if available <= floor {
            break;
        }
        available -= 1;
        go.push(member);
    }
    go
}
