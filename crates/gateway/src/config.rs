//! Flags and environment.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use paddock_api::Duration;
use tracing_subscriber::EnvFilter;

use crate::auth::SecretName;
use crate::gateway::Limits;
use crate::server::accept::DrainTimes;

/// Serves the HTTP API of Paddock's sessions.
#[derive(Debug, Parser)]
#[command(name = "paddock-gateway", version)]
pub struct Cli {
    /// Where the API is served.
    #[arg(long, env = "PADDOCK_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "PADDOCK_ADMIN_LISTEN", default_value = "0.0.0.0:8081")]
    pub admin_listen: SocketAddr,
    /// The one namespace whose Sessions and Agents are served.
    #[arg(long, env = "PADDOCK_NAMESPACE")]
    pub namespace: String,
    /// File with the key clients send; read again when it changes.
    #[arg(long, env = "PADDOCK_MASTER_KEY_FILE", default_value = "/etc/paddock/master-key/key")]
    pub master_key_file: PathBuf,
    /// Secret with keys for parts of the API, as NAMESPACE/NAME; followed as it changes. Without it there is only the master key.
    #[arg(long, env = "PADDOCK_SCOPED_KEYS_SECRET")]
    pub scoped_keys_secret: Option<SecretName>,
    /// Ed25519 private key (PKCS#8 PEM) that signs tokens for pods; the controller's.
    #[arg(long, env = "PADDOCK_SIGNING_KEY_FILE", default_value = "/etc/paddock/signing-key/key.pem")]
    pub signing_key_file: PathBuf,
    /// Keeps what was said in this SQLite database, which no other gateway may use. Without a store it goes with the pods.
    #[arg(long, env = "PADDOCK_TRANSCRIPTS_SQLITE", conflicts_with = "transcripts_postgres_url_file")]
    pub transcripts_sqlite: Option<PathBuf>,
    /// Keeps what was said in the PostgreSQL database whose URL is in this file: postgres://user:password@host/database.
    #[arg(long, env = "PADDOCK_TRANSCRIPTS_POSTGRES_URL_FILE")]
    pub transcripts_postgres_url_file: Option<PathBuf>,
    /// How long what was said is kept after the last word of a session.
    #[arg(long, env = "PADDOCK_TRANSCRIPT_RETENTION", default_value = "720h")]
    pub transcript_retention: Duration,
    /// Largest request body in bytes.
    #[arg(long, env = "PADDOCK_MAX_BODY_BYTES", default_value_t = 33_554_432)]
    pub max_body_bytes: usize,
    /// Largest request head in bytes.
    #[arg(long, env = "PADDOCK_MAX_HEADER_BYTES", default_value_t = 65_536)]
    pub max_header_bytes: usize,
    /// Longest time for a request's head.
    #[arg(long, env = "PADDOCK_HEADER_TIMEOUT", default_value = "10s")]
    pub header_timeout: Duration,
    /// Longest time between two requests of a connection.
    #[arg(long, env = "PADDOCK_IDLE_TIMEOUT", default_value = "2m")]
    pub idle_timeout: Duration,
    /// Most connections at a time; more wait to be accepted.
    #[arg(long, env = "PADDOCK_MAX_CONNECTIONS", default_value_t = 20_000)]
    pub max_connections: usize,
    /// Threads that serve connections; as many as there are cores for this process, unless told.
    #[arg(long, env = "PADDOCK_THREADS")]
    pub threads: Option<NonZeroUsize>,
    /// How long connections are still accepted after a shutdown has begun and readiness fails.
    #[arg(long, env = "PADDOCK_DRAIN_GRACE", default_value = "3s")]
    pub drain_grace: Duration,
    /// How long turns in flight get after that. The pod's terminationGracePeriodSeconds must be longer than
    /// both together. A turn that is cut goes on in its pod; its client can join it with the turn's key.
    #[arg(long, env = "PADDOCK_DRAIN_TIMEOUT", default_value = "10m")]
    pub drain_timeout: Duration,
    /// How log lines look.
    #[arg(long, env = "PADDOCK_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
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

    /// How many threads serve connections.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or_else(cores, NonZeroUsize::get)
    }

    /// What a client may use up.
    pub fn limits(&self) -> Limits {
        Limits {
            max_body_bytes: self.max_body_bytes,
            max_head_bytes: self.max_header_bytes,
            head_timeout: self.header_timeout.as_std(),
            idle_timeout: self.idle_timeout.as_std(),
            max_connections: self.max_connections,
        }
    }

    /// How long the parts of a shutdown last.
    pub fn drain_times(&self) -> DrainTimes {
        DrainTimes { leaving: self.drain_grace.as_std(), closing: self.drain_timeout.as_std() }
    }
}
