//! A Secret, of which only the names and sizes of its values are read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

use super::{null_as_default, slim_metadata};

/// A Secret without what is secret about it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SlimSecret {
    /// Only name, namespace, uid, resourceVersion, labels, ownerReferences, creationTimestamp and deletionTimestamp.
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// How many bytes each of its values has.
    #[serde(default, rename = "data", deserialize_with = "null_as_default")]
    pub sizes: BTreeMap<String, ValueSize>,
}

/// The size of a value, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueSize(pub usize);

impl<'de> Deserialize<'de> for ValueSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Four characters of base64 stand for three bytes, but for the padding.
        let encoded = Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self(encoded.trim_end_matches('=').len() * 3 / 4))
    }
}

#[cfg(test)]
mod tests {
    use kube::Resource;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_keeps_sizes_and_no_values() {
        let secret: SlimSecret = serde_json::from_value(json!({
            "metadata": {"name": "s", "uid": "u", "resourceVersion": "7"},
            "data": {"none": "", "one": "YQ==", "two": "YWI=", "three": "YWJj", "four": "YWJjZA=="},
        }))
        .unwrap();
        let sizes: Vec<_> = secret.sizes.iter().map(|(key, size)| (key.as_str(), size.0)).collect();
        assert_eq!(sizes, [("four", 4), ("none", 0), ("one", 1), ("three", 3), ("two", 2)]);
        assert!(!format!("{secret:?}").contains("YW"));
        assert_eq!(SlimSecret::url_path(&(), Some("ns")), "/api/v1/namespaces/ns/secrets");
        let empty: SlimSecret =
            serde_json::from_value(json!({"metadata": {"name": "s"}, "data": null})).unwrap();
        assert!(empty.sizes.is_empty());
    }
}
