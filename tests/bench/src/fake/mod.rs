//! What is measured beside fake nodes: kwok says of every pod at once that it is ready, so that only the controllers
//! and the API server limit what can be done.

mod load;
mod nodes;

use std::path::Path;
use std::time::{Duration, Instant};

use self::nodes::FakeNodes;
use crate::process::Process;
use crate::results::Results;
use crate::side::Side;
use crate::{Effort, Result, Tools};

/// The pool that is measured with.
const POOL: &str = "big";
/// How long thousands of pods may take.
const LONG_PATIENCE: Duration = Duration::from_secs(1500);

/// Measures everything; the two take turns.
pub async fn measure(sides: &[Side; 2], tools: &Tools, effort: &Effort, results: &Results) -> Result<()> {
    // Activations of all pods end here. `ip netns exec` becomes the program that it starts.
    let mut args = ["netns", "exec", &tools.netns].map(str::to_owned).to_vec();
    args.extend([tools.runner.display().to_string(), "run".to_owned()]);
    let runner = Process::start(Path::new("ip"), &args, None, &tools.logs.join("bench-runner.log"))?;
    let mut nodes = Vec::new();
    for (i, side) in sides.iter().enumerate() {
        nodes.push(FakeNodes::start(side, i, tools).await?);
    }
    runner.check()?;

    eprintln!("==> pools of {} fill, on fake nodes", effort.fake_pool);
    for side in sides {
        let cpu = side.cpu_ms()?;
        let began = Instant::now();
        side.create_pool(POOL, effort.fake_pool).await?;
        side.wait_pool_full(POOL, effort.fake_pool, LONG_PATIENCE).await?;
        results.put("fake_pool", side.product, vec![effort.fake_pool as f64])?;
        results.put("fake_fill_s", side.product, vec![began.elapsed().as_secs_f64()])?;
        let used = side.cpu_ms()? - cpu;
        results.put("fake_fill_cpu_ms_per_member", side.product, vec![used / effort.fake_pool as f64])?;
        results.put("rss_fake_pool_mib", side.product, vec![side.rss_mib()?])?;
    }

    eprintln!("==> load that grows");
    load::measure(sides, effort, results).await?;

    eprintln!("==> pools of {} fill, for memory", effort.fake_cached);
    for side in sides {
        side.scale_pool(POOL, effort.fake_cached).await?;
        side.wait_pool_full(POOL, effort.fake_cached, LONG_PATIENCE).await?;
    }
    // What the last burst needed may be given back.
    tokio::time::sleep(Duration::from_secs(10)).await;
    for side in sides {
        results.put("cached_pods", side.product, vec![effort.fake_cached as f64])?;
        results.put("rss_cached_mib", side.product, vec![side.rss_mib()?])?;
    }
    Ok(())
}
