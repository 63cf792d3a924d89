//! The gateway's pods, and killing them as a power cut does.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

use crate::processes;
use crate::scenario::{Scenario, name_of, uid};

impl Scenario {
    /// The pods of the gateway.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn gateways(&self) -> Vec<Pod> {
        let selector = ListParams::default().labels("app.kubernetes.io/component=gateway");
        self.api::<Pod>().list(&selector).await.expect("a list of pods").items
    }

    /// The one gateway.
    ///
    /// # Panics
    /// When there are several.
    pub async fn the_gateway(&self) -> Pod {
        let mut pods = self.gateways().await;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        assert_eq!(pods.len(), 1, "this scenario wants one gateway");
        pods.remove(0)
    }

    /// Kills the processes of gateways. Returns how many there were.
    ///
    /// # Panics
    /// When one of them is gone already.
    pub async fn sigkill_gateways(&self, pods: &[Pod]) -> usize {
        let pids: Vec<u32> =
            pods.iter().flat_map(|pod| processes::of_pod(&uid(pod), "paddock-gateway")).collect();
        self.log(&format!("kills {} gateways", pids.len()));
        if !pids.is_empty() {
            processes::sigkill(&pids).await;
        }
        pids.len()
    }

    /// Removes pods at once: the kubelet waits ever longer before it starts a container that was killed again.
    ///
    /// # Panics
    /// When kubectl fails.
    pub async fn remove_pods(&self, pods: &[Pod]) {
        let names: Vec<String> = pods.iter().map(name_of).collect();
        let mut args =
            vec!["delete", "pods", "--force", "--grace-period=0", "--wait=false", "--ignore-not-found"];
        args.extend(names.iter().map(String::as_str));
        if !names.is_empty() {
            self.kubectl.run(&args).await.succeeded();
        }
    }
}
