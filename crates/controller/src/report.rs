//! What people are told: a log line and a Kubernetes Event for each change of a session's phase or reason.

use k8s_openapi::api::core::v1::ObjectReference;
use paddock_api::session::{Phase, Reason};
use paddock_core::op::{Op, Outcome, RunnerFailure, WriteFailure};
use paddock_core::{Key, Notice};
use paddock_kubeio::events::{Kind, Recorder};

use crate::metrics::{self, Metrics};

/// Reports on an operation that has come back.
pub(crate) fn outcome(op: &Op, outcome: &Outcome, counts: &Metrics, events: &Recorder) {
    match (op, outcome) {
        (Op::PatchSessionStatus(patch), Outcome::Written { .. }) => {
            let Some(status) = &patch.after.status else { return };
            let changes = patch.patch.get("status");
            let told = |field: &str| changes.is_some_and(|c| c.get(field).is_some());
            if !told("phase") && !told("reason") {
                return;
            }
            let reason = status.reason.map_or("Pending", Reason::as_str);
            let key = &patch.target.key;
            tracing::info!(
                session = %key,
                uid = patch.target.uid,
                phase = ?status.phase,
                reason,
                sandbox = status.sandbox.as_ref().map(|s| s.name.as_str()),
                detail = status.message,
                "session"
            );
            counts.session_phase(status);
            let kind = if matches!(status.phase, Phase::Failed) { Kind::Warning } else { Kind::Normal };
            let message = match &status.startup {
                Some(startup) if status.reason == Some(Reason::Activated) => format!(
                    "serves from a {} sandbox: claimed after {} ms, activated after {} ms",
                    metrics::path(startup.path),
                    startup.claimed_ms,
                    startup.activated_ms
                ),
                _ => status.message.clone(),
            };
            let about = ObjectReference {
                api_version: Some("paddock.dev/v1alpha1".into()),
                kind: Some("Session".into()),
                namespace: Some(key.namespace.clone()),
                name: Some(key.name.clone()),
                uid: Some(patch.target.uid.clone()),
                ..ObjectReference::default()
            };
            events.publish(about, kind, reason, message);
        }
        (Op::CreateSandbox(sandbox), Outcome::Written { uid, .. }) => {
            tracing::info!(
                namespace = sandbox.metadata.namespace,
                sandbox = sandbox.metadata.name,
                uid,
                "sandbox created"
            );
        }
        (Op::DeleteSandbox(target), Outcome::Deleted) => {
            tracing::info!(sandbox = %target.key, uid = target.uid, "sandbox deleted");
        }
        (Op::DeleteSession(target), Outcome::Deleted) => {
            tracing::info!(session = %target.key, uid = target.uid, "the record of an ended session is deleted");
        }
        (Op::CreateVolumeClaim(claim), Outcome::Written { uid, .. }) => {
            tracing::info!(claim = %claim.after.key(), uid, "volume claim created");
        }
        // That was the question.
        (_, Outcome::Refused(RunnerFailure::Busy)) => {}
        (
            _,
            Outcome::Refused(
                RunnerFailure::Spoilt(why)
                | RunnerFailure::Unavailable(why)
                | RunnerFailure::Rejected(why)
                | RunnerFailure::Failed(why),
            ),
        ) => {
            tracing::warn!(op = name(op), runner = about(op), why, "a runner did not do what it was asked");
        }
        (_, Outcome::Failed(failure)) => {
            let object = about(op);
            match failure {
                // What we knew was stale; the engine looks again. Nothing to worry about.
                WriteFailure::NotFound | WriteFailure::AlreadyExists | WriteFailure::Conflict => {
                    tracing::debug!(op = name(op), object, ?failure, "write met a newer object");
                }
                WriteFailure::Rejected { .. } | WriteFailure::Throttled(_) | WriteFailure::Unavailable(_) => {
                    tracing::warn!(op = name(op), object, ?failure, "write failed");
                }
            }
        }
        _ => {}
    }
}

/// Tells what a pool's owner should know.
pub(crate) fn notice(notice: &Notice, events: &Recorder) {
    let key = &notice.pool.key;
    tracing::warn!(pool = %key, reason = notice.reason, detail = notice.message, "pool");
    let about = ObjectReference {
        api_version: Some("extensions.agents.x-k8s.io/v1beta1".into()),
        kind: Some("SandboxWarmPool".into()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        uid: Some(notice.pool.uid.clone()),
        ..ObjectReference::default()
    };
    events.publish(about, Kind::Warning, notice.reason, notice.message.clone());
}

/// The object an operation is about, for logs.
fn about(op: &Op) -> String {
    match op {
        Op::CreateSandbox(sandbox) => Key::of(&sandbox.metadata).to_string(),
        Op::CreatePod(pod) => pod.after.key().to_string(),
        Op::PatchSandbox(patch) | Op::PatchSandboxStatus(patch) => patch.target.key.to_string(),
        Op::PatchPod(patch) => patch.target.key.to_string(),
        Op::PatchSessionStatus(patch) | Op::PatchSession(patch) => patch.target.key.to_string(),
        Op::CreateVolumeClaim(claim) => claim.after.key().to_string(),
        Op::PatchVolumeClaim(patch) => patch.target.key.to_string(),
        Op::PatchPoolStatus(patch) => patch.target.key.to_string(),
        Op::PatchAgentStatus(patch) => patch.target.key.to_string(),
        Op::DeleteSandbox(target) | Op::DeletePod(target) | Op::DeleteSession(target) => {
            target.key.to_string()
        }
        Op::Activate(activation) => {
            format!("{} for session {}", activation.endpoint, activation.request.session.name)
        }
        Op::ReadActivity(runner) | Op::Quiesce(runner, _) => runner.endpoint.clone(),
        Op::Refresh(refresh) => format!("{refresh:?}"),
    }
}

/// An operation's name, for logs and metrics.
pub(crate) fn name(op: &Op) -> &'static str {
    match op {
        Op::CreateSandbox(_) => "create_sandbox",
        Op::PatchSandbox(_) => "adopt_sandbox",
        Op::PatchSandboxStatus(_) => "patch_sandbox_status",
        Op::DeleteSandbox(_) => "delete_sandbox",
        Op::CreatePod(_) => "create_pod",
        Op::PatchPod(_) => "patch_pod",
        Op::DeletePod(_) => "delete_pod",
        Op::PatchSessionStatus(_) => "patch_session_status",
        Op::PatchPoolStatus(_) => "patch_pool_status",
        Op::PatchAgentStatus(_) => "patch_agent_status",
        Op::CreateVolumeClaim(_) => "create_volume_claim",
        Op::PatchVolumeClaim(_) => "keep_volume_claim",
        Op::PatchSession(_) => "suspend_session",
        Op::DeleteSession(_) => "delete_session",
        Op::Activate(_) => "activate",
        Op::ReadActivity(_) => "read_activity",
        Op::Quiesce(..) => "quiesce",
        Op::Refresh(_) => "refresh",
    }
}

/// How an operation ended, for metrics.
pub(crate) fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Written { .. }
        | Outcome::Deleted
        | Outcome::Activated(_)
        | Outcome::Activating(_)
        | Outcome::Activity(_)
        | Outcome::Refreshed(_) => "ok",
        Outcome::Failed(failure) => match failure {
            WriteFailure::NotFound => "not_found",
            WriteFailure::AlreadyExists => "already_exists",
            WriteFailure::Conflict => "conflict",
            WriteFailure::Rejected { .. } => "rejected",
            WriteFailure::Throttled(_) => "throttled",
            WriteFailure::Unavailable(_) => "unavailable",
        },
        Outcome::Refused(failure) => match failure {
            RunnerFailure::Spoilt(_) => "spoilt",
            RunnerFailure::Unavailable(_) => "unavailable",
            RunnerFailure::Rejected(_) => "rejected",
            RunnerFailure::Failed(_) => "failed",
            RunnerFailure::Busy => "busy",
        },
    }
}
