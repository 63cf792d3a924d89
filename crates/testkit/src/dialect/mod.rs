//! The three wire formats. Each reads a request into a [`Conversation`] and writes a [`Reply`] as one JSON
//! document or as the events of a stream.

mod anthropic;
mod chat;
mod responses;

use serde_json::Value;

use crate::conversation::Conversation;
use crate::reply::Reply;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI `POST /v1/chat/completions`.
    Chat,
    /// OpenAI `POST /v1/responses`.
    Responses,
    /// Anthropic `POST /v1/messages`.
    Messages,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The event as sent, blank line included.
    pub text: String,
    /// Whether the reply's pause goes before it.
    pub pace: Pace,
}

/// See [`Frame::pace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Immediate,
    /// After the pause.
    Paused,
}

/// Identity of one answer, the same in all its events.
pub struct Meta<'a> {
    /// Number of the request; ids are made of it.
    pub order: usize,
    /// The request.
    pub asked: &'a Conversation,
}

impl Meta<'_> {
    fn input_tokens(&self) -> usize {
        self.asked.size.div_ceil(4).max(1)
    }

    fn call_id(&self) -> String {
        format!("call_{}", self.order)
    }
}

impl Dialect {
    /// Reads a request.
    pub fn read(self, body: &Value) -> Conversation {
        let mut conversation = match self {
            Self::Chat => chat::read(body),
            Self::Responses => responses::read(body),
            Self::Messages => anthropic::read(body),
        };
        body["model"].as_str().unwrap_or_default().clone_into(&mut conversation.model);
        conversation.stream = body["stream"].as_bool().unwrap_or(false);
        conversation.size = body.to_string().len();
        conversation
    }

    /// The reply as one document.
    pub fn document(self, reply: &Reply, meta: &Meta<'_>) -> Value {
        match self {
            Self::Chat => chat::document(reply, meta),
            Self::Responses => responses::document(reply, meta),
            Self::Messages => anthropic::document(reply, meta),
        }
    }

    /// The reply as a stream.
    pub fn stream(self, reply: &Reply, meta: &Meta<'_>) -> Vec<Frame> {
        match self {
            Self::Chat => chat::stream(reply, meta),
            Self::Responses => responses::stream(reply, meta),
            Self::Messages => anthropic::stream(reply, meta),
        }
    }

    /// An error of this HTTP status.
    pub fn error(self, status: u16) -> Value {
        let message = format!("scripted failure {status}");
        match self {
            Self::Chat | Self::Responses => serde_json::json!({
                "error": {"message": message, "type": "scripted_failure", "param": null, "code": status.to_string()}
            }),
            Self::Messages => anthropic::error(status, &message),
        }
    }
}

fn data(value: &Value, pace: Pace) -> Frame {
    Frame { text: format!("data: {value}\n\n"), pace }
}

/// An event whose SSE name is the value's `type`.
fn named(value: &Value, pace: Pace) -> Frame {
    let name = value["type"].as_str().unwrap_or("message");
    Frame { text: format!("event: {name}\ndata: {value}\n\n"), pace }
}
