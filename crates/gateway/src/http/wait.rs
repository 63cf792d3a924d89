//! How long a client is willing to wait: `?wait=30s`, and `Prefer: wait=30` (RFC 7240).
//!
//! `?wait=` holds a request until its session is ready. `Prefer: wait=` does the same, and is the client's own
//! deadline for the whole answer besides.

use std::time::Duration;

use http::HeaderMap;

use super::query::{Query, invalid};
use crate::error::ApiError;

/// Longest wait a client may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(3600);

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
        let preferred = preferred(headers);
        let asked = query.get("wait")?.map(parse).transpose()?;
        Ok(Self { ready: asked.into_iter().chain(preferred).min(), answer: preferred })
    }
}

fn parse(text: &str) -> Result<Duration, ApiError> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text.parse::<paddock_api::Duration>().ok().map(paddock_api::Duration::as_std),
    };
    duration
        .filter(|duration| *duration <= MAX_WAIT)
        .ok_or_else(|| invalid("wait", "a duration of at most one hour, for example 30s or 2m"))
}

fn preferred(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| {
            let (name, value) = preference.split(';').next()?.split_once('=')?;
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("wait").then(|| value.parse::<u64>().ok())?
        })
        .map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT))
        .next()
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
    fn a_bad_query_is_refused() {
        for text in ["wait=", "wait=soon", "wait=2h", "wait=-1"] {
            assert!(wait(text, "").is_err(), "{text}");
        }
    }
}
