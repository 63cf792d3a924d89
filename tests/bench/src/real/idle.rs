//! Full pools, and nobody asks for anything: what does a controller write, and what does it cost?

use std::time::Duration;

use crate::results::Results;
use crate::side::Side;
use crate::{Effort, Result};

/// Both at the same time.
pub async fn measure(sides: &[Side; 2], effort: &Effort, results: &Results) -> Result<()> {
    let logs = [sides[0].audit()?, sides[1].audit()?];
    let mut cpu = [0.0; 2];
    for i in 0..2 {
        cpu[i] = sides[i].cpu_ms()?;
    }
    tokio::time::sleep(effort.idle).await;
    for i in 0..2 {
        let product = sides[i].product;
        let writes = logs[i].writes()?;
        results.put("idle_minutes", product, vec![minutes(effort.idle)])?;
        results.put("idle_writes", product, vec![writes.objects.len() as f64])?;
        results.put("idle_events", product, vec![writes.events.len() as f64])?;
        let used = sides[i].cpu_ms()? - cpu[i];
        results.put("idle_cpu_ms_per_minute", product, vec![used / minutes(effort.idle)])?;
    }
    Ok(())
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}
