//! Rest without a pod, and the way back.
//!
//! Only a session with a persistent workspace can rest: there would be nothing to come back to. Its pod is asked to take no
//! more turns before the status says Suspended, so a message that arrives meanwhile is refused by the pod, never lost in it.

use paddock_api::Session;
use paddock_api::session::{DesiredState, Phase, Reason, SessionStatus};

use crate::health::{self, Health};
use crate::pod::Pod;
use crate::session::incarnation::Next;
use crate::session::{Context, Decision, Memory, ending, idle, incarnation, status, transcript, workspace};

/// Whether there would be something to come back to.
pub(super) fn can_rest(ctx: Context<'_>, session: &Session) -> bool {
    workspace::is_persistent(ctx, session) && workspace::kept(session).is_some()
}

/// Tells why a session that was asked to rest goes on.
pub(super) fn refuse(status: &mut SessionStatus) {
    status.reason = Some(Reason::WorkspaceNotPersistent);
    status.message = "the session cannot be suspended: its workspace is Ephemeral and would be lost with the pod; set state to Running, or to Stopped to end it".to_owned();
}

/// A Ready session that shall rest, and can.
pub(super) fn decide(
    ctx: Context<'_>,
    session: &Session,
    memory: &mut Memory,
    pod: Option<&Pod>,
) -> Decision {
    // What the runner has acknowledged is in its journal, on the volume.
    if let Some(pod) = pod
        && let Health::Serving(ip) = health::of(pod, ctx.now)
        && memory.at_rest(pod).is_none()
        && let Some(first) = transcript::bring_to_rest(ctx, session, memory, pod, &ip)
    {
        return first;
    }
    if let Some(first) = transcript::save_first(ctx, session, memory) {
        return first;
    }
    rest(ctx, session, memory)
}

/// Writes that the session rests; its sandbox is given back once that is written.
pub(super) fn rest(ctx: Context<'_>, session: &Session, memory: &Memory) -> Decision {
    let (reason, message) = match &memory.idle {
        Some(message) => (Reason::IdleTimeout, message.clone()),
        None => (Reason::SuspendRequested, "suspended on request".to_owned()),
    };
    let write = status::write(ctx, session, |status| {
        status.phase = Phase::Suspended;
        status.step = None;
        status.reason = Some(reason);
        status.message = message;
        transcript::settle(session, status, ctx.now);
        status.sandbox = None;
        status.pod = None;
        status.endpoint = None;
        if let Some(seen) = &memory.activity {
            idle::report(status, &seen.pod_uid, memory);
        }
        if let Some(turns) = &mut status.turns {
            turns.running = 0;
            turns.queued = 0;
        }
    });
    write.map(Decision::op).unwrap_or_default()
}

/// A session at rest.
pub(super) fn suspended(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Decision {
    if session.spec.state == DesiredState::Running {
        return incarnation::next(ctx, session, Next::Resume);
    }
    let mut decision = workspace::give_back(ctx, session, memory, |_| false);
    decision.ops.extend(ending::spoilt(ctx, memory));
    decision.ops.extend(status::write(ctx, session, |_| {}));
    decision
}
