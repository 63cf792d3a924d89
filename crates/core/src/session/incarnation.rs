//! The pods of a session, one after the other.
//!
//! `status.incarnation` is the only word on which one is current. It grows by a status write with its precondition, so of
//! two leaders one decides, and only in [`next`]: by a restart, a resume, a recovery or an exchange.

use jiff::Timestamp;
use paddock_api::session::{Phase, Reason};
use paddock_api::{Sandbox, Session, labels};

use crate::ids::{Key, label, uid};
use crate::op::{Named, Op, Refresh};
use crate::session::activation::was_ready;
use crate::session::{
    Asked, Context, Decision, Memory, agent_of, assigned_sandboxes, ending, status, transcript,
};

/// The incarnation that is wanted or there.
pub(super) fn current(session: &Session) -> u32 {
    session.status.as_ref().map_or(0, |status| status.incarnation).max(1)
}

/// Since when it is wanted.
pub(super) fn wanted_since(session: &Session, now: Timestamp) -> Timestamp {
    let since = session.status.as_ref().and_then(|status| status.incarnation_since);
    since.or(session.metadata.creation_timestamp.as_ref().map(|t| t.0)).unwrap_or(now)
}

/// Whether `sandbox` was made for, or adopted by, the session's current incarnation.
pub(crate) fn is_current(session: &Session, sandbox: &Sandbox) -> bool {
    of(sandbox) == current(session)
}

/// The incarnation that `sandbox` was made for, or adopted by.
fn of(sandbox: &Sandbox) -> u32 {
    label(&sandbox.metadata, labels::INCARNATION).and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// The question that comes first where a sandbox is of a later incarnation than the session: a rival leader has begun that, and
/// our view of the session is old. Once it is answered such a sandbox is nobody's: its label was written by somebody else.
pub(super) fn catch_up(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Option<Decision> {
    let later = assigned_sandboxes(ctx, session).find(|sandbox| of(sandbox) > current(session))?;
    let sandbox_uid = uid(&later.metadata);
    if memory.asked_for_later.is_answered_for(sandbox_uid) {
        return None;
    }
    memory.asked_for_later = Asked::About(sandbox_uid.to_owned(), 1);
    let named = Named { key: Key::of(&session.metadata), uid: session.metadata.uid.clone() };
    Some(Decision::op(Op::Refresh(Refresh::Session(named))))
}

/// Begins to remember anew when another incarnation is wanted. A pool member that was given to the one before in vain must
/// be spoilt first.
pub(super) fn remember(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Option<Decision> {
    let current = current(session);
    if memory.incarnation != current {
        if let Some(spoilt) = ending::spoilt(ctx, memory) {
            return Some(Decision::op(spoilt));
        }
        let mut anew = Memory { incarnation: current, ..Memory::default() };
        if memory.exchanges {
            // To whoever waits, it is part of the same start; and nobody else can have assigned anything to it since.
            anew.first_seen = memory.first_seen;
            anew.claims_asked = memory.claims_asked;
        }
        *memory = anew;
    }
    memory.first_seen.get_or_insert(ctx.now);
    None
}

/// Why another incarnation is wanted.
pub(super) enum Next {
    /// `restartedAt` has a new value.
    Restart,
    /// A suspended session goes on.
    Resume,
    /// The pod was lost.
    Recovery {
        /// How, for people.
        cause: String,
        /// How often that has happened in a row.
        recoveries: u32,
    },
    /// A pool member is ready, and the session's own pod is not.
    Exchange,
}

/// Begins the next incarnation; the sandboxes of those before are given back after that is written.
pub(super) fn next(ctx: Context<'_>, session: &Session, why: Next) -> Decision {
    // Nothing was ever said in it, so nothing holds it to an agent that was mended since.
    let thaws = matches!(why, Next::Restart) && !was_ready(session) && agent_of(ctx.store, session).is_some();
    // One that was made to rest from its beginning has its first now.
    let is_first = matches!(why, Next::Resume) && session.status.as_ref().is_none_or(|s| s.incarnation == 0);
    let incarnation = if is_first { 1 } else { current(session) + 1 };
    let (reason, message, since, recoveries) = match why {
        Next::Restart => (Reason::Restarting, String::new(), ctx.now, 0),
        Next::Resume => (Reason::Resuming, String::new(), ctx.now, 0),
        Next::Recovery { cause, recoveries } => (Reason::Recovering, cause, ctx.now, recoveries),
        Next::Exchange => {
            // The deadline of the start stays what it is.
            let since = wanted_since(session, ctx.now);
            let recoveries = session.status.as_ref().map_or(0, |status| status.recoveries);
            let message = "takes a pool member that became ready before its own pod";
            (Reason::Activating, message.to_owned(), since, recoveries)
        }
    };
    let write = status::write(ctx, session, |status| {
        // Another one also where the last never came as far as a sandbox of its own: what is remembered of that attempt, and what it
        // may have left, is not this one's.
        status.incarnation = incarnation;
        status.incarnation_since = Some(since);
        status.restarted_at = session.spec.restarted_at;
        status.phase = Phase::Creating;
        status.step = None;
        status.reason = Some(reason);
        status.message = message;
        status.finished_at = None;
        transcript::forget(status);
        status.sandbox = None;
        status.pod = None;
        status.endpoint = None;
        status.startup = None;
        status.recoveries = recoveries;
        if thaws {
            status.agent = None;
        }
    });
    write.map(Decision::op).unwrap_or_default()
}
