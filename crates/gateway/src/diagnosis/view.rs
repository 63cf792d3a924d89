//! What is shown of what was read, which `show` makes. Fields are chosen one by one: whatever an object gains later stays out.

use jiff::Timestamp;
use paddock_api::agent::WorkspaceMode;
use paddock_api::http::ApiStatus;
use paddock_api::sandbox::OperatingMode;
use paddock_api::session::{DesiredState, Reason, Startup, Step, Turns};
use paddock_api::{ConditionStatus, Phase};
use schemars::JsonSchema;
use serde::Serialize;

use super::issues::Issue;

/// All that is known about a session, and what is wrong with it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Diagnosis {
    /// The session.
    pub session: SessionView,
    /// Its Agent.
    pub agent: PartView<AgentView>,
    /// The pod of its Sandbox.
    pub pod: PartView<PodView>,
    /// Its Sandbox.
    pub sandbox: PartView<SandboxView>,
    /// The pool that its agent names, or that serves agents which name none.
    pub pool: PartView<PoolView>,
    /// What happened to session, Sandbox and pod, the latest first.
    pub events: PartView<Vec<EventView>>,
    /// Whether its runner answers.
    pub harness_probe: PartView<ProbeView>,
    /// What is wrong, the worst first.
    pub detected_issues: Vec<Issue>,
}

/// A part of a diagnosis; null where nothing names it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum PartView<T> {
    /// Nothing names it.
    Unnamed,
    /// Nothing of this name exists.
    Missing {
        /// It does not.
        #[schemars(extend("const" = false))]
        exists: bool,
        /// Its name.
        name: String,
    },
    /// It could not be read.
    Unread {
        /// Why.
        error: String,
    },
    /// This is it.
    Found(T),
}

/// A session.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SessionView {
    /// Its name.
    pub id: Option<String>,
    /// Its UID.
    pub uid: Option<String>,
    /// Its Agent's name.
    pub agent_id: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Where it is in its life, as `GET /sessions` says it.
    pub status: ApiStatus,
    /// Whether it shall run.
    pub desired_state: DesiredState,
    /// Where it is in its life, as the controller says it.
    pub phase: Phase,
    /// How far it is while it is being created.
    pub step: Option<Step>,
    /// Why it is in its phase.
    pub reason: Option<Reason>,
    /// The same in a sentence.
    pub message: String,
    /// Which pod of the session this is, counted from 1.
    pub incarnation: u32,
    /// How often a lost pod was replaced lately.
    pub recoveries: u32,
    /// How long the start took.
    pub startup: Option<Startup>,
    /// Its Sandbox's name.
    pub sandbox: Option<String>,
    /// Its pod's name.
    pub pod: Option<String>,
    /// Where its runner listens.
    pub endpoint: Option<String>,
    /// Its turns, as last read from the runner.
    pub turns: Option<Turns>,
    /// When it was last seen to be busy.
    pub last_activity_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Up to where its transcript shall be saved.
    pub transcript_wanted: Option<String>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
}

/// A condition of an object of ours.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConditionView {
    /// What is observed.
    pub r#type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When its status last changed.
    pub since: Timestamp,
}

/// An Agent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AgentView {
    /// It does.
    #[schemars(extend("const" = true))]
    pub exists: bool,
    /// Its name.
    pub name: Option<String>,
    /// Its harness.
    pub harness: String,
    /// Its model.
    pub model: String,
    /// The pool that it names.
    pub pool: Option<String>,
    /// Pools that are asked when that one is empty.
    pub fallback_pools: Vec<String>,
    /// Where files are kept.
    pub workspace: WorkspaceMode,
    /// How many sessions may live at once.
    pub max_sessions: Option<u32>,
    /// Its conditions.
    pub conditions: Option<Vec<ConditionView>>,
}

/// A pod.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PodView {
    /// It does.
    #[schemars(extend("const" = true))]
    pub exists: bool,
    /// Its name.
    pub name: Option<String>,
    /// Its UID.
    pub uid: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When the kubelet took it on.
    pub started_at: Option<Timestamp>,
    /// Its phase.
    pub phase: String,
    /// Its address.
    pub ip: Option<String>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Why it is in its phase.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub message: Option<String>,
    /// Its conditions.
    pub conditions: Vec<PodConditionView>,
    /// Its init containers.
    pub init_containers: Vec<ContainerView>,
    /// Its containers.
    pub containers: Vec<ContainerView>,
}

/// A condition of a pod.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PodConditionView {
    /// What is observed.
    pub r#type: String,
    /// Whether it holds.
    pub status: String,
    /// One word.
    pub reason: Option<String>,
    /// A sentence.
    pub message: Option<String>,
    /// When its status last changed.
    pub since: Option<Timestamp>,
}

/// A container.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restart_count: u32,
    /// Its state; null where the kubelet has not told it.
    pub now: Option<ContainerState>,
    /// How it ended the last time.
    pub before: Option<ContainerState>,
}

/// What a container does.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ContainerState {
    /// It is not started.
    Waiting {
        /// One word.
        reason: Option<String>,
        /// A sentence.
        message: Option<String>,
    },
    /// It runs.
    Running,
    /// It has ended.
    Terminated {
        /// One word.
        reason: Option<String>,
        /// Its exit code.
        exit_code: i32,
        /// A sentence.
        message: Option<String>,
    },
}

/// A Sandbox.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SandboxView {
    /// It does.
    #[schemars(extend("const" = true))]
    pub exists: bool,
    /// Its name.
    pub name: Option<String>,
    /// Its UID.
    pub uid: Option<String>,
    /// Whether its pod shall exist.
    pub operating_mode: OperatingMode,
    /// The node of its pod.
    pub node: Option<String>,
    /// The addresses of its pod.
    pub pod_ips: Vec<String>,
    /// Its Service.
    pub service: Option<String>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
}

/// A pool.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PoolView {
    /// It does.
    #[schemars(extend("const" = true))]
    pub exists: bool,
    /// Its name.
    pub name: Option<String>,
    /// The template of its members.
    pub template: String,
    /// How many members it shall have.
    pub desired_replicas: i32,
    /// How many members it has.
    pub replicas: i32,
    /// How many members can be adopted at once.
    pub ready_replicas: i32,
}

/// A Kubernetes Event.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventView {
    /// `Normal` or `Warning`.
    pub r#type: Option<String>,
    /// One word.
    pub reason: Option<String>,
    /// A sentence.
    pub message: Option<String>,
    /// How often it was seen.
    pub count: u32,
    /// When it was seen last.
    pub last_at: Option<Timestamp>,
    /// What it is about: kind and name.
    pub object: String,
}

/// What the runner said to a question that only the session's own can answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProbeView {
    /// Whether anything answers.
    pub reachable: bool,
    /// Whether that serves the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub serves_session: Option<bool>,
    /// How long its answer took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub took_ms: Option<u64>,
    /// What it said, or why nothing answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub error: Option<String>,
}
