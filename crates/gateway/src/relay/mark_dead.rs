//! Sets a session to Dead: the one write of a status that is not the controller's.
//!
//! It is done only on proof: the current address, as the API server has it, took no connection twice, and the pod
//! is lost (`super::proof`). The write carries UID and resource version of that very state, so whoever changed the
//! session meanwhile has decided. A session that shall not keep this pod, or that gets another one by itself, is
//! never marked: there the controller has the word.

use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::agent::Recovery;
use paddock_api::condition::{NewCondition, set_condition};
use paddock_api::http::ApiStatus;
use paddock_api::session::{DesiredState, Reason};
use paddock_api::{ConditionStatus, Phase, Session};
use paddock_kubeio::write::{Precondition, WriteError};
use serde_json::json;

use super::dial::DialError;
use super::lookup;
use super::stand::Stand;
use super::target::Target;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::index::rules;

/// What became of it.
#[derive(Debug)]
pub enum Marked {
    /// The session is Dead, by this write or another; or it could not be written, and the controller will see.
    Settled,
    /// The session's state is another one now.
    Changed(Arc<Session>),
    /// It is left alone, and will get another pod by itself.
    Spared,
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
    if !shall_keep_its_pod(session) {
        return Ok(Marked::Settled);
    }
    if rules::of(gateway, session).recovery() == Recovery::Auto {
        return Ok(Marked::Spared);
    }
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
            Ok(match Stand::of(&current, Some(target)) {
                Stand::Never(_) => Marked::Settled,
                Stand::Leaving if shall_keep_its_pod(&current) => Marked::Settled,
                _ => Marked::Changed(current),
            })
        }
        Err(error) => {
            tracing::warn!(session = %name, reason = error.reason(), "cannot set the session to Dead");
            Ok(Marked::Settled)
        }
    }
}

/// Whether nobody has asked for the end of the session's present pod.
fn shall_keep_its_pod(session: &Session) -> bool {
    session.spec.state == DesiredState::Running && ApiStatus::of(session) == ApiStatus::Ready
}

fn dead_copy(session: &Session, target: &Target, cause: &DialError) -> Session {
    let mut dead = session.clone();
    let generation = session.metadata.generation;
    if let Some(status) = &mut dead.status {
        status.phase = Phase::Dead;
        status.step = None;
        status.reason = Some(Reason::Unreachable);
        status.message = format!(
            "nothing listens at the session's address {}: {cause}, twice; the pod is lost, restart the session",
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
