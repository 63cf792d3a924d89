//! Label and annotation keys, Paddock's own and those of the agent-sandbox standard.

/// On Sessions, Sandboxes and Pods: the Agent's name.
pub const AGENT: &str = "paddock.dev/agent";
/// On Sandboxes and Pods: the name of the Session they serve.
pub const SESSION: &str = "paddock.dev/session";
/// On Sandboxes and Pods: the UID of the Session they serve. This label is the durable assignment.
pub const SESSION_UID: &str = "paddock.dev/session-uid";
/// On Sandboxes: which incarnation of the Session they serve, a decimal number.
pub const INCARNATION: &str = "paddock.dev/incarnation";
/// On Sandboxes and Pods (label) and SandboxTemplates (annotation): the harness that runs in the pod.
pub const HARNESS: &str = "paddock.dev/harness";
/// Annotation on Sessions: the Agent as whoever made the session has seen it, `<uid>/<resource version>`. The session is not made
/// from an earlier state of it.
pub const AGENT_SEEN: &str = "paddock.dev/agent-seen";
/// Label on Secrets: `"true"` lets Agents and Sessions of the namespace use their values: as environment variables, credentials and
/// headers.
pub const ENV_SECRET: &str = "paddock.dev/env";
/// Annotation on Agents: the branch that HTTP clients have given to an agent without a repository. It is shown to them, and holds
/// for the repository that the agent is given later.
pub const BRANCH: &str = "paddock.dev/branch";
/// Annotation on Agents: the URL of a picture, for HTTP clients that show one.
pub const PICTURE: &str = "paddock.dev/picture-url";
/// Annotation on Sessions: up to where the transcript of which pod is saved, `<pod uid>/<journal>.<seq>`. Written by a gateway
/// where the status asks for it.
pub const TRANSCRIPT_SAVED: &str = "paddock.dev/transcript-saved";
/// Annotation on SandboxTemplates: the container that becomes the harness; the first one by default.
pub const HARNESS_CONTAINER: &str = "paddock.dev/harness-container";
/// Annotation on SandboxTemplates: where the runner is, `injected` (first process of the harness's container, the default) or
/// `sidecar` (a container of its own beside the harness's, of the harness `http` only).
pub const RUNNER: &str = "paddock.dev/runner";
/// Annotation on SandboxTemplates: the image of a runner's own container, with the programs that equip a workspace (git); the
/// runner's, which has none, by default.
pub const RUNNER_IMAGE: &str = "paddock.dev/runner-image";
/// Annotation on SandboxTemplates of the harness `http`: the port at which the harness listens.
pub const HARNESS_PORT: &str = "paddock.dev/harness-port";
/// Annotation on SandboxTemplates of the harness `http`: what the harness can do, words separated by commas.
pub const HARNESS_FEATURES: &str = "paddock.dev/harness-features";
/// Annotation on SandboxTemplates of the harness `http`: the model that messages name, `provider/model`.
pub const HARNESS_MODEL: &str = "paddock.dev/harness-model";
/// Annotations on SandboxTemplates that shape how the harness is run. Sandboxes have them too.
pub const HARNESS_SETTINGS: [&str; 6] =
    [HARNESS_CONTAINER, RUNNER, RUNNER_IMAGE, HARNESS_PORT, HARNESS_FEATURES, HARNESS_MODEL];
/// Annotation on SandboxTemplates: the PriorityClass of pods that are made for a session, in place of the pool's.
pub const SESSION_PRIORITY_CLASS: &str = "paddock.dev/session-priority-class";
/// Annotation on SandboxWarmPools: `"true"` makes a pool the one its harness uses by default.
pub const DEFAULT_POOL: &str = "paddock.dev/default-pool";
/// On volume claims: the name of the Sandbox they were made for.
pub const SANDBOX: &str = "paddock.dev/sandbox";
/// Annotation on SandboxWarmPools: how many members may be missing while those of an older template are replaced, a
/// number or a share like `25%`.
pub const MAX_UNAVAILABLE: &str = "paddock.dev/max-unavailable";
/// Annotation on SandboxWarmPools: the size follows demand and never exceeds this; `spec.replicas` does not count then.
pub const MAX_REPLICAS: &str = "paddock.dev/max-replicas";
/// Annotation on SandboxWarmPools whose size follows demand: it never falls below this.
pub const MIN_REPLICAS: &str = "paddock.dev/min-replicas";
/// Annotation on SandboxWarmPools whose size follows demand: members beyond what demand asks for, a number or a share of
/// the sessions in use like `20%`.
pub const TARGET_SPARE: &str = "paddock.dev/target-spare";
/// Name of the volume claim template that makes a SandboxTemplate's pods persistent: it carries the workspace, the
/// harness's home and the runner's journal.
pub const WORKSPACE_VOLUME: &str = "workspace";
/// Annotation on Sandboxes: the volume claim of an earlier incarnation that this one's pod mounts as its workspace.
pub const WORKSPACE_CLAIM: &str = "paddock.dev/workspace-claim";
/// On a pool's Sandboxes: the ordinal the name is derived from, a decimal number.
pub const POOL_ORDINAL: &str = "paddock.dev/pool-ordinal";

/// Label on pool members that wait to be adopted: [`name_hash`] of the pool's name.
pub const WARM_POOL_SANDBOX: &str = "agents.x-k8s.io/warm-pool-sandbox";
/// Label: hash of the template's pod template the Sandbox was made from.
pub const TEMPLATE_HASH: &str = "agents.x-k8s.io/sandbox-template-hash";
/// Annotation: the name of the SandboxTemplate the Sandbox was made from.
pub const TEMPLATE_REF: &str = "agents.x-k8s.io/sandbox-template-ref";
/// Label: [`name_hash`] of the SandboxTemplate's name; NetworkPolicies select by it.
pub const TEMPLATE_REF_HASH: &str = "agents.x-k8s.io/sandbox-template-ref-hash";
/// Label on Pods: [`name_hash`] of the Sandbox's name; Services select by it.
pub const SANDBOX_NAME_HASH: &str = "agents.x-k8s.io/sandbox-name-hash";
/// Label: `warm` or `cold`, how the Sandbox came to its user.
pub const LAUNCH_TYPE: &str = "agents.x-k8s.io/launch-type";
/// Annotation on pool pods: the cluster autoscaler may evict them. Taken off at adoption.
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

/// The standard's hash of a name: FNV-1a, 32 bits, eight hex digits.
pub fn name_hash(name: &str) -> String {
    format!("{:08x}", fnv1a(name.as_bytes()))
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_hash_is_fnv1a_32() {
        // Reference values of the algorithm's authors.
        assert_eq!(name_hash(""), "811c9dc5");
        assert_eq!(name_hash("a"), "e40c292c");
        assert_eq!(name_hash("foobar"), "bf9cf968");
    }
}
