//! The process: key file, signals, admin server.

use paddock_core::build::RunnerSettings;
use paddock_kubeio::client::{self, ClientOptions};
use paddock_kubeio::health::AdminServer;
use paddock_kubeio::lease::LeaseTiming;
use paddock_runnerapi::SigningKey;
use tokio_util::sync::CancellationToken;

use crate::cli::Cli;
use crate::controller::{Controller, Election, Settings};

/// Why the controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The key file cannot be read.
    #[error("cannot read the signing key file {path}: {source}; mount the Secret with the key there")]
    KeyFile {
        /// Where it should be.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key file holds no usable key.
    #[error("the signing key file {path} is of no use: {source}")]
    Key {
        /// Where it is.
        path: String,
        /// Why.
        source: paddock_runnerapi::TokenError,
    },
    /// No client could be made.
    #[error(transparent)]
    Connect(#[from] client::ConnectError),
    /// The admin server's address cannot be taken.
    #[error(transparent)]
    Admin(#[from] paddock_kubeio::health::ListenError),
    /// Signals cannot be caught.
    #[error("cannot listen for signals: {0}")]
    Signal(std::io::Error),
    /// A task that works for ever has come to an end.
    #[error("the {0} task has ended, which it never should; see the log above")]
    TaskEnded(&'static str),
    /// A task has panicked.
    #[error("a task has crashed: {0}")]
    TaskCrashed(tokio::task::JoinError),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot begin, or when a part of it ends by itself.
pub async fn run(cli: Cli) -> Result<(), RunError> {
    let signing_key = read_key(&cli)?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;

    let admin = AdminServer::bind(cli.admin_listen).await?;
    let options = ClientOptions { user_agent: "paddock-controller".to_owned(), ..ClientOptions::default() };
    let client = client::connect(options).await?;
    let settings = Settings {
        identity: cli.identity.clone(),
        election: cli.leader_elect.then(|| Election {
            namespace: cli.lease_namespace.clone(),
            name: cli.lease_name.clone(),
            timing: LeaseTiming::default(),
        }),
        runner: RunnerSettings {
            image: cli.runner_image.clone(),
            pull_policy: cli.runner_image_pull_policy.as_str().to_owned(),
            public_keys: signing_key.public_key().to_owned(),
        },
        keeps_transcripts_in: cli.keep_transcripts_in.clone(),
    };
    Controller::new(client, signing_key, settings).with_admin(admin).run(stop).await
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
