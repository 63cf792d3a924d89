//! The harnesses: how long until one is there and until it speaks, and how much memory it takes. On a real cluster with LiteLLM and the
//! scripted model behind it, which answers at once.

mod by_hand;
mod cluster;
mod memory;
mod page;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use paddock_e2e::{Share, scenario};

use crate::Result;

/// All of it ends within this time.
const LIMIT: Duration = Duration::from_secs(3000);

/// What is needed. The cluster and Paddock are named by the environment, as for the scenarios.
#[derive(Args)]
pub struct Run {
    /// opencode's program, to be started by hand.
    #[arg(long)]
    opencode: PathBuf,
    /// Folder for the homes of what is started by hand.
    #[arg(long)]
    work: PathBuf,
    /// The page to write.
    #[arg(long)]
    page: PathBuf,
    /// The commit that is measured.
    #[arg(long)]
    commit: String,
    /// How often each thing is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The harnesses.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "opencode,claude-agent-sdk,codex-app-server,claude-code,codex"
    )]
    harnesses: Vec<String>,
}

/// What was measured of one harness.
#[derive(Debug, Default)]
pub struct Figures {
    /// Its name.
    pub name: String,
    /// From the pod's object until the pod is Ready, in seconds.
    pub boot_s: Vec<f64>,
    /// From the request for a session until it is ready, in milliseconds.
    pub ready_ms: Vec<f64>,
    /// From the same moment until the first of the model's words arrives at the client, in milliseconds.
    pub first_ms: Vec<f64>,
    /// Memory of a pod that waits, in MiB.
    pub idle_mib: Vec<f64>,
    /// The most that it took in a turn with a shell command, in MiB.
    pub busy_mib: Vec<f64>,
}

/// Measures, and writes the page.
pub async fn measure(run: &Run) -> Result<()> {
    let all = Mutex::new(Vec::new());
    scenario("the harnesses measured", Share::Alone, LIMIT, async |s| {
        for harness in &run.harnesses {
            let figures = cluster::measure(s, harness, run.rounds).await;
            s.log(&format!("{figures:?}"));
            keep(&all, figures);
        }
        let figures = by_hand::measure(&run.opencode, &s.model.base_url(), &run.work, run.rounds).await;
        keep(&all, figures.unwrap_or_else(|error| panic!("opencode by hand: {error}")));
    })
    .await;
    page::write(run, &all.into_inner()?)
}

fn keep(all: &Mutex<Vec<Figures>>, figures: Figures) {
    all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(figures);
}
