//! Volume claims of Sandboxes, and the workspace among them.
//!
//! A Sandbox's volume claims are named `<template>-<sandbox>`. The one whose template is named
//! [`labels::WORKSPACE_VOLUME`] carries all that a session must not lose: the agent's files, the harness's home and the
//! runner's journal. It outlives its Sandbox: the session takes it over, and the pods of later incarnations mount it.

use paddock_api::Sandbox;
use paddock_api::agent::{DEFAULT_WORKSPACE_SIZE, Workspace};
use paddock_api::labels::{self, name_hash};
use paddock_api::sandbox::{ClaimMetadata, VolumeClaimTemplate};
use serde_json::{Value, json};

use crate::ids::{annotation, uid};
use crate::op::NewVolumeClaim;
use crate::volume_claim::VolumeClaim;

/// A volume of a Sandbox's pod, and the claim behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodVolume {
    /// The volume's name in the pod.
    pub name: String,
    /// The claim's name.
    pub claim_name: String,
}

/// The volumes that `sandbox`'s pod has beside those of its template.
pub fn pod_volumes(sandbox: &Sandbox) -> Vec<PodVolume> {
    let own = sandbox.spec.volume_claim_templates.iter().map(|template| {
        let name = template.metadata.name.clone().unwrap_or_default();
        PodVolume { claim_name: claim_name(&name, sandbox), name }
    });
    let kept = annotation(&sandbox.metadata, labels::WORKSPACE_CLAIM)
        .map(|claim| PodVolume { name: labels::WORKSPACE_VOLUME.to_owned(), claim_name: claim.to_owned() });
    own.chain(kept).collect()
}

/// Name of the claim that holds the workspace of `sandbox`, if it is persistent.
pub fn workspace_claim(sandbox: &Sandbox) -> Option<String> {
    pod_volumes(sandbox)
        .into_iter()
        .find(|volume| volume.name == labels::WORKSPACE_VOLUME)
        .map(|volume| volume.claim_name)
}

/// The claims that are made for `sandbox`, named like it.
pub fn volume_claims(sandbox: &Sandbox) -> Vec<NewVolumeClaim> {
    sandbox.spec.volume_claim_templates.iter().map(|template| volume_claim(sandbox, template)).collect()
}

fn volume_claim(sandbox: &Sandbox, template: &VolumeClaimTemplate) -> NewVolumeClaim {
    let namespace = sandbox.metadata.namespace.clone().unwrap_or_default();
    let sandbox_name = sandbox.metadata.name.clone().unwrap_or_default();
    let name = claim_name(template.metadata.name.as_deref().unwrap_or_default(), sandbox);
    let mut claim_labels = template.metadata.labels.clone();
    claim_labels.insert(labels::SANDBOX_NAME_HASH.to_owned(), name_hash(&sandbox_name));
    claim_labels.insert(labels::SANDBOX.to_owned(), sandbox_name);
    let after = VolumeClaim {
        namespace: namespace.clone(),
        name: name.clone(),
        labels: claim_labels.clone(),
        owner_uid: Some(uid(&sandbox.metadata).to_owned()),
        ..VolumeClaim::default()
    };
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": claim_labels,
            "annotations": template.metadata.annotations,
            "ownerReferences": [owner("agents.x-k8s.io/v1beta1", "Sandbox", &sandbox.metadata)],
        },
        "spec": template.spec,
    });
    NewVolumeClaim { manifest, after }
}

/// The owner reference of a volume claim: gone with its owner, and nobody's deletion waits for it.
pub(crate) fn owner(
    api_version: &str,
    kind: &str,
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": true,
    })
}

/// The claim template of a persistent workspace whose SandboxTemplate declares none.
pub(super) fn workspace_template(workspace: &Workspace) -> VolumeClaimTemplate {
    let size = workspace.size.as_deref().unwrap_or(DEFAULT_WORKSPACE_SIZE);
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    });
    if let Some(class) = &workspace.storage_class_name {
        spec["storageClassName"] = json!(class);
    }
    let name = Some(labels::WORKSPACE_VOLUME.to_owned());
    VolumeClaimTemplate { metadata: ClaimMetadata { name, ..ClaimMetadata::default() }, spec }
}

fn claim_name(template: &str, sandbox: &Sandbox) -> String {
    format!("{template}-{}", sandbox.metadata.name.as_deref().unwrap_or_default())
}
