//! Names of objects.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Namespace and name of an object of a known kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of the object with this metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The UID in an object's metadata; empty where the API server has not given one yet.
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// The value of a label.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str)
}

/// The value of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref().and_then(|annotations| annotations.get(key)).map(String::as_str)
}

/// The UID of the object's controller.
pub fn controller_uid(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// True once the object is on its way out.
pub fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// A name that is derived, never drawn: `stem`, shortened to fit, and five characters that depend on
/// `owner_uid` and `ordinal` alone. The same inputs give the same name, so that a second attempt after a
/// lost response meets the first one's object.
pub fn derived_name(stem: &str, owner_uid: &str, ordinal: u64) -> String {
    // Kubernetes' own alphabet for such suffixes: no vowels, so no words.
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    const SUFFIX: usize = 5;
    const MAX: usize = 63;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in owner_uid.bytes().chain(ordinal.to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // FNV's low bits alone are weak for short inputs.
    hash ^= hash >> 32;
    let mut suffix = String::with_capacity(SUFFIX);
    for _ in 0..SUFFIX {
        suffix.push(char::from(ALPHABET[(hash % 27) as usize]));
        hash /= 27;
    }
    let stem = stem.get(..MAX - SUFFIX - 1).unwrap_or(stem).trim_end_matches(['-', '.']);
    format!("{stem}-{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_repeat_for_the_same_input_and_differ_otherwise() {
        assert_eq!(derived_name("pool", "u1", 1), derived_name("pool", "u1", 1));
        let names: std::collections::BTreeSet<_> =
            (0..2_000).map(|n| derived_name("pool", "u1", n)).collect();
        assert!(names.len() >= 1_999, "{} distinct names of 2000", names.len());
        assert_ne!(derived_name("pool", "u1", 1), derived_name("pool", "u2", 1));
    }

    #[test]
    fn derived_names_are_valid_host_names() {
        let long = "a".repeat(57) + "-bcd";
        let name = derived_name(&long, "u", 3);
        assert!(name.len() <= 63, "{name}");
        assert!(!name.contains("--"), "{name}");
    }
}
