//! Wiring: watches → engine → operations → engine.
//!
//! One task owns the engine, so decisions never race. Everything that takes time runs beside it and sends
//! a message when it is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use paddock_core::build::RunnerSettings;
use paddock_core::op::{Outcome, WriteFailure};
use paddock_core::{Command, Engine};
use paddock_kubeio::client::{self, ClientOptions};
use paddock_kubeio::events::Recorder;
use paddock_kubeio::health::AdminServer;
use paddock_kubeio::lease::{Elector, LeaseTiming};
use paddock_runnerapi::SigningKey;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::Cli;
use crate::metrics::Metrics;
use crate::perform::Performer;
use crate::report;
use crate::watches::{self, Apply, Watched};

/// How long a stopping controller waits for operations in flight. The next leader waits as long.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How long it waits for the lease to be given back.
const RELEASE_GRACE: Duration = Duration::from_secs(2);
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

/// Why the controller cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot read the signing key file {path}: {source}; mount the Secret with the key there")]
    KeyFile { path: String, source: std::io::Error },
    #[error("the signing key file {path} is of no use: {source}")]
    Key { path: String, source: paddock_runnerapi::TokenError },
    #[error(transparent)]
    Connect(#[from] client::ConnectError),
    #[error(transparent)]
    Admin(#[from] paddock_kubeio::health::ListenError),
    #[error("cannot listen for signals: {0}")]
    Signal(std::io::Error),
    #[error("the {0} task has ended, which it never should; see the log above")]
    TaskEnded(&'static str),
    #[error("a task has crashed: {0}")]
    TaskCrashed(tokio::task::JoinError),
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(cli: Cli) -> Result<(), RunError> {
    let signing_key = read_key(&cli)?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;

    let mut tasks = JoinSet::new();
    let admin = AdminServer::bind(cli.admin_listen).await?;
    let options = ClientOptions { user_agent: "paddock-controller".to_owned(), ..ClientOptions::default() };
    let client = client::connect(options).await?;

    let (sender, receiver) = mpsc::unbounded_channel();
    let watched = watches::spawn_all(&client, &sender, &mut tasks);
    let metrics = Arc::new(Metrics::new(watched.clone()));
    let (leading, leader) = watch::channel(!cli.leader_elect);
    let resign = CancellationToken::new();
    if cli.leader_elect {
        let elector = Elector::new(
            client.clone(),
            &cli.lease_namespace,
            &cli.lease_name,
            &cli.identity,
            LeaseTiming::default(),
        );
        let resign = resign.clone();
        tasks.spawn(async move {
            elector.run(leading, resign).await;
            "leader election"
        });
    }
    spawn_admin(&mut tasks, admin, watched.clone(), metrics.clone());

    let driver = Driver {
        engine: Engine::new(RunnerSettings {
            image: cli.runner_image.clone(),
            pull_policy: cli.runner_image_pull_policy.as_str().to_owned(),
            public_keys: signing_key.public_key().to_owned(),
        }),
        performer: Arc::new(Performer { client: client.clone(), signing_key }),
        events: Recorder::new(client, "paddock-controller", &cli.identity),
        metrics,
        unlisted: watched.iter().map(|w| w.kind).collect(),
        sender,
        receiver,
        leader,
    };
    let ended = tokio::select! {
        biased;
        ended = tasks.join_next() => ended,
        () = driver.drive(stop.clone()) => None,
    };
    match ended {
        None => {
            // Decisions have stopped: hand the lease over at once, so that the standby need not wait.
            resign.cancel();
            let released = async {
                while let Some(ended) = tasks.join_next().await {
                    if matches!(ended, Ok("leader election")) {
                        break;
                    }
                }
            };
            if cli.leader_elect && tokio::time::timeout(RELEASE_GRACE, released).await.is_err() {
                tracing::warn!("the lease could not be released in time");
            }
            tracing::info!("stopped");
            Ok(())
        }
        Some(Ok(task)) => Err(RunError::TaskEnded(task)),
        Some(Err(error)) => Err(RunError::TaskCrashed(error)),
    }
}

fn read_key(cli: &Cli) -> Result<SigningKey, RunError> {
    let path = cli.signing_key_file.display().to_string();
    let pem = std::fs::read(&cli.signing_key_file)
        .map_err(|source| RunError::KeyFile { path: path.clone(), source })?;
    SigningKey::from_pem(&pem).map_err(|source| RunError::Key { path, source })
}

fn stop_on_signal(stop: CancellationToken) -> Result<(), RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
        tracing::info!("asked to stop");
        stop.cancel();
    });
    Ok(())
}

fn spawn_admin(
    tasks: &mut JoinSet<&'static str>,
    admin: AdminServer,
    watched: Vec<Watched>,
    metrics: Arc<Metrics>,
) {
    let ready = move || match watched.iter().find(|w| !w.freshness.synced()) {
        None => Ok(()),
        Some(waiting) => Err(format!("waiting for the first list of {}", waiting.kind)),
    };
    tasks.spawn(async move {
        admin.serve(ready, move || metrics.render(), CancellationToken::new()).await;
        "admin server"
    });
}

/// The task that owns the engine.
struct Driver {
    engine: Engine,
    performer: Arc<Performer>,
    events: Recorder,
    metrics: Arc<Metrics>,
    /// Kinds whose first list has not been taken in. Deciding without it would make everything anew.
    unlisted: BTreeSet<&'static str>,
    sender: UnboundedSender<Message>,
    receiver: UnboundedReceiver<Message>,
    leader: watch::Receiver<bool>,
}

impl Driver {
    async fn drive(mut self, stop: CancellationToken) {
        let mut gauges = tokio::time::interval(GAUGE_PERIOD);
        let mut batch = Vec::with_capacity(MESSAGE_BATCH);
        loop {
            self.follow_leadership();
            let now = Timestamp::now();
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
            self.engine.set_leading(leading, Timestamp::now());
        }
    }

    fn take_in(&mut self, message: Message) {
        let now = Timestamp::now();
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
            let op = command.op.clone();
            // A task of its own: even one that crashes must come back, or its object would never be decided on
            // again.
            let performed = tokio::spawn(async move { performer.perform(&op).await }).await;
            let outcome = performed.unwrap_or_else(|error| {
                tracing::error!(%error, op = report::name(&command.op), "an operation crashed; please report this");
                Outcome::Failed(WriteFailure::Unavailable("the operation crashed".to_owned()))
            });
            // Nobody listens any more only when the process ends.
            let _ = sender.send(Message::Done(Box::new(command), outcome, began.elapsed()));
        });
    }

    /// Lets operations in flight end, so that the next leader finds whole steps.
    async fn finish(mut self) {
        let deadline = tokio::time::Instant::now() + STOP_GRACE;
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
