//! A Sandbox and its pod.

use jiff::Timestamp;
use paddock_api::condition::{ConditionStatus, NewCondition, set_condition};
use paddock_api::labels::{self, name_hash};
use paddock_api::sandbox::OperatingMode;
use paddock_api::session::{Phase, Reason};
use paddock_api::{Sandbox, SandboxStatus};

use crate::build;
use crate::health::{self, Health};
use crate::ids::{Key, is_deleting, label, uid};
use crate::op::{Named, NewVolumeClaim, Op, Patch, Refresh, Target, merge_diff};
use crate::pod::Pod;
use crate::session::{Context, Decision, is_current, pod_was_made, session_of};
use crate::store::Store;

/// What is remembered about a Sandbox beside its object.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What the API server last refused to make for it, and why.
    pub rejected: Option<String>,
}

/// The read that tells whether the Sandbox or the pod of this name exists, where we made it and no watch has ever shown it.
pub(crate) fn never_seen(store: &Store, key: &Key, now: Timestamp) -> Option<Refresh> {
    let named = |uid: &str| Named { key: key.clone(), uid: Some(uid.to_owned()) };
    let sandbox = store.sandboxes.never_seen(key, now).map(|uid| Refresh::Sandbox(named(uid)));
    sandbox.or_else(|| store.pods.never_seen(key, now).map(|uid| Refresh::Pod(named(uid))))
}

/// Decides on `sandbox`.
pub fn decide(ctx: Context<'_>, sandbox: &Sandbox, memory: &Memory) -> Decision {
    let key = Key::of(&sandbox.metadata);
    if is_deleting(&sandbox.metadata) || ctx.reserved.contains_key(&key) {
        // While a session adopts it, any other write would only make that one conflict.
        return Decision::default();
    }
    let named = ctx.store.pods.get(&key);
    let pod = ctx.store.pod_of(sandbox);
    let session = session_phase(ctx, sandbox);
    let suspended = sandbox.spec.operating_mode == OperatingMode::Suspended;

    let mut ops = Vec::new();
    match (pod, named) {
        (Some(pod), _) if suspended && !pod.deleting => ops.push(Op::DeletePod(Target::of_pod(pod))),
        (Some(pod), _) => {
            // On the way to Ready every write would stand in the way of the one that counts.
            if session != Some(Phase::Creating)
                && !pod.deleting
                && let Some((patch, after)) = build::relabel(pod, sandbox)
            {
                ops.push(Op::PatchPod(Patch { target: Target::of_pod(pod), patch, after: Box::new(after) }));
            }
        }
        (None, Some(_)) => {}
        (None, None) if !suspended && may_have_pod(session, sandbox) => {
            if let Ok(pod) = build::pod(sandbox, &ctx.settings.runner) {
                // Volumes first: where a pod was made, they all were.
                let missing = |new: &NewVolumeClaim| ctx.store.volume_claims.get(&new.after.key()).is_none();
                let claims = build::volume_claims(sandbox).into_iter().filter(missing);
                ops.extend(claims.map(|claim| Op::CreateVolumeClaim(Box::new(claim))));
                if ops.is_empty() && foreign_claim(ctx, sandbox).is_none() {
                    ops.push(Op::CreatePod(Box::new(pod)));
                }
            }
        }
        (None, None) => {}
    }
    // A pod that is about to be created is reported on together with what becomes of it.
    let creating = ops.iter().any(|op| matches!(op, Op::CreatePod(_) | Op::CreateVolumeClaim(_)));
    let warm_on_its_way =
        session == Some(Phase::Creating) && label(&sandbox.metadata, labels::LAUNCH_TYPE) == Some("warm");
    if (!creating || memory.rejected.is_some()) && !warm_on_its_way {
        ops.extend(status(ctx, sandbox, pod, named, memory));
    }
    let wanted = ops.len();
    if ctx.beside == 0 {
        ops.retain(|op| !matches!(op, Op::PatchPod(_) | Op::PatchSandboxStatus(_)));
    }
    let yields = ops.len() < wanted;
    let wake = pod.and_then(|pod| match health::of(pod, ctx.now) {
        Health::Doubtful(_, _, until) => Some(until),
        _ => None,
    });
    Decision { ops, wake, yields, ..Decision::default() }
}

/// A volume claim that has the name of one of the sandbox's and was made for another owner. It is about to go away with that
/// one, and whatever a pod wrote to it as well.
fn foreign_claim(ctx: Context<'_>, sandbox: &Sandbox) -> Option<String> {
    let owners = [Some(uid(&sandbox.metadata)), label(&sandbox.metadata, labels::SESSION_UID)];
    build::volume_claims(sandbox)
        .into_iter()
        .filter_map(|new| ctx.store.volume_claims.get(&new.after.key()))
        .find(|claim| !owners.contains(&claim.owner_uid.as_deref()) || claim.deleting)
        .map(|claim| claim.name.clone())
}

/// The phase of the session that the sandbox is assigned to.
fn session_phase(ctx: Context<'_>, sandbox: &Sandbox) -> Option<Phase> {
    label(&sandbox.metadata, labels::SESSION_UID)?;
    match session_of(ctx.store, sandbox).filter(|session| is_current(session, sandbox)) {
        Some(session) => Some(session.status.as_ref().map(|s| s.phase).unwrap_or_default()),
        // Its session is gone: the garbage collector takes it, nothing is made for it any more. One that an earlier incarnation
        // has left is given back.
        None => Some(Phase::Dead),
    }
}

/// A pod serves at most one session, ever, and a session's pod is never made anew behind its back.
fn may_have_pod(session: Option<Phase>, sandbox: &Sandbox) -> bool {
    match session {
        None => true,
        Some(Phase::Creating) => !pod_was_made(sandbox),
        Some(_) => false,
    }
}

fn status(
    ctx: Context<'_>,
    sandbox: &Sandbox,
    pod: Option<&Pod>,
    named: Option<&Pod>,
    memory: &Memory,
) -> Option<Op> {
    let generation = sandbox.metadata.generation;
    let before = sandbox.status.clone().unwrap_or_default();
    let mut status = SandboxStatus {
        conditions: before.conditions.clone(),
        node_name: pod.and_then(|p| p.node.clone()),
        pod_ips: pod.and_then(|p| p.ip.clone()).into_iter().collect(),
        // Once set it stays: it is the trace that a pod was made.
        selector: before.selector.clone().or_else(|| pod.map(|_| selector(sandbox))),
        service: None,
        service_fqdn: None,
    };
    set_condition(&mut status.conditions, ready(ctx, sandbox, pod, named, memory), generation, ctx.now);
    if sandbox.status.as_ref() == Some(&status) || only_starting(ctx, sandbox, pod, &before, &status) {
        return None;
    }
    let mut after = sandbox.clone();
    after.status = Some(status);
    let patch = serde_json::json!({"status": merge_diff(&sandbox.status, &after.status)});
    Some(Op::PatchSandboxStatus(Patch {
        target: Target::of(&sandbox.metadata),
        patch,
        after: Box::new(after),
    }))
}

/// A pod that starts as it should is no news: node and address are written together with Ready. Of a pool's
/// member not even the start itself is, because nobody waits for it in particular.
fn only_starting(
    ctx: Context<'_>,
    sandbox: &Sandbox,
    pod: Option<&Pod>,
    before: &SandboxStatus,
    status: &SandboxStatus,
) -> bool {
    let starting =
        pod.is_some_and(|pod| matches!(health::of(pod, ctx.now), Health::Starting(Reason::PodStarting, _)));
    let in_pool = label(&sandbox.metadata, labels::WARM_POOL_SANDBOX).is_some();
    starting && (status.conditions == before.conditions || (in_pool && before.conditions.is_empty()))
}

fn selector(sandbox: &Sandbox) -> String {
    let name = sandbox.metadata.name.as_deref().unwrap_or_default();
    format!("{}={}", labels::SANDBOX_NAME_HASH, name_hash(name))
}

fn ready(
    ctx: Context<'_>,
    sandbox: &Sandbox,
    pod: Option<&Pod>,
    named: Option<&Pod>,
    memory: &Memory,
) -> NewCondition {
    let condition = |status, reason: &str, message: String| NewCondition {
        kind: "Ready",
        status,
        reason: reason.to_owned(),
        message,
    };
    let not_ready = |reason: &str, message: String| condition(ConditionStatus::False, reason, message);
    if sandbox.spec.operating_mode == OperatingMode::Suspended {
        return not_ready("SandboxSuspended", "operatingMode is Suspended".into());
    }
    let Some(pod) = pod else {
        if named.is_some() {
            let message = "a pod of this name exists that the Sandbox does not own; it is not touched";
            return not_ready("ReconcilerError", message.into());
        }
        if let Err(error) = build::pod(sandbox, &ctx.settings.runner) {
            return not_ready("InvalidConfiguration", error.to_string());
        }
        if let Some(claim) = foreign_claim(ctx, sandbox) {
            let message = format!(
                "the volume claim {claim} was made for another owner; the pod is made once it is gone, and it is not touched"
            );
            return not_ready("ReconcilerError", message);
        }
        if let Some(why) = &memory.rejected {
            return not_ready("ReconcilerError", format!("the API server refuses {why}"));
        }
        return not_ready("DependenciesNotReady", "the pod does not exist".into());
    };
    match health::of(pod, ctx.now) {
        Health::Serving(_) => {
            condition(ConditionStatus::True, "DependenciesReady", "Pod is Ready; Service Exists".into())
        }
        Health::Ended(_, message) => {
            let succeeded = pod.phase == crate::pod::PodPhase::Succeeded;
            not_ready(if succeeded { "PodSucceeded" } else { "PodFailed" }, message)
        }
        Health::Starting(_, message)
        | Health::Doubtful(_, message, _)
        | Health::Hopeless(_, message)
        | Health::Gone(_, message) => not_ready("DependenciesNotReady", message),
    }
}
