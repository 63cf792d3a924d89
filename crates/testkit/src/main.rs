//! `paddock-scripted-model`: the scripted model as a program, for pods and for trying things by hand.

use std::net::SocketAddr;

use clap::Parser;
use paddock_testkit::ScriptedModel;

/// A model endpoint that answers what the prompt's directives say. For tests only.
#[derive(Parser)]
struct Cli {
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let model = ScriptedModel::start(Cli::parse().listen).await?;
    tracing::info!(address = %model.address(), "the scripted model listens");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    Ok(())
}
