//! Every answer that a scenario gets is held against the OpenAPI document of this very source.

use std::sync::LazyLock;

use paddock_contract::{Answered, Asked, Contract};
use reqwest::Request;
use reqwest::header::HeaderMap;
use serde_json::Value;

static CONTRACT: LazyLock<Contract> =
    LazyLock::new(|| Contract::new(&document()).expect("an OpenAPI document"));

/// The document as it is in the repository.
///
/// # Panics
/// When it is not JSON.
pub fn document() -> Value {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("JSON")
}

/// A request whose answer is to be checked.
#[derive(Clone, Debug)]
pub struct Expectation {
    method: String,
    target: String,
    body: Vec<u8>,
}

impl Expectation {
    /// What `request` may be answered with.
    pub fn of(request: &Request) -> Self {
        let query = request.url().query().map(|query| format!("?{query}")).unwrap_or_default();
        Self {
            method: request.method().to_string(),
            target: format!("{}{query}", request.url().path()),
            body: request.body().and_then(|body| body.as_bytes()).unwrap_or_default().to_vec(),
        }
    }

    /// Checks an answer; of a stream, the head or all of it.
    ///
    /// # Panics
    /// When it is not as the document says.
    #[track_caller]
    pub fn check(&self, status: u16, headers: &HeaderMap, body: &[u8]) {
        if let Err(violation) = CONTRACT.check(self.asked(), Answered { status, headers, body }) {
            panic!("{violation}");
        }
    }

    /// Checks the data of one event of a stream.
    ///
    /// # Panics
    /// When it is not as the document says.
    #[track_caller]
    pub fn check_event(&self, data: &Value) {
        if let Err(violation) = CONTRACT.check_event(self.asked(), data) {
            panic!("{violation}");
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked { method: &self.method, target: &self.target, body: &self.body }
    }
}
