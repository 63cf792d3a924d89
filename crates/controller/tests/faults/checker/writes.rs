//! The controllers' writes: what the API server's audit log says was done, with the bodies that the proxies saw.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::proxy::{Call, Verb};

/// One write of a controller.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which controller.
    pub by: String,
    pub verb: Verb,
    pub resource: String,
    pub name: String,
    pub at: Timestamp,
    /// The server's answer.
    pub code: u16,
    pub body: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEvent {
    #[serde(rename = "auditID")]
    audit_id: String,
    user_agent: Option<String>,
    verb: String,
    request_received_timestamp: Timestamp,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
}

#[derive(Deserialize)]
struct ObjectRef {
    namespace: Option<String>,
    resource: Option<String>,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

/// Lays both logs side by side. Fails on a line that is none, and on a write that came past the proxies.
pub fn join(audit: &str, calls: &[Call], namespace: &str) -> Result<Vec<Write>, String> {
    let by_id: HashMap<&str, &Call> = calls.iter().map(|call| (call.audit_id.as_str(), call)).collect();
    let mut writes = Vec::new();
    for line in audit.lines().filter(|line| line.contains(namespace)) {
        let event: AuditEvent =
            serde_json::from_str(line).map_err(|error| format!("no audit event: {error}: {line}"))?;
        let by = event.user_agent.unwrap_or_default();
        let in_namespace = event.object_ref.as_ref().and_then(|object| object.namespace.as_deref());
        if !by.starts_with(crate::CONTROLLER) || in_namespace != Some(namespace) {
            continue;
        }
        let Some(call) = by_id.get(event.audit_id.as_str()) else {
            let resource = event.object_ref.and_then(|object| object.resource).unwrap_or_default();
            return Err(format!("{by} made a write past its proxy: {} {resource}", event.verb));
        };
        writes.push(Write {
            by,
            verb: call.verb,
            resource: call.resource.clone(),
            name: call.name.clone().unwrap_or_default(),
            at: event.request_received_timestamp,
            code: event.response_status.map_or(0, |status| status.code),
            body: call.body.clone(),
        });
    }
    writes.sort_by_key(|write| write.at);
    Ok(writes)
}

impl Write {
    /// It changed something.
    pub fn done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// The UID that a patch or a delete names.
    pub fn precondition_uid(&self) -> Option<&str> {
        self.precondition("uid")
    }

    fn precondition(&self, field: &str) -> Option<&str> {
        let place = if self.verb == Verb::Delete { "preconditions" } else { "metadata" };
        self.body[place][field].as_str().filter(|value| !value.is_empty())
    }
}

/// Every write names the version it was decided on, or makes an object under a name that follows from its owner's. An
/// Event's series may be counted on from any version of it.
pub fn without_precondition(writes: &[Write]) -> Vec<String> {
    writes.iter().filter_map(|write| complaint(write).map(|why| told(write, why))).collect()
}

fn told(write: &Write, why: &str) -> String {
    format!("{} {:?} {} {}: {why}", write.by, write.verb, write.resource, write.name)
}

fn complaint(write: &Write) -> Option<&'static str> {
    let event = write.resource == "events";
    match write.verb {
        Verb::Create if !write.body["metadata"]["generateName"].is_null() => {
            Some("the server makes its name up")
        }
        Verb::Create => match write.resource.as_str() {
            "leases" | "events" => None,
            // Its pod is named like a Sandbox, and a volume after it.
            "pods" => (owner(write) != Some(&write.name)).then_some("not named like its owner"),
            "sandboxes" => {
                let stem = owner(write).unwrap_or_default();
                let derived = !stem.is_empty() && write.name.starts_with(&format!("{stem}-"));
                (!derived).then_some("its name does not follow from its owner's")
            }
            _ => write.name.is_empty().then_some("no name"),
        },
        Verb::Delete | Verb::Patch if write.precondition("uid").is_none() => Some("names no UID"),
        Verb::Delete | Verb::Patch | Verb::Update
            if !event && write.precondition("resourceVersion").is_none() =>
        {
            Some("names no version")
        }
        _ => None,
    }
}

fn owner(write: &Write) -> Option<&str> {
    let owners = write.body["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["name"].as_str()
}

/// The writes after `since` beyond the lease, oldest first: what a system at rest does not make.
pub fn beyond_the_lease(writes: &[Write], since: Timestamp) -> Vec<&Write> {
    writes.iter().filter(|write| !write.is_lease() && write.at > since).collect()
}
