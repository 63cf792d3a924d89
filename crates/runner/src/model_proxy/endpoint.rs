//! What is served, in one table.

use http::Method;

use super::dialect::Dialect;

/// What an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// The model goes on with a conversation.
    Complete,
    /// A conversation's tokens are counted.
    CountTokens,
    /// Models are listed.
    ListModels,
}

/// One of them.
pub(super) struct Endpoint {
    pub(super) method: Method,
    /// Below the base URL, here as at the model gateway.
    pub(super) path: &'static str,
    pub(super) dialect: Dialect,
    pub(super) work: Work,
}

/// Where the base URL of OpenAI clients ends.
pub(super) const BASE: &str = "/v1";

static ENDPOINTS: [Endpoint; 5] = [
    Endpoint {
        method: Method::POST,
        path: "/chat/completions",
        dialect: Dialect::Chat,
        work: Work::Complete,
    },
    Endpoint { method: Method::POST, path: "/responses", dialect: Dialect::Responses, work: Work::Complete },
    Endpoint { method: Method::POST, path: "/messages", dialect: Dialect::Messages, work: Work::Complete },
    Endpoint {
        method: Method::POST,
        path: "/messages/count_tokens",
        dialect: Dialect::Messages,
        work: Work::CountTokens,
    },
    // Of both APIs: see `models`.
    Endpoint { method: Method::GET, path: "/models", dialect: Dialect::Chat, work: Work::ListModels },
];

/// The endpoint that a request is for.
pub(super) fn find(method: &Method, path: &str) -> Option<&'static Endpoint> {
    let path = path.strip_prefix(BASE)?;
    ENDPOINTS.iter().find(|endpoint| endpoint.method == *method && endpoint.path == path)
}

/// All of them, for people.
pub(super) fn listed() -> String {
    let lines = ENDPOINTS.iter().map(|Endpoint { method, path, .. }| format!("{method} {BASE}{path}"));
    lines.collect::<Vec<_>>().join(", ")
}
