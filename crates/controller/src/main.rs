//! `paddock-controller`: keeps pools warm and gives sessions their sandboxes.

mod cli;
mod manifest;
mod metrics;
mod nodes;
mod perform;
mod pods;
mod report;
mod run;
mod runners;
mod watches;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cli.init_logging();
    match run::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the controller stops");
            ExitCode::FAILURE
        }
    }
}
