//! What a runner's answer to a turn means for the client.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use paddock_api::http::ErrorCode as Code;
use paddock_runnerapi::{ErrorBody, ErrorCode as RunnerCode, TURN_ID_HEADER};

use crate::error::ApiError;

/// Longest error body that is read.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Longest time for an error body to arrive.
const ERROR_BODY_TIME: Duration = Duration::from_secs(10);
/// When to send a message again that a runner would not take now.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// When to send a message again that found the queue full: some turn must end first.
const QUEUE_RETRY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub enum Verdict {
    /// The harness's reply, or that the turn is accepted, as was asked for.
    Reply(Response<Incoming>),
    /// The session's runner, or what answered in its place, failed; the turn must not be sent again.
    Error(ApiError),
    /// Another pod has the address, and has run nothing.
    Stranger(ApiError),
    /// The session's runner takes no more turns, because its pod is given up. Its harness has not seen this one.
    Quiesced,
    /// The session's runner waits for what was said in earlier pods. Its harness has not seen this turn.
    NeedsConversation,
    /// The session's runner is ending. Its harness has not seen this turn.
    Ending(ApiError),
}

/// The error of an answer that is none to a turn; nothing of a success.
pub async fn error_of(answer: Response<Incoming>) -> Option<ApiError> {
    if answer.status().is_success() {
        return None;
    }
    match judge(answer, "").await {
        Verdict::Error(error) | Verdict::Stranger(error) | Verdict::Ending(error) => Some(error),
        Verdict::Reply(_) | Verdict::Quiesced | Verdict::NeedsConversation => {
            Some(misrouted("answered a question that was not asked"))
        }
    }
}

/// Whether a runner says this, and about that turn.
pub fn is_about<B>(answer: &Response<B>, turn_id: &str) -> bool {
    let has = |name: HeaderName, holds: &dyn Fn(&[u8]) -> bool| {
        answer.headers().get(name).is_some_and(|value| holds(value.as_bytes()))
    };
    has(HeaderName::from_static(TURN_ID_HEADER), &|id| id == turn_id.as_bytes())
        && has(CONTENT_TYPE, &|kind| kind.starts_with(b"application/json"))
}

/// Judges an answer to the turn `turn_id`.
pub async fn judge(answer: Response<Incoming>, turn_id: &str) -> Verdict {
    let status = answer.status();
    if matches!(status, StatusCode::OK | StatusCode::ACCEPTED) {
        return if is_about(&answer, turn_id) {
            Verdict::Reply(answer)
        } else {
            Verdict::Error(misrouted("answered, but not for this turn"))
        };
    }
    refusal(answer).await
}

/// Judges an answer that is no success.
pub async fn refusal(answer: Response<Incoming>) -> Verdict {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ERROR_BYTES).collect();
    let body = match tokio::time::timeout(ERROR_BODY_TIME, body).await {
        Ok(Ok(body)) => serde_json::from_slice::<ErrorBody>(&body.to_bytes()).ok(),
        _ => None,
    };
    match body {
        Some(body) => of_runner(body),
        // Whoever asks for a key did not look at the message.
        None if status == StatusCode::UNAUTHORIZED => {
            Verdict::Stranger(misrouted("does not accept this gateway's token"))
        }
        None => {
            Verdict::Error(misrouted(&format!("answered HTTP {}, and not as a runner does", status.as_u16())))
        }
    }
}

fn of_runner(body: ErrorBody) -> Verdict {
    let error = |code| ApiError::new(code, body.error.clone());
    Verdict::Error(match body.code {
        RunnerCode::Unauthorized => {
            return Verdict::Stranger(misrouted(
                "does not accept this gateway's token: another pod has the address, or the signing keys differ",
            ));
        }
        RunnerCode::BoundToOther => {
            return Verdict::Stranger(misrouted("serves another session"));
        }
        RunnerCode::NotActivated => misrouted("serves no session yet"),
        RunnerCode::NotFound | RunnerCode::MethodNotAllowed => {
            misrouted("does not know turns: its runner is of another version")
        }
        RunnerCode::UpgradeRequired => misrouted("answered a question that was not asked"),
        RunnerCode::NoTerminal => error(Code::NoTerminal),
        RunnerCode::BadRequest => error(Code::BadRequest),
        RunnerCode::NotInHarness => error(Code::NotFound),
        RunnerCode::Closed => error(Code::Forbidden),
        // The route's session names the terminal: `routes::serve`.
        RunnerCode::TerminalOnly => error(Code::TerminalOnly),
        RunnerCode::TooLarge => error(Code::TooLarge),
        RunnerCode::TurnMismatch => error(Code::TurnMismatch),
        RunnerCode::QueueFull => error(Code::QueueFull).retry_after(QUEUE_RETRY),
        RunnerCode::TooManyStreams => error(Code::TooManyStreams).retry_after(QUEUE_RETRY),
        RunnerCode::HarnessFailed => error(Code::HarnessFailed),
        RunnerCode::TurnTimeout => error(Code::TurnTimeout),
        RunnerCode::Interrupted => error(Code::Interrupted),
        RunnerCode::JournalFailed => error(Code::JournalFailed),
        RunnerCode::Busy | RunnerCode::ActivationFailed => {
            misrouted("answered a question that was not asked")
        }
        RunnerCode::Quiesced => return Verdict::Quiesced,
        RunnerCode::NeedsConversation => return Verdict::NeedsConversation,
        RunnerCode::ShuttingDown => {
            return Verdict::Ending(error(Code::NotReady).retry_after(BUSY_RETRY));
        }
        RunnerCode::NotReady => error(Code::NotReady).retry_after(BUSY_RETRY),
    })
}

fn misrouted(what: &str) -> ApiError {
    ApiError::new(
        Code::Misrouted,
        format!("the message was not delivered: what listens at the session's address {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(runner: RunnerCode) -> Code {
        match of_runner(ErrorBody { code: runner, error: "why".into() }) {
            Verdict::Error(error) | Verdict::Stranger(error) | Verdict::Ending(error) => error.code,
            Verdict::Reply(_) | Verdict::Quiesced | Verdict::NeedsConversation => {
                panic!("an error became something else")
            }
        }
    }

    #[test]
    fn each_error_of_the_runner_has_its_place_in_the_contract() {
        for (runner, http) in [
            (RunnerCode::TerminalOnly, 409),
            (RunnerCode::NoTerminal, 409),
            (RunnerCode::TurnMismatch, 422),
            (RunnerCode::QueueFull, 429),
            (RunnerCode::TooManyStreams, 429),
            (RunnerCode::TooLarge, 413),
            (RunnerCode::BadRequest, 400),
            (RunnerCode::NotInHarness, 404),
            (RunnerCode::Closed, 403),
            (RunnerCode::HarnessFailed, 502),
            (RunnerCode::TurnTimeout, 502),
            (RunnerCode::Interrupted, 502),
            (RunnerCode::JournalFailed, 502),
            (RunnerCode::NotActivated, 502),
            (RunnerCode::Unauthorized, 502),
            (RunnerCode::BoundToOther, 502),
            (RunnerCode::NotFound, 502),
            (RunnerCode::NotReady, 503),
            (RunnerCode::ShuttingDown, 503),
        ] {
            assert_eq!(code(runner).status(), http, "{runner:?}");
        }
    }
}
