//! Where a client wants to go on: `Last-Event-ID`, or `?after=` where it cannot set headers.

use http::HeaderMap;
use paddock_runnerapi::EventId;

use crate::error::ApiError;
use crate::http::query::Query;

const HEADER: &str = "last-event-id";

/// The last event that the client has. A browser that connects again sends the header beside the query of its first request, so
/// the header counts.
///
/// # Errors
/// What it sends is no id of ours.
pub fn after(query: &Query, headers: &HeaderMap) -> Result<Option<EventId>, ApiError> {
    let asked = query.read("after", "the id of an event, for example 1.17")?;
    match headers.get(HEADER).filter(|value| !value.is_empty()) {
        None => Ok(asked),
        Some(value) => match value.to_str().ok().and_then(|id| id.parse().ok()) {
            Some(id) => Ok(Some(id)),
            None => Err(ApiError::bad_request("Last-Event-ID: must be the id of an event, for example 1.17")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, header: Option<&str>) -> Result<Option<String>, ApiError> {
        let headers = header.map(|id| (http::HeaderName::from_static(HEADER), id.parse().unwrap()));
        let id = after(&Query::parse(Some(query)), &headers.into_iter().collect())?;
        Ok(id.map(|id| id.to_string()))
    }

    #[test]
    fn the_header_counts_before_the_query() {
        for (query, header, expected) in [
            ("", None, None),
            ("after=1.7", None, Some("1.7")),
            ("", Some("2.8"), Some("2.8")),
            ("after=1.7", Some("2.8"), Some("2.8")),
            // What a browser sends that has not read an id yet.
            ("after=1.7", Some(""), Some("1.7")),
        ] {
            assert_eq!(read(query, header).unwrap().as_deref(), expected, "{query} {header:?}");
        }
    }

    #[test]
    fn what_is_no_id_is_named() {
        for (query, header, named) in
            [("after=7", None, "after"), ("after=", None, "after"), ("", Some("x"), "Last-Event-ID")]
        {
            assert!(read(query, header).unwrap_err().message.contains(named), "{query} {header:?}");
        }
    }
}
