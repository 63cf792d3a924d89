//! `paddock-gateway`: the HTTP API in front of sessions.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use paddock_gateway::config::Cli;
use paddock_gateway::run;

/// A request makes and drops some hundred small values; the C library's allocator takes a tenth of its time for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
