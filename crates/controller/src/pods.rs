//! From the API server's pods and volume claims to those that decisions are made on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use paddock_core::VolumeClaim;
use paddock_core::pod::{ContainerState, Pod, PodPhase};
use paddock_kubeio::slim::{self, ContainerStatus, SlimPod, SlimVolumeClaim, Terminated};

/// So much is told of a container's last words, in characters.
const MOST_WORDS: usize = 200;

/// What decisions need of `pod`.
pub(crate) fn to_core(pod: SlimPod) -> Pod {
    let ready = pod.ready();
    let deleting = pod.terminating();
    let unschedulable = pod
        .condition("PodScheduled")
        .filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"))
        .map(|c| c.message.clone().unwrap_or_else(|| "no reason given".to_owned()));
    let gated = pod
        .condition("PodScheduled")
        .is_some_and(|c| c.status == "False" && c.reason.as_deref() == Some("SchedulingGated"));
    let scheduled =
        pod.condition("PodScheduled").filter(|c| c.status == "True").and_then(|c| c.last_transition_time);
    let ready_changed = pod.condition("Ready").and_then(|c| c.last_transition_time);
    let disruption = pod
        .condition("DisruptionTarget")
        .filter(|c| c.status == "True")
        .map(|c| c.reason.clone().unwrap_or_default());
    let meta = pod.metadata;
    let status = pod.status;
    let owner_uid = owner_uid(meta.owner_references);
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
        scheduled,
        ready_changed,
        deleting,
        disruption,
        volume_claims: pod.spec.volume_claims,
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
        gated,
        containers: containers.map(container).collect(),
    }
}

/// What decisions need of `claim`.
pub(crate) fn volume_claim(claim: SlimVolumeClaim) -> VolumeClaim {
    let meta = claim.metadata;
    VolumeClaim {
        deleting: meta.deletion_timestamp.is_some(),
        namespace: meta.namespace.unwrap_or_default(),
        name: meta.name.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
        owner_uid: owner_uid(meta.owner_references),
    }
}

/// The UID of the owner that controls an object.
fn owner_uid(owners: Option<Vec<OwnerReference>>) -> Option<String> {
    owners.unwrap_or_default().into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid)
}

fn container(status: ContainerStatus) -> ContainerState {
    let (waiting_reason, waiting_message, ended) = match status.state {
        slim::ContainerState::Waiting { reason, message } => (reason, message, None),
        slim::ContainerState::Terminated(terminated) => (None, None, Some(terminated)),
        slim::ContainerState::Running | slim::ContainerState::Unreported => (None, None, None),
    };
    let ended = ended.or(status.last_terminated);
    ContainerState {
        name: status.name,
        restarts: status.restart_count,
        waiting_reason,
        waiting_message,
        out_of_memory: ended.as_ref().is_some_and(|t| t.reason.as_deref() == Some("OOMKilled")),
        last_exit: ended.map(|t| exit(&t)),
    }
}

fn exit(terminated: &Terminated) -> String {
    let reason = terminated.reason.as_deref().unwrap_or("exit");
    // The runner's last words, or those of whatever runs in the pod: a line of them is enough.
    let words = terminated.message.as_deref().and_then(|message| message.lines().next()).unwrap_or_default();
    let words: String = words.trim().chars().take(MOST_WORDS).collect();
    let colon = if words.is_empty() { "" } else { ": " };
    format!("{reason} (exit code {}){colon}{words}", terminated.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_told_with_the_last_words() {
        let mut terminated = Terminated {
            reason: Some("Error".into()),
            exit_code: 1,
            message: Some("harness ended: signal 9\nmore".into()),
        };
        assert_eq!(exit(&terminated), "Error (exit code 1): harness ended: signal 9");
        terminated.message = None;
        assert_eq!(exit(&terminated), "Error (exit code 1)");
    }
}
