//! Every answer that a test gets is held against the OpenAPI document.

use std::sync::LazyLock;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Request};
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
