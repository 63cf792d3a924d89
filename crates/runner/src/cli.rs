//! The command line: two commands, one for the init container and one for the harness container.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::{boot, install};

#[derive(Parser)]
#[command(name = "paddock-runner", version, about = "First process of a Paddock harness pod")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Copies this program to DIR/paddock-runner, for a container whose image does not have it.
    Install {
        /// The folder, which the harness container mounts too.
        dir: PathBuf,
    },
    /// Boots the harness and serves the pod's session.
    Run {
        /// Address to listen on; all addresses, IPv6 included, where it is not given.
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// The harness's command; the adapter has a default.
        #[arg(last = true)]
        harness: Vec<OsString>,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    // Logs go to stderr; one that cannot be written must not stop the pod.
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Install { dir } => match install::install(&dir) {
            Ok(path) => {
                tracing::info!(path = %path.display(), "installed");
                ExitCode::SUCCESS
            }
            Err(error) => failure(&error),
        },
        Command::Run { listen, harness } => match Config::from_env(std::env::vars_os(), listen, harness) {
            Ok(config) => boot::main(config),
            Err(error) => failure(&error),
        },
    }
}

fn failure(error: &dyn std::error::Error) -> ExitCode {
    tracing::error!(%error, "the runner cannot go on");
    ExitCode::FAILURE
}
