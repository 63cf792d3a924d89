//! What an agent's status tells: whether sessions can be made from it.

use jiff::Timestamp;
use paddock_api::condition::{ConditionStatus, NewCondition, set_condition};
use paddock_api::{Agent, AgentStatus};

use crate::catalog;
use crate::ids::is_deleting;
use crate::op::{Op, Patch, Target, merge_diff};
use crate::session::{Decision, admit};
use crate::store::Store;

/// Decides on `agent`.
pub fn decide(store: &Store, agent: &Agent, now: Timestamp) -> Decision {
    if is_deleting(&agent.metadata) {
        return Decision::default();
    }
    let namespace = agent.metadata.namespace.as_deref().unwrap_or_default();
    let source = catalog::source(store, namespace, &agent.spec).and_then(|source| {
        catalog::fallbacks(store, namespace, &agent.spec).try_for_each(|found| found.map(drop))?;
        Ok(source)
    });
    let condition = match source {
        Ok(source) => {
            let template = source.template.metadata.name.as_deref().unwrap_or_default();
            let pool = source.pool.and_then(|p| p.metadata.name.as_deref());
            NewCondition {
                kind: "PoolReady",
                status: ConditionStatus::True,
                reason: if pool.is_some() { "PoolFound" } else { "ColdStartsOnly" }.to_owned(),
                message: match pool {
                    Some(pool) => format!("sessions take sandboxes from pool {pool}"),
                    None => {
                        format!("no pool serves this agent; sessions start cold from template {template}")
                    }
                },
            }
        }
        Err(missing) => NewCondition {
            kind: "PoolReady",
            status: ConditionStatus::False,
            reason: missing.reason.as_str().to_owned(),
            message: missing.message,
        },
    };
    let generation = agent.metadata.generation.unwrap_or_default();
    let mut status: AgentStatus = agent.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.admitted_sessions = admit(store, agent);
    set_condition(&mut status.conditions, condition, Some(generation), now);
    if agent.status.as_ref() == Some(&status) {
        return Decision::default();
    }
    let mut after = agent.clone();
    after.status = Some(status);
    let patch = serde_json::json!({"status": merge_diff(&agent.status, &after.status)});
    let write = Patch { target: Target::of(&agent.metadata), patch, after: Box::new(after) };
    Decision { ops: vec![Op::PatchAgentStatus(write)], ..Decision::default() }
}
