//! Whether a pod whose address takes no connection is lost.
//!
//! A refused connection alone proves nothing about the pod: nothing listens while the kubelet starts its container
//! again, and a NetworkPolicy that does not know this gateway's pod yet may refuse in the pod's place. So the pod
//! itself is looked at. The other hard failures say that its machine cannot be reached; then its object cannot be
//! believed, because nobody on that machine keeps it up to date.

use paddock_kubeio::slim::{PodPhase, SlimPod};

use super::dial::DialError;
use super::target::Target;
use crate::gateway::Gateway;

/// What is known about the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The session has lost it.
    Lost,
    /// It is there and runs, so it may answer again.
    Alive,
    /// The API server did not tell.
    Unknown,
}

/// Finds out what the failed connections to `target`, of which `cause` was the last, are worth.
pub async fn find(gateway: &Gateway, target: &Target, cause: &DialError) -> Proof {
    if !matches!(cause, DialError::Refused) {
        return Proof::Lost;
    }
    match gateway.cluster.read_pod(&target.pod_name).await {
        Ok(Some(pod)) if lives(&pod, &target.pod_uid) => Proof::Alive,
        Ok(_) => Proof::Lost,
        Err(error) => {
            tracing::warn!(pod = %target.pod_name, reason = error.reason(), "cannot read a pod that refuses connections");
            Proof::Unknown
        }
    }
}

fn lives(pod: &SlimPod, uid: &str) -> bool {
    pod.uid() == uid && !pod.terminating() && pod.status.phase == PodPhase::Running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(uid: &str, deleted: Value, phase: &str) -> SlimPod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": uid, "deletionTimestamp": deleted}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn only_the_very_pod_and_only_while_it_runs_may_answer_again() {
        let now = json!("2026-01-01T00:00:00Z");
        assert!(lives(&pod("u", Value::Null, "Running"), "u"));
        assert!(!lives(&pod("other", Value::Null, "Running"), "u"));
        assert!(!lives(&pod("u", now, "Running"), "u"));
        for phase in ["Pending", "Succeeded", "Failed", "Unknown"] {
            assert!(!lives(&pod("u", Value::Null, phase), "u"), "{phase}");
        }
    }
}
