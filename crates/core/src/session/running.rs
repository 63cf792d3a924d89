//! A Ready session: its pod is watched, and how busy it is.

use paddock_api::Session;
use paddock_api::session::{DesiredState, Phase, Reason};

use crate::health::{self, Health};
use crate::ids::{Key, uid};
use crate::op::{Named, Op, Refresh, RunnerRef};
use crate::pod::Pod;
use crate::session::activation::endpoint;
use crate::session::ending::{self, has_uid};
use crate::session::loss::lost;
use crate::session::{
    Context, Decision, Memory, assigned_sandboxes, idle, status, suspend, transcript, workspace,
};

pub(super) fn decide(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Decision {
    let current = session.status.clone().unwrap_or_default();
    let seen_generation = current.observed_generation;
    let (Some(pod_ref), Some(sandbox_ref)) = (current.pod, current.sandbox) else {
        let message = "the session's status names no pod; its record was altered by somebody else";
        return lost(ctx, session, Reason::Deleted, message);
    };
    let key = Key::new(session.metadata.namespace.clone().unwrap_or_default(), pod_ref.name.clone());
    let pod = ctx.store.pods.get(&key).filter(|pod| pod.uid == pod_ref.uid);
    if pod.is_none() && memory.pod_asked.as_deref() != Some(&pod_ref.uid) {
        // Not in the cache only proves that the cache does not have it.
        let named = Named { key, uid: Some(pod_ref.uid) };
        return Decision::op(Op::Refresh(Refresh::Pod(named)));
    }
    let health = match pod {
        Some(pod) => health::of(pod, ctx.now),
        None => Health::Gone(Reason::Deleted, format!("pod {} is gone", pod_ref.name)),
    };
    if pod.is_some() {
        memory.pod_asked = None;
    }
    let asked_to_rest = session.spec.state == DesiredState::Suspended;
    if asked_to_rest && suspend::can_rest(ctx, session) {
        let pod = pod.filter(|_| !matches!(health, Health::Gone(..) | Health::Ended(..)));
        let mut decision = suspend::decide(ctx, session, memory, pod);
        // Before the sandbox is given back its volume must be the session's.
        let sandbox = assigned_sandboxes(ctx, session).find(|s| has_uid(s, &sandbox_ref.uid));
        decision.ops.extend(sandbox.and_then(|sandbox| workspace::take_over(ctx, session, sandbox)));
        return decision;
    }
    let (pod, ip) = match health {
        Health::Gone(reason, message) | Health::Ended(reason, message) => {
            return lost(ctx, session, reason, &message);
        }
        Health::Hopeless(reason, message) => {
            return ending::end(ctx, session, Phase::Failed, reason, message);
        }
        Health::Serving(ip) => (pod, Some(ip)),
        Health::Starting(..) | Health::Doubtful(..) => (pod, None),
    };
    // A wish may have been taken back, perhaps one that only an earlier leader has seen. Whether the pod still takes turns must
    // be known then, and not only with the next look.
    let wish_is_news = session.metadata.generation.is_some_and(|generation| generation != seen_generation);
    if memory.quiescing_since.take().is_some() || (memory.activity.is_none() && wish_is_news) {
        memory.ask_now = true;
    }
    let (mut decision, changes) = match (pod, ip) {
        (Some(pod), Some(ip)) => idle::decide(ctx, session, memory, pod, &ip),
        _ => (Decision::default(), false),
    };
    // A rival leader may have assigned a second sandbox; the one in the status won.
    let keep = |sandbox: &paddock_api::Sandbox| has_uid(sandbox, &sandbox_ref.uid);
    decision.ops.extend(workspace::give_back(ctx, session, memory, keep).ops);
    let kept = assigned_sandboxes(ctx, session).find(|sandbox| keep(sandbox));
    decision.ops.extend(kept.and_then(|sandbox| workspace::take_over(ctx, session, sandbox)));
    // Until the runner has said whether it still takes turns, the status does not say that the wish was seen: the next leader
    // would not ask.
    let is_open = memory.ask_now && !asked_to_rest;
    if !changes && !is_open {
        decision.ops.extend(status::write(ctx, session, |status| {
            idle::report(status, &pod_ref.uid, memory);
            transcript::forget(status);
            if asked_to_rest {
                suspend::refuse(status);
            } else if matches!(status.reason, Some(Reason::WorkspaceNotPersistent | Reason::SavingTranscript))
            {
                // The wish was taken back.
                status.reason = Some(Reason::Activated);
                status.message = String::new();
            }
        }));
    }
    decision
}

/// The runner of the pod that serves `session`.
pub(super) fn runner(session: &Session, pod: &Pod, ip: &str) -> RunnerRef {
    RunnerRef {
        pod_uid: pod.uid.clone(),
        session_uid: uid(&session.metadata).to_owned(),
        endpoint: endpoint(ip),
    }
}
