//! The life of the runner: harden, listen, boot the harness, serve, and end in order.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::DumpableBehavior;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::activation::{Activator, RestoreError};
use crate::activity::Meter;
use crate::app::{App, Phase};
use crate::config::{Config, HarnessKind};
use crate::harness::opencode::{self, Booting, Opencode};
use crate::harness::terminal::TerminalHarness;
use crate::harness::{Harness, HarnessError};
use crate::model_proxy::{ModelProxy, ProxyError};
use crate::process::{Exit, Process, Reaper};
use crate::server::{self, Server};
use crate::terminal::Terminal;
use crate::termination;
use crate::turns::{Journal, JournalError, Restored, StateLock};

/// opencode lets go of its file services after 60 idle minutes.
const WARM_INTERVAL: Duration = Duration::from_secs(45 * 60);
/// How often the harness is asked for work of its own: idle time is no more exact than that.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// What the harness gets to end by itself.
const TERMINATE_GRACE: Duration = Duration::from_secs(1);
/// How long after its connections the end of the harness's process may be noticed.
const VERDICT: Duration = Duration::from_millis(500);
/// What answers get to reach their clients after that.
const ANSWER_GRACE: Duration = Duration::from_millis(100);

/// The runner cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel refused something every runner needs.
    #[error("setting the runner up: {0}")]
    Setup(#[from] io::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The model endpoint.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The harness.
    #[error(transparent)]
    Harness(#[from] HarnessError),
    /// The session of an earlier run.
    #[error("going on with the session of before the restart: {0}")]
    Restore(#[from] RestoreError),
}

impl BootError {
    /// For people who see the pod: without anything that the harness said.
    fn unquoted(&self) -> String {
        match self {
            Self::Harness(error) => error.unquoted(),
            Self::Restore(RestoreError::Harness(error)) => {
                format!("going on with the session of before the restart: {}", error.unquoted())
            }
            _ => self.to_string(),
        }
    }
}

/// Why the runner ends.
enum End {
    Signal,
    HarnessExited(Exit),
    BootFailed(BootError),
}

/// Runs until a signal comes or the harness is lost.
pub fn main(config: Config) -> ExitCode {
    // The model key stays in our initial environment, which safe code cannot erase. Not dumpable means that
    // others of our user can neither read it in /proc/1/environ nor attach to us.
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the runner's memory cannot be hidden from processes of the same user");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_stack_size(256 << 10)
        .build();
    let termination_log = config.termination_log.clone();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(config));
            // A disk that hangs must not hold up the exit.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "the runner cannot go on");
            termination::tell(&termination_log, &format!("the runner cannot go on: {}", error.unquoted()));
            ExitCode::FAILURE
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn run(config: Config) -> Result<ExitCode, BootError> {
    let mut signals = Signals::install()?;
    let reaper = Arc::new(Reaper::start()?);
    let listener = server::listen(config.listen).await?;
    let app = App::new(config.pod_uid.clone(), config.keys.clone());
    let server = Server::start(listener, Arc::clone(&app))?;
    let address = server.address();
    // Probes are answered meanwhile: the pod is not broken, it has to wait for another's end.
    let lock = tokio::select! {
        () = signals.any() => return Ok(ExitCode::SUCCESS),
        lock = StateLock::acquire(&config.state_dir) => lock?,
    };
    let mut restored = Restored::default();
    let journal = Journal::open(lock, |record, span| restored.see(record, span))?;
    let meter = Meter::start();
    let (mut child, launched) = launch(&config, &reaper, &meter).await?;
    tracing::info!(%address, "listening; the harness boots");
    let past = Past { pod_uid: config.pod_uid, journal, restored, meter };
    let end = tokio::select! {
        () = signals.any() => End::Signal,
        exit = child.ended() => End::HarnessExited(exit),
        error = serve(&app, launched, past) => why_it_failed(error, &mut child).await,
    };
    Ok(stop(end, &app, server, &mut child, &config.termination_log).await)
}

/// A harness that boots.
enum Launched {
    Opencode(Booting, Arc<ModelProxy>),
    Terminal(TerminalHarness, Arc<Reaper>),
}

/// The process without which the pod is of no use, where the harness has one. A terminal's program may end and be started again.
struct Child(Option<Process>);

impl Child {
    async fn ended(&mut self) -> Exit {
        match &mut self.0 {
            Some(process) => process.ended().await,
            None => std::future::pending().await,
        }
    }
}

async fn launch(
    config: &Config,
    reaper: &Arc<Reaper>,
    meter: &Arc<Meter>,
) -> Result<(Child, Launched), BootError> {
    match config.harness {
        HarnessKind::Opencode => {
            let proxy = ModelProxy::start(&config.model, config.extra_certificates.as_deref()).await?;
            let (process, booting) = opencode::launch(config, reaper, &proxy).await?;
            Ok((Child(Some(process)), Launched::Opencode(booting, proxy)))
        }
        HarnessKind::ClaudeCode | HarnessKind::Codex | HarnessKind::Terminal => {
            // Any program may be anything; only those that are known ask a model.
            let proxy = match config.harness {
                HarnessKind::Terminal => None,
                _ => Some(ModelProxy::start(&config.model, config.extra_certificates.as_deref()).await?),
            };
            let terminal = Terminal::new(Arc::clone(reaper), Arc::clone(meter));
            let harness = TerminalHarness::new(config, terminal, proxy)?;
            Ok((Child(None), Launched::Terminal(harness, Arc::clone(reaper))))
        }
    }
}

/// A harness that ends while it boots closes its output and its connections first; its end says more.
async fn why_it_failed(error: BootError, child: &mut Child) -> End {
    match timeout(VERDICT, child.ended()).await {
        Ok(exit) => {
            tracing::error!(%error, "the boot failed");
            End::HarnessExited(exit)
        }
        Err(_) => End::BootFailed(error),
    }
}

/// Which pod this is, and what was in its state folder.
struct Past {
    pod_uid: String,
    journal: Journal,
    restored: Restored,
    meter: Arc<Meter>,
}

impl Past {
    /// The activator of a booted harness. It goes on with the session that the pod or its volume had.
    async fn go_on(self, harness: Arc<dyn Harness>) -> Result<Arc<Activator>, RestoreError> {
        let activator = Activator::new(harness, self.journal, self.pod_uid, self.meter);
        activator.restore(self.restored).await?;
        Ok(Arc::new(activator))
    }
}

/// Boots the harness and looks after it for ever. Returns only with an error.
async fn serve(app: &App, launched: Launched, past: Past) -> BootError {
    match launched {
        Launched::Opencode(booting, proxy) => serve_opencode(app, booting, proxy, past).await,
        Launched::Terminal(harness, reaper) => match terminal_ready(app, harness, &reaper, past).await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        },
    }
}

async fn terminal_ready(
    app: &App,
    harness: TerminalHarness,
    reaper: &Reaper,
    past: Past,
) -> Result<(), BootError> {
    if past.restored.activation.is_none() {
        harness.warm_up(reaper).await?;
    } // Else somebody waits for this session.
    let activator = past.go_on(Arc::new(harness)).await?;
    app.ready(activator);
    tracing::info!("ready");
    Ok(())
}

/// Boots and warms opencode, keeps it warm and looks after it for ever. Returns only with an error.
async fn serve_opencode(app: &App, booting: Booting, proxy: Arc<ModelProxy>, past: Past) -> BootError {
    let (harness, activator) = match ready(app, booting, proxy, past).await {
        Ok(ready) => ready,
        Err(error) => return error,
    };
    let keep_warm = async {
        loop {
            sleep(WARM_INTERVAL).await;
            if let Err(error) = harness.keep_warm().await {
                tracing::warn!(%error, "the harness could not be kept warm");
            }
        }
    };
    let look_after = async {
        loop {
            sleep(LOOK_INTERVAL).await;
            if let Some(Ok(turns)) = activator.bound().map(|bound| bound.turns()) {
                turns.engine.look().await;
            }
        }
    };
    tokio::join!(keep_warm, look_after).0
}

async fn ready(
    app: &App,
    booting: Booting,
    proxy: Arc<ModelProxy>,
    past: Past,
) -> Result<(Arc<Opencode>, Arc<Activator>), BootError> {
    let begun = Instant::now();
    let opencode = Arc::new(Opencode::booted(booting, proxy).await?);
    let booted_ms = begun.elapsed().as_millis();
    if past.restored.activation.is_none() {
        opencode.warm_up().await?;
    } // Else somebody waits for this session, in this pod or because it woke up: its next turn is the warm-up.
    let activator = past.go_on(Arc::clone(&opencode) as Arc<dyn Harness>).await?;
    app.ready(Arc::clone(&activator));
    tracing::info!(booted_ms, ready_ms = begun.elapsed().as_millis(), "ready");
    Ok((opencode, activator))
}

async fn stop(end: End, app: &App, server: Server, child: &mut Child, termination_log: &Path) -> ExitCode {
    let (phase, why, code) = match end {
        End::Signal => (Phase::Stopping, "the pod is shutting down", ExitCode::SUCCESS),
        End::HarnessExited(exit) => {
            tracing::error!(%exit, "the harness ended by itself; the container has to restart");
            termination::tell(termination_log, &format!("harness ended: {exit}"));
            (Phase::HarnessLost, "the harness ended by itself", ExitCode::FAILURE)
        }
        End::BootFailed(error) => {
            tracing::error!(%error, "the harness cannot serve; the container has to restart");
            termination::tell(termination_log, &format!("harness cannot serve: {}", error.unquoted()));
            (Phase::HarnessLost, "the harness cannot serve", ExitCode::FAILURE)
        }
    };
    tracing::info!(why, "stopping");
    let deadline = Instant::now() + TERMINATE_GRACE;
    // A disk that hangs must not keep the harness running.
    if timeout_at(deadline, app.stop(phase, why)).await.is_err() {
        tracing::error!("the journal did not take the end of the turns in time");
    }
    let drained = server.drain();
    let ended = async {
        let Some(harness) = &mut child.0 else { return };
        harness.terminate_group();
        let ended = timeout_at(deadline, harness.ended()).await;
        // Whatever of its group is left, tools included.
        harness.kill_group();
        match ended {
            Ok(exit) => tracing::info!(%exit, "the harness has ended"),
            Err(_) => tracing::warn!("the harness did not end in time and was killed"),
        }
    };
    let everything = async { tokio::join!(ended, drained) };
    if timeout_at(deadline + ANSWER_GRACE, everything).await.is_err() {
        tracing::warn!("some answers may not have reached their clients");
    }
    tracing::info!("stopped");
    code
}
