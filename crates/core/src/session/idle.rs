//! Noticing that nobody uses a session.
//!
//! Idleness is measured in the pod. Its runner is asked seldom: as long after the last answer as the session had been idle
//! then, within [`LOOK_MIN`] and [`LOOK_MAX`], and when the idle timeout could have passed. Before an idle session loses
//! its pod, the runner must agree that it still is idle, and from then on takes no more turns.

use jiff::{SignedDuration, Timestamp};
use paddock_api::Session;
use paddock_api::agent::OnIdle;
use paddock_api::session::{DesiredState, Phase, Reason, SessionStatus, Turns};
use serde_json::json;

use crate::catalog;
use crate::ids::uid;
use crate::op::{Op, Patch, Target};
use crate::pod::Pod;
use crate::session::incarnation::{self, Next};
use crate::session::{Context, Decision, Memory, Observed, ending, running, transcript, workspace};

/// Shortest time between two questions to one runner.
pub(crate) const LOOK_MIN: SignedDuration = SignedDuration::from_secs(30);
/// Longest time between two questions to one runner.
const LOOK_MAX: SignedDuration = SignedDuration::from_mins(5);
/// Differences of the last activity's time that are not worth a write: the way to the pod takes time too.
const SAME_MOMENT: SignedDuration = SignedDuration::from_secs(5);

/// What is to be done about the idleness of a Ready session whose pod serves at `ip`. The flag tells that the session is
/// about to change, so that nothing else is written to it now.
pub(super) fn decide(
    ctx: Context<'_>,
    session: &Session,
    memory: &mut Memory,
    pod: &Pod,
    ip: &str,
) -> (Decision, bool) {
    let lifecycle = catalog::lifecycle(ctx.store, session).unwrap_or_default();
    let timeout = lifecycle.idle_timeout().map(|timeout| (timeout, signed(timeout)));
    let seen = memory.activity.clone().filter(|seen| seen.pod_uid == pod.uid);
    if memory.ask_now && seen.as_ref().is_none_or(|seen| !seen.activity.quiesced) {
        return (ask_at(ctx, session, pod, ip, memory.look_after.unwrap_or(ctx.now)), false);
    }
    let Some(seen) = seen else {
        let at = first_look(ctx, session).max(memory.look_after.unwrap_or(Timestamp::MIN));
        return (ask_at(ctx, session, pod, ip, at), false);
    };
    let last_active = last_active(&seen);
    let rests = lifecycle.on_idle() == OnIdle::Suspend && workspace::is_persistent(ctx, session);
    if seen.activity.quiesced {
        let Some((timeout, _)) =
            timeout.filter(|(_, timeout)| seen.at.duration_since(last_active) >= *timeout)
        else {
            // It was asked to rest, and the wish was taken back: its pod takes no more turns, so it needs another.
            let first = transcript::save_first(ctx, session, memory);
            return (first.unwrap_or_else(|| incarnation::next(ctx, session, Next::Resume)), true);
        };
        // The runner has agreed, perhaps to an earlier leader.
        let message = format!("idle for {timeout}, as long as lifecycle.idleTimeout allows");
        memory.idle = Some(message.clone());
        if rests {
            return (Decision::op(suspend(session)), true);
        }
        let first = transcript::save_first(ctx, session, memory);
        let end = || ending::end(ctx, session, Phase::Dead, Reason::IdleTimeout, message);
        return (first.unwrap_or_else(end), true);
    }
    let idle_at = timeout.map(|(_, timeout)| last_active.checked_add(timeout).unwrap_or(Timestamp::MAX));
    let idle_then = seen.at.duration_since(last_active);
    let mut next = seen.at + idle_then.clamp(LOOK_MIN, LOOK_MAX);
    if let Some(idle_at) = idle_at {
        next = next.min(idle_at.max(seen.at));
    }
    next = next.max(memory.look_after.unwrap_or(Timestamp::MIN));
    if let (Some(idle_at), Some((_, timeout))) = (idle_at, timeout)
        && ctx.now >= idle_at
        && ctx.now >= next
    {
        let if_idle = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        return (Decision::op(Op::Quiesce(running::runner(session, pod, ip), Some(if_idle))), false);
    }
    (ask_at(ctx, session, pod, ip, next), false)
}

/// Puts what the runner said into the status. Nothing is said about a session that was never used.
pub(super) fn report(status: &mut SessionStatus, pod_uid: &str, memory: &Memory) {
    let Some(seen) = memory.activity.as_ref().filter(|seen| seen.pod_uid == pod_uid) else { return };
    let turns = seen.activity.turns;
    if turns.total == 0 && status.turns.is_none() {
        return;
    }
    status.turns = Some(Turns { total: turns.total, running: turns.running, queued: turns.queued });
    let active = last_active(seen);
    let news = status.last_activity_time.is_none_or(|known| active.duration_since(known).abs() > SAME_MOMENT);
    if news {
        // Nothing below a second is known for certain.
        status.last_activity_time = Some(Timestamp::from_second(active.as_second()).unwrap_or(active));
    }
}

fn ask_at(ctx: Context<'_>, session: &Session, pod: &Pod, ip: &str, at: Timestamp) -> Decision {
    if ctx.now < at {
        return Decision::wake(at);
    }
    Decision::op(Op::ReadActivity(running::runner(session, pod, ip)))
}

/// Soon after it became Ready; for sessions that a new leader finds, spread over a while.
fn first_look(ctx: Context<'_>, session: &Session) -> Timestamp {
    let startup = session.status.as_ref().and_then(|status| status.startup.as_ref());
    let ready_at = startup.map_or(ctx.now, |startup| startup.ready_at);
    let seed =
        uid(&session.metadata).bytes().fold(0_i64, |seed, byte| (seed * 31 + i64::from(byte)) % 30_000);
    let found_at = ctx.settings.leading_since.min(ctx.now) + SignedDuration::from_millis(seed);
    (ready_at + LOOK_MIN).max(found_at)
}

fn last_active(seen: &Observed) -> Timestamp {
    let idle = i64::try_from(seen.activity.idle_ms).unwrap_or(i64::MAX);
    seen.at.checked_sub(SignedDuration::from_millis(idle)).unwrap_or(Timestamp::MIN)
}

/// The wish to rest is written into the spec, where a person or the gateway takes it back to wake the session.
fn suspend(session: &Session) -> Op {
    let mut after = session.clone();
    after.spec.state = DesiredState::Suspended;
    let patch = json!({"spec": {"state": DesiredState::Suspended}});
    Op::PatchSession(Patch { target: Target::of(&session.metadata), patch, after: Box::new(after) })
}

fn signed(duration: paddock_api::Duration) -> SignedDuration {
    SignedDuration::try_from(duration.as_std()).unwrap_or(SignedDuration::MAX)
}
