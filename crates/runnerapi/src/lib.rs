//! What controller and gateway say to the runner in a pod: paths, messages, error codes and tokens.
//!
//! The runner is the only server of this protocol. It is HTTP/1.1 with JSON bodies on [`PORT`]; every
//! request but the probes carries a [`token`] that is bound to one pod and one session.

pub mod equipment;
pub mod events;
pub mod features;
pub mod message;
pub mod passage;
pub mod terminal;
pub mod token;
pub mod transcript;

pub use equipment::{
    Denial, Equipment, GitCredential, McpServer, McpTransport, Repo, Requirements, Skill, TextFile, Tool,
};
pub use events::{EventId, EventLine, Gap};
pub use features::{Attachments, BadFeatures, Features};
pub use message::{
    ActivateRequest, ActivateResponse, ActivationProgress, ActivationStep, Activity, AgentBinding,
    Capabilities, ConversationRequest, EnvVar, ErrorBody, ErrorCode, InitialTurn, QuiesceRequest, SessionRef,
    StepTook, TurnCounts, TurnRequest, TurnState, TurnStatus,
};
pub use passage::{Action, HARNESS_API, HARNESS_HEADER, HarnessCall, Passage, passage};
pub use token::{Scope, SigningKey, TerminalToken, TokenError, VerifyingKeys};
pub use transcript::{EntryKind, Position, Saved, TranscriptEntry, TranscriptPage};

/// The port the runner listens on, in every harness pod.
pub const PORT: u16 = 7070;

/// Liveness probe (no token): the runner serves and its harness process has not been lost.
pub const LIVEZ: &str = "/livez";
/// Readiness probe (no token): the harness is booted and warm.
pub const READYZ: &str = "/readyz";
/// `POST` [`ActivateRequest`] → 200 [`ActivateResponse`], or 202 [`ActivationProgress`] where it is not done within
/// [`ACTIVATE_PATIENCE_MS`]: asked again, it goes on waiting. Idempotent per session UID and incarnation.
pub const ACTIVATE: &str = "/v1/activate";
/// How long an activation that takes longer is waited for before its progress is told. Longer than one that clones and installs
/// nothing.
pub const ACTIVATE_PATIENCE_MS: u64 = 1_000;
/// `GET` → 200 [`Activity`]: how busy the session is. Reading it is no activity.
pub const ACTIVITY: &str = "/v1/activity";
/// `POST` [`QuiesceRequest`] → 200 [`Activity`], after which no turn is accepted any more. Idempotent.
pub const QUIESCE: &str = "/v1/quiesce";
/// `POST` [`TurnRequest`] → 200 with the harness's reply as it came, after the turn has ended. With the header `Prefer:`
/// [`RESPOND_ASYNC`] → 202 [`TurnStatus`] without an outcome, as soon as the turn is in the journal.
/// `GET /v1/turns/{id}` → 200 [`TurnStatus`]; with `?wait_ms=<number>` once the turn has ended or so many milliseconds
/// have passed, at most [`MAX_TURN_WAIT_MS`].
pub const TURNS: &str = "/v1/turns";
/// A request's preference (RFC 7240) to be answered when its turn is accepted, and not when it has ended.
pub const RESPOND_ASYNC: &str = "respond-async";
/// The longest time for which a question about a turn waits for its end.
pub const MAX_TURN_WAIT_MS: u64 = 60_000;
/// `POST` → 200 `{}` once the harness was told to stop what the session's running turn does; that turn ends as the harness
/// ends it. Does nothing where none runs.
pub const ABORT: &str = "/v1/abort";
/// `GET ?after=<seq>` → 200 [`TranscriptPage`]: what was said, from this place in the journal on. Without a query: where the
/// journal ends, and no entries.
pub const TRANSCRIPT: &str = "/v1/transcript";
/// `POST` [`ConversationRequest`] → 200 `{}`: the conversation of earlier pods, where the pod waits for it. Does nothing otherwise.
pub const CONVERSATION: &str = "/v1/conversation";
/// `GET` → 200 with the conversation as the harness has it: a JSON array of messages.
pub const MESSAGES: &str = "/v1/messages";
/// `GET ?after=<event id>` → 200 with what happens, as it happens ([`events`]): after that event, or from now on where none is
/// named. Reading is no activity.
pub const EVENTS: &str = "/v1/events";
/// `GET` that opens a WebSocket: the terminal of a session whose harness has one ([`terminal`]).
pub const TERMINAL: &str = "/v1/terminal";

/// Response header on every answer about a turn: its id.
pub const TURN_ID_HEADER: &str = "x-paddock-turn-id";
/// Response header on every answer about a turn: a [`Position`]. What is saved up to there includes the turn as the
/// answer tells it.
pub const TRANSCRIPT_HEADER: &str = "x-paddock-transcript";

/// Environment of the runner's container, set by the controller.
pub mod env {
    /// The pod's UID, from the downward API. Tokens for any other pod are refused.
    pub const POD_UID: &str = "PADDOCK_POD_UID";
    /// Public keys, each 32 raw bytes in base64url without padding, separated by commas.
    pub const PUBLIC_KEYS: &str = "PADDOCK_PUBLIC_KEYS";
    /// Name of the harness adapter, for example `opencode`.
    pub const HARNESS: &str = "PADDOCK_HARNESS";
    /// Base URL of the model gateway's OpenAI-compatible API, for example `http://litellm:4000/v1`.
    pub const MODEL_BASE_URL: &str = "PADDOCK_MODEL_BASE_URL";
    /// Key for the model gateway. Secret: taken from the runner's environment at start, never passed on.
    pub const MODEL_API_KEY: &str = "PADDOCK_MODEL_API_KEY";
    /// Where a harness that speaks opencode's wire by itself listens, on the loopback. Default 4096.
    pub const HARNESS_PORT: &str = "PADDOCK_HARNESS_PORT";
    /// What such a harness can do: words, separated by commas. Default: what LiteLLM Agent Platform's images can do.
    pub const HARNESS_FEATURES: &str = "PADDOCK_HARNESS_FEATURES";
    /// The model that messages to such a harness name, `provider/model`. Default: the agent's, of the provider `litellm`.
    pub const HARNESS_MODEL: &str = "PADDOCK_HARNESS_MODEL";
    /// What such a harness is shown in the header `Authorization`. Secret.
    pub const HARNESS_AUTHORIZATION: &str = "PADDOCK_HARNESS_AUTHORIZATION";
    /// Port of the runner's model endpoint on the loopback, for a harness in a container of its own: its token is the pod's UID
    /// then. Default: a free port and a token that only a child learns.
    pub const MODEL_PORT: &str = "PADDOCK_MODEL_PORT";
    /// Folder for the journal; it survives a restart of the container. Default `/paddock/state`.
    pub const STATE_DIR: &str = "PADDOCK_STATE_DIR";
    /// The agent's working folder. Default `/workspace`.
    pub const WORKSPACE: &str = "PADDOCK_WORKSPACE";
    /// Folder of bare git repositories, where there is one: clones take what they find in them from there. Only read.
    pub const GIT_CACHE: &str = "PADDOCK_GIT_CACHE";
    /// File for the container's termination message, where the template names another than Kubernetes' default,
    /// which is the default here too.
    pub const TERMINATION_LOG: &str = "PADDOCK_TERMINATION_LOG";
}

/// Where the init container puts the runner's binary.
pub const INSTALL_DIR: &str = "/paddock/bin";
/// Where the runner keeps its journal.
pub const DEFAULT_STATE_DIR: &str = "/paddock/state";
/// Where Kubernetes looks for a container's termination message.
pub const DEFAULT_TERMINATION_LOG: &str = "/dev/termination-log";
/// Where the agent works.
pub const DEFAULT_WORKSPACE: &str = "/workspace";
/// Default of [`env::HARNESS_PORT`].
pub const DEFAULT_HARNESS_PORT: u16 = 4096;
/// [`env::MODEL_PORT`] of a pod whose harness has a container of its own.
pub const MODEL_PORT: u16 = 7071;
