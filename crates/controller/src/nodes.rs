//! From the API server's nodes to those that decisions are made on.

use paddock_core::Node;
use paddock_kubeio::slim::SlimNode;

/// What decisions need of `node`.
pub(crate) fn to_core(node: SlimNode) -> Node {
    let created = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let not_ready = node
        .ready()
        .filter(|ready| ready.status != "True")
        .and_then(|ready| ready.last_transition_time.or(created));
    let meta = node.metadata;
    Node {
        name: meta.name.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        cordoned: node.spec.unschedulable,
        not_ready,
    }
}
