//! How requests are refused: Kubernetes' Status objects.

use serde_json::{Value, json};

use super::kinds::Kind;

/// A request that is not done.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// One word of Kubernetes'.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// What it is about.
    pub details: Option<Value>,
    /// Seconds, sent as a header and in the details.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal that is about no object in particular.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, retry_after: None }
    }

    /// 429: the server asks for a pause of this many seconds.
    pub fn too_many_requests(retry_after: u32) -> Self {
        let message = "Too many requests, please try again later.";
        let details = json!({"retryAfterSeconds": retry_after});
        Self {
            retry_after: Some(retry_after),
            details: Some(details),
            ..Self::new(429, "TooManyRequests", message)
        }
    }

    /// 500.
    pub fn internal() -> Self {
        Self::new(500, "InternalError", "an error on the server has prevented the request from succeeding")
    }

    /// 503.
    pub fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    }

    /// 410, as a watch or a continued list gets it.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn no_such_path() -> Self {
        Self {
            details: Some(json!({})),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(404, "NotFound", message).about(kind, &kind.plural, name)
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(409, "AlreadyExists", message).about(kind, &kind.plural, name)
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(409, "Conflict", message).about(kind, &kind.plural, name)
    }

    /// A DELETE whose precondition does not hold; the real server names the kind and not the resource.
    pub(super) fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::new(409, "Conflict", message).about(kind, &kind.kind, name)
    }

    pub(super) fn modified(kind: &Kind, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422. `causes` are reason, message and field of each mistake.
    pub(super) fn invalid(kind: &Kind, name: &str, causes: &[(&str, String, String)]) -> Self {
        let words: Vec<String> =
            causes.iter().map(|(_, message, field)| format!("{field}: {message}")).collect();
        let message = format!("{} \"{name}\" is invalid: {}", kind.qualified(), words.join(", "));
        let mut refusal = Self::new(422, "Invalid", message).about(kind, &kind.kind, name);
        let causes: Vec<Value> = causes
            .iter()
            .map(|(reason, message, field)| json!({"reason": reason, "message": message, "field": field}))
            .collect();
        if let Some(details) = &mut refusal.details {
            details["causes"] = causes.into();
        }
        refusal
    }

    /// 422: a PUT that names no version; the real server names the resource and not the kind.
    pub(super) fn unversioned(kind: &Kind, name: &str) -> Self {
        let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
        let message = format!("{} \"{name}\" is invalid: {why}", kind.resource());
        let mut refusal = Self::new(422, "Invalid", message).about(kind, &kind.plural, name);
        if let Some(details) = &mut refusal.details {
            let field = "metadata.resourceVersion";
            details["causes"] = json!([{"reason": "FieldValueInvalid", "message": why, "field": field}]);
        }
        refusal
    }

    pub(super) fn terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.resource());
        let mut refusal = Self::new(403, "Forbidden", message).about(kind, &kind.plural, name);
        if let Some(details) = &mut refusal.details {
            details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
        }
        refusal
    }

    fn about(mut self, kind: &Kind, called: &str, name: &str) -> Self {
        let mut details = json!({"kind": called});
        for (key, value) in [("name", name), ("group", &kind.group)] {
            if !value.is_empty() {
                details[key] = value.into();
            }
        }
        self.details = Some(details);
        self
    }

    /// The body.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
