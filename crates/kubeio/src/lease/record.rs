//! The Lease object: reading it, and the few writes of an election. Each write names the version it was decided on.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::core::params::{GetParams, PostParams};

use crate::clock::Clock;
use crate::request::{self, Repeat};
use crate::write::{self, WriteError};

/// What tells a follower that the leader is alive: any change of it. The object's version is left out, because others
/// may label or annotate a Lease whose holder is long dead.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) holder: String,
    pub(super) duration: Option<Duration>,
    renewed: Option<Timestamp>,
    acquired: Option<Timestamp>,
    transitions: i32,
}

/// A Lease as the server has it.
#[derive(Clone, Debug)]
pub(super) struct Stored(Box<Lease>);

impl Stored {
    pub(super) fn record(&self) -> Record {
        let spec = self.spec();
        Record {
            holder: spec.holder_identity.unwrap_or_default(),
            duration: spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
            renewed: spec.renew_time.map(|time| time.0),
            acquired: spec.acquire_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }

    fn spec(&self) -> LeaseSpec {
        self.0.spec.clone().unwrap_or_default()
    }

    fn with(&self, spec: LeaseSpec) -> Lease {
        let mut lease = Lease::clone(&self.0);
        lease.spec = Some(spec);
        lease
    }
}

/// Access to one Lease in the name of one candidate.
#[derive(Debug)]
pub(super) struct Records {
    client: ClientHandle,
    namespace: String,
    name: String,
    identity: String,
    duration_seconds: i32,
    clock: Clock,
}

/// kube's client has no Debug.
struct ClientHandle(kube::Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Records {
    pub(super) fn new(
        client: kube::Client,
        namespace: String,
        name: String,
        identity: String,
        duration: Duration,
    ) -> Self {
        let duration_seconds = i32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX).max(1);
        let clock = Clock::system();
        Self { client: ClientHandle(client), namespace, name, identity, duration_seconds, clock }
    }

    pub(super) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    pub(super) async fn read(&self) -> Result<Option<Stored>, WriteError> {
        let built = write::collection::<Lease>(&self.namespace).get(&self.name, &GetParams::default());
        match request::send(&self.client.0, built, Repeat::Caller).await {
            Ok(body) => request::decode(&body, "Lease").map(|lease| Some(Stored(Box::new(lease)))),
            Err(WriteError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn create(&self) -> Result<Stored, WriteError> {
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        };
        let lease = Lease { metadata, spec: Some(self.mine(0)) };
        let built =
            write::collection::<Lease>(&self.namespace).create(&PostParams::default(), encode(&lease)?);
        self.stored(built).await
    }

    /// Makes this candidate the holder.
    pub(super) async fn take(&self, stored: &Stored) -> Result<Stored, WriteError> {
        let spec = stored.spec();
        let transitions = spec.lease_transitions.unwrap_or_default();
        let kept = spec.holder_identity.as_deref() == Some(self.identity.as_str());
        self.replace(stored.with(self.mine(if kept { transitions } else { transitions.saturating_add(1) })))
            .await
    }

    /// Shows that the holder is alive.
    pub(super) async fn renew(&self, stored: &Stored) -> Result<Stored, WriteError> {
        let spec = LeaseSpec { renew_time: Some(MicroTime(self.clock.now())), ..stored.spec() };
        self.replace(stored.with(spec)).await
    }

    /// Leaves the Lease without a holder.
    pub(super) async fn release(&self, stored: &Stored) -> Result<(), WriteError> {
        let now = MicroTime(self.clock.now());
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..stored.spec()
        };
        self.replace(stored.with(spec)).await.map(drop)
    }

    fn mine(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.duration_seconds),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Stores a Lease in place of the version it was made from.
    async fn replace(&self, lease: Lease) -> Result<Stored, WriteError> {
        let built = write::collection::<Lease>(&self.namespace).replace(
            &self.name,
            &PostParams::default(),
            encode(&lease)?,
        );
        self.stored(built).await
    }

    async fn stored(&self, built: request::Built) -> Result<Stored, WriteError> {
        let body = request::send(&self.client.0, built, Repeat::Caller).await?;
        request::decode(&body, "Lease").map(|lease| Stored(Box::new(lease)))
    }
}

fn encode(lease: &Lease) -> Result<Vec<u8>, WriteError> {
    serde_json::to_vec(lease).map_err(|error| WriteError::Rejected {
        status: 400,
        reason: "BadRequest".to_owned(),
        message: format!("cannot serialise the Lease: {error}"),
    })
}
