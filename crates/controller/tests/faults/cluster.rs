//! The real cluster that the tests run on: a `devcluster` without nodes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

const KUBECONFIG: &str = "PADDOCK_TEST_KUBECONFIG";
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds");

/// A kind, as far as its address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub name: &'static str,
    pub plural: &'static str,
}

pub const POD: Kind = Kind { group: "", version: "v1", name: "Pod", plural: "pods" };
pub const CLAIM: Kind =
    Kind { group: "", version: "v1", name: "PersistentVolumeClaim", plural: "persistentvolumeclaims" };
pub const NODE: Kind = Kind { group: "", version: "v1", name: "Node", plural: "nodes" };
pub const NAMESPACE: Kind = Kind { group: "", version: "v1", name: "Namespace", plural: "namespaces" };
pub const SESSION: Kind =
    Kind { group: "paddock.dev", version: "v1alpha1", name: "Session", plural: "sessions" };
pub const AGENT: Kind = Kind { group: "paddock.dev", version: "v1alpha1", name: "Agent", plural: "agents" };
pub const SANDBOX: Kind =
    Kind { group: "agents.x-k8s.io", version: "v1beta1", name: "Sandbox", plural: "sandboxes" };
pub const TEMPLATE: Kind = Kind {
    group: "extensions.agents.x-k8s.io",
    version: "v1beta1",
    name: "SandboxTemplate",
    plural: "sandboxtemplates",
};
pub const POOL: Kind = Kind {
    group: "extensions.agents.x-k8s.io",
    version: "v1beta1",
    name: "SandboxWarmPool",
    plural: "sandboxwarmpools",
};

impl Kind {
    pub fn api_version(self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn resource(self) -> ApiResource {
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version: self.api_version(),
            kind: self.name.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

/// Access to the cluster as its administrator.
#[derive(Clone)]
pub struct Cluster {
    pub config: kube::Config,
    pub client: kube::Client,
    /// Where the cluster keeps its files.
    pub folder: PathBuf,
}

impl Cluster {
    /// None, and a word about it, if there is no cluster to test on.
    pub async fn find(test: &str) -> Option<Self> {
        let Ok(path) = std::env::var(KUBECONFIG) else {
            crate::say(&format!("SKIPPED {test}: {KUBECONFIG} is not set"));
            return None;
        };
        let folder = Path::new(&path).parent().unwrap().to_owned();
        let kubeconfig = Kubeconfig::read_from(path).unwrap();
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.default_retry = false;
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = kube::Client::try_from(config.clone()).unwrap();
        let cluster = Self { config, client, folder };
        static READY: OnceCell<()> = OnceCell::const_new();
        READY
            .get_or_init(async || {
                cluster.install_kinds().await;
                cluster.is_collected().await;
            })
            .await;
        Some(cluster)
    }

    /// Of a kind within a namespace.
    pub fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// Of a kind without namespaces.
    pub fn api_all(&self, kind: &Kind) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &kind.resource())
    }

    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    async fn install_kinds(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for file in std::fs::read_dir(CRDS).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let definition: CustomResourceDefinition = serde_yaml::from_str(&text).unwrap();
            let name = definition.metadata.name.clone().unwrap();
            let apply = PatchParams::apply("paddock-faults").force();
            definitions.patch(&name, &apply, &Patch::Apply(&definition)).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while !is_established(&definitions.get(&name).await.unwrap()) {
                assert!(Instant::now() < deadline, "{name} is not served");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until the garbage collector knows the new kinds: it looks for such every half minute, and collects nothing that
    /// belongs to them before.
    async fn is_collected(&self) {
        let orphans: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        let name = format!("faults-{}", uuid::Uuid::new_v4());
        let orphan = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "ownerReferences": [{
                "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "gone", "uid": uuid::Uuid::new_v4(),
            }]},
        }))
        .unwrap();
        orphans.create(&PostParams::default(), &orphan).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while orphans.get_opt(&name).await.unwrap().is_some() {
            assert!(Instant::now() < deadline, "the garbage collector does not know Sandboxes");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Kills or starts a component of the control plane.
    pub async fn component(&self, action: &str, component: &str) {
        let name = self.folder.file_name().unwrap();
        let mut command = Command::new("devcluster");
        command.args(["component", action, "--component", component, "--name"]).arg(name);
        let output = command.output().await.expect("devcluster is on the PATH");
        assert!(
            output.status.success(),
            "devcluster component {action}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Waits until the API server says that it is ready; returns when that was.
    pub async fn is_back(&self) -> Timestamp {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            if self.client.request_text(request).await.is_ok() {
                return Timestamp::now();
            }
            assert!(Instant::now() < deadline, "the API server does not come back");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .is_some_and(|conditions| conditions.iter().any(|c| c.type_ == "Established" && c.status == "True"))
}
