//! What is measured on real nodes.

mod burst;
mod failover;
mod fill;
mod idle;
mod lag;
mod warm;

use crate::results::Results;
use crate::side::Side;
use crate::{Effort, Result};

/// The pool that most is measured with.
const POOL: &str = "warm";
/// Its size.
const POOL_SIZE: usize = 20;

/// Measures everything, one after the other; within each, the two take turns.
pub async fn measure(sides: &[Side; 2], effort: &Effort, results: &Results) -> Result<()> {
    eprintln!("==> pools of {POOL_SIZE} fill");
    fill::measure(sides, effort, results).await?;
    eprintln!("==> warm starts, one at a time");
    warm::measure(sides, effort, results).await?;
    eprintln!("==> 15 warm starts at once");
    burst::measure(sides, effort, results).await?;
    eprintln!("==> at rest");
    idle::measure(sides, effort, results).await?;
    eprintln!("==> cold starts");
    lag::measure(sides, effort, results).await?;
    eprintln!("==> the leader is lost");
    failover::measure(sides, effort, results).await
}
