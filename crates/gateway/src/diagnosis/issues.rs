//! Finds what is wrong in what was read of a session. Pure, so that each rule can be read and tested here.

use std::collections::BTreeMap;

use paddock_api::session::Reason;
use paddock_api::{Condition, ConditionStatus, Phase, SandboxWarmPool, Session, labels};
use paddock_kubeio::slim::{ContainerState, ContainerStatus, SlimPod};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Part, Probe, Seen};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Issue {
    /// Which kind it is.
    pub code: IssueCode,
    /// How bad it is for the session.
    pub severity: Severity,
    /// What is the case.
    pub message: String,
    /// What to do.
    pub recommended_action: &'static str,
}

/// How bad an issue is, in the words of LiteLLM Agent Platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The session cannot be used because of it.
    High,
    /// Something does not go on, or may be lost.
    Med,
    /// Good to know.
    Info,
}

/// The bounded set of kinds, the causes before what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IssueCode {
    /// The Agent does not exist.
    AgentMissing,
    /// The pool does not exist.
    PoolMissing,
    /// No template declares the harness.
    TemplateMissing,
    /// The agent's `maxSessions` are taken.
    MaxSessionsReached,
    /// A ResourceQuota or LimitRange leaves no room.
    QuotaExceeded,
    /// The API server refused the pod.
    PodRejected,
    /// No node takes the pod.
    Unschedulable,
    /// The pod has scheduling gates.
    SchedulingGated,
    /// An image cannot be pulled.
    ImagePullFailed,
    /// A container cannot be started as specified.
    ContainerConfigError,
    /// A container took more memory than its limit.
    OutOfMemory,
    /// A container crashes again and again.
    CrashLoop,
    /// It was not ready in time.
    StartupTimeout,
    /// The runner refused the session.
    ActivationRejected,
    /// What the agent asks for cannot be had.
    ActivationFailed,
    /// The volume of its files is gone.
    WorkspaceLost,
    /// It has lost its pod.
    PodLost,
    /// Nothing answers at its address.
    RunnerSilent,
    /// What answers at its address does not serve it.
    RunnerRefuses,
    /// What was said is not stored.
    TranscriptNotSaved,
    /// No pool member is ready.
    PoolEmpty,
    /// A part of this diagnosis could not be read.
    NotRead,
}

impl IssueCode {
    const fn severity(self) -> Severity {
        match self {
            Self::AgentMissing
            | Self::PoolMissing
            | Self::TemplateMissing
            | Self::MaxSessionsReached
            | Self::QuotaExceeded
            | Self::PodRejected
            | Self::Unschedulable
            | Self::SchedulingGated
            | Self::ImagePullFailed
            | Self::ContainerConfigError
            | Self::OutOfMemory
            | Self::CrashLoop
            | Self::StartupTimeout
            | Self::ActivationRejected
            | Self::ActivationFailed
            | Self::WorkspaceLost
            | Self::PodLost
            | Self::RunnerSilent
            | Self::RunnerRefuses => Severity::High,
            Self::TranscriptNotSaved | Self::NotRead => Severity::Med,
            Self::PoolEmpty => Severity::Info,
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::AgentMissing => "create the Agent, or make a session of another one",
            Self::PoolMissing => {
                "create that SandboxWarmPool, or name another one in the agent's poolRef or fallbackPoolRefs"
            }
            Self::TemplateMissing => {
                "install a pool whose SandboxTemplate has the annotation paddock.dev/harness with the agent's harness"
            }
            Self::MaxSessionsReached => "end a session of this agent, or raise its maxSessions",
            Self::QuotaExceeded => {
                "end other sessions, make the pool smaller, or raise the namespace's ResourceQuota; the start goes on by itself"
            }
            Self::PodRejected => {
                "correct the pod in the SandboxTemplate, or the policy that refuses it; then restart the session"
            }
            Self::Unschedulable => {
                "add nodes, or lower the requests and loosen the selectors of the SandboxTemplate; the start goes on by itself"
            }
            Self::SchedulingGated => "have whoever set the pod's scheduling gates lift them",
            Self::ImagePullFailed => {
                "check the image's name and the pull secret in the SandboxTemplate, and that nodes reach the registry; then restart the session"
            }
            Self::ContainerConfigError => {
                "create the Secret, ConfigMap or volume that the container refers to, or correct the SandboxTemplate"
            }
            Self::OutOfMemory => {
                "raise the memory limit of the container in the SandboxTemplate; then restart the session"
            }
            Self::CrashLoop => {
                "look at sandbox_logs and at the SandboxTemplate's command; then restart the session"
            }
            Self::StartupTimeout => {
                "look at the events and at sandbox_logs for what took so long, or raise lifecycle.startupTimeout; then restart the session"
            }
            Self::ActivationFailed => {
                "change what the message names in the agent (repository, branch, credential, requirements, MCP servers), then restart the session"
            }
            Self::ActivationRejected => {
                "look at the controller's log for what the runner said; then restart the session"
            }
            Self::WorkspaceLost => "make a new session: the files of this one are gone",
            Self::PodLost => "restart the session; lifecycle.recovery: Auto does so by itself",
            Self::RunnerSilent => {
                "look at sandbox_logs, and whether a NetworkPolicy keeps the gateway from the pod; then restart the session"
            }
            Self::RunnerRefuses => {
                "check that controller and gateway use the same signing key, which must not change while sessions run; then restart the session"
            }
            Self::TranscriptNotSaved => {
                "look at the gateway's log and at its transcript store; the session goes on once it is saved"
            }
            Self::PoolEmpty => {
                "nothing, if it is being refilled; otherwise look at the pool's pods, or raise its replicas"
            }
            Self::NotRead => "check the API server, and that the gateway's Role allows this read",
        }
    }

    /// What a session's own reason says is wrong.
    const fn of(reason: Reason) -> Option<Self> {
        Some(match reason {
            Reason::AgentNotFound => Self::AgentMissing,
            Reason::PoolNotFound => Self::PoolMissing,
            Reason::TemplateNotFound => Self::TemplateMissing,
            Reason::PodRejected => Self::PodRejected,
            Reason::ImagePullFailed => Self::ImagePullFailed,
            Reason::CrashLoop | Reason::RecoveryExhausted => Self::CrashLoop,
            Reason::ContainerConfigError => Self::ContainerConfigError,
            Reason::StartupTimeout => Self::StartupTimeout,
            Reason::ActivationRejected => Self::ActivationRejected,
            Reason::ActivationFailed => Self::ActivationFailed,
            Reason::Unschedulable => Self::Unschedulable,
            Reason::OOMKilled => Self::OutOfMemory,
            Reason::QuotaExceeded => Self::QuotaExceeded,
            Reason::SchedulingGated => Self::SchedulingGated,
            Reason::MaxSessionsReached => Self::MaxSessionsReached,
            Reason::WorkspaceLost => Self::WorkspaceLost,
            Reason::PodFailed
            | Reason::Deleted
            | Reason::Evicted
            | Reason::Preempted
            | Reason::NodeLost
            | Reason::HarnessCrashed
            | Reason::Unreachable => Self::PodLost,
            Reason::PodStarting
            | Reason::Activating
            | Reason::Activated
            | Reason::Recovering
            | Reason::Restarting
            | Reason::Resuming
            | Reason::MaxLifetimeReached
            | Reason::IdleTimeout
            | Reason::SuspendRequested
            | Reason::WorkspaceNotPersistent
            | Reason::Stopped
            // The condition tells more.
            | Reason::SavingTranscript => return None,
        })
    }
}

/// All that is wrong, the worst first. Of each kind one is told.
pub fn detect(seen: &Seen) -> Vec<Issue> {
    let mut found = Found::default();
    parts(seen, &mut found);
    if let Some(pod) = seen.pod.found() {
        of_pod(pod, &mut found);
    }
    of_session(&seen.session, &mut found);
    of_runner(seen, &mut found);
    unread(seen, &mut found);
    let mut issues: Vec<Issue> =
        found.0.into_iter().map(|(code, message)| Issue::new(code, message)).collect();
    issues.sort_by_key(|issue| (issue.severity, issue.code));
    issues
}

impl Issue {
    fn new(code: IssueCode, message: String) -> Self {
        Self { code, severity: code.severity(), message, recommended_action: code.action() }
    }
}

/// The first word on each kind counts: it is the one nearest to the cause.
#[derive(Default)]
struct Found(BTreeMap<IssueCode, String>);

impl Found {
    fn add(&mut self, code: IssueCode, message: impl Into<String>) {
        self.0.entry(code).or_insert_with(|| message.into());
    }
}

/// What is named and is not there, or is of no use.
fn parts(seen: &Seen, found: &mut Found) {
    let status = seen.session.status.as_ref();
    // A session that has its agent's rules needs the Agent no more.
    let needs_agent = status.is_none_or(|status| status.agent.is_none());
    if let (Part::Missing(name), true) = (&seen.agent, needs_agent) {
        found.add(IssueCode::AgentMissing, format!("agent {name} does not exist"));
    }
    if let Part::Missing(name) = &seen.pool {
        found.add(IssueCode::PoolMissing, format!("pool {name} does not exist"));
    }
    let agent = seen.agent.found().and_then(|agent| agent.status.as_ref());
    let unready = agent.and_then(|status| is_false(&status.conditions, "PoolReady"));
    if let Some(condition) = unready {
        let code = match condition.reason.as_str() {
            "PoolNotFound" => IssueCode::PoolMissing,
            _ => IssueCode::TemplateMissing,
        };
        found.add(code, condition.message.as_str());
    }
    if let Some(pool) = seen.pool.found().filter(|pool| is_empty(pool)) {
        let name = pool.metadata.name.as_deref().unwrap_or_default();
        found.add(
            IssueCode::PoolEmpty,
            format!("no member of pool {name} is ready: sessions start cold, which takes longer"),
        );
    }
    if let (Part::Missing(name), Some(Phase::Ready)) = (&seen.pod, status.map(|status| status.phase)) {
        found.add(IssueCode::PodLost, format!("the session is Ready, and its pod {name} does not exist"));
    }
}

/// Whether a pool that shall have members has none to give.
fn is_empty(pool: &SandboxWarmPool) -> bool {
    let annotations = pool.metadata.annotations.as_ref();
    let grows = annotations.is_some_and(|annotations| annotations.contains_key(labels::MAX_REPLICAS));
    let ready = pool.status.as_ref().map_or(0, |status| status.ready_replicas);
    ready == 0 && (pool.spec.replicas > 0 || grows)
}

fn is_false<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind && condition.status == ConditionStatus::False)
}

fn of_pod(pod: &SlimPod, found: &mut Found) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if let Some(scheduled) = pod.condition("PodScheduled").filter(|condition| condition.status == "False") {
        let why = scheduled.message.as_deref().unwrap_or("no reason given");
        match scheduled.reason.as_deref() {
            Some("SchedulingGated") => {
                found.add(IssueCode::SchedulingGated, format!("pod {name} has scheduling gates"));
            }
            _ => found.add(IssueCode::Unschedulable, format!("no node takes pod {name}: {why}")),
        }
    }
    let status = &pod.status;
    for container in status.init_container_statuses.iter().chain(&status.container_statuses) {
        of_container(container, found);
    }
}

fn of_container(container: &ContainerStatus, found: &mut Found) {
    let name = &container.name;
    let now = match &container.state {
        ContainerState::Terminated(terminated) => Some(terminated),
        ContainerState::Waiting { .. } | ContainerState::Running | ContainerState::Unreported => None,
    };
    let ends = now.into_iter().chain(&container.last_terminated);
    if ends.into_iter().any(|end| end.reason.as_deref() == Some("OOMKilled")) {
        let message = format!("container {name} took more memory than its limit and was killed");
        found.add(IssueCode::OutOfMemory, message);
    }
    let ContainerState::Waiting { reason: Some(reason), message } = &container.state else { return };
    let detail = message.as_deref().unwrap_or(reason);
    match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            found.add(
                IssueCode::ImagePullFailed,
                format!("the image of container {name} cannot be pulled: {detail}"),
            );
        }
        "CrashLoopBackOff" => {
            let times = container.restart_count;
            found.add(IssueCode::CrashLoop, format!("container {name} has crashed {times} times: {detail}"));
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            found.add(
                IssueCode::ContainerConfigError,
                format!("container {name} cannot be started: {detail}"),
            );
        }
        _ => {}
    }
}

/// What its own status says.
fn of_session(session: &Session, found: &mut Found) {
    let Some(status) = &session.status else { return };
    if let Some(code) = status.reason.and_then(IssueCode::of) {
        found.add(code, status.message.as_str());
    }
    // Once the pod is lost nobody can do anything about it.
    let unsaved =
        is_false(&status.conditions, "TranscriptSaved").filter(|condition| condition.reason != "PodLost");
    if let Some(condition) = unsaved {
        found.add(
            IssueCode::TranscriptNotSaved,
            format!("what was said is not all stored: {}", condition.message),
        );
    }
}

fn of_runner(seen: &Seen, found: &mut Found) {
    match seen.probe.found() {
        Some(Probe::Silent(why)) => {
            found.add(IssueCode::RunnerSilent, format!("the session's runner does not answer: {why}"));
        }
        Some(Probe::Refuses(said)) => {
            let message = format!("what listens at the session's address does not serve it: {said}");
            found.add(IssueCode::RunnerRefuses, message);
        }
        Some(Probe::Serves { .. }) | None => {}
    }
}

/// One issue for all that could not be read.
fn unread(seen: &Seen, found: &mut Found) {
    let parts = [
        ("agent", why(&seen.agent)),
        ("pod", why(&seen.pod)),
        ("sandbox", why(&seen.sandbox)),
        ("pool", why(&seen.pool)),
        ("events", why(&seen.events)),
    ];
    let told: Vec<String> =
        parts.into_iter().filter_map(|(part, why)| Some(format!("{part}: {}", why?))).collect();
    if !told.is_empty() {
        found.add(IssueCode::NotRead, format!("not all could be read: {}", told.join("; ")));
    }
}

fn why<T>(part: &Part<T>) -> Option<&str> {
    match part {
        Part::Unread(why) => Some(why),
        Part::Unnamed | Part::Missing(_) | Part::Found(_) => None,
    }
}

#[cfg(test)]
#[path = "issues_tests.rs"]
mod tests;
