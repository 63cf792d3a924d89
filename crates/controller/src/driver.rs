//! The task that owns the engine: decisions never race. Everything that takes time runs beside it and sends a message
//! when it is done.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use paddock_core::op::{Outcome, WriteFailure};
use paddock_core::{Command, Engine};
use paddock_kubeio::clock::Clock;
use paddock_kubeio::events::Recorder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::perform::Performer;
use crate::report;
use crate::watches::Apply;

/// How long a stopping controller waits for operations in flight. The next leader waits as long.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How often gauges are brought up to date.
const GAUGE_PERIOD: Duration = Duration::from_secs(2);
/// How many messages are taken in before decisions are made: a burst is decided on as a whole.
const MESSAGE_BATCH: usize = 512;

/// What the engine's task is told.
pub(crate) enum Message {
    /// A watch has seen something.
    Seen(Seen),
    /// An operation has come back.
    Done(Box<Command>, Outcome, Duration),
}

/// What a watch has seen.
pub(crate) struct Seen {
    /// Which watch.
    pub(crate) kind: &'static str,
    /// It is a complete list.
    pub(crate) complete: bool,
    /// Takes it in.
    pub(crate) apply: Apply,
}

/// The task that owns the engine.
pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) performer: Arc<Performer>,
    pub(crate) events: Recorder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// Kinds whose first list has not been taken in. Deciding without it would make everything anew.
    pub(crate) unlisted: BTreeSet<&'static str>,
    pub(crate) sender: UnboundedSender<Message>,
    pub(crate) receiver: UnboundedReceiver<Message>,
    pub(crate) leader: watch::Receiver<bool>,
}

impl Driver {
    /// Decides until `stop`.
    pub(crate) async fn drive(mut self, stop: CancellationToken) {
        let mut gauges = tokio::time::interval(GAUGE_PERIOD);
        let mut batch = Vec::with_capacity(MESSAGE_BATCH);
        loop {
            self.follow_leadership();
            let now = self.clock.now();
            for command in self.engine.next(now) {
                self.start(command);
            }
            for notice in self.engine.take_notices() {
                report::notice(&notice, &self.events);
            }
            let wake = self.engine.next_wake().map(|at| until(at, now));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = self.leader.changed() => if changed.is_err() { break },
                n = self.receiver.recv_many(&mut batch, MESSAGE_BATCH) => {
                    if n == 0 { break }
                    for message in batch.drain(..) {
                        self.take_in(message);
                    }
                }
                () = sleep_for(wake) => {}
                _ = gauges.tick() => self.metrics.observe(&self.engine),
            }
        }
        self.finish().await;
    }

    /// Decides only while elected, and only on complete data.
    fn follow_leadership(&mut self) {
        let elected = *self.leader.borrow_and_update();
        let leading = elected && self.unlisted.is_empty();
        if leading != self.engine.is_leading() {
            tracing::info!(leading, "leadership");
            self.engine.set_leading(leading, self.clock.now());
        }
    }

    fn take_in(&mut self, message: Message) {
        let now = self.clock.now();
        match message {
            Message::Seen(seen) => {
                (seen.apply)(&mut self.engine, now);
                if seen.complete {
                    self.unlisted.remove(seen.kind);
                }
            }
            Message::Done(command, outcome, took) => {
                let (op, result) = (report::name(&command.op), report::result(&outcome));
                self.metrics.operation(op, result, took);
                report::outcome(&command.op, &outcome, &self.metrics, &self.events);
                for command in self.engine.complete(*command, outcome, now) {
                    self.start(command);
                }
            }
        }
    }

    fn start(&self, command: Command) {
        let (performer, sender) = (self.performer.clone(), self.sender.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            // Even one that crashes must come back, or its object would never be decided on again.
            let performed = AssertUnwindSafe(performer.perform(&command.op)).catch_unwind().await;
            let outcome = performed.unwrap_or_else(|_| {
                tracing::error!(op = report::name(&command.op), "an operation crashed; please report this");
                Outcome::Failed(WriteFailure::Unavailable("the operation crashed".to_owned()))
            });
            // Nobody listens any more only when the process ends.
            let _ = sender.send(Message::Done(Box::new(command), outcome, began.elapsed()));
        });
    }

    /// Lets operations in flight end, so that the next leader finds whole steps.
    async fn finish(mut self) {
        let deadline = Instant::now() + STOP_GRACE;
        while self.engine.in_flight() > 0 {
            match tokio::time::timeout_at(deadline, self.receiver.recv()).await {
                Ok(Some(message)) => self.take_in(message),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(left = self.engine.in_flight(), "stopping with operations in flight");
                    break;
                }
            }
        }
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

async fn sleep_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
