//! The end of a session: its sandboxes are given back, and its record is deleted in time.

use paddock_api::session::{Phase, Reason};
use paddock_api::{Sandbox, Session, labels};

use crate::catalog;
use crate::ids::{is_deleting, label, uid};
use crate::op::{Op, Target};
use crate::session::{Context, Decision, Memory, assigned_sandboxes, status, transcript, workspace};

/// Writes a final phase. The sandboxes are given back once that is written.
pub(super) fn end(
    ctx: Context<'_>,
    session: &Session,
    phase: Phase,
    reason: Reason,
    message: String,
) -> Decision {
    status::write(ctx, session, |status| {
        status.phase = phase;
        status.step = None;
        status.reason = Some(reason);
        status.message = message;
        transcript::settle(session, status, ctx.now);
        status.endpoint = None;
        status.finished_at = Some(ctx.now);
    })
    .map(Decision::op)
    .unwrap_or_default()
}

/// A Failed or Dead session: nothing of it runs any more, and its record goes when its time has come.
pub(super) fn ended(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Decision {
    let mut decision = workspace::give_back(ctx, session, memory, |_| false);
    decision.ops.extend(spoilt(ctx, memory));
    let finished_at = session.status.as_ref().and_then(|status| status.finished_at);
    let Some(finished_at) = finished_at else {
        // The gateway marks sessions Dead without counting their time.
        decision.ops.extend(status::write(ctx, session, |status| {
            transcript::settle(session, status, ctx.now);
            status.finished_at = Some(ctx.now);
        }));
        return decision;
    };
    let kept = catalog::lifecycle(ctx.store, session).unwrap_or_default().ttl_after_finished();
    let Ok(forgotten_at) = finished_at.checked_add(kept.as_std()) else { return decision };
    if decision.ops.is_empty() && ctx.now >= forgotten_at {
        return Decision::op(Op::DeleteSession(Target::of(&session.metadata)));
    }
    decision.and_wake(Some(forgotten_at.max(ctx.now)))
}

/// A session whose object is on its way out. Its workspace goes with it.
pub(super) fn deleting(ctx: Context<'_>, session: &Session, memory: &Memory) -> Decision {
    // The garbage collector would take its Sandboxes too, but only after the last finalizer.
    let mut ops: Vec<Op> =
        assigned_sandboxes(ctx, session).map(|s| Op::DeleteSandbox(Target::of(&s.metadata))).collect();
    ops.extend(spoilt(ctx, memory));
    Decision::ops(ops)
}

/// Deletes the pool member that was activated for a session and never assigned to it: nobody else may have it.
pub(crate) fn spoilt(ctx: Context<'_>, memory: &Memory) -> Option<Op> {
    let sandbox = ctx.store.sandboxes.get(memory.reserved.as_ref()?)?;
    let unassigned = label(&sandbox.metadata, labels::SESSION_UID).is_none();
    (unassigned && !is_deleting(&sandbox.metadata)).then(|| Op::DeleteSandbox(Target::of(&sandbox.metadata)))
}

/// True for the sandbox with this UID.
pub(super) fn has_uid(sandbox: &Sandbox, wanted: &str) -> bool {
    uid(&sandbox.metadata) == wanted
}
