//! How long a client is willing to wait: `?wait=30s`, and `Prefer: wait=30` (RFC 7240).
//!
//! `?wait=` holds a request until its session is ready. `Prefer: wait=` does the same, and is the client's own
//! deadline for the whole answer besides.

use std::time::Duration;

use http::HeaderMap;
use paddock_runnerapi::MAX_TURN_WAIT_MS;

use super::prefer;
use super::query::{Query, invalid};
use crate::error::ApiError;

/// Longest wait a client may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Longest wait with a question that can be asked again.
pub const MAX_LOOK: Duration = Duration::from_millis(MAX_TURN_WAIT_MS);

/// A client's patience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// How long to hold the request until the session is ready.
    pub ready: Option<Duration>,
    /// After how long any answer must be given.
    pub answer: Option<Duration>,
}

impl Wait {
    /// Reads both forms. Where both are given, the shorter one counts for readiness: a client that has given up
    /// does not wait for a session either.
    ///
    /// # Errors
    /// `?wait=` is no duration, or too long. A malformed preference is no error: it is ignored.
    pub fn of(query: &Query, headers: &HeaderMap) -> Result<Self, ApiError> {
        let preferred = prefer::wait(headers).map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT));
        let in_words = "one hour, for example 30s or 2m";
        let asked = query.get("wait")?.map(|text| parse(text, MAX_WAIT, in_words)).transpose()?;
        Ok(Self { ready: asked.into_iter().chain(preferred).min(), answer: preferred })
    }
}

/// `?wait=` of a question: how long its answer may take to become another.
///
/// # Errors
/// It is no duration, or longer than [`MAX_LOOK`].
pub fn of_look(query: &Query) -> Result<Duration, ApiError> {
    let wait =
        query.get("wait")?.map(|text| parse(text, MAX_LOOK, "one minute, for example 30s")).transpose()?;
    Ok(wait.unwrap_or_default())
}

fn parse(text: &str, longest: Duration, in_words: &str) -> Result<Duration, ApiError> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text.parse::<paddock_api::Duration>().ok().map(paddock_api::Duration::as_std),
    };
    duration
        .filter(|duration| *duration <= longest)
        .ok_or_else(|| invalid("wait", &format!("a duration of at most {in_words}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(query: &str, prefer: &str) -> Result<Wait, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", prefer.parse().unwrap());
        Wait::of(&Query::parse(Some(query)), &headers)
    }

    const fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(wait("", "").unwrap(), Wait::default());
        assert_eq!(wait("wait=30s", "").unwrap(), Wait { ready: secs(30), answer: None });
        assert_eq!(wait("wait=30", "").unwrap(), Wait { ready: secs(30), answer: None });
        assert_eq!(wait("", "respond-async, Wait=10").unwrap(), Wait { ready: secs(10), answer: secs(10) });
        assert_eq!(wait("wait=1m", "wait=\"90\"").unwrap(), Wait { ready: secs(60), answer: secs(90) });
        assert_eq!(wait("wait=60s", "wait=10").unwrap(), Wait { ready: secs(10), answer: secs(10) });
        assert_eq!(wait("", "wait=soon").unwrap(), Wait::default());
    }

    #[test]
    fn a_question_waits_a_minute_at_most() {
        let look = |query: &str| of_look(&Query::parse(Some(query))).ok();
        assert_eq!((look(""), look("wait=60s"), look("wait=1m")), (secs(0), secs(60), secs(60)));
        for text in ["wait=61s", "wait=2m", "wait=", "wait=1s&wait=2s"] {
            assert_eq!(look(text), None, "{text}");
        }
    }

    #[test]
    fn a_bad_query_is_refused() {
        for text in ["wait=", "wait=soon", "wait=2h", "wait=-1"] {
            assert!(wait(text, "").is_err(), "{text}");
        }
    }
}
