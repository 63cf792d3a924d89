//! How long a pool of 20 takes from its creation until it says that all are ready.

use std::time::Instant;

use super::{POOL, POOL_SIZE};
use crate::results::Results;
use crate::side::{PATIENCE, Side};
use crate::{Effort, Result, in_turn};

/// The last pools stay, for what is measured next.
pub async fn measure(sides: &[Side; 2], effort: &Effort, results: &Results) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..effort.fills {
        for i in in_turn(round) {
            let side = &sides[i];
            let name = format!("fill-{round}");
            let began = Instant::now();
            side.create_pool(&name, POOL_SIZE).await?;
            side.wait_pool_full(&name, POOL_SIZE, PATIENCE).await?;
            times[i].push(began.elapsed().as_secs_f64());
            side.delete_pool(&name).await?;
        }
    }
    for (side, times) in sides.iter().zip(times) {
        results.put("fill_20_s", side.product, times)?;
        side.create_pool(POOL, POOL_SIZE).await?;
        side.wait_pool_full(POOL, POOL_SIZE, PATIENCE).await?;
        side.settled(POOL_SIZE).await?;
    }
    Ok(())
}
