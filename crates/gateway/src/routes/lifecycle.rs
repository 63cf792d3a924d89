//! `POST /sessions/{id}/suspend`, `/resume` and `/restart`.
//!
//! Each writes into the session's spec what it shall do, and then waits for the controller to have done it. The
//! request's body is of no interest. A client that leaves takes nothing back.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use jiff::Timestamp;
use paddock_api::Session;
use paddock_api::http::{ApiStatus, BASE_PATH, ErrorCode};
use paddock_api::session::DesiredState;
use tokio::time::Instant;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use super::sessions::show;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::wait::Wait;
use crate::relay::target::Target;
use crate::relay::wish::{self, Wish, Wished};
use crate::relay::{hold, lookup, stand, target};

/// How long a suspension is waited for where the client says nothing.
const SUSPEND_WAIT: Duration = Duration::from_secs(30);
/// How long a resumption is waited for where the client says nothing. A restart is waited for until its outcome is
/// known.
const RESUME_WAIT: Duration = Duration::from_secs(60);
/// When to look again at what was not done in time.
const LATE_RETRY: Duration = Duration::from_secs(2);

/// What to do about a session, given its state.
enum Step {
    /// There is nothing to wish: it is so already, or is becoming so.
    Wait,
    /// Wish this.
    Wish(Wish),
    /// It cannot be done.
    Refuse(ApiError),
}

/// What is known of a wish's fulfilment, given the session's state.
enum Progress {
    /// It goes on.
    Pending,
    /// It is done.
    Done,
    /// It will not be done.
    Failed(ApiError),
}

/// `POST /sessions/{id}/suspend`
pub async fn suspend(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let deadline = Instant::now() + Wait::of(&ask.query, &ask.head.headers)?.ready.unwrap_or(SUSPEND_WAIT);
    let told = tell(gateway, id, |session| match ApiStatus::of(session) {
        ApiStatus::Suspended => Step::Wait,
        ApiStatus::Ready if session.spec.state == DesiredState::Suspended => Step::Wait,
        ApiStatus::Ready => Step::Wish(Wish::Suspend),
        ApiStatus::Creating => Step::Refuse(busy(id, "suspended")),
        ApiStatus::Failed | ApiStatus::Dead => Step::Refuse(ended(session)),
    })
    .await?;
    let progress = |session: &Session| match ApiStatus::of(session) {
        ApiStatus::Suspended => Progress::Done,
        ApiStatus::Ready if stand::was_refused(session) => Progress::Failed(not_persistent(session)),
        ApiStatus::Ready if session.spec.state == DesiredState::Suspended => Progress::Pending,
        ApiStatus::Ready | ApiStatus::Creating => Progress::Failed(superseded(id, "is wanted again")),
        ApiStatus::Failed | ApiStatus::Dead => Progress::Failed(ended(session)),
    };
    let session = match until_done(gateway, &told.session, deadline, progress).await {
        Ok(session) => session,
        Err(error) => {
            if error.code == ErrorCode::WorkspaceNotPersistent && told.wished {
                take_back(gateway, id).await;
            }
            return Err(error);
        }
    };
    Ok(show(gateway, ask, &session).await)
}

/// `POST /sessions/{id}/resume`
///
/// A session whose pod is being given up is first waited for: that pod takes no more turns, whatever is wished.
pub async fn resume(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let deadline = Instant::now() + Wait::of(&ask.query, &ask.head.headers)?.ready.unwrap_or(RESUME_WAIT);
    for _ in 0..wish::ATTEMPTS {
        let told = tell(gateway, id, |session| match ApiStatus::of(session) {
            ApiStatus::Ready if stand::is_being_suspended(session) => Step::Wait,
            ApiStatus::Suspended | ApiStatus::Ready | ApiStatus::Creating
                if session.spec.state == DesiredState::Suspended =>
            {
                Step::Wish(Wish::Run)
            }
            ApiStatus::Suspended | ApiStatus::Ready | ApiStatus::Creating => Step::Wait,
            ApiStatus::Failed | ApiStatus::Dead => Step::Refuse(ended(session)),
        })
        .await?;
        let progress = |session: &Session| match ApiStatus::of(session) {
            ApiStatus::Ready if stand::is_being_suspended(session) => Progress::Pending,
            ApiStatus::Suspended if !told.wished => Progress::Done,
            _ => running(id, session),
        };
        let session = until_done(gateway, &told.session, deadline, progress).await?;
        if ApiStatus::of(&session) != ApiStatus::Suspended {
            return Ok(show(gateway, ask, &session).await);
        }
    }
    Err(Wish::Run.given_up(id.as_str()))
}

/// `POST /sessions/{id}/restart`
pub async fn restart(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let begun = Instant::now();
    let wait = Wait::of(&ask.query, &ask.head.headers)?.ready;
    let now = Timestamp::now();
    let told = tell(gateway, id, |session| match ApiStatus::of(session) {
        ApiStatus::Creating => Step::Refuse(busy(id, "restarted")),
        ApiStatus::Ready | ApiStatus::Suspended | ApiStatus::Failed | ApiStatus::Dead => {
            Step::Wish(Wish::restart(session, now))
        }
    })
    .await?;
    let deadline = begun + wait.unwrap_or_else(|| hold::start_time(gateway, &told.session));
    let session = until_done(gateway, &told.session, deadline, |session| running(id, session)).await?;
    Ok(show(gateway, ask, &session).await)
}

/// A session that was told what to do.
struct Told {
    session: Arc<Session>,
    /// Whether this request has told it; else it was so already.
    wished: bool,
}

async fn tell(gateway: &Gateway, id: &ObjectName, step: impl Fn(&Session) -> Step) -> Result<Told, ApiError> {
    let mut session = lookup::find(gateway, id.as_str()).await?;
    if let Step::Refuse(_) = step(&session) {
        // The index may be a moment behind; nobody is turned away on its word alone.
        session = lookup::read(gateway, id.as_str()).await?;
    }
    let mut last = None;
    for _ in 0..wish::ATTEMPTS {
        let wish = match step(&session) {
            Step::Wait => return Ok(Told { session, wished: false }),
            Step::Refuse(error) => return Err(error),
            Step::Wish(wish) => wish,
        };
        last = Some(wish);
        session = match wish::store(gateway, &session, wish).await? {
            Wished::Stored(session) => return Ok(Told { session, wished: true }),
            Wished::Changed(now) => now,
        };
    }
    Err(last.map_or_else(|| lookup::not_found(id.as_str()), |wish| wish.given_up(id.as_str())))
}

/// The session once `progress` says that it is done. States from before `told` say nothing.
async fn until_done(
    gateway: &Gateway,
    told: &Session,
    deadline: Instant,
    progress: impl Fn(&Session) -> Progress,
) -> Result<Arc<Session>, ApiError> {
    let name = told.metadata.name.as_deref().unwrap_or_default();
    let known = |seen: &Session| {
        seen.metadata.uid != told.metadata.uid
            || (version(seen) >= version(told) && !matches!(progress(seen), Progress::Pending))
    };
    let seen = gateway.index.session_when(name, deadline, |seen| seen.is_none_or(known)).await;
    let mut session = lookup::same(told, seen)?;
    if !known(&session) {
        // Once more: a watch that is cut tells nothing.
        session = lookup::read_again(gateway, told).await?;
    }
    match progress(&session) {
        Progress::Done => Ok(session),
        Progress::Failed(error) => Err(error),
        Progress::Pending => Err(late(&session)),
    }
}

/// Versions of custom resources are numbers that only grow.
fn version(session: &Session) -> Option<u64> {
    session.metadata.resource_version.as_ref()?.parse().ok()
}

/// How far a session is that shall run.
fn running(id: &ObjectName, session: &Session) -> Progress {
    match ApiStatus::of(session) {
        ApiStatus::Ready => Progress::Done,
        ApiStatus::Creating => Progress::Pending,
        ApiStatus::Suspended => Progress::Failed(superseded(id, "is to be suspended")),
        ApiStatus::Dead if session.spec.state == DesiredState::Stopped => {
            Progress::Failed(superseded(id, "is to be stopped"))
        }
        ApiStatus::Failed | ApiStatus::Dead => Progress::Failed(ApiError::new(
            ErrorCode::StartFailed,
            format!(
                "session {id} did not become ready{}; {}",
                because(session),
                target::restart_it(id.as_str())
            ),
        )),
    }
}

/// Leaves nothing behind of a suspension that cannot be. Should it fail, the session takes messages all the same.
async fn take_back(gateway: &Gateway, id: &ObjectName) {
    let taken = tell(gateway, id, |session| {
        let ours = ApiStatus::of(session) == ApiStatus::Ready
            && session.spec.state == DesiredState::Suspended
            && stand::was_refused(session);
        if ours { Step::Wish(Wish::Run) } else { Step::Wait }
    });
    if let Err(error) = taken.await {
        tracing::warn!(session = %id, %error, "cannot take back a suspension that was refused");
    }
}

fn busy(id: &ObjectName, what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Creating,
        format!(
            "session {id} cannot be {what} while it is creating: its pod is starting, or it is being resumed or \
             restarted; wait until it is ready"
        ),
    )
    .retry_after(LATE_RETRY)
    .as_conflict()
}

fn superseded(id: &ObjectName, what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Superseded,
        format!("another request has changed what session {id} shall do: it {what}"),
    )
}

fn not_persistent(session: &Session) -> ApiError {
    ApiError::new(
        ErrorCode::WorkspaceNotPersistent,
        format!(
            "session {} cannot be suspended, because its files would be lost{}; give its agent workspace.mode: \
             Persistent and make a new session, or stop this one",
            session.metadata.name.as_deref().unwrap_or_default(),
            because(session)
        ),
    )
}

/// Why a session that has ended is not suspended or resumed.
fn ended(session: &Session) -> ApiError {
    match Target::of(session) {
        Err(error) => error,
        Ok(_) => late(session),
    }
}

fn late(session: &Session) -> ApiError {
    let name = session.metadata.name.as_deref().unwrap_or_default();
    ApiError::new(
        ErrorCode::WaitExpired,
        format!(
            "session {name} is not there yet{}; it goes on, look at it with GET {BASE_PATH}/sessions/{name}, or ask \
             again with a longer ?wait=",
            because(session)
        ),
    )
    .retry_after(LATE_RETRY)
}

fn because(session: &Session) -> String {
    let message = session.status.as_ref().map(|status| status.message.as_str()).unwrap_or_default();
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
