//! What becomes of one session.
//!
//! Creating: find the agent and its pool, adopt a warm sandbox (durable patch and activation side by side)
//! or make a cold one, and write Ready once the sandbox is assigned *and* the runner has confirmed.
//! Ready: watch over the pod. Failed and Dead: give everything back.

mod creating;
mod running;
mod status;

pub(crate) use creating::pod_was_made;

use std::collections::HashMap;

use jiff::Timestamp;
use paddock_api::session::{DesiredState, Phase, Reason};
use paddock_api::{Sandbox, Session};
use paddock_runnerapi::ActivateResponse;

use crate::engine::Settings;
use crate::ids::{Key, is_deleting, uid};
use crate::op::{Op, Target};
use crate::store::Store;

/// What decisions about sessions may look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The cluster as last seen.
    pub store: &'a Store,
    /// The controller's settings.
    pub settings: &'a Settings,
    /// Sandboxes promised to sessions whose adoption has not been seen yet.
    pub reserved: &'a HashMap<Key, Key>,
    /// Sandboxes with a write in flight; adopting one now would only conflict.
    pub busy: &'a dyn SandboxBusy,
    /// The time.
    pub now: Timestamp,
}

/// Tells whether something is being done to a Sandbox right now.
pub trait SandboxBusy: std::fmt::Debug {
    /// True while an operation on it is in flight.
    fn is_busy(&self, sandbox: &Key) -> bool;
}

/// What is remembered about a session beside its object. All of it may be lost: the next leader finds its
/// way by the labels on Sandboxes and the runner's idempotency.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// When this leader first saw the session.
    pub first_seen: Option<Timestamp>,
    /// The API server itself was asked which Sandboxes are assigned to it.
    pub claims_asked: bool,
    /// The pool member it is adopting.
    pub reserved: Option<Key>,
    /// When the assignment was written.
    pub claimed_at: Option<Timestamp>,
    /// The runner's confirmation, of the pod with this UID.
    pub activation: Option<Confirmed>,
    /// The pod with this UID serves somebody else, or refused for good.
    pub refused: Option<Refused>,
    /// The pod with this UID was looked for on the API server itself.
    pub pod_asked: Option<String>,
    /// The last attempt to reach the runner failed with this.
    pub runner_trouble: Option<String>,
    /// The API server refused to create its Sandbox.
    pub sandbox_rejected: Option<String>,
}

/// A runner's confirmation.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// UID of the pod.
    pub pod_uid: String,
    /// What the runner said.
    pub response: ActivateResponse,
    /// When.
    pub at: Timestamp,
}

/// A pod that will never serve the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// UID of the pod.
    pub pod_uid: String,
    /// The runner's words; absent when it merely serves another session.
    pub rejected: Option<String>,
}

/// What to do about an object now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// To do side by side.
    pub ops: Vec<Op>,
    /// A pool member to hold for the session.
    pub reserve: Option<Key>,
    /// When to decide again if nothing happens before.
    pub wake: Option<Timestamp>,
}

impl Decision {
    fn op(op: Op) -> Self {
        Self { ops: vec![op], ..Self::default() }
    }

    fn ops(ops: Vec<Op>) -> Self {
        Self { ops, ..Self::default() }
    }
}

/// Decides on `session`.
pub fn decide(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Decision {
    if is_deleting(&session.metadata) {
        // Its Sandboxes are owned by it: the garbage collector takes them.
        return Decision::default();
    }
    memory.first_seen.get_or_insert(ctx.now);
    let phase = session.status.as_ref().map(|s| s.phase).unwrap_or_default();
    match (phase, session.spec.state) {
        (Phase::Failed | Phase::Dead, _) => Decision::ops(delete_sandboxes(ctx, session, None)),
        (_, DesiredState::Stopped) => {
            end(ctx, session, Phase::Dead, Reason::Stopped, "stopped on request".into())
        }
        (Phase::Creating, DesiredState::Running) => creating::decide(ctx, session, memory),
        (Phase::Ready, DesiredState::Running) => running::decide(ctx, session, memory),
    }
}

/// Writes a final phase. The sandboxes are given back once that is written.
fn end(ctx: Context<'_>, session: &Session, phase: Phase, reason: Reason, message: String) -> Decision {
    status::write(ctx, session, |status| {
        status.phase = phase;
        status.step = None;
        status.reason = Some(reason);
        status.message = message;
        status.endpoint = None;
    })
    .map(Decision::op)
    .unwrap_or_default()
}

/// Sandboxes assigned to the session that are not on their way out yet.
fn bound_sandboxes<'a>(ctx: Context<'a>, session: &Session) -> Vec<&'a Sandbox> {
    ctx.store.sandboxes_of_session(uid(&session.metadata)).filter(|s| !is_deleting(&s.metadata)).collect()
}

/// Deletes the session's sandboxes, all but `keep`.
fn delete_sandboxes(ctx: Context<'_>, session: &Session, keep: Option<&str>) -> Vec<Op> {
    bound_sandboxes(ctx, session)
        .into_iter()
        .filter(|sandbox| Some(uid(&sandbox.metadata)) != keep)
        .map(|sandbox| Op::DeleteSandbox(Target::of(&sandbox.metadata)))
        .collect()
}
