//! What a client prefers (RFC 7240): `Prefer: wait=30`, `Prefer: respond-async`. Whatever is not understood is ignored.

use http::HeaderMap;
use paddock_runnerapi::RESPOND_ASYNC;

/// How many seconds the client is willing to wait for its answer.
pub fn wait(headers: &HeaderMap) -> Option<u64> {
    preferences(headers).find_map(|(name, value)| {
        let value = value?.trim().trim_matches('"');
        name.eq_ignore_ascii_case("wait").then(|| value.parse().ok())?
    })
}

/// Whether the client wants to be answered when its request is accepted, and not when it is done.
pub fn respond_async(headers: &HeaderMap) -> bool {
    preferences(headers).any(|(name, _)| name.eq_ignore_ascii_case(RESPOND_ASYNC))
}

/// Each preference's name and value, without its parameters.
fn preferences(headers: &HeaderMap) -> impl Iterator<Item = (&str, Option<&str>)> {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .map(|preference| match preference.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value)),
            None => (preference.trim(), None),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (http::header::HeaderName::from_static("prefer"), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn preferences_are_found_wherever_they_are() {
        for (values, seconds, at_once) in [
            (&[][..], None, false),
            (&["respond-async, Wait=10"], Some(10), true),
            (&["wait=\"90\"", "Respond-Async; x=y"], Some(90), true),
            (&["wait=soon, wait=5"], Some(5), false),
            (&["respond-asynchronously, wait"], None, false),
        ] {
            let headers = headers(values);
            assert_eq!((wait(&headers), respond_async(&headers)), (seconds, at_once), "{values:?}");
        }
    }
}
