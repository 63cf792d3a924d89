//! A Ready session: its pod is watched, nothing else.

use paddock_api::Session;
use paddock_api::session::{Phase, Reason};

use crate::health::{self, Health};
use crate::ids::Key;
use crate::op::{Named, Op, Refresh};
use crate::session::{Context, Decision, Memory, delete_sandboxes, end, status};

pub(super) fn decide(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Decision {
    let status = session.status.clone().unwrap_or_default();
    let (Some(pod_ref), Some(sandbox_ref)) = (status.pod, status.sandbox) else {
        let message = "the session's status names no pod; its record was altered by somebody else".to_owned();
        return end(ctx, session, Phase::Dead, Reason::Deleted, message);
    };
    let key = Key::new(session.metadata.namespace.clone().unwrap_or_default(), pod_ref.name.clone());
    let Some(pod) = ctx.store.pods.get(&key).filter(|pod| pod.uid == pod_ref.uid) else {
        if memory.pod_asked.as_deref() != Some(&pod_ref.uid) {
            // Not in the cache only proves that the cache does not have it.
            let named = Named { key, uid: Some(pod_ref.uid) };
            return Decision::op(Op::Refresh(Refresh::Pod(named)));
        }
        let message = format!("pod {} is gone; make a new session to go on", pod_ref.name);
        return end(ctx, session, Phase::Dead, Reason::Deleted, message);
    };
    memory.pod_asked = None;
    match health::of(pod, ctx.now) {
        Health::Gone(reason, message) => {
            let message = format!("{message}; make a new session to go on");
            end(ctx, session, Phase::Dead, reason, message)
        }
        Health::Hopeless(reason, message) => end(ctx, session, Phase::Failed, reason, message),
        Health::Serving(_) | Health::Starting(..) | Health::Doubtful(..) => {
            // A rival leader may have assigned a second sandbox; the one in the status won.
            let mut ops = delete_sandboxes(ctx, session, Some(&sandbox_ref.uid));
            ops.extend(status::write(ctx, session, |_| {}));
            Decision::ops(ops)
        }
    }
}
