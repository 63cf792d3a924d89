//! A pool's size: what sessions ask for, what a person or an HPA says.

use std::time::{Duration, Instant};

use paddock_api::labels::{MAX_REPLICAS, MIN_REPLICAS, TARGET_SPARE};
use paddock_api::{Phase, SandboxWarmPool, Session};
use paddock_e2e::{LIVENESS, Scenario, Share, measure, pool, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);
const RESOURCE: &str = "sandboxwarmpools.extensions.agents.x-k8s.io";

/// Waits until the pool has this many Sandboxes, ready or not.
async fn has(s: &Scenario, pool: &str, size: usize) {
    wait::until(&format!("the pool has {size} members"), LIVENESS, async || {
        let found = pool::waiting(s, pool).await.len();
        if found == size { Ok(()) } else { Err(format!("{found} members")) }
    })
    .await;
}

#[tokio::test]
async fn follows_a_burst_and_stays_within_its_bounds() {
    scenario("demand", Share::Alone, LIMIT, async |s| {
        let pool = s
            .private_pool("demand")
            .replicas(0)
            .annotate(MAX_REPLICAS, "4")
            .annotate(MIN_REPLICAS, "1")
            .annotate(TARGET_SPARE, "1")
            .create()
            .await;
        wait::watch(&s.api::<SandboxWarmPool>(), &pool, "its one spare member is ready", LIVENESS, |pool| {
            (pool.status.as_ref()?.ready_replicas == 1).then_some(())
        })
        .await;
        let agent = s.agent("demand", json!({ "poolRef": { "name": pool } })).await;
        let names = ["b1", "b2"].map(|what| s.session(what, &agent, Value::Null));
        let burst = Instant::now();
        let names = wait::side_by_side(2, names).await;
        // One spare, and as many as the burst asked for.
        has(s, &pool, 3).await;
        measure::times("burst of 2→pool grown from 1 to 3", &[burst.elapsed()]);
        for name in &names {
            s.ready(name).await;
        }
        for what in ["c1", "c2", "c3"] {
            s.ready_session(what, &agent).await;
        }
        has(s, &pool, 4).await;

        // Without the annotation the size is the spec's again.
        let remove = format!("{MAX_REPLICAS}-");
        s.kubectl.run(&["annotate", RESOURCE, &pool, &remove]).await.succeeded();
        has(s, &pool, 0).await;
        for name in &names {
            let session = s.api::<Session>().get(name).await.expect("the session");
            assert_eq!(session.status.map(|status| status.phase), Some(Phase::Ready), "{name} keeps its pod");
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_told_in_an_event() {
    scenario("bad pool annotation", Share::Shared, LIMIT, async |s| {
        let pool = s.private_pool("odd").annotate(MAX_REPLICAS, "plenty").create().await;
        let about = format!("involvedObject.name={pool},reason=InvalidAnnotation");
        wait::until("the event is there", LIVENESS, async || {
            let told = s.kubectl.run(&["get", "events", "--field-selector", &about, "-o", "json"]).await;
            if told.stdout.contains("paddock.dev/max-replicas is") { Ok(()) } else { Err(told.stdout) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn follows_a_horizontal_pod_autoscaler() {
    scenario("HPA on a pool", Share::Alone, LIMIT, async |s| {
        let pool = s.private_pool("hpa").replicas(1).create().await;
        pool::full(s, &s.env.namespace, &pool).await;
        let scale = s.kubectl.run(&["get", RESOURCE, &pool, "--subresource=scale", "-o", "json"]).await;
        let scale: Value = serde_json::from_str(&scale.succeeded()).expect("a Scale");
        assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(1), &json!(1)));
        assert_eq!(scale["status"]["selector"], json!(pool::members(&pool)));
        // It raises what is below its minimum without any metrics, which this cluster does not have.
        let hpa = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": pool },
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": pool,
                },
                "minReplicas": 2, "maxReplicas": 3,
                "metrics": [{
                    "type": "Resource",
                    "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 } },
                }],
            },
        });
        s.kubectl.apply(&hpa).await.succeeded();
        wait::watch(&s.api::<SandboxWarmPool>(), &pool, "the HPA has scaled it", LIVENESS, |pool| {
            (pool.spec.replicas == 2).then_some(())
        })
        .await;
        pool::full(s, &s.env.namespace, &pool).await;
        s.kubectl.run(&["delete", "hpa", &pool]).await.succeeded();
        assert_eq!(pool::waiting(s, &pool).await.len(), 2);
    })
    .await;
}
