//! Holds a message until its session takes it, and resumes a suspended session for it.
//!
//! | how the session stands | what follows |
//! | --- | --- |
//! | it takes messages | the message is relayed |
//! | suspended | it is resumed, unless its rules say that a message does not |
//! | its pod is given up | held until it is suspended, or has another pod |
//! | creating | held if the client asked for it, or if the session has been in use before |
//! | failed, dead, a terminal | refused |
//!
//! Nothing is sent to a pod here, so a message that is given up was not delivered, and its client is told so.

use std::sync::Arc;
use std::time::Duration;

use paddock_api::Session;
use paddock_api::http::ErrorCode;
use tokio::time::Instant;

use super::lookup;
use super::stand::{self, Stand};
use super::target::Target;
use super::wish::{self, Wish, Wished};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::index::rules;

/// So much longer than a session's startup timeout a message is held, so that the controller's word on a start that
/// failed comes first.
const VERDICT_TIME: Duration = Duration::from_secs(5);
/// When to send a message again that was held in vain.
const LEAVING_RETRY: Duration = Duration::from_secs(2);

/// How long a message is held.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    begun: Instant,
    asked: Option<Duration>,
}

impl Patience {
    /// From `begun` on, as long as `asked` for; else as long as the session's rules say.
    pub fn from(begun: Instant, asked: Option<Duration>) -> Self {
        Self { begun, asked }
    }

    fn deadline(self, gateway: &Gateway, session: &Session) -> Instant {
        self.begun
            + self.asked.unwrap_or_else(|| match stand::is_coming_back(session) {
                true => start_time(gateway, session),
                false => Duration::ZERO,
            })
    }
}

/// Within what time it is known whether a pod for `session` has come up.
pub fn start_time(gateway: &Gateway, session: &Session) -> Duration {
    rules::of(gateway, session).startup_timeout().as_std() + VERDICT_TIME
}

/// The session, once it takes messages elsewhere than at `given_up`.
///
/// # Errors
/// It takes none, or not in time; the code says why.
pub async fn until_it_takes(
    gateway: &Gateway,
    mut session: Arc<Session>,
    patience: Patience,
    given_up: Option<&Target>,
) -> Result<Arc<Session>, ApiError> {
    if let Stand::Takes(_) = Stand::of(&session, given_up) {
        return Ok(session);
    }
    // The index may be a moment behind; nobody is turned away on its word alone.
    session = lookup::read_again(gateway, &session).await?;
    let mut wishes = 0;
    let mut deadline = patience.deadline(gateway, &session);
    loop {
        let now = Stand::of(&session, given_up);
        // Whoever is held for a session that comes back stays so, whatever it goes through.
        deadline = deadline.max(patience.deadline(gateway, &session));
        let late = Instant::now() >= deadline;
        session = match now {
            Stand::Takes(_) => return Ok(session),
            Stand::Never(error) => return Err(error),
            Stand::Suspended if !rules::of(gateway, &session).resume_on_message() => {
                return Err(refusal(&session));
            }
            // A client that does not wait has its session resumed all the same.
            Stand::Suspended if wishes < wish::ATTEMPTS && (wishes == 0 || !late) => {
                wishes += 1;
                resumed(gateway, &session).await?
            }
            Stand::Suspended => return Err(Wish::Run.given_up(&name_of(&session))),
            Stand::Leaving | Stand::Creating if late => return Err(refusal(&session)),
            Stand::Leaving | Stand::Creating => changed(gateway, &session, &now, given_up, deadline).await?,
        };
    }
}

async fn resumed(gateway: &Gateway, session: &Session) -> Result<Arc<Session>, ApiError> {
    match wish::store(gateway, session, Wish::Run).await? {
        Wished::Stored(now) => {
            gateway.metrics.resumed_by_message();
            Ok(now)
        }
        Wished::Changed(now) => lookup::same(session, Some(now)),
    }
}

/// The session once it stands otherwise than `now`, or as it is at `deadline`.
async fn changed(
    gateway: &Gateway,
    session: &Session,
    now: &Stand,
    given_up: Option<&Target>,
    deadline: Instant,
) -> Result<Arc<Session>, ApiError> {
    let other = |seen: Option<&Session>| {
        seen.is_none_or(|seen| {
            seen.metadata.uid != session.metadata.uid || !Stand::of(seen, given_up).is_like(now)
        })
    };
    let seen = gateway.index.session_when(&name_of(session), deadline, other).await;
    let seen = lookup::same(session, seen)?;
    if other(Some(&seen)) {
        return Ok(seen);
    }
    // Once more: a watch that is cut tells nothing.
    lookup::read_again(gateway, session).await
}

/// Why a message to a session that takes none now is not held any longer.
fn refusal(session: &Session) -> ApiError {
    match Target::of(session) {
        Err(error) => error,
        Ok(_) => ApiError::new(
            ErrorCode::NotReady,
            format!(
                "the message was not delivered: session {} is leaving its pod, to be suspended or to get another \
                 one; send the message again",
                name_of(session)
            ),
        )
        .retry_after(LEAVING_RETRY),
    }
}

fn name_of(session: &Session) -> String {
    session.metadata.name.clone().unwrap_or_default()
}
