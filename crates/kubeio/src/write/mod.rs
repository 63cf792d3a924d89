//! Writes, each with its precondition, and the consistent reads that go with them.
//!
//! A write here is sent once. What a failure means for the object is told apart by [`WriteError`]; whether to look, to try
//! again or to give up is for the caller to decide. There is no way to change or delete an object without naming its UID,
//! so a name that was taken over by another object is never mistaken for the one that was meant.

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use kube::core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::request::Request;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::request::{self, Identity, Page, Repeat};

/// Objects in one page of a consistent list.
const PAGE: u32 = 500;
/// How often a status write without a version makes way for other writers.
const STATUS_ATTEMPTS: u32 = 5;

/// Why a request to the API server did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object, its namespace or its kind does not exist.
    #[error("the object does not exist")]
    NotFound,
    /// The name is taken: go and look what is there.
    #[error("an object of this name exists already")]
    AlreadyExists,
    /// The precondition did not hold: the object has changed, or it is another one of the same name.
    #[error("the object has changed or was replaced by another of the same name")]
    Conflict,
    /// The server will not do this, however often it is asked.
    #[error("the API server refused the request ({status} {reason}): {message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The server's reason, for example `Invalid` or `Forbidden`.
        reason: String,
        /// The server's explanation.
        message: String,
    },
    /// Not done; it may be tried again later.
    #[error("the request was held back{}", retry_after.map(|wait| format!("; try again in {wait:?}")).unwrap_or_default())]
    Throttled {
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer, or a server error. A write may have been done or not.
    #[error("the API server gave no usable answer: {0}")]
    Unavailable(String),
}

impl WriteError {
    /// One word out of a bounded set, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Rejected { .. } => "Rejected",
            Self::Throttled { .. } => "Throttled",
            Self::Unavailable(_) => "Unavailable",
        }
    }

    /// Whether the write may have been done all the same.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::NotFound
            | Self::AlreadyExists
            | Self::Conflict
            | Self::Rejected { .. }
            | Self::Throttled { .. } => false,
        }
    }
}

/// What the server stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The object's UID.
    pub uid: String,
    /// The object's new resource version.
    pub resource_version: String,
    /// When it was made, by the server's clock.
    pub created: Option<Timestamp>,
}

/// Which object a write means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// The UID it must have.
    pub uid: String,
    /// The version it must have; none where the write is right on any version.
    pub resource_version: Option<String>,
}

impl Precondition {
    /// Names exactly this version of an object as it was read. None if the object was never stored.
    pub fn of<K: Resource>(object: &K) -> Option<Self> {
        let meta = object.meta();
        Some(Self { uid: meta.uid.clone()?, resource_version: meta.resource_version.clone() })
    }
}

/// Creates an object. Its name must be set: the server makes none up.
pub async fn create<K>(client: &kube::Client, namespace: &str, object: &K) -> Result<Written, WriteError>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let data = serde_json::to_vec(object).map_err(|error| WriteError::Rejected {
        status: 400,
        reason: "BadRequest".to_owned(),
        message: format!("cannot serialise the {} to create: {error}", K::kind(&())),
    })?;
    written(client, collection::<K>(namespace).create(&PostParams::default(), data)).await
}

/// Changes an object by a JSON merge patch (RFC 7386): null removes a member, lists are replaced.
pub async fn merge_patch<K>(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    precondition: Precondition,
    patch: Value,
) -> Result<Written, WriteError>
where
    K: Resource<DynamicType = ()>,
{
    let patch = Patch::Merge(with_precondition(patch, precondition));
    written(client, collection::<K>(namespace).patch(name, &PatchParams::default(), &patch)).await
}

/// Changes an object's status by a JSON merge patch. The patch has the form `{"status": {...}}`.
///
/// Without a version in the precondition this reads the object first: the API server ignores a UID in a patch of a custom
/// resource's status, and would write to another object of the same name. Hot paths should name the version.
pub async fn merge_patch_status<K>(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    precondition: Precondition,
    patch: Value,
) -> Result<Written, WriteError>
where
    K: Resource<DynamicType = ()>,
{
    let path = collection::<K>(namespace);
    let send = async |precondition| {
        let patch = Patch::Merge(with_precondition(patch.clone(), precondition));
        written(client, path.patch_subresource("status", name, &PatchParams::default(), &patch)).await
    };
    if precondition.resource_version.is_some() {
        return send(precondition).await;
    }
    for _ in 0..STATUS_ATTEMPTS {
        let body = request::send(client, path.get(name, &GetParams::default()), Repeat::Client).await?;
        let Identity { metadata } = request::decode(&body, &K::kind(&()))?;
        if metadata.uid != precondition.uid {
            return Err(WriteError::Conflict);
        }
        let read = Precondition { uid: metadata.uid, resource_version: Some(metadata.resource_version) };
        match send(read).await {
            // Another writer came between. Nothing was done, and any version is right.
            Err(WriteError::Conflict) => {}
            outcome => return outcome,
        }
    }
    Err(WriteError::Conflict)
}

/// Deletes an object; what it owns is collected in the background. It is no error if it does not exist.
///
/// `grace` overrides the pod's own grace period, in seconds.
pub async fn delete<K>(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    precondition: Precondition,
    grace: Option<u32>,
) -> Result<(), WriteError>
where
    K: Resource<DynamicType = ()>,
{
    let params = DeleteParams {
        grace_period_seconds: grace,
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(precondition.uid),
            resource_version: precondition.resource_version,
        }),
        ..DeleteParams::default()
    };
    match request::send(client, collection::<K>(namespace).delete(name, &params), Repeat::Client).await {
        Ok(_) | Err(WriteError::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads an object as it is now, not as a cache remembers it.
pub async fn get<K>(client: &kube::Client, namespace: &str, name: &str) -> Result<Option<K>, WriteError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let built = collection::<K>(namespace).get(name, &GetParams::default());
    match request::send(client, built, Repeat::Client).await {
        Ok(body) => request::decode(&body, &K::kind(&())).map(Some),
        Err(WriteError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads all objects that match, as they are now.
///
/// One that cannot be decoded fails the whole list, because callers conclude from absence.
pub async fn list<K>(
    client: &kube::Client,
    namespace: &str,
    label_selector: &str,
) -> Result<Vec<K>, WriteError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let mut params = ListParams::default().labels(label_selector).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let body = request::send(client, collection::<K>(namespace).list(&params), Repeat::Client).await?;
        let page: Page<'_> = request::decode(&body, &format!("list of {}", K::plural(&())))?;
        for raw in page.items.unwrap_or_default() {
            let object = request::object(raw).map_err(|(error, identity)| {
                request::undecodable(&format!("{} {}", K::kind(&()), identity.metadata.name), &error)
            })?;
            found.push(object);
        }
        if page.metadata.next.is_empty() {
            return Ok(found);
        }
        params.continue_token = Some(page.metadata.next);
    }
}

pub(crate) fn collection<K: Resource<DynamicType = ()>>(namespace: &str) -> Request {
    Request::new(K::url_path(&(), Some(namespace)))
}

/// The server compares a patch's own UID and version with the stored ones, and does nothing where they differ.
fn with_precondition(mut patch: Value, precondition: Precondition) -> Value {
    if !patch["metadata"].is_object() {
        patch["metadata"] = json!({});
    }
    patch["metadata"]["uid"] = precondition.uid.into();
    if let Some(version) = precondition.resource_version {
        patch["metadata"]["resourceVersion"] = version.into();
    }
    patch
}

/// What of a written object is of interest.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    metadata: AnswerMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AnswerMetadata {
    uid: String,
    resource_version: String,
    creation_timestamp: Option<Timestamp>,
}

async fn written(client: &kube::Client, built: request::Built) -> Result<Written, WriteError> {
    let body = request::send(client, built, Repeat::Client).await?;
    // The write is done, so an answer that cannot be read leaves its outcome unknown rather than refused.
    match serde_json::from_slice::<Answer>(&body) {
        Ok(Answer { metadata }) if !metadata.uid.is_empty() => {
            let created = metadata.creation_timestamp;
            Ok(Written { uid: metadata.uid, resource_version: metadata.resource_version, created })
        }
        Ok(_) => Err(WriteError::Unavailable("the answer names no object".to_owned())),
        Err(error) => Err(WriteError::Unavailable(format!("the answer cannot be decoded: {error}"))),
    }
}
