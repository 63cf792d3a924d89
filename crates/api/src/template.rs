//! The standard `SandboxTemplate`: what a pool's sandboxes look like.
//!
//! A template with the annotation [`crate::labels::HARNESS`] is a *harness template*: the controller
//! adds the runner, its probes and its volumes to every pod made from it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sandbox::{PodTemplate, VolumeClaimTemplate};
use crate::schema;

/// What sandboxes made from this template look like.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[allow(clippy::duplicated_attributes, reason = "print columns repeat their keys")]
#[kube(
    group = "extensions.agents.x-k8s.io",
    version = "v1beta1",
    kind = "SandboxTemplate",
    namespaced,
    derive = "PartialEq",
    category = "paddock",
    doc = "A SandboxTemplate says what the sandboxes of a pool look like. With the annotation paddock.dev/harness Paddock adds its runner to their pods.",
    printcolumn(
        name = "Harness",
        type_ = "string",
        json_path = ".metadata.annotations.paddock\\.dev/harness"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SandboxTemplateSpec {
    /// The pod to run.
    pub pod_template: PodTemplate,
    /// Whether sandboxes get a headless Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
    /// Volumes of the pod that outlive it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// Rules of the NetworkPolicy made for this template's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyRules>,
    /// Whether a NetworkPolicy is kept for this template's pods.
    #[serde(default)]
    pub network_policy_management: NetworkPolicyManagement,
    /// Whether a claim may set environment variables.
    #[serde(default)]
    pub env_vars_injection_policy: InjectionPolicy,
    /// Whether a claim may bring volume claim templates.
    #[serde(default)]
    pub volume_claim_templates_policy: InjectionPolicy,
}

/// Ingress and egress rules in the form of `networking.k8s.io/v1` NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkPolicyRules {
    /// Who may connect to the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::network_rules")]
    pub ingress: Vec<Value>,
    /// Where the pods may connect to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::network_rules")]
    pub egress: Vec<Value>,
}

/// Who looks after the NetworkPolicy of a template's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkPolicyManagement {
    /// The controller.
    #[default]
    Managed,
    /// Somebody else.
    Unmanaged,
}

/// What a claim may add to a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InjectionPolicy {
    /// New entries only.
    Allowed,
    /// New entries, and replacements of the template's.
    Overrides,
    /// Nothing.
    #[default]
    Disallowed,
}
