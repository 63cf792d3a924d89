//! Members beyond the pool's size.

use std::cmp::Reverse;

use crate::pool::members::{Member, Use};

/// The members beyond `size`: those that are furthest from being useful first, then stale ones, then the
/// youngest.
pub(super) fn excess<'a>(members: &[Member<'a>], size: usize) -> Vec<Member<'a>> {
    let mut order = members.to_vec();
    order.sort_by_key(|m| {
        let usefulness = match m.useful {
            Use::Broken => 0,
            Use::Podless => 1,
            Use::Waiting => 2,
            Use::Leaving => 3,
            Use::Ready => 4,
        };
        let created = m.sandbox.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (usefulness, !m.stale, Reverse(created))
    });
    order.truncate(members.len().saturating_sub(size));
    order
}
