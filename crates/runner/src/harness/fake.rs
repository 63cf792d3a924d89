//! A harness for unit tests: what a turn does is written in its text.
//!
//! `wait …` runs until released, `fail …` fails, `break …` breaks off, `bad …` is refused, everything else is answered at once. It
//! has no API of its own, but for `/hang`, which is never answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::Request;
use paddock_runnerapi::passage::{Passage, passage};
use paddock_runnerapi::{ActivateRequest, TurnRequest};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::{BadParts, Events, Harness, HarnessError, HarnessEvent, MessageHarness, Passed, Task, TurnNames};
use crate::terminal::Terminal;

#[derive(Default)]
pub(crate) struct FakeHarness {
    /// Texts of the turns it got, in order.
    pub(crate) runs: Mutex<Vec<String>>,
    /// Replies that its history holds, by message.
    pub(crate) history: Mutex<HashMap<String, Bytes>>,
    pub(crate) opened: AtomicUsize,
    pub(crate) reopened: AtomicUsize,
    pub(crate) aborted: AtomicUsize,
    named: AtomicUsize,
    released: Mutex<Vec<String>>,
    changed: Notify,
    /// How many messages of an earlier pod it was given.
    pub(crate) restored: AtomicUsize,
    /// Ids of the messages that its turns have beside the user's own.
    pub(crate) steps: Mutex<Vec<String>>,
    /// What it says of its work.
    pub(crate) works: AtomicBool,
    /// It does not know the conversation any more.
    pub(crate) forgetful: AtomicBool,
    /// Opening and reopening fail so many times.
    pub(crate) failures: AtomicUsize,
    /// It is not connected to MCP servers before it is let go.
    pub(crate) holds: AtomicBool,
    /// Subscribing fails so many times.
    pub(crate) refusals: AtomicUsize,
    /// How often it was subscribed to.
    pub(crate) subscribed: AtomicUsize,
    /// How many requests to its own API hang in it.
    pub(crate) hanging: AtomicUsize,
    /// Where its events go.
    subscriber: Mutex<Option<mpsc::UnboundedSender<HarnessEvent>>>,
}

impl FakeHarness {
    /// Lets a waiting turn end.
    pub(crate) fn release(&self, text: &str) {
        self.released.lock().unwrap().push(text.to_owned());
        self.changed.notify_waiters();
    }

    /// Lets it be connected.
    pub(crate) fn lets_go(&self) {
        self.holds.store(false, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn runs(&self) -> Vec<String> {
        self.runs.lock().unwrap().clone()
    }

    /// Tells an event to whoever has subscribed.
    pub(crate) fn says(&self, event: &Value, rests: bool) {
        let event = to_raw_value(event).unwrap();
        self.subscriber.lock().unwrap().as_ref().unwrap().send(HarnessEvent::Said { event, rests }).unwrap();
    }

    /// Ends the stream of events.
    pub(crate) fn hangs_up(&self) {
        *self.subscriber.lock().unwrap() = None;
    }

    fn may_fail(&self) -> Result<(), HarnessError> {
        count_down(&self.failures)
    }

    async fn wait(&self, text: &str) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.released.lock().unwrap().iter().any(|released| released == text) {
                return;
            }
            changed.await;
        }
    }
}

fn count_down(failures: &AtomicUsize) -> Result<(), HarnessError> {
    let fails = |left: usize| left.checked_sub(1);
    match failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails) {
        Ok(_) => Err(failure()),
        Err(_) => Ok(()),
    }
}

fn failure() -> HarnessError {
    HarnessError::Refused { attempt: "run a turn", status: 500, said: "boom".to_owned() }
}

impl Harness for FakeHarness {
    fn answers_messages(self: Arc<Self>) -> Option<Arc<dyn MessageHarness>> {
        Some(self)
    }

    fn terminal(&self) -> Option<Arc<Terminal>> {
        None
    }

    fn connect_mcp<'a>(&'a self, _: &'a ActivateRequest) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if !self.holds.load(Ordering::SeqCst) {
                    return Ok(());
                }
                changed.await;
            }
        })
    }

    fn open<'a>(&'a self, _: &'a ActivateRequest) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.may_fail()?;
            Ok(format!("ses_{}", self.opened.fetch_add(1, Ordering::SeqCst) + 1))
        })
    }

    fn resume<'a>(&'a self, _: &'a ActivateRequest, _: &'a str) -> BoxFuture<'a, Result<bool, HarnessError>> {
        Box::pin(async move {
            if self.forgetful.load(Ordering::SeqCst) {
                return Ok(false);
            }
            self.may_fail()?;
            self.reopened.fetch_add(1, Ordering::SeqCst);
            Ok(true)
        })
    }
}

impl MessageHarness for FakeHarness {
    fn prepare(&self, own: &str, request: &TurnRequest) -> Result<Task, BadParts> {
        let parts = &request.parts;
        if parts.iter().any(|part| part["text"].as_str().is_some_and(|text| text.starts_with("bad"))) {
            return Err(BadParts("parts[0] is bad".to_owned()));
        }
        let Some(call) = &request.call else { return Ok(Task::message(parts.clone())) };
        let Passage::Turn { conversation, action } = passage("POST", &call.path) else {
            return Err(BadParts("it is no turn".to_owned()));
        };
        let parts = call.body["parts"].as_array().cloned().unwrap_or_default();
        let conversation = (conversation != own).then_some(conversation);
        Ok(Task { conversation, action, attended: true, ..Task::message(parts) })
    }

    fn knows<'a>(&'a self, conversation: &'a str) -> BoxFuture<'a, Result<bool, HarnessError>> {
        Box::pin(async move { Ok(conversation.starts_with("ses_")) })
    }

    fn pass<'a>(&'a self, request: Request<Bytes>) -> BoxFuture<'a, Result<Passed, HarnessError>> {
        Box::pin(async move {
            if request.uri().path() == "/hang" {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            Err(HarnessError::NotThere { what: "API of its own".to_owned() })
        })
    }

    fn name_turn(&self, task: &Task) -> Result<TurnNames, HarnessError> {
        let number = self.named.fetch_add(1, Ordering::SeqCst);
        let parts = (0..task.parts.len()).map(|part| format!("prt_{number}_{part}")).collect();
        Ok(TurnNames { conversation: task.conversation.clone(), message: format!("msg_{number}"), parts })
    }

    fn run<'a>(
        &'a self,
        _: &'a str,
        _: &'a TurnNames,
        task: Task,
    ) -> BoxFuture<'a, Result<Bytes, HarnessError>> {
        Box::pin(async move {
            let text = task.parts[0]["text"].as_str().unwrap().to_owned();
            self.runs.lock().unwrap().push(text.clone());
            if text.starts_with("wait") {
                self.wait(&text).await;
            }
            if text.starts_with("fail") {
                return Err(failure());
            }
            if text.starts_with("break") {
                return Err(HarnessError::Unreachable { attempt: "run a turn", source: "broken".into() });
            }
            Ok(Bytes::from(json!({"info": {}, "parts": [{"type": "text", "text": text}]}).to_string()))
        })
    }

    fn messages_of<'a>(
        &'a self,
        _: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, HarnessError>> {
        let steps = self.steps.lock().unwrap().clone();
        Box::pin(async move {
            let user = json!({"info": {"id": names.message, "role": "user"}, "parts": []});
            let steps =
                steps.into_iter().map(|id| json!({"info": {"id": id, "role": "assistant"}, "parts": []}));
            Ok(std::iter::once(user).chain(steps).map(|message| to_raw_value(&message).unwrap()).collect())
        })
    }

    fn history<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Bytes, HarnessError>> {
        Box::pin(async { Ok(Bytes::from_static(b"[]")) })
    }

    fn restore<'a>(
        &'a self,
        _: &'a str,
        messages: Vec<Box<RawValue>>,
    ) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            self.may_fail()?;
            self.restored.fetch_add(messages.len(), Ordering::SeqCst);
            Ok(())
        })
    }

    fn has_open_work(&self) -> BoxFuture<'_, Result<bool, HarnessError>> {
        Box::pin(async { Ok(self.works.load(Ordering::SeqCst)) })
    }

    fn events<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Events, HarnessError>> {
        Box::pin(async move {
            count_down(&self.refusals)?;
            let (sender, receiver) = mpsc::unbounded_channel();
            *self.subscriber.lock().unwrap() = Some(sender);
            self.subscribed.fetch_add(1, Ordering::SeqCst);
            let next = |mut receiver: mpsc::UnboundedReceiver<HarnessEvent>| async move {
                receiver.recv().await.map(|event| (Ok(event), receiver))
            };
            Ok(futures::stream::unfold(receiver, next).boxed())
        })
    }

    fn abort<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), HarnessError>> {
        Box::pin(async move {
            self.aborted.fetch_add(1, Ordering::SeqCst);
            for text in self.runs() {
                self.release(&text);
            }
            Ok(())
        })
    }

    fn recover<'a>(
        &'a self,
        _: &'a str,
        names: &'a TurnNames,
    ) -> BoxFuture<'a, Result<Option<Bytes>, HarnessError>> {
        let found = self.history.lock().unwrap().get(&names.message).cloned();
        Box::pin(async { Ok(found) })
    }
}
