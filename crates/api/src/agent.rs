//! `Agent`: a saved configuration that sessions are made from.

mod equipment;
mod permissions;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::duration::Duration;

pub use self::equipment::{
    ConfigMapKeyRef, ConfigMapRef, CredentialSecretRef, Equipment, File, Header, McpHttp, McpServer,
    McpStdio, Repo, Requirements, Skill, SkillFile, has_credential, merge_files,
};
pub use self::permissions::{DeniedTool, Permissions, Tool};

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
#[x_kube(
    validation = Rule::new("!has(self.files) || self.files.filter(f, has(f.content)).map(f, f.content.size()).sum() <= 131072").message("files: their contents have more than 131072 characters in all; put large ones into a ConfigMap (configMapKeyRef) or into the repository"),
    validation = Rule::new("!has(self.skills) || self.skills.filter(s, has(s.files)).map(s, s.files.map(f, f.content.size()).sum()).sum() <= 131072").message("skills: their files have more than 131072 characters in all; put large ones into a ConfigMap (configMapRef)")
)]
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
    /// Environment that the agent's shells see. A secret belongs into a Secret: valueFrom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// A git repository that is cloned into the workspace when a session starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<Repo>,
    /// Files that are written into the workspace, over those of the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<File>,
    /// Knowledge that the harness reads when it needs it: folders with a SKILL.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub skills: Vec<Skill>,
    /// Servers of the Model Context Protocol, whose tools the model is offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub mcp_servers: Vec<McpServer>,
    /// Packages that are installed for the agent's shells when a session starts. What every session needs belongs into the
    /// pool's image, where it costs no time.
    #[serde(default, skip_serializing_if = "Requirements::is_empty")]
    pub requirements: Requirements,
    /// What the model may not do.
    #[serde(default, skip_serializing_if = "Permissions::is_empty")]
    pub permissions: Permissions,
    /// The pool to take sandboxes from; the harness's default pool when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<PoolRef>,
    /// Pools to try in this order when `poolRef` (or the default pool) has no sandbox ready, before a cold start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub fallback_pool_refs: Vec<PoolRef>,
    /// What becomes of the agent's files when its pod goes.
    #[serde(default, skip_serializing_if = "Workspace::is_default")]
    pub workspace: Workspace,
    /// How many sessions of this Agent may live at once, suspended ones included; no limit when absent. Has no
    /// meaning in a session's inline agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_sessions: Option<u32>,
    /// Rules of a session's life.
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
}

impl AgentSpec {
    /// What its sessions are equipped with.
    pub fn equipment(&self) -> Equipment {
        Equipment {
            repo: self.repo.clone(),
            files: self.files.clone(),
            skills: self.skills.clone(),
            mcp_servers: self.mcp_servers.clone(),
            requirements: self.requirements.clone(),
            permissions: self.permissions.clone(),
        }
    }
}

/// Where the agent's files, the harness's conversation and the runner's journal are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode == 'Persistent' || (!has(self.size) && !has(self.storageClassName))").message("size and storageClassName need mode: Persistent"))]
pub struct Workspace {
    /// `Ephemeral`: they go with the pod. `Persistent`: a volume per session keeps them over suspend, restart and a
    /// lost pod.
    #[serde(default)]
    pub mode: WorkspaceMode,
    /// Size of the volume of a session that starts cold; 10Gi when absent. Sessions from a pool have the volume
    /// that the pool's template declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    pub size: Option<String>,
    /// Storage class of that volume; the cluster's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Workspace {
    /// True when nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// See [`Workspace::mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkspaceMode {
    /// Gone with the pod.
    #[default]
    Ephemeral,
    /// On a volume of the session's own.
    Persistent,
}

/// Size of a persistent workspace where nobody sets it.
pub const DEFAULT_WORKSPACE_SIZE: &str = "10Gi";

/// The harness of an agent that names none.
pub const DEFAULT_HARNESS: &str = "opencode";

fn default_harness() -> String {
    DEFAULT_HARNESS.to_owned()
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.name in ['PATH', 'HOME', 'SHELL', 'BASH_ENV', 'LD_PRELOAD', 'LD_LIBRARY_PATH']) && !self.name.startsWith('PADDOCK_') && !self.name.startsWith('OPENCODE_')").message("this environment variable name is reserved: PATH, HOME, SHELL, BASH_ENV, LD_PRELOAD, LD_LIBRARY_PATH, PADDOCK_* and OPENCODE_* belong to the sandbox"),
    validation = Rule::new("!has(self.valueFrom) || self.value.size() == 0").message("give value or valueFrom, not both")
)]
pub struct EnvVar {
    /// Name: letters, digits and underscores, not starting with a digit.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Value, used as it is.
    #[serde(default)]
    #[schemars(length(max = 16_384))]
    pub value: String,
    /// Where the value is, in place of `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

impl EnvVar {
    /// A variable with this value.
    pub fn plain(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), value_from: None }
    }

    /// A variable whose value is under `key` in `secret`.
    pub fn from_secret(name: impl Into<String>, secret: impl Into<String>, key: impl Into<String>) -> Self {
        let secret_key_ref = SecretKeyRef { name: secret.into(), key: key.into() };
        Self { name: name.into(), value: String::new(), value_from: Some(EnvVarSource { secret_key_ref }) }
    }

    /// The Secret and key with the value, where it is in one.
    pub fn secret(&self) -> Option<&SecretKeyRef> {
        self.value_from.as_ref().map(|source| &source.secret_key_ref)
    }
}

/// Where a variable's value is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVarSource {
    /// In a Secret. It is read whenever a pod is given its session, and never written down in an object.
    pub secret_key_ref: SecretKeyRef,
}

/// Names a value in a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The Secret's name. It must have the label paddock.dev/env: "true": whoever makes an Agent shall not get hold
    /// of any other Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Whether the sandbox keeps a variable of this name to itself.
pub fn is_reserved_env(name: &str) -> bool {
    RESERVED_ENV.contains(&name) || RESERVED_ENV_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Names that belong to the sandbox, as the schema's rule has them.
const RESERVED_ENV: [&str; 6] = ["PATH", "HOME", "SHELL", "BASH_ENV", "LD_PRELOAD", "LD_LIBRARY_PATH"];
/// Beginnings of such names.
const RESERVED_ENV_PREFIXES: [&str; 2] = ["PADDOCK_", "OPENCODE_"];

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
    /// How long a Ready session may be idle (no turn, no terminal traffic) before `onIdle` happens. 1h when
    /// absent; 0s means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// What happens to an idle session. Without a persistent workspace Suspend is Stop, for there would be
    /// nothing to come back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_idle: Option<OnIdle>,
    /// How long a session may live in all, from its creation, before it is stopped. No limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Duration>,
    /// How long the record of a Failed or Dead session is kept before the Session object is deleted. 24h when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<Duration>,
    /// What happens when the pod is lost. Manual when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Whether a message to a suspended session resumes it. True when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_on_message: Option<bool>,
}

/// What happens to an idle session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnIdle {
    /// Its pod is given back, its volume stays; it can go on later.
    #[default]
    Suspend,
    /// It ends.
    Stop,
}

/// What happens when a session's pod is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Recovery {
    /// The session is Dead, with the reason.
    #[default]
    Manual,
    /// The session gets a new pod. What was on a persistent workspace is there again.
    Auto,
}

/// [`Lifecycle::turn_timeout`] where nobody sets it.
pub const DEFAULT_TURN_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// [`Lifecycle::startup_timeout`] where nobody sets it.
pub const DEFAULT_STARTUP_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// [`Lifecycle::idle_timeout`] where nobody sets it.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// [`Lifecycle::ttl_after_finished`] where nobody sets it.
pub const DEFAULT_TTL_AFTER_FINISHED: Duration = Duration::from_secs(24 * 60 * 60);

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
            idle_timeout: over.idle_timeout.or(self.idle_timeout),
            on_idle: over.on_idle.or(self.on_idle),
            max_lifetime: over.max_lifetime.or(self.max_lifetime),
            ttl_after_finished: over.ttl_after_finished.or(self.ttl_after_finished),
            recovery: over.recovery.or(self.recovery),
            resume_on_message: over.resume_on_message.or(self.resume_on_message),
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

    /// How long a Ready session may be idle; `None`: for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        Some(self.idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT)).filter(|timeout| !timeout.is_zero())
    }

    /// What happens to an idle session.
    pub fn on_idle(&self) -> OnIdle {
        self.on_idle.unwrap_or_default()
    }

    /// How long the record of an ended session is kept.
    pub fn ttl_after_finished(&self) -> Duration {
        self.ttl_after_finished.unwrap_or(DEFAULT_TTL_AFTER_FINISHED)
    }

    /// What happens when the pod is lost.
    pub fn recovery(&self) -> Recovery {
        self.recovery.unwrap_or_default()
    }

    /// Whether a message resumes a suspended session.
    pub fn resume_on_message(&self) -> bool {
        self.resume_on_message.unwrap_or(true)
    }
}

/// What is known about an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The `metadata.generation` this was derived from.
    #[serde(default)]
    pub observed_generation: i64,
    /// UIDs of the sessions that may live, where `maxSessions` is set. A session without a place here gets no
    /// sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub admitted_sessions: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use kube::CustomResourceExt;

    #[test]
    fn the_schema_reserves_the_same_names() {
        let crd = serde_json::to_string(&Agent::crd()).unwrap();
        let quoted: Vec<String> = RESERVED_ENV.iter().map(|name| format!("'{name}'")).collect();
        assert!(crd.contains(&format!("!(self.name in [{}])", quoted.join(", "))));
        for prefix in RESERVED_ENV_PREFIXES {
            assert!(crd.contains(&format!("!self.name.startsWith('{prefix}')")), "{prefix}");
            assert!(is_reserved_env(&format!("{prefix}X")));
        }
        assert!(is_reserved_env("PATH") && !is_reserved_env("PATHS") && !is_reserved_env("MY_PADDOCK_X"));
    }
}
