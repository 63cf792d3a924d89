//! Adapter for the Claude Agent SDK, by way of a program of ours (`images/claude-agent-sdk`) that is started with the pod. The SDK
//! takes everything with each query, so the agent is bound late at no cost. Methods of what is spoken, their params and results are
//! listed on the other side, in `images/claude-agent-sdk/src/rpc.js`.

mod events;
mod launch;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use paddock_runnerapi::{ActivateRequest, TurnRequest};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::claude_rules;
use super::ids::{IdMaker, now_ms};
use super::jsonrpc::Peer;
use super::shell_env::ShellEnv;
use super::{
    BadParts, Events, Harness, HarnessError, MessageHarness, Passed, Task, TurnNames, passed, prompt, reply,
};
use crate::model_proxy::ModelProxy;
use crate::terminal::Terminal;

pub use launch::{Booting, launch};

/// A booted SDK.
pub struct ClaudeSdk {
    peer: Peer,
    ids: IdMaker,
    proxy: Arc<ModelProxy>,
    shell_env: ShellEnv,
    preamble: PathBuf,
    workspace: PathBuf,
    skills: PathBuf,
}

#[derive(Deserialize)]
struct Opened {
    conversation: String,
}

impl ClaudeSdk {
    /// Waits until the program serves; with `warm` it has done then what is slow the first time.
    ///
    /// # Errors
    /// Where it ends before, or the SDK's own program does not start.
    pub async fn booted(booting: Booting, proxy: Arc<ModelProxy>, warm: bool) -> Result<Self, HarnessError> {
        let Booting { peer, shell_env, preamble, workspace, skills, .. } = booting.served(warm).await?;
        Ok(Self { peer, ids: IdMaker::default(), proxy, shell_env, preamble, workspace, skills })
    }

    async fn bind(&self, request: &ActivateRequest) -> Result<(), HarnessError> {
        let agent = &request.agent;
        let prepare = |source| HarnessError::Prepare { what: "shell environment", source };
        self.shell_env.write(&agent.env).map_err(prepare)?;
        let binding = json!({
            "workspace": self.workspace,
            "model": agent.model,
            "prompt": agent.prompt,
            "base_url": self.proxy.anthropic_base_url(),
            "token": self.proxy.token().reveal(),
            "shell_env": self.preamble,
            "mcp_servers": agent.equipment.mcp_servers,
            "denied_tools": claude_rules::of(&agent.equipment.denied),
        });
        self.peer.call("take its agent", "bind", &binding).await?;
        self.proxy.bind(&agent.model);
        Ok(())
    }
}

impl Harness for ClaudeSdk {
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
        Some(self.skills.clone())
    }

    fn open<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(async move {
            self.bind(request).await?;
            let title = json!({"title": request.title});
            let opened: Opened = self.peer.ask("open a conversation", "open", &title).await?;
            Ok(opened.conversation)
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
            self.bind(request).await?;
            Ok(true)
        })
    }
}

impl MessageHarness for ClaudeSdk {
    fn prepare(&self, own: &str, request: &TurnRequest) -> Result<Task, BadParts> {
        prompt::prepare(own, request)
    }

    fn knows<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<bool, HarnessError>> {
        Box::pin(async move {
            self.peer.ask("find the conversation", "knows", &json!({"conversation": conversation})).await
        })
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
        let named = task.parts.into_iter().zip(&names.parts).map(|(mut part, id)| {
            part["id"] = json!(id);
            part
        });
        let turn = json!({
            "conversation": conversation,
            "message": names.message,
            "parts": named.collect::<Value>(),
            "system": task.options.get("system"),
        });
        Box::pin(async move { self.peer.call("run a turn", "turn", &turn).await })
    }

    fn pass<'a>(&'a self, request: Request<Bytes>) -> BoxFuture<'a, Result<Passed, HarnessError>> {
        let none = json!({});
        Box::pin(async move {
            let sessions = self.peer.call("list its conversations", "sessions", &none);
            passed::answer(self, sessions, request.method(), request.uri().path()).await
        })
    }

    fn messages_of<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, HarnessError>> {
        Box::pin(async move {
            let turn = json!({"conversation": conversation, "message": names.message});
            self.peer.ask("read a turn", "messages_of", &turn).await
        })
    }

    fn history<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Bytes, HarnessError>> {
        Box::pin(async move {
            self.peer.call("read the conversation", "messages", &json!({"conversation": conversation})).await
        })
    }

    fn restore<'a>(
        &'a self,
        conversation: &'a str,
        messages: Vec<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            let attempt = "take over the conversation of an earlier pod";
            let said = json!({"conversation": conversation, "messages": messages});
            self.peer.call(attempt, "restore", &said).await?;
            // Later messages must sort after these.
            let told = self.history(conversation).await?;
            self.ids.not_before_any(reply::ids(&told));
            Ok(())
        })
    }

    fn has_open_work(&self) -> BoxFuture<'_, Result<bool, HarnessError>> {
        Box::pin(async move { self.peer.ask("tell whether it works", "works", &json!({})).await })
    }

    fn events<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<Events, HarnessError>> {
        Box::pin(async move { Ok(events::of(conversation, self.peer.listen())) })
    }

    fn abort<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            self.peer.call("abort the turn", "abort", &json!({"conversation": conversation})).await.map(drop)
        })
    }

    fn recover<'a>(
        &'a self,
        conversation: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HarnessError>> {
        Box::pin(async move {
            let turn = json!({"conversation": conversation, "message": names.message});
            let said = self.peer.call("read a turn", "messages_of", &turn).await?;
            Ok(reply::find_finished(&said, &names.message))
        })
    }
}
