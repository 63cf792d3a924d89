//! `paddock-gateway`: the HTTP API in front of sessions.

use std::process::ExitCode;

use clap::Parser;
use paddock_gateway::config::Cli;
use paddock_gateway::run;

// Connections have threads of their own; this one watches the cluster.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.init_logging();
    match run::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the gateway stops");
            ExitCode::FAILURE
        }
    }
}
