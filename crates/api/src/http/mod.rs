//! The HTTP types of the gateway: what clients of the managed-agents API read.
//!
//! Names and words are those of LiteLLM Agent Platform, so that its clients work unchanged; fields that have
//! no value yet are `null`. The conversions from the Kubernetes kinds live here, so that the whole of what an
//! HTTP client sees of an object can be read in one place. Values of environment variables never get out.

mod agent;
mod error;
mod harness;
mod session;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use agent::{
    ApiAgent, ApiAgentEntry, ApiAgentList, ApiMcpServer, ApiRequirements, DEFAULT_BRANCH, MASKED,
    is_terminal_harness,
};
pub use error::{ErrorCode, ErrorResponse};
pub use harness::{HarnessEvent, HarnessMessage, HarnessPart, HarnessReply};
pub use session::{ApiPhase, ApiSession, ApiStatus, agent_name, tty_url};

/// Where the managed-agents API is rooted.
pub const BASE_PATH: &str = "/api/v1/managed_agents";

/// Answer to the deletion of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiDeleted {
    /// The session.
    pub id: String,
    /// What has become of it.
    pub status: DeletedStatus,
}

/// See [`ApiDeleted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeletedStatus {
    /// It was stopped by this request.
    Deleted,
    /// It had ended before.
    Dead,
}

/// Answer to an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiAborted {
    /// The turn that ran, if one did, is being stopped.
    pub ok: bool,
}

/// Whether the gateway reaches the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApiClusterHealth {
    /// It does.
    pub ok: bool,
    /// How long the API server took, in milliseconds.
    pub elapsed_ms: u64,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub error: Option<String>,
}
