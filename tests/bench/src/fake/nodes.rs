//! Fake nodes, and kwok, which plays their kubelets.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::process::Process;
use crate::side::Side;
use crate::{Result, Tools};

const NODES: usize = 100;

/// Running fake nodes of one cluster; they stop when this is dropped.
pub struct FakeNodes(#[expect(dead_code, reason = "kept so that it goes on")] Process);

impl FakeNodes {
    /// Starts kwok and registers the nodes.
    pub async fn start(side: &Side, index: usize, tools: &Tools) -> Result<Self> {
        let kubeconfig = side.kubeconfig();
        let args = [
            format!("--kubeconfig={}", kubeconfig.display()),
            "--manage-all-nodes=true".to_owned(),
            // Without leases nodes count as lost after 50 s, and their pods as not ready for ever.
            "--node-lease-duration-seconds=40".to_owned(),
            // What hack/bench.sh routes to the program that answers for all pods.
            format!("--cidr=10.{}.0.0/16", 190 + index),
        ];
        let log = tools.logs.join(format!("bench-kwok-{index}.log"));
        let kwok = Process::start(&tools.kwok, &args, None, &log)?;
        let nodes = Api::<Node>::all(side.client.clone());
        for n in 0..NODES {
            let name = format!("fake-{n}");
            let node: Node = serde_json::from_value(json!({
                "metadata": {
                    "name": name,
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                    "labels": {"kubernetes.io/hostname": name},
                },
            }))?;
            nodes.create(&PostParams::default(), &node).await?;
        }
        kwok.check()?;
        Ok(Self(kwok))
    }
}
