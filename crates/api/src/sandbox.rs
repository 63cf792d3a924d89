//! The standard `Sandbox`: one pod, plus optional volumes and Service.
//!
//! Contract: kubernetes-sigs/agent-sandbox `agents.x-k8s.io/v1beta1`, as of v0.5.6.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Condition;
use crate::schema;

/// What a Sandbox shall be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[allow(clippy::duplicated_attributes, reason = "print columns repeat their keys")]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1beta1",
    kind = "Sandbox",
    plural = "sandboxes",
    namespaced,
    status = "SandboxStatus",
    derive = "PartialEq",
    category = "paddock",
    doc = "A Sandbox is one isolated pod with a stable name, plus optional volumes and a headless Service.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(oldSelf.volumeClaimTemplates) == has(self.volumeClaimTemplates) && (!has(self.volumeClaimTemplates) || self.volumeClaimTemplates == oldSelf.volumeClaimTemplates)").message("volumeClaimTemplates is immutable"))]
pub struct SandboxSpec {
    /// Whether the pod shall exist: `Running`, or `Suspended` (volumes and Service stay).
    #[serde(default)]
    pub operating_mode: OperatingMode,
    /// The pod to run.
    pub pod_template: PodTemplate,
    /// Whether a headless Service is kept for the pod. Absent keeps an existing one as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
    /// What happens to the Sandbox object when `shutdownTime` has passed.
    #[serde(default)]
    pub shutdown_policy: ShutdownPolicy,
    /// When the Sandbox ends, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub shutdown_time: Option<Timestamp>,
    /// Volumes of the pod that outlive it. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
}

/// Whether a Sandbox's pod shall exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperatingMode {
    /// The pod runs.
    #[default]
    Running,
    /// The pod is gone; volumes and Service stay.
    Suspended,
}

/// What happens to an expired Sandbox object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ShutdownPolicy {
    /// The object is deleted.
    Delete,
    /// The object stays, its pod is deleted.
    #[default]
    Retain,
}

/// A pod template whose spec is kept as the JSON it came in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations of the pod.
    #[serde(default, skip_serializing_if = "PodMetadata::is_empty")]
    pub metadata: PodMetadata,
    /// The pod's spec.
    // Shared, because thousands of Sandboxes are made from one template.
    #[schemars(schema_with = "schema::pod_spec")]
    pub spec: Arc<Value>,
}

/// Labels and annotations of a templated object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodMetadata {
    /// Labels to set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl PodMetadata {
    /// True when neither labels nor annotations are set.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// A volume claim made for each Sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeClaimTemplate {
    /// Name, labels and annotations of the claim.
    pub metadata: ClaimMetadata,
    /// The claim's spec.
    #[schemars(schema_with = "schema::claim_spec")]
    pub spec: Value,
}

/// Name, labels and annotations of a templated volume claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimMetadata {
    /// The volume's name in the pod; the claim is named `<name>-<sandbox>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels to set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a Sandbox is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStatus {
    /// Conditions: `Ready`, `Suspended`, `PodScheduled`, `Finished`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The node the pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The pod's addresses.
    #[serde(default, rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<String>,
    /// Label selector of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Name of the headless Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Cluster DNS name of the headless Service.
    #[serde(default, rename = "serviceFQDN", skip_serializing_if = "Option::is_none")]
    pub service_fqdn: Option<String>,
}
