//! The whole controller on an API server in memory, in virtual time (promises.md).
//!
//! Every run is told by its seed: what users do, what goes wrong and when. A failing seed is printed, and
//! `PADDOCK_SIM_SEED=<n>` runs it alone; `PADDOCK_SIM_RUNS=<n>` sets how many are tried.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chaos;
mod dice;
mod faults;
mod nodes;
mod objects;
mod process;
mod rest;
mod runner;
mod safety;
mod users;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many random histories a plain test run tries.
const RUNS: u64 = 300;

/// Runs a future on a clock that stands still but for sleeping.
fn simulate<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[test]
fn random_histories_break_no_promise() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .try_init();
    if let Some(seed) = number("PADDOCK_SIM_SEED") {
        let (rested, beyond) = simulate(chaos::run(seed));
        eprintln!("at rest after {rested:?}; {beyond} pods beyond what was wanted");
        return;
    }
    let runs = number("PADDOCK_SIM_RUNS").unwrap_or(RUNS);
    let next = AtomicU64::new(0);
    let begun = Instant::now();
    let worst = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(1, usize::from))
            .map(|_| scope.spawn(|| several(&next, runs)))
            .collect();
        let each =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        each.fold((Duration::ZERO, i64::MIN), |a, b| (a.0.max(b.0), a.1.max(b.1)))
    });
    eprintln!(
        "{runs} histories in {:?}; at rest after {:?} at the latest; {} pods beyond what was wanted at most",
        begun.elapsed(),
        worst.0,
        worst.1
    );
}

fn several(next: &AtomicU64, runs: u64) -> (Duration, i64) {
    let mut worst = (Duration::ZERO, i64::MIN);
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= runs {
            return worst;
        }
        match catch_unwind(AssertUnwindSafe(|| simulate(chaos::run(seed)))) {
            Ok((rested, beyond)) => worst = (worst.0.max(rested), worst.1.max(beyond)),
            Err(panic) => {
                eprintln!("failing seed: PADDOCK_SIM_SEED={seed}");
                if number("PADDOCK_SIM_KEEP_GOING").is_none() {
                    next.store(runs, Ordering::Relaxed);
                    resume_unwind(panic);
                }
            }
        }
    }
}
