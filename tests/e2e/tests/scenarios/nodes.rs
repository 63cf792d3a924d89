//! What a node takes with it when it is drained, and when it is lost.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use paddock_api::session::{Phase, Reason};
use paddock_api::{SandboxWarmPool, Session};
use paddock_e2e::environment::SpareNode;
use paddock_e2e::scenario::{finally, name_of, uid};
use paddock_e2e::{LIVENESS, Scenario, Share, command, measure, pool, scenario, wait};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(900);
/// Kubernetes' own patience with a node that is silent, and ours.
const NODE_LOSS: Duration = Duration::from_secs(240);
const MEMBERS: i32 = 3;

/// Pods go to the spare node while they can, and leave it seconds after it is lost.
fn rather_on(node: &str, spec: &mut Value) {
    let there = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
    spec["affinity"] = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 100, "preference": { "matchExpressions": [there] } },
    ] } });
    let lost =
        |key| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 });
    spec["tolerations"] = json!([
        { "key": "devcluster/spare", "operator": "Exists" },
        lost("node.kubernetes.io/not-ready"),
        lost("node.kubernetes.io/unreachable"),
    ]);
}

/// Two sessions on the spare node: one that outlives its pod, and one that does not.
struct Pair {
    auto: Session,
    manual: Session,
}

impl Pair {
    async fn on(s: &Scenario, node: &str, pool: &str, what: &str) -> Self {
        pool::full(s, &s.env.namespace, pool).await;
        let with =
            |recovery: &str| json!({ "poolRef": { "name": pool }, "lifecycle": { "recovery": recovery } });
        let agents = [
            s.agent(&format!("{what}-auto"), with("Auto")).await,
            s.agent(&format!("{what}-manual"), with("Manual")).await,
        ];
        let pair = Self {
            auto: s.ready_session(&format!("{what}-auto"), &agents[0]).await,
            manual: s.ready_session(&format!("{what}-manual"), &agents[1]).await,
        };
        for session in [&pair.auto, &pair.manual] {
            assert_eq!(node_of(session), node, "{session:?}");
        }
        pool::full(s, &s.env.namespace, pool).await;
        pair
    }

    /// What has become of them once the node's pods are gone.
    async fn moved(&self, s: &Scenario, node: &str, reason: Reason, limit: Duration) {
        let began = Instant::now();
        let dead = s.ended_within(&name_of(&self.manual), Phase::Dead, limit).await;
        measure::times(&format!("node's pods lost ({})→Dead", reason.as_str()), &[began.elapsed()]);
        let status = dead.status.expect("a status");
        assert_eq!(status.reason, Some(reason), "{}", status.message);
        let again = s.incarnation(&name_of(&self.auto), 2).await;
        measure::times(&format!("node's pods lost ({})→Ready again", reason.as_str()), &[began.elapsed()]);
        assert_ne!(node_of(&again), node);
        let word = s.word("moved");
        let answer = s.http.say(&name_of(&again), &format!("!say {word}")).await;
        assert!(answer.reply().contains(&word), "it answers from its new pod");
    }
}

fn node_of(session: &Session) -> String {
    session
        .status
        .as_ref()
        .and_then(|status| status.pod.as_ref())
        .map(|pod| pod.node.clone())
        .unwrap_or_default()
}

async fn size(s: &Scenario, pool: &str, replicas: i32) {
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    s.api::<SandboxWarmPool>().patch(pool, &PatchParams::default(), &patch).await.expect("another size");
    pool::full(s, &s.env.namespace, pool).await;
}

async fn power(spare: &SpareNode, what: &str) {
    let args = ["component", what, "--name", &spare.cluster, "--component", "node", "--node", &spare.number];
    command::run(&spare.devcluster, &args, None, Duration::from_secs(120)).await.succeeded();
}

async fn node_is_ready(s: &Scenario, node: &str) {
    wait::watch(&Api::<Node>::all(s.kube.clone()), node, "the node is Ready", LIVENESS, |node| {
        let conditions = node.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True").then_some(())
    })
    .await;
}

#[tokio::test]
async fn are_drained_and_lost() {
    scenario("a node is drained, then lost", Share::Shared, LIMIT, async |s| {
        let spare = s.env.spare_node();
        let node = format!("node{}", spare.number);
        let pool =
            s.private_pool("spare").replicas(MEMBERS).edit(|spec| rather_on(&node, spec)).create().await;

        let pair = Pair::on(s, &node, &pool, "drain").await;
        let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"];
        let uncordon = async {
            s.kubectl.run(&["uncordon", &node]).await.succeeded();
        };
        finally(
            async {
                s.kubectl.run(&drain).await.succeeded();
                pair.moved(s, &node, Reason::Evicted, LIVENESS).await;
                pool::full(s, &s.env.namespace, &pool).await;
            },
            uncordon,
        )
        .await;
        s.log("drained, and the pool is full elsewhere");

        // The next members come back to the spare node.
        size(s, &pool, 0).await;
        size(s, &pool, MEMBERS).await;
        let pair = Pair::on(s, &node, &pool, "lost").await;
        let back = async {
            power(spare, "start").await;
            node_is_ready(s, &node).await;
        };
        finally(
            async {
                power(spare, "kill").await;
                pair.moved(s, &node, Reason::NodeLost, NODE_LOSS).await;
                pool::full(s, &s.env.namespace, &pool).await;
                s.log("lost, and the pool is full elsewhere");
            },
            back,
        )
        .await;
        s.nothing_bound_to(&uid(&pair.manual)).await;
        let (sandboxes, pods) = s.bound_to(&uid(&pair.auto)).await;
        assert_eq!((sandboxes.len(), pods.len()), (1, 1), "what the node had of it is gone");
    })
    .await;
}
