//! The id of a request: the client's own where it is harmless, else a fresh one. With it goes the trace that the request
//! belongs to, as whatever is asked of a pod for a request needs both.

use std::fmt;

use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::trace::TraceContext;

/// Header with the request's id, in and out.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Longest id taken from a client.
const MAX_LEN: usize = 128;

/// Names one request in answers and logs: 1 to 128 letters, digits and `-_.:/+=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    id: String,
    trace: TraceContext,
}

impl RequestId {
    /// A new id, and a new trace.
    pub fn fresh() -> Self {
        Self { id: fresh_id(), trace: TraceContext::fresh() }
    }

    /// The client's id; a fresh one where it sends none, or one that does not belong into a log.
    pub fn of(headers: &HeaderMap) -> Self {
        let id = headers
            .get(REQUEST_ID_HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(|id| (1..=MAX_LEN).contains(&id.len()) && id.bytes().all(harmless))
            .map_or_else(fresh_id, str::to_owned);
        Self { id, trace: TraceContext::of(headers) }
    }

    /// The id as a header's value.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.id).unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// The request's trace.
    pub fn trace(&self) -> &TraceContext {
        &self.trace
    }
}

fn fresh_id() -> String {
    Uuid::now_v7().to_string()
}

fn harmless(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_id_is_kept_and_any_other_is_replaced() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID_HEADER, HeaderValue::from_str(text).unwrap());
            RequestId::of(&headers).to_string()
        };
        assert_eq!(of("req-1:a/b"), "req-1:a/b");
        for bad in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_ne!(of(bad), bad);
        }
    }
}
