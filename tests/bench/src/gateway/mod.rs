//! The gateway beside nginx and haproxy, all in front of the same upstream on this machine's loopback addresses.
//!
//! The upstream answers a turn at once, so that what is measured is what stands before it. Each proxy checks a bearer key.
//! The gateway does what the others do not: it reads the message, finds the session, signs a token for its pod and looks at
//! the answer.

mod held;
mod load;
mod page;
mod proxies;
mod sessions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::Result;
use crate::process::Process;
use held::Hold;
use proxies::Proxy;

/// The rate at which latency and processor time are measured, per second.
const RATE: f64 = 1000.0;
/// Terminals that are open at the same time.
const TERMINALS: usize = 1_000;

/// What is needed.
#[derive(Args)]
pub struct Run {
    /// Folder of a cluster without nodes, for the gateway to read its sessions from.
    #[arg(long)]
    cluster: PathBuf,
    /// Paddock's gateway.
    #[arg(long)]
    gateway: PathBuf,
    /// What answers for pods.
    #[arg(long)]
    runner: PathBuf,
    /// Private key for Paddock's tokens.
    #[arg(long)]
    signing_key: PathBuf,
    /// Folder for settings and logs.
    #[arg(long)]
    work: PathBuf,
    /// The page to write.
    #[arg(long)]
    page: PathBuf,
    /// The commit that is measured.
    #[arg(long)]
    commit: String,
    /// How often all take their turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each measurement lasts, in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Turns that wait, and streams on which nothing happens, at the same time; 0 measures no memory.
    #[arg(long, default_value_t = 10_000)]
    held: usize,
}

/// What was measured of one.
#[derive(Debug, Default)]
pub struct Figures {
    /// As people call it.
    pub name: &'static str,
    /// Milliseconds of each request at the rate.
    pub times: Vec<f64>,
    /// Processor time of a request at the rate, in microseconds, a value a round. None of the upstream itself.
    pub cpu_us: Vec<f64>,
    /// Requests a second when so many as can be are sent, a value a round.
    pub most_per_s: Vec<f64>,
    /// Memory of a waiting turn, in KiB.
    pub turn_kib: Option<f64>,
    /// Memory of a stream on which nothing happens, in KiB.
    pub stream_kib: Option<f64>,
    /// Memory of a terminal on which nothing happens, in KiB.
    pub terminal_kib: Option<f64>,
}

/// Measures, and writes the page.
pub async fn measure(run: &Run) -> Result<()> {
    held::allow_many_files(run.held)?;
    std::fs::create_dir_all(&run.work)?;
    let upstream = Process::start(&run.runner, &["run".to_owned()], None, &run.work.join("upstream.log"))?;
    let names = sessions::make(&run.cluster).await?;
    let proxies = proxies::start(run, &names).await?;
    upstream.check()?;
    let mut figures: Vec<Figures> =
        proxies.iter().map(|proxy| Figures { name: proxy.name, ..Figures::default() }).collect();
    let last = Duration::from_secs(run.seconds);
    for round in 0..run.rounds {
        eprintln!("==> round {} of {}", round + 1, run.rounds);
        // Who comes first takes turns, too.
        for at in (0..proxies.len()).map(|n| (n + round) % proxies.len()) {
            let (proxy, figures) = (&proxies[at], &mut figures[at]);
            load::at_rate(proxy, RATE, Duration::from_secs(1)).await?; // warms up
            let before = cpu(proxy)?;
            let times = load::at_rate(proxy, RATE, last).await?;
            if let (Some(before), Some(after)) = (before, cpu(proxy)?) {
                figures.cpu_us.push((after - before) * 1000.0 / times.len() as f64);
            }
            figures.times.extend(times);
            figures.most_per_s.push(load::as_many_as_can_be(proxy, last).await?);
        }
    }
    let held = proxies.iter().zip(&mut figures).filter(|(proxy, _)| run.held > 0 && proxy.process.is_some());
    for (proxy, figures) in held {
        eprintln!(
            "==> {} streams at {}, then {TERMINALS} terminals, then {} turns",
            run.held, proxy.name, run.held
        );
        figures.stream_kib = Some(held::kib_each(proxy, Hold::Stream, run.held).await?);
        figures.terminal_kib = Some(held::kib_each(proxy, Hold::Terminal, TERMINALS).await?);
        // Last: the gateway's go on when their clients leave, for that is what it promises.
        figures.turn_kib = Some(held::kib_each(proxy, Hold::Turn, run.held).await?);
    }
    for proxy in &proxies {
        proxy.process.as_ref().map_or(Ok(()), Process::check)?;
    }
    page::write(run, &figures)
}

fn cpu(proxy: &Proxy) -> Result<Option<f64>> {
    proxy.process.as_ref().map(Process::cpu_ms).transpose()
}

/// A file in the folder for settings and logs.
fn put(work: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = work.join(name);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
