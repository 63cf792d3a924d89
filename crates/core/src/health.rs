//! What a pod's status means for whoever waits for it or depends on it.

use jiff::{SignedDuration, Timestamp};
use paddock_api::session::Reason;

use crate::pod::{ContainerState, Pod, PodPhase};

/// How long image pulls may fail before it is taken as final. The registry may only have hiccups.
pub const IMAGE_PULL_GRACE: SignedDuration = SignedDuration::from_secs(20);
/// Restarts after which a waiting container counts as a crash loop.
pub const CRASH_LOOP_RESTARTS: u32 = 3;

/// What to expect of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves at this address.
    Serving(String),
    /// It may still come up; the text says what it waits for.
    Starting(Reason, String),
    /// It may still come up, but is hopeless if nothing changes until the given time.
    Doubtful(Reason, String, Timestamp),
    /// It will not come up by itself.
    Hopeless(Reason, String),
    /// It has ended by itself.
    Ended(Reason, String),
    /// It is being deleted.
    Gone(Reason, String),
}

/// Reads a pod's status.
pub fn of(pod: &Pod, now: Timestamp) -> Health {
    if pod.deleting {
        let (reason, message) = deleted(pod);
        return Health::Gone(reason, message);
    }
    if matches!(pod.phase, PodPhase::Failed | PodPhase::Succeeded) {
        return Health::Ended(ended_reason(pod), ended(pod));
    }
    if let Some(ip) = pod.serving_ip() {
        return Health::Serving(ip.to_owned());
    }
    for container in &pod.containers {
        if let Some(health) = container_trouble(pod, container, now) {
            return health;
        }
    }
    if pod.gated {
        let name = &pod.name;
        return Health::Starting(
            Reason::SchedulingGated,
            format!("pod {name} has scheduling gates; it gets a node when whoever set them lifts them"),
        );
    }
    if let Some(why) = &pod.unschedulable {
        return Health::Starting(
            Reason::Unschedulable,
            format!("no node takes pod {}: {why}; add capacity or change the template's requests", pod.name),
        );
    }
    Health::Starting(Reason::PodStarting, format!("waiting for pod {} to become ready", pod.name))
}

fn container_trouble(pod: &Pod, container: &ContainerState, now: Timestamp) -> Option<Health> {
    let reason = container.waiting_reason.as_deref()?;
    let detail = container.waiting_message.as_deref().unwrap_or(reason);
    let name = &container.name;
    match reason {
        "ErrImageNeverPull" | "InvalidImageName" => Some(Health::Hopeless(
            Reason::ImagePullFailed,
            format!(
                "the image of container {name} cannot be used: {detail}; correct it in the SandboxTemplate"
            ),
        )),
        "ErrImagePull" | "ImagePullBackOff" => {
            let message = format!(
                "the image of container {name} cannot be pulled: {detail}; check the image name and pull secret in the SandboxTemplate"
            );
            let until = pod.started.or(pod.created).unwrap_or(now) + IMAGE_PULL_GRACE;
            let ran_before = container.restarts > 0 || container.last_exit.is_some();
            Some(if ran_before {
                // It was there once; this is the registry's trouble.
                Health::Starting(Reason::ImagePullFailed, message)
            } else if now >= until {
                Health::Hopeless(Reason::ImagePullFailed, message)
            } else {
                Health::Doubtful(Reason::ImagePullFailed, message, until)
            })
        }
        "CrashLoopBackOff" if container.restarts >= CRASH_LOOP_RESTARTS => Some(Health::Hopeless(
            Reason::CrashLoop,
            format!(
                "container {name} has crashed {} times, last with {}; see `kubectl logs {} -c {name} --previous`",
                container.restarts,
                container.last_exit.as_deref().unwrap_or("an unknown exit"),
                pod.name
            ),
        )),
        "CreateContainerConfigError" => {
            let message =
                format!("container {name} cannot be configured: {detail}; the pod waits for what is missing");
            Some(Health::Starting(Reason::ContainerConfigError, message))
        }
        "CreateContainerError" | "RunContainerError" => Some(Health::Starting(
            Reason::ContainerConfigError,
            format!("container {name} cannot be started: {detail}"),
        )),
        _ => None,
    }
}

/// Why a pod is on its way out, in the words of whoever sent it there.
fn deleted(pod: &Pod) -> (Reason, String) {
    let name = &pod.name;
    match pod.disruption.as_deref() {
        Some("PreemptionByScheduler") => {
            (Reason::Preempted, format!("pod {name} gave way to a pod of higher priority"))
        }
        Some("DeletionByTaintManager" | "DeletionByPodGC") => {
            let node = pod.node.as_deref().unwrap_or("unknown");
            (
                Reason::NodeLost,
                format!("node {node} of pod {name} does not answer any more, or was taken away"),
            )
        }
        Some("EvictionByEvictionAPI") => {
            (Reason::Evicted, format!("pod {name} was evicted, as by a drain of its node"))
        }
        Some("TerminationByKubelet") => {
            (Reason::Evicted, format!("the kubelet ended pod {name}: {}", why(pod)))
        }
        _ => (Reason::Deleted, format!("pod {name} was deleted")),
    }
}

/// Why a pod ended by itself.
fn ended_reason(pod: &Pod) -> Reason {
    match pod.status_reason.as_deref() {
        Some("Evicted") => Reason::Evicted,
        Some("Preempting") => Reason::Preempted,
        // A node that is being shut down ends its pods in good order.
        Some("NodeLost" | "NodeShutdown" | "Terminated" | "Shutdown") => Reason::NodeLost,
        _ if pod.containers.iter().any(|container| container.out_of_memory) => Reason::OOMKilled,
        // It never ran: the node did not admit it, for example.
        _ if pod.containers.iter().all(|c| c.last_exit.is_none()) => Reason::PodFailed,
        _ => Reason::HarnessCrashed,
    }
}

fn why(pod: &Pod) -> &str {
    pod.status_message.as_deref().or(pod.status_reason.as_deref()).unwrap_or("no reason given")
}

fn ended(pod: &Pod) -> String {
    let why = pod.status_message.as_deref().or(pod.status_reason.as_deref()).map(str::to_owned);
    let exit = || {
        pod.containers
            .iter()
            .find_map(|c| c.last_exit.as_ref().map(|exit| format!("container {} ended with {exit}", c.name)))
    };
    let why = why.or_else(exit).unwrap_or_else(|| "no reason given".to_owned());
    format!("pod {} has ended: {why}", pod.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn waiting(reason: &str, restarts: u32) -> Pod {
        Pod {
            name: "p".into(),
            created: Some(at(0)),
            phase: PodPhase::Pending,
            containers: vec![ContainerState {
                name: "harness".into(),
                restarts,
                waiting_reason: Some(reason.into()),
                ..ContainerState::default()
            }],
            ..Pod::default()
        }
    }

    #[test]
    fn image_trouble_is_doubtful_first_and_hopeless_after_the_grace() {
        let pod = waiting("ImagePullBackOff", 0);
        assert!(
            matches!(of(&pod, at(5)), Health::Doubtful(Reason::ImagePullFailed, _, until) if until == at(20))
        );
        assert!(matches!(of(&pod, at(20)), Health::Hopeless(Reason::ImagePullFailed, _)));
        assert!(matches!(of(&waiting("InvalidImageName", 0), at(0)), Health::Hopeless(..)));
    }

    #[test]
    fn crash_loops_are_hopeless_only_after_several_restarts() {
        assert!(matches!(of(&waiting("CrashLoopBackOff", 1), at(9)), Health::Starting(..)));
        assert!(matches!(of(&waiting("CrashLoopBackOff", 3), at(9)), Health::Hopeless(Reason::CrashLoop, _)));
    }

    #[test]
    fn only_a_running_ready_pod_with_an_address_serves() {
        let mut pod =
            Pod { phase: PodPhase::Running, ready: true, ip: Some("10.0.0.9".into()), ..Pod::default() };
        assert_eq!(of(&pod, at(0)), Health::Serving("10.0.0.9".into()));
        pod.ready = false;
        assert!(matches!(of(&pod, at(0)), Health::Starting(Reason::PodStarting, _)));
        pod.ready = true;
        pod.deleting = true;
        assert!(matches!(of(&pod, at(0)), Health::Gone(Reason::Deleted, _)));
    }
}
