//! The wire formats: how each says an error, and how each warm-up turn goes in it.

mod chat;
mod messages;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Body, respond};

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
}

/// Why a request was not passed on, or not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    BadRequest,
    Unauthorized,
    NotFound,
    TooLarge,
    BadGateway,
    /// The pod has no session yet.
    NotActivated,
}

impl Reason {
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::NotActivated => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// OpenAI leaves the names to whoever serves.
    fn openai(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::BadGateway => "bad_gateway",
            Self::NotActivated => "not_activated",
        }
    }

    /// Anthropic's own names.
    fn anthropic(self) -> &'static str {
        match self {
            Self::BadRequest => "invalid_request_error",
            Self::Unauthorized => "authentication_error",
            Self::NotFound => "not_found_error",
            Self::TooLarge => "request_too_large",
            Self::BadGateway | Self::NotActivated => "api_error",
        }
    }
}

/// What the model of warm-up turns says: it calls the shell tool once, so that this path is warm too, and then says one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WarmUp {
    Call,
    Text,
}

/// The model's name in warm-up turns.
const WARM_MODEL: &str = "warm-up";
/// The only word it says.
const WARM_TEXT: &str = "ready";

/// What it passes to the shell tool, which takes the same at all harnesses.
fn warm_arguments() -> Value {
    json!({"command": "true", "description": "Warm-up"})
}

impl Dialect {
    /// The one of a request that is for no endpoint.
    pub(super) fn guess(headers: &http::HeaderMap) -> Self {
        if headers.contains_key("anthropic-version") { Self::Messages } else { Self::Chat }
    }

    /// An error.
    pub(super) fn failure(self, reason: Reason, message: &str) -> Response<Body> {
        let body = match self {
            Self::Chat | Self::Responses => {
                let kind = reason.openai();
                json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
            }
            Self::Messages => {
                json!({"type": "error", "error": {"type": reason.anthropic(), "message": message}})
            }
        };
        respond(reason.status(), "application/json", body.to_string())
    }

    /// Goes on with a warm-up conversation, by itself.
    pub(super) fn warm_up(self, body: &[u8]) -> Response<Body> {
        let answer = match self {
            Self::Chat => chat::warm_up(body),
            Self::Messages => messages::warm_up(body),
            // Codex speaks it, and is started with its session.
            Self::Responses => {
                let message = "the pod has no session yet, and no warm-up turns are made in this format";
                return self.failure(Reason::NotActivated, message);
            }
        };
        match answer {
            Some(Warm::Document(document)) => {
                respond(StatusCode::OK, "application/json", document.to_string())
            }
            Some(Warm::Stream(events)) => respond(StatusCode::OK, "text/event-stream", events),
            None => self.failure(Reason::BadRequest, "the request cannot be read"),
        }
    }
}

/// An answer, as the request wants it.
enum Warm {
    Document(Value),
    Stream(String),
}
