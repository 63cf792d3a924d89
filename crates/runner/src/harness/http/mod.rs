//! Adapter for a server that speaks opencode's wire by itself: an image of somebody's own, which knows nothing of Paddock.
//!
//! It is late-bound by what the wire has: title, prompt, files and MCP servers go into `POST /session`, the model and (as opencode
//! wants it) the prompt into each message. What a server does not know it leaves out. What it can do beyond answering its
//! template declares ([`Features`]).

mod before;
mod launch;
mod open;
mod server;
mod task;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request};
use http_body_util::BodyExt;
use paddock_runnerapi::{ActivateRequest, Features, TurnRequest};
use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::ids::{IdMaker, now_ms};
use super::shell_env::ShellEnv;
use super::wire::client::Client;
use super::wire::conversations::HISTORY;
use super::wire::family::Family;
use super::wire::{events, passed, questions};
use super::{BadParts, Events, Harness, HarnessError, MessageHarness, Passed, Task, TurnNames, reply};
use crate::model_proxy::ModelProxy;
use crate::terminal::Terminal;
use before::Before;
use open::Model;

pub use launch::{Booting, Started, launch};
pub use server::{Gone, Watch};

/// A server that answers.
pub struct Http {
    client: Client,
    features: Features,
    workspace: PathBuf,
    before: Before,
    /// The environment of its shells, where the server is our child.
    shell_env: Option<ShellEnv>,
    proxy: Arc<ModelProxy>,
    /// Told when the server has lost the session's conversation.
    forgot: Arc<Notify>,
    ids: IdMaker,
    model: Model,
    /// The latest message, as we named it, and the id of its reply: servers may have names of their own for messages.
    latest: Mutex<Option<(String, String)>>,
    /// Whose events are told.
    family: Arc<Mutex<Family>>,
}

impl Http {
    /// Waits until the server answers.
    pub async fn booted(booting: Booting) -> Self {
        booting.served().await
    }

    async fn work(&self, conversation: &str, names: &TurnNames, task: Task) -> Result<Bytes, HarnessError> {
        let is_own = task.conversation.is_none();
        let wants_reply = task.options.get("noReply") != Some(&true.into());
        let unreadable = |source| HarnessError::Prepare { what: "conversation of before", source };
        let before = if is_own { self.before.text().map_err(unreadable)? } else { None };
        let is_told = before.is_some();
        let body = {
            let (model, prompt) = self.model.of_session().await;
            let saying = task::Saying {
                provider: &model.provider,
                model: &model.model,
                prompt: prompt.as_deref(),
                before,
            };
            task::body(names, task, saying)
        };
        let path = format!("/session/{conversation}/message");
        let answer = self.client.call("run a turn", Method::POST, &path, Some(&body)).await;
        let answer = answer.map_err(|error| self.why_not(error, is_own))?;
        let info = reply::read(&answer);
        let info = info
            .ok_or(HarnessError::Unusable { attempt: "run a turn", what: "it is no message with parts" })?;
        if is_told && let Err(error) = self.before.forget() {
            tracing::warn!(%error, "what was said before will be told once more");
        }
        if !wants_reply || !info.answers_another(&names.message) {
            let latest = (names.message.clone(), info.id);
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(latest);
            return Ok(answer);
        }
        // opencode answers with the conversation's last reply, whoever asked.
        let found = self.client.find_reply(conversation, &names.message).await?;
        found.ok_or(HarnessError::Unusable { attempt: "run a turn", what: "it has no reply to this message" })
    }

    fn why_not(&self, error: HarnessError, is_own: bool) -> HarnessError {
        match error {
            HarnessError::Refused { status: 400, said, .. } => HarnessError::BadMessage { said },
            HarnessError::Refused { status: 404, .. } if is_own => {
                self.forgot.notify_one();
                let said = "it does not know the session's conversation any more; the session gets a new one, and keeps its \
                            workspace";
                HarnessError::Failed { attempt: "run a turn", said: said.to_owned() }
            }
            HarnessError::Refused { status: 404, .. } => {
                HarnessError::NotThere { what: "such conversation".to_owned() }
            }
            error => error,
        }
    }

    /// The reply to the latest message, where that is this one.
    fn latest_reply(&self, names: &TurnNames) -> Option<String> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().filter(|(message, _)| *message == names.message).map(|(_, reply)| reply.clone())
    }

    async fn has_conversation(&self, conversation: &str) -> Result<bool, HarnessError> {
        match self.client.read_history(conversation, Some(1)).await {
            Ok(history) => Ok(serde_json::from_slice::<Vec<&RawValue>>(&history).is_ok()),
            Err(HarnessError::Refused { status: 400 | 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where the runner alone has restarted, a turn of before may still be at work. Nobody waits for it any more.
    async fn stop_what_runs(&self, conversation: &str) {
        let at_work = self.at_work().await.unwrap_or_default();
        if at_work.iter().any(|id| id == conversation)
            && let Err(error) = self.client.stop(conversation).await
        {
            tracing::warn!(%error, "a turn of before the restart is still at work");
        }
    }

    /// Which conversations are at work; none, where the server does not tell.
    async fn at_work(&self) -> Result<Vec<String>, HarnessError> {
        match self.client.at_work().await {
            Err(HarnessError::Refused { .. } | HarnessError::Unusable { .. }) => Ok(Vec::new()),
            told => told,
        }
    }
}

impl Harness for Http {
    fn answers_messages(self: Arc<Self>) -> Option<Arc<dyn MessageHarness>> {
        Some(self)
    }

    fn terminal(&self) -> Option<Arc<Terminal>> {
        None
    }

    fn takes_mcp(&self) -> bool {
        self.features.mcp
    }

    fn takes_env(&self) -> bool {
        self.shell_env.is_some()
    }

    fn connect_mcp<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(std::future::ready(open::check_mcp(&request.agent.equipment.mcp_servers)))
    }

    fn open<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(self.open_with(request, &request.agent.equipment.files))
    }

    fn names_after(&self, latest: &TurnNames) {
        self.ids.not_before(latest);
    }

    fn resume<'a>(
        &'a self,
        request: &'a ActivateRequest,
        conversation: &'a str,
    ) -> BoxFuture<'a, Result<bool, HarnessError>> {
        Box::pin(async move {
            if !self.has_conversation(conversation).await? {
                return Ok(false);
            }
            self.stop_what_runs(conversation).await;
            self.bind(request).await?;
            Ok(true)
        })
    }

    /// Most servers have their conversations in memory only. What the agent has made of its files stays as it is.
    fn open_another<'a>(
        &'a self,
        request: &'a ActivateRequest,
    ) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(self.open_with(request, &[]))
    }
}

impl MessageHarness for Http {
    fn prepare(&self, own: &str, request: &TurnRequest) -> Result<Task, BadParts> {
        task::prepare(own, request, self.features.attachments)
    }

    fn knows<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<bool, HarnessError>> {
        Box::pin(self.has_conversation(conversation))
    }

    fn name_turn(&self, task: &Task) -> Result<TurnNames, HarnessError> {
        let names = self.ids.turn(task.parts.len(), now_ms())?;
        Ok(TurnNames { conversation: task.conversation.clone(), ..names })
    }

    fn run<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
        task: Task,
    ) -> BoxFuture<'a, Result<Bytes, HarnessError>> {
        Box::pin(async move {
            if task.attended {
                return self.work(conversation, names, task).await;
            }
            tokio::select! {
                reply = self.work(conversation, names, task) => reply,
                () = questions::refuse(&self.client) => Err(HarnessError::Unusable { attempt: "run a turn", what: "nothing came" }),
            }
        })
    }

    fn pass<'a>(&'a self, request: Request<Bytes>) -> BoxFuture<'a, Result<Passed, HarnessError>> {
        Box::pin(async move {
            let answer = self.client.pass(passed::narrowed(request)).await?;
            Ok(answer.map(BodyExt::boxed_unsync))
        })
    }

    fn messages_of<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, HarnessError>> {
        Box::pin(async move {
            for last in [Some(HISTORY), None] {
                let history = self.client.read_history(conversation, last).await?;
                let by_name = reply::find_all(&history, &names.message);
                let found = by_name.or_else(|| reply::find_until(&history, &self.latest_reply(names)?));
                if let Some(found) = found {
                    return Ok(before::taken_out_of_each(found));
                }
            }
            Ok(Vec::new())
        })
    }

    fn history<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Bytes, HarnessError>> {
        Box::pin(async move {
            let history = self.client.read_history(conversation, None).await?;
            Ok(before::taken_out_of(history))
        })
    }

    fn restore<'a>(
        &'a self,
        _conversation: &'a str,
        messages: Vec<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<(), HarnessError>> {
        let unwritten = |source| HarnessError::Prepare { what: "conversation of before", source };
        Box::pin(std::future::ready(self.before.keep(&messages).map_err(unwritten)))
    }

    fn has_open_work(&self) -> BoxFuture<'_, Result<bool, HarnessError>> {
        Box::pin(async move { Ok(!self.at_work().await?.is_empty()) })
    }

    fn events<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Events, HarnessError>> {
        Box::pin(events::subscribe(&self.client, conversation, Arc::clone(&self.family)))
    }

    fn abort<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            if !self.features.abort {
                let said =
                    "its template does not declare that the image can do so (feature abort)".to_owned();
                return Err(HarnessError::Failed { attempt: "abort the turn", said });
            }
            self.client.stop(conversation).await
        })
    }

    fn recover<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HarnessError>> {
        // One that names messages itself cannot say which turn a reply belongs to.
        Box::pin(self.client.find_reply(conversation, &names.message))
    }
}
