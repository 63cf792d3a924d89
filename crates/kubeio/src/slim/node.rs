//! A Node, of which only its name, its cordon and its readiness are read.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::{null_as_default, slim_metadata};

/// A node, without what Paddock does not read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SlimNode {
    /// Only name, namespace, uid, resourceVersion, labels, ownerReferences, creationTimestamp and deletionTimestamp.
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// What was asked for.
    #[serde(default)]
    pub spec: SlimNodeSpec,
    /// What is the case.
    #[serde(default)]
    pub status: SlimNodeStatus,
}

/// The part of a node's spec that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimNodeSpec {
    /// Nothing new is put on it.
    pub unschedulable: bool,
}

/// The part of a node's status that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimNodeStatus {
    /// `Ready` and others.
    #[serde(deserialize_with = "null_as_default")]
    pub conditions: Vec<NodeCondition>,
}

/// One condition of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCondition {
    /// What is observed, for example `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when.
    pub last_transition_time: Option<Timestamp>,
}

impl SlimNode {
    /// The condition `Ready`; a node that has just joined has none.
    pub fn ready(&self) -> Option<&NodeCondition> {
        self.status.conditions.iter().find(|condition| condition.kind == "Ready")
    }
}

impl Resource for SlimNode {
    type DynamicType = ();
    type Scope = <Node as Resource>::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        Node::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        Node::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        Node::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        Node::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_keeps_its_cordon_and_its_readiness() {
        let node: SlimNode = serde_json::from_value(json!({
            "metadata": {"name": "n1", "uid": "u", "resourceVersion": "7", "annotations": {"long": "text"}},
            "spec": {"podCIDR": "10.0.0.0/24", "unschedulable": true},
            "status": {
                "conditions": [
                    {"type": "DiskPressure", "status": "False"},
                    {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-02T03:04:05Z"},
                ],
                "images": [{"names": ["a"], "sizeBytes": 1}],
            },
        }))
        .unwrap();
        assert!(node.spec.unschedulable);
        let ready = node.ready().unwrap();
        assert_eq!(ready.status, "Unknown");
        assert!(ready.last_transition_time.is_some());
        assert_eq!(SlimNode::url_path(&(), None), "/api/v1/nodes");
    }

    #[test]
    fn a_node_that_has_just_joined_is_a_node() {
        let node: SlimNode = serde_json::from_value(json!({"metadata": {"name": "n1"}, "spec": {}})).unwrap();
        assert_eq!(node.ready(), None);
        assert!(!node.spec.unschedulable);
    }
}
