//! Adapter for Codex's app server: JSON-RPC over the pipes of `codex app-server`, which is started with the pod. A thread takes model,
//! instructions, environment and MCP servers when it begins, so the agent is bound late at no cost.
//!
//! Codex keeps each turn with the id that we gave its message, and so its own record tells how a turn ended whose end nobody saw.

mod follow;
mod item;
mod launch;
mod message;
mod restored;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use paddock_runnerapi::{ActivateRequest, TurnRequest};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::time::sleep;

use self::follow::{Follower, Interruption, interrupt};
use self::message::{Turn, part_id};
use self::restored::Restored;
use super::ids::{IdMaker, now_ms};
use super::jsonrpc::Peer;
use super::shell_env::object;
use super::{
    BadParts, Events, Harness, HarnessError, MessageHarness, Passed, Task, TurnNames, codex, passed, prompt,
    reply,
};
use crate::model_proxy::ModelProxy;
use crate::terminal::Terminal;

pub use launch::{Booting, launch};

/// How often a server that still starts is looked at.
const MCP_LOOK: Duration = Duration::from_millis(20);
/// How many turns are read at a time: each may hold all that its tools have said.
const PAGE: usize = 20;

/// When Codex asks for leave.
const APPROVALS: &str = "on-request";

/// A booted app server.
pub struct CodexApp {
    peer: Arc<Peer>,
    follower: Arc<Follower>,
    ids: IdMaker,
    proxy: Arc<ModelProxy>,
    workspace: PathBuf,
    home: PathBuf,
}

#[derive(Deserialize)]
struct Started {
    thread: Thread,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    id: String,
    #[serde(default)]
    name: Option<String>,
    /// Seconds since 1970.
    created_at: u64,
    updated_at: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    data: Vec<T>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct McpStatus {
    name: String,
    runtime_status: Option<String>,
    #[serde(default)]
    tools_error: Option<String>,
}

impl McpStatus {
    fn is_on_its_way(&self) -> bool {
        matches!(self.runtime_status.as_deref(), Some("notStarted" | "starting"))
    }

    fn is_connected(&self) -> bool {
        self.runtime_status.as_deref() == Some("connected") && self.tools_error.is_none()
    }
}

/// The conversation that a thread is to clients, who know ids of this form only.
fn conversation_of(thread: &str) -> String {
    format!("ses_{thread}")
}

fn thread_of(conversation: &str) -> Result<&str, HarnessError> {
    let is_one = |thread: &&str| {
        thread.len() == 36 && thread.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    conversation.strip_prefix("ses_").filter(is_one).ok_or_else(no_conversation)
}

fn no_conversation() -> HarnessError {
    HarnessError::NotThere { what: "such conversation".to_owned() }
}

/// Codex has no code of its own for a thread that it does not have.
fn there<T>(asked: Result<T, HarnessError>) -> Result<T, HarnessError> {
    asked.map_err(|error| match &error {
        HarnessError::Failed { said, .. }
            if ["thread not loaded", "thread not found", "no rollout found"]
                .iter()
                .any(|words| said.starts_with(words)) =>
        {
            no_conversation()
        }
        _ => error,
    })
}

/// What holds for the whole program. Nothing goes on by itself after a turn has ended: no goals that Codex pursues, no helpers.
fn quiet() -> Value {
    let mut config = codex::quiet();
    config["features"]["goals"] = json!(false);
    config["features"]["multi_agent"] = json!(false);
    config
}

impl CodexApp {
    /// Waits until the program serves; with `warm` it has done then what is slow the first time.
    ///
    /// # Errors
    /// Where it ends before.
    pub async fn booted(booting: Booting, proxy: Arc<ModelProxy>, warm: bool) -> Result<Self, HarnessError> {
        let Booting { peer, follower, workspace, home, .. } = booting.served(warm).await?;
        Ok(Self { peer, follower, ids: IdMaker::default(), proxy, workspace, home })
    }

    /// What a thread is given of the session.
    fn settings(&self, request: &ActivateRequest) -> Value {
        let agent = &request.agent;
        let mut config = codex::config(&self.workspace, agent, self.proxy.base_url());
        config["features"] = quiet()["features"].take();
        // Told never to ask, it would refuse what it takes for dangerous (`rm -rf`). So it asks, and is allowed at once.
        config["approval_policy"] = json!(APPROVALS);
        config["shell_environment_policy"]["set"] = json!(object(&agent.env));
        json!({
            "model": agent.model,
            "modelProvider": codex::NAME,
            "cwd": self.workspace,
            "approvalPolicy": APPROVALS,
            "sandbox": "danger-full-access",
            "developerInstructions": agent.prompt,
            "config": config,
        })
    }

    fn bind(&self, request: &ActivateRequest) {
        self.proxy.bind(&request.agent.model);
        self.follower.bind(&request.agent.model);
    }

    /// Waits until each MCP server of the thread has answered.
    async fn connected(&self, thread: &str, request: &ActivateRequest) -> Result<(), HarnessError> {
        if request.agent.equipment.mcp_servers.is_empty() {
            return Ok(());
        }
        let asked = json!({"threadId": thread, "detail": "toolsAndAuthOnly"});
        let servers = loop {
            // It waits for them, but may tell of one as it was before. How long one may take is Codex's to say.
            let servers: Page<McpStatus> =
                self.peer.ask("connect to MCP servers", "mcpServerStatus/list", &asked).await?;
            if !servers.data.iter().any(McpStatus::is_on_its_way) {
                break servers.data;
            }
            sleep(MCP_LOOK).await;
        };
        let failed = servers.into_iter().find(|server| !server.is_connected());
        match failed {
            None => Ok(()),
            Some(McpStatus { name, runtime_status, tools_error }) => {
                let status = runtime_status.unwrap_or_else(|| "unknown".to_owned());
                let said = tools_error.unwrap_or_else(|| format!("its status is {status:?}"));
                Err(HarnessError::Mcp { name, said })
            }
        }
    }

    /// Turns of a thread, a page at a time.
    async fn turns(
        &self,
        thread: &str,
        direction: &str,
        cursor: Option<String>,
    ) -> Result<Page<Turn>, HarnessError> {
        let asked = json!({
            "threadId": thread,
            "itemsView": "full",
            "limit": PAGE,
            "sortDirection": direction,
            "cursor": cursor,
        });
        let mut page: Page<Turn> =
            there(self.peer.ask("read the conversation", "thread/turns/list", &asked).await)?;
        page.data.iter_mut().for_each(|turn| self.follower.complete(turn));
        Ok(page)
    }

    /// All messages, in order.
    async fn messages(&self, conversation: &str) -> Result<Vec<Value>, HarnessError> {
        let thread = thread_of(conversation)?;
        let setting = self.follower.setting(thread);
        let mut messages = self.restored(thread)?;
        let mut cursor = None;
        loop {
            let page = self.turns(thread, "asc", cursor).await?;
            messages.extend(page.data.iter().flat_map(|turn| turn.messages(&setting)));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(messages);
            }
        }
    }

    /// Those of the turn that this message began.
    async fn turn_of(&self, conversation: &str, message: &str) -> Result<Vec<Value>, HarnessError> {
        let thread = thread_of(conversation)?;
        let mut cursor = None;
        loop {
            // It is most likely the last one.
            let page = self.turns(thread, "desc", cursor).await?;
            let found = page.data.iter().find(|turn| turn.message_id().as_deref() == Some(message));
            if let Some(turn) = found {
                return Ok(turn.messages(&self.follower.setting(thread)));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let is_of = |said: &Value| said["info"]["id"] == message || said["info"]["parentID"] == message;
        Ok(self.restored(thread)?.into_iter().filter(is_of).collect())
    }

    fn restored(&self, thread: &str) -> Result<Vec<Value>, HarnessError> {
        let unread = |source| HarnessError::Prepare { what: "record of the conversation", source };
        Restored::of(&self.home, thread).read().map_err(unread)
    }

    /// All conversations, as opencode describes sessions.
    async fn sessions(&self) -> Result<Bytes, HarnessError> {
        let all = json!({"modelProviders": [], "cwd": self.workspace, "limit": 100});
        let threads: Page<Thread> = self.peer.ask("list its conversations", "thread/list", &all).await?;
        let told = threads.data.into_iter().map(|thread| {
            let time = json!({"created": thread.created_at * 1000, "updated": thread.updated_at * 1000});
            let title = thread.name.unwrap_or_default();
            json!({"id": conversation_of(&thread.id), "title": title, "version": "1", "time": time})
        });
        Ok(told.collect::<Value>().to_string().into())
    }

    async fn run_turn(&self, thread: &str, message: &str, task: Task) -> Result<Bytes, HarnessError> {
        // A thread at work would take the message into the turn that runs.
        self.stop(thread).await?;
        self.follower.rests(thread).await;
        let input: Vec<Value> = task.parts.iter().map(input).collect();
        let mut turn = json!({"threadId": thread, "clientUserMessageId": message, "input": input});
        if let Some(system) = task.options.get("system") {
            turn["additionalContext"] = json!({"client": {"value": system, "kind": "application"}});
        }
        let ended = self.follower.expect(thread);
        if let Err(error) = there(self.peer.call("run a turn", "turn/start", &turn).await) {
            self.follower.forget(thread);
            return Err(error);
        }
        let broken = |_| HarnessError::Unreachable { attempt: "run a turn", source: "it ended".into() };
        let turn = ended.await.map_err(broken)?;
        if turn.message_id().as_deref() != Some(message) {
            let what = "the turn that ended is another";
            return Err(HarnessError::Unusable { attempt: "run a turn", what });
        }
        Ok(turn.reply(&self.follower.setting(thread)).to_string().into())
    }

    /// Has the thread's turn end soon, if there is one.
    async fn stop(&self, thread: &str) -> Result<(), HarnessError> {
        let Interruption::Of(turn) = self.follower.interruption(thread) else { return Ok(()) };
        let asked = interrupt(&self.peer, thread, &turn).await;
        // What its shells have started goes on otherwise.
        let all = json!({"threadId": thread});
        self.peer.call("end the turn's programs", "thread/backgroundTerminals/clean", &all).await?;
        // It may have ended meanwhile, which Codex takes for a mistake.
        match self.follower.interruption(thread) {
            Interruption::Of(still) if still == turn => asked,
            _ => Ok(()),
        }
    }
}

/// A part of the user's message, as Codex takes it.
fn input(part: &Value) -> Value {
    match part["type"].as_str() {
        Some("file") => json!({"type": "image", "url": part["url"]}),
        _ => json!({"type": "text", "text": part["text"], "text_elements": []}),
    }
}

impl Harness for CodexApp {
    fn answers_messages(self: Arc<Self>) -> Option<Arc<dyn MessageHarness>> {
        Some(self)
    }

    fn terminal(&self) -> Option<Arc<Terminal>> {
        None
    }

    fn skills_dir(&self) -> Option<PathBuf> {
        Some(codex::skills(&self.home))
    }

    fn load_again<'a>(&'a self, _: &'a ActivateRequest) -> BoxFuture<'a, Result<(), HarnessError>> {
        // The thread that warmed it up has read what skills there were.
        let again = json!({"cwds": [self.workspace], "forceReload": true});
        Box::pin(async move { self.peer.call("load skills", "skills/list", &again).await.map(drop) })
    }

    fn open<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(async move {
            self.bind(request);
            let settings = self.settings(request);
            let started: Started = self.peer.ask("open a conversation", "thread/start", &settings).await?;
            let thread = started.thread.id;
            if let Err(error) = self.connected(&thread, request).await {
                // Its servers end with it, and the next attempt begins another.
                let left = json!({"threadId": thread});
                if let Err(error) = self.peer.call("leave a thread", "thread/delete", &left).await {
                    tracing::warn!(%error, "a thread without its MCP servers is left over");
                }
                return Err(error);
            }
            if !request.title.trim().is_empty() {
                let name = json!({"threadId": thread, "name": request.title});
                self.peer.call("name the conversation", "thread/name/set", &name).await?;
            }
            Ok(conversation_of(&thread))
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
            if !self.knows(conversation).await? {
                return Ok(false);
            }
            self.bind(request);
            let thread = thread_of(conversation)?;
            let mut settings = self.settings(request);
            settings["threadId"] = json!(thread);
            settings["excludeTurns"] = json!(true);
            self.peer.call("go on with the conversation", "thread/resume", &settings).await?;
            if let Err(error) = self.connected(thread, request).await {
                tracing::error!(%error, "the session goes on without some of what it is equipped with");
            }
            Ok(true)
        })
    }
}

impl MessageHarness for CodexApp {
    fn prepare(&self, own: &str, request: &TurnRequest) -> Result<Task, BadParts> {
        prompt::prepare(own, request)
    }

    fn knows<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<bool, HarnessError>> {
        Box::pin(async move {
            let Ok(thread) = thread_of(conversation) else { return Ok(false) };
            let asked = json!({"threadId": thread});
            match there(self.peer.call("find the conversation", "thread/read", &asked).await) {
                Ok(_) => Ok(true),
                Err(HarnessError::NotThere { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn name_turn(&self, task: &Task) -> Result<TurnNames, HarnessError> {
        let mut names = self.ids.turn(0, now_ms())?;
        // Codex keeps the message's id only.
        names.parts = (1..=task.parts.len()).map(|n| part_id(&names.message, &format!("{n:05}"))).collect();
        Ok(TurnNames { conversation: task.conversation.clone(), ..names })
    }

    fn run<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
        task: Task,
    ) -> BoxFuture<'a, Result<Bytes, HarnessError>> {
        Box::pin(async move { self.run_turn(thread_of(conversation)?, &names.message, task).await })
    }

    fn pass<'a>(&'a self, request: Request<Bytes>) -> BoxFuture<'a, Result<Passed, HarnessError>> {
        Box::pin(async move {
            passed::answer(self, self.sessions(), request.method(), request.uri().path()).await
        })
    }

    fn messages_of<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, HarnessError>> {
        Box::pin(async move {
            let messages = self.turn_of(conversation, &names.message).await?;
            let unusable =
                |_| HarnessError::Unusable { attempt: "read a turn", what: "it cannot be written as JSON" };
            messages.iter().map(|message| to_raw_value(message).map_err(unusable)).collect()
        })
    }

    fn history<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Bytes, HarnessError>> {
        Box::pin(async move { Ok(Value::from(self.messages(conversation).await?).to_string().into()) })
    }

    fn restore<'a>(
        &'a self,
        conversation: &'a str,
        messages: Vec<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            let attempt = "take over the conversation of an earlier pod";
            let thread = thread_of(conversation)?;
            let unusable = |_| HarnessError::Unusable { attempt, what: "a message is no JSON object" };
            let said = restored::taken_over(&messages, conversation).map_err(unusable)?;
            // Later messages must sort after these.
            self.ids.not_before_any(said.iter().filter_map(|message| message["info"]["id"].as_str()));
            // Asked again, it was done.
            if !self.restored(thread)?.is_empty() {
                return Ok(());
            }
            let items = json!({"threadId": thread, "items": restored::items(&said)});
            self.peer.call(attempt, "thread/inject_items", &items).await?;
            let unwritten = |source| HarnessError::Prepare { what: "record of the conversation", source };
            Restored::of(&self.home, thread).write(&said).map_err(unwritten)
        })
    }

    fn has_open_work(&self) -> BoxFuture<'_, Result<bool, HarnessError>> {
        Box::pin(std::future::ready(Ok(self.follower.works())))
    }

    fn events<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Events, HarnessError>> {
        Box::pin(async move { Ok(self.follower.events(thread_of(conversation)?)) })
    }

    fn abort<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move { self.stop(thread_of(conversation)?).await })
    }

    fn recover<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HarnessError>> {
        Box::pin(async move {
            let said = Value::from(self.turn_of(conversation, &names.message).await?).to_string();
            Ok(reply::find_finished(said.as_bytes(), &names.message))
        })
    }
}
