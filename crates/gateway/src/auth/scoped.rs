//! The scoped keys: entries of one Secret, followed while the gateway runs.
//!
//! They are in one Secret of a known name, and not in many that a label marks, because Kubernetes can restrict who reads
//! Secrets by name and not by label: a gateway that looked for a label would have to be allowed to read every Secret of
//! the namespace.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use paddock_kubeio::watch::{Event, Scope, WatchOptions};
use parking_lot::RwLock;

use super::access::Rights;
use super::digest::Digest;
use super::entry::Entry;
use super::quota::Quota;

/// Which Secret has the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for SecretName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("must be NAMESPACE/NAME of a Secret"),
        }
    }
}

impl SecretName {
    /// What has to be watched, and no more: a permission that names the Secret is enough.
    pub fn watch_options(&self) -> WatchOptions {
        WatchOptions {
            scope: Scope::Namespace(self.namespace.clone()),
            label_selector: None,
            field_selector: Some(format!("metadata.name={}", self.name)),
        }
    }
}

/// A key that can be used.
#[derive(Debug)]
pub struct ScopedKey {
    name: String,
    rights: Rights,
    quota: Arc<Quota>,
}

impl ScopedKey {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it allows.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// How much it may be used.
    pub(super) fn quota(&self) -> &Quota {
        &self.quota
    }
}

/// See the module.
#[derive(Debug)]
pub struct ScopedKeys {
    secret: SecretName,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    listed: bool,
    /// By digest. A map does not compare in constant time, and need not: what it compares are digests of what clients
    /// send, and nobody can choose a digest to come nearer to another one. Time tells nothing of the key behind it.
    keys: HashMap<Digest, Arc<ScopedKey>>,
    /// Entries that are no keys, and why.
    broken: BTreeMap<String, String>,
}

impl ScopedKeys {
    /// The keys in `secret`, which is not known yet.
    pub fn new(secret: SecretName) -> Self {
        Self { secret, state: RwLock::default() }
    }

    /// Whether it has been read, or is known not to exist.
    pub fn listed(&self) -> bool {
        self.state.read().listed
    }

    /// The key with this digest.
    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<ScopedKey>> {
        self.state.read().keys.get(digest).cloned()
    }

    /// The key of this name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<ScopedKey>> {
        self.state.read().keys.values().find(|key| key.name == name).cloned()
    }

    /// Takes an event of the watch on the Secret.
    pub fn apply(&self, event: Event<Secret>) {
        let ours = |secret: &Secret| secret.metadata.name.as_deref() == Some(&self.secret.name);
        let secret = match event {
            Event::Synced(secrets) => secrets.into_iter().find(ours),
            Event::Applied(secret) if ours(&secret) => Some(secret),
            Event::Deleted(secret) if ours(&secret) => None,
            Event::Applied(_) | Event::Deleted(_) => return,
        };
        let entries = secret.and_then(|secret| secret.data).unwrap_or_default();
        let mut state = self.state.write();
        let next = state.next(entries);
        self.tell(&state, &next);
        *state = next;
    }

    /// Says what has changed: names, and what is wrong with entries, once.
    fn tell(&self, before: &State, now: &State) {
        for (entry, problem) in &now.broken {
            if before.broken.get(entry) != Some(problem) {
                tracing::warn!(
                    namespace = self.secret.namespace,
                    secret = self.secret.name,
                    entry,
                    problem,
                    "an entry of the keys' Secret is no key; correct it or remove it"
                );
            }
        }
        let names = |state: &State| {
            let mut names: Vec<(String, Digest)> =
                state.keys.iter().map(|(digest, key)| (key.name.clone(), *digest)).collect();
            names.sort();
            names
        };
        let valid = names(now);
        if !before.listed || names(before) != valid {
            let valid: Vec<&str> = valid.iter().map(|(name, _)| name.as_str()).collect();
            tracing::info!(
                namespace = self.secret.namespace,
                secret = self.secret.name,
                keys = valid.join(" "),
                "these scoped keys are valid now"
            );
        }
    }
}

impl State {
    /// With these entries in place of the present ones. A key that keeps its name and its limits keeps what is used of
    /// them: to change one key must not hand all others a fresh burst.
    fn next(&self, entries: BTreeMap<String, ByteString>) -> Self {
        let quotas: HashMap<&str, &Arc<Quota>> =
            self.keys.values().map(|key| (key.name.as_str(), &key.quota)).collect();
        let mut next = Self { listed: true, ..Self::default() };
        let mut by_digest: BTreeMap<Digest, Vec<(String, Entry)>> = BTreeMap::new();
        for (name, document) in entries {
            match Entry::read(&name, &document.0) {
                Ok(entry) => by_digest.entry(entry.digest).or_default().push((name, entry)),
                Err(problem) => {
                    next.broken.insert(name, problem);
                }
            }
        }
        for (digest, mut same) in by_digest {
            if same.len() > 1 {
                let names: Vec<String> = same.into_iter().map(|(name, _)| name).collect();
                let problem = format!(
                    "the entries {} have the same key; none of them is valid, as whose limits hold would be a guess",
                    names.join(", ")
                );
                next.broken.extend(names.into_iter().map(|name| (name, problem.clone())));
                continue;
            }
            let Some((name, entry)) = same.pop() else { continue };
            let kept = quotas.get(name.as_str()).filter(|quota| *quota.spec() == entry.quota);
            let quota = kept.map_or_else(|| Arc::new(Quota::new(entry.quota)), |quota| (*quota).clone());
            next.keys.insert(digest, Arc::new(ScopedKey { name, rights: entry.rights, quota }));
        }
        next
    }
}

#[cfg(test)]
pub(super) mod testing {
    use serde_json::Value;

    use super::*;

    /// A Secret with these entries.
    pub fn secret(name: &str, entries: &[(&str, Value)]) -> Secret {
        let data = entries.iter().map(|(name, entry)| {
            let document = entry.as_str().map_or_else(|| entry.to_string(), str::to_owned);
            ((*name).to_owned(), ByteString(document.into_bytes()))
        });
        let mut secret = Secret { data: Some(data.collect()), ..Secret::default() };
        secret.metadata.name = Some(name.to_owned());
        secret
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::testing::secret;
    use super::*;

    const ONE: &str = "the-first-of-the-keys";
    const TWO: &str = "the-second-of-the-keys";

    fn keys() -> ScopedKeys {
        ScopedKeys::new("ns/keys".parse().unwrap())
    }

    fn put(keys: &ScopedKeys, entries: &[(&str, Value)]) {
        keys.apply(Event::Applied(secret("keys", entries)));
    }

    fn name(keys: &ScopedKeys, key: &str) -> Option<String> {
        keys.find(&Digest::of(key.as_bytes())).map(|key| key.name.clone())
    }

    #[test]
    fn keys_come_change_and_go_with_the_secret() {
        let keys = keys();
        assert!(!keys.listed());
        keys.apply(Event::Synced(vec![]));
        assert!(keys.listed() && name(&keys, ONE).is_none(), "there is no Secret yet");
        put(&keys, &[("ci", json!({"key": ONE}))]);
        assert_eq!(name(&keys, ONE).unwrap(), "ci");
        // Two at a time, as while clients move from one to the other.
        put(&keys, &[("ci", json!({"key": ONE})), ("ci-2", json!({"key": TWO}))]);
        assert_eq!((name(&keys, ONE).unwrap(), name(&keys, TWO).unwrap()), ("ci".into(), "ci-2".into()));
        put(&keys, &[("ci-2", json!({"key": TWO}))]);
        assert!(name(&keys, ONE).is_none() && name(&keys, TWO).is_some());
        keys.apply(Event::Deleted(secret("keys", &[("ci-2", json!({"key": TWO}))])));
        assert!(name(&keys, TWO).is_none());
    }

    #[test]
    fn another_secret_means_nothing() {
        let keys = keys();
        put(&keys, &[("ci", json!({"key": ONE}))]);
        let other = || secret("other", &[("x", json!({"key": TWO}))]);
        keys.apply(Event::Applied(other()));
        keys.apply(Event::Deleted(other()));
        assert!(name(&keys, ONE).is_some() && name(&keys, TWO).is_none());
        keys.apply(Event::Synced(vec![other()]));
        assert!(name(&keys, ONE).is_none() && name(&keys, TWO).is_none());
    }

    #[test]
    fn a_broken_entry_harms_no_other_and_the_same_key_twice_is_none() {
        let keys = keys();
        put(&keys, &[("bad", json!("nonsense")), ("ci", json!({"key": ONE}))]);
        assert_eq!(name(&keys, ONE).unwrap(), "ci");
        put(
            &keys,
            &[
                ("a", json!({"key": TWO})),
                ("b", json!({"key": TWO, "readOnly": true})),
                ("ci", json!({"key": ONE})),
            ],
        );
        assert!(name(&keys, TWO).is_none() && name(&keys, ONE).is_some());
        let broken = keys.state.read().broken.clone();
        assert_eq!(broken.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(broken["a"].contains("the entries a, b have the same key"), "{broken:?}");
    }

    #[test]
    fn what_is_used_of_a_limit_stays_used_while_other_things_change() {
        let keys = keys();
        let limited = json!({"key": ONE, "requestsPerSecond": 0.001});
        let take = || keys.find(&Digest::of(ONE.as_bytes())).unwrap().quota.take(Instant::now()).is_ok();
        put(&keys, &[("ci", limited.clone())]);
        assert!(take() && !take());
        put(&keys, &[("ci", limited), ("other", json!({"key": TWO}))]);
        assert!(!take());
        put(&keys, &[("ci", json!({"key": ONE, "requestsPerSecond": 0.002}))]);
        assert!(take(), "another limit is counted anew");
    }

    #[test]
    fn nothing_shows_a_key() {
        let keys = keys();
        put(&keys, &[("ci", json!({"key": ONE})), ("bad", json!({"key": [TWO]}))]);
        let shown = format!("{keys:?}");
        assert!(!shown.contains(ONE) && !shown.contains(TWO), "{shown}");
    }

    #[test]
    fn the_secret_is_named_with_its_namespace() {
        let name: SecretName = "paddock/keys".parse().unwrap();
        assert_eq!(name.watch_options().field_selector.as_deref(), Some("metadata.name=keys"));
        for bad in ["", "keys", "/keys", "ns/", "a/b/c"] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }
}
