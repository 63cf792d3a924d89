//! The opening handshake (RFC 6455, section 4), for both ends.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, InvalidHeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, Response, StatusCode};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

/// The one version of the protocol there is.
pub const VERSION: &str = "13";

/// Why a request does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It asks for none, or for a version that is not known: to be answered with 426.
    #[error(
        "this path is a WebSocket: send the request with Connection: Upgrade, Upgrade: websocket and \
         Sec-WebSocket-Version: 13"
    )]
    UpgradeRequired,
    /// Its key is missing or none: to be answered with 400.
    #[error("Sec-WebSocket-Key: must be there once, with 16 bytes in base64")]
    Key,
    /// It has a body: to be answered with 400.
    #[error("a request that opens a WebSocket has no body")]
    Body,
}

/// The answer, 101, to a request that opens a WebSocket. The request's method is the caller's to judge.
///
/// # Errors
/// See [`Refusal`].
pub fn accept<B>(request: &Request<B>) -> Result<Response<()>, Refusal> {
    let headers = request.headers();
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if has_body {
        return Err(Refusal::Body);
    }
    if headers.get_all(SEC_WEBSOCKET_KEY).iter().count() > 1 {
        return Err(Refusal::Key);
    }
    create_response_with_body(request, || ()).map_err(|error| match error {
        Error::Protocol(ProtocolError::MissingSecWebSocketKey | ProtocolError::InvalidSecWebSocketKey) => {
            Refusal::Key
        }
        _ => Refusal::UpgradeRequired,
    })
}

/// The client's side of a handshake.
#[derive(Debug)]
pub struct Opening {
    key: String,
}

impl Opening {
    /// Puts a fresh handshake into a request's head.
    ///
    /// # Errors
    /// The key is no header value, which it always is.
    pub fn write_into(headers: &mut HeaderMap) -> Result<Self, InvalidHeaderValue> {
        let key = generate_key();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key)?);
        Ok(Self { key })
    }

    /// Whether `answer` is the other side of this handshake.
    pub fn is_accepted<B>(&self, answer: &Response<B>) -> bool {
        let accepted = derive_accept_key(self.key.as_bytes());
        answer.status() == StatusCode::SWITCHING_PROTOCOLS
            && answer
                .headers()
                .get(SEC_WEBSOCKET_ACCEPT)
                .is_some_and(|is| is.as_bytes() == accepted.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening() -> (Opening, Request<()>) {
        let mut request = Request::new(());
        let opening = Opening::write_into(request.headers_mut()).unwrap();
        (opening, request)
    }

    #[test]
    fn both_ends_agree() {
        let (opening, request) = opening();
        let mut answer = accept(&request).unwrap();
        assert!(opening.is_accepted(&answer));
        answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("x"));
        assert!(!opening.is_accepted(&answer));
    }

    #[test]
    fn what_opens_nothing_is_told_why() {
        for (header, value, refusal) in [
            ("upgrade", None, Refusal::UpgradeRequired),
            ("upgrade", Some("h2c"), Refusal::UpgradeRequired),
            ("connection", Some("keep-alive"), Refusal::UpgradeRequired),
            ("sec-websocket-version", Some("8"), Refusal::UpgradeRequired),
            ("sec-websocket-version", None, Refusal::UpgradeRequired),
            ("sec-websocket-key", None, Refusal::Key),
            ("sec-websocket-key", Some("c2hvcnQ="), Refusal::Key),
            ("content-length", Some("5"), Refusal::Body),
            ("transfer-encoding", Some("chunked"), Refusal::Body),
        ] {
            let (_, mut request) = opening();
            request.headers_mut().remove(header);
            if let Some(value) = value {
                request.headers_mut().insert(header, HeaderValue::from_static(value));
            }
            assert_eq!(accept(&request).unwrap_err(), refusal, "{header}: {value:?}");
        }
        let (_, mut twice) = opening();
        let key = twice.headers()[SEC_WEBSOCKET_KEY].clone();
        twice.headers_mut().append(SEC_WEBSOCKET_KEY, key);
        assert_eq!(accept(&twice).unwrap_err(), Refusal::Key);
    }
}
