//! What runs side by side: watches → engine → operations → engine, leader election, the admin server.

use std::sync::Arc;
use std::time::Duration;

use paddock_core::Engine;
use paddock_core::build::RunnerSettings;
use paddock_kubeio::clock::Clock;
use paddock_kubeio::events::Recorder;
use paddock_kubeio::health::AdminServer;
use paddock_kubeio::lease::{Elector, LeaseTiming};
use paddock_runnerapi::SigningKey;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::driver::Driver;
use crate::metrics::Metrics;
use crate::perform::Performer;
use crate::run::RunError;
use crate::runners::{Runners, Tcp, Transport};
use crate::watches::{self, Watched};

/// How long a stopping controller waits for the lease to be given back.
const RELEASE_GRACE: Duration = Duration::from_secs(2);

/// How a controller is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This process, in the lease and in Events. Differs between all that run at the same time.
    pub identity: String,
    /// It decides only while it holds this lease; without one, always.
    pub election: Option<Election>,
    /// The runner that goes into harness pods.
    pub runner: RunnerSettings,
    /// Namespaces whose gateways save transcripts: there pods are not taken away on purpose before.
    pub keeps_transcripts_in: Vec<String>,
}

/// The lease that controllers compete for.
#[derive(Clone, Debug)]
pub struct Election {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How long it is held and how often it is renewed.
    pub timing: LeaseTiming,
}

/// One controller.
pub struct Controller {
    client: kube::Client,
    signing_key: SigningKey,
    settings: Settings,
    clock: Clock,
    transport: Arc<dyn Transport>,
    admin: Option<AdminServer>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Controller {
    /// A controller on the machine's clock that reaches runners by TCP.
    pub fn new(client: kube::Client, signing_key: SigningKey, settings: Settings) -> Self {
        let (clock, transport) = (Clock::system(), Arc::new(Tcp));
        Self { client, signing_key, settings, clock, transport, admin: None }
    }

    /// Goes by another clock.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Reaches runners in another way.
    pub fn with_transport(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport, ..self }
    }

    /// Shows its state on this admin server.
    pub fn with_admin(self, admin: AdminServer) -> Self {
        Self { admin: Some(admin), ..self }
    }

    /// Runs until `stop`; then lets operations in flight end and gives the lease back. If this future is dropped, all ends
    /// at once, but for operations in flight.
    ///
    /// # Errors
    /// When a part of it ends by itself.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self { client, signing_key, settings, clock, transport, admin } = self;
        let mut tasks = JoinSet::new();
        let (sender, receiver) = mpsc::unbounded_channel();
        let watched = watches::spawn_all(&client, &sender, &mut tasks);
        let metrics = Arc::new(Metrics::new(watched.clone()));
        let (leading, leader) = watch::channel(settings.election.is_none());
        let resign = CancellationToken::new();
        let elects = settings.election.is_some();
        if let Some(election) = settings.election {
            let Election { namespace, name, timing } = election;
            let elector = Elector::new(client.clone(), namespace, name, &settings.identity, timing)
                .with_clock(clock.clone());
            let resign = resign.clone();
            tasks.spawn(async move {
                elector.run(leading, resign).await;
                "leader election"
            });
        }
        if let Some(admin) = admin {
            spawn_admin(&mut tasks, admin, watched.clone(), metrics.clone());
        }

        let component = "paddock-controller";
        let events = Recorder::with_clock(client.clone(), component, &settings.identity, clock.clone());
        let runners = Runners { key: signing_key, clock: clock.clone(), transport };
        let mut engine = Engine::new(settings.runner);
        engine.keep_transcripts_in(settings.keeps_transcripts_in);
        let driver = Driver {
            engine,
            performer: Arc::new(Performer { client, runners }),
            events,
            metrics,
            clock,
            unlisted: watched.iter().map(|w| w.kind).collect(),
            sender,
            receiver,
            leader,
        };
        let ended = tokio::select! {
            biased;
            ended = tasks.join_next() => ended,
            () = driver.drive(stop) => None,
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
                if elects && tokio::time::timeout(RELEASE_GRACE, released).await.is_err() {
                    tracing::warn!("the lease could not be released in time");
                }
                tracing::info!("stopped");
                Ok(())
            }
            Some(Ok(task)) => Err(RunError::TaskEnded(task)),
            Some(Err(error)) => Err(RunError::TaskCrashed(error)),
        }
    }
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
