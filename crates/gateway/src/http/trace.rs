//! The trace that a request belongs to: W3C Trace Context, the headers `traceparent` and `tracestate`.
//!
//! The gateway records no spans. It takes part so that a trace that goes through it is not cut: what it asks of a pod for
//! a request carries the request's trace, with the gateway's own span as the parent.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// Longest `tracestate` that is passed on; the standard asks for this much.
const MAX_STATE: usize = 512;
/// The flag of a caller that may have recorded its part; the standard's other flags say nothing about us.
const SAMPLED: u8 = 1;

/// A place in a trace: the gateway's own span for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: String,
    span_id: String,
    flags: u8,
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// The beginning of a trace. Nothing of it is recorded here, so it is not marked as sampled.
    pub fn fresh() -> Self {
        Self { trace_id: hex(Uuid::new_v4().as_bytes()), span_id: span(), flags: 0, state: None }
    }

    /// A span in the trace that a request's headers tell of; where they tell of none, or are no valid ones, a fresh one.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some((trace_id, flags)) = one(headers).and_then(parse) else { return Self::fresh() };
        Self { trace_id: trace_id.to_owned(), span_id: span(), flags, state: state(headers) }
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// Makes a request part of the trace, as a child of the gateway's span.
    pub fn write_into(&self, headers: &mut HeaderMap) {
        let parent = format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags);
        if let Ok(parent) = HeaderValue::from_str(&parent) {
            headers.insert(PARENT, parent);
        }
        if let Some(state) = &self.state {
            headers.insert(STATE, state.clone());
        }
    }
}

/// The one `traceparent`: of two nobody knows which one counts.
fn one(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(PARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()
}

/// Reads `version-trace-parent-flags`. A later version may add parts at its end, which are not understood here.
fn parse(text: &str) -> Option<(&str, u8)> {
    let mut parts = text.splitn(5, '-');
    let mut next =
        |length: usize| parts.next().filter(|part| part.len() == length && part.bytes().all(is_hex));
    let (version, trace_id, parent, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    let whole = parts.next().is_none();
    let nothing = |id: &str| id.bytes().all(|digit| digit == b'0');
    if version == "ff" || (version == "00" && !whole) || nothing(trace_id) || nothing(parent) {
        return None;
    }
    Some((trace_id, u8::from_str_radix(flags, 16).ok()? & SAMPLED))
}

/// Lower case only, as the standard has it.
fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// What vendors have said of the trace, passed on as it came; nothing where it is too long or not plain text.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let values: Option<Vec<&str>> = headers.get_all(STATE).iter().map(|value| value.to_str().ok()).collect();
    let joined = values?.join(",");
    (!joined.is_empty() && joined.len() <= MAX_STATE).then(|| HeaderValue::from_str(&joined).ok()).flatten()
}

fn span() -> String {
    // The last half of a random UUID is random but for two bits that are never both 0.
    hex(&Uuid::new_v4().as_bytes()[8..])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn sent(context: &TraceContext) -> (String, Option<String>) {
        let mut headers = HeaderMap::new();
        context.write_into(&mut headers);
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        (text(PARENT).unwrap(), text(STATE))
    }

    #[test]
    fn a_trace_goes_on_with_another_parent() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let context = TraceContext::of(&headers(&[(PARENT, &parent), (STATE, "a=1"), (STATE, "b=2")]));
        let (parent, state) = sent(&context);
        assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"), "{parent}");
        assert!(!parent.contains(SPAN) && parent.len() == 55, "{parent}");
        assert_eq!(state.as_deref(), Some("a=1,b=2"));
        assert_eq!(sent(&context).0, parent, "one span for one request");
    }

    #[test]
    fn flags_that_are_not_understood_are_not_passed_on() {
        for (flags, expected) in [("00", "-00"), ("01", "-01"), ("03", "-01"), ("fe", "-00")] {
            let context = TraceContext::of(&headers(&[(PARENT, &format!("00-{TRACE}-{SPAN}-{flags}"))]));
            assert!(sent(&context).0.ends_with(expected), "{flags}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for parent in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-01-what-else")] {
            assert_eq!(TraceContext::of(&headers(&[(PARENT, &parent)])).trace_id(), TRACE, "{parent}");
        }
    }

    #[test]
    fn what_is_not_valid_begins_a_new_trace() {
        let zero = "0".repeat(32);
        for parent in [
            String::new(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{zero}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zero[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0g"),
        ] {
            let context = TraceContext::of(&headers(&[(PARENT, &parent), (STATE, "a=1")]));
            let (sent, state) = sent(&context);
            assert!(!sent.contains(TRACE) && sent.ends_with("-00"), "{parent}: {sent}");
            assert_eq!(parse(&sent), Some((context.trace_id(), 0)), "{parent}");
            assert_eq!(state, None, "{parent}: state without its trace");
        }
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let two = TraceContext::of(&headers(&[(PARENT, &parent), (PARENT, &parent)]));
        assert_ne!(two.trace_id(), TRACE);
    }

    #[test]
    fn a_state_that_is_too_long_is_left_out() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let fits = format!("a={}", "x".repeat(MAX_STATE - 2));
        let context = TraceContext::of(&headers(&[(PARENT, &parent), (STATE, &fits)]));
        assert_eq!(sent(&context).1, Some(fits.clone()));
        let context = TraceContext::of(&headers(&[(PARENT, &parent), (STATE, &fits), (STATE, "b=2")]));
        assert_eq!((context.trace_id(), sent(&context).1), (TRACE, None));
    }
}
