//! Reading agents. Writing them is in `agent_write`.

use std::cmp::Ordering;
use std::collections::HashMap;

use http::Response;
use paddock_api::Agent;
use paddock_api::http::{ApiAgent, ApiAgentEntry, ApiAgentList, ApiStatus, ErrorCode, agent_name};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::query::Number;
use crate::relay::lookup;

/// How many agents a page has at most. Clients that look for one by its name ask for no number, and believe they see all.
pub const LIMIT: Number = Number { name: "limit", least: 1, most: 200, default: 200 };

/// How many entries of a list are left out.
pub const OFFSET: Number = Number { name: "offset", least: 0, most: usize::MAX, default: 0 };

/// By what a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Sort {
    /// When they were made.
    CreatedAt,
    /// Their names.
    Name,
    /// Their harnesses.
    HarnessId,
    /// How many sessions they have.
    Sessions,
}

impl Sort {
    fn compare(self, a: &ApiAgentEntry, b: &ApiAgentEntry) -> Ordering {
        match self {
            Self::CreatedAt => a.agent.created_at.cmp(&b.agent.created_at),
            Self::Name => a.agent.name.cmp(&b.agent.name),
            Self::HarnessId => a.agent.harness_id.cmp(&b.agent.harness_id),
            Self::Sessions => a.session_count.cmp(&b.session_count),
        }
    }
}

/// In which order a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Order {
    /// The smallest first.
    #[serde(rename = "asc")]
    Ascending,
    /// The largest first.
    #[serde(rename = "desc")]
    Descending,
}

/// `GET /agents`
pub fn list(gateway: &Gateway, ask: &Ask) -> Result<Response<Answer>, ApiError> {
    let limit = ask.query.number(&LIMIT)?;
    let offset = ask.query.number(&OFFSET)?;
    let sort =
        ask.query.word("sort", "one of created_at, name, harness_id, sessions")?.unwrap_or(Sort::CreatedAt);
    let order = ask.query.word("order", "asc or desc")?.unwrap_or(Order::Descending);
    let search = ask.query.get("search")?.unwrap_or_default().trim().to_lowercase();

    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for session in gateway.index.sessions() {
        if let Some(agent) = agent_name(&session) {
            let (all, active) = counts.entry(agent.to_owned()).or_default();
            *all += 1;
            *active += usize::from(matches!(ApiStatus::of(&session), ApiStatus::Creating | ApiStatus::Ready));
        }
    }
    let mut entries: Vec<ApiAgentEntry> = gateway
        .index
        .agents()
        .iter()
        .filter(|agent| agent.metadata.name.as_deref().is_some_and(|name| ask.access.sees_agent(name)))
        .map(|agent| {
            let agent = ApiAgent::new(agent);
            let (session_count, active) = counts.get(&agent.id).copied().unwrap_or_default();
            ApiAgentEntry { agent, session_count, has_active_session: active > 0 }
        })
        .filter(|entry| {
            [&entry.agent.name, &entry.agent.id, &entry.agent.harness_id]
                .iter()
                .any(|text| text.to_lowercase().contains(&search))
        })
        .collect();
    // The id decides between equals, so that pages neither overlap nor leave gaps.
    entries.sort_by(|a, b| {
        let ordering = sort.compare(a, b).then_with(|| a.agent.id.cmp(&b.agent.id));
        if order == Order::Ascending { ordering } else { ordering.reverse() }
    });
    let total = entries.len();
    let data = entries.into_iter().skip(offset).take(limit).collect();
    Ok(Answer::json(&ApiAgentList { data, total, limit, offset }))
}

/// `GET /agents/{id}`
pub async fn get(gateway: &Gateway, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    Ok(Answer::json(&ApiAgent::new(&find(gateway, id).await?)))
}

/// An agent; one that the index does not have is asked for at the API server, as it may be new.
pub async fn find(gateway: &Gateway, id: &ObjectName) -> Result<Agent, ApiError> {
    if let Some(agent) = gateway.index.agent(id.as_str()) {
        return Ok((*agent).clone());
    }
    read(gateway, id).await
}

/// An agent as the API server has it now.
///
/// # Errors
/// `not_found`, or `cluster_unavailable`.
pub async fn read(gateway: &Gateway, id: &ObjectName) -> Result<Agent, ApiError> {
    match gateway.cluster.read_agent(id.as_str()).await {
        Ok(Some(agent)) => {
            gateway.index.record_agent(agent.clone());
            Ok(agent)
        }
        Ok(None) => {
            gateway.index.forget_agent(id.as_str());
            Err(not_found(id))
        }
        Err(error) => Err(lookup::unavailable("reading the agent", &error)),
    }
}

/// There is no agent of this name.
pub fn not_found(id: &ObjectName) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("agent {id} not found"))
}
