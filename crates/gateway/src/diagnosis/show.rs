//! Makes what is shown of what was read.

use paddock_api::http::{ApiStatus, agent_name};
use paddock_api::{Agent, Condition, Sandbox, SandboxWarmPool, Session};
use paddock_kubeio::look::SlimEvent;
use paddock_kubeio::slim::{self, ContainerStatus, SlimPod, Terminated};

use super::view::{
    AgentView, ConditionView, ContainerState, ContainerView, Diagnosis, EventView, PartView,
    PodConditionView, PodView, PoolView, ProbeView, SandboxView, SessionView,
};
use super::{Part, Probe, Seen, issues};

/// The whole diagnosis.
pub fn diagnosis(seen: &Seen) -> Diagnosis {
    Diagnosis {
        session: session(&seen.session),
        agent: part(&seen.agent, agent),
        pod: part(&seen.pod, pod),
        sandbox: part(&seen.sandbox, sandbox),
        pool: part(&seen.pool, pool),
        events: part(&seen.events, |events| events.iter().map(event).collect()),
        harness_probe: part(&seen.probe, probe),
        detected_issues: issues::detect(seen),
    }
}

fn part<T, V>(part: &Part<T>, show: impl Fn(&T) -> V) -> PartView<V> {
    match part {
        Part::Unnamed => PartView::Unnamed,
        Part::Missing(name) => PartView::Missing { exists: false, name: name.clone() },
        Part::Unread(why) => PartView::Unread { error: why.clone() },
        Part::Found(found) => PartView::Found(show(found)),
    }
}

fn session(session: &Session) -> SessionView {
    let meta = &session.metadata;
    let status = session.status.clone().unwrap_or_default();
    SessionView {
        id: meta.name.clone(),
        uid: meta.uid.clone(),
        agent_id: agent_name(session).map(str::to_owned),
        created_at: meta.creation_timestamp.as_ref().map(|time| time.0),
        status: ApiStatus::of(session),
        desired_state: session.spec.state,
        phase: status.phase,
        step: status.step,
        reason: status.reason,
        message: status.message,
        incarnation: status.incarnation,
        recoveries: status.recoveries,
        startup: status.startup,
        sandbox: status.sandbox.map(|sandbox| sandbox.name),
        pod: status.pod.map(|pod| pod.name),
        endpoint: status.endpoint,
        turns: status.turns,
        last_activity_at: status.last_activity_time,
        finished_at: status.finished_at,
        transcript_wanted: status.transcript_wanted,
        conditions: conditions(&status.conditions),
    }
}

fn agent(agent: &Agent) -> AgentView {
    let spec = &agent.spec;
    AgentView {
        exists: true,
        name: agent.metadata.name.clone(),
        harness: spec.harness.clone(),
        model: spec.model.clone(),
        pool: spec.pool_ref.as_ref().map(|pool| pool.name.clone()),
        fallback_pools: spec.fallback_pool_refs.iter().map(|pool| pool.name.clone()).collect(),
        workspace: spec.workspace.mode,
        max_sessions: spec.max_sessions,
        conditions: agent.status.as_ref().map(|status| conditions(&status.conditions)),
    }
}

fn pod(pod: &SlimPod) -> PodView {
    let status = &pod.status;
    let condition = |condition: &slim::PodCondition| PodConditionView {
        r#type: condition.kind.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time,
    };
    PodView {
        exists: true,
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        node: pod.spec.node_name.clone(),
        created_at: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        started_at: status.start_time,
        phase: format!("{:?}", status.phase),
        ip: status.pod_ip.clone(),
        ready: pod.ready(),
        terminating: pod.terminating(),
        reason: status.reason.clone(),
        message: status.message.clone(),
        conditions: status.conditions.iter().map(condition).collect(),
        init_containers: status.init_container_statuses.iter().map(container).collect(),
        containers: status.container_statuses.iter().map(container).collect(),
    }
}

fn container(container: &ContainerStatus) -> ContainerView {
    let now = match &container.state {
        slim::ContainerState::Waiting { reason, message } => {
            Some(ContainerState::Waiting { reason: reason.clone(), message: message.clone() })
        }
        slim::ContainerState::Running => Some(ContainerState::Running),
        slim::ContainerState::Terminated(how) => Some(ended(how)),
        slim::ContainerState::Unreported => None,
    };
    ContainerView {
        name: container.name.clone(),
        ready: container.ready,
        restart_count: container.restart_count,
        now,
        before: container.last_terminated.as_ref().map(ended),
    }
}

fn ended(how: &Terminated) -> ContainerState {
    ContainerState::Terminated {
        reason: how.reason.clone(),
        exit_code: how.exit_code,
        message: how.message.clone(),
    }
}

fn sandbox(sandbox: &Sandbox) -> SandboxView {
    let status = sandbox.status.clone().unwrap_or_default();
    SandboxView {
        exists: true,
        name: sandbox.metadata.name.clone(),
        uid: sandbox.metadata.uid.clone(),
        operating_mode: sandbox.spec.operating_mode,
        node: status.node_name,
        pod_ips: status.pod_ips,
        service: status.service,
        conditions: conditions(&status.conditions),
    }
}

fn pool(pool: &SandboxWarmPool) -> PoolView {
    let status = pool.status.clone().unwrap_or_default();
    PoolView {
        exists: true,
        name: pool.metadata.name.clone(),
        template: pool.spec.sandbox_template_ref.name.clone(),
        desired_replicas: pool.spec.replicas,
        replicas: status.replicas,
        ready_replicas: status.ready_replicas,
    }
}

fn event(event: &SlimEvent) -> EventView {
    let about = &event.involved_object;
    EventView {
        r#type: event.kind.clone(),
        reason: event.reason.clone(),
        message: event.message.clone(),
        count: event.count(),
        last_at: event.last(),
        object: format!("{}/{}", about.kind, about.name),
    }
}

fn probe(probe: &Probe) -> ProbeView {
    let (reachable, serves_session, took_ms, error) = match probe {
        Probe::Serves { took_ms } => (true, Some(true), Some(*took_ms), None),
        Probe::Refuses(said) => (true, Some(false), None, Some(said.clone())),
        Probe::Silent(why) => (false, None, None, Some(why.clone())),
    };
    ProbeView { reachable, serves_session, took_ms, error }
}

fn conditions(conditions: &[Condition]) -> Vec<ConditionView> {
    let shown = conditions.iter().map(|condition| ConditionView {
        r#type: condition.kind.clone(),
        status: condition.status,
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.last_transition_time,
    });
    shown.collect()
}
