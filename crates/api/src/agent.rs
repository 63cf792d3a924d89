//! `Agent`: a saved configuration that sessions are made from.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::duration::Duration;

/// How an agent behaves and what it runs on.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[allow(clippy::duplicated_attributes, reason = "print columns repeat their keys")]
#[kube(
    group = "paddock.dev",
    version = "v1alpha1",
    kind = "Agent",
    namespaced,
    status = "AgentStatus",
    derive = "PartialEq",
    category = "paddock",
    doc = "An Agent is a saved configuration: harness, model, prompt and life-cycle rules. Sessions are made from it.",
    printcolumn(name = "Harness", type_ = "string", json_path = ".spec.harness"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.poolRef.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='PoolReady')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must be at most 63 characters, because it becomes a label value")
)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// The program that does the work, for example `opencode`. A SandboxTemplate in the namespace declares it
    /// with the annotation paddock.dev/harness.
    #[serde(default = "default_harness")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub harness: String,
    /// The name people see; the object's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub display_name: Option<String>,
    /// The model's name as the model gateway knows it.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// Instructions added to the harness's own system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub prompt: Option<String>,
    /// Plain environment that the agent's shells see. Never put a secret here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// The pool to take sandboxes from; the harness's default pool when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<PoolRef>,
    /// Rules of a session's life.
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
}

/// The harness of an agent that names none.
pub const DEFAULT_HARNESS: &str = "opencode";

fn default_harness() -> String {
    DEFAULT_HARNESS.to_owned()
}

/// A plain environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!(self.name in ['PATH', 'HOME', 'SHELL', 'BASH_ENV', 'LD_PRELOAD', 'LD_LIBRARY_PATH']) && !self.name.startsWith('PADDOCK_') && !self.name.startsWith('OPENCODE_')").message("this environment variable name is reserved: PATH, HOME, SHELL, BASH_ENV, LD_PRELOAD, LD_LIBRARY_PATH, PADDOCK_* and OPENCODE_* belong to the sandbox"))]
pub struct EnvVar {
    /// Name: letters, digits and underscores, not starting with a digit.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Value, used as it is.
    #[serde(default)]
    #[schemars(length(max = 16_384))]
    pub value: String,
}

/// Names a SandboxWarmPool in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolRef {
    /// The SandboxWarmPool's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Rules of a session's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// How long one turn may take before it is aborted. 30m when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_timeout: Option<Duration>,
    /// How long a session may take to become Ready before it is Failed. 5m when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<Duration>,
}

/// [`Lifecycle::turn_timeout`] where nobody sets it.
pub const DEFAULT_TURN_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// [`Lifecycle::startup_timeout`] where nobody sets it.
pub const DEFAULT_STARTUP_TIMEOUT: Duration = Duration::from_secs(5 * 60);

impl Lifecycle {
    /// True when no rule is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These rules, with those set in `over` taking their place.
    pub fn overridden_by(&self, over: &Lifecycle) -> Lifecycle {
        Lifecycle {
            turn_timeout: over.turn_timeout.or(self.turn_timeout),
            startup_timeout: over.startup_timeout.or(self.startup_timeout),
        }
    }

    /// How long one turn may take.
    pub fn turn_timeout(&self) -> Duration {
        self.turn_timeout.unwrap_or(DEFAULT_TURN_TIMEOUT)
    }

    /// How long a session may take to become Ready.
    pub fn startup_timeout(&self) -> Duration {
        self.startup_timeout.unwrap_or(DEFAULT_STARTUP_TIMEOUT)
    }
}

/// What is known about an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The `metadata.generation` this was derived from.
    #[serde(default)]
    pub observed_generation: i64,
    /// Conditions: `PoolReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// `env` with the entries of `over` added, an entry of the same name replaced.
pub fn merge_env(env: &[EnvVar], over: &[EnvVar]) -> Vec<EnvVar> {
    let mut merged: BTreeMap<&str, &EnvVar> = env.iter().map(|e| (e.name.as_str(), e)).collect();
    merged.extend(over.iter().map(|e| (e.name.as_str(), e)));
    merged.into_values().cloned().collect()
}
