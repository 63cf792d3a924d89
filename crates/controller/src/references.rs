//! What an activation refers to: texts in Secrets and ConfigMaps of the session's namespace, read when its pod is activated.
//! Values are nowhere else: not in what the engine knows, and not in what is said about a failure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use paddock_api::agent::SecretKeyRef;
use paddock_api::labels;
use paddock_core::op::AbsentValue;
use paddock_kubeio::write::{self, WriteError};

/// Why something cannot be had, in words a person can act on. The values themselves never are in it.
pub(crate) type Trouble = String;

/// Reads each object once.
pub(crate) struct References<'a> {
    client: &'a kube::Client,
    namespace: &'a str,
    absent: AbsentValue,
    secrets: BTreeMap<String, Option<Secret>>,
    config_maps: BTreeMap<String, Option<ConfigMap>>,
}

impl<'a> References<'a> {
    /// Of a session in `namespace`.
    pub(crate) fn new(client: &'a kube::Client, namespace: &'a str, absent: AbsentValue) -> Self {
        Self { client, namespace, absent, secrets: BTreeMap::new(), config_maps: BTreeMap::new() }
    }

    /// What is under a key in a Secret, for `what`; nothing where it is not there and may be left out.
    pub(crate) async fn secret_text(
        &mut self,
        what: &str,
        at: &SecretKeyRef,
    ) -> Result<Option<String>, Trouble> {
        self.first_secret_text(what, &at.name, &[&at.key]).await
    }

    /// What is under the first of `keys` that is there.
    pub(crate) async fn first_secret_text(
        &mut self,
        what: &str,
        name: &str,
        keys: &[&str],
    ) -> Result<Option<String>, Trouble> {
        let secret = self.secret(name).await?;
        for key in keys {
            if let Some(text) = text(secret, what, name, key)? {
                return Ok(Some(text));
            }
        }
        let there = secret.is_some();
        match self.absent {
            AbsentValue::LeftOut => Ok(None),
            AbsentValue::Awaited => Err(absent("Secret", there, self.namespace, what, name, keys)),
        }
    }

    /// What is under a key in a Secret, where it is there.
    pub(crate) async fn any_secret_text(
        &mut self,
        what: &str,
        name: &str,
        key: &str,
    ) -> Result<Option<String>, Trouble> {
        text(self.secret(name).await?, what, name, key)
    }

    /// What is under a key in a ConfigMap, for `what`.
    pub(crate) async fn config_map_text(
        &mut self,
        what: &str,
        name: &str,
        key: &str,
    ) -> Result<String, Trouble> {
        let namespace = self.namespace;
        let found = self.config_map(name).await?;
        let text = found.and_then(|map| map.data.as_ref()?.get(key).cloned());
        text.ok_or_else(|| absent("ConfigMap", found.is_some(), namespace, what, name, &[key]))
    }

    /// All texts of a ConfigMap by their keys, for `what`.
    pub(crate) async fn config_map_texts(
        &mut self,
        what: &str,
        name: &str,
    ) -> Result<BTreeMap<String, String>, Trouble> {
        let namespace = self.namespace;
        let found = self.config_map(name).await?;
        let map = found.ok_or_else(|| absent("ConfigMap", false, namespace, what, name, &[]))?;
        Ok(map.data.clone().unwrap_or_default())
    }

    async fn secret(&mut self, name: &str) -> Result<Option<&Secret>, Trouble> {
        let entry = match self.secrets.entry(name.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let found = write::get::<Secret>(self.client, self.namespace, name).await;
                let found = found.map_err(|error| unreadable("Secret", self.namespace, name, &error))?;
                // Whoever may make an Agent or a Session would otherwise get hold of every Secret beside it.
                if found.as_ref().is_some_and(|secret| !is_marked(secret)) {
                    return Err(format!(
                        "Secret {name:?} in namespace {} is not meant for agents; give it the label {}: \"true\" if it is",
                        self.namespace,
                        labels::ENV_SECRET
                    ));
                }
                new.insert(found)
            }
        };
        Ok(entry.as_ref())
    }

    async fn config_map(&mut self, name: &str) -> Result<Option<&ConfigMap>, Trouble> {
        let entry = match self.config_maps.entry(name.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let found = write::get::<ConfigMap>(self.client, self.namespace, name).await;
                new.insert(found.map_err(|error| unreadable("ConfigMap", self.namespace, name, &error))?)
            }
        };
        Ok(entry.as_ref())
    }
}

fn is_marked(secret: &Secret) -> bool {
    let all = secret.metadata.labels.as_ref();
    all.and_then(|all| all.get(labels::ENV_SECRET)).is_some_and(|value| value == "true")
}

fn unreadable(kind: &str, namespace: &str, name: &str, error: &WriteError) -> Trouble {
    let advice = match error {
        WriteError::Rejected { status: 403, .. } => {
            format!("; let the controller get {}s in that namespace", kind.to_lowercase())
        }
        _ => String::new(),
    };
    format!("reading {kind} {name:?} in namespace {namespace} failed ({}){advice}", error.reason())
}

fn text(secret: Option<&Secret>, what: &str, name: &str, key: &str) -> Result<Option<String>, Trouble> {
    let Some(bytes) = secret.and_then(|secret| secret.data.as_ref()?.get(key)) else { return Ok(None) };
    match std::str::from_utf8(&bytes.0) {
        Ok(text) if !text.contains('\0') => Ok(Some(text.to_owned())),
        _ => Err(format!(
            "{what}: what Secret {name:?} has under {key:?} is no text, and cannot be used for it"
        )),
    }
}

fn absent(kind: &str, there: bool, namespace: &str, what: &str, name: &str, keys: &[&str]) -> Trouble {
    if !there {
        return format!("{what}: there is no {kind} {name:?} in namespace {namespace}; create it");
    }
    let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
    format!("{what}: {kind} {name:?} in namespace {namespace} has no key {}; add it", keys.join(" or "))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(key: &str, value: &[u8]) -> Secret {
        let data = [(key.to_owned(), ByteString(value.to_vec()))];
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn values_are_texts_and_no_others_are_told() {
        let read = |secret: Option<&Secret>| text(secret, "variable TOKEN", "s", "token");
        assert_eq!(read(Some(&secret("token", b"a b\n"))), Ok(Some("a b\n".to_owned())));
        assert_eq!(read(Some(&secret("other", b"x"))), Ok(None));
        assert_eq!(read(None), Ok(None));
        for bad in [&b"hunter2\xff"[..], b"hunter2\0"] {
            let trouble = read(Some(&secret("token", bad))).unwrap_err();
            assert!(trouble.contains("TOKEN") && !trouble.contains("hunter2"), "{trouble}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = |there, keys| absent("Secret", there, "ns", "repo", "git", keys);
        assert_eq!(missing(false, &[]), "repo: there is no Secret \"git\" in namespace ns; create it");
        assert_eq!(
            missing(true, &["password", "token"]),
            "repo: Secret \"git\" in namespace ns has no key \"password\" or \"token\"; add it"
        );
    }
}
