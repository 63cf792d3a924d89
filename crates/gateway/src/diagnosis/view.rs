//! What is shown of what was read. Fields are chosen one by one: whatever an object gains later stays out.

use paddock_api::http::{ApiStatus, agent_name};
use paddock_api::{Agent, Condition, Sandbox, SandboxWarmPool, Session};
use paddock_kubeio::look::SlimEvent;
use paddock_kubeio::slim::{ContainerState, ContainerStatus, SlimPod, Terminated};
use serde_json::{Value, json};

use super::{Part, Probe, Seen, issues};

/// The whole diagnosis.
pub fn diagnosis(seen: &Seen) -> Value {
    json!({
        "session": session(&seen.session),
        "agent": part(&seen.agent, agent),
        "pod": part(&seen.pod, pod),
        "sandbox": part(&seen.sandbox, sandbox),
        "pool": part(&seen.pool, pool),
        "events": match &seen.events {
            Part::Found(events) => events.iter().map(event).collect(),
            other => part(other, |_| Value::Null),
        },
        "harness_probe": part(&seen.probe, probe),
        "detected_issues": issues::detect(seen),
    })
}

fn part<T>(part: &Part<T>, show: impl Fn(&T) -> Value) -> Value {
    match part {
        Part::Unnamed => Value::Null,
        Part::Missing(name) => json!({"exists": false, "name": name}),
        Part::Unread(why) => json!({"error": why}),
        Part::Found(found) => show(found),
    }
}

fn session(session: &Session) -> Value {
    let meta = &session.metadata;
    let status = session.status.clone().unwrap_or_default();
    json!({
        "id": meta.name, "uid": meta.uid, "agent_id": agent_name(session),
        "created_at": meta.creation_timestamp.as_ref().map(|time| time.0),
        "status": ApiStatus::of(session), "desired_state": session.spec.state,
        "phase": status.phase, "step": status.step, "reason": status.reason, "message": status.message,
        "incarnation": status.incarnation, "recoveries": status.recoveries, "startup": status.startup,
        "sandbox": status.sandbox.map(|sandbox| sandbox.name),
        "pod": status.pod.map(|pod| pod.name), "endpoint": status.endpoint,
        "turns": status.turns, "last_activity_at": status.last_activity_time,
        "finished_at": status.finished_at, "transcript_wanted": status.transcript_wanted,
        "conditions": conditions(&status.conditions),
    })
}

fn agent(agent: &Agent) -> Value {
    let spec = &agent.spec;
    let pools = spec.fallback_pool_refs.iter().map(|pool| &pool.name).collect::<Vec<_>>();
    json!({
        "exists": true, "name": agent.metadata.name, "harness": spec.harness, "model": spec.model,
        "pool": spec.pool_ref.as_ref().map(|pool| &pool.name), "fallback_pools": pools,
        "workspace": spec.workspace.mode, "max_sessions": spec.max_sessions,
        "conditions": agent.status.as_ref().map(|status| conditions(&status.conditions)),
    })
}

fn pod(pod: &SlimPod) -> Value {
    let status = &pod.status;
    let conditions: Vec<Value> = status
        .conditions
        .iter()
        .map(|condition| {
            json!({"type": condition.kind, "status": condition.status, "reason": condition.reason,
                "message": condition.message, "since": condition.last_transition_time})
        })
        .collect();
    json!({
        "exists": true, "name": pod.metadata.name, "uid": pod.metadata.uid, "node": pod.spec.node_name,
        "created_at": pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        "started_at": status.start_time, "phase": format!("{:?}", status.phase), "ip": status.pod_ip,
        "ready": pod.ready(), "terminating": pod.terminating(),
        "reason": status.reason, "message": status.message, "conditions": conditions,
        "init_containers": status.init_container_statuses.iter().map(container).collect::<Vec<_>>(),
        "containers": status.container_statuses.iter().map(container).collect::<Vec<_>>(),
    })
}

fn container(container: &ContainerStatus) -> Value {
    let state = match &container.state {
        ContainerState::Waiting { reason, message } => {
            json!({"state": "waiting", "reason": reason, "message": message})
        }
        ContainerState::Running => json!({"state": "running"}),
        ContainerState::Terminated(how) => ended(how),
        ContainerState::Unreported => Value::Null,
    };
    json!({
        "name": container.name, "ready": container.ready, "restart_count": container.restart_count, "now": state,
        "before": container.last_terminated.as_ref().map(ended),
    })
}

fn ended(how: &Terminated) -> Value {
    json!({"state": "terminated", "reason": how.reason, "exit_code": how.exit_code, "message": how.message})
}

fn sandbox(sandbox: &Sandbox) -> Value {
    let status = sandbox.status.clone().unwrap_or_default();
    json!({
        "exists": true, "name": sandbox.metadata.name, "uid": sandbox.metadata.uid,
        "operating_mode": sandbox.spec.operating_mode, "node": status.node_name, "pod_ips": status.pod_ips,
        "service": status.service, "conditions": conditions(&status.conditions),
    })
}

fn pool(pool: &SandboxWarmPool) -> Value {
    let status = pool.status.clone().unwrap_or_default();
    json!({
        "exists": true, "name": pool.metadata.name, "template": pool.spec.sandbox_template_ref.name,
        "desired_replicas": pool.spec.replicas, "replicas": status.replicas, "ready_replicas": status.ready_replicas,
    })
}

fn event(event: &SlimEvent) -> Value {
    let about = &event.involved_object;
    json!({
        "type": event.kind, "reason": event.reason, "message": event.message, "count": event.count(),
        "last_at": event.last(), "object": format!("{}/{}", about.kind, about.name),
    })
}

fn probe(probe: &Probe) -> Value {
    match probe {
        Probe::Serves { took_ms } => json!({"reachable": true, "serves_session": true, "took_ms": took_ms}),
        Probe::Refuses(said) => json!({"reachable": true, "serves_session": false, "error": said}),
        Probe::Silent(why) => json!({"reachable": false, "error": why}),
    }
}

fn conditions(conditions: &[Condition]) -> Vec<Value> {
    let shown = conditions.iter().map(|condition| {
        json!({"type": condition.kind, "status": condition.status, "reason": condition.reason,
            "message": condition.message, "since": condition.last_transition_time})
    });
    shown.collect()
}
