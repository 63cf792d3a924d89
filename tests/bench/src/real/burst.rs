//! 15 sandboxes are asked for at once, from a full pool of 20.

use futures::future::try_join_all;

use super::{POOL, POOL_SIZE};
use crate::results::Results;
use crate::side::{PATIENCE, Side};
use crate::{Effort, Result, in_turn};

const AT_ONCE: usize = 15;

/// How long each took.
pub async fn measure(sides: &[Side; 2], effort: &Effort, results: &Results) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..effort.bursts {
        for i in in_turn(round) {
            let side = &sides[i];
            let names: Vec<String> = (0..AT_ONCE).map(|n| format!("burst-{round}-{n}")).collect();
            let given = try_join_all(names.iter().map(|name| side.ask(name, POOL, PATIENCE))).await?;
            times[i].extend(given.iter().map(|g| g.took.as_secs_f64() * 1000.0));
            side.give_back_all().await?;
            side.settled(POOL_SIZE).await?;
        }
    }
    for (side, times) in sides.iter().zip(times) {
        results.put("burst_ms", side.product, times)?;
    }
    Ok(())
}
