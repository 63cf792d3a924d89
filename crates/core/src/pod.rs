//! A pod, as far as decisions need it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::ids::Key;

/// A slim copy of a Pod. A full one takes ten times the memory, and nothing else in it is decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Version of this copy.
    pub resource_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// UID of the controlling owner.
    pub owner_uid: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When its node took it on: waiting for a node does not count against it.
    pub started: Option<Timestamp>,
    /// When it was given its node.
    pub scheduled: Option<Timestamp>,
    /// When its condition `Ready` last changed.
    pub ready_changed: Option<Timestamp>,
    /// It is on its way out.
    pub deleting: bool,
    /// Why it is being disrupted, the reason of its condition `DisruptionTarget`, for example
    /// `EvictionByEvictionAPI`.
    pub disruption: Option<String>,
    /// Names of the volume claims that it mounts.
    pub volume_claims: Vec<String>,
    /// Name of the node it runs on.
    pub node: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// `status.phase`.
    pub phase: PodPhase,
    /// Its condition `Ready` is True.
    pub ready: bool,
    /// `status.reason` and `status.message`, of evicted and rejected pods.
    pub status_reason: Option<String>,
    /// See `status_reason`.
    pub status_message: Option<String>,
    /// Why no node takes it, while none does.
    pub unschedulable: Option<String>,
    /// It has scheduling gates: no node is even looked for until somebody lifts them.
    pub gated: bool,
    /// Containers, the initial ones included.
    pub containers: Vec<ContainerState>,
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Not all containers run yet.
    #[default]
    Pending,
    /// Bound to a node; at least one container runs or restarts.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, at least one badly.
    Failed,
    /// The node does not answer.
    Unknown,
}

/// State of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// How often it was restarted.
    pub restarts: u32,
    /// Reason it waits, for example `ImagePullBackOff`.
    pub waiting_reason: Option<String>,
    /// Message beside it.
    pub waiting_message: Option<String>,
    /// How it ended last, for example `Error (exit code 1)`.
    pub last_exit: Option<String>,
    /// It ended last because it took more memory than its limit.
    pub out_of_memory: bool,
}

impl Pod {
    /// Its key.
    pub fn key(&self) -> Key {
        Key::new(self.namespace.clone(), self.name.clone())
    }

    /// Since when it has a node and is not ready; nothing while it has no node.
    pub fn starting_since(&self) -> Option<Timestamp> {
        self.node.as_ref()?;
        let unready = self.ready_changed.filter(|_| !self.ready);
        [self.scheduled, self.started, unready].into_iter().flatten().max().or(self.created)
    }

    /// Its address, if it can serve: running, ready, not on its way out.
    pub fn serving_ip(&self) -> Option<&str> {
        if self.ready && !self.deleting && self.phase == PodPhase::Running {
            self.ip.as_deref()
        } else {
            None
        }
    }
}
