//! The life of the runner: harden, listen, boot the harness, serve, and end in order.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustix::process::DumpableBehavior;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::activation::{Activator, RestoreError, Tools};
use crate::activity::Meter;
use crate::app::{App, Phase};
use crate::config::Config;
use crate::harness::{Harness, HarnessError};
use crate::launch::{Booted, Child, Launched, Loss, launch};
use crate::model_proxy::ProxyError;
use crate::process::Reaper;
use crate::server::{self, Server};
use crate::termination;
use crate::turns::{Journal, JournalError, Restored, StateLock};

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
    HarnessExited(Loss),
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
    let fresh = restored.activation.is_none();
    let Launched { mut child, booting } = launch(&config, &reaper, &meter, fresh).await?;
    tracing::info!(%address, "listening; the harness boots");
    let tools = Tools::new(&config, Arc::clone(&reaper));
    let past = Past { pod_uid: config.pod_uid, tools, journal, restored, meter };
    let end = tokio::select! {
        () = signals.any() => End::Signal,
        exit = child.ended() => End::HarnessExited(exit),
        error = serve(&app, booting, past) => why_it_failed(error, &mut child).await,
    };
    Ok(stop(end, &app, server, &mut child, &config.termination_log).await)
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

type Booting = BoxFuture<'static, Result<Booted, HarnessError>>;

/// Which pod this is, and what was in its state folder.
struct Past {
    pod_uid: String,
    tools: Tools,
    journal: Journal,
    restored: Restored,
    meter: Arc<Meter>,
}

impl Past {
    /// The activator of a booted harness. It goes on with the session that the pod or its volume had.
    async fn go_on(self, harness: Arc<dyn Harness>) -> Result<Arc<Activator>, RestoreError> {
        let activator = Activator::new(harness, self.tools, self.journal, self.pod_uid, self.meter);
        activator.restore(self.restored).await?;
        Ok(Arc::new(activator))
    }
}

/// Boots the harness, keeps it fit and looks after it for ever. Returns only with an error.
async fn serve(app: &App, booting: Booting, past: Past) -> BootError {
    let (upkeep, activator) = match ready(app, booting, past).await {
        Ok(ready) => ready,
        Err(error) => return error,
    };
    let look_after = async {
        loop {
            sleep(LOOK_INTERVAL).await;
            if let Some(Ok(turns)) = activator.bound().map(|bound| bound.turns()) {
                turns.engine.look().await;
            }
        }
    };
    tokio::join!(upkeep, look_after).1
}

async fn ready(
    app: &App,
    booting: Booting,
    past: Past,
) -> Result<(BoxFuture<'static, ()>, Arc<Activator>), BootError> {
    let begun = Instant::now();
    let Booted { harness, upkeep } = booting.await?;
    let booted_ms = begun.elapsed().as_millis();
    let activator = past.go_on(harness).await?;
    app.ready(Arc::clone(&activator));
    tracing::info!(booted_ms, ready_ms = begun.elapsed().as_millis(), "ready");
    Ok((upkeep, activator))
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
        let Child::Process(harness) = child else { return };
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
