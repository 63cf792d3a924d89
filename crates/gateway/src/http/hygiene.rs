//! What hyper lets through and a gateway must not: a missing, doubled or malformed Host, and CONNECT.
//!
//! Content-Length beside Transfer-Encoding is refused earlier, in `server::framing`. Hop-by-hop headers,
//! Authorization and Cookie need no stripping: no header of a client is ever copied into a request to a pod, but for its
//! place in a trace (`http::trace`).

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Version};
use paddock_api::http::ErrorCode;

use crate::error::ApiError;

/// Checks a request's head.
///
/// # Errors
/// `bad_request` or `method_not_allowed`.
pub fn check(head: &Parts) -> Result<(), ApiError> {
    if head.method == Method::CONNECT {
        let mut error = ApiError::new(ErrorCode::MethodNotAllowed, "CONNECT is refused: this is not a proxy");
        error.allow = Some("GET, POST, PATCH, DELETE");
        return Err(error);
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version < Version::HTTP_11 => Ok(()),
        (None, _) => Err(ApiError::bad_request("the request has no Host header")),
        (Some(_), Some(_)) => Err(ApiError::bad_request("the request has more than one Host header")),
        (Some(host), None) => host
            .to_str()
            .ok()
            .filter(|host| !host.contains('@'))
            .and_then(|host| host.parse::<Authority>().ok())
            .map(|_| ())
            .ok_or_else(|| ApiError::bad_request("the Host header is not a host name with an optional port")),
    }
}
