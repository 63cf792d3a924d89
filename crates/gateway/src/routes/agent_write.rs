//! `POST /agents`, `PATCH /agents/{id}` and `DELETE /agents/{id}`.
//!
//! An agent with secret values (of variables, and of MCP servers' headers) is two objects, and the API server writes one at a time. In whatever order, a failure
//! between the two must leave nothing that does harm:
//!
//! - **Made**: first the Agent, which refers to its Secret already, then the Secret, which the Agent owns. A Secret without an
//!   owner would keep somebody's credentials for ever. An Agent without its Secret runs nothing: its sessions wait for the
//!   values and say so. If the Secret cannot be made the Agent is taken back; if even that fails, it is one that nobody was
//!   told of, and that DELETE removes.
//! - **Changed**: first new values into the Secret, then the Agent, which is what counts, then values that nobody refers to
//!   any more out of the Secret. The same request once more does the rest.
//! - **Deleted**: first its sessions are stopped, then the Agent is deleted and its Secret goes with it. Until then the
//!   request can be repeated.
//!
//! A client that leaves does not stop it half-way: each runs in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::Response;
use hyper::body::Incoming;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use paddock_api::Agent;
use paddock_api::http::{ApiAgent, ApiStatus, ErrorCode, agent_name};
use paddock_api::merge::merge_diff;
use paddock_kubeio::write::{Precondition, WriteError, Written};
use tokio::time::Instant;
use uuid::Uuid;

use super::Ask;
use super::agent_body::AgentChange;
use super::agent_env::{self, Store, Values};
use super::agent_equipment;
use super::agents;
use super::answer::Answer;
use super::router::ObjectName;
use super::sessions;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::body::{self, Presence};
use crate::relay::{lookup, wish};

/// How many sessions are stopped at a time.
const STOPS_AT_A_TIME: usize = 16;
/// How long the sessions of an agent may take to be stopped. More than that must be asked for again.
const STOP_TIME: Duration = Duration::from_secs(30);

/// `POST /agents`
pub async fn create(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    incoming: Incoming,
) -> Result<Response<Answer>, ApiError> {
    let bytes = body::read(&ask.head.headers, incoming, gateway.body_limits(), Presence::Required).await?;
    let change = AgentChange::read(&bytes)?;
    let name = Uuid::now_v7().to_string();
    let mut agent = change.new_agent(&name)?;
    let values = change.put_values_into(&mut agent, &agent_env::secret_name(&name), None)?;
    let gateway = gateway.clone();
    let made = to_its_end(async move { make(&gateway, agent, values).await }).await?;
    Ok(Answer::json(&ApiAgent::new(&made)))
}

/// `PATCH /agents/{id}`
pub async fn update(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    incoming: Incoming,
    id: ObjectName,
) -> Result<Response<Answer>, ApiError> {
    let bytes = body::read(&ask.head.headers, incoming, gateway.body_limits(), Presence::Required).await?;
    let change = AgentChange::read(&bytes)?;
    change.check_update()?;
    let gateway = gateway.clone();
    let changed = to_its_end(async move { make_change(&gateway, &id, &change).await }).await?;
    Ok(Answer::json(&ApiAgent::new(&changed)))
}

/// `DELETE /agents/{id}`
pub async fn delete(gateway: &Arc<Gateway>, id: ObjectName) -> Result<Response<Answer>, ApiError> {
    let gateway = gateway.clone();
    to_its_end(async move { take_away(&gateway, &id).await }).await?;
    Ok(Answer::no_content())
}

async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.unwrap_or_else(|_| {
        Err(ApiError::new(
            ErrorCode::Internal,
            "writing the agent crashed in the gateway; please report this",
        ))
    })
}

async fn make(gateway: &Gateway, mut agent: Agent, values: Values) -> Result<Agent, ApiError> {
    let name = agent.metadata.name.clone().unwrap_or_default();
    match gateway.cluster.create_agent(&agent).await {
        Ok(written) => {
            agent.metadata.creation_timestamp = written.created.map(Time);
            stamp(&mut agent, written);
        }
        // Nobody else makes an agent of this name, so one that is there is this one.
        Err(error) if error.outcome_unknown() => match gateway.cluster.read_agent(&name).await {
            Ok(Some(there)) => agent = there,
            Ok(None) | Err(_) => return Err(lookup::unavailable("creating the agent", &error)),
        },
        Err(error) => return Err(refused("creating the agent", &error)),
    }
    if let Err(error) = Store::new(gateway, &agent).put(&values).await {
        take_back(gateway, &agent).await;
        return Err(error);
    }
    tracing::info!(agent = name, "made an agent");
    gateway.index.record_agent(agent.clone());
    Ok(agent)
}

/// Removes an agent whose Secret could not be made.
async fn take_back(gateway: &Gateway, agent: &Agent) {
    let name = agent.metadata.name.as_deref().unwrap_or_default();
    let Some(precondition) = any_version(agent) else { return };
    match gateway.cluster.delete_agent(name, precondition).await {
        Ok(()) => gateway.index.record_agent_deletion(agent),
        Err(error) => tracing::warn!(
            agent = name,
            reason = error.reason(),
            "an agent whose variables could not be stored is still there; delete it"
        ),
    }
}

async fn make_change(gateway: &Gateway, id: &ObjectName, change: &AgentChange) -> Result<Agent, ApiError> {
    for _ in 0..wish::ATTEMPTS {
        // The Agent itself, not the index: what is to be kept of it must be there.
        let agent = agents::read(gateway, id).await?;
        let mut changed = agent.clone();
        change.put_into(&mut changed);
        let mut store = None;
        if change.has_values() {
            let mut own = Store::read(gateway, &agent).await?;
            let values = change.put_values_into(&mut changed, own.name(), own.stored.as_ref())?;
            own.put(&values).await?;
            store = Some(own);
        } else {
            let name = agent_env::secret_name(id.as_str());
            change.put_values_into(&mut changed, &name, None)?;
        }
        if changed != agent {
            let Some(precondition) = Precondition::of(&agent) else { return Err(agents::not_found(id)) };
            let patch = merge_diff(&agent, &changed);
            match gateway.cluster.patch_agent(id.as_str(), precondition, patch).await {
                Ok(written) => stamp(&mut changed, written),
                Err(WriteError::Conflict) => continue,
                Err(WriteError::NotFound) => return Err(agents::not_found(id)),
                Err(error) if error.outcome_unknown() => {
                    let now = agents::read(gateway, id).await?;
                    let mut with = now.clone();
                    change.put_into(&mut with);
                    if change.has_values() {
                        with.spec.env.clone_from(&changed.spec.env);
                        with.spec.mcp_servers.clone_from(&changed.spec.mcp_servers);
                    }
                    agent_equipment::put_credential(&mut with.spec, &agent_env::secret_name(id.as_str()));
                    if now.metadata.uid != agent.metadata.uid || with != now {
                        return Err(lookup::unavailable("changing the agent", &error));
                    }
                    changed = now;
                }
                Err(error) => return Err(refused("changing the agent", &error)),
            }
            tracing::info!(agent = %id, "changed an agent");
            gateway.index.record_agent(changed.clone());
        }
        if let Some(store) = store {
            store.prune(&changed.spec).await;
        }
        return Ok(changed);
    }
    Err(ApiError::new(
        ErrorCode::ClusterUnavailable,
        format!("changing the agent {id} failed: it kept changing meanwhile; try again"),
    )
    .retry_after(lookup::CLUSTER_RETRY))
}

async fn take_away(gateway: &Gateway, id: &ObjectName) -> Result<(), ApiError> {
    let agent = agents::read(gateway, id).await?;
    let Some(precondition) = any_version(&agent) else { return Err(agents::not_found(id)) };
    stop_sessions(gateway, id).await?;
    match gateway.cluster.delete_agent(id.as_str(), precondition).await {
        Ok(()) => {}
        Err(WriteError::Conflict) => {
            return Err(ApiError::new(
                ErrorCode::Superseded,
                format!("agent {id} was deleted and made anew meanwhile; send the request again"),
            ));
        }
        Err(error) if error.outcome_unknown() => match agents::read(gateway, id).await {
            Err(gone) if gone.code == ErrorCode::NotFound => {}
            Ok(another) if another.metadata.uid != agent.metadata.uid => {}
            Ok(_) | Err(_) => return Err(lookup::unavailable("deleting the agent", &error)),
        },
        Err(error) => return Err(lookup::unavailable("deleting the agent", &error)),
    }
    tracing::info!(agent = %id, "deleted an agent");
    gateway.index.record_agent_deletion(&agent);
    // Those that were made while the others were stopped. The agent is gone, so nothing else is left to be repeated.
    if let Err(error) = stop_sessions(gateway, id).await {
        tracing::warn!(agent = %id, code = error.code.as_str(), "sessions of a deleted agent may still run");
    }
    Ok(())
}

/// Asks the controller to stop all sessions of an agent that have not ended.
async fn stop_sessions(gateway: &Gateway, id: &ObjectName) -> Result<(), ApiError> {
    let live = gateway.index.sessions().into_iter().filter(|session| {
        agent_name(session) == Some(id.as_str())
            && !matches!(ApiStatus::of(session), ApiStatus::Failed | ApiStatus::Dead)
    });
    let live: Vec<_> = live.collect();
    let mut stops = futures::stream::iter(live)
        .map(|session| sessions::stop(gateway, session))
        .buffer_unordered(STOPS_AT_A_TIME);
    let deadline = Instant::now() + STOP_TIME;
    let mut failed = None;
    loop {
        match tokio::time::timeout_at(deadline, stops.next()).await {
            Ok(None) => return failed.map_or(Ok(()), Err),
            Ok(Some(Ok(_))) => {}
            // Gone is as good as stopped.
            Ok(Some(Err(error))) if error.code == ErrorCode::NotFound => {}
            Ok(Some(Err(error))) => failed = Some(error),
            Err(_) => {
                return Err(ApiError::new(
                    ErrorCode::ClusterUnavailable,
                    format!(
                        "not all sessions of agent {id} could be stopped in {} s; send the request again",
                        STOP_TIME.as_secs()
                    ),
                )
                .retry_after(lookup::CLUSTER_RETRY));
            }
        }
    }
}

/// Means this agent in whatever state: what is written to it meanwhile does not matter to its deletion.
fn any_version(agent: &Agent) -> Option<Precondition> {
    Some(Precondition { resource_version: None, ..Precondition::of(agent)? })
}

fn stamp(agent: &mut Agent, written: Written) {
    agent.metadata.uid = Some(written.uid);
    agent.metadata.resource_version = Some(written.resource_version);
}

fn refused(what: &str, error: &WriteError) -> ApiError {
    match error {
        WriteError::Rejected { status: 400 | 422, message, .. } => {
            ApiError::bad_request(format!("{what}: the API server refused it: {message}"))
        }
        error => lookup::unavailable(what, error),
    }
}
