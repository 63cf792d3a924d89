//! What a lost pod means for its session.

use jiff::SignedDuration;
use paddock_api::Session;
use paddock_api::agent::Recovery;
use paddock_api::session::{Phase, Reason};

use crate::catalog;
use crate::session::incarnation::{self, Next};
use crate::session::{Context, Decision, ending, workspace};

/// An incarnation that lived so long was not lost to a fault of its own.
const SETTLED: SignedDuration = SignedDuration::from_mins(10);
/// How many pods may be lost in a row, none of which had settled.
const MOST_RECOVERIES: u32 = 5;

/// The session's pod is gone for this reason: a new one is made, or the session is Dead.
pub(super) fn lost(ctx: Context<'_>, session: &Session, reason: Reason, message: &str) -> Decision {
    let recovery = catalog::lifecycle(ctx.store, session).unwrap_or_default().recovery();
    if recovery == Recovery::Manual {
        let message = format!("{message}; restart the session, or make a new one, to go on");
        return ending::end(ctx, session, Phase::Dead, reason, message);
    }
    let status = session.status.as_ref();
    let ready_at = status.and_then(|status| status.startup.as_ref()).map(|startup| startup.ready_at);
    let settled = ready_at.is_some_and(|at| at + SETTLED <= ctx.now);
    let recoveries = if settled { 1 } else { status.map_or(0, |status| status.recoveries) + 1 };
    if recoveries > MOST_RECOVERIES {
        let message = format!(
            "{MOST_RECOVERIES} pods were lost in a row, each within 10 minutes of being Ready; last: {message}; mend the cause, then restart the session"
        );
        return ending::end(ctx, session, Phase::Failed, Reason::RecoveryExhausted, message);
    }
    let files = if workspace::is_persistent(ctx, session) {
        "files and conversation are on its volume"
    } else {
        "files and conversation went with it"
    };
    let cause = format!("{reason}: {message}; {files}", reason = reason.as_str());
    incarnation::next(ctx, session, Next::Recovery { cause, recoveries })
}
