//! One sandbox after the other: asked for, given, given back. Both pools are full again before the next one is asked
//! for, so that nothing else happens meanwhile.

use jiff::Timestamp;

use super::{POOL, POOL_SIZE};
use crate::audit::Write;
use crate::product::Product;
use crate::results::Results;
use crate::side::{Given, PATIENCE, Side};
use crate::{Effort, Result, in_turn};

/// Times, writes, processor time and memory.
pub async fn measure(sides: &[Side; 2], effort: &Effort, results: &Results) -> Result<()> {
    let mut given: [Vec<(String, Given)>; 2] = [Vec::new(), Vec::new()];
    let logs = [sides[0].audit()?, sides[1].audit()?];
    let mut cpu = [0.0; 2];
    for i in 0..2 {
        cpu[i] = sides[i].cpu_ms()?;
    }
    for round in 0..effort.lives {
        for i in in_turn(round) {
            let name = format!("warm-{round}");
            given[i].push((name.clone(), sides[i].ask(&name, POOL, PATIENCE).await?));
            sides[i].give_back(&name).await?;
            sides[i].settled(POOL_SIZE).await?;
        }
        if round % 10 == 9 {
            eprintln!("    {} of {}", round + 1, effort.lives);
        }
    }
    for i in 0..2 {
        let product = sides[i].product;
        let millis = |time: fn(&Given) -> std::time::Duration| {
            given[i].iter().map(|(_, g)| time(g).as_secs_f64() * 1000.0).collect()
        };
        results.put("warm_ms", product, millis(|g| g.took))?;
        results.put("warm_from_seen_ms", product, millis(|g| g.from_seen))?;

        let lives = effort.lives as f64;
        let used = sides[i].cpu_ms()? - cpu[i];
        results.put("cpu_ms_per_life", product, vec![used / lives])?;
        results.put("rss_pool_20_mib", product, vec![sides[i].rss_mib()?])?;

        let writes = logs[i].writes()?;
        results.put("writes_per_life", product, vec![writes.objects.len() as f64 / lives])?;
        results.put("events_per_life", product, vec![writes.events.len() as f64 / lives])?;
        let before = |ours: bool| {
            let count = |(name, g): &(String, Given)| {
                let until = made_ready(&writes.objects, product, name, g);
                let within = writes.objects.iter().filter(|w| w.at >= g.asked && w.at <= until);
                within.filter(|w| !ours || w.name == *name || w.name == g.pod).count() as f64
            };
            given[i].iter().map(count).collect()
        };
        results.put("writes_before_ready_own", product, before(true))?;
        results.put("writes_before_ready_all", product, before(false))?;
        tell(&writes.objects, lives);
        if product == Product::Paddock {
            let steps: Vec<[f64; 5]> =
                given[i].iter().filter_map(|(name, g)| steps(&writes.objects, name, g)).collect();
            for (at, metric) in STEPS.into_iter().enumerate() {
                results.put(metric, product, steps.iter().map(|step| step[at]).collect())?;
            }
        }
    }
    Ok(())
}

/// What a warm start is made of, one after the other.
pub const STEPS: [&str; 5] = [
    "warm_until_assignment_ms",
    "warm_assignment_ms",
    "warm_until_status_ms",
    "warm_status_ms",
    "warm_until_seen_ms",
];

/// How long each of [`STEPS`] took for the session `name`, in milliseconds.
fn steps(writes: &[Write], name: &str, given: &Given) -> Option<[f64; 5]> {
    let within = |w: &&Write| w.at >= given.asked && w.at <= given.ready;
    let assignment =
        writes.iter().filter(within).find(|w| w.resource == "sandboxes" && w.name == given.pod)?;
    let status = writes.iter().filter(within).find(|w| w.resource == "sessions/status" && w.name == name)?;
    let times = [given.asked, assignment.at, assignment.done, status.at, status.done, given.ready];
    let mut steps = [0.0; 5];
    for (step, pair) in steps.iter_mut().zip(times.windows(2)) {
        *step = pair[1].duration_since(pair[0]).as_secs_f64() * 1000.0;
    }
    Some(steps)
}

/// When the write came that made `name` ready: its last status before a watcher saw that it is. What comes after it
/// may still be faster than the watcher.
fn made_ready(writes: &[Write], product: Product, name: &str, given: &Given) -> Timestamp {
    let status = format!("{}/status", product.request_kind().plural);
    let of_it = writes.iter().filter(|w| w.name == name && w.resource == status && w.at <= given.ready);
    of_it.map(|w| w.at).max().unwrap_or(given.ready)
}

/// Which writes a life took, for people.
fn tell(writes: &[Write], lives: f64) {
    let mut kinds = std::collections::BTreeMap::new();
    for write in writes {
        *kinds.entry(write.resource.as_str()).or_insert(0.0) += 1.0 / lives;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{kind} {n:.1}")).collect();
    eprintln!("      {}", kinds.join(", "));
}
