//! What is measured on real nodes.

mod burst;
mod failover;
mod fill;
mod idle;
mod lag;
mod warm;

pub use self::warm::STEPS;

use crate::results::Results;
use crate::side::Side;
use crate::{Effort, Result};

/// The pool that most is measured with.
const POOL: &str = "warm";
/// Its size.
const POOL_SIZE: usize = 20;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Chapter {
    /// A pool fills.
    Fill,
    /// Warm starts, one at a time.
    Warm,
    /// Warm starts at once.
    Burst,
    /// Nothing happens.
    Idle,
    /// Cold starts.
    Lag,
    /// The leader is lost.
    Failover,
}

/// Measures `chapters`, one after the other; within each, the two take turns. The pools are filled in any case.
pub async fn measure(
    sides: &[Side; 2],
    effort: &Effort,
    chapters: &[Chapter],
    results: &Results,
) -> Result<()> {
    eprintln!("==> pools of {POOL_SIZE} fill");
    fill::measure(sides, effort, results).await?;
    let wanted = |chapter| chapters.contains(&chapter);
    if wanted(Chapter::Warm) {
        eprintln!("==> warm starts, one at a time");
        warm::measure(sides, effort, results).await?;
    }
    if wanted(Chapter::Burst) {
        eprintln!("==> 15 warm starts at once");
        burst::measure(sides, effort, results).await?;
    }
    if wanted(Chapter::Idle) {
        eprintln!("==> at rest");
        idle::measure(sides, effort, results).await?;
    }
    if wanted(Chapter::Lag) {
        eprintln!("==> cold starts");
        lag::measure(sides, effort, results).await?;
    }
    if wanted(Chapter::Failover) {
        eprintln!("==> the leader is lost");
        failover::measure(sides, effort, results).await?;
    }
    Ok(())
}
