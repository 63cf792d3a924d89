//! Sessions as clients see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BASE_PATH, HarnessReply};
use crate::agent::Lifecycle;
use crate::duration::Duration;
use crate::session::{DesiredState, Phase, Reason, Session, SessionStatus, Step};

/// Longest [`ApiSession::title_preview`], in characters.
const PREVIEW_CHARS: usize = 60;

/// A session's status as HTTP clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApiStatus {
    /// Not yet usable.
    Creating,
    /// It takes messages.
    Ready,
    /// It rests without a pod, and can go on.
    Suspended,
    /// It could not be made.
    Failed,
    /// It has ended.
    Dead,
}

impl ApiStatus {
    /// The status of `session`. One that was told to stop counts as dead at once: it takes no more messages,
    /// and a client that has deleted it must not read otherwise. Likewise one that was told to restart, or to go
    /// on after it was suspended, counts as creating.
    pub fn of(session: &Session) -> Self {
        if session.spec.state == DesiredState::Stopped {
            return Self::Dead;
        }
        match session.status.as_ref().map_or(Phase::Creating, |status| status.phase) {
            _ if session.restart_wanted() => Self::Creating,
            Phase::Creating => Self::Creating,
            Phase::Ready => Self::Ready,
            Phase::Suspended if session.spec.state == DesiredState::Running => Self::Creating,
            Phase::Suspended => Self::Suspended,
            Phase::Failed => Self::Failed,
            Phase::Dead => Self::Dead,
        }
    }
}

/// How far a session is, in the words of LiteLLM Agent Platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiPhase {
    /// The agent is looked up, or a sandbox is being claimed.
    CreatingSandbox,
    /// The sandbox's pod is starting.
    PodPending,
    /// The pod runs and is being given the session.
    WaitingHarness,
    /// The agent's repository is being cloned, and its files are written.
    CloningRepo,
    /// The agent's requirements are being installed.
    InstallingDeps,
    /// The pod is equipped; MCP servers and the harness's conversation are being opened.
    HarnessReady,
    /// It takes messages.
    Ready,
}

impl ApiPhase {
    fn of(status: ApiStatus, step: Option<Step>) -> Option<Self> {
        match (status, step) {
            (ApiStatus::Creating, None | Some(Step::EndingPod)) => Some(Self::CreatingSandbox),
            (ApiStatus::Creating, Some(Step::StartingPod)) => Some(Self::PodPending),
            (ApiStatus::Creating, Some(Step::Activating)) => Some(Self::WaitingHarness),
            (ApiStatus::Creating, Some(Step::CloningRepo | Step::WritingFiles)) => Some(Self::CloningRepo),
            (ApiStatus::Creating, Some(Step::InstallingRequirements)) => Some(Self::InstallingDeps),
            (ApiStatus::Creating, Some(Step::ConnectingMcp | Step::OpeningHarness)) => {
                Some(Self::HarnessReady)
            }
            (ApiStatus::Ready, _) => Some(Self::Ready),
            (ApiStatus::Suspended | ApiStatus::Failed | ApiStatus::Dead, _) => None,
        }
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Token for the terminal, and for nothing else: for a short time, and for clients that may use it only.
    pub tty_token: Option<String>,
    /// Whether the session has a terminal.
    pub supports_tui: bool,
    /// Where it is in its life.
    pub status: ApiStatus,
    /// The Sandbox's name.
    pub task_arn: Option<String>,
    /// `{"parts": [...]}`, the reply to the initial prompt.
    #[schemars(with = "Option<HarnessReply>")]
    pub response: Option<Value>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_seen_at: Option<Timestamp>,
    /// How long it may be idle; null where it may be for ever, or where its agent is not known yet.
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
    /// What clients see of `session`, which lives by `rules` where they are known, with `response` as the reply to
    /// its initial prompt.
    pub fn new(session: &Session, rules: Option<&Lifecycle>, response: Option<Value>) -> Self {
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
            last_seen_at: inner.last_activity_time,
            idle_timeout_ms: rules.and_then(Lifecycle::idle_timeout).map(millis),
            failure_reason: failure_reason(status, inner),
            phase: ApiPhase::of(status, inner.step),
            phase_detail: Some(inner.message.clone()).filter(|m| !m.is_empty()),
            origin: None,
            title_preview: preview.map(|text| text.chars().take(PREVIEW_CHARS).collect()),
            sandboxes: BTreeMap::new(),
            title: session.spec.title.clone(),
            turns: inner.turns.unwrap_or_default().total,
            incarnation: inner.incarnation,
            id,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_std().as_millis()).unwrap_or(u64::MAX)
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
