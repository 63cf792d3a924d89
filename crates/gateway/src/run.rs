//! Puts the gateway together, and keeps it together: any part that ends ends the process.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use paddock_api::{Agent, Session};
use paddock_kubeio::client::{self, ClientOptions, ConnectError};
use paddock_kubeio::health::{AdminServer, ListenError};
use paddock_kubeio::watch::{self, Freshness, Scope, WatchOptions};
use paddock_runnerapi::{SigningKey, TokenError};
use paddock_transcripts::{DatabaseUrl, SqlStore, StoreError, StoreOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::auth::{KeyError, MasterKey, ScopedKeys};
use crate::cluster::KubeCluster;
use crate::config::Cli;
use crate::gateway::{Gateway, RelayTimes};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::relay::connections::Connections;
use crate::relay::tokens::Tokens;
use crate::server::accept::{self, Drained};
use crate::server::drain::{Drain, Stage};
use crate::server::workers::Workers;
use crate::transcripts::{Keeper, retention, sweep};

/// Why the gateway does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No master key.
    #[error(transparent)]
    MasterKey(#[from] KeyError),
    /// The signing key's file cannot be read.
    #[error(
        "cannot read the signing key from {path}: {source}; mount the Secret there, or name another file with --signing-key-file"
    )]
    SigningKeyFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The signing key is no key.
    #[error(
        "the signing key in {path} cannot be used: {source}; make one with: openssl genpkey -algorithm ed25519"
    )]
    SigningKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TokenError,
    },
    /// No way to the API server.
    #[error(transparent)]
    Cluster(#[from] ConnectError),
    /// The admin port is taken.
    #[error(transparent)]
    Admin(#[from] ListenError),
    /// The transcript store's URL cannot be read.
    #[error(
        "cannot read the transcript store's URL from {path}: {source}; mount the Secret there, or name another file with --transcripts-postgres-url-file"
    )]
    TranscriptsUrlFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The transcript store cannot be used.
    #[error("cannot open the transcript store: {0}")]
    Transcripts(#[from] StoreError),
    /// The API's port is taken.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The threads cannot be started.
    #[error("cannot start the threads that serve connections: {0}")]
    Workers(std::io::Error),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// The listening socket broke.
    #[error("the listening socket broke: {0}")]
    Accept(std::io::Error),
    /// A part that runs for ever has ended.
    #[error("the {0} ended, which it must not")]
    Ended(&'static str),
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// See [`RunError`].
pub async fn run(cli: Cli) -> Result<(), RunError> {
    // First of all: a signal that comes before its handler is lost on the first process of a container.
    let stop = stop_on_signal()?;
    let master_key = Arc::new(MasterKey::from_file(&cli.master_key_file)?);
    let signing_key = signing_key(&cli.signing_key_file)?;
    let client = client::connect(ClientOptions {
        user_agent: concat!("paddock-gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ClientOptions::default()
    })
    .await?;
    let admin = AdminServer::bind(cli.admin_listen).await?;
    let listener = TcpListener::bind(cli.listen)
        .await
        .map_err(|source| RunError::Listen { address: cli.listen, source })?;

    let workers = Workers::start(cli.threads()).map_err(RunError::Workers)?;

    let transcripts = transcripts(&cli).await?;
    let gateway = Arc::new(Gateway {
        index: Arc::new(Index::default()),
        cluster: Arc::new(KubeCluster::new(client.clone(), cli.namespace.clone())),
        namespace: cli.namespace.clone(),
        master_key,
        scoped_keys: cli.scoped_keys_secret.clone().map(|secret| Arc::new(ScopedKeys::new(secret))),
        signing_key,
        tokens: Tokens::default(),
        connections: Connections::default(),
        limits: cli.limits(),
        relay: RelayTimes::default(),
        transcripts: transcripts.clone(),
        metrics: Arc::new(Metrics::default()),
        drain: Drain::default(),
    });
    let mut parts = Parts::default();
    let sessions = Freshness::new();
    let agents = Freshness::new();
    parts.spawn("session watch", {
        let (client, options, freshness) = (client.clone(), everything(&cli.namespace), sessions.clone());
        let index = gateway.index.clone();
        async move {
            watch::run::<Session, _>(client, options, freshness, |event| index.apply_session(event)).await
        }
    });
    parts.spawn("agent watch", {
        let (options, freshness) = (everything(&cli.namespace), agents.clone());
        let index = gateway.index.clone();
        let client = client.clone();
        async move { watch::run::<Agent, _>(client, options, freshness, |event| index.apply_agent(event)).await }
    });
    let mut watches = vec![("Session", sessions), ("Agent", agents)];
    if let (Some(keys), Some(secret)) = (gateway.scoped_keys.clone(), &cli.scoped_keys_secret) {
        let freshness = Freshness::new();
        watches.push(("Secret", freshness.clone()));
        let options = secret.watch_options();
        parts.spawn("scoped keys watch", async move {
            watch::run::<Secret, _>(client, options, freshness, |event| keys.apply(event)).await
        });
    }
    parts.spawn("closing of connections that rest", gateway.connections.clone().sweep());
    parts.spawn("master key watch", {
        let key = gateway.master_key.clone();
        async move { key.follow().await }
    });
    if let Some(keeper) = transcripts {
        parts.spawn("saving of transcripts", sweep::run(gateway.clone(), keeper.clone()));
        let retention = cli.transcript_retention.as_std();
        parts.spawn("forgetting of transcripts", async move { retention::run(&keeper, retention).await });
    }
    parts.spawn("admin server", {
        let metrics = gateway.metrics.clone();
        let scrape = move || {
            metrics.observe_watches(&watches);
            metrics.encode()
        };
        let gateway = gateway.clone();
        let never = CancellationToken::new();
        async move { admin.serve(move || ready(&gateway), scrape, never).await }
    });

    tracing::info!(listen = %cli.listen, admin = %cli.admin_listen, namespace = %cli.namespace, "serving");
    tokio::select! {
        drained = accept::run(listener, workers, gateway, cli.drain_times(), stop) => {
            match drained.map_err(RunError::Accept)? {
                Drained::Completely => tracing::info!("drained"),
                Drained::Cut(connections) => tracing::warn!(
                    connections,
                    "the drain timeout has passed; connections were cut, their turns go on in their pods"
                ),
            }
            Ok(())
        }
        name = parts.ended() => Err(RunError::Ended(name)),
    }
}

/// Whether this gateway can be sent clients.
fn ready(gateway: &Gateway) -> Result<(), String> {
    if gateway.drain.stage() != Stage::Serving {
        return Err("shutting down".to_owned());
    }
    if !gateway.index.synced() {
        return Err("sessions and agents have not been listed yet".to_owned());
    }
    if gateway.scoped_keys.as_ref().is_some_and(|keys| !keys.listed()) {
        return Err("the scoped keys have not been read yet".to_owned());
    }
    Ok(())
}

async fn transcripts(cli: &Cli) -> Result<Option<Arc<Keeper>>, RunError> {
    let url = match (&cli.transcripts_sqlite, &cli.transcripts_postgres_url_file) {
        (Some(file), _) => format!("sqlite://{}", file.display()),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|source| RunError::TranscriptsUrlFile { path: path.clone(), source })?
            .trim()
            .to_owned(),
        (None, None) => return Ok(None),
    };
    let url: DatabaseUrl = url.parse()?;
    let store = SqlStore::open(&url, StoreOptions::default()).await?;
    Ok(Some(Arc::new(Keeper::new(Arc::new(store)))))
}

fn everything(namespace: &str) -> WatchOptions {
    WatchOptions { scope: Scope::Namespace(namespace.to_owned()), label_selector: None, field_selector: None }
}

fn signing_key(path: &std::path::Path) -> Result<SigningKey, RunError> {
    let pem =
        std::fs::read(path).map_err(|source| RunError::SigningKeyFile { path: path.to_owned(), source })?;
    SigningKey::from_pem(&pem).map_err(|source| RunError::SigningKey { path: path.to_owned(), source })
}

fn stop_on_signal() -> Result<CancellationToken, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop: readiness fails from now on");
        token.cancel();
    });
    Ok(stop)
}

/// The tasks that run as long as the process.
#[derive(Default)]
struct Parts(JoinSet<&'static str>);

impl Parts {
    fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            part.await;
            name
        });
    }

    /// Returns when any has ended, and which.
    async fn ended(&mut self) -> &'static str {
        match self.0.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(_)) => "part that panicked",
            None => "process without parts",
        }
    }
}
