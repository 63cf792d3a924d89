//! The one error type of the routes: a bounded code, a sentence, and what the answer's headers must say.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use paddock_api::http::{ErrorCode, ErrorResponse};
use paddock_websocket::handshake;

use crate::http::request_id::{REQUEST_ID_HEADER, RequestId};

/// Why a request was not done, as its client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ApiError {
    /// Which kind of error it is.
    pub code: ErrorCode,
    /// The HTTP status, as a rule the code's own.
    pub status: u16,
    /// What was attempted, on what, and what to do. Holds no secret.
    pub message: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Methods that the path takes.
    pub allow: Option<&'static str>,
    /// Where to attach instead.
    pub tty_url: Option<String>,
}

impl ApiError {
    /// An error without further headers.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status(),
            message: message.into(),
            retry_after: None,
            allow: None,
            tty_url: None,
        }
    }

    /// A field, header or query value that cannot be understood; the message must name it.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// The same error as 409: the session's state is in the way of a change to it.
    #[must_use]
    pub fn as_conflict(mut self) -> Self {
        self.status = 409;
        self
    }

    /// The same error, with advice when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Whether the connection must end with this answer. Request bodies that were not read make hyper close
    /// by itself; here are the errors after which the client's next bytes cannot be trusted or are unwanted.
    const fn closes(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::TooLarge
                | ErrorCode::Draining
                | ErrorCode::RequestTimeout
                | ErrorCode::HeadersTooLarge
        )
    }

    /// The error as an answer.
    pub fn to_response(&self, request_id: &RequestId) -> Response<Bytes> {
        let body = ErrorResponse {
            error: self.message.clone(),
            code: self.code,
            request_id: request_id.to_string(),
            tty_url: self.tty_url.clone(),
        };
        // Strings and an enum always serialise.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REQUEST_ID_HEADER, request_id.header());
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: zero would mean "at once".
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.code == ErrorCode::UpgradeRequired {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(handshake::VERSION));
        }
        if self.code == ErrorCode::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.closes() {
            close_after(headers);
        }
        response
    }

    /// The error as the bytes of a whole answer, for a connection that hyper has given up.
    pub fn to_bytes(&self, request_id: &RequestId) -> Vec<u8> {
        let mut response = self.to_response(request_id);
        close_after(response.headers_mut());
        let length = response.body().len();
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        let status = response.status();
        let mut bytes =
            format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or(""))
                .into_bytes();
        for (name, value) in response.headers() {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(response.body());
        bytes
    }
}

/// Tells client and hyper that the connection ends with this answer.
pub fn close_after(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_json_with_its_code_and_request_id() {
        let id = RequestId::fresh();
        let response = ApiError::new(ErrorCode::Creating, "not yet")
            .retry_after(Duration::from_millis(1))
            .to_response(&id);
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let body: ErrorResponse = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((body.error.as_str(), body.code), ("not yet", ErrorCode::Creating));
        assert_eq!(body.request_id, id.to_string());
    }

    #[test]
    fn an_answer_in_bytes_says_how_long_it_is_and_closes() {
        let text = String::from_utf8(ApiError::bad_request("x").to_bytes(&RequestId::fresh())).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(text.contains("connection: close\r\n"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
    }
}
