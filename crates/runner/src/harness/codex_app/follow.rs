//! Follows what Codex tells of its threads: which turns run, what has come of them, and the same as opencode's events for those who
//! follow a conversation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::conversation_of;
use super::item::{Item, What};
use super::message::{Setting, Status, Tokens, Turn};
use crate::harness::jsonrpc::{Peer, Told};
use crate::harness::{Events, HarnessEvent};

/// The largest event that is taken: one with a file in it may be very large, and the conversation has it too.
const LARGEST: usize = 512 << 10;

/// See the module.
pub(super) struct Follower {
    state: Mutex<State>,
    /// Tells that a turn has begun or ended.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    model: String,
    workspace: PathBuf,
    threads: HashMap<String, Thread>,
    /// What Codex does not keep of turns that have ended, by their ids.
    beside: HashMap<String, Beside>,
    closed: bool,
}

#[derive(Default)]
struct Thread {
    /// It was asked to begin a turn, and has not told yet that it has.
    starting: bool,
    /// It shall be interrupted as soon as it has begun.
    unwanted: bool,
    running: Option<Turn>,
    waiting: Option<oneshot::Sender<Turn>>,
    listeners: Vec<mpsc::UnboundedSender<HarnessEvent>>,
}

#[derive(Default)]
struct Beside {
    tokens: Tokens,
    /// What still went on when the turn ended, as it was told then. Codex keeps it when it ends, if it does.
    unfinished: Vec<Item>,
}

/// What is to be done about a turn that shall end.
pub(super) enum Interruption {
    /// None runs.
    Needless,
    /// It ends as soon as it has begun.
    Noted,
    /// The turn with this id has to be interrupted.
    Of(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    thread_id: String,
    #[serde(default)]
    turn_id: Option<String>,
    #[serde(default)]
    turn: Option<Turn>,
    #[serde(default)]
    item: Option<Item>,
    #[serde(default)]
    item_id: Option<String>,
    #[serde(default)]
    delta: Option<String>,
    #[serde(default)]
    summary_index: usize,
    #[serde(default)]
    content_index: usize,
    #[serde(default)]
    token_usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    last: Tokens,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower {
    /// Follows this program until it ends.
    pub(super) fn start(peer: &Arc<Peer>, workspace: PathBuf) -> Arc<Self> {
        let state = State { workspace, ..State::default() };
        let follower = Arc::new(Self { state: Mutex::new(state), changed: watch::Sender::new(()) });
        let (mut told, following, peer) = (peer.listen(), Arc::clone(&follower), Arc::clone(peer));
        tokio::spawn(async move {
            while let Some(told) = told.recv().await {
                let unwanted = lock(&following.state).take(&told);
                following.changed.send_replace(());
                if let Some((thread, turn)) = unwanted {
                    let peer = Arc::clone(&peer);
                    tokio::spawn(async move {
                        if let Err(error) = interrupt(&peer, &thread, &turn).await {
                            tracing::warn!(%error, "a turn that was aborted while it began goes on");
                        }
                    });
                }
            }
            // Who waits or listens learns that nothing comes any more.
            let mut state = lock(&following.state);
            state.closed = true;
            state.threads.clear();
            following.changed.send_replace(());
        });
        follower
    }

    /// The model that messages name from now on.
    pub(super) fn bind(&self, model: &str) {
        lock(&self.state).model = model.to_owned();
    }

    /// What the messages of a thread have in common.
    pub(super) fn setting(&self, thread: &str) -> Setting {
        lock(&self.state).setting(thread)
    }

    /// Says that the thread is about to be asked for a turn, which is given once it has ended.
    pub(super) fn expect(&self, thread: &str) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.state);
        if !state.closed {
            let thread = state.threads.entry(thread.to_owned()).or_default();
            (thread.starting, thread.unwanted, thread.waiting) = (true, false, Some(sender));
        }
        receiver
    }

    /// Says that the thread did not take the turn.
    pub(super) fn forget(&self, thread: &str) {
        if let Some(thread) = lock(&self.state).threads.get_mut(thread) {
            (thread.starting, thread.waiting) = (false, None);
        }
    }

    /// The thread's turn shall end.
    pub(super) fn interruption(&self, thread: &str) -> Interruption {
        let mut state = lock(&self.state);
        let Some(thread) = state.threads.get_mut(thread) else { return Interruption::Needless };
        match &thread.running {
            Some(turn) => Interruption::Of(turn.id.clone()),
            None if thread.starting => {
                thread.unwanted = true;
                Interruption::Noted
            }
            None => Interruption::Needless,
        }
    }

    /// Waits until no turn of the thread runs.
    pub(super) async fn rests(&self, thread: &str) {
        let mut changed = self.changed.subscribe();
        let works = || lock(&self.state).threads.get(thread).is_some_and(Thread::works);
        while works() && changed.changed().await.is_ok() {}
    }

    /// Whether a turn of any thread runs.
    pub(super) fn works(&self) -> bool {
        lock(&self.state).threads.values().any(Thread::works)
    }

    /// Adds to a turn what Codex does not keep of it.
    pub(super) fn complete(&self, turn: &mut Turn) {
        let state = lock(&self.state);
        let Some(beside) = state.beside.get(&turn.id) else { return };
        turn.tokens = beside.tokens;
        for item in &beside.unfinished {
            turn.items.retain(|known| known.id != item.id);
            turn.items.push(item.clone());
        }
        turn.items.sort_by_key(|item| item.started_at_ms);
    }

    /// What happens in a thread from now on; it ends with the program.
    pub(super) fn events(&self, thread: &str) -> Events {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = lock(&self.state);
        if !state.closed {
            state.threads.entry(thread.to_owned()).or_default().listeners.push(sender);
        }
        let next = |mut told: mpsc::UnboundedReceiver<HarnessEvent>| async move {
            told.recv().await.map(|event| (Ok(event), told))
        };
        futures::stream::unfold(receiver, next).boxed()
    }
}

/// Has a turn end soon.
pub(super) async fn interrupt(
    peer: &Peer,
    thread: &str,
    turn: &str,
) -> Result<(), crate::harness::HarnessError> {
    let params = json!({"threadId": thread, "turnId": turn});
    peer.call("abort the turn", "turn/interrupt", &params).await.map(drop)
}

impl Thread {
    fn works(&self) -> bool {
        self.starting || self.running.is_some()
    }

    fn tell(&mut self, kind: &str, properties: Value) {
        let rests = kind == "session.idle";
        let text = json!({"type": kind, "properties": properties});
        let Ok(event) = serde_json::value::to_raw_value(&text) else { return };
        self.listeners.retain(|listener| {
            let told = if event.get().len() > LARGEST {
                HarnessEvent::TooLarge
            } else {
                HarnessEvent::Said { event: event.clone(), rests }
            };
            listener.send(told).is_ok()
        });
    }

    fn tell_part(&mut self, setting: &Setting, message: &str, item: &Item, ended: bool) {
        if let Some(part) = setting.part(message, item, ended) {
            self.tell("message.part.updated", json!({"sessionID": setting.conversation, "part": part}));
        }
    }

    fn tell_info(&mut self, setting: &Setting, info: &Value) {
        self.tell("message.updated", json!({"sessionID": setting.conversation, "info": info}));
    }

    fn tell_status(&mut self, setting: &Setting, status: &str) {
        let properties = json!({"sessionID": setting.conversation, "status": {"type": status}});
        self.tell("session.status", properties);
    }

    /// What was said or done, when it begins and when it has ended.
    fn item(&mut self, setting: &Setting, item: Item) {
        let Some(turn) = &mut self.running else { return };
        match turn.items.iter_mut().find(|known| known.id == item.id) {
            Some(known) => *known = item.clone(),
            None => turn.items.push(item.clone()),
        }
        let Some(message) = turn.message_id() else { return };
        if let Some(user) = setting.user(&item) {
            // Told once, though Codex tells its beginning and its end.
            if item.completed_at_ms.is_none() {
                return;
            }
            let info = turn.info(setting);
            self.tell_info(setting, &user["info"]);
            for part in user["parts"].as_array().into_iter().flatten() {
                self.tell("message.part.updated", json!({"sessionID": setting.conversation, "part": part}));
            }
            self.tell_info(setting, &info);
        } else {
            self.tell_part(setting, &message, &item, false);
        }
    }

    /// A piece of a text.
    fn piece(&mut self, setting: &Setting, method: &str, params: &Params) {
        let (Some(turn), Some(id), Some(delta)) = (&mut self.running, &params.item_id, &params.delta) else {
            return;
        };
        let message = turn.message_id();
        let Some(item) = turn.items.iter_mut().find(|item| item.id == *id) else { return };
        let Some(delta) = item.grow(method, delta, params) else { return };
        let Some(message) = message else { return };
        let properties = json!({
            "sessionID": setting.conversation,
            "messageID": super::message::reply_id(&message),
            "partID": setting.reply_part_id(&message, item),
            "field": "text",
            "delta": delta,
        });
        self.tell("message.part.delta", properties);
    }

    /// The turn has ended. Returns what Codex does not keep of it.
    fn end(&mut self, setting: &Setting, told: Turn) -> Option<(String, Beside)> {
        let mut turn = self.running.take().filter(|turn| turn.id == told.id)?;
        (turn.status, turn.error, turn.completed_at) = (told.status, told.error, told.completed_at);
        let end = turn.completed_at.unwrap_or(0) * 1000;
        let message = turn.message_id().unwrap_or_default();
        let mut unfinished = Vec::new();
        for item in &mut turn.items {
            if item.completed_at_ms.is_none() {
                item.completed_at_ms = Some(end.max(item.started_at_ms.unwrap_or(0)));
                if turn.status == Status::Completed {
                    item.leave();
                }
                unfinished.push(item.clone());
                self.tell_part(setting, &message, item, true);
            }
        }
        self.tell_info(setting, &turn.info(setting));
        self.tell_status(setting, "idle");
        self.tell("session.idle", json!({"sessionID": setting.conversation}));
        let beside = (turn.id.clone(), Beside { tokens: turn.tokens, unfinished });
        if let Some(waiting) = self.waiting.take() {
            // Nobody may wait any more.
            let _ = waiting.send(turn);
        }
        Some(beside)
    }
}

impl Item {
    /// A command that runs on behind a turn that has ended by itself has done its part in it.
    fn leave(&mut self) {
        if let What::CommandExecution { status, .. } = &mut self.what {
            *status = super::item::Status::Completed;
        }
    }

    /// Takes a piece of text and returns what the whole text has grown by.
    fn grow(&mut self, method: &str, delta: &str, params: &Params) -> Option<String> {
        match (&mut self.what, method) {
            (What::AgentMessage { text }, "item/agentMessage/delta") => {
                text.push_str(delta);
                Some(delta.to_owned())
            }
            (What::Reasoning { summary, .. }, "item/reasoning/summaryTextDelta") => {
                extend(summary, params.summary_index, delta)
            }
            // Told where there is no summary only, as in the finished part.
            (What::Reasoning { summary, content }, "item/reasoning/textDelta") => {
                extend(content, params.content_index, delta).filter(|_| summary.is_empty())
            }
            _ => None,
        }
    }
}

fn extend(texts: &mut Vec<String>, index: usize, delta: &str) -> Option<String> {
    if index > texts.len() {
        return None;
    }
    if index < texts.len() {
        texts[index].push_str(delta);
        return Some(delta.to_owned());
    }
    texts.push(delta.to_owned());
    Some(if index == 0 { delta.to_owned() } else { format!("\n\n{delta}") })
}

impl State {
    fn setting(&self, thread: &str) -> Setting {
        let (model, workspace) = (self.model.clone(), self.workspace.clone());
        Setting { conversation: conversation_of(thread), model, workspace }
    }

    /// Takes what was told. Returns thread and turn of one that has begun and is not wanted any more.
    fn take(&mut self, told: &Told) -> Option<(String, String)> {
        let params: Params = serde_json::from_str(told.params.get()).ok()?;
        let setting = self.setting(&params.thread_id);
        let thread = self.threads.entry(params.thread_id.clone()).or_default();
        let is_late = |turn: &String| thread.running.as_ref().is_none_or(|running| running.id != *turn);
        if params.turn_id.as_ref().is_some_and(is_late) {
            return None;
        }
        match told.method.as_str() {
            "turn/started" => {
                let turn = params.turn?;
                let unwanted = thread.unwanted.then(|| (params.thread_id, turn.id.clone()));
                (thread.starting, thread.unwanted) = (false, false);
                thread.running = Some(Turn { status: Status::InProgress, ..turn });
                thread.tell_status(&setting, "busy");
                return unwanted;
            }
            "item/started" | "item/completed" => thread.item(&setting, params.item?),
            "thread/tokenUsage/updated" => {
                if let (Some(turn), Some(usage)) = (&mut thread.running, params.token_usage) {
                    turn.tokens.add(usage.last);
                }
            }
            "turn/completed" => {
                if let Some((turn, beside)) = thread.end(&setting, params.turn?) {
                    self.beside.insert(turn, beside);
                }
            }
            method => thread.piece(&setting, method, &params),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::to_raw_value;

    struct Scene {
        state: State,
        told: mpsc::UnboundedReceiver<HarnessEvent>,
    }

    impl Scene {
        fn begin() -> Self {
            let (sender, told) = mpsc::unbounded_channel();
            let mut state = State { model: "m".into(), workspace: "/w".into(), ..State::default() };
            state.threads.entry("t".into()).or_default().listeners.push(sender);
            Self { state, told }
        }

        fn thread(&mut self) -> &mut Thread {
            self.state.threads.get_mut("t").unwrap()
        }

        fn take(&mut self, method: &str, params: Value) -> Option<(String, String)> {
            let mut all = json!({"threadId": "t"});
            all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
            self.state.take(&Told { method: method.into(), params: to_raw_value(&all).unwrap() })
        }

        fn begin_turn(&mut self) -> Option<(String, String)> {
            let unwanted = self.take("turn/started", json!({"turn": {"id": "u1", "status": "inProgress"}}));
            for (method, end) in [("item/started", json!(null)), ("item/completed", json!(5))] {
                let said = json!([{"type": "text", "text": "hi"}]);
                let user = json!({"type": "userMessage", "id": "x", "clientId": "msg_1", "startedAtMs": 5,
                    "completedAtMs": end, "content": said});
                self.take(method, json!({"turnId": "u1", "item": user}));
            }
            unwanted
        }

        fn told(&mut self) -> Vec<Value> {
            let mut told = Vec::new();
            while let Ok(HarnessEvent::Said { event, rests }) = self.told.try_recv() {
                let event: Value = serde_json::from_str(event.get()).unwrap();
                assert_eq!(rests, event["type"] == "session.idle");
                told.push(event);
            }
            told
        }
    }

    fn command(id: &str, start: u64, end: Option<u64>) -> Value {
        let status = if end.is_some() { "completed" } else { "inProgress" };
        json!({"type": "commandExecution", "id": id, "command": "true", "status": status,
            "exitCode": end.map(|_| 0), "startedAtMs": start, "completedAtMs": end})
    }

    fn kinds(told: &[Value]) -> Vec<&str> {
        told.iter().map(|event| event["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_turn_is_told_from_its_message_to_its_rest() {
        let mut scene = Scene::begin();
        scene.begin_turn();
        let expected = ["session.status", "message.updated", "message.part.updated", "message.updated"];
        assert_eq!(kinds(&scene.told()), expected);
        let text = json!({"type": "agentMessage", "id": "m", "text": "", "startedAtMs": 6});
        scene.take("item/started", json!({"turnId": "u1", "item": text}));
        scene.take("item/agentMessage/delta", json!({"turnId": "u1", "itemId": "m", "delta": "ho"}));
        // Of a program that an earlier turn left running.
        scene.take("item/completed", json!({"turnId": "u0", "item": command("old", 1, Some(7))}));
        let told = scene.told();
        assert_eq!(kinds(&told), ["message.part.updated", "message.part.delta"]);
        assert_eq!(told[1]["properties"]["partID"], told[0]["properties"]["part"]["id"]);
        let usage = json!({"turnId": "u1", "tokenUsage": {"last": {"inputTokens": 3, "outputTokens": 2}}});
        scene.take("thread/tokenUsage/updated", usage);
        let (sender, mut ended) = oneshot::channel();
        scene.thread().waiting = Some(sender);
        scene.take("turn/completed", json!({"turn": {"id": "u1", "status": "completed", "completedAt": 0}}));
        let told = scene.told();
        assert_eq!(
            kinds(&told),
            ["message.part.updated", "message.updated", "session.status", "session.idle"]
        );
        assert_eq!(told[0]["properties"]["part"]["text"], "ho");
        assert_eq!(told[1]["properties"]["info"]["tokens"]["input"], 3);
        let reply = ended.try_recv().unwrap().reply(&scene.state.setting("t"));
        assert_eq!((&reply["info"]["finish"], &reply["parts"][0]["text"]), (&json!("stop"), &json!("ho")));
        assert!(!scene.thread().works());
    }

    #[test]
    fn what_still_runs_at_an_end_is_told_as_it_was_then() {
        for (status, told_as) in [("interrupted", "error"), ("completed", "completed")] {
            let mut scene = Scene::begin();
            scene.begin_turn();
            scene.take("item/started", json!({"turnId": "u1", "item": command("c", 6, None)}));
            scene.take("turn/completed", json!({"turn": {"id": "u1", "status": status, "completedAt": 0}}));
            let part =
                scene.told().into_iter().rfind(|event| event["type"] == "message.part.updated").unwrap();
            assert_eq!(part["properties"]["part"]["state"]["status"], told_as);
            let unfinished = &scene.state.beside["u1"].unfinished;
            assert_eq!(unfinished.len(), 1, "{unfinished:?}");
        }
    }

    #[test]
    fn a_turn_that_is_aborted_while_it_begins_is_interrupted_once_it_has() {
        let mut scene = Scene::begin();
        let thread = scene.thread();
        (thread.starting, thread.unwanted) = (true, true);
        assert_eq!(scene.begin_turn(), Some(("t".to_owned(), "u1".to_owned())));
        assert_eq!(scene.take("turn/started", json!({"turn": {"id": "u2", "status": "inProgress"}})), None);
    }
}
