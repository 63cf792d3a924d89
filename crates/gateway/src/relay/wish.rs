//! Tells the controller what a session shall do: the only changes of a spec that the gateway makes.
//!
//! Each names the very version it was decided on, so whoever changed the session meanwhile has decided first, and
//! the caller looks again.

use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::Session;
use paddock_api::session::{DesiredState, SessionSpec};
use paddock_kubeio::write::{Precondition, WriteError};
use serde_json::{Value, json};

use super::lookup;
use crate::error::ApiError;
use crate::gateway::Gateway;

/// How often a change is tried while others change the session.
pub const ATTEMPTS: usize = 5;

/// What a session shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Run.
    Run,
    /// Run in a new pod; the time tells this wish from those before it.
    Restart(Timestamp),
    /// Give its pod back and keep its workspace.
    Suspend,
    /// End.
    Stop,
}

/// What became of it.
#[derive(Debug)]
pub enum Wished {
    /// It is stored; this is the session with it.
    Stored(Arc<Session>),
    /// The session had changed before; this is how it is now, without the wish.
    Changed(Arc<Session>),
}

impl Wish {
    /// A restart of `session` that differs from any before.
    pub fn restart(session: &Session, now: Timestamp) -> Self {
        let before =
            [session.spec.restarted_at, session.status.as_ref().and_then(|status| status.restarted_at)];
        let mut millis = now.as_millisecond();
        while before.iter().flatten().any(|time| time.as_millisecond() == millis) {
            millis += 1;
        }
        Self::Restart(Timestamp::from_millisecond(millis).unwrap_or(now))
    }

    fn state(self) -> DesiredState {
        match self {
            Self::Run | Self::Restart(_) => DesiredState::Running,
            Self::Suspend => DesiredState::Suspended,
            Self::Stop => DesiredState::Stopped,
        }
    }

    fn patch(self) -> Value {
        match self {
            Self::Restart(at) => json!({"spec": {"state": self.state(), "restartedAt": at}}),
            Self::Run | Self::Suspend | Self::Stop => json!({"spec": {"state": self.state()}}),
        }
    }

    fn put_into(self, spec: &mut SessionSpec) {
        spec.state = self.state();
        if let Self::Restart(at) = self {
            spec.restarted_at = Some(at);
        }
    }

    fn is_in(self, spec: &SessionSpec) -> bool {
        let mut with = spec.clone();
        self.put_into(&mut with);
        with == *spec
    }

    const fn doing(self) -> &'static str {
        match self {
            Self::Run => "resuming the session",
            Self::Restart(_) => "restarting the session",
            Self::Suspend => "suspending the session",
            Self::Stop => "stopping the session",
        }
    }

    /// The error for a session that changed at each of [`ATTEMPTS`].
    pub fn given_up(self, name: &str) -> ApiError {
        let what = self.doing();
        ApiError::new(
            paddock_api::http::ErrorCode::ClusterUnavailable,
            format!("{what} {name} failed: it kept changing meanwhile; try again"),
        )
        .retry_after(lookup::CLUSTER_RETRY)
    }
}

/// Stores `wish` in `session`, if that is still the session's state.
///
/// # Errors
/// `not_found`, or `cluster_unavailable`.
pub async fn store(gateway: &Gateway, session: &Session, wish: Wish) -> Result<Wished, ApiError> {
    let name = session.metadata.name.clone().unwrap_or_default();
    let Some(precondition) = Precondition::of(session) else { return Err(lookup::not_found(&name)) };
    match gateway.cluster.patch_session(&name, precondition, wish.patch()).await {
        Ok(written) => {
            tracing::info!(session = %name, ?wish, "told a session what to do");
            let mut told = session.clone();
            wish.put_into(&mut told.spec);
            told.metadata.resource_version = Some(written.resource_version);
            gateway.index.record_session(told.clone());
            Ok(Wished::Stored(Arc::new(told)))
        }
        // Our view was old, or somebody was quicker.
        Err(WriteError::Conflict) => Ok(Wished::Changed(lookup::read(gateway, &name).await?)),
        Err(WriteError::NotFound) => Err(lookup::not_found(&name)),
        Err(error) if error.outcome_unknown() => {
            let now = lookup::read(gateway, &name).await?;
            if now.metadata.uid == session.metadata.uid && wish.is_in(&now.spec) {
                return Ok(Wished::Stored(now));
            }
            Err(lookup::unavailable(wish.doing(), &error))
        }
        Err(error) => Err(lookup::unavailable(wish.doing(), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(spec: Option<&str>, status: Option<&str>) -> Session {
        serde_json::from_value(json!({
            "apiVersion": "paddock.dev/v1alpha1", "kind": "Session", "metadata": {"name": "s"},
            "spec": {"agentRef": {"name": "a"}, "state": "Stopped", "restartedAt": spec},
            "status": {"restartedAt": status},
        }))
        .unwrap()
    }

    #[test]
    fn a_restart_differs_from_those_before_it_whatever_the_clock_says() {
        let now: Timestamp = "2026-01-01T00:00:00.0005Z".parse().unwrap();
        for (spec, status, expected) in [
            (None, None, "2026-01-01T00:00:00Z"),
            (Some("2026-01-01T00:00:00Z"), None, "2026-01-01T00:00:00.001Z"),
            (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:00:00.001Z"), "2026-01-01T00:00:00.002Z"),
            (Some("2027-01-01T00:00:00Z"), None, "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(Wish::restart(&session(spec, status), now), Wish::Restart(expected.parse().unwrap()));
        }
    }

    #[test]
    fn a_wish_is_known_again_in_a_spec() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let spec = session(None, None).spec;
        assert!(Wish::Stop.is_in(&spec) && !Wish::Run.is_in(&spec));
        let mut again = spec.clone();
        Wish::Restart(now).put_into(&mut again);
        assert!(Wish::Restart(now).is_in(&again) && Wish::Run.is_in(&again));
        assert!(!Wish::restart(&session(Some("2026-01-01T00:00:00Z"), None), now).is_in(&again));
    }
}
