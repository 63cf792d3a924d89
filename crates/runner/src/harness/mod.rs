//! What the runner needs of a harness. One adapter per kind of harness; activation knows [`Harness`], the turn engine
//! [`MessageHarness`].

mod claude_rules;
pub mod claude_sdk;
mod codex;
pub mod codex_app;
#[cfg(test)]
pub(crate) mod fake;
mod home;
pub mod http;
mod ids;
mod jsonrpc;
pub mod opencode;
mod passed;
mod prompt;
mod reply;
mod shell_env;
pub mod terminal;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use ::http::{Request, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http_body_util::combinators::UnsyncBoxBody;
use paddock_runnerapi::passage::Action;
use paddock_runnerapi::{ActivateRequest, Capabilities, ErrorBody, ErrorCode, TurnRequest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::terminal::Terminal;

/// Subject of the empty commit of a workspace that waits for its repository.
pub(crate) const PLACEHOLDER_COMMIT: &str = "Empty workspace";

/// The harness's own names of a turn's message, chosen by us before the harness sees the turn, so that its
/// reply can be found again after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnNames {
    /// The conversation, where it is not the session's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// The message.
    pub message: String,
    /// Its parts, in order.
    pub parts: Vec<String>,
}

impl TurnNames {
    /// The conversation; `own` is the session's.
    pub fn conversation<'a>(&'a self, own: &'a str) -> &'a str {
        self.conversation.as_deref().unwrap_or(own)
    }
}

/// What a turn asks of a harness, checked and reduced to what a client may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The conversation it is for, where it is not the session's own but one that a client has opened through the harness's own
    /// API.
    pub conversation: Option<String>,
    /// What the harness shall do.
    pub action: Action,
    /// The message's parts.
    pub parts: Vec<Value>,
    /// What else is said with it.
    pub options: Map<String, Value>,
    /// Its client follows the conversation and answers the harness's questions.
    pub attended: bool,
}

impl Task {
    /// A message of the session's own conversation.
    pub fn message(parts: Vec<Value>) -> Self {
        Self { conversation: None, action: Action::Message, parts, options: Map::new(), attended: false }
    }
}

/// Why a harness did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// It could not be reached, or broke off.
    #[error("asking the harness to {attempt}: it cannot be reached or broke off ({source})")]
    Unreachable {
        /// What was attempted.
        attempt: &'static str,
        /// How it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It has no such conversation, or its own API no such path.
    #[error("asking the harness: it has no {what}")]
    NotThere {
        /// What it does not have.
        what: String,
    },
    /// It does not take the message; that is for the client to mend.
    #[error("running the turn: the harness does not take the message: {said}")]
    BadMessage {
        /// The beginning of what it said.
        said: String,
    },
    /// It answered with an error.
    #[error("asking the harness to {attempt}: it answered {status}: {said}")]
    Refused {
        /// What was attempted.
        attempt: &'static str,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        said: String,
    },
    /// It says that it could not do it.
    #[error("asking the harness to {attempt}: it failed: {said}")]
    Failed {
        /// What was attempted.
        attempt: &'static str,
        /// What it said.
        said: String,
    },
    /// Its answer is not what the request should give.
    #[error("asking the harness to {attempt}: its answer cannot be used: {what}")]
    Unusable {
        /// What was attempted.
        attempt: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It cannot use an MCP server of the session.
    #[error(
        "connecting to the MCP server {name:?}: {said}; correct the server's description, or see to it that it runs"
    )]
    Mcp {
        /// The server.
        name: String,
        /// What the harness said of it.
        said: String,
    },
    /// Something it needs could not be prepared.
    #[error("preparing the harness's {what}: {source}")]
    Prepare {
        /// Which thing.
        what: &'static str,
        /// How it failed.
        source: std::io::Error,
    },
    /// No ids could be made.
    #[error(transparent)]
    Random(#[from] crate::random::RandomError),
}

impl HarnessError {
    /// As the error itself, without what the harness said: that may be anything.
    pub fn unquoted(&self) -> String {
        match self {
            Self::Refused { attempt, status, .. } => {
                format!("asking the harness to {attempt}: it answered {status}")
            }
            Self::Failed { attempt, .. } => format!("asking the harness to {attempt}: it failed"),
            Self::Mcp { name, .. } => format!("connecting to the MCP server {name:?}: it cannot be used"),
            Self::BadMessage { .. } => "running the turn: the harness does not take the message".to_owned(),
            _ => self.to_string(),
        }
    }
}

impl From<HarnessError> for ErrorBody {
    fn from(error: HarnessError) -> Self {
        let code = match error {
            HarnessError::BadMessage { .. } => ErrorCode::BadRequest,
            HarnessError::NotThere { .. } => ErrorCode::NotInHarness,
            HarnessError::Mcp { .. } => ErrorCode::ActivationFailed,
            _ => ErrorCode::HarnessFailed,
        };
        Self { code, error: error.to_string() }
    }
}

/// A message part that a harness must not get.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadParts(pub String);

/// What a harness tells of a conversation as it happens.
#[derive(Debug)]
pub enum HarnessEvent {
    /// An event.
    Said {
        /// As the harness told it: one JSON document, without line breaks.
        event: Box<RawValue>,
        /// Whether the conversation has come to rest with it.
        rests: bool,
    },
    /// One that is larger than the runner takes.
    TooLarge,
}

/// A harness's answer to a request to its own API, as it comes.
pub type Passed = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

/// Events until they break off.
pub type Events = BoxStream<'static, Result<HarnessEvent, HarnessError>>;

/// A booted harness.
pub trait Harness: Send + Sync {
    /// It, as one that answers messages; nothing where it does not.
    fn answers_messages(self: Arc<Self>) -> Option<Arc<dyn MessageHarness>>;

    /// Its terminal; nothing where it has none.
    fn terminal(&self) -> Option<Arc<Terminal>>;

    /// What it can do.
    fn capabilities(self: Arc<Self>) -> Capabilities {
        let terminal = self.terminal().is_some();
        Capabilities { messages: self.answers_messages().is_some(), terminal }
    }

    /// The folder in which it looks for skills, a folder for each; nothing where it knows none.
    fn skills_dir(&self) -> Option<PathBuf> {
        None
    }

    /// Whether it offers the tools of MCP servers to its model.
    fn takes_mcp(&self) -> bool {
        true
    }

    /// Whether its shells can be given variables, and installed programs in their `PATH`, once it has booted.
    fn takes_env(&self) -> bool {
        true
    }

    /// Whether it keeps its model from tools.
    fn denies_tools(&self) -> bool {
        false
    }

    /// Loads what was put into workspace and home since it booted, where it does not see that by itself.
    fn load_again<'a>(&'a self, _request: &'a ActivateRequest) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Connects to the session's MCP servers, before [`Self::open`] and [`Self::reopen`]. Nothing, where that is a part of
    /// opening.
    fn connect_mcp<'a>(&'a self, _request: &'a ActivateRequest) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Gives the harness its session and returns the conversation's id.
    fn open<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<String, HarnessError>>;

    /// Makes names of later turns sort after these. Nothing, where it names none.
    fn names_after(&self, _latest: &TurnNames) {}

    /// Sets the harness up for a session whose conversation it has, from this pod or from an earlier one with the same home. False
    /// where it lacks the conversation; then nothing was done.
    fn resume<'a>(
        &'a self,
        request: &'a ActivateRequest,
        conversation: &'a str,
    ) -> BoxFuture<'a, Result<bool, HarnessError>>;

    /// As [`Self::open`], in a workspace that an earlier conversation of the session has worked in.
    fn open_another<'a>(
        &'a self,
        request: &'a ActivateRequest,
    ) -> BoxFuture<'a, Result<String, HarnessError>> {
        self.open(request)
    }

    /// Sets the harness up for a session that it had before, in this pod or in an earlier one with the same
    /// home, and returns the conversation's id: another one where the harness has lost the conversation. Names
    /// of later turns sort after `latest`.
    fn reopen<'a>(
        &'a self,
        request: &'a ActivateRequest,
        conversation: &'a str,
        latest: Option<&'a TurnNames>,
    ) -> BoxFuture<'a, Result<String, HarnessError>> {
        if let Some(latest) = latest {
            self.names_after(latest);
        }
        Box::pin(async move {
            if self.resume(request, conversation).await? {
                return Ok(conversation.to_owned());
            }
            // Its home may not have been synced when a node was lost, or the agent has emptied it. The workspace is still there, and
            // the session goes on with a new one.
            tracing::error!(conversation, "the harness lacks the conversation; a new one is opened");
            self.open_another(request).await
        })
    }
}

/// A harness that answers messages, and so has conversations.
pub trait MessageHarness: Harness {
    /// Checks what a client asks for and reduces it to what a client may ask. `own` is the session's conversation.
    ///
    /// # Errors
    /// [`BadParts`], for the client.
    fn prepare(&self, own: &str, request: &TurnRequest) -> Result<Task, BadParts>;

    /// Whether it has this conversation.
    fn knows<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<bool, HarnessError>>;

    /// New names for a turn. They sort after all earlier ones.
    ///
    /// # Errors
    /// Where no random bytes can be had.
    fn name_turn(&self, task: &Task) -> Result<TurnNames, HarnessError>;

    /// Hands over one turn and waits for the reply, a JSON document. Never sent twice.
    fn run<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
        task: Task,
    ) -> BoxFuture<'a, Result<Bytes, HarnessError>>;

    /// Answers a request to the harness's own API that begins no turn (its `uri` is the path and query there).
    fn pass<'a>(&'a self, request: Request<Bytes>) -> BoxFuture<'a, Result<Passed, HarnessError>>;

    /// All messages of a turn, in order and in the harness's form: the user's first, the reply last.
    fn messages_of<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, HarnessError>>;

    /// The whole conversation, a JSON array of messages in the harness's form.
    fn history<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Bytes, HarnessError>>;

    /// Puts messages, in order and in the harness's form, into a conversation in which nothing was said yet; or has them told with
    /// what is said next.
    fn restore<'a>(
        &'a self,
        conversation: &'a str,
        messages: Vec<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<(), HarnessError>>;

    /// Whether it works on anything right now, whoever asked for it.
    fn has_open_work(&self) -> BoxFuture<'_, Result<bool, HarnessError>>;

    /// Subscribes to what happens in the conversation and in those that it begins itself, from now on.
    fn events<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Events, HarnessError>>;

    /// Stops what the conversation is doing.
    fn abort<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<(), HarnessError>>;

    /// Looks for the finished reply to a turn whose end was not seen.
    fn recover<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HarnessError>>;
}
