//! `GET /sessions/{id}/sandbox_logs`: what the harness's container has written, as `kubectl logs` shows it.
//!
//! It is the output of the runner and of the harness, whatever that writes. A session that is still coming up has written nothing,
//! which is no error: clients ask again and again meanwhile.

use http::Response;
use paddock_api::http::{ApiStatus, ErrorCode};
use paddock_api::{Sandbox, Session, labels};
use paddock_kubeio::look::LogQuery;
use paddock_kubeio::write::WriteError;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::query::{Number, Query};
use crate::relay::lookup;
use crate::relay::target::Target;

/// Within how many seconds the lines were written.
pub const SINCE_SECONDS: Number = Number { name: "sinceSeconds", least: 1, most: 3600, default: 600 };
/// How many lines there are at most, the last ones.
pub const TAIL_LINES: Number = Number { name: "tailLines", least: 1, most: 5000, default: 500 };
/// Most bytes of an answer.
const MOST_BYTES: u32 = 8 << 20;

/// Serves the route.
pub async fn get(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let since_seconds = bounded(&ask.query, &SINCE_SECONDS)?;
    let tail_lines = bounded(&ask.query, &TAIL_LINES)?;
    let session = lookup::find(gateway, id.as_str()).await?;
    let Some(name) = sandbox_name(&session) else { return without_log(&session) };
    let failed = |error: WriteError| lookup::unavailable("reading the sandbox's log", &error);
    let sandbox = gateway.cluster.read_sandbox(name).await.map_err(failed)?;
    let Some(container) = sandbox.as_ref().and_then(harness_container) else { return without_log(&session) };
    let query = LogQuery { container, since_seconds, tail_lines, most_bytes: MOST_BYTES };
    match gateway.cluster.read_log(name, &query).await {
        Ok(Some(log)) => Ok(Answer::text(String::from_utf8_lossy(&log).into_owned())),
        Ok(None) => without_log(&session),
        Err(error) if has_not_started(&error) => Ok(Answer::text(String::new())),
        Err(error) => Err(failed(error)),
    }
}

fn bounded(query: &Query, of: &Number) -> Result<u32, ApiError> {
    let number = query.number(of)?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The session's Sandbox, whose pod has the same name.
fn sandbox_name(session: &Session) -> Option<&str> {
    Some(session.status.as_ref()?.sandbox.as_ref()?.name.as_str()).filter(|name| !name.is_empty())
}

/// The answer where there is no pod.
fn without_log(session: &Session) -> Result<Response<Answer>, ApiError> {
    match (ApiStatus::of(session), Target::of(session)) {
        (ApiStatus::Creating, _) => Ok(Answer::text(String::new())),
        (ApiStatus::Suspended | ApiStatus::Failed | ApiStatus::Dead, Err(error)) => Err(error),
        (_, _) => {
            let name = session.metadata.name.as_deref().unwrap_or_default();
            Err(ApiError::new(
                ErrorCode::NotReady,
                format!("session {name} has lost its pod, and the log with it; ask again"),
            )
            .retry_after(lookup::CLUSTER_RETRY))
        }
    }
}

/// The container that became the harness's, by the rule of the controller.
fn harness_container(sandbox: &Sandbox) -> Option<String> {
    let annotations = sandbox.metadata.annotations.as_ref();
    let named = annotations.and_then(|annotations| annotations.get(labels::HARNESS_CONTAINER).cloned());
    named.or_else(|| {
        let first = &sandbox.spec.pod_template.spec["containers"][0]["name"];
        first.as_str().map(str::to_owned)
    })
}

/// How the API server says that a container has written nothing yet.
fn has_not_started(error: &WriteError) -> bool {
    matches!(error, WriteError::Rejected { status: 400, message, .. } if message.contains("waiting to start"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sandbox(annotations: Value) -> Sandbox {
        serde_json::from_value(json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": {"annotations": annotations},
            "spec": {"podTemplate": {"spec": {"containers": [{"name": "first"}, {"name": "second"}]}}},
        }))
        .unwrap()
    }

    #[test]
    fn the_log_is_the_harness_container_s() {
        assert_eq!(harness_container(&sandbox(json!({}))).as_deref(), Some("first"));
        let named = sandbox(json!({labels::HARNESS_CONTAINER: "second"}));
        assert_eq!(harness_container(&named).as_deref(), Some("second"));
    }
}
