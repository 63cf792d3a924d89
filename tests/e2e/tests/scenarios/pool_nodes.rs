//! Pools and nodes: cordons, and members that no node takes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use paddock_api::SandboxWarmPool;
use paddock_api::session::StartupPath;
use paddock_e2e::scenario::{finally, uid};
use paddock_e2e::{LIVENESS, Scenario, Share, pool, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);
/// For how long it is watched that nothing happens: several rounds of whatever might repeat.
const QUIET: Duration = Duration::from_secs(20);

/// Runs `body` while every node is cordoned.
async fn while_cordoned<T>(s: &Scenario, body: impl AsyncFnOnce() -> T) -> T {
    let nodes: Api<Node> = Api::all(s.kube.clone());
    let all = nodes.list(&ListParams::default()).await.expect("a list of nodes").items;
    let names: Vec<String> = all.into_iter().filter_map(|node| node.metadata.name).collect();
    for name in &names {
        s.kubectl.run(&["cordon", name]).await.succeeded();
    }
    let uncordon = async {
        for name in &names {
            s.kubectl.run(&["uncordon", name]).await.succeeded();
        }
    };
    finally(body(), uncordon).await
}

async fn ready_replicas(s: &Scenario, name: &str, wanted: i32) {
    let what = format!("{wanted} members are ready");
    wait::watch(&s.api::<SandboxWarmPool>(), name, &what, LIVENESS, |pool| {
        (pool.status.as_ref()?.ready_replicas == wanted).then_some(())
    })
    .await;
}

/// The pool's pods: UIDs of those that wait for sessions.
async fn pods(s: &Scenario, pool: &str) -> BTreeSet<String> {
    let selector = ListParams::default().labels(&pool::members(pool));
    s.api::<Pod>().list(&selector).await.expect("a list of pods").items.iter().map(uid).collect()
}

/// Looks again and again that the pool's pods stay the ones they are.
async fn stay(s: &Scenario, pool: &str, expected: &BTreeSet<String>) {
    let began = Instant::now();
    while began.elapsed() < QUIET {
        let now = pods(s, pool).await;
        assert_eq!(now, *expected, "members were replaced, which would help nobody");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn members_on_cordoned_nodes_are_not_ready_and_serve_while_there_is_nothing_else() {
    scenario("cordon", Share::Alone, LIMIT, async |s| {
        let pool = s.private_pool("cordon").replicas(2).create().await;
        pool::full(s, &s.env.namespace, &pool).await;
        let agent = s.agent("cordon", json!({ "poolRef": { "name": pool } })).await;
        while_cordoned(s, async || {
            ready_replicas(s, &pool, 0).await;
            let session = s.ready_session("cordon", &agent).await;
            let start = session.status.and_then(|status| status.startup).expect("a start");
            assert_eq!(start.path, StartupPath::Warm, "a cold pod would find no node");
            // One left that serves, and others that wait for a node: two of the size and one of the surge.
            let waiting = wait::until("the refill waits", LIVENESS, async || {
                let pods = pods(s, &pool).await;
                if pods.len() == 3 { Ok(pods) } else { Err(format!("{} pods", pods.len())) }
            })
            .await;
            stay(s, &pool, &waiting).await;
        })
        .await;
        pool::full(s, &s.env.namespace, &pool).await;
    })
    .await;
}

#[tokio::test]
async fn members_that_no_node_takes_are_held() {
    scenario("unschedulable pool", Share::Shared, LIMIT, async |s| {
        let nowhere = |pod: &mut Value| pod["nodeSelector"] = json!({ "e2e.paddock.dev/no-such": "node" });
        let pool = s.private_pool("nowhere").replicas(2).edit(nowhere).create().await;
        let held = wait::until("both members have a pod", LIVENESS, async || {
            let pods = pods(s, &pool).await;
            if pods.len() == 2 { Ok(pods) } else { Err(format!("{} pods", pods.len())) }
        })
        .await;
        stay(s, &pool, &held).await;
    })
    .await;
}

#[tokio::test]
async fn members_with_scheduling_gates_are_held_until_they_are_lifted() {
    scenario("gated pool", Share::Shared, LIMIT, async |s| {
        let gates = |pod: &mut Value| pod["schedulingGates"] = json!([{ "name": "e2e.paddock.dev/wait" }]);
        let pool = s.private_pool("gates").replicas(1).edit(gates).create().await;
        let held = wait::until("the member has a pod", LIVENESS, async || {
            let pods = pods(s, &pool).await;
            if pods.len() == 1 { Ok(pods) } else { Err(format!("{} pods", pods.len())) }
        })
        .await;
        stay(s, &pool, &held).await;
        for sandbox in pool::waiting(s, &pool).await {
            let lift = Patch::Merge(json!({ "spec": { "schedulingGates": null } }));
            let name = sandbox.metadata.name.expect("a name");
            s.api::<Pod>().patch(&name, &PatchParams::default(), &lift).await.expect("the gate is lifted");
        }
        ready_replicas(s, &pool, 1).await;
        assert_eq!(pods(s, &pool).await, held);
    })
    .await;
}
