//! What a request to the API server asks for.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

/// One request, and what came of it.
#[derive(Clone, Debug)]
pub struct Call {
    pub verb: Verb,
    pub resource: String,
    pub subresource: Option<String>,
    pub namespace: Option<String>,
    /// From the path, or of a create from the body.
    pub name: Option<String>,
    pub body: Value,
    pub at: Timestamp,
    /// Under which it stands in the API server's audit log.
    pub audit_id: String,
    /// When headers came back from the server, or from the proxy in its place, and with which status.
    pub answer: Option<(Timestamp, u16)>,
    /// The proxy answered in the server's place, and asked for this pause.
    pub retry_after: Option<Duration>,
    /// The proxy interfered.
    pub disturbed: bool,
}

impl Call {
    pub fn parse(method: &Method, path: &str, query: &str, body: Value, audit_id: String) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        // api/v1 or apis/GROUP/VERSION
        let skip = if parts.next() == Some("api") { 1 } else { 2 };
        let mut parts = parts.skip(skip).peekable();
        let mut namespace = None;
        let mut first = parts.next();
        if first == Some("namespaces") && parts.peek().is_some() {
            let named = parts.next().map(str::to_owned);
            // The namespace itself has no more parts.
            if let Some(resource) = parts.next() {
                namespace = named;
                first = Some(resource);
            }
        }
        let name = parts.next().map(str::to_owned);
        let subresource = parts.next().map(str::to_owned);
        let watch = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let verb = match *method {
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ if watch => Verb::Watch,
            _ if name.is_none() => Verb::List,
            _ => Verb::Get,
        };
        let name = name.or_else(|| body["metadata"]["name"].as_str().map(str::to_owned));
        Self {
            verb,
            resource: first.unwrap_or_default().to_owned(),
            subresource,
            namespace,
            name,
            body,
            at: Timestamp::now(),
            audit_id,
            answer: None,
            retry_after: None,
            disturbed: false,
        }
    }

    pub fn is_write(&self) -> bool {
        matches!(self.verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete)
    }

    pub fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// A write that has to do with sandboxes and sessions: no lease, no Event.
    pub fn is_work(&self) -> bool {
        self.is_write() && !self.is_lease() && self.resource != "events"
    }

    pub fn is_watch(&self) -> bool {
        self.verb == Verb::Watch
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(method: Method, path: &str, query: &str) -> Call {
        Call::parse(&method, path, query, json!({"metadata": {"name": "new"}}), String::new())
    }

    #[test]
    fn paths_are_understood() {
        let call = parse(Method::PATCH, "/apis/paddock.dev/v1alpha1/namespaces/ns/sessions/s1/status", "");
        assert_eq!((call.verb, call.resource.as_str()), (Verb::Patch, "sessions"));
        assert_eq!(call.name.as_deref(), Some("s1"));
        assert_eq!(call.subresource.as_deref(), Some("status"));
        assert_eq!(call.namespace.as_deref(), Some("ns"));
        let call = parse(Method::POST, "/api/v1/namespaces/ns/pods", "");
        assert_eq!((call.verb, call.name.as_deref()), (Verb::Create, Some("new")));
        let call = parse(Method::GET, "/api/v1/pods", "limit=3&watch=true");
        assert_eq!((call.verb, call.resource.as_str()), (Verb::Watch, "pods"));
        assert_eq!(parse(Method::GET, "/api/v1/namespaces/ns/pods", "").verb, Verb::List);
        assert_eq!(parse(Method::GET, "/api/v1/namespaces/ns", "").resource, "namespaces");
    }
}
