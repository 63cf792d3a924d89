//! What the engine wants done, and what can come of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::agent::Equipment;
pub use paddock_api::merge::merge_diff;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session};
use paddock_runnerapi::{ActivateRequest, ActivateResponse, ActivationProgress, Activity};
use serde_json::Value;

use crate::ids::Key;
use crate::pod::Pod;
use crate::volume_claim::VolumeClaim;

/// Names one version of one object: the precondition of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Namespace and name.
    pub key: Key,
    /// UID: the write is for this object, not for a later one of the same name.
    pub uid: String,
    /// Version the decision was made on.
    pub resource_version: String,
}

impl Target {
    /// The object with this metadata, in this version.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            key: Key::of(meta),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }

    /// This volume claim, in this version.
    pub fn of_volume_claim(claim: &VolumeClaim) -> Self {
        Self { key: claim.key(), uid: claim.uid.clone(), resource_version: claim.resource_version.clone() }
    }

    /// This pod, in this version.
    pub fn of_pod(pod: &Pod) -> Self {
        Self { key: pod.key(), uid: pod.uid.clone(), resource_version: pod.resource_version.clone() }
    }
}

/// A merge patch, and the object as it is once the patch has been applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch<K> {
    /// What is patched, and in which version.
    pub target: Target,
    /// The merge patch.
    pub patch: Value,
    /// The object afterwards, but for its resourceVersion.
    pub after: Box<K>,
}

/// A pod to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPod {
    /// The manifest to send.
    pub manifest: Value,
    /// The pod as it is right after creation, but for UID and resourceVersion.
    pub after: Pod,
}

/// A volume claim to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewVolumeClaim {
    /// The manifest to send.
    pub manifest: Value,
    /// The claim as it is right after creation, but for UID and resourceVersion.
    pub after: VolumeClaim,
}

/// The runner that serves a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRef {
    /// UID of its pod; the token is bound to it.
    pub pod_uid: String,
    /// UID of the session; the token is bound to it too.
    pub session_uid: String,
    /// Where it listens, `ip:port`.
    pub endpoint: String,
}

/// A pod to activate for a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// UID of the pod; the token is bound to it.
    pub pod_uid: String,
    /// Where its runner listens, `ip:port`.
    pub endpoint: String,
    /// What to say, but for the variables and the equipment below.
    pub request: ActivateRequest,
    /// What the session is equipped with, where it is with anything. What it refers to is read when the pod is activated, like
    /// the variables below.
    pub equipment: Option<Box<Equipment>>,
    /// Variables of the agent's environment whose values are in Secrets of the session's namespace. They are read when the
    /// pod is activated, so that no value is ever in the engine's memory, a log or an object.
    pub secret_env: Vec<SecretEnv>,
    /// What becomes of a variable, a credential or a header whose value is not there.
    pub absent: AbsentValue,
}

/// A variable whose value is in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEnv {
    /// The variable's name.
    pub name: String,
    /// The Secret's name.
    pub secret: String,
    /// The key of the value in the Secret.
    pub key: String,
}

/// What becomes of a value that is not in its Secret, or whose Secret is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbsentValue {
    /// The activation waits for it: the Secret may be made a moment after its Agent.
    Awaited,
    /// It is left out: the session has run, and was made with a value that was taken from its agent since.
    LeftOut,
}

/// One thing to do. Operations of one decision run side by side.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Create a Sandbox under a derived name.
    CreateSandbox(Box<Sandbox>),
    /// Patch a Sandbox's metadata: the durable assignment to a session.
    PatchSandbox(Patch<Sandbox>),
    /// Patch a Sandbox's status.
    PatchSandboxStatus(Patch<Sandbox>),
    /// Delete a Sandbox; its pod follows.
    DeleteSandbox(Target),
    /// Create a Sandbox's pod, named like the Sandbox.
    CreatePod(Box<NewPod>),
    /// Patch a pod's labels and annotations.
    PatchPod(Patch<Pod>),
    /// Delete a pod.
    DeletePod(Target),
    /// Create a volume claim of a Sandbox, under a derived name.
    CreateVolumeClaim(Box<NewVolumeClaim>),
    /// Give a volume claim another owner.
    PatchVolumeClaim(Patch<VolumeClaim>),
    /// Change what a Session is asked to be: an idle one shall be suspended.
    PatchSession(Patch<Session>),
    /// Delete a Session whose record has been kept long enough.
    DeleteSession(Target),
    /// Patch a Session's status.
    PatchSessionStatus(Patch<Session>),
    /// Patch a pool's status.
    PatchPoolStatus(Patch<SandboxWarmPool>),
    /// Patch an Agent's status.
    PatchAgentStatus(Patch<Agent>),
    /// Give a pod its session.
    Activate(Box<Activation>),
    /// Ask a runner how busy its session is.
    ReadActivity(RunnerRef),
    /// Ask a runner to take no more turns; only if it was idle for so many milliseconds, where they are given.
    Quiesce(RunnerRef, Option<u64>),
    /// Ask the API server itself, past every cache.
    Refresh(Refresh),
}

/// A consistent read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Of one Session.
    Session(Named),
    /// Of one Sandbox.
    Sandbox(Named),
    /// Of one Pod.
    Pod(Named),
    /// Of one volume claim.
    VolumeClaim(Named),
    /// Of one pool.
    Pool(Named),
    /// Of one Agent.
    Agent(Named),
    /// Of one SandboxTemplate.
    Template(Named),
    /// Of all Sandboxes assigned to a session.
    Claims {
        /// Namespace of the session.
        namespace: String,
        /// UID of the session.
        session_uid: String,
    },
}

/// An object to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Namespace and name.
    pub key: Key,
    /// UID of the object that was expected there. If there is none, it is this one that is gone; by the time
    /// the answer arrives another one may have taken the name.
    pub uid: Option<String>,
}

/// What a [`Refresh`] found.
#[derive(Clone, Debug)]
pub enum Refreshed {
    /// The Session, if it exists.
    Session(Option<Box<Session>>),
    /// The Sandbox, if it exists.
    Sandbox(Option<Box<Sandbox>>),
    /// The Pod, if it exists.
    Pod(Option<Box<Pod>>),
    /// The volume claim, if it exists.
    VolumeClaim(Option<Box<VolumeClaim>>),
    /// The pool, if it exists.
    Pool(Option<Box<SandboxWarmPool>>),
    /// The Agent, if it exists.
    Agent(Option<Box<Agent>>),
    /// The SandboxTemplate, if it exists.
    Template(Option<Box<SandboxTemplate>>),
    /// The Sandboxes that carry the session's label.
    Claims(Vec<Sandbox>),
}

/// What came of an [`Op`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The object was written.
    Written {
        /// Its UID.
        uid: String,
        /// Its version after the write.
        resource_version: String,
    },
    /// The object is deleted, is on its way out, or was not there.
    Deleted,
    /// The write was not made, or nobody knows.
    Failed(WriteFailure),
    /// The runner serves the session.
    Activated(ActivateResponse),
    /// The runner goes on making its pod into the session's. Asked again, it says more.
    Activating(ActivationProgress),
    /// How busy the session is.
    Activity(Activity),
    /// The runner did not do it.
    Refused(RunnerFailure),
    /// The API server has answered.
    Refreshed(Refreshed),
}

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// The object is not there.
    NotFound,
    /// An object of that name is there already.
    AlreadyExists,
    /// The object has changed, or is another one of the same name.
    Conflict,
    /// The API server refuses it as it is.
    Rejected {
        /// HTTP status.
        status: u16,
        /// What the API server said.
        message: String,
    },
    /// The API server asks for a pause, of this many milliseconds if it said.
    Throttled(Option<u64>),
    /// The API server did not answer, or with a server error. The write may have happened.
    Unavailable(String),
}

/// Why a runner did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunnerFailure {
    /// The pod serves another session, or does not accept this controller's key: it is spoilt for this one.
    Spoilt(String),
    /// The runner cannot be reached or is not ready, or what it must be told is not there; trying again may help.
    Unavailable(String),
    /// The runner refuses for good.
    Rejected(String),
    /// What the agent asks for cannot be had, by this pod or any other.
    Failed(String),
    /// The session is not as idle as was asked for.
    Busy,
}
