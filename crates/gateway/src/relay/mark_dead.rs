//! Sets a session to Dead: the one write of a status that is not the controller's.
//!
//! It is done only on proof: the current address, as the API server has it, took no connection twice, and the pod
//! is lost (`super::proof`). The write carries UID and resource version of that very state, so whoever changed the
//! session meanwhile has decided.

use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::condition::{NewCondition, set_condition};
use paddock_api::session::Reason;
use paddock_api::{ConditionStatus, Phase, Session};
use paddock_kubeio::write::{Precondition, WriteError};
use serde_json::json;

use super::dial::DialError;
use super::lookup;
use super::target::Target;
use crate::error::ApiError;
use crate::gateway::Gateway;

/// What became of it.
#[derive(Debug)]
pub enum Marked {
    /// The session is Dead, by this write or another; or it could not be written, and the controller will see.
    Settled,
    /// The session has another address now.
    Moved(Arc<Session>),
}

/// Marks `session`, whose address `target` is proven to be abandoned.
///
/// # Errors
/// The session is gone.
pub async fn mark(
    gateway: &Gateway,
    session: &Session,
    target: &Target,
    cause: &DialError,
) -> Result<Marked, ApiError> {
    let name = session.metadata.name.clone().unwrap_or_default();
    let dead = dead_copy(session, target, cause);
    let Some(status) = &dead.status else { return Ok(Marked::Settled) };
    let patch = json!({"status": {
        "phase": status.phase,
        "step": null,
        "reason": status.reason,
        "message": status.message,
        "conditions": status.conditions,
    }});
    let precondition = Precondition {
        uid: target.session_uid.clone(),
        resource_version: session.metadata.resource_version.clone(),
    };
    match gateway.cluster.patch_session_status(&name, precondition, patch).await {
        Ok(written) => {
            tracing::warn!(session = %name, address = %target.address, reason = cause.reason(), "session set to Dead");
            gateway.metrics.marked_dead();
            let mut dead = dead;
            dead.metadata.resource_version = Some(written.resource_version);
            gateway.index.record_session(dead);
            Ok(Marked::Settled)
        }
        // Somebody else decided: what they decided counts.
        Err(WriteError::Conflict) => {
            let current = lookup::read(gateway, &name).await?;
            let moved = Target::of(&current).is_ok_and(|now| now != *target);
            Ok(if moved { Marked::Moved(current) } else { Marked::Settled })
        }
        Err(error) => {
            tracing::warn!(session = %name, reason = error.reason(), "cannot set the session to Dead");
            Ok(Marked::Settled)
        }
    }
}

fn dead_copy(session: &Session, target: &Target, cause: &DialError) -> Session {
    let mut dead = session.clone();
    let generation = session.metadata.generation;
    if let Some(status) = &mut dead.status {
        status.phase = Phase::Dead;
        status.step = None;
        status.reason = Some(Reason::Unreachable);
        status.message = format!(
            "nothing listens at the session's address {}: {cause}, twice; the pod is lost, make a new session",
            target.address
        );
        let condition = NewCondition {
            kind: "Ready",
            status: ConditionStatus::False,
            reason: format!("{:?}", Reason::Unreachable),
            message: status.message.clone(),
        };
        set_condition(&mut status.conditions, condition, generation, Timestamp::now());
    }
    dead
}
