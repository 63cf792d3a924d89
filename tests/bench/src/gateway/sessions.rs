//! Sessions that are Ready, all at the one upstream.

use std::path::Path;

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use paddock_runnerapi::PORT;
use serde_json::json;

use crate::product::Product;
use crate::{NAMESPACE, Result};

/// How many.
const SESSIONS: usize = 100;

/// Makes them as a controller would have left them; returns their names.
pub async fn make(cluster: &Path) -> Result<Vec<String>> {
    let kubeconfig = Kubeconfig::read_from(cluster.join("kubeconfig"))?;
    let client =
        Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?;
    let api: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &Product::Paddock.request_kind());
    let mut names = Vec::new();
    for n in 0..SESSIONS {
        let name = format!("bench-{n}");
        let session = serde_json::from_value(Product::Paddock.request(&name, "bench"))?;
        api.create(&PostParams::default(), &session).await?;
        let status = json!({"status": {
            "phase": "Ready", "incarnation": 1,
            "pod": {"name": name, "uid": format!("pod-{n}"), "ip": "127.0.0.1"},
            "sandbox": {"name": name, "uid": format!("sandbox-{n}")},
            "endpoint": format!("127.0.0.1:{PORT}"),
            "capabilities": {"messages": true, "terminal": true},
        }});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        names.push(name);
    }
    Ok(names)
}
