//! The API server's audit log: who wrote what. The cluster logs writes only.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use crate::{NAMESPACE, Result};

/// One write of the controller.
#[derive(Clone, Debug)]
pub struct Write {
    /// When the API server had it.
    pub at: Timestamp,
    /// When it had answered.
    pub done: Timestamp,
    /// Kind, plural, with the subresource.
    pub resource: String,
    /// Of what.
    pub name: String,
}

/// Writes of a controller that are counted: all but the lease's. Events are apart.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// All but Events.
    pub objects: Vec<Write>,
    /// Events.
    pub events: Vec<Write>,
}

/// A place in an audit log from which on is read.
pub struct AuditLog {
    path: PathBuf,
    offset: u64,
}

impl AuditLog {
    /// From now on.
    pub fn open(cluster: &Path) -> Result<Self> {
        let path = cluster.join("audit.log");
        let offset = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?.len();
        Ok(Self { path, offset })
    }

    /// What the controller wrote since.
    pub fn writes(&self) -> Result<Writes> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.offset {
            return Err("the audit log was rotated while writes were counted".into());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may be half written.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let user = format!("system:serviceaccount:{NAMESPACE}:controller");
        let mut writes = Writes::default();
        for line in complete.lines() {
            let event: Event = serde_json::from_str(line).map_err(|e| format!("audit log: {e}: {line}"))?;
            if event.stage != "ResponseComplete" || event.user.username != user {
                continue;
            }
            let Some(object) = event.object_ref else { continue };
            let mut resource = object.resource;
            if !object.subresource.is_empty() {
                resource = format!("{resource}/{}", object.subresource);
            }
            let write = Write {
                at: event.request_received_timestamp,
                done: event.stage_timestamp,
                resource,
                name: object.name,
            };
            match write.resource.as_str() {
                "leases" => {}
                "events" => writes.events.push(write),
                _ => writes.objects.push(write),
            }
        }
        Ok(writes)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    user: User,
    object_ref: Option<ObjectRef>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    name: String,
}
