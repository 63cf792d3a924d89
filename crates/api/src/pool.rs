//! The standard `SandboxWarmPool`: sandboxes that are booted and wait for a user.

use std::cmp::Reverse;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::{AgentSpec, WorkspaceMode};
use crate::labels;
use crate::template::SandboxTemplate;

/// How many sandboxes wait, and what they are made from.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[allow(clippy::duplicated_attributes, reason = "print columns repeat their keys")]
#[kube(
    group = "extensions.agents.x-k8s.io",
    version = "v1beta1",
    kind = "SandboxWarmPool",
    plural = "sandboxwarmpools",
    shortname = "swp",
    namespaced,
    status = "SandboxWarmPoolStatus",
    derive = "PartialEq",
    category = "paddock",
    doc = "A SandboxWarmPool keeps a number of sandboxes booted, so that a new session finds one ready.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SandboxWarmPoolSpec {
    /// How many sandboxes wait.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: i32,
    /// The template the sandboxes are made from.
    pub sandbox_template_ref: TemplateRef,
    /// How members made from an older template are replaced.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,
}

fn one() -> i32 {
    1
}

/// Names a SandboxTemplate in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateRef {
    /// The SandboxTemplate's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How members made from an older template are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateStrategy {
    /// `Recreate`: at once. `OnReplenish`: when a member is used or lost.
    #[serde(default, rename = "type")]
    pub kind: UpdateStrategyType,
}

/// See [`UpdateStrategy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategyType {
    /// Members of an older template are deleted at once.
    Recreate,
    /// Members of an older template stay until they are used.
    #[default]
    OnReplenish,
}

/// How many sandboxes there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxWarmPoolStatus {
    /// The `metadata.generation` this was derived from.
    #[serde(default)]
    pub observed_generation: i64,
    /// Members that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Members that can be adopted at once.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the members' pods.
    #[serde(default)]
    pub selector: String,
}

/// How well a pool suits the agents that name none; the one that suits best serves them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suitability {
    keeps_workspace_as_wanted: bool,
    is_marked_as_default: bool,
    name: Reverse<Option<String>>,
}

impl Suitability {
    /// Of `pool`, whose members are made from `template`, for `agent`: whether they keep their workspace as it wants comes
    /// first, then whether the pool is marked as default, then its name. None where the harness is another.
    pub fn of(pool: &SandboxWarmPool, template: &SandboxTemplate, agent: &AgentSpec) -> Option<Self> {
        let of_template = template.metadata.annotations.as_ref();
        let harness = of_template.and_then(|annotations| annotations.get(labels::HARNESS));
        if harness != Some(&agent.harness) {
            return None;
        }
        let of_pool = pool.metadata.annotations.as_ref();
        let default = of_pool.and_then(|annotations| annotations.get(labels::DEFAULT_POOL));
        let claims = &template.spec.volume_claim_templates;
        let is_persistent =
            claims.iter().any(|claim| claim.metadata.name.as_deref() == Some(labels::WORKSPACE_VOLUME));
        Some(Self {
            keeps_workspace_as_wanted: is_persistent == (agent.workspace.mode == WorkspaceMode::Persistent),
            is_marked_as_default: default.is_some_and(|value| value == "true"),
            name: Reverse(pool.metadata.name.clone()),
        })
    }
}
