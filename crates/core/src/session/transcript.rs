//! No pod is taken away on purpose before what was said in it is saved.
//!
//! The pod is brought to rest first, so that nothing more is said, and tells up to where its transcript goes. The status then
//! asks for it (`transcriptWanted`); one of the gateways saves it, and says so in an annotation. Every reply that a client has
//! got is saved before that in any case, so a runner that does not answer holds nobody up for long. A store that takes
//! nothing does hold the session up, until it takes it again.

use jiff::{SignedDuration, Timestamp};
use paddock_api::condition::{ConditionStatus, NewCondition, set_condition};
use paddock_api::session::{Phase, Reason, SessionStatus};
use paddock_api::{Session, labels};
use paddock_runnerapi::{Position, Saved};

use crate::health::{self, Health};
use crate::ids::{Key, annotation};
use crate::op::Op;
use crate::pod::Pod;
use crate::session::{Context, Decision, Memory, running, status};

/// The condition.
const KIND: &str = "TranscriptSaved";
/// How long a runner may be out of reach before its pod is given back without its consent.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// What must be done first where the pod of `session` is to be taken away on purpose; nothing when that can be done now.
pub(super) fn save_first(ctx: Context<'_>, session: &Session, memory: &mut Memory) -> Option<Decision> {
    let (pod, ip) = serving_pod(ctx, session).filter(|_| ctx.keeps_transcript(session))?;
    let Some(wanted) = memory.at_rest(pod).map(|activity| activity.transcript) else {
        return bring_to_rest(ctx, session, memory, pod, &ip);
    };
    if wanted.seq == 0 || saved(session, &pod.uid).is_some_and(|through| through >= wanted) {
        return None;
    }
    let ask = status::write(ctx, session, |status| ask(status, wanted, ctx.now));
    Some(ask.map(Decision::op).unwrap_or_default())
}

/// Asks the runner to take no more turns; nothing once it does not answer for too long.
pub(super) fn bring_to_rest(
    ctx: Context<'_>,
    session: &Session,
    memory: &mut Memory,
    pod: &Pod,
    ip: &str,
) -> Option<Decision> {
    let until = *memory.quiescing_since.get_or_insert(ctx.now) + PATIENCE;
    let quiesce = || Op::Quiesce(running::runner(session, pod, ip), None);
    (ctx.now < until).then(|| Decision::op(quiesce()).and_wake(Some(until)))
}

/// The pod that the status of a Ready session names, where it serves.
fn serving_pod<'a>(ctx: Context<'a>, session: &Session) -> Option<(&'a Pod, String)> {
    let status = session.status.as_ref().filter(|status| status.phase == Phase::Ready)?;
    let pod_ref = status.pod.as_ref()?;
    let key = Key::new(session.metadata.namespace.clone().unwrap_or_default(), pod_ref.name.clone());
    let pod = ctx.store.pods.get(&key).filter(|pod| pod.uid == pod_ref.uid)?;
    match health::of(pod, ctx.now) {
        Health::Serving(ip) => Some((pod, ip)),
        _ => None,
    }
}

/// Up to where a gateway has saved the transcript of this pod.
fn saved(session: &Session, pod_uid: &str) -> Option<Position> {
    let saved: Saved = annotation(&session.metadata, labels::TRANSCRIPT_SAVED)?.parse().ok()?;
    (saved.pod_uid == pod_uid).then_some(saved.through)
}

fn ask(status: &mut SessionStatus, wanted: Position, now: Timestamp) {
    status.transcript_wanted = Some(wanted.to_string());
    let message = "the pod is given back once a gateway has saved what was said; if this lasts, look at the gateway's log and its transcript store";
    // Where everybody looks first.
    status.reason = Some(Reason::SavingTranscript);
    message.clone_into(&mut status.message);
    set(status, ConditionStatus::False, "Saving", message.to_owned(), now);
}

/// Nothing is asked of the gateways any more: the pod goes on, or another one comes.
pub(super) fn forget(status: &mut SessionStatus) {
    status.transcript_wanted = None;
    status.conditions.retain(|condition| condition.kind != KIND);
}

/// Tells what became of the transcript of the pod that `status` still names, and that is given back now.
pub(super) fn settle(session: &Session, status: &mut SessionStatus, now: Timestamp) {
    let wanted = status.transcript_wanted.take();
    let through = status.pod.as_ref().and_then(|pod| saved(session, &pod.uid));
    match (through, wanted) {
        (Some(through), _) => {
            set(status, ConditionStatus::True, "Saved", format!("all that was said, up to {through}"), now);
        }
        (None, Some(_)) => {
            let message = "the pod was lost before all of it was saved; what clients were answered is saved";
            set(status, ConditionStatus::False, "PodLost", message.to_owned(), now);
        }
        (None, None) => {}
    }
}

fn set(status: &mut SessionStatus, holds: ConditionStatus, reason: &str, message: String, now: Timestamp) {
    let condition = NewCondition { kind: KIND, status: holds, reason: reason.to_owned(), message };
    let generation = status.observed_generation;
    set_condition(&mut status.conditions, condition, Some(generation), now);
}
