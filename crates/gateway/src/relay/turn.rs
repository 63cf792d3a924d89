//! Relays one turn: the rules for when it may be tried again.
//!
//! | what happened | what follows |
//! | --- | --- |
//! | no connection (hard) | the session is read from the API server; its current address is tried |
//! | no connection (hard), again, at an address that was read so | the pod is read if it was refused: see below |
//! | ... and the pod lives | 503 `not_ready`: its container may be starting again |
//! | ... and the pod cannot be read | 502 |
//! | ... and the pod is lost, or cannot be reached at all | the session is set to Dead, 502 |
//! | ... and it is lost, and the session gets another pod by itself | the turn is held for that pod |
//! | another pod answered that the token is not for it | the session is read; a new address is tried, else 502 |
//! | the session's runner refused it, because the pod is given up | the turn is held for the session's next pod |
//! | the session, read again, is suspended or on its way to another pod | the same |
//! | the session's runner waits for what was said in earlier pods | it is given that, and the turn again |
//! | connected, then broken off | 502 `turn_lost`: the harness may have the turn |
//! | any other answer | it is passed on, a reply or an acceptance once it is saved |
//!
//! A turn that is held has reached no harness: no byte of it was written to a pod, or the runner said so before it
//! wrote the turn down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use paddock_api::Session;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::{Position, TRANSCRIPT_HEADER, TURNS};
use tokio::time::Instant;

use super::call::{self, AnswerAt, Call, CallError};
use super::connections::Reply;
use super::continuation;
use super::dial::DialError;
use super::hold::{self, Patience};
use super::lookup;
use super::mark_dead::{self, Marked};
use super::proof::{self, Proof};
use super::stand::Stand;
use super::target::Target;
use super::verdict::{self, Verdict};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::idempotency::Key;
use crate::http::request_id::RequestId;
use crate::transcripts::{SaveError, Unsaved};

/// How often a turn is tried at most, over all addresses a session may move through meanwhile.
const MAX_ATTEMPTS: usize = 6;
/// For how many pods a turn is held at most. A session that goes through more of them within one message's time
/// is not well.
const MAX_PODS: usize = 4;
/// When to send a message again whose pod runs and does not listen: about as long as a harness takes to start.
const RESTART_RETRY: Duration = Duration::from_secs(2);

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its id.
    pub id: Key,
    /// The `TurnRequest` as JSON.
    pub body: Bytes,
    /// The request this is done for.
    pub request_id: RequestId,
    /// How long the client waits for a pod that takes the turn, where it says so.
    pub patience: Option<Duration>,
    /// When the client shall be answered.
    pub answer: AnswerAt,
}

/// What came of trying the pods that a session had.
enum Tried {
    /// The runner's answer, and whose it is.
    Reply { reply: Response<Reply>, session: Arc<Session>, target: Target },
    /// No harness has seen the turn. This is how the session is now, and the place that takes no more turns.
    NotBegun { session: Arc<Session>, given_up: Option<Target> },
}

/// Delivers `turn` to `session` and waits for the runner's answer, for as long as it takes.
///
/// # Errors
/// As the HTTP contract has it.
pub async fn relay(
    gateway: &Gateway,
    session: Arc<Session>,
    turn: &Turn,
) -> Result<Response<Reply>, ApiError> {
    let _held = gateway.metrics.turn_begun();
    let begun = Instant::now();
    let outcome = deliver(gateway, session, turn).await;
    // How long turns take would not be told by those whose end nobody here sees.
    if turn.answer == AnswerAt::End {
        gateway.metrics.turn_done(begun.elapsed());
    }
    outcome
}

async fn deliver(
    gateway: &Gateway,
    mut session: Arc<Session>,
    turn: &Turn,
) -> Result<Response<Reply>, ApiError> {
    for _ in 0..MAX_PODS {
        match attempts(gateway, session, turn).await? {
            Tried::Reply { reply, session, target } => {
                let unsaved = match turn.answer {
                    AnswerAt::End => Unsaved::Reply,
                    AnswerAt::Acceptance => Unsaved::Acceptance,
                };
                keep(gateway, &session, &target, &turn.id, &reply, &turn.request_id)
                    .await
                    .map_err(|error| error.of_turn(turn.id.as_str(), unsaved))?;
                return Ok(reply);
            }
            Tried::NotBegun { session: now, given_up } => {
                tracing::info!(turn = %turn.id, session = now.metadata.name, "a turn is held for the session's next pod");
                let patience = Patience::from(Instant::now(), turn.patience);
                session = hold::until_it_takes(gateway, now, patience, given_up.as_ref()).await?;
            }
        }
    }
    Err(ApiError::new(
        ErrorCode::NotReady,
        "the message was not delivered: the session's pods were given up again and again; send it again",
    )
    .retry_after(RESTART_RETRY))
}

async fn attempts(gateway: &Gateway, mut session: Arc<Session>, turn: &Turn) -> Result<Tried, ApiError> {
    let call = Call::post(TURNS, turn.body.clone(), &turn.request_id).answered_at(turn.answer);
    let mut refused: Option<Target> = None;
    for _ in 0..MAX_ATTEMPTS {
        let target = match Stand::of(&session, None) {
            Stand::Takes(target) => target,
            Stand::Never(error) => return Err(error),
            Stand::Leaving | Stand::Suspended | Stand::Creating => {
                return Ok(Tried::NotBegun { session, given_up: None });
            }
        };
        let answer = match call::send(gateway, &target, &call).await {
            Ok(answer) => answer,
            Err(CallError::Dial(cause)) => {
                gateway.metrics.connect_failed(cause.reason());
                if !cause.is_hard() {
                    return Err(local(&cause));
                }
                session = if refused.as_ref() == Some(&target) {
                    match proof::find(gateway, &target, &cause).await {
                        Proof::Alive => return Err(restarting(&target, &turn.id)),
                        Proof::Unknown => return Err(unreachable(&target, &cause)),
                        Proof::Lost => match mark_dead::mark(gateway, &session, &target, &cause).await? {
                            Marked::Settled => return Err(unreachable(&target, &cause)),
                            Marked::Changed(session) => session,
                            Marked::Spared => {
                                return Ok(Tried::NotBegun { session, given_up: Some(target) });
                            }
                        },
                    }
                } else {
                    tokio::time::sleep(gateway.relay.retry_pause).await;
                    lookup::read_again(gateway, &session)
                        .await
                        .map_err(|error| or_unreachable(error, &target, &cause))?
                };
                refused = Some(target);
                continue;
            }
            Err(CallError::Broken(error)) => {
                tracing::debug!(%error, "the connection to the runner broke");
                return Err(lost(&turn.id));
            }
            Err(CallError::Request(error)) => return Err(internal(&error)),
            Err(CallError::Token(error)) => return Err(internal(&error)),
        };
        match verdict::judge(answer, turn.id.as_str()).await {
            Verdict::Reply(reply) => return Ok(Tried::Reply { reply, session, target }),
            Verdict::Error(error) => return Err(error),
            Verdict::NeedsConversation => continuation::give(gateway, &target, &turn.request_id).await?,
            Verdict::Quiesced => return Ok(Tried::NotBegun { session, given_up: Some(target) }),
            Verdict::Ending(error) => {
                session = lookup::read_again(gateway, &session).await?;
                if Stand::of(&session, None) == Stand::Takes(target) {
                    return Err(error);
                }
            }
            Verdict::Stranger(error) => {
                tracing::warn!(address = %target.address, %error, "another pod answered at a session's address");
                session = lookup::read_again(gateway, &session).await?;
                if Stand::of(&session, None) == Stand::Takes(target) {
                    return Err(error);
                }
            }
        }
    }
    Err(ApiError::new(
        ErrorCode::Unreachable,
        "the message was not delivered: the session's address changed again and again; send it again",
    ))
}

/// Saves what the runner tells of a turn with `answer`: nothing is given out that could still be lost with its pod.
pub(super) async fn keep<B>(
    gateway: &Gateway,
    session: &Session,
    target: &Target,
    turn: &Key,
    answer: &Response<B>,
    request_id: &RequestId,
) -> Result<(), SaveError> {
    let Some(keeper) = &gateway.transcripts else { return Ok(()) };
    let Some(through) = position(answer) else {
        tracing::warn!(%turn, pod = target.pod_name, "the pod's runner is too old to have its transcript saved");
        return Ok(());
    };
    keeper.save(gateway, session, target, through, request_id).await.map(drop).inspect_err(|error| {
        tracing::warn!(%turn, reason = error.reason(), %error, "what was said is not saved, and not given out");
    })
}

/// Up to where the transcript must be saved for what `answer` tells to be in it.
fn position<B>(answer: &Response<B>) -> Option<Position> {
    answer.headers().get(TRANSCRIPT_HEADER)?.to_str().ok()?.parse().ok()
}

/// Where the API server cannot be asked, what is known is that nothing answered.
fn or_unreachable(error: ApiError, target: &Target, cause: &DialError) -> ApiError {
    if error.code == ErrorCode::ClusterUnavailable { unreachable(target, cause) } else { error }
}

fn unreachable(target: &Target, cause: &DialError) -> ApiError {
    ApiError::new(
        ErrorCode::Unreachable,
        format!(
            "the message was not delivered: nothing listens at the session's address {}: {cause}",
            target.address
        ),
    )
}

fn restarting(target: &Target, turn: &Key) -> ApiError {
    ApiError::new(
        ErrorCode::NotReady,
        format!(
            "the message was not delivered: nothing listens at the session's address {}, though its pod runs; its \
             container may be restarting. Send the message again with Idempotency-Key: {turn}",
            target.address
        ),
    )
    .retry_after(RESTART_RETRY)
}

fn local(cause: &DialError) -> ApiError {
    ApiError::new(ErrorCode::NotReady, format!("the message was not delivered: {cause}; send it again"))
        .retry_after(lookup::CLUSTER_RETRY)
}

fn lost(turn: &Key) -> ApiError {
    ApiError::new(
        ErrorCode::TurnLost,
        format!(
            "the connection to the session's pod broke before it replied; the turn may have run. Send the message \
             again with Idempotency-Key: {turn} to join it instead of running it twice"
        ),
    )
}

fn internal(error: &dyn std::error::Error) -> ApiError {
    tracing::error!(%error, "cannot make a request to a runner");
    ApiError::new(ErrorCode::Internal, "the gateway could not make the request to the session's pod")
}
