//! From the API server's pods to those that decisions are made on.

use paddock_core::pod::{ContainerState, Pod, PodPhase};
use paddock_kubeio::slim::{self, ContainerStatus, SlimPod, Terminated};

/// What decisions need of `pod`.
pub(crate) fn to_core(pod: SlimPod) -> Pod {
    let ready = pod.ready();
    let deleting = pod.terminating();
    let unschedulable = pod
        .condition("PodScheduled")
        .filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"))
        .map(|c| c.message.clone().unwrap_or_else(|| "no reason given".to_owned()));
    let meta = pod.metadata;
    let status = pod.status;
    let owner_uid = meta
        .owner_references
        .unwrap_or_default()
        .into_iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid);
    let containers = status.init_container_statuses.into_iter().chain(status.container_statuses);
    Pod {
        namespace: meta.namespace.unwrap_or_default(),
        name: meta.name.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
        owner_uid,
        created: meta.creation_timestamp.map(|t| t.0),
        started: status.start_time,
        deleting,
        node: pod.spec.node_name,
        ip: status.pod_ip.filter(|ip| !ip.is_empty()),
        phase: match status.phase {
            slim::PodPhase::Pending => PodPhase::Pending,
            slim::PodPhase::Running => PodPhase::Running,
            slim::PodPhase::Succeeded => PodPhase::Succeeded,
            slim::PodPhase::Failed => PodPhase::Failed,
            slim::PodPhase::Unknown => PodPhase::Unknown,
        },
        ready,
        status_reason: status.reason,
        status_message: status.message,
        unschedulable,
        containers: containers.map(container).collect(),
    }
}

fn container(status: ContainerStatus) -> ContainerState {
    let (waiting_reason, waiting_message, ended) = match status.state {
        slim::ContainerState::Waiting { reason, message } => (reason, message, None),
        slim::ContainerState::Terminated(terminated) => (None, None, Some(terminated)),
        slim::ContainerState::Running | slim::ContainerState::Unreported => (None, None, None),
    };
    ContainerState {
        name: status.name,
        restarts: status.restart_count,
        waiting_reason,
        waiting_message,
        last_exit: ended.or(status.last_terminated).map(|t| exit(&t)),
    }
}

fn exit(terminated: &Terminated) -> String {
    let reason = terminated.reason.as_deref().unwrap_or("exit");
    format!("{reason} (exit code {})", terminated.exit_code)
}
