//! Finds a session: in the index, and where the index could be behind, at the API server.
//!
//! Another replica may have made the session a moment ago, so "not found" is never told from the index alone.

use std::sync::Arc;
use std::time::Duration;

use paddock_api::Session;
use paddock_api::http::ErrorCode;
use paddock_kubeio::write::WriteError;

use super::target::Target;
use crate::error::ApiError;
use crate::gateway::Gateway;

/// When to try again after the API server did not answer.
pub const CLUSTER_RETRY: Duration = Duration::from_secs(2);

/// The newest known state of a session.
///
/// # Errors
/// `not_found`, or `cluster_unavailable`.
pub async fn find(gateway: &Gateway, name: &str) -> Result<Arc<Session>, ApiError> {
    match gateway.index.session(name) {
        Some(session) => Ok(session),
        None => read(gateway, name).await,
    }
}

/// A session's state as the API server has it now.
///
/// # Errors
/// `not_found`, or `cluster_unavailable`.
pub async fn read(gateway: &Gateway, name: &str) -> Result<Arc<Session>, ApiError> {
    match gateway.cluster.read_session(name).await {
        Ok(Some(session)) => {
            gateway.index.record_session(session.clone());
            Ok(Arc::new(session))
        }
        Ok(None) => {
            gateway.index.forget_session(name);
            Err(not_found(name))
        }
        Err(error) => Err(unavailable("reading the session", &error)),
    }
}

/// The session as the API server has it now.
///
/// # Errors
/// `cluster_unavailable`; `not_found`, or `dead` where another session has its name.
pub async fn read_again(gateway: &Gateway, session: &Session) -> Result<Arc<Session>, ApiError> {
    let name = session.metadata.name.as_deref().unwrap_or_default();
    same(session, Some(read(gateway, name).await?))
}

/// Where `session` is, as `find` reads it. The index may be a moment behind; nobody is turned away on its word alone.
///
/// # Errors
/// What `find` says of the session as it is now; those of [`read_again`].
pub async fn target(
    gateway: &Gateway,
    session: &Session,
    find: impl Fn(&Session) -> Result<Target, ApiError>,
) -> Result<Target, ApiError> {
    match find(session) {
        Ok(target) => Ok(target),
        Err(_) => find(&*read_again(gateway, session).await?),
    }
}

/// What became of `session`, if it is not another one of its name.
///
/// # Errors
/// `not_found`, or `dead` where another session has its name.
pub fn same(session: &Session, now: Option<Arc<Session>>) -> Result<Arc<Session>, ApiError> {
    let name = session.metadata.name.as_deref().unwrap_or_default();
    match now {
        None => Err(not_found(name)),
        Some(now) if now.metadata.uid == session.metadata.uid => Ok(now),
        Some(_) => Err(ApiError::new(
            ErrorCode::Dead,
            format!("session {name} was deleted and made anew meanwhile; send the request again"),
        )),
    }
}

/// There is no session of this name.
pub fn not_found(name: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("session {name} not found"))
}

/// The API server did not do what was asked of it.
pub fn unavailable(what: &str, error: &WriteError) -> ApiError {
    tracing::warn!(reason = error.reason(), what, "the API server did not do as asked");
    let wait = match error {
        WriteError::Throttled { retry_after: Some(wait) } => *wait,
        _ => CLUSTER_RETRY,
    };
    ApiError::new(
        ErrorCode::ClusterUnavailable,
        format!(
            "{what} failed, because the Kubernetes API server did not do it ({}); try again",
            error.reason()
        ),
    )
    .retry_after(wait)
}
