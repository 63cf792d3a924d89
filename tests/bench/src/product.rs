//! The two that are compared: how each is asked for a sandbox, and how it says that the sandbox is there.

use std::path::Path;

use clap::ValueEnum;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::NAMESPACE;

/// The image of every pod: see `images/bench-runner`.
const IMAGE: &str = "localhost/paddock/bench-runner:dev";
/// The harness that the template declares; the runner in the image doesn't care.
const HARNESS: &str = "bench";
/// The template that all pools use.
const TEMPLATE: &str = "bench";

const EXTENSIONS: &str = "extensions.agents.x-k8s.io/v1beta1";
const PADDOCK: &str = "paddock.dev/v1alpha1";

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// This repository's.
    Paddock,
    /// agent-sandbox.
    Peer,
}

impl Product {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paddock => "Paddock",
            Self::Peer => "agent-sandbox",
        }
    }

    /// The kind by which a user asks for a sandbox.
    pub fn request_kind(self) -> ApiResource {
        match self {
            Self::Paddock => kind("paddock.dev", "v1alpha1", "Session", "sessions"),
            Self::Peer => kind("extensions.agents.x-k8s.io", "v1beta1", "SandboxClaim", "sandboxclaims"),
        }
    }

    /// Asks for a sandbox of `pool`.
    pub fn request(self, name: &str, pool: &str) -> Value {
        match self {
            Self::Paddock => object(PADDOCK, "Session", name, json!({"agentRef": {"name": pool}})),
            Self::Peer => object(EXTENSIONS, "SandboxClaim", name, json!({"warmPoolRef": {"name": pool}})),
        }
    }

    /// Whether the user may use the sandbox.
    pub fn is_ready(self, request: &DynamicObject) -> bool {
        match self {
            Self::Paddock => request.data["status"]["phase"] == "Ready",
            Self::Peer => has_condition(&request.data, "Ready"),
        }
    }

    /// The name of the pod that was given; the Sandbox has the same.
    pub fn pod_of(self, request: &DynamicObject) -> Option<&str> {
        match self {
            Self::Paddock => request.data["status"]["pod"]["name"].as_str(),
            Self::Peer => request.data["status"]["sandbox"]["name"].as_str(),
        }
    }

    /// What has to be there before any pool.
    pub fn template(self) -> (ApiResource, Value) {
        let pod = match self {
            // The controller makes a harness pod of it.
            Self::Paddock => json!({
                "automountServiceAccountToken": false,
                "containers": [{"name": "harness", "image": IMAGE, "resources": resources()}],
            }),
            Self::Peer => pod_as_paddock_makes_it(),
        };
        let spec = json!({"podTemplate": {"spec": pod}, "networkPolicyManagement": "Unmanaged"});
        let mut template = object(EXTENSIONS, "SandboxTemplate", TEMPLATE, spec);
        if self == Self::Paddock {
            template["metadata"]["annotations"] = json!({"paddock.dev/harness": HARNESS});
        }
        (kind("extensions.agents.x-k8s.io", "v1beta1", "SandboxTemplate", "sandboxtemplates"), template)
    }

    /// A pool, and the Agent that uses it.
    pub fn pool(self, name: &str, replicas: usize) -> Vec<(ApiResource, Value)> {
        let spec = json!({"replicas": replicas, "sandboxTemplateRef": {"name": TEMPLATE}});
        let mut objects = vec![(pool_kind(), object(EXTENSIONS, "SandboxWarmPool", name, spec))];
        if self == Self::Paddock {
            let spec = json!({"harness": HARNESS, "model": "none", "poolRef": {"name": name}});
            let agents = kind("paddock.dev", "v1alpha1", "Agent", "agents");
            objects.insert(0, (agents, object(PADDOCK, "Agent", name, spec)));
        }
        objects
    }

    /// Arguments of the controller. Both elect a leader, as they do where they are installed.
    pub fn controller_args(self, identity: &str, ports: [u16; 2], signing_key: &Path) -> Vec<String> {
        match self {
            Self::Paddock => vec![
                format!("--admin-listen=127.0.0.1:{}", ports[0]),
                format!("--lease-namespace={NAMESPACE}"),
                format!("--identity={identity}"),
                format!("--signing-key-file={}", signing_key.display()),
                format!("--runner-image={IMAGE}"),
            ],
            Self::Peer => vec![
                "--extensions".to_owned(),
                // Needs certificates and a Service; what it does is converting from v1alpha1, which nobody uses here.
                "--enable-webhook=false".to_owned(),
                format!("--leader-election-namespace={NAMESPACE}"),
                format!("--metrics-bind-address=127.0.0.1:{}", ports[0]),
                format!("--health-probe-bind-address=127.0.0.1:{}", ports[1]),
            ],
        }
    }
}

/// Pools, of both.
pub fn pool_kind() -> ApiResource {
    kind("extensions.agents.x-k8s.io", "v1beta1", "SandboxWarmPool", "sandboxwarmpools")
}

/// Sandboxes, of both.
pub fn sandbox_kind() -> ApiResource {
    kind("agents.x-k8s.io", "v1beta1", "Sandbox", "sandboxes")
}

/// Whether a condition of this type is true.
pub fn has_condition(object: &Value, condition: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["type"] == condition && c["status"] == "True"))
}

/// The same containers, volumes and probes that Paddock's controller makes of its template, so that a kubelet has
/// the same work with both.
fn pod_as_paddock_makes_it() -> Value {
    let probe = |path: &str| json!({"path": path, "port": paddock_runnerapi::PORT});
    let (live, ready) = (probe(paddock_runnerapi::LIVEZ), probe(paddock_runnerapi::READYZ));
    let bin = paddock_runnerapi::INSTALL_DIR;
    let volumes = ["bin", "state", "workspace", "home", "tmp"];
    let volumes = volumes.map(|name| json!({"name": format!("paddock-{name}"), "emptyDir": {}}));
    json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 10,
        "initContainers": [{
            "name": "paddock-runner",
            "image": IMAGE,
            "args": ["install", bin],
            "volumeMounts": [{"name": "paddock-bin", "mountPath": bin}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        }],
        "containers": [{
            "name": "harness",
            "image": IMAGE,
            "command": [format!("{bin}/paddock-runner"), "run", "--"],
            "ports": [{"name": "runner", "containerPort": paddock_runnerapi::PORT, "protocol": "TCP"}],
            "resources": resources(),
            "startupProbe": {"httpGet": ready, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 300},
            "readinessProbe": {"httpGet": ready, "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 3},
            "livenessProbe": {"httpGet": live, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
            "volumeMounts": [
                {"name": "paddock-bin", "mountPath": bin, "readOnly": true},
                {"name": "paddock-state", "mountPath": paddock_runnerapi::DEFAULT_STATE_DIR},
                {"name": "paddock-workspace", "mountPath": paddock_runnerapi::DEFAULT_WORKSPACE},
                {"name": "paddock-home", "mountPath": "/home/agent"},
                {"name": "paddock-tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": volumes,
    })
}

fn resources() -> Value {
    json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}})
}

fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn object(api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    })
}
