//! `Session`: one conversation with one agent, in one sandbox at a time.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::{AgentSpec, EnvVar, File, Lifecycle};
use crate::condition::Condition;

/// What a session shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[allow(clippy::duplicated_attributes, reason = "print columns repeat their keys")]
#[kube(
    group = "paddock.dev",
    version = "v1alpha1",
    kind = "Session",
    shortname = "ses",
    namespaced,
    status = "SessionStatus",
    derive = "PartialEq",
    category = "paddock",
    doc = "A Session is one conversation with one agent, in one sandbox at a time.",
    printcolumn(name = "Agent", type_ = "string", json_path = ".spec.agentRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Turns", type_ = "integer", json_path = ".status.turns.total"),
    printcolumn(name = "Active", type_ = "date", json_path = ".status.lastActivityTime"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.pod.node"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Sandbox", type_ = "string", json_path = ".status.sandbox.name", priority = 1),
    printcolumn(name = "IP", type_ = "string", json_path = ".status.pod.ip", priority = 1),
    printcolumn(name = "Start", type_ = "string", json_path = ".status.startup.path", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must be at most 63 characters, because it becomes a label value")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.agentRef) != has(self.agent)").message("give exactly one of agentRef (a saved Agent) and agent (an inline one)"),
    validation = Rule::new("has(self.agentRef) == has(oldSelf.agentRef) && (!has(self.agentRef) || self.agentRef == oldSelf.agentRef) && has(self.agent) == has(oldSelf.agent) && (!has(self.agent) || self.agent == oldSelf.agent)").message("agentRef and agent are immutable: what a session is made from does not change; make a new session"),
    validation = Rule::new("has(self.prompt) == has(oldSelf.prompt) && (!has(self.prompt) || self.prompt == oldSelf.prompt)").message("prompt is immutable: it is the session's first turn; send a message instead"),
    validation = Rule::new("oldSelf.state != 'Stopped' || self.state == 'Stopped' || (has(self.restartedAt) && (!has(oldSelf.restartedAt) || self.restartedAt != oldSelf.restartedAt))").message("a stopped session runs again only with a new restartedAt"),
    validation = Rule::new("!has(oldSelf.restartedAt) || has(self.restartedAt)").message("restartedAt cannot be taken back; give a newer time to restart again"),
    validation = Rule::new("!has(self.files) || self.files.filter(f, has(f.content)).map(f, f.content.size()).sum() <= 131072").message("files: their contents have more than 131072 characters in all; put large ones into a ConfigMap (configMapKeyRef) or into the repository")
)]
pub struct SessionSpec {
    /// The saved Agent to use. Exactly one of agentRef and agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ref: Option<AgentRef>,
    /// An inline agent. Exactly one of agentRef and agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentSpec>,
    /// What the conversation is about, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub title: Option<String>,
    /// The first turn, run exactly once, when the session first becomes Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub prompt: Option<String>,
    /// Environment that the agent's shells see, on top of the agent's. A secret belongs into a Secret: valueFrom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Files that are written into the workspace, on top of the agent's; one of the same path takes its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<File>,
    /// Whether the session shall run. `Suspended` gives the pod back and keeps the persistent workspace; `Stopped`
    /// ends the session: the pod is deleted, the record stays.
    #[serde(default)]
    pub state: DesiredState,
    /// A new value, usually the current time, gives the session a new pod: a restart of a live session, and the
    /// way back for a Failed or Dead one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub restarted_at: Option<Timestamp>,
    /// Rules of the session's life, in place of the agent's.
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
}

impl Session {
    /// True while `restartedAt` asks for an incarnation that is not there yet. What a session was created with
    /// asks for nothing: its first pod is new anyway.
    pub fn restart_wanted(&self) -> bool {
        let Some(status) = &self.status else { return false };
        self.spec.restarted_at.is_some() && self.spec.restarted_at != status.restarted_at
    }

    /// What the session is made from: as it was frozen, or inline, or else `saved`, the Agent that `agentRef` names as it is
    /// now. None while no agent is known.
    pub fn made_from<'a>(&'a self, saved: Option<&'a AgentSpec>) -> Option<&'a AgentSpec> {
        let frozen = self.status.as_ref().and_then(|status| status.agent.as_ref()?.spec.as_deref());
        frozen.or(self.spec.agent.as_ref()).or(saved)
    }

    /// The rules of the session's life: its own, in place of those of what it is made from (see
    /// [`Session::made_from`]).
    pub fn lifecycle(&self, saved: Option<&AgentSpec>) -> Option<Lifecycle> {
        Some(self.made_from(saved)?.lifecycle.overridden_by(&self.spec.lifecycle))
    }
}

/// Names an Agent in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentRef {
    /// The Agent's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// Whether a session shall run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// It runs.
    #[default]
    Running,
    /// It rests without a pod, and can go on later.
    Suspended,
    /// It ends.
    Stopped,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Not yet usable; `step` tells how far it is.
    #[default]
    Creating,
    /// The runner has confirmed that it serves this session.
    Ready,
    /// It has no pod; its persistent workspace waits for it to go on.
    Suspended,
    /// It could not be made; `reason` and `message` say why.
    Failed,
    /// It has ended, or its pod was lost.
    Dead,
}

impl Phase {
    /// The lower-case word that HTTP clients see.
    pub const fn http_status(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }

    /// True once nothing but a restart or its deletion can happen to the session.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Dead)
    }
}

/// How far a Creating session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The pod of the incarnation before is still ending; two must not share a workspace.
    EndingPod,
    /// A cold sandbox's pod is starting.
    StartingPod,
    /// The pod's runner is given the session.
    Activating,
    /// The agent's repository is being cloned.
    CloningRepo,
    /// Files and skills are being written.
    WritingFiles,
    /// Requirements are being installed.
    InstallingRequirements,
    /// MCP servers are being started or connected to.
    ConnectingMcp,
    /// The harness gets its conversation.
    OpeningHarness,
}

impl Step {
    /// The word as it stands in the status and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EndingPod => "ending_pod",
            Self::StartingPod => "starting_pod",
            Self::Activating => "activating",
            Self::CloningRepo => "cloning_repo",
            Self::WritingFiles => "writing_files",
            Self::InstallingRequirements => "installing_requirements",
            Self::ConnectingMcp => "connecting_mcp",
            Self::OpeningHarness => "opening_harness",
        }
    }

    /// Whether the pod has begun to be made into the session's: what it does by now comes of what the agent asks for.
    pub const fn is_equipping(self) -> bool {
        match self {
            Self::EndingPod | Self::StartingPod | Self::Activating => false,
            Self::CloningRepo
            | Self::WritingFiles
            | Self::InstallingRequirements
            | Self::ConnectingMcp
            | Self::OpeningHarness => true,
        }
    }
}

/// Why a session is in its phase: the bounded set of `status.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// Creating: the agent is not there (yet). Failed: it did not appear.
    AgentNotFound,
    /// The agent names a pool that does not exist.
    PoolNotFound,
    /// No SandboxTemplate declares the agent's harness, or the pool's template is missing.
    TemplateNotFound,
    /// The API server refused the pod or the sandbox.
    PodRejected,
    /// The pod's image cannot be pulled.
    ImagePullFailed,
    /// A container of the pod keeps crashing.
    CrashLoop,
    /// A container cannot be started as specified.
    ContainerConfigError,
    /// The pod ended instead of running.
    PodFailed,
    /// The session was not Ready within its startup timeout.
    StartupTimeout,
    /// The runner refused the activation for good.
    ActivationRejected,
    /// What the agent asks for cannot be had: its repository, its requirements or its MCP servers.
    ActivationFailed,
    /// Waiting for the pod to start.
    PodStarting,
    /// No node takes the pod.
    Unschedulable,
    /// Waiting for the runner's answer.
    Activating,
    /// The runner serves the session.
    Activated,
    /// The pod was deleted, by hand or by a program that gave no reason.
    Deleted,
    /// The kubelet evicted the pod, for example for want of disk, or a drain did.
    Evicted,
    /// The pod gave way to one of higher priority.
    Preempted,
    /// The pod's node does not answer any more.
    NodeLost,
    /// A container took more memory than its limit.
    OOMKilled,
    /// The harness ended, and the pod with it.
    HarnessCrashed,
    /// The pod was lost again and again shortly after it became Ready.
    RecoveryExhausted,
    /// Creating: a new pod is made in place of a lost one.
    Recovering,
    /// Creating: a new pod is made because `restartedAt` has a new value.
    Restarting,
    /// Creating: a suspended session goes on.
    Resuming,
    /// A ResourceQuota or LimitRange leaves no room for the pod.
    QuotaExceeded,
    /// The pod has scheduling gates that somebody else must lift.
    SchedulingGated,
    /// The Agent's `maxSessions` are taken.
    MaxSessionsReached,
    /// It lived as long as `maxLifetime` allows.
    MaxLifetimeReached,
    /// It was idle for as long as `idleTimeout` says.
    IdleTimeout,
    /// It was suspended on request.
    SuspendRequested,
    /// Suspending needs a persistent workspace, and the session has none.
    WorkspaceNotPersistent,
    /// The volume of the session's workspace is gone.
    WorkspaceLost,
    /// The gateway proved that nothing listens at the session's address.
    Unreachable,
    /// It was stopped on request.
    Stopped,
    /// Its pod is given back once a gateway has saved what was said in it.
    SavingTranscript,
}

impl Reason {
    /// The word as it stands in the status, in Events, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentNotFound => "AgentNotFound",
            Self::PoolNotFound => "PoolNotFound",
            Self::TemplateNotFound => "TemplateNotFound",
            Self::PodRejected => "PodRejected",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::CrashLoop => "CrashLoop",
            Self::ContainerConfigError => "ContainerConfigError",
            Self::PodFailed => "PodFailed",
            Self::StartupTimeout => "StartupTimeout",
            Self::ActivationRejected => "ActivationRejected",
            Self::ActivationFailed => "ActivationFailed",
            Self::PodStarting => "PodStarting",
            Self::Unschedulable => "Unschedulable",
            Self::Activating => "Activating",
            Self::Activated => "Activated",
            Self::Deleted => "Deleted",
            Self::Evicted => "Evicted",
            Self::Preempted => "Preempted",
            Self::NodeLost => "NodeLost",
            Self::OOMKilled => "OOMKilled",
            Self::HarnessCrashed => "HarnessCrashed",
            Self::RecoveryExhausted => "RecoveryExhausted",
            Self::Recovering => "Recovering",
            Self::Restarting => "Restarting",
            Self::Resuming => "Resuming",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::SchedulingGated => "SchedulingGated",
            Self::MaxSessionsReached => "MaxSessionsReached",
            Self::MaxLifetimeReached => "MaxLifetimeReached",
            Self::IdleTimeout => "IdleTimeout",
            Self::SuspendRequested => "SuspendRequested",
            Self::WorkspaceNotPersistent => "WorkspaceNotPersistent",
            Self::WorkspaceLost => "WorkspaceLost",
            Self::Unreachable => "Unreachable",
            Self::Stopped => "Stopped",
            Self::SavingTranscript => "SavingTranscript",
        }
    }
}

/// What a session was made from, frozen when it was bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrozenAgent {
    /// The Agent's name; empty for an inline agent.
    #[serde(default)]
    pub name: String,
    /// The Agent's UID; empty for an inline agent.
    #[serde(default)]
    pub uid: String,
    /// The Agent's generation; 0 for an inline agent.
    #[serde(default)]
    pub generation: i64,
    /// Hash of the agent's spec, the session's own rules and environment included.
    #[serde(default)]
    pub hash: String,
    /// The Agent's spec as it was. Later incarnations are made from it, whatever became of the Agent; absent for
    /// an inline agent, which cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Box<AgentSpec>>,
}

/// Names a Sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxRef {
    /// Name, in the session's namespace.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// Names the pod that serves a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodRef {
    /// Name, in the session's namespace.
    pub name: String,
    /// UID; part of every token, so that a reused address serves nobody else.
    pub uid: String,
    /// Address.
    pub ip: String,
    /// Node.
    #[serde(default)]
    pub node: String,
}

/// What the harness of a session can do, as its runner declared it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// It answers messages.
    #[serde(default)]
    pub messages: bool,
    /// It has a terminal to attach to.
    #[serde(default)]
    pub terminal: bool,
}

/// Whether a session's pod was waiting in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartupPath {
    /// A booted pool member was adopted.
    Warm,
    /// A pod was made for the session.
    Cold,
}

/// How long the start took, in milliseconds since the controller first saw the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Startup {
    /// Warm or cold.
    pub path: StartupPath,
    /// Until the sandbox was durably assigned.
    pub claimed_ms: u64,
    /// Until the runner confirmed the session.
    pub activated_ms: u64,
    /// How long each step of the activation took, of those that had anything to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StartupStep>,
    /// When the session became Ready, RFC 3339 with milliseconds.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub ready_at: Timestamp,
}

/// See [`Startup::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartupStep {
    /// Which step.
    pub step: Step,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Turns of a session's pods, as last read from the runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Turns {
    /// All there were.
    #[serde(default)]
    pub total: u64,
    /// Those that run: none or one.
    #[serde(default)]
    pub running: u32,
    /// Those that wait.
    #[serde(default)]
    pub queued: u32,
}

/// Names the volume claim with a session's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceRef {
    /// The PersistentVolumeClaim's name, in the session's namespace.
    pub claim_name: String,
}

/// What a session is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// The `metadata.generation` this was derived from.
    #[serde(default)]
    pub observed_generation: i64,
    /// Where the session is in its life.
    #[serde(default)]
    pub phase: Phase,
    /// How far a Creating session is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// Why it is in this phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// A sentence that says what happened and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Which pod of the session this is, counted from 1.
    #[serde(default)]
    pub incarnation: u32,
    /// Since when this incarnation is wanted, RFC 3339; the startup timeout counts from here. Absent for the
    /// first one, which is wanted since the session's creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub incarnation_since: Option<Timestamp>,
    /// The value of `spec.restartedAt` that the current incarnation answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub restarted_at: Option<Timestamp>,
    /// How often a lost pod was replaced since an incarnation last lived for ten minutes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recoveries: u32,
    /// When the session became Failed or Dead, RFC 3339; its time to live counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// Turns, as last read from the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
    /// When the session was last seen to be busy, RFC 3339. Coarse: at least 30 s between two writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_activity_time: Option<Timestamp>,
    /// The volume with the session's files, where its workspace is persistent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceRef>,
    /// What the session was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<FrozenAgent>,
    /// The Sandbox that is the session's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxRef>,
    /// The pod that serves the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// Where the runner listens, `ip:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The conversation's id inside the harness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness_session_id: Option<String>,
    /// What the harness can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// How long the start took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Startup>,
    /// Up to where the transcript must be saved before the pod is given back, `<journal>.<seq>`: a gateway is asked to do so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript_wanted: Option<String>,
    /// Conditions: `Ready`, `Bound`, `Activated`, `Idle`, `TranscriptSaved`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}
