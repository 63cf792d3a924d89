//! Paddock beside its peer agent-sandbox: the same is asked of both, in turns, in one run.
//!
//! `hack/bench.sh` (`make bench`) builds both, boots clusters, runs this, and takes the clusters down. The two own the
//! same kinds of objects, so each has a cluster of its own. Controllers are processes of the host, each with the
//! service account `bench/controller` of its cluster.

mod audit;
mod fake;
mod gateway;
mod harnesses;
mod journal;
mod process;
mod product;
mod random;
mod real;
mod report;
mod results;
mod side;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::product::Product;
use crate::results::Results;
use crate::side::{Files, Side};

/// What everything returns: errors are told to people and end the run.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The namespace that everything happens in.
pub(crate) const NAMESPACE: &str = "bench";

/// Benchmarks of Paddock beside agent-sandbox.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure on clusters with real nodes.
    Real(Run),
    /// Measure on clusters without nodes, with fake ones.
    Fake(Run),
    /// Measure the gateway beside nginx and haproxy, and write its page.
    Gateway(gateway::Run),
    /// Measure the harnesses on a cluster with Paddock, and write their page.
    Harnesses(harnesses::Run),
    /// Write the page from what was measured.
    Report(report::Inputs),
}

#[derive(Args)]
struct Run {
    /// Folder of the cluster for Paddock.
    #[arg(long)]
    paddock_cluster: PathBuf,
    /// Folder of the cluster for the peer.
    #[arg(long)]
    peer_cluster: PathBuf,
    /// File that lines of JSON are added to.
    #[arg(long)]
    results: PathBuf,
    /// Few repetitions, for working on the benchmark itself.
    #[arg(long)]
    quick: bool,
    /// How long the idle systems are watched.
    #[arg(long, default_value_t = 2)]
    idle_minutes: u64,
    /// What to measure on real nodes.
    #[arg(long, value_delimiter = ',', default_value = "fill,warm,burst,idle,lag,failover")]
    chapters: Vec<real::Chapter>,
    #[command(flatten)]
    tools: Tools,
}

/// Programs and folders.
#[derive(Args)]
pub(crate) struct Tools {
    /// Paddock's controller.
    #[arg(long)]
    paddock_controller: PathBuf,
    /// The peer's.
    #[arg(long)]
    peer_controller: PathBuf,
    /// Key that Paddock signs tokens with.
    #[arg(long)]
    signing_key: PathBuf,
    /// kwok.
    #[arg(long)]
    pub(crate) kwok: PathBuf,
    /// What answers for fake pods.
    #[arg(long)]
    pub(crate) runner: PathBuf,
    /// Network namespace that has the addresses of fake pods.
    #[arg(long)]
    pub(crate) netns: String,
    /// Folder for logs.
    #[arg(long)]
    pub(crate) logs: PathBuf,
}

/// How often things are repeated.
pub(crate) struct Effort {
    /// Pools of 20 that are filled.
    pub(crate) fills: usize,
    /// Warm starts, one at a time.
    pub(crate) lives: usize,
    /// Bursts of 15.
    pub(crate) bursts: usize,
    /// Time of nothing.
    pub(crate) idle: Duration,
    /// Cold starts.
    pub(crate) colds: usize,
    /// Leaders killed, and leaders stopped.
    pub(crate) failovers: usize,
    /// Size of the pool on fake nodes.
    pub(crate) fake_pool: usize,
    /// Time of one rate of load; less where that would be more than the pool has.
    pub(crate) load: Duration,
    /// Pods in the caches when memory is measured.
    pub(crate) fake_cached: usize,
}

impl Effort {
    fn new(quick: bool, idle_minutes: u64) -> Self {
        if quick {
            return Self {
                fills: 1,
                lives: 10,
                bursts: 3,
                idle: Duration::from_secs(15),
                colds: 2,
                failovers: 1,
                fake_pool: 150,
                load: Duration::from_secs(4),
                fake_cached: 300,
            };
        }
        Self {
            fills: 3,
            lives: 40,
            bursts: 4,
            idle: Duration::from_secs(60 * idle_minutes),
            colds: 10,
            failovers: 4,
            fake_pool: 1000,
            load: Duration::from_secs(15),
            fake_cached: 5000,
        }
    }
}

/// Who comes first takes turns, too.
pub(crate) fn in_turn(round: usize) -> [usize; 2] {
    if round.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Real(run) => measure(run, Nodes::Real).await,
        Command::Fake(run) => measure(run, Nodes::Fake).await,
        Command::Gateway(run) => gateway::measure(&run).await,
        Command::Harnesses(run) => harnesses::measure(&run).await,
        Command::Report(inputs) => report::write(&inputs),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Nodes {
    Real,
    Fake,
}

async fn measure(run: Run, nodes: Nodes) -> Result<()> {
    let files = |cluster: &PathBuf, controller: &PathBuf| Files {
        cluster: cluster.clone(),
        controller: controller.clone(),
        signing_key: run.tools.signing_key.clone(),
        logs: run.tools.logs.clone(),
    };
    let effort = Effort::new(run.quick, run.idle_minutes);
    let results = Results::open(&run.results)?;
    let sides = [
        Side::start(Product::Paddock, files(&run.paddock_cluster, &run.tools.paddock_controller)).await?,
        Side::start(Product::Peer, files(&run.peer_cluster, &run.tools.peer_controller)).await?,
    ];
    let restarts = match nodes {
        Nodes::Real => "restarts_real",
        Nodes::Fake => "restarts_fake",
    };
    match nodes {
        Nodes::Real => real::measure(&sides, &effort, &run.chapters, &results).await?,
        Nodes::Fake => fake::measure(&sides, &run.tools, &effort, &results).await?,
    }
    for side in sides {
        results.put(restarts, side.product, vec![side.restarts() as f64])?;
        side.stop().await?;
    }
    Ok(())
}
