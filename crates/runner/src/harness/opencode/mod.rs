//! Adapter for `opencode serve`.

mod config;
mod equip;
mod import;
mod launch;
mod permissions;
mod task;
mod warm;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use http::header::ACCEPT_ENCODING;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use paddock_runnerapi::passage::Action;
use paddock_runnerapi::{ActivateRequest, TurnRequest};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock};
use tokio::time::timeout;

use super::ids::{IdMaker, now_ms};
use super::wire::client::Client;
use super::wire::conversations::HISTORY;
use super::wire::family::Family;
use super::wire::{self, events, passed, questions};
use super::{BadParts, Events, Harness, HarnessError, MessageHarness, Passed, Task, TurnNames, reply};
use crate::model_proxy::ModelProxy;
use crate::terminal::Terminal;
use config::Files;
use import::Importer;
use permissions::Rule;

pub use launch::{Booting, launch};

/// How long a warm-up of a waiting harness may take.
const WARM_LIMIT: Duration = Duration::from_secs(20);

/// A booted opencode.
pub struct Opencode {
    client: Client,
    files: Files,
    workspace: PathBuf,
    ids: IdMaker,
    proxy: Arc<ModelProxy>,
    importer: Importer,
    /// Sent with every message: opencode forgets it after each.
    prompt: RwLock<Option<String>>,
    /// What each conversation is to be denied.
    denied: RwLock<Vec<Rule>>,
    /// Held by warm-up turns and by activation, so that no warm-up reaches a paid model.
    warming: Mutex<()>,
    /// Whose events are told. It lives as long as the process, over subscriptions that break off.
    family: Arc<std::sync::Mutex<Family>>,
}

impl Opencode {
    /// Waits until opencode serves.
    ///
    /// # Errors
    /// Where it closes its output before.
    pub async fn booted(booting: Booting, proxy: Arc<ModelProxy>) -> Result<Self, HarnessError> {
        let workspace = booting.workspace.clone();
        let (client, files, importer) = booting.served().await?;
        let (ids, prompt, warming) = (IdMaker::default(), RwLock::new(None), Mutex::new(()));
        let family = Arc::default();
        let denied = RwLock::default();
        Ok(Self { client, files, workspace, ids, proxy, importer, prompt, denied, warming, family })
    }

    /// Brings a fresh process to its speed.
    ///
    /// # Errors
    /// Where a warm-up turn fails.
    pub async fn warm_up(&self) -> Result<(), HarnessError> {
        let _warming = self.warming.lock().await;
        warm::warm(&self.client, warm::FIRST).await
    }

    /// Keeps a waiting process at its speed; does nothing once it has a session.
    ///
    /// # Errors
    /// Where a warm-up turn fails.
    pub async fn keep_warm(&self) -> Result<(), HarnessError> {
        let _warming = self.warming.lock().await;
        if self.proxy.is_bound() {
            return Ok(());
        }
        // A session may come at any moment and must not wait for long.
        let late = |_| HarnessError::Unusable { attempt: "keep warm", what: "it did not come in time" };
        timeout(WARM_LIMIT, warm::warm(&self.client, warm::AGAIN)).await.map_err(late)?
    }

    async fn bind(&self, request: &ActivateRequest) -> Result<(), HarnessError> {
        let prepare = |source| HarnessError::Prepare { what: "shell environment", source };
        self.files.shell_env().write(&request.agent.env).map_err(prepare)?;
        self.prompt.write().await.clone_from(&request.agent.prompt);
        *self.denied.write().await = permissions::rules(&request.agent.equipment.denied);
        self.proxy.bind(&request.agent.model);
        Ok(())
    }

    async fn work(&self, conversation: &str, names: &TurnNames, task: Task) -> Result<Bytes, HarnessError> {
        let wants_reply = task.options.get("noReply") != Some(&Value::Bool(true));
        let is_message = matches!(task.action, Action::Message | Action::MessageAsync);
        let (path, body) = {
            let prompt = self.prompt.read().await;
            task::request(conversation, names, task, prompt.as_deref())
        };
        let reply = self.client.call("run a turn", Method::POST, &path, Some(&body)).await;
        let reply = reply.map_err(|error| match error {
            // For example an image that cannot be decoded.
            HarnessError::Refused { status: 400, said, .. } => HarnessError::BadMessage { said },
            error => error,
        })?;
        if !is_message || !wants_reply || reply::answers(&reply, &names.message) {
            return Ok(reply);
        }
        // opencode answers with the conversation's last reply, whoever asked.
        let found = self.client.find_reply(conversation, &names.message).await?;
        found.ok_or(HarnessError::Unusable { attempt: "run a turn", what: "it has no reply to this message" })
    }

    /// Denies a conversation what the agent is denied.
    async fn hold(&self, conversation: &str) -> Result<(), HarnessError> {
        permissions::hold(&self.client, conversation, &self.denied.read().await).await
    }

    /// A client makes a conversation, which is denied what the agent is before anybody can use it.
    async fn make_conversation(&self, mut request: Request<Bytes>) -> Result<Passed, HarnessError> {
        request.headers_mut().remove(ACCEPT_ENCODING);
        let broken = |error: hyper::Error| HarnessError::Unreachable {
            attempt: "open a conversation",
            source: error.into(),
        };
        let (head, body) = self.client.pass(request).await?.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        if head.status.is_success() {
            let what = "it names no conversation";
            let made: permissions::Conversation = serde_json::from_slice(&body)
                .map_err(|_| HarnessError::Unusable { attempt: "open a conversation", what })?;
            self.hold(&made.id).await?;
        }
        Ok(Response::from_parts(head, Full::new(body).map_err(|never| match never {}).boxed_unsync()))
    }

    async fn has_conversation(&self, conversation: &str) -> Result<bool, HarnessError> {
        // opencode fails at an id that is not of its form.
        if !conversation.starts_with("ses") {
            return Ok(false);
        }
        let path = format!("/session/{conversation}");
        match self.client.call("find the conversation", Method::GET, &path, None).await {
            Ok(_) => Ok(true),
            Err(HarnessError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Harness for Opencode {
    fn answers_messages(self: Arc<Self>) -> Option<Arc<dyn MessageHarness>> {
        Some(self)
    }

    fn terminal(&self) -> Option<Arc<Terminal>> {
        None
    }

    fn denies_tools(&self) -> bool {
        true
    }

    fn skills_dir(&self) -> Option<PathBuf> {
        Some(self.files.skills())
    }

    fn load_again<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            // What else there may be it sees as it is, and keeps its speed.
            if request.agent.equipment.skills.is_empty() && !equip::must_reload(&self.workspace) {
                return Ok(());
            }
            let _warming = self.warming.lock().await;
            equip::reload(&self.client).await
        })
    }

    fn connect_mcp<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            let servers = request.agent.equipment.mcp_servers.iter();
            // All are asked, whether others fail or not: a session that goes on needs those that there are.
            let connected = join_all(servers.map(|server| equip::connect(&self.client, server))).await;
            connected.into_iter().collect()
        })
    }

    fn open<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(async move {
            let _warming = self.warming.lock().await;
            self.bind(request).await?;
            // With a title given, opencode does not ask the model for one.
            let mut body = json!({"title": request.title});
            let denied = self.denied.read().await;
            if !denied.is_empty() {
                body["permission"] = json!(*denied);
            }
            let opened: warm::Created =
                self.client.ask("open a conversation", Method::POST, "/session", Some(&body)).await?;
            Ok(opened.id)
        })
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
            let _warming = self.warming.lock().await;
            self.bind(request).await?;
            self.hold(conversation).await?;
            Ok(true)
        })
    }
}

impl MessageHarness for Opencode {
    fn prepare(&self, own: &str, request: &TurnRequest) -> Result<Task, BadParts> {
        wire::task::prepare(own, request, &wire::parts::prepare)
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
            let request = passed::narrowed(request);
            if permissions::makes_a_conversation(&request) && !self.denied.read().await.is_empty() {
                return self.make_conversation(request).await;
            }
            let answer = self.client.pass(request).await?;
            Ok(answer.map(BodyExt::boxed_unsync))
        })
    }

    fn messages_of<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, HarnessError>> {
        Box::pin(async move {
            let latest = self.client.read_history(conversation, Some(HISTORY)).await?;
            if let Some(found) = reply::find_all(&latest, &names.message) {
                return Ok(found);
            }
            // It had more steps than that, or it was never stored.
            let all = self.client.read_history(conversation, None).await?;
            Ok(reply::find_all(&all, &names.message).unwrap_or_default())
        })
    }

    fn history<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Bytes, HarnessError>> {
        Box::pin(self.client.read_history(conversation, None))
    }

    fn restore<'a>(
        &'a self,
        conversation: &'a str,
        messages: Vec<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            let count = messages.len();
            let path = format!("/session/{conversation}");
            let info = self.client.ask("find the conversation", Method::GET, &path, None).await?;
            self.importer.import(info, messages).await?;
            let told = self.client.read_history(conversation, None).await?;
            let ids = reply::ids(&told);
            if ids.len() < count {
                let what = "it does not have all messages that were imported";
                return Err(HarnessError::Unusable { attempt: "take over a conversation", what });
            }
            // Later messages must sort after these.
            self.ids.not_before_any(ids);
            self.hold(conversation).await
        })
    }

    fn has_open_work(&self) -> BoxFuture<'_, Result<bool, HarnessError>> {
        Box::pin(async move { Ok(!self.client.at_work().await?.is_empty()) })
    }

    fn events<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Events, HarnessError>> {
        Box::pin(events::subscribe(&self.client, conversation, Arc::clone(&self.family)))
    }

    fn abort<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(self.client.stop(conversation))
    }

    fn recover<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HarnessError>> {
        Box::pin(self.client.find_reply(conversation, &names.message))
    }
}
