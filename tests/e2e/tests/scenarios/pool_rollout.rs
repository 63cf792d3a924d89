//! A new template reaches a pool while sessions take from it.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use paddock_api::session::StartupPath;
use paddock_api::template::SandboxTemplate;
use paddock_api::{Sandbox, SandboxWarmPool, labels};
use paddock_e2e::census::Census;
use paddock_e2e::scenario::name_of;
use paddock_e2e::{LIVENESS, Scenario, Share, measure, pool, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);
const SIZE: i32 = 4;
const SESSIONS: usize = 5;
/// The environment variable that tells old members from new ones.
const MARK: &str = "E2E_REVISION";

fn is_new(sandbox: &Sandbox) -> bool {
    let env = &sandbox.spec.pod_template.spec["containers"][0]["env"];
    env.as_array().into_iter().flatten().any(|variable| variable["name"] == MARK)
}

/// Adds a variable to the harness container of a template.
async fn change_template(s: &Scenario, name: &str) {
    let templates = s.api::<SandboxTemplate>();
    let template = templates.get(name).await.expect("the template");
    let mut spec = Value::clone(&template.spec.pod_template.spec);
    let env = spec["containers"][0]["env"].as_array_mut().expect("the harness has environment variables");
    env.push(json!({ "name": MARK, "value": "2" }));
    let patch = json!({ "spec": { "podTemplate": { "spec": { "containers": spec["containers"] } } } });
    templates.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("a changed template");
}

#[tokio::test]
async fn costs_no_warm_start_and_hands_out_nothing_stale() {
    scenario("template change under load", Share::Alone, LIMIT, async |s| {
        let pool = s.private_pool("roll").replicas(SIZE).rolling().create().await;
        pool::full(s, &s.env.namespace, &pool).await;
        let census = Census::start(s.api(), &format!("{}={}", pool::MARK, s.nonce()));
        let agent = s.agent("roll", json!({ "poolRef": { "name": pool } })).await;
        change_template(s, &pool).await;
        let changed = Instant::now();
        let mut new_ones = 0;
        for n in 0..SESSIONS {
            // A pool that has none left has none to give; more than one is there at any time otherwise.
            let current_ready = wait::until("two members are ready", LIVENESS, async || {
                let ready: Vec<_> =
                    pool::waiting(s, &pool).await.into_iter().filter(pool::is_ready).collect();
                if ready.len() < 2 {
                    return Err(format!("{} are", ready.len()));
                }
                Ok(ready.iter().filter(|sandbox| is_new(sandbox)).count() > 0)
            })
            .await;
            let session = s.ready_session(&format!("roll{n}"), &agent).await;
            let status = session.status.clone().expect("a status");
            assert_eq!(status.startup.expect("a start").path, StartupPath::Warm, "session {n}");
            let sandbox = status.sandbox.expect("a sandbox");
            let sandbox = s.api::<Sandbox>().get(&sandbox.name).await.expect("the session's sandbox");
            assert!(is_new(&sandbox) || !current_ready, "session {n} was given a stale member");
            new_ones += usize::from(is_new(&sandbox));
        }
        wait::until("all members are new", LIVENESS, async || {
            let members = pool::waiting(s, &pool).await;
            let old = members.iter().filter(|sandbox| !is_new(sandbox)).count();
            if old == 0 { Ok(()) } else { Err(format!("{old} of {} are old", members.len())) }
        })
        .await;
        pool::full(s, &s.env.namespace, &pool).await;
        measure::times("template changed→pool of 4 new and full, under load", &[changed.elapsed()]);
        measure::number(
            "sessions on the new template during the roll-out",
            format!("{new_ones} of {SESSIONS}"),
        );
        let count = census.count();
        let size = usize::try_from(SIZE).expect("a size");
        assert!(count.peak <= size + SESSIONS + size.div_ceil(4), "{} pods at once", count.peak);
        assert!(count.doubles.is_empty(), "{:?}", count.doubles);
    })
    .await;
}

#[tokio::test]
async fn waits_for_use_with_on_replenish() {
    scenario("OnReplenish", Share::Shared, LIMIT, async |s| {
        let pool = s.private_pool("keep").replicas(2).create().await;
        pool::full(s, &s.env.namespace, &pool).await;
        change_template(s, &pool).await;
        let agent = s.agent("keep", json!({ "poolRef": { "name": pool } })).await;
        let session = s.ready_session("keep", &agent).await;
        let sandbox = session.status.and_then(|status| status.sandbox).expect("a sandbox");
        let used = s.api::<Sandbox>().get(&sandbox.name).await.expect("the session's sandbox");
        assert!(!is_new(&used), "it was warm, and there was no other");
        pool::full(s, &s.env.namespace, &pool).await;
        let members = pool::waiting(s, &pool).await;
        let new_ones = members.iter().filter(|sandbox| is_new(sandbox)).count();
        assert_eq!((members.len(), new_ones), (2, 1), "only what was used is new");
        let session = s.ready_session("next", &agent).await;
        let sandbox = session.status.and_then(|status| status.sandbox).expect("a sandbox");
        let used = s.api::<Sandbox>().get(&sandbox.name).await.expect("the session's sandbox");
        assert!(is_new(&used), "once there is a new one, no stale one is taken");
    })
    .await;
}

#[tokio::test]
async fn a_fallback_serves_before_a_cold_start() {
    scenario("fallback pools", Share::Shared, LIMIT, async |s| {
        let empty = s.private_pool("empty").create().await;
        let other = s.private_pool("other").replicas(1).create().await;
        pool::full(s, &s.env.namespace, &other).await;
        let refs = json!({ "poolRef": { "name": empty }, "fallbackPoolRefs": [{ "name": other }] });
        let agent = s.agent("falls", refs).await;
        let session = s.ready_session("falls", &agent).await;
        let status = session.status.expect("a status");
        assert_eq!(status.startup.expect("a start").path, StartupPath::Warm);
        let sandbox = status.sandbox.expect("a sandbox").name;
        assert!(sandbox.starts_with(&other[..other.len().min(50)]), "{sandbox} is not of pool {other}");
        let pools = s.api::<SandboxWarmPool>();
        assert_eq!(name_of(&pools.get(&empty).await.expect("the empty pool")), empty);
        let adopted = s.api::<Sandbox>().get(&sandbox).await.expect("the session's sandbox");
        let all = adopted.metadata.labels.unwrap_or_default();
        assert!(!all.contains_key(labels::WARM_POOL_SANDBOX));
    })
    .await;
}
