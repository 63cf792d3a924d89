//! What becomes of one session.
//!
//! | phase | rules in |
//! | --- | --- |
//! | Creating | [`admission`]: the agent's `maxSessions`; [`creating`]: adopt a warm sandbox or make a cold one; [`exchange`]: a member after all; [`activation`]: give the pod its session; [`equipping`]: the pod takes its time to become it |
//! | Ready | [`running`]: watch over the pod; [`idle`]: notice that nobody uses it; [`loss`]: what a lost pod means |
//! | Suspended | [`suspend`]: the way there and back |
//! | Failed, Dead | [`ending`]: give everything back, and forget the record in time |
//!
//! Each pod of a session is an incarnation of it. Only the status says which is the current one
//! ([`incarnation`]); sandboxes of others are given back, but never before the session's workspace is safe
//! ([`workspace`]), nor on purpose before what was said is saved ([`transcript`]).

mod activation;
mod admission;
mod claim;
mod creating;
mod ending;
mod equipping;
mod exchange;
mod idle;
mod incarnation;
mod loss;
mod running;
mod status;
mod suspend;
mod transcript;
mod workspace;

pub(crate) use admission::{admit, agent_of};
pub(crate) use creating::pod_was_made;
pub(crate) use ending::spoilt;
pub(crate) use idle::LOOK_MIN;
pub(crate) use incarnation::is_current;

use std::collections::BTreeMap;

use jiff::Timestamp;
use paddock_api::session::{DesiredState, FrozenAgent, Phase, Reason};
use paddock_api::{Sandbox, Session, labels};
use paddock_runnerapi::{ActivateResponse, ActivationStep, Activity};

use crate::build;
use crate::catalog;
use crate::engine::Settings;
use crate::ids::{Key, controller_uid, is_deleting, label, uid};
use crate::op::Op;
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
    pub reserved: &'a BTreeMap<Key, Key>,
    /// Sandboxes with a write in flight; adopting one now would only conflict.
    pub busy: &'a dyn SandboxBusy,
    /// How many writes that nobody waits for may begin now: few while sessions are being started.
    pub beside: usize,
    /// The time.
    pub now: Timestamp,
}

impl Context<'_> {
    /// True where a gateway saves what is said in `session`.
    fn keeps_transcript(&self, session: &Session) -> bool {
        let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
        self.settings.keeps_transcripts_in.contains(namespace)
    }

    /// True while the name of `sandbox`, which is to be made, is still another one's: a Sandbox, the pod of an earlier one,
    /// or a volume claim that goes away with the one it was made for.
    pub(crate) fn name_taken(&self, sandbox: &Sandbox) -> bool {
        let key = Key::of(&sandbox.metadata);
        self.store.sandboxes.get(&key).is_some()
            || self.store.pods.get(&key).is_some()
            || build::volume_claims(sandbox)
                .iter()
                .any(|claim| self.store.volume_claims.get(&claim.after.key()).is_some())
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
    /// Which incarnation all of this is about.
    pub incarnation: u32,
    /// When this leader first saw the incarnation wanted.
    pub first_seen: Option<Timestamp>,
    /// The API server itself was asked which Sandboxes are assigned to it.
    pub claims_asked: bool,
    /// An assignment got no answer: it may have been made.
    pub assignment_unknown: bool,
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
    /// How far the runner is that was given the session and has not confirmed it yet.
    pub progress: Option<Progress>,
    /// What the agent asks for cannot be had: the runner's words.
    pub activation_failed: Option<String>,
    /// The pod with this UID serves somebody else, or refused for good.
    pub refused: Option<Refused>,
    /// The pod with this UID was looked for on the API server itself.
    pub pod_asked: Option<String>,
    /// Whether the API server itself was asked before a sandbox of it is given back in favour of another one.
    pub asked_to_discard: Asked,
    /// Whether the API server itself was asked for the session because of a sandbox of a later incarnation.
    pub asked_for_later: Asked,
    /// It gives its own pod up for a pool member.
    pub exchanges: bool,
    /// The volume claim of its workspace was looked for on the API server itself.
    pub workspace_asked: bool,
    /// Why the last attempt to assign or activate a pod failed.
    pub runner_trouble: Option<String>,
    /// The API server refused to create its Sandbox.
    pub sandbox_rejected: Option<String>,
    /// How busy the session was when its runner was last asked.
    pub activity: Option<Observed>,
    /// Its runner is asked at once how busy the session is: it may have been brought to rest in vain.
    pub ask_now: bool,
    /// No runner is asked before; the last attempt failed.
    pub look_after: Option<Timestamp>,
    /// Its pod was brought to rest because it was idle: what people are told about it.
    pub idle: Option<String>,
    /// Since when its pod is being brought to rest.
    pub quiescing_since: Option<Timestamp>,
}

impl Memory {
    /// True when `pod` will never serve the session.
    fn is_refused_by(&self, pod: &Pod) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.pod_uid == pod.uid)
    }

    /// What the runner of `pod` said, where it said that it takes no more turns.
    fn at_rest(&self, pod: &Pod) -> Option<&Activity> {
        let seen = self.activity.as_ref().filter(|seen| seen.pod_uid == pod.uid)?;
        Some(&seen.activity).filter(|activity| activity.quiesced)
    }
}

/// A question to the API server that concerns a sandbox with this UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// None.
    #[default]
    Nothing,
    /// On its way; so many objects have not been answered for.
    About(String, u8),
    /// All were answered for.
    Answered(String),
}

impl Asked {
    /// One more answer has come.
    pub(crate) fn answered(&mut self) {
        if let Self::About(sandbox, left) = self {
            *self = match *left {
                0 | 1 => Self::Answered(std::mem::take(sandbox)),
                left => Self::About(std::mem::take(sandbox), left - 1),
            };
        }
    }

    fn is_answered_for(&self, sandbox_uid: &str) -> bool {
        matches!(self, Self::Answered(asked) if asked == sandbox_uid)
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

/// How far an activation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// UID of the pod.
    pub pod_uid: String,
    /// What its runner does.
    pub step: ActivationStep,
    /// When it said so.
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

/// How busy a session was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// UID of the pod that was asked.
    pub pod_uid: String,
    /// What its runner said.
    pub activity: Activity,
    /// When.
    pub at: Timestamp,
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
    /// Something made way for sessions that are being started.
    pub yields: bool,
    /// A session that would take a pool member if one were ready.
    pub hopes: bool,
}

impl Decision {
    fn op(op: Op) -> Self {
        Self { ops: vec![op], ..Self::default() }
    }

    fn ops(ops: Vec<Op>) -> Self {
        Self { ops, ..Self::default() }
    }

    fn wake(at: Timestamp) -> Self {
        Self { wake: Some(at), ..Self::default() }
    }

    /// Looks again at `at`, or earlier where that was wanted already.
    fn and_wake(mut self, at: Option<Timestamp>) -> Self {
        self.wake = [self.wake, at].into_iter().flatten().min();
        self
    }
}

/// Decides on `session`.
pub fn decide(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Decision {
    if is_deleting(&session.metadata) {
        return ending::deleting(ctx, session, memory);
    }
    if let Some(decision) = incarnation::remember(ctx, session, memory) {
        return decision;
    }
    if let Some(ask) = incarnation::catch_up(ctx, session, memory) {
        return ask;
    }
    let phase = session.status.as_ref().map(|s| s.phase).unwrap_or_default();
    let state = session.spec.state;
    if state == DesiredState::Running && session.restart_wanted() {
        let first = transcript::save_first(ctx, session, memory);
        return first.unwrap_or_else(|| incarnation::next(ctx, session, incarnation::Next::Restart));
    }
    if phase.is_final() {
        return ending::ended(ctx, session, memory);
    }
    if state == DesiredState::Stopped {
        if let Some(first) = transcript::save_first(ctx, session, memory) {
            return first;
        }
        return ending::end(ctx, session, Phase::Dead, Reason::Stopped, "stopped on request".into());
    }
    let lifetime = lifetime_ends(ctx, session);
    if let Some((limit, _)) = lifetime.as_ref().filter(|(_, at)| *at <= ctx.now) {
        if let Some(first) = transcript::save_first(ctx, session, memory) {
            return first;
        }
        let message = format!("lived for {limit}, as long as lifecycle.maxLifetime allows");
        return ending::end(ctx, session, Phase::Dead, Reason::MaxLifetimeReached, message);
    }
    let decision = match phase {
        Phase::Creating => creating::decide(ctx, session, memory),
        Phase::Ready => running::decide(ctx, session, memory),
        Phase::Suspended => suspend::suspended(ctx, session, memory),
        Phase::Failed | Phase::Dead => Decision::default(),
    };
    decision.and_wake(lifetime.map(|(_, at)| at))
}

/// How long the session may live, and when that is over.
fn lifetime_ends(ctx: Context<'_>, session: &Session) -> Option<(paddock_api::Duration, Timestamp)> {
    let limit = catalog::lifecycle(ctx.store, session)?.max_lifetime?;
    let created = session.metadata.creation_timestamp.as_ref()?.0;
    Some((limit, created.checked_add(limit.as_std()).unwrap_or(Timestamp::MAX)))
}

/// The session that `sandbox` is assigned to, if it still exists.
pub(crate) fn session_of<'a>(store: &'a Store, sandbox: &Sandbox) -> Option<&'a Session> {
    let session_uid = label(&sandbox.metadata, labels::SESSION_UID)?;
    let name = label(&sandbox.metadata, labels::SESSION)?;
    let namespace = sandbox.metadata.namespace.as_deref().unwrap_or_default();
    store.sessions.get(&Key::new(namespace, name)).filter(|session| uid(&session.metadata) == session_uid)
}

/// Sandboxes assigned to the session, of any incarnation, that are not on their way out yet.
fn assigned_sandboxes<'a>(ctx: Context<'a>, session: &Session) -> impl Iterator<Item = &'a Sandbox> {
    let session_uid = uid(&session.metadata).to_owned();
    let namespace = session.metadata.namespace.clone();
    ctx.store.sandboxes_of_session(uid(&session.metadata)).filter(move |s| {
        // A label is anybody's to write; the owner must agree, and owners never cross namespaces.
        s.metadata.namespace == namespace
            && controller_uid(&s.metadata) == Some(session_uid.as_str())
            && !is_deleting(&s.metadata)
    })
}
