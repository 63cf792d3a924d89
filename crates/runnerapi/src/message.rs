//! Bodies of requests and answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::equipment::Equipment;
use crate::passage::HarnessCall;
use crate::transcript::Position;

/// Names the session that a pod is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRef {
    /// Namespace of the Session object.
    pub namespace: String,
    /// Name of the Session object.
    pub name: String,
    /// UID of the Session object. The first UID that activates a pod owns it for ever.
    pub uid: String,
}

/// Gives an anonymous pod its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivateRequest {
    /// The session.
    pub session: SessionRef,
    /// Which pod of the session this is, counted from 1.
    pub incarnation: u32,
    /// How the harness shall behave.
    pub agent: AgentBinding,
    /// Title of the conversation.
    pub title: String,
    /// The session had pods before, and what was said in them is not on a volume of this one. It waits for the conversation
    /// ([`ConversationRequest`]) before it takes a turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// A turn to run by itself, exactly once. It may come with a repeated activation: the controller sends it
    /// only once the pod is durably the session's, so that no second pod is given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_turn: Option<InitialTurn>,
}

/// The part of an agent that the runner and its harness need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentBinding {
    /// Model name as the model gateway knows it.
    pub model: String,
    /// Instructions added to the harness's system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Environment of the agent's shells.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// What the workspace is filled with, and which tools and knowledge the harness gets.
    #[serde(default, skip_serializing_if = "Equipment::is_empty")]
    pub equipment: Equipment,
    /// How long one turn may take, in milliseconds.
    pub turn_timeout_ms: u64,
    /// How many turns may wait behind the running one.
    pub max_queued_turns: u32,
}

/// An environment variable. Its value may be a secret and is not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=***", self.name)
    }
}

/// See [`ActivateRequest::initial_turn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialTurn {
    /// Turn id, derived from the session's UID.
    pub id: String,
    /// The user's text.
    pub text: String,
}

/// The pod serves the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivateResponse {
    /// UID of the session the pod serves.
    pub session_uid: String,
    /// The incarnation it was activated for.
    pub incarnation: u32,
    /// The conversation's id inside the harness.
    pub harness_session_id: String,
    /// What the harness can do.
    pub capabilities: Capabilities,
    /// How long the activation took inside the pod, in milliseconds.
    pub took_ms: u64,
    /// How long each step took, in their order; those that had nothing to do are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepTook>,
}

/// See [`ActivateResponse::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTook {
    /// Which step.
    pub step: ActivationStep,
    /// How long, in milliseconds.
    pub took_ms: u64,
}

/// An activation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationProgress {
    /// What is being done.
    pub step: ActivationStep,
    /// For how long that has been going on, in milliseconds.
    pub took_ms: u64,
}

/// The steps of an activation, in their order. One that has nothing to do is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationStep {
    /// The repository is cloned.
    CloningRepo,
    /// Files and skills are written.
    WritingFiles,
    /// Requirements are installed.
    InstallingRequirements,
    /// MCP servers are started or connected to.
    ConnectingMcp,
    /// The harness gets its conversation.
    OpeningHarness,
}

/// What a harness can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// It answers messages.
    pub messages: bool,
    /// It has a terminal to attach to.
    pub terminal: bool,
}

/// How busy the session is: the answer to [`crate::ACTIVITY`] and [`crate::QUIESCE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Milliseconds since the session was last busy; 0 while a turn runs or waits, a terminal has traffic, or the
    /// harness has open work.
    pub idle_ms: u64,
    /// Turns of this conversation, those of earlier incarnations on the same volume included.
    pub turns: TurnCounts,
    /// The pod takes no more turns: it is about to be given back.
    pub quiesced: bool,
    /// Up to where the transcript must be saved for nothing that was said to be lost with the pod. At 0 nothing was said
    /// yet.
    #[serde(default)]
    pub transcript: Position,
}

/// Numbers of turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnCounts {
    /// All that were accepted.
    pub total: u64,
    /// Those that run: none or one.
    pub running: u32,
    /// Those that wait.
    pub queued: u32,
}

/// Asks a pod to take no more turns, so that nothing is lost when it is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuiesceRequest {
    /// Only if the session has been idle for at least so many milliseconds; otherwise [`ErrorCode::Busy`] and
    /// nothing changes. Absent: in any case; turns that run or wait are interrupted when the pod ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_idle_ms: Option<u64>,
}

/// One user message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnRequest {
    /// Names the turn; a retry with the same id and parts joins or replays it. 1 to 128 printable ASCII
    /// characters.
    pub id: String,
    /// The message's parts as the client sent them, each an object with a string `type`. None where there is a `call`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Value>,
    /// What was asked of the harness's own API instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<HarnessCall>,
}

impl TurnRequest {
    /// A message to the session.
    pub fn message(id: impl Into<String>, parts: Vec<Value>) -> Self {
        Self { id: id.into(), parts, call: None }
    }
}

/// Gives a pod the conversation that the session had in its earlier pods.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConversationRequest {
    /// Messages as the harness itself once told them, in order. May be empty.
    pub messages: Vec<Box<RawValue>>,
}

/// Where a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TurnState {
    /// It waits behind others.
    Queued,
    /// The harness works on it.
    Running,
    /// The harness has replied.
    Completed,
    /// The harness failed, or the turn took too long.
    Failed,
    /// Runner or harness died while it ran; it is never run again by itself.
    Interrupted,
}

/// A turn and, once it has ended, its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnStatus {
    /// The turn's id.
    pub id: String,
    /// Where it is.
    pub state: TurnState,
    /// The harness's reply, of a completed turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Value>,
    /// Why it failed or was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code:?}: {error}")]
pub struct ErrorBody {
    /// Which kind of error it is.
    pub code: ErrorCode,
    /// A sentence that says what was attempted and what to do. Never holds a secret.
    pub error: String,
}

/// The bounded set of the runner's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 401: no token, or one that is expired, forged, or for another pod.
    Unauthorized,
    /// 400: the body or the request line cannot be understood.
    BadRequest,
    /// 404: no such path or turn.
    NotFound,
    /// 404: the harness has no such conversation, or its own API no such path.
    NotInHarness,
    /// 403: this part of the harness's own API is not open to clients.
    Closed,
    /// 405: the path does not take this method.
    MethodNotAllowed,
    /// 426: the path is a WebSocket, and the request opens none.
    UpgradeRequired,
    /// 409: the pod serves, or was promised to, another session.
    BoundToOther,
    /// 409: the pod serves no session yet.
    NotActivated,
    /// 409: the session is not as idle as was asked for.
    Busy,
    /// 409: the pod waits for the conversation of the session's earlier pods; nothing was done.
    NeedsConversation,
    /// 409: the session's harness is a terminal program; it takes no messages.
    TerminalOnly,
    /// 409: the session's harness answers messages; it has no terminal.
    NoTerminal,
    /// 413: the body is larger than the runner takes.
    TooLarge,
    /// 422: this turn id was used for another message.
    TurnMismatch,
    /// 422: the pod cannot be equipped as the session is described: the repository refuses the credential, a branch is
    /// unknown, a package or an MCP server is not to be had. The sentence says what to change; another pod would not help.
    ActivationFailed,
    /// 429: too many turns wait already.
    QueueFull,
    /// 429: the session's events have too many readers already, or its terminal too many viewers.
    TooManyStreams,
    /// 502: the harness failed; the message is what it said.
    HarnessFailed,
    /// 502: the turn took longer than the agent's turn timeout and was aborted.
    TurnTimeout,
    /// 502: runner or harness died while the turn ran.
    Interrupted,
    /// 503: the harness is still booting; try again shortly.
    NotReady,
    /// 503: the pod takes no more turns, because its session is being suspended; the next pod will.
    Quiesced,
    /// 503: the pod is shutting down.
    ShuttingDown,
    /// 500: the journal cannot be written, for example because the disk is full.
    JournalFailed,
}

impl ErrorCode {
    /// The HTTP status the runner answers with.
    pub const fn status(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::BadRequest => 400,
            Self::Closed => 403,
            Self::NotFound | Self::NotInHarness => 404,
            Self::MethodNotAllowed => 405,
            Self::UpgradeRequired => 426,
            Self::BoundToOther
            | Self::NotActivated
            | Self::Busy
            | Self::NeedsConversation
            | Self::TerminalOnly
            | Self::NoTerminal => 409,
            Self::TooLarge => 413,
            Self::TurnMismatch | Self::ActivationFailed => 422,
            Self::QueueFull | Self::TooManyStreams => 429,
            Self::JournalFailed => 500,
            Self::HarnessFailed | Self::TurnTimeout | Self::Interrupted => 502,
            Self::NotReady | Self::Quiesced | Self::ShuttingDown => 503,
        }
    }
}
