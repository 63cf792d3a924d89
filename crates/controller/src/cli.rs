//! Flags and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Keeps pools of warm sandboxes and gives sessions theirs.
#[derive(Debug, Parser)]
#[command(name = "paddock-controller", version)]
pub struct Cli {
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "PADDOCK_ADMIN_LISTEN", default_value = "0.0.0.0:8081")]
    pub(crate) admin_listen: SocketAddr,
    /// Decide only while holding the lease. Correctness does not depend on it; it saves double work.
    #[arg(long, env = "PADDOCK_LEADER_ELECT", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) leader_elect: bool,
    /// Namespace of the lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "paddock")]
    pub(crate) lease_namespace: String,
    /// Name of the lease.
    #[arg(long, env = "PADDOCK_LEASE_NAME", default_value = "paddock-controller")]
    pub(crate) lease_name: String,
    /// This process, in the lease and in Events.
    #[arg(long, env = "POD_NAME", default_value = "paddock-controller")]
    pub(crate) identity: String,
    /// Ed25519 private key (PKCS#8 PEM) whose public half goes into every sandbox.
    #[arg(long, env = "PADDOCK_SIGNING_KEY_FILE", default_value = "/etc/paddock/signing-key/key.pem")]
    pub(crate) signing_key_file: PathBuf,
    /// Image with the runner's binary, copied into every harness pod.
    #[arg(long, env = "PADDOCK_RUNNER_IMAGE")]
    pub(crate) runner_image: String,
    /// Pull policy of the runner's image.
    #[arg(long, env = "PADDOCK_RUNNER_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub(crate) runner_image_pull_policy: PullPolicy,
    /// Namespaces with a gateway that has a transcript store, separated by commas: a pod there is not taken away on purpose
    /// before what was said in it is saved.
    #[arg(long, env = "PADDOCK_KEEP_TRANSCRIPTS_IN", value_delimiter = ',')]
    pub(crate) keep_transcripts_in: Vec<String>,
    /// How log lines look.
    #[arg(long, env = "PADDOCK_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// When an image is pulled, in Kubernetes' words.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PullPolicy {
    /// Whenever a pod starts.
    #[value(name = "Always")]
    Always,
    /// If the node does not have it.
    #[value(name = "IfNotPresent")]
    IfNotPresent,
    /// The node must have it.
    #[value(name = "Never")]
    Never,
}

impl PullPolicy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

impl Cli {
    /// Sends log lines to standard error; `RUST_LOG` chooses which.
    pub fn init_logging(&self) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Json => builder.json().init(),
            LogFormat::Text => builder.with_ansi(false).init(),
        }
    }
}
