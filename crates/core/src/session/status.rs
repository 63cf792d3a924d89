//! Writing a session's status, with conditions that always agree with its phase.

use paddock_api::Session;
use paddock_api::condition::{ConditionStatus, NewCondition, set_condition};
use paddock_api::session::{Phase, Reason, SessionStatus};

use crate::op::{Op, Patch, Target, merge_diff};
use crate::session::Context;

/// The write that brings the status to what `change` makes of it; nothing when that is what it is.
pub(super) fn write(
    ctx: Context<'_>,
    session: &Session,
    change: impl FnOnce(&mut SessionStatus),
) -> Option<Op> {
    let before = session.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let generation = session.metadata.generation.unwrap_or_default();
    status.observed_generation = generation;
    if session.status.is_none() {
        // What a session was created with asks for no restart.
        status.restarted_at = session.spec.restarted_at;
    }
    change(&mut status);
    for condition in conditions(&status) {
        set_condition(&mut status.conditions, condition, Some(generation), ctx.now);
    }
    if session.status.is_some() && status == before {
        return None;
    }
    let mut after = session.clone();
    after.status = Some(status);
    let patch = serde_json::json!({"status": merge_diff(&session.status, &after.status)});
    Some(Op::PatchSessionStatus(Patch {
        target: Target::of(&session.metadata),
        patch,
        after: Box::new(after),
    }))
}

fn conditions(status: &SessionStatus) -> Vec<NewCondition> {
    let bound = status.sandbox.is_some();
    let activated = status.endpoint.is_some();
    let live = !status.phase.is_final();
    let idle = status.reason == Some(Reason::IdleTimeout);
    let reason = status.reason.map_or("Pending", Reason::as_str);
    let condition = |kind, holds, message: &str| NewCondition {
        kind,
        status: if holds { ConditionStatus::True } else { ConditionStatus::False },
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    vec![
        condition("Ready", status.phase == Phase::Ready, &status.message),
        condition("Bound", bound && live, ""),
        condition("Activated", activated && live, ""),
        condition("Idle", idle, ""),
    ]
}
