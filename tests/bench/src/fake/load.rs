//! Requests arrive at random at a given mean rate, whether earlier ones are served or not. The rate doubles until the
//! slowest hundredth takes half a second or more; then one rate in between is tried.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::POOL;
use crate::journal::Journal;
use crate::random::Random;
use crate::results::{Measured, Results};
use crate::side::{PATIENCE, Side};
use crate::{Effort, Result};

/// Where it starts, per second.
const FIRST: f64 = 2.0;
/// Where it ends at the latest.
const LAST: f64 = 1024.0;
/// What the slowest hundredth may take.
const LIMIT_MS: f64 = 500.0;
/// What is not ready then counts as this slow.
const TOO_LATE: Duration = Duration::from_secs(30);

/// The highest rate that each of the two can take.
pub async fn measure(sides: &[Side; 2], effort: &Effort, results: &Results) -> Result<()> {
    let random = &mut Random::new();
    eprintln!("    seed {}", random.seed());
    let mut best = [0.0_f64; 2];
    let mut broken: [Option<f64>; 2] = [None, None];
    let mut rate = FIRST;
    while rate <= LAST && broken.iter().any(Option::is_none) {
        for i in 0..2 {
            if broken[i].is_some() {
                continue;
            }
            if holds(&sides[i], rate, effort, random, results).await? {
                best[i] = rate;
            } else {
                broken[i] = Some(rate);
            }
        }
        rate *= 2.0;
    }
    for i in 0..2 {
        if let Some(over) = broken[i] {
            let between = over / std::f64::consts::SQRT_2;
            if best[i] > 0.0 && holds(&sides[i], between, effort, random, results).await? {
                best[i] = between;
            }
        }
        results.put("cliff_per_s", sides[i].product, vec![best[i]])?;
    }
    Ok(())
}

/// Whether the rate can be taken. One bad moment of the machine is forgiven.
async fn holds(
    side: &Side,
    rate: f64,
    effort: &Effort,
    random: &mut Random,
    results: &Results,
) -> Result<bool> {
    for attempt in 0..2 {
        let times = step(side, rate, attempt, effort, random).await?;
        let metric = format!("load_{rate:.0}_per_s_ms");
        let measured = Measured { metric, product: side.product, values: times };
        let p99 = measured.quantile(0.99).unwrap_or(f64::INFINITY);
        results.put(&measured.metric, side.product, measured.values)?;
        if p99 < LIMIT_MS {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How long each request took from when it was due, in milliseconds.
async fn step(
    side: &Side,
    rate: f64,
    attempt: usize,
    effort: &Effort,
    random: &mut Random,
) -> Result<Vec<f64>> {
    // Fewer than the pool has, so that nothing but a late refill can make it run dry.
    let arrivals = ((effort.load.as_secs_f64() * rate) as usize).min(effort.fake_pool * 8 / 10);
    let client = Arc::new(side.sender());
    let began = Instant::now();
    let mut due = began;
    let mut sent = Vec::with_capacity(arrivals);
    for n in 0..arrivals {
        due += Duration::from_secs_f64(random.exponential() / rate);
        let name = format!("load-{rate:.0}-{attempt}-{n}");
        tokio::time::sleep_until(due.into()).await;
        let (client, to_send) = (client.clone(), name.clone());
        sent.push((due, name, tokio::spawn(async move { client.send(&to_send, POOL).await })));
    }
    let mut refused = 0;
    let names: Vec<(Instant, String)> = {
        let mut names = Vec::new();
        for (due, name, sending) in sent {
            if let Err(error) = sending.await? {
                if refused == 0 {
                    eprintln!("    a request was refused: {error}");
                }
                refused += 1;
            }
            names.push((due, name));
        }
        names
    };
    // What came first is usually ready first: those are not looked at again.
    let ready = Cell::new(0);
    let all_ready = |journal: &Journal| {
        let is_ready = |name: &str| journal.get(name).is_some_and(|entry| entry.ready.is_some());
        while names.get(ready.get()).is_some_and(|(_, name)| is_ready(name)) {
            ready.set(ready.get() + 1);
        }
        ready.get() == names.len()
    };
    if refused == 0 {
        side.requests.wait(TOO_LATE, all_ready).await;
    }
    let times = names.iter().map(|(due, name)| {
        let ready = side.requests.get(name).and_then(|entry| entry.ready);
        ready.map_or(TOO_LATE, |(at, _)| at - *due).as_secs_f64() * 1000.0
    });
    let times: Vec<f64> = times.collect();

    side.give_back_all().await?;
    if !side.requests.wait(super::LONG_PATIENCE, |journal| journal.present() == 0).await {
        return Err("what was asked for under load did not go away".into());
    }
    side.wait_pool_full(POOL, effort.fake_pool, super::LONG_PATIENCE).await?;
    side.steady(POOL, effort.fake_pool, PATIENCE).await?;
    Ok(times)
}
