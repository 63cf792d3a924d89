//! Whether the API server answers this gateway.

use std::time::Instant;

use http::{Response, StatusCode};
use paddock_api::http::ApiClusterHealth;

use super::answer::Answer;
use crate::gateway::Gateway;

/// The name asked for. No such session needs to exist: "not found" is an answer too, and reading sessions is
/// the permission that the gateway cannot do without.
const PROBE: &str = "paddock-health-probe";

/// `GET /api/v1/health/k8s`
pub async fn cluster(gateway: &Gateway) -> Response<Answer> {
    let begun = Instant::now();
    let outcome = gateway.cluster.read_session(PROBE).await;
    let health = ApiClusterHealth {
        ok: outcome.is_ok(),
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        error: outcome.err().map(|error| error.reason().to_owned()),
    };
    let mut response = Answer::json(&health);
    if !health.ok {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
