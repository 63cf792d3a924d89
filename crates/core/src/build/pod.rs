//! A Sandbox's pod.

use std::collections::BTreeMap;

use paddock_api::Sandbox;
use paddock_api::labels::{self, name_hash};
use serde_json::{Map, Value, json};

use crate::build::settings::Settings;
use crate::build::{BuildError, PodVolume, RunnerSettings, harness, pod_volumes};
use crate::ids::{annotation, label, uid};
use crate::op::NewPod;
use crate::pod::Pod;

/// Labels that a pod takes over from its Sandbox.
const SHARED_LABELS: [&str; 9] = [
    labels::HARNESS,
    labels::SESSION,
    labels::SESSION_UID,
    labels::INCARNATION,
    labels::AGENT,
    labels::WARM_POOL_SANDBOX,
    labels::TEMPLATE_HASH,
    labels::TEMPLATE_REF_HASH,
    labels::LAUNCH_TYPE,
];

/// The pod of `sandbox`, named like it.
///
/// # Errors
/// When the template cannot be made into a pod; the Sandbox's status tells it to people.
pub fn pod(sandbox: &Sandbox, runner: &RunnerSettings) -> Result<NewPod, BuildError> {
    if sandbox.spec.service == Some(true) {
        return Err(BuildError::NotServed("service"));
    }
    if sandbox.spec.shutdown_time.is_some() {
        return Err(BuildError::NotServed("shutdownTime"));
    }
    let name = sandbox.metadata.name.clone().unwrap_or_default();
    let namespace = sandbox.metadata.namespace.clone().unwrap_or_default();
    let template = &sandbox.spec.pod_template;

    let mut pod_labels = template.metadata.labels.clone();
    pod_labels.extend(shared_labels(sandbox));
    pod_labels.insert(labels::SANDBOX_NAME_HASH.to_owned(), name_hash(&name));
    let mut annotations = template.metadata.annotations.clone();
    if label(&sandbox.metadata, labels::WARM_POOL_SANDBOX).is_some() {
        annotations.entry(labels::SAFE_TO_EVICT.to_owned()).or_insert_with(|| "true".to_owned());
    }

    let mut spec = Value::clone(&template.spec);
    let fields = spec.as_object_mut().ok_or(BuildError::Malformed("spec"))?;
    if fields.get("containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err(BuildError::NoContainers);
    }
    fields.entry("automountServiceAccountToken").or_insert(json!(false));
    let volumes = pod_volumes(sandbox);
    mount(fields, &volumes)?;
    if let Some(harness) = label(&sandbox.metadata, labels::HARNESS) {
        let settings = Settings::read(harness, |key| annotation(&sandbox.metadata, key))?;
        harness::add_runner(&mut spec, &settings, runner)?;
    }

    let after = Pod {
        namespace: namespace.clone(),
        name: name.clone(),
        labels: pod_labels.clone(),
        owner_uid: Some(uid(&sandbox.metadata).to_owned()),
        volume_claims: volumes.into_iter().map(|volume| volume.claim_name).collect(),
        ..Pod::default()
    };
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": pod_labels,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "agents.x-k8s.io/v1beta1",
                "kind": "Sandbox",
                "name": sandbox.metadata.name,
                "uid": sandbox.metadata.uid,
                "controller": true,
            }],
        },
        "spec": spec,
    });
    Ok(NewPod { manifest, after })
}

/// Adds the volumes; one of the same name in the template is replaced, as a StatefulSet does it.
fn mount(fields: &mut Map<String, Value>, added: &[PodVolume]) -> Result<(), BuildError> {
    if added.is_empty() {
        return Ok(());
    }
    let volumes = fields.entry("volumes").or_insert_with(|| json!([]));
    if volumes.is_null() {
        *volumes = json!([]);
    }
    let volumes = volumes.as_array_mut().ok_or(BuildError::Malformed("volumes"))?;
    volumes.retain(|v| added.iter().all(|a| v.get("name").and_then(Value::as_str) != Some(a.name.as_str())));
    volumes.extend(
        added.iter().map(|a| json!({"name": a.name, "persistentVolumeClaim": {"claimName": a.claim_name}})),
    );
    Ok(())
}

/// The labels of `sandbox` that its pod carries too.
pub(crate) fn shared_labels(sandbox: &Sandbox) -> BTreeMap<String, String> {
    SHARED_LABELS
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), label(&sandbox.metadata, key)?.to_owned())))
        .collect()
}

/// The metadata patch that gives an adopted pod its Sandbox's labels; nothing when it has them already.
pub(crate) fn relabel(pod: &Pod, sandbox: &Sandbox) -> Option<(Value, Pod)> {
    let wanted = shared_labels(sandbox);
    let mut patch = Map::new();
    let mut after = pod.clone();
    for key in SHARED_LABELS {
        match (wanted.get(key), pod.labels.get(key)) {
            (Some(value), old) if old != Some(value) => {
                patch.insert(key.to_owned(), json!(value));
                after.labels.insert(key.to_owned(), value.clone());
            }
            (None, Some(_)) => {
                patch.insert(key.to_owned(), Value::Null);
                after.labels.remove(key);
            }
            _ => {}
        }
    }
    if patch.is_empty() {
        return None;
    }
    let mut metadata = json!({"labels": patch});
    if !sandbox.spec.pod_template.metadata.annotations.contains_key(labels::SAFE_TO_EVICT) {
        // A pod that serves a session must not be evicted to save a node.
        metadata["annotations"] = json!({labels::SAFE_TO_EVICT: null});
    }
    Some((json!({"metadata": metadata}), after))
}
