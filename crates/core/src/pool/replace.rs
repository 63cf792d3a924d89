//! Replacing what will not come up by itself, and not for ever at full speed: where members keep breaking, the
//! next ones will too.

use jiff::{SignedDuration, Timestamp};

use crate::pool::members::{Member, Use};

/// Shortest time between two rounds of replacements, doubled up to the limit below while members keep
/// breaking.
const PAUSE: SignedDuration = SignedDuration::from_secs(2);
/// Longest time between two rounds.
const PAUSE_MAX: SignedDuration = SignedDuration::from_secs(120);

/// What is remembered of replacements.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Rounds since all members were last ready.
    rounds: u32,
    /// No broken member is replaced before.
    after: Option<Timestamp>,
}

/// The broken members if they may be replaced now; otherwise when they may.
pub(super) fn broken<'a>(
    members: &[Member<'a>],
    now: Timestamp,
    memory: &mut Memory,
) -> (Vec<Member<'a>>, Option<Timestamp>) {
    let paused = memory.after.filter(|after| now < *after);
    if paused.is_none() && members.iter().all(Member::serves) {
        *memory = Memory::default();
    }
    let broken: Vec<_> = members.iter().filter(|m| m.useful == Use::Broken).copied().collect();
    if broken.is_empty() {
        return (broken, None);
    }
    if paused.is_some() {
        return (Vec::new(), paused);
    }
    let factor = 1i32.checked_shl(memory.rounds.min(16)).unwrap_or(i32::MAX);
    memory.rounds += 1;
    memory.after = Some(now + PAUSE.saturating_mul(factor).min(PAUSE_MAX));
    (broken, None)
}
