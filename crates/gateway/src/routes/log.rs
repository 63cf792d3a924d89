//! `GET /sessions/{id}/log`: the session's time line, for people.
//!
//! It is made anew for each request, of the Session object and the conversation that `GET messages` shows, and holds the beginning
//! of each text only. Of a very long one the later part is given.

use http::Response;
use jiff::Timestamp;
use paddock_api::http::ApiStatus;
use paddock_api::session::{Phase, SessionStatus, StartupPath};
use paddock_api::{Condition, Session};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Ask;
use super::answer::Answer;
use super::messages;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::lookup;

/// Longest detail, in characters.
const MOST_CHARS: usize = 600;
/// Most entries about the conversation.
const MOST_ENTRIES: usize = 2_000;

/// One entry of the time line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogEntry {
    /// The same for the same entry in every answer.
    pub id: String,
    /// What it tells.
    pub kind: LogKind,
    /// When it was.
    pub at: Timestamp,
    /// A few words.
    pub title: String,
    /// The beginning of what was said, or why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub detail: Option<String>,
}

/// What an entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// The session was made.
    Created,
    /// Its first pod is ready.
    Ready,
    /// Another pod is ready, and goes on with the conversation.
    Recovered,
    /// A message of the user.
    User,
    /// The agent's reasoning.
    Thinking,
    /// The agent used a tool.
    Tool,
    /// The agent replied.
    Response,
    /// A turn ended without a reply.
    Error,
    /// It was suspended.
    Suspended,
    /// It failed, or has ended.
    Ended,
}

/// Serves the route.
pub async fn get(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let session = lookup::find(gateway, id.as_str()).await?;
    let messages = messages::read(gateway, ask, &session).await?;
    Ok(Answer::json(&time_line(&session, messages)))
}

/// A message, as far as the time line tells of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    info: Info,
    parts: Vec<Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    id: String,
    role: String,
    time: Time,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    tool: Option<String>,
    state: ToolState,
    time: Time,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolState {
    status: Option<String>,
    title: Option<String>,
    error: Option<String>,
    time: Time,
}

/// In milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Time {
    created: Option<f64>,
    start: Option<f64>,
}

impl Time {
    fn at(self) -> Option<Timestamp> {
        // A cast ends at the ends of the range, where there is no time either.
        let millis = self.start.or(self.created)? as i64;
        Timestamp::from_millisecond(millis).ok()
    }
}

/// The conversation is in its own order, whatever its clocks said; what the session's object tells stands around it and, by
/// time, in it.
fn time_line(session: &Session, messages: Vec<Message>) -> Vec<LogEntry> {
    let created = session.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let name = session.metadata.name.as_deref().unwrap_or_default();
    let mut last = created;
    let mut said: Vec<LogEntry> = messages
        .into_iter()
        .flat_map(|message| {
            last = message.info.time.at().unwrap_or(last);
            message.told(last)
        })
        .collect();
    let too_many = said.len().saturating_sub(MOST_ENTRIES);
    said.drain(..too_many);

    let empty = SessionStatus::default();
    let status = session.status.as_ref().unwrap_or(&empty);
    if let Some(startup) = &status.startup {
        let path = match startup.path {
            StartupPath::Warm => "from a pool",
            StartupPath::Cold => "in a new pod",
        };
        let again = status.incarnation > 1;
        let ready = LogEntry {
            id: format!("{name}:ready:{}", status.incarnation),
            kind: if again { LogKind::Recovered } else { LogKind::Ready },
            at: startup.ready_at,
            title: if again { format!("Ready again, {path}") } else { format!("Ready, {path}") },
            detail: again.then(|| format!("pod number {} of the session", status.incarnation)),
        };
        let at = said.iter().position(|entry| entry.at > ready.at).unwrap_or(said.len());
        said.insert(at, ready);
    }
    let begun = LogEntry {
        id: format!("{name}:created"),
        kind: LogKind::Created,
        at: created,
        title: "Session created".to_owned(),
        detail: session.spec.title.as_deref().and_then(beginning),
    };
    let over = over(session, status, name);
    std::iter::once(begun).chain(said).chain(over).collect()
}

/// That the session rests, or has ended.
fn over(session: &Session, status: &SessionStatus, name: &str) -> Option<LogEntry> {
    let (kind, word, title) = match (ApiStatus::of(session), status.phase) {
        (_, Phase::Suspended) => (LogKind::Suspended, "suspended", "Session suspended"),
        (ApiStatus::Failed, Phase::Failed) => (LogKind::Ended, "ended", "Session failed"),
        (ApiStatus::Dead, Phase::Dead | Phase::Failed) => (LogKind::Ended, "ended", "Session ended"),
        _ => return None,
    };
    let since = |condition: &&Condition| condition.kind == "Ready";
    let at = match status.finished_at.filter(|_| kind == LogKind::Ended) {
        Some(at) => at,
        None => status.conditions.iter().find(since)?.last_transition_time,
    };
    let reason = status.reason.map(|reason| reason.as_str().to_owned());
    let detail = match (reason, status.message.as_str()) {
        (reason, "") => reason,
        (None, message) => Some(message.to_owned()),
        (Some(reason), message) => Some(format!("{reason}: {message}")),
    };
    Some(LogEntry { id: format!("{name}:{word}"), kind, at, title: title.to_owned(), detail })
}

impl Message {
    fn told(self, at: Timestamp) -> Vec<LogEntry> {
        let Self { info, parts } = self;
        if info.role == "user" {
            let texts: Vec<String> =
                parts.into_iter().filter(|part| part.kind == "text").filter_map(|part| part.text).collect();
            let detail = beginning(&texts.join("\n")).or_else(|| Some("(no text)".to_owned()));
            let title = "User message".to_owned();
            return vec![LogEntry {
                id: format!("{}:user", info.id),
                kind: LogKind::User,
                at,
                title,
                detail,
            }];
        }
        let numbered = parts.into_iter().enumerate();
        let mut told: Vec<LogEntry> =
            numbered.filter_map(|(number, part)| part.told(&info.id, number, at)).collect();
        if let Some(error) = &info.error {
            let said = error["data"]["message"].as_str().or(error["name"].as_str());
            let id = format!("{}:error", info.id);
            let title = "Turn failed".to_owned();
            told.push(LogEntry { id, kind: LogKind::Error, at, title, detail: said.and_then(beginning) });
        }
        told
    }
}

impl Part {
    fn told(self, message: &str, number: usize, at: Timestamp) -> Option<LogEntry> {
        let text = self.text.as_deref().and_then(beginning);
        let (kind, title, detail) = match self.kind.as_str() {
            "reasoning" => (LogKind::Thinking, "Thinking".to_owned(), Some(text?)),
            "text" => (LogKind::Response, "Response".to_owned(), Some(text?)),
            "tool" => {
                let state = &self.state;
                let words = [&state.status, &state.title, &state.error].into_iter().flatten();
                let words: Vec<&str> = words.map(String::as_str).filter(|word| !word.is_empty()).collect();
                let title = format!("Tool: {}", self.tool.as_deref().unwrap_or("unknown"));
                (LogKind::Tool, title, beginning(&words.join(" · ")))
            }
            _ => return None,
        };
        let at = self.time.at().or(self.state.time.at()).unwrap_or(at);
        let id = self.id.unwrap_or_else(|| format!("{message}:{number}"));
        Some(LogEntry { id, kind, at, title, detail })
    }
}

/// The first characters of a text; nothing of an empty one.
fn beginning(text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.char_indices().nth(MOST_CHARS).map(|(at, _)| at);
    match end {
        _ if text.is_empty() => None,
        None => Some(text.to_owned()),
        Some(end) => Some(format!("{}…", &text[..end])),
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
