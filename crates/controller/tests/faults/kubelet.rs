//! A node without a machine: it takes the namespace's pods, boots a runner for each, and ends those that are deleted.

use std::collections::HashSet;
use std::time::Duration;

use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::cluster::{Cluster, POD};
use crate::follow::{Seen, follow};
use crate::runners::Runners;

/// The name that pods ask for, so that the cluster's own scheduler leaves them alone.
pub const SCHEDULER: &str = "faults";
const BOOT: Duration = Duration::from_millis(150);
/// Between a pod's deletion and its end.
const GRACE: Duration = Duration::from_millis(200);
/// Well within the time after which a node counts as lost.
const HEARTBEAT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(100);

/// Tells for ever that the node is well. It has room for nobody, in case the cluster's own scheduler looks at it.
pub async fn heartbeat(nodes: Api<DynamicObject>, node: String) {
    loop {
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": now()});
        let status = Patch::Merge(json!({"status": {"conditions": [ready]}}));
        // The server may be away, and the test may be over.
        let _ = nodes.patch_status(&node, &PatchParams::default(), &status).await;
        sleep(HEARTBEAT).await;
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Works for ever.
pub async fn run(cluster: Cluster, namespace: String, node: String, runners: Runners) {
    let api = cluster.api(&POD, &namespace);
    let (sender, mut pods) = mpsc::unbounded_channel();
    tokio::spawn(follow(api.clone(), move |seen| {
        let _ = sender.send(seen);
    }));
    let mut booted = HashSet::new();
    let mut ending = HashSet::new();
    while let Some(seen) = pods.recv().await {
        let pods = match seen {
            Seen::Changed(_, pod) => vec![pod],
            Seen::Listed(_, pods) => pods,
            Seen::Deleted(_, pod) => {
                runners.end(&text(&pod, "uid"));
                continue;
            }
        };
        for object in pods {
            let uid = text(&object, "uid");
            let deleting = !object["metadata"]["deletionTimestamp"].is_null();
            let pod = Pod { api: api.clone(), name: text(&object, "name"), uid: uid.clone() };
            if deleting {
                if ending.insert(uid) {
                    tokio::spawn(pod.end(runners.clone()));
                }
            } else if booted.insert(uid) {
                let binding = format!("/api/v1/namespaces/{namespace}/pods/{}/binding", pod.name);
                tokio::spawn(pod.boot(cluster.client.clone(), binding, node.clone(), runners.clone()));
            }
        }
    }
}

fn text(pod: &Value, field: &str) -> String {
    pod["metadata"][field].as_str().unwrap_or_default().to_owned()
}

struct Pod {
    api: Api<DynamicObject>,
    name: String,
    uid: String,
}

impl Pod {
    async fn boot(self, client: kube::Client, binding: String, node: String, runners: Runners) {
        let bind = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": self.name, "uid": self.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        loop {
            let request = http::Request::post(&binding)
                .header("content-type", "application/json")
                .body(bind.to_string().into_bytes())
                .unwrap();
            if settled(client.request_text(request).await) {
                break;
            }
            sleep(PAUSE).await;
        }
        sleep(BOOT).await;
        let address = runners.boot(&self.uid).await.to_string();
        let now = now();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
        let status = json!({"metadata": {"uid": self.uid}, "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now,
            "conditions": [condition("Initialized"), condition("ContainersReady"), condition("Ready")],
        }});
        let merge = Patch::Merge(&status);
        while !settled(self.api.patch_status(&self.name, &PatchParams::default(), &merge).await) {
            sleep(PAUSE).await;
        }
    }

    async fn end(self, runners: Runners) {
        sleep(GRACE).await;
        runners.end(&self.uid);
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        while !settled(self.api.delete(&self.name, &now).await) {
            sleep(PAUSE).await;
        }
    }
}

/// Whether the server has agreed, or refused for good: the pod is gone, or was done with before an answer was lost.
fn settled<T>(answer: kube::Result<T>) -> bool {
    match answer {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => matches!(status.code, 404 | 409 | 422),
        Err(_) => false,
    }
}
