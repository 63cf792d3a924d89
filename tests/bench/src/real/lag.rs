//! Cold starts: how long after its pod's readiness does a user know that the sandbox is there? Both are seen by the
//! same program, so clocks don't matter. With Paddock the time holds the activation, too.

use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::ApiResource;

use super::POOL_SIZE;
use crate::journal::Journal;
use crate::product::has_condition;
use crate::results::Results;
use crate::side::{PATIENCE, Side, api};
use crate::{Effort, Result, in_turn};

/// A pool without members: everything from it starts cold.
const COLD: &str = "cold";

/// Lag, and the whole time of a cold start.
pub async fn measure(sides: &[Side; 2], effort: &Effort, results: &Results) -> Result<()> {
    let mut pods = Vec::new();
    for side in sides {
        side.create_pool(COLD, 0).await?;
        let kind = ApiResource {
            group: Pod::group(&()).into_owned(),
            version: Pod::version(&()).into_owned(),
            api_version: Pod::api_version(&()).into_owned(),
            kind: Pod::kind(&()).into_owned(),
            plural: Pod::plural(&()).into_owned(),
        };
        pods.push(Journal::start(api(&side.client, &kind), |pod| has_condition(&pod.data, "Ready")).await?);
    }
    let mut lags = [Vec::new(), Vec::new()];
    let mut totals = [Vec::new(), Vec::new()];
    for round in 0..effort.colds {
        for i in in_turn(round) {
            let name = format!("cold-{round}");
            let given = sides[i].ask(&name, COLD, PATIENCE).await?;
            let pod = pods[i].ready(&given.pod, PATIENCE).await?;
            let (pod_ready, _) = pod.ready.ok_or("not ready")?;
            lags[i].push(signed_millis(given.ready_instant, pod_ready));
            totals[i].push(given.took.as_secs_f64() * 1000.0);
            sides[i].give_back(&name).await?;
            sides[i].settled(POOL_SIZE).await?;
        }
    }
    for (i, side) in sides.iter().enumerate() {
        results.put("lag_ms", side.product, std::mem::take(&mut lags[i]))?;
        results.put("cold_ms", side.product, std::mem::take(&mut totals[i]))?;
    }
    Ok(())
}

/// Two watches may deliver in any order.
fn signed_millis(later: std::time::Instant, earlier: std::time::Instant) -> f64 {
    let ahead = later.saturating_duration_since(earlier).as_secs_f64();
    let behind = earlier.saturating_duration_since(later).as_secs_f64();
    (ahead - behind) * 1000.0
}
