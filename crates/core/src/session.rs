//! What becomes of one session.
//!
//! Creating: find the agent and its pool, adopt a warm sandbox (durable patch and activation side by side)
//! or make a cold one, and write Ready once the sandbox is assigned *and* the runner has confirmed.
//! Ready: watch over the pod. Failed and Dead: give everything back.

mod activation;
mod creating;
mod running;
mod status;

pub(crate) use creating::pod_was_made;

use std::collections::HashMap;

use jiff::Timestamp;
use paddock_api::session::{DesiredState, FrozenAgent, Phase, Reason};
use paddock_api::{Sandbox, Session, labels};
use paddock_runnerapi::ActivateResponse;

use crate::engine::Settings;
use crate::ids::{Key, controller_uid, is_deleting, label, uid};
use crate::op::{Op, Target};
use crate::pod::Pod;
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

impl Context<'_> {
    /// True while a Sandbox of this name, or the pod of an earlier one, exists.
    pub(crate) fn name_taken(&self, key: &Key) -> bool {
        self.store.sandboxes.get(key).is_some() || self.store.pods.get(key).is_some()
    }
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
    /// Since when its agent, pool or template is missing.
    pub missing_since: Option<Timestamp>,
    /// The API server itself was asked for what is missing.
    pub missing_asked: bool,
    /// The agent as it was when the pod was activated with it.
    pub frozen: Option<FrozenAgent>,
    /// When the assignment was written.
    pub claimed_at: Option<Timestamp>,
    /// The runner's confirmation, of the pod with this UID.
    pub activation: Option<Confirmed>,
    /// The pod with this UID serves somebody else, or refused for good.
    pub refused: Option<Refused>,
    /// The pod with this UID was looked for on the API server itself.
    pub pod_asked: Option<String>,
    /// Why the last attempt to assign or activate a pod failed.
    pub runner_trouble: Option<String>,
    /// The API server refused to create its Sandbox.
    pub sandbox_rejected: Option<String>,
}

impl Memory {
    /// True when `pod` will never serve the session.
    fn is_refused_by(&self, pod: &Pod) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.pod_uid == pod.uid)
    }
}

/// A runner's confirmation.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// UID of the pod.
    pub pod_uid: String,
    /// What the runner said.
    pub response: ActivateResponse,
    /// When it first said so.
    pub at: Timestamp,
    /// It was given the session's first turn with it.
    pub has_prompt: bool,
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
        // The garbage collector would take its Sandboxes too, but only after the last finalizer.
        let mut ops = delete_sandboxes(ctx, session, None);
        ops.extend(spoilt(ctx, memory));
        return Decision::ops(ops);
    }
    memory.first_seen.get_or_insert(ctx.now);
    let phase = session.status.as_ref().map(|s| s.phase).unwrap_or_default();
    match (phase, session.spec.state) {
        (Phase::Failed | Phase::Dead, _) => {
            let mut ops = delete_sandboxes(ctx, session, None);
            ops.extend(spoilt(ctx, memory));
            Decision::ops(ops)
        }
        (_, DesiredState::Stopped) => {
            end(ctx, session, Phase::Dead, Reason::Stopped, "stopped on request".into())
        }
        (Phase::Creating, _) => creating::decide(ctx, session, memory),
        (Phase::Ready, _) => running::decide(ctx, session, memory),
        (Phase::Suspended, _) => Decision::default(),
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

/// Deletes the pool member that was activated for a session and never assigned to it: nobody else may have it.
pub(crate) fn spoilt(ctx: Context<'_>, memory: &Memory) -> Option<Op> {
    let sandbox = ctx.store.sandboxes.get(memory.reserved.as_ref()?)?;
    let unassigned = label(&sandbox.metadata, labels::SESSION_UID).is_none();
    (unassigned && !is_deleting(&sandbox.metadata)).then(|| Op::DeleteSandbox(Target::of(&sandbox.metadata)))
}

/// Sandboxes assigned to the session that are not on their way out yet.
fn bound_sandboxes<'a>(ctx: Context<'a>, session: &Session) -> Vec<&'a Sandbox> {
    let session_uid = uid(&session.metadata);
    ctx.store
        .sandboxes_of_session(session_uid)
        .filter(|s| {
            // A label is anybody's to write; the owner must agree, and owners never cross namespaces.
            s.metadata.namespace == session.metadata.namespace
                && controller_uid(&s.metadata) == Some(session_uid)
                && !is_deleting(&s.metadata)
        })
        .collect()
}

/// Deletes the session's sandboxes, all but `keep`.
fn delete_sandboxes(ctx: Context<'_>, session: &Session, keep: Option<&str>) -> Vec<Op> {
    bound_sandboxes(ctx, session)
        .into_iter()
        .filter(|sandbox| Some(uid(&sandbox.metadata)) != keep)
        .map(|sandbox| Op::DeleteSandbox(Target::of(&sandbox.metadata)))
        .collect()
}
