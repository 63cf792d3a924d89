//! Every answer that a test gets is held against the OpenAPI document.

use std::sync::LazyLock;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Collected, Full};
use paddock_contract::{Answered, Contract};
use serde_json::Value;

pub static CONTRACT: LazyLock<Contract> =
    LazyLock::new(|| Contract::new(&paddock_gateway::openapi::document()).expect("a document"));

/// A request, as far as its answer depends on it.
#[derive(Clone, Debug)]
pub struct Asked {
    method: String,
    target: String,
    body: Bytes,
}

/// Checks the first answer on a connection that sent `request` first. One without a body is hyper's own, to what is no HTTP.
#[track_caller]
pub fn check_raw(request: &[u8], answer: &str) {
    let Some((head, rest)) = answer.split_once("\r\n\r\n") else { return };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    };
    let headers: HeaderMap = lines.map(pair).collect();
    let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    let request = String::from_utf8_lossy(request);
    let mut words = request.lines().next().unwrap_or_default().split(' ');
    if let (Some(length @ 1..), Some(method), Some(target)) = (length, words.next(), words.next()) {
        let (method, target) = (method.to_owned(), target.to_owned());
        Asked { method, target, body: Bytes::new() }.check(
            status.parse().unwrap(),
            &headers,
            &rest.as_bytes()[..length],
        );
    }
}

impl Asked {
    pub fn of(request: &Request<Full<Bytes>>) -> Self {
        // All of it is there: it is in memory.
        let body = request.body().clone().collect().now_or_never();
        let body = body.and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default();
        Self { method: request.method().to_string(), target: request.uri().to_string(), body }
    }

    #[track_caller]
    pub fn check(&self, status: u16, headers: &HeaderMap, body: &[u8]) {
        if let Err(violation) = CONTRACT.check(self.asked(), Answered { status, headers, body }) {
            panic!("{violation}");
        }
    }

    #[track_caller]
    pub fn check_event(&self, data: &Value) {
        if let Err(violation) = CONTRACT.check_event(self.asked(), data) {
            panic!("{violation}");
        }
    }

    fn asked(&self) -> paddock_contract::Asked<'_> {
        paddock_contract::Asked { method: &self.method, target: &self.target, body: &self.body }
    }
}
