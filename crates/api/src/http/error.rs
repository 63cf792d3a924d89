//! Errors as clients see them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorResponse {
    /// A sentence that says what was attempted and what to do. Never holds a secret.
    pub error: String,
    /// Which kind of error it is.
    pub code: ErrorCode,
    /// The id of the request, as in the header `x-request-id`.
    pub request_id: String,
    /// Where to attach, of a session that is used through a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub tty_url: Option<String>,
}

/// The bounded set of the gateway's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request or one of its fields cannot be understood.
    BadRequest,
    /// 400: a known field asks for something this version cannot do.
    Unsupported,
    /// 401: no key, or a wrong one.
    Unauthorized,
    /// 403: the key is right, and does not allow this.
    Forbidden,
    /// 404: no such path, session or agent, or none that the key may see.
    NotFound,
    /// 404: the session is not ready yet; try again shortly. 409 where it should be suspended or restarted.
    Creating,
    /// 404: the session is suspended, and a message does not resume it.
    Suspended,
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
    /// 409: the session's harness has no terminal.
    NoTerminal,
    /// 409: the session has no workspace that outlives its pod, so it cannot be suspended.
    WorkspaceNotPersistent,
    /// 409: another request has changed meanwhile what the session shall do.
    Superseded,
    /// 413: the body is larger than allowed.
    TooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 422: the idempotency key was used for another message.
    TurnMismatch,
    /// 422: the idempotency key was used for another session.
    SessionMismatch,
    /// 426: the path is a WebSocket, and the request does not open one.
    UpgradeRequired,
    /// 429: too many turns wait for this session already.
    QueueFull,
    /// 429: the key's requests come faster than it allows.
    RateLimited,
    /// 429: as many of the key's requests are being served as it allows.
    TooManyInFlight,
    /// 429: too many follow this session's events, or look at its terminal, already.
    TooManyStreams,
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
    /// 502: the session was resumed or restarted, and did not become ready.
    StartFailed,
    /// 503: the gateway is shutting down.
    Draining,
    /// 503: the gateway has not read the cluster's state yet.
    NotSynced,
    /// 503: the session's runner cannot take turns right now.
    NotReady,
    /// 503: the API server does not answer.
    ClusterUnavailable,
    /// 503: the transcript store does not answer, or is full.
    TranscriptUnavailable,
    /// 504: the caller's own deadline has passed; what was asked for goes on.
    WaitExpired,
}

impl ErrorCode {
    /// The HTTP status this error is answered with, as a rule.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::Unsupported => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound | Self::Creating | Self::Suspended | Self::Failed | Self::Dead => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::TerminalOnly | Self::NoTerminal | Self::WorkspaceNotPersistent | Self::Superseded => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::TurnMismatch | Self::SessionMismatch => 422,
            Self::UpgradeRequired => 426,
            Self::QueueFull | Self::RateLimited | Self::TooManyInFlight | Self::TooManyStreams => 429,
            Self::HeadersTooLarge => 431,
            Self::Internal => 500,
            Self::Unreachable
            | Self::Misrouted
            | Self::TurnLost
            | Self::HarnessFailed
            | Self::TurnTimeout
            | Self::Interrupted
            | Self::JournalFailed
            | Self::StartFailed => 502,
            Self::Draining
            | Self::NotSynced
            | Self::NotReady
            | Self::ClusterUnavailable
            | Self::TranscriptUnavailable => 503,
            Self::WaitExpired => 504,
        }
    }

    /// The word clients, logs and metrics see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unsupported => "unsupported",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Creating => "creating",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::TerminalOnly => "terminal_only",
            Self::NoTerminal => "no_terminal",
            Self::WorkspaceNotPersistent => "workspace_not_persistent",
            Self::Superseded => "superseded",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TurnMismatch => "turn_mismatch",
            Self::SessionMismatch => "session_mismatch",
            Self::UpgradeRequired => "upgrade_required",
            Self::QueueFull => "queue_full",
            Self::RateLimited => "rate_limited",
            Self::TooManyInFlight => "too_many_in_flight",
            Self::TooManyStreams => "too_many_streams",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Internal => "internal",
            Self::Unreachable => "unreachable",
            Self::Misrouted => "misrouted",
            Self::TurnLost => "turn_lost",
            Self::HarnessFailed => "harness_failed",
            Self::TurnTimeout => "turn_timeout",
            Self::Interrupted => "interrupted",
            Self::JournalFailed => "journal_failed",
            Self::StartFailed => "start_failed",
            Self::Draining => "draining",
            Self::NotSynced => "not_synced",
            Self::NotReady => "not_ready",
            Self::ClusterUnavailable => "cluster_unavailable",
            Self::TranscriptUnavailable => "transcript_unavailable",
            Self::WaitExpired => "wait_expired",
        }
    }
}
