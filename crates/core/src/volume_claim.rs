//! A PersistentVolumeClaim, as far as decisions need it.

use std::collections::BTreeMap;

use crate::ids::Key;

/// A slim copy of a PersistentVolumeClaim that was made for a Sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeClaim {
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
    /// UID of the controlling owner: its Sandbox, or the session that keeps it.
    pub owner_uid: Option<String>,
    /// It is on its way out.
    pub deleting: bool,
}

impl VolumeClaim {
    /// Its key.
    pub fn key(&self) -> Key {
        Key::new(self.namespace.clone(), self.name.clone())
    }
}
