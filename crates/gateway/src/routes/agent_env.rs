//! An agent's environment variables as HTTP clients give them: names in the Agent, values in a Secret of its own.
//!
//! The values go through the gateway once, on their way in. They are read back by nobody here: of the Secret only names and
//! sizes are read. The Secret's name follows from the Agent's and its keys are the variables' names, so that every attempt,
//! of whatever replica, writes to the same place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use paddock_api::agent::{EnvVar, is_reserved_env};
use paddock_api::http::{ErrorCode, MASKED};
use paddock_api::{Agent, AgentSpec, labels};
use paddock_kubeio::slim::{SlimSecret, ValueSize};
use paddock_kubeio::write::{Precondition, WriteError, Written};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;
use serde_json::value::RawValue;

use super::agent_equipment::used_keys;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::lookup;

/// Most variables of an agent.
const MAX_VARS: usize = 50;
/// Most bytes of all names and values together.
const MAX_BYTES: usize = 16_384;
/// Longest name of a variable.
const MAX_NAME: usize = 256;
/// How often the Secret is written while others change it.
const ATTEMPTS: usize = 5;

/// All the variables that an agent shall have.
#[derive(Clone, Default)]
pub struct EnvVars(BTreeMap<String, Wanted>);

#[derive(Clone)]
enum Wanted {
    /// This value.
    Value(String),
    /// The one it has: a client sends back the mask that it was shown.
    Kept,
}

impl fmt::Debug for EnvVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Values on their way into a Secret.
#[derive(Clone, Default)]
pub struct Values(BTreeMap<String, String>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Values {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more.
    pub fn insert(&mut self, key: String, value: String) {
        self.0.insert(key, value);
    }

    /// Those of `more` too.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    fn encoded(&self) -> BTreeMap<String, ByteString> {
        self.0.iter().map(|(key, value)| (key.clone(), ByteString(value.clone().into_bytes()))).collect()
    }
}

fn bad(message: impl fmt::Display) -> ApiError {
    ApiError::bad_request(format!("env_vars: {message}"))
}

impl EnvVars {
    /// Reads and checks the field. A variable whose value is `null` shall not be there.
    ///
    /// # Errors
    /// `bad_request`, naming the variables. No value is in it.
    pub fn read(raw: &RawValue) -> Result<Self, ApiError> {
        // What serde says of a mistake may quote a value.
        let given: BTreeMap<String, Option<String>> = serde_json::from_str(raw.get()).map_err(|_| {
            bad("must be an object whose values are strings, or null for those to be removed")
        })?;
        if let Some(name) = given.keys().find(|name| !is_name(name)) {
            let shown: String = name.chars().take(64).collect();
            return Err(bad(format_args!(
                "{shown:?} is no name of a variable; use letters, digits and underscores, not a digit first, at most {MAX_NAME}"
            )));
        }
        let reserved: Vec<&str> =
            given.keys().map(String::as_str).filter(|name| is_reserved_env(name)).collect();
        if !reserved.is_empty() {
            let reserved = reserved.join(", ");
            return Err(bad(format_args!("{reserved}: reserved for the sandbox; choose other names")));
        }
        let wanted: BTreeMap<String, Wanted> = given
            .into_iter()
            .filter_map(|(name, value)| {
                let value = value?;
                Some((name, if value == MASKED { Wanted::Kept } else { Wanted::Value(value) }))
            })
            .collect();
        if wanted.len() > MAX_VARS {
            return Err(bad(format_args!("{} variables; an agent has at most {MAX_VARS}", wanted.len())));
        }
        let has_nul = |wanted: &Wanted| matches!(wanted, Wanted::Value(value) if value.contains('\0'));
        if let Some((name, _)) = wanted.iter().find(|(_, wanted)| has_nul(wanted)) {
            return Err(bad(format_args!("{name}: has a NUL character, which no variable can have")));
        }
        let vars = Self(wanted);
        check_size(vars.0.iter().map(|(name, wanted)| match wanted {
            Wanted::Value(value) => name.len() + value.len(),
            Wanted::Kept => name.len(),
        }))?;
        Ok(vars)
    }

    /// The environment that an agent with `current` shall have, and the values that `secret` must be given for it.
    ///
    /// # Errors
    /// `bad_request`: a value is to be kept that is not there, or all are too large together.
    pub fn applied_to(
        self,
        current: &[EnvVar],
        secret: &str,
        stored: Option<&SlimSecret>,
    ) -> Result<(Vec<EnvVar>, Values), ApiError> {
        let (mut env, mut values) = (Vec::new(), Values::default());
        let mut sizes = Vec::new();
        for (name, wanted) in self.0 {
            match wanted {
                Wanted::Value(value) => {
                    sizes.push(name.len() + value.len());
                    env.push(EnvVar::from_secret(&name, secret, &name));
                    values.0.insert(name, value);
                }
                Wanted::Kept => {
                    let Some(kept) = current.iter().find(|var| var.name == name) else {
                        return Err(bad(format_args!(
                            "{name}: {MASKED} keeps the value that is stored, and there is none; give the value"
                        )));
                    };
                    sizes.push(name.len() + size(kept, secret, stored));
                    env.push(kept.clone());
                }
            }
        }
        check_size(sizes.into_iter())?;
        Ok((env, values))
    }
}

impl JsonSchema for EnvVars {
    fn schema_name() -> Cow<'static, str> {
        "EnvVars".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!(
                "At most {MAX_VARS} names and values, with at most {MAX_BYTES} bytes in all. Values are secrets and never shown again. Some names are reserved."
            ),
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": MAX_NAME},
            "additionalProperties": {"type": ["string", "null"], "maxLength": MAX_BYTES},
        })
    }
}

/// Whether a variable can have this name.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_size(sizes: impl Iterator<Item = usize>) -> Result<(), ApiError> {
    let total: usize = sizes.sum();
    if total > MAX_BYTES {
        return Err(bad(format_args!("{total} bytes in all; names and values have at most {MAX_BYTES}")));
    }
    Ok(())
}

/// The size of a value that is kept. One in a Secret of somebody else's is not ours to look at.
fn size(kept: &EnvVar, own: &str, stored: Option<&SlimSecret>) -> usize {
    match kept.secret() {
        None => kept.value.len(),
        Some(at) if at.name == own => {
            stored.and_then(|stored| stored.sizes.get(&at.key)).map_or(0, |size| size.0)
        }
        Some(_) => 0,
    }
}

/// The name of an agent's Secret.
pub fn secret_name(agent: &str) -> String {
    format!("paddock-env-{agent}")
}

/// An agent's Secret, as far as it is known.
pub struct Store<'a> {
    gateway: &'a Gateway,
    agent: &'a Agent,
    name: String,
    /// What is there.
    pub stored: Option<SlimSecret>,
}

impl<'a> Store<'a> {
    /// The Secret of an agent that was made a moment ago and has none.
    pub fn new(gateway: &'a Gateway, agent: &'a Agent) -> Self {
        let name = secret_name(agent.metadata.name.as_deref().unwrap_or_default());
        Self { gateway, agent, name, stored: None }
    }

    /// The Secret of an agent, as it is now.
    ///
    /// # Errors
    /// `cluster_unavailable`, also where the name is taken by something that is not the agent's.
    pub async fn read(gateway: &'a Gateway, agent: &'a Agent) -> Result<Self, ApiError> {
        let mut store = Self::new(gateway, agent);
        store.refresh().await?;
        Ok(store)
    }

    /// The Secret's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores values, under the names of their variables. Written again after an answer that was lost, they are the same.
    ///
    /// # Errors
    /// `cluster_unavailable`.
    pub async fn put(&mut self, values: &Values) -> Result<(), ApiError> {
        if values.is_empty() {
            return Ok(());
        }
        let mut attempts = ATTEMPTS;
        loop {
            let error = match self.write(values).await {
                Ok(written) => {
                    let stored = self.stored.get_or_insert_default();
                    stored.metadata.uid = Some(written.uid);
                    stored.metadata.resource_version = Some(written.resource_version);
                    let new = values.0.keys().map(|key| (key.clone(), ValueSize::default()));
                    stored.sizes.extend(new);
                    return Ok(());
                }
                Err(error) => error,
            };
            attempts -= 1;
            let another = match &error {
                WriteError::AlreadyExists | WriteError::Conflict | WriteError::NotFound => true,
                other => other.outcome_unknown(),
            };
            if !another || attempts == 0 {
                return Err(lookup::unavailable("storing the agent's secret values", &error));
            }
            self.refresh().await?;
        }
    }

    async fn write(&self, values: &Values) -> Result<Written, WriteError> {
        let data = values.encoded();
        match self.precondition() {
            None => self.gateway.cluster.create_secret(&self.object(data)).await,
            Some(precondition) => {
                let patch = json!({"data": data});
                self.gateway.cluster.patch_secret(&self.name, precondition, patch).await
            }
        }
    }

    /// Takes out what the agent does not refer to. What cannot be taken out now goes with the next change, or with the
    /// agent: nobody uses it.
    pub async fn prune(self, spec: &AgentSpec) {
        let used = used_keys(spec, &self.name);
        let stored = self.stored.iter().flat_map(|stored| stored.sizes.keys());
        let unused: BTreeMap<&String, ()> =
            stored.filter(|key| !used.contains(key.as_str())).map(|key| (key, ())).collect();
        let (false, Some(precondition)) = (unused.is_empty(), self.precondition()) else { return };
        let patch = json!({"data": unused});
        if let Err(error) = self.gateway.cluster.patch_secret(&self.name, precondition, patch).await {
            tracing::warn!(
                secret = self.name,
                reason = error.reason(),
                "values that the agent does not use any more are still in its Secret"
            );
        }
    }

    async fn refresh(&mut self) -> Result<(), ApiError> {
        let found = self.gateway.cluster.read_secret(&self.name).await;
        let found = found.map_err(|error| lookup::unavailable("reading the agent's Secret", &error))?;
        let own = |secret: &SlimSecret| {
            let owners = secret.metadata.owner_references.iter().flatten();
            owners.into_iter().any(|owner| Some(&owner.uid) == self.agent.metadata.uid.as_ref())
        };
        if found.as_ref().is_some_and(|secret| !own(secret)) {
            return Err(ApiError::new(
                ErrorCode::ClusterUnavailable,
                format!(
                    "the Secret {} is there and is not this agent's; delete it, or try again if an agent of this name was deleted a moment ago",
                    self.name
                ),
            )
            .retry_after(lookup::CLUSTER_RETRY));
        }
        self.stored = found;
        Ok(())
    }

    fn precondition(&self) -> Option<Precondition> {
        self.stored.as_ref().and_then(Precondition::of)
    }

    /// It goes with its agent, and may be used for variables.
    fn object(&self, data: BTreeMap<String, ByteString>) -> Secret {
        let agent = self.agent.metadata.name.clone().unwrap_or_default();
        let owner = OwnerReference {
            api_version: Agent::api_version(&()).into_owned(),
            kind: Agent::kind(&()).into_owned(),
            name: agent.clone(),
            uid: self.agent.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let labels = [(labels::ENV_SECRET, "true".to_owned()), (labels::AGENT, agent)];
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..Secret::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<EnvVars, ApiError> {
        EnvVars::read(serde_json::from_str(json).unwrap())
    }

    fn refusal(json: &str) -> String {
        let message = read(json).unwrap_err().message;
        assert!(message.starts_with("env_vars: ") && !message.contains("hunter2"), "{message}");
        message
    }

    #[test]
    fn names_are_checked_and_told() {
        assert!(read(r#"{"A":"hunter2","_b9":"","GITHUB_TOKEN":"x"}"#).is_ok());
        for name in ["", "9A", "A-B", "A B", "Ä", "A.B"] {
            assert!(
                refusal(&json!({name: "hunter2"}).to_string()).contains("no name of a variable"),
                "{name}"
            );
        }
        assert!(refusal(&json!({"A".repeat(257): "hunter2"}).to_string()).len() < 300);
        let message = refusal(r#"{"PATH":"hunter2","OPENCODE_X":"hunter2","FINE":"hunter2"}"#);
        assert!(message.contains("OPENCODE_X, PATH: reserved") && !message.contains("FINE"), "{message}");
    }

    #[test]
    fn values_are_texts_and_never_quoted() {
        for odd in
            [r#""hunter2""#, r#"["hunter2"]"#, r#"{"A":["hunter2"]}"#, r#"{"A":1}"#, r#"{"A":{"hunter2":1}}"#]
        {
            assert!(refusal(odd).contains("must be an object"), "{odd}");
        }
        assert!(refusal(r#"{"A":"hunter2\u0000"}"#).contains("NUL"));
        let vars = read(r#"{"A":"hunter2"}"#).unwrap();
        assert_eq!(format!("{vars:?}"), r#"{"A"}"#);
        let (_, values) = vars.applied_to(&[], "s", None).unwrap();
        assert_eq!(format!("{values:?}"), r#"{"A"}"#);
    }

    #[test]
    fn number_and_size_are_bounded() {
        let many = |n: usize| {
            let all: BTreeMap<String, &str> = (0..n).map(|i| (format!("V{i}"), "hunter2")).collect();
            json!(all).to_string()
        };
        assert!(read(&many(50)).is_ok());
        assert!(refusal(&many(51)).contains("at most 50"));
        assert!(read(&json!({"AB": "x".repeat(MAX_BYTES - 2)}).to_string()).is_ok());
        assert!(refusal(&json!({"AB": "x".repeat(MAX_BYTES - 1)}).to_string()).contains("at most 16384"));
        // What is kept counts.
        let current = [EnvVar::from_secret("OLD", "s", "OLD"), EnvVar::plain("PLAIN", "12345")];
        let mut stored = SlimSecret::default();
        stored.sizes.insert("OLD".to_owned(), ValueSize(100));
        let with = |new: usize| {
            let json = json!({"OLD": MASKED, "PLAIN": MASKED, "N": "x".repeat(new)}).to_string();
            read(&json).unwrap().applied_to(&current, "s", Some(&stored)).map(drop)
        };
        let rest = MAX_BYTES - 100 - 5 - "OLDPLAINN".len();
        assert!(with(rest).is_ok());
        assert!(with(rest + 1).unwrap_err().message.contains("at most 16384"));
    }

    #[test]
    fn a_whole_set_takes_the_place_of_the_one_before() {
        let current = [
            EnvVar::from_secret("KEPT", "s", "KEPT"),
            EnvVar::from_secret("CHANGED", "s", "CHANGED"),
            EnvVar::from_secret("GONE", "s", "GONE"),
            EnvVar::from_secret("NULL", "s", "NULL"),
            EnvVar::plain("PLAIN", "p"),
            EnvVar::plain("NOW_SECRET", "p"),
            EnvVar::from_secret("THEIRS", "other", "k"),
        ];
        let json = json!({"KEPT": "***", "CHANGED": "new", "NULL": null, "PLAIN": "***", "NOW_SECRET": "x", "THEIRS": "***", "ADDED": "a"});
        let (env, values) = read(&json.to_string()).unwrap().applied_to(&current, "s", None).unwrap();
        assert_eq!(
            env,
            [
                EnvVar::from_secret("ADDED", "s", "ADDED"),
                EnvVar::from_secret("CHANGED", "s", "CHANGED"),
                EnvVar::from_secret("KEPT", "s", "KEPT"),
                EnvVar::from_secret("NOW_SECRET", "s", "NOW_SECRET"),
                EnvVar::plain("PLAIN", "p"),
                EnvVar::from_secret("THEIRS", "other", "k"),
            ]
        );
        let values: Vec<_> = values.0.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(values, [("ADDED", "a"), ("CHANGED", "new"), ("NOW_SECRET", "x")]);
        let nothing = read(r#"{"NEW":"***"}"#).unwrap().applied_to(&current, "s", None).unwrap_err();
        assert!(nothing.message.contains("NEW: *** keeps the value that is stored"), "{}", nothing.message);
    }
}
