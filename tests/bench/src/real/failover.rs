//! The leader goes while a standby waits; a sandbox is asked for at the same moment. When is it there?

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{POOL, POOL_SIZE};
use crate::results::Results;
use crate::side::{PATIENCE, Side};
use crate::{Effort, Result, in_turn};

/// How long a fresh standby is given to start and fill its caches.
const STANDBY_STARTS: Duration = Duration::from_secs(5);

/// With a kill and with an orderly stop.
pub async fn measure(sides: &[Side; 2], effort: &Effort, results: &Results) -> Result<()> {
    for side in sides {
        side.start_controller()?;
    }
    tokio::time::sleep(STANDBY_STARTS).await;
    for (metric, signal) in [("killed_s", Signal::KILL), ("stopped_s", Signal::TERM)] {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..effort.failovers {
            for i in in_turn(round) {
                let name = format!("{}-{round}", metric.trim_end_matches("_s"));
                times[i].push(once(&sides[i], &name, signal).await?);
            }
        }
        for (side, times) in sides.iter().zip(times) {
            results.put(metric, side.product, times)?;
        }
    }
    Ok(())
}

async fn once(side: &Side, name: &str, signal: Signal) -> Result<f64> {
    let leader = side.take_leader();
    let began = Instant::now();
    leader.signal(signal)?;
    let given = side.ask(name, POOL, PATIENCE).await?;
    let took = (given.ready_instant - began).as_secs_f64();
    leader.end(Signal::KILL).await.or_else(|error| {
        // It has ended already.
        if error.is::<rustix::io::Errno>() { Ok(()) } else { Err(error) }
    })?;
    side.start_controller()?;
    side.give_back(name).await?;
    tokio::time::sleep(STANDBY_STARTS).await;
    side.settled(POOL_SIZE).await?;
    Ok(took)
}
