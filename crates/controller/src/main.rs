//! `paddock-controller`: see the library.

use std::process::ExitCode;

use clap::Parser;
use paddock_controller::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.init_logging();
    match paddock_controller::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the controller stops");
            ExitCode::FAILURE
        }
    }
}
