//! Kinds cut down to the fields that Paddock reads.
//!
//! A full Pod costs ten times the memory of what is decided on, and caches hold thousands. These types are filled
//! straight from the server's JSON; what is not named here (managed fields, annotations, the containers) is never kept.
//! They are for reading only: writing one back would erase everything that it left out.

mod node;
mod secret;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};

pub use self::node::{NodeCondition, SlimNode, SlimNodeSpec, SlimNodeStatus};
pub use self::secret::{SlimSecret, ValueSize};

/// A pod, without what Paddock does not read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SlimPod {
    /// Only name, namespace, uid, resourceVersion, labels, ownerReferences, creationTimestamp and deletionTimestamp.
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// What was asked for.
    #[serde(default)]
    pub spec: SlimPodSpec,
    /// What is the case.
    #[serde(default)]
    pub status: SlimPodStatus,
}

/// The part of a pod's spec that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimPodSpec {
    /// The node that the pod was bound to.
    pub node_name: Option<String>,
    /// Names of the PersistentVolumeClaims among its volumes.
    #[serde(rename = "volumes", deserialize_with = "claim_names")]
    pub volume_claims: Vec<String>,
}

/// The part of a pod's status that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimPodStatus {
    /// Where the pod is in its life. `Running` does not mean usable: see [`SlimPod::ready`].
    pub phase: PodPhase,
    /// One word, for example `Evicted`.
    pub reason: Option<String>,
    /// A sentence about it.
    pub message: Option<String>,
    /// When the node took the pod on.
    pub start_time: Option<Timestamp>,
    /// The pod's address, once it has one.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// `Ready`, `PodScheduled` and others.
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<PodCondition>,
    /// Init containers, in the order of the spec.
    #[serde(deserialize_with = "null_as_default")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Containers, in the order of the spec.
    #[serde(deserialize_with = "null_as_default")]
    pub container_statuses: Vec<ContainerStatus>,
}

/// Where a pod is in its life, as Kubernetes says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum PodPhase {
    /// Not all containers have started.
    Pending,
    /// Bound to a node, and at least one container runs or is being restarted.
    Running,
    /// All containers ended well and will not be restarted.
    Succeeded,
    /// All containers ended, at least one of them badly.
    Failed,
    /// Not reported, or a phase that this program does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// One condition of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCondition {
    /// What is observed, for example `PodScheduled`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word, for example `Unschedulable`.
    pub reason: Option<String>,
    /// A sentence about it.
    pub message: Option<String>,
    /// Since when the status is what it is.
    pub last_transition_time: Option<Timestamp>,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// The container's name.
    pub name: String,
    /// Whether its readiness probe passes.
    pub ready: bool,
    /// How often it was started again.
    pub restart_count: u32,
    /// What it does now.
    pub state: ContainerState,
    /// How it ended the last time, if it was started again.
    #[serde(rename = "lastState", deserialize_with = "last_terminated")]
    pub last_terminated: Option<Terminated>,
}

/// What a container does now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "RawContainerState")]
pub enum ContainerState {
    /// It has not started: `reason` is for example `ImagePullBackOff` or `CrashLoopBackOff`.
    Waiting {
        /// One word.
        reason: Option<String>,
        /// A sentence about it.
        message: Option<String>,
    },
    /// Its process runs.
    Running,
    /// Its process ended.
    Terminated(Terminated),
    /// The node has not said anything yet.
    #[default]
    Unreported,
}

/// How a container's process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// One word, for example `OOMKilled`.
    pub reason: Option<String>,
    /// The process' exit code.
    pub exit_code: i32,
    /// A sentence about it.
    pub message: Option<String>,
}

impl SlimPod {
    /// The pod's UID, empty if the server sent none.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The condition of this type.
    pub fn condition(&self, kind: &str) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether the pod is Ready and not on its way out.
    pub fn ready(&self) -> bool {
        !self.terminating() && self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    /// Whether the pod has been asked to go.
    pub fn terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

/// A PersistentVolumeClaim, without what Paddock does not read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SlimVolumeClaim {
    /// See [`SlimPod::metadata`].
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
}

macro_rules! slim_kind {
    ($slim:ty, $full:ty) => {
        impl Resource for $slim {
            type DynamicType = ();
            type Scope = <$full as Resource>::Scope;

            fn kind(_: &()) -> Cow<'_, str> {
                <$full>::kind(&())
            }

            fn group(_: &()) -> Cow<'_, str> {
                <$full>::group(&())
            }

            fn version(_: &()) -> Cow<'_, str> {
                <$full>::version(&())
            }

            fn plural(_: &()) -> Cow<'_, str> {
                <$full>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
slim_kind!(SlimPod, Pod);
slim_kind!(SlimVolumeClaim, PersistentVolumeClaim);
slim_kind!(SlimSecret, Secret);

/// The names of the claims among a pod's volumes.
fn claim_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Volume {
        persistent_volume_claim: Option<Source>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Source {
        claim_name: String,
    }
    let volumes: Option<Vec<Volume>> = Option::deserialize(deserializer)?;
    let claims = volumes.unwrap_or_default().into_iter().filter_map(|volume| volume.persistent_volume_claim);
    Ok(claims.map(|claim| claim.claim_name).collect())
}

/// The metadata that is kept. Everything else is passed over by the parser without being stored.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
}

fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let kept = SlimMetadata::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: kept.name,
        namespace: kept.namespace,
        uid: kept.uid,
        resource_version: kept.resource_version,
        labels: kept.labels,
        owner_references: kept.owner_references,
        creation_timestamp: kept.creation_timestamp.map(Time),
        deletion_timestamp: kept.deletion_timestamp.map(Time),
        ..ObjectMeta::default()
    })
}

/// Kubernetes writes a union as an object of which at most one member is set.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawContainerState {
    waiting: Option<Waiting>,
    running: Option<serde::de::IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: Option<String>,
    message: Option<String>,
}

impl From<RawContainerState> for ContainerState {
    fn from(raw: RawContainerState) -> Self {
        match raw {
            RawContainerState { terminated: Some(terminated), .. } => Self::Terminated(terminated),
            RawContainerState { running: Some(_), .. } => Self::Running,
            RawContainerState { waiting: Some(Waiting { reason, message }), .. } => {
                Self::Waiting { reason, message }
            }
            RawContainerState { .. } => Self::Unreported,
        }
    }
}

fn last_terminated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Terminated>, D::Error> {
    Ok(RawContainerState::deserialize(deserializer)?.terminated)
}

fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> SlimPod {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "pod", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 1,
                "labels": {"a": "b"}, "annotations": {"long": "text"}, "creationTimestamp": "2026-01-02T03:04:05Z",
                "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x-uid", "controller": true}],
                "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i", "env": []}]},
            "status": {
                "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": null}],
                "initContainerStatuses": null,
                "containerStatuses": [
                    {"name": "c", "ready": true, "restartCount": 2, "image": "i", "imageID": "", "started": true,
                     "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
                     "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": null}}},
                    {"name": "w", "ready": false, "restartCount": 0, "lastState": {},
                     "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_keeps_what_is_read_and_nothing_else() {
        let pod = pod();
        assert_eq!(pod.uid(), "u");
        assert_eq!(pod.metadata.labels.as_ref().unwrap()["a"], "b");
        assert_eq!(pod.metadata.owner_references.as_ref().unwrap()[0].uid, "x-uid");
        assert!(pod.metadata.creation_timestamp.is_some());
        assert_eq!(pod.metadata.managed_fields, None);
        assert_eq!(pod.metadata.annotations, None);
        assert_eq!(pod.spec.node_name.as_deref(), Some("node"));
        assert_eq!(pod.status.phase, PodPhase::Running);
        assert_eq!(pod.status.pod_ip.as_deref(), Some("10.0.0.1"));
        let [first, second] = &pod.status.container_statuses[..] else { panic!("two containers") };
        assert_eq!(first.state, ContainerState::Running);
        assert_eq!(first.last_terminated.as_ref().unwrap().reason.as_deref(), Some("OOMKilled"));
        assert_eq!(first.last_terminated.as_ref().unwrap().exit_code, 137);
        assert!(
            matches!(&second.state, ContainerState::Waiting { reason: Some(reason), .. } if reason == "ImagePullBackOff")
        );
        assert_eq!(second.last_terminated, None);
    }

    #[test]
    fn a_pod_that_is_going_is_not_ready() {
        let mut pod = pod();
        assert!(pod.ready());
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(!pod.ready());
    }

    #[test]
    fn a_pod_without_a_status_is_a_pod() {
        let pod: SlimPod = serde_json::from_value(json!({"metadata": {"name": "new"}, "spec": {}})).unwrap();
        assert_eq!(pod.status.phase, PodPhase::Unknown);
        assert!(!pod.ready());
        let pod: SlimPod = serde_json::from_value(json!({"status": {"phase": "Frozen"}})).unwrap();
        assert_eq!(pod.status.phase, PodPhase::Unknown, "phases of a later Kubernetes are no error");
    }

    #[test]
    fn it_is_watched_as_a_pod() {
        assert_eq!(SlimPod::url_path(&(), Some("ns")), "/api/v1/namespaces/ns/pods");
    }
}
