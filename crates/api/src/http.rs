//! The HTTP types of the gateway: what clients of the managed-agents API read.
//!
//! Names and words are those of LiteLLM Agent Platform, so that its clients work unchanged; fields that have
//! no value yet are `null`. The conversions from the Kubernetes kinds live here, so that the whole of what an
//! HTTP client sees of an object can be read in one place. Values of environment variables never get out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::session::{DesiredState, Phase, Reason, Session, SessionStatus, Step};

/// Where the managed-agents API is rooted.
pub const BASE_PATH: &str = "/api/v1/managed_agents";
/// What stands in place of a value that must not be read back.
pub const MASKED: &str = "********";
/// Longest [`ApiSession::title_preview`], in characters.
const PREVIEW_CHARS: usize = 60;
/// Harnesses whose agents are used through a terminal. A client must know before a session exists.
const TERMINAL_HARNESSES: [&str; 2] = ["claude-code", "codex"];

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// A sentence that says what was attempted and what to do. Never holds a secret.
    pub error: String,
    /// Which kind of error it is.
    pub code: ErrorCode,
    /// The id of the request, as in the header `x-request-id`.
    pub request_id: String,
    /// Where to attach, of a session that is used through a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty_url: Option<String>,
}

/// The bounded set of the gateway's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request or one of its fields cannot be understood.
    BadRequest,
    /// 400: a known field asks for something this version cannot do.
    Unsupported,
    /// 401: no key, or a wrong one.
    Unauthorized,
    /// 404: no such path, session or agent.
    NotFound,
    /// 404: the session is not ready yet; try again shortly.
    Creating,
    /// 404: the session could not be made.
    Failed,
    /// 404: the session has ended.
    Dead,
    /// 405: the path does not take this method.
    MethodNotAllowed,
    /// 408: the client was too slow in sending its request.
    RequestTimeout,
    /// 409: the session's harness is used through its terminal.
    TerminalOnly,
    /// 413: the body is larger than allowed.
    TooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 422: the idempotency key was used for another message.
    TurnMismatch,
    /// 422: the idempotency key was used for another session.
    SessionMismatch,
    /// 429: too many turns wait for this session already.
    QueueFull,
    /// 431: the request's headers are larger than allowed.
    HeadersTooLarge,
    /// 500: a defect of the gateway.
    Internal,
    /// 502: nothing listens at the session's address.
    Unreachable,
    /// 502: the session's address is not answered by its runner.
    Misrouted,
    /// 502: the connection to the session's pod broke after the turn was sent.
    TurnLost,
    /// 502: the harness failed.
    HarnessFailed,
    /// 502: the turn took longer than the agent's turn timeout.
    TurnTimeout,
    /// 502: runner or harness died while the turn ran.
    Interrupted,
    /// 502: the runner cannot write its journal.
    JournalFailed,
    /// 503: the gateway is shutting down.
    Draining,
    /// 503: the gateway has not read the cluster's state yet.
    NotSynced,
    /// 503: the session's runner cannot take turns right now.
    NotReady,
    /// 503: the API server does not answer.
    ClusterUnavailable,
    /// 504: the caller's own deadline has passed; the turn goes on.
    WaitExpired,
}

impl ErrorCode {
    /// The HTTP status this error is answered with.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::Unsupported => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::Creating | Self::Failed | Self::Dead => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::TerminalOnly => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::TurnMismatch | Self::SessionMismatch => 422,
            Self::QueueFull => 429,
            Self::HeadersTooLarge => 431,
            Self::Internal => 500,
            Self::Unreachable
            | Self::Misrouted
            | Self::TurnLost
            | Self::HarnessFailed
            | Self::TurnTimeout
            | Self::Interrupted
            | Self::JournalFailed => 502,
            Self::Draining | Self::NotSynced | Self::NotReady | Self::ClusterUnavailable => 503,
            Self::WaitExpired => 504,
        }
    }

    /// The word clients, logs and metrics see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unsupported => "unsupported",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Creating => "creating",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::TerminalOnly => "terminal_only",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TurnMismatch => "turn_mismatch",
            Self::SessionMismatch => "session_mismatch",
            Self::QueueFull => "queue_full",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Internal => "internal",
            Self::Unreachable => "unreachable",
            Self::Misrouted => "misrouted",
            Self::TurnLost => "turn_lost",
            Self::HarnessFailed => "harness_failed",
            Self::TurnTimeout => "turn_timeout",
            Self::Interrupted => "interrupted",
            Self::JournalFailed => "journal_failed",
            Self::Draining => "draining",
            Self::NotSynced => "not_synced",
            Self::NotReady => "not_ready",
            Self::ClusterUnavailable => "cluster_unavailable",
            Self::WaitExpired => "wait_expired",
        }
    }
}

/// A session's status as HTTP clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiStatus {
    /// Not yet usable.
    Creating,
    /// It takes messages.
    Ready,
    /// It could not be made.
    Failed,
    /// It has ended.
    Dead,
}

impl ApiStatus {
    /// The status of `session`. One that was told to stop counts as dead at once: it takes no more messages,
    /// and a client that has deleted it must not read otherwise.
    pub fn of(session: &Session) -> Self {
        if session.spec.state == DesiredState::Stopped {
            return Self::Dead;
        }
        match session.status.as_ref().map_or(Phase::Creating, |status| status.phase) {
            Phase::Creating => Self::Creating,
            Phase::Ready => Self::Ready,
            Phase::Failed => Self::Failed,
            Phase::Dead => Self::Dead,
        }
    }
}

impl std::str::FromStr for ApiStatus {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "creating" => Ok(Self::Creating),
            "ready" => Ok(Self::Ready),
            "failed" => Ok(Self::Failed),
            "dead" => Ok(Self::Dead),
            _ => Err(()),
        }
    }
}

/// How far a session is, in the words of LiteLLM Agent Platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiPhase {
    /// The agent is looked up, or a sandbox is being claimed.
    CreatingSandbox,
    /// The sandbox's pod is starting.
    PodPending,
    /// The pod runs and is being given the session.
    WaitingHarness,
    /// It takes messages.
    Ready,
}

impl ApiPhase {
    fn of(status: ApiStatus, step: Option<Step>) -> Option<Self> {
        match (status, step) {
            (ApiStatus::Creating, None) => Some(Self::CreatingSandbox),
            (ApiStatus::Creating, Some(Step::StartingPod)) => Some(Self::PodPending),
            (ApiStatus::Creating, Some(Step::Activating)) => Some(Self::WaitingHarness),
            (ApiStatus::Ready, _) => Some(Self::Ready),
            (ApiStatus::Failed | ApiStatus::Dead, _) => None,
        }
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiSession {
    /// The Session object's name.
    pub id: String,
    /// The Agent's name; null for an inline agent.
    pub agent_id: Option<String>,
    /// The runner's address inside the cluster. Only the gateway has the tokens it takes.
    pub sandbox_url: Option<String>,
    /// The conversation's id inside the harness.
    pub harness_session_id: Option<String>,
    /// Path of the terminal's WebSocket, of a ready session that has one.
    pub tty_url: Option<String>,
    /// Token for the terminal.
    pub tty_token: Option<String>,
    /// Whether the session has a terminal.
    pub supports_tui: bool,
    /// Where it is in its life.
    pub status: ApiStatus,
    /// The Sandbox's name.
    pub task_arn: Option<String>,
    /// `{"parts": [...]}`, the reply to the initial prompt.
    pub response: Option<Value>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_seen_at: Option<Timestamp>,
    /// How long it may be idle.
    pub idle_timeout_ms: Option<u64>,
    /// Why it failed, or died without having been asked to.
    pub failure_reason: Option<String>,
    /// How far it is.
    pub phase: Option<ApiPhase>,
    /// A sentence about how far it is.
    pub phase_detail: Option<String>,
    /// Which integration made it.
    pub origin: Option<Value>,
    /// The start of its title, or of its initial prompt.
    pub title_preview: Option<String>,
    /// Further named sandboxes.
    pub sandboxes: BTreeMap<String, String>,
    /// What the conversation is about.
    pub title: Option<String>,
    /// How many turns it has had.
    pub turns: u64,
    /// Which pod of the session this is, counted from 1.
    pub incarnation: u32,
}

impl ApiSession {
    /// What clients see of `session`, with `response` as the reply to its initial prompt.
    pub fn new(session: &Session, response: Option<Value>) -> Self {
        let empty = SessionStatus::default();
        let inner = session.status.as_ref().unwrap_or(&empty);
        let id = session.metadata.name.clone().unwrap_or_default();
        let status = ApiStatus::of(session);
        let terminal = inner.capabilities.is_some_and(|c| c.terminal);
        let live = status == ApiStatus::Ready;
        let preview = session.spec.title.as_deref().or(session.spec.prompt.as_deref());
        Self {
            agent_id: agent_name(session).map(str::to_owned),
            sandbox_url: inner.endpoint.as_ref().filter(|_| live).map(|at| format!("http://{at}")),
            harness_session_id: inner.harness_session_id.clone(),
            tty_url: (terminal && live).then(|| tty_url(&id)),
            tty_token: None,
            supports_tui: terminal,
            status,
            task_arn: inner.sandbox.as_ref().map(|s| s.name.clone()),
            response,
            created_at: session.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            last_seen_at: None,
            idle_timeout_ms: None,
            failure_reason: failure_reason(status, inner),
            phase: ApiPhase::of(status, inner.step),
            phase_detail: Some(inner.message.clone()).filter(|m| !m.is_empty()),
            origin: None,
            title_preview: preview.map(|text| text.chars().take(PREVIEW_CHARS).collect()),
            sandboxes: BTreeMap::new(),
            title: session.spec.title.clone(),
            turns: 0,
            incarnation: inner.incarnation,
            id,
        }
    }
}

/// Path of a session's terminal.
pub fn tty_url(id: &str) -> String {
    format!("{BASE_PATH}/sessions/{id}/tty")
}

/// The name of the Agent that `session` was made from; none for an inline one.
pub fn agent_name(session: &Session) -> Option<&str> {
    session.spec.agent_ref.as_ref().map(|agent| agent.name.as_str())
}

fn failure_reason(status: ApiStatus, inner: &SessionStatus) -> Option<String> {
    let ended = matches!(status, ApiStatus::Failed | ApiStatus::Dead) && inner.phase.is_final();
    let reason = inner.reason.filter(|reason| ended && *reason != Reason::Stopped)?;
    Some(match inner.message.as_str() {
        "" => format!("{reason:?}"),
        message => format!("{reason:?}: {message}"),
    })
}

/// A saved agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiAgent {
    /// The Agent object's name.
    pub id: String,
    /// The name people see.
    pub name: String,
    /// Model name.
    pub model: String,
    /// Instructions added to the harness's own.
    pub prompt: Option<String>,
    /// The harness.
    pub harness_id: String,
    /// Whether its sessions have a terminal.
    pub supports_tui: bool,
    /// Repository to work on.
    pub repo_url: Option<String>,
    /// Branch of the repository.
    pub branch: String,
    /// Picture.
    pub pfp_url: Option<String>,
    /// MCP servers.
    pub mcp_servers: Vec<String>,
    /// Names of environment variables, with masked values.
    pub env_vars: BTreeMap<String, String>,
    /// Where a credential may be sent.
    pub env_var_hosts: BTreeMap<String, Vec<String>>,
    /// Skills.
    pub attached_skill_ids: Vec<String>,
    /// Hosts that may be reached.
    pub allow_out: Vec<String>,
    /// Hosts that may not be reached.
    pub deny_out: Vec<String>,
    /// Projects.
    pub projects: Vec<Value>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl ApiAgent {
    /// What clients see of `agent`.
    pub fn new(agent: &Agent) -> Self {
        let id = agent.metadata.name.clone().unwrap_or_default();
        Self {
            name: agent.spec.display_name.clone().unwrap_or_else(|| id.clone()),
            model: agent.spec.model.clone(),
            prompt: agent.spec.prompt.clone(),
            harness_id: agent.spec.harness.clone(),
            supports_tui: TERMINAL_HARNESSES.contains(&agent.spec.harness.as_str()),
            repo_url: None,
            branch: "main".to_owned(),
            pfp_url: None,
            mcp_servers: Vec::new(),
            env_vars: agent.spec.env.iter().map(|e| (e.name.clone(), MASKED.to_owned())).collect(),
            env_var_hosts: BTreeMap::new(),
            attached_skill_ids: Vec::new(),
            allow_out: Vec::new(),
            deny_out: Vec::new(),
            projects: Vec::new(),
            created_at: agent.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            id,
        }
    }
}

/// An agent in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiAgentEntry {
    /// The agent.
    #[serde(flatten)]
    pub agent: ApiAgent,
    /// How many sessions it has, ended ones included.
    pub session_count: usize,
    /// Whether one of them is creating or ready.
    pub has_active_session: bool,
}

/// A page of agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiAgentList {
    /// The page.
    pub data: Vec<ApiAgentEntry>,
    /// How many match in all.
    pub total: usize,
    /// How many fit on a page.
    pub limit: usize,
    /// How many were skipped.
    pub offset: usize,
}

/// Answer to the deletion of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiDeleted {
    /// The session.
    pub id: String,
    /// What has become of it.
    pub status: DeletedStatus,
}

/// See [`ApiDeleted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeletedStatus {
    /// It was stopped by this request.
    Deleted,
    /// It had ended before.
    Dead,
}

/// Whether the gateway reaches the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiClusterHealth {
    /// It does.
    pub ok: bool,
    /// How long the API server took, in milliseconds.
    pub elapsed_ms: u64,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn session(value: Value) -> Session {
        let mut whole = json!({
            "apiVersion": "paddock.dev/v1alpha1", "kind": "Session",
            "metadata": {"name": "s1", "creationTimestamp": "2026-01-02T03:04:05Z"},
        });
        whole["spec"] = value["spec"].clone();
        whole["status"] = value["status"].clone();
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_new_session_is_creating_and_what_it_lacks_is_null() {
        let fresh = session(json!({"spec": {"agentRef": {"name": "helper"}}, "status": null}));
        assert_eq!(
            serde_json::to_value(ApiSession::new(&fresh, None)).unwrap(),
            json!({
                "id": "s1", "agent_id": "helper", "sandbox_url": null, "harness_session_id": null,
                "tty_url": null, "tty_token": null, "supports_tui": false, "status": "creating",
                "task_arn": null, "response": null, "created_at": "2026-01-02T03:04:05Z",
                "last_seen_at": null, "idle_timeout_ms": null, "failure_reason": null,
                "phase": "creating_sandbox", "phase_detail": null, "origin": null, "title_preview": null,
                "sandboxes": {}, "title": null, "turns": 0, "incarnation": 0,
            })
        );
    }

    #[test]
    fn a_ready_terminal_session_tells_where_to_attach() {
        let ready = session(json!({
            "spec": {"agentRef": {"name": "a"}, "title": "x".repeat(100)},
            "status": {"phase": "Ready", "endpoint": "10.0.0.1:7070", "incarnation": 2,
                "sandbox": {"name": "pool-1", "uid": "u"}, "harnessSessionId": "ses_1",
                "capabilities": {"messages": false, "terminal": true}},
        }));
        let seen = ApiSession::new(&ready, None);
        assert_eq!(seen.tty_url.as_deref(), Some("/api/v1/managed_agents/sessions/s1/tty"));
        assert_eq!((seen.phase, seen.status), (Some(ApiPhase::Ready), ApiStatus::Ready));
        assert_eq!(seen.title_preview.unwrap().len(), 60);
        assert_eq!((seen.task_arn.as_deref(), seen.incarnation), (Some("pool-1"), 2));
    }

    #[test]
    fn failures_are_told_and_a_stop_is_not_one() {
        let failed = session(json!({"spec": {"agentRef": {"name": "a"}},
            "status": {"phase": "Failed", "reason": "CrashLoop", "message": "see the logs"}}));
        let seen = ApiSession::new(&failed, None);
        assert_eq!(seen.failure_reason.as_deref(), Some("CrashLoop: see the logs"));
        assert_eq!((seen.phase, seen.status), (None, ApiStatus::Failed));
        let stopping = session(
            json!({"spec": {"agentRef": {"name": "a"}, "state": "Stopped"}, "status": {"phase": "Ready"}}),
        );
        let seen = ApiSession::new(&stopping, None);
        assert_eq!((seen.failure_reason, seen.status), (None, ApiStatus::Dead));
    }

    #[test]
    fn values_of_environment_variables_never_get_out() {
        let agent: Agent = serde_json::from_value(json!({
            "apiVersion": "paddock.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "a"},
            "spec": {"model": "m", "env": [{"name": "TOKEN", "value": "hunter2"}]},
        }))
        .unwrap();
        let text = serde_json::to_string(&ApiAgent::new(&agent)).unwrap();
        assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn every_code_is_written_as_its_word() {
        for code in [ErrorCode::NotFound, ErrorCode::TurnLost, ErrorCode::UnsupportedMediaType] {
            assert_eq!(serde_json::to_value(code).unwrap(), json!(code.as_str()));
        }
    }
}
