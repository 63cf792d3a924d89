//! Schema fragments for fields that are kept as raw JSON.

use schemars::{Schema, SchemaGenerator};

/// The schema of a Kubernetes PodSpec.
///
/// With the `crdgen` feature it is the published one, so that `kubectl explain` and server-side
/// validation match Pods; without it, an open object: no program needs 400 KB of schema in memory.
#[cfg(feature = "crdgen")]
pub(crate) fn pod_spec(generator: &mut SchemaGenerator) -> Schema {
    <k8s_openapi::api::core::v1::PodSpec as schemars::JsonSchema>::json_schema(generator)
}

/// See the `crdgen` twin of this function.
#[cfg(not(feature = "crdgen"))]
pub(crate) fn pod_spec(_: &mut SchemaGenerator) -> Schema {
    open_object("A PodSpec.")
}

/// The schema of a PersistentVolumeClaimSpec; see [`pod_spec`] for the two forms.
#[cfg(feature = "crdgen")]
pub(crate) fn claim_spec(generator: &mut SchemaGenerator) -> Schema {
    <k8s_openapi::api::core::v1::PersistentVolumeClaimSpec as schemars::JsonSchema>::json_schema(generator)
}

/// See the `crdgen` twin of this function.
#[cfg(not(feature = "crdgen"))]
pub(crate) fn claim_spec(_: &mut SchemaGenerator) -> Schema {
    open_object("A PersistentVolumeClaimSpec.")
}

/// The schema of one NetworkPolicy ingress or egress rule, kept open.
pub(crate) fn network_rules(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

#[cfg(not(feature = "crdgen"))]
fn open_object(description: &str) -> Schema {
    schemars::json_schema!({
        "type": "object",
        "description": description,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
