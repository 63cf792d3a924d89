//! Starting the harness that the configuration names. What differs between harnesses until they serve is here; `boot` sees none
//! of it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::sleep;

use crate::activity::Meter;
use crate::boot::BootError;
use crate::config::{Config, HarnessKind, Secret};
use crate::harness::claude_sdk::{self, ClaudeSdk};
use crate::harness::codex_app::{self, CodexApp};
use crate::harness::http::{self, Gone, Http, Started, Watch};
use crate::harness::opencode::{self, Opencode};
use crate::harness::terminal::TerminalHarness;
use crate::harness::{Harness, HarnessError};
use crate::model_proxy::ModelProxy;
use crate::process::{Exit, Process, Reaper};
use crate::terminal::Terminal;

/// opencode lets go of its file services after 60 idle minutes.
const WARM_INTERVAL: Duration = Duration::from_secs(45 * 60);

/// A harness that has been started.
pub(crate) struct Launched {
    /// Its process.
    pub(crate) child: Child,
    /// Gives it once it serves.
    pub(crate) booting: BoxFuture<'static, Result<Booted, HarnessError>>,
}

/// A harness that serves.
pub(crate) struct Booted {
    /// The harness.
    pub(crate) harness: Arc<dyn Harness>,
    /// Work that keeps it fit for as long as the pod lives. It does not end.
    pub(crate) upkeep: BoxFuture<'static, ()>,
}

/// What the pod is of no use without.
pub(crate) enum Child {
    /// A process of ours.
    Process(Process),
    /// A server in a container of its own, which the kubelet starts again.
    Beside(Watch),
    /// Nothing: a terminal's program may end and be started again.
    None,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    Exit(Exit),
    Gone(Gone),
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(exit) => exit.fmt(f),
            Self::Gone(gone) => gone.fmt(f),
        }
    }
}

impl Child {
    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Loss {
        match self {
            Self::Process(process) => Loss::Exit(process.ended().await),
            Self::Beside(watch) => Loss::Gone(watch.gone().await),
            Self::None => std::future::pending().await,
        }
    }
}

/// Starts the harness. With `warm` it does what is slow the first time before it is booted; without, somebody waits for its
/// session already, whose next turn is the warm-up.
pub(crate) async fn launch(
    config: &Config,
    reaper: &Arc<Reaper>,
    meter: &Arc<Meter>,
    warm: bool,
) -> Result<Launched, BootError> {
    let proxy = || ModelProxy::start(&config.model, config.extra_certificates.as_deref());
    match config.harness {
        HarnessKind::Opencode => {
            let proxy = proxy().await?;
            let (process, booting) = opencode::launch(config, reaper, &proxy).await?;
            let booting = async move {
                let opencode = Arc::new(Opencode::booted(booting, proxy).await?);
                if warm {
                    opencode.warm_up().await?;
                }
                let upkeep = Box::pin(keep_warm(Arc::clone(&opencode)));
                Ok(Booted { harness: opencode, upkeep })
            };
            Ok(Launched { child: Child::Process(process), booting: Box::pin(booting) })
        }
        HarnessKind::Http => {
            let proxy = match config.http.model_port {
                None => proxy().await?,
                Some(port) => {
                    let token = Secret::new(config.pod_uid.clone());
                    let certificates = config.extra_certificates.as_deref();
                    ModelProxy::start_at(&config.model, certificates, port, token).await?
                }
            };
            let (started, booting) = http::launch(config, reaper, proxy)?;
            let booting = async move {
                let harness = Arc::new(Http::booted(booting).await);
                Ok(Booted { harness, upkeep: Box::pin(std::future::pending()) })
            };
            let child = match started {
                Started::Child(process) => Child::Process(process),
                Started::Beside(watch) => Child::Beside(watch),
            };
            Ok(Launched { child, booting: Box::pin(booting) })
        }
        HarnessKind::ClaudeAgentSdk => {
            let proxy = proxy().await?;
            let (process, booting) = claude_sdk::launch(config, reaper)?;
            let booting = async move {
                let harness = Arc::new(ClaudeSdk::booted(booting, proxy, warm).await?);
                Ok(Booted { harness, upkeep: Box::pin(std::future::pending()) })
            };
            Ok(Launched { child: Child::Process(process), booting: Box::pin(booting) })
        }
        HarnessKind::CodexAppServer => {
            let proxy = proxy().await?;
            let (process, booting) = codex_app::launch(config, reaper, &proxy)?;
            let booting = async move {
                let harness = Arc::new(CodexApp::booted(booting, proxy, warm).await?);
                Ok(Booted { harness, upkeep: Box::pin(std::future::pending()) })
            };
            Ok(Launched { child: Child::Process(process), booting: Box::pin(booting) })
        }
        HarnessKind::ClaudeCode | HarnessKind::Codex | HarnessKind::Terminal => {
            // Any program may be anything; only those that are known ask a model.
            let proxy = match config.harness {
                HarnessKind::Terminal => None,
                _ => Some(proxy().await?),
            };
            let terminal = Terminal::new(Arc::clone(reaper), Arc::clone(meter));
            let harness = Arc::new(TerminalHarness::new(config, terminal, proxy)?);
            let reaper = Arc::clone(reaper);
            let booting = async move {
                if warm {
                    harness.warm_up(&reaper).await?;
                }
                Ok(Booted { harness, upkeep: Box::pin(std::future::pending()) })
            };
            Ok(Launched { child: Child::None, booting: Box::pin(booting) })
        }
    }
}

async fn keep_warm(opencode: Arc<Opencode>) {
    loop {
        sleep(WARM_INTERVAL).await;
        if let Err(error) = opencode.keep_warm().await {
            tracing::warn!(%error, "the harness could not be kept warm");
        }
    }
}
