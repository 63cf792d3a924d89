//! A node, as far as decisions need it, and what it means for the pods on it.

use jiff::{SignedDuration, Timestamp};

use crate::ids::Key;
use crate::pod::Pod;
use crate::store::Store;

/// How long a node may be NotReady before its pods count as lost. The node controller has waited most of a
/// minute before it says so; this much again covers a kubelet that is restarted.
pub const NODE_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// A slim copy of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Version of this copy.
    pub resource_version: String,
    /// It is on its way out.
    pub deleting: bool,
    /// Nothing new is put on it: `spec.unschedulable`, as `kubectl cordon` and a drain set it.
    pub cordoned: bool,
    /// Its condition `Ready` is not True: since when.
    pub not_ready: Option<Timestamp>,
}

/// What a pod's node means for the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing.
    Fine,
    /// It serves, but its node is about to be emptied.
    Cordoned,
    /// Its node does not answer; nobody can tell what became of the pod.
    Silent {
        /// When the pod counts as lost.
        lost_at: Timestamp,
    },
}

impl Node {
    /// Its key; nodes have no namespace.
    pub fn key(&self) -> Key {
        Key::new("", self.name.clone())
    }

    /// True when `other` tells the same, whatever its version: nodes report often and mostly nothing new.
    pub(crate) fn tells_the_same_as(&self, other: &Self) -> bool {
        let Self { name, uid, resource_version: _, deleting, cordoned, not_ready } = self;
        *name == other.name
            && *uid == other.uid
            && *deleting == other.deleting
            && *cordoned == other.cordoned
            && *not_ready == other.not_ready
    }
}

/// What the node of `pod` means for it. A pod without a node, or on one that was not seen yet, is fine.
pub fn standing(store: &Store, pod: &Pod) -> Standing {
    let node = pod.node.as_ref().and_then(|name| store.nodes.get(&Key::new("", name.clone())));
    match node {
        Some(Node { not_ready: Some(since), .. }) => Standing::Silent { lost_at: *since + NODE_GRACE },
        Some(Node { cordoned: true, .. }) => Standing::Cordoned,
        _ => Standing::Fine,
    }
}

/// True when the node of `pod` has been silent for so long that the pod counts as lost.
pub fn node_lost(store: &Store, pod: &Pod, now: Timestamp) -> bool {
    matches!(standing(store, pod), Standing::Silent { lost_at } if lost_at <= now)
}
