//! A client's own request, without what would widen what the agent may do.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Uri};
use serde_json::Value;

/// opencode takes this query parameter for credentials of its own; whatever a client puts there is not for the pod.
const TOKEN: &str = "auth_token=";

/// The request as opencode gets it.
pub(in crate::harness) fn narrowed(request: Request<Bytes>) -> Request<Bytes> {
    let (mut head, mut body) = request.into_parts();
    if let Some(uri) = without_token(&head.uri) {
        head.uri = uri;
    }
    if sets_up_a_conversation(&head.method, head.uri.path())
        && let Some(changed) = without_permissions(&body)
    {
        body = changed;
        head.headers.remove(CONTENT_LENGTH);
    }
    Request::from_parts(head, body)
}

fn without_token(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with(TOKEN)).collect();
    let kept = kept.join("&");
    if kept == query {
        return None;
    }
    let path = uri.path();
    if kept.is_empty() { path.parse().ok() } else { format!("{path}?{kept}").parse().ok() }
}

fn sets_up_a_conversation(method: &Method, path: &str) -> bool {
    let path = path.strip_prefix("/session").unwrap_or("x");
    let path = path.trim_matches('/');
    match *method {
        Method::POST => path.is_empty(),
        Method::PATCH => !path.contains('/'),
        _ => false,
    }
}

/// A body whose permissions forbid or ask only: the last one that fits counts, so one that allows could undo what the agent or
/// its repository forbid. Nothing where it has no others.
fn without_permissions(body: &[u8]) -> Option<Bytes> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let rules = value.get_mut("permission")?;
    match rules {
        Value::Array(rules) => {
            let before = rules.len();
            rules.retain(|rule| rule["action"] == "deny" || rule["action"] == "ask");
            if rules.len() == before {
                return None;
            }
        }
        // A form that is not known could mean anything.
        other => *other = Value::Array(Vec::new()),
    }
    Some(Bytes::from(value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body_of(method: Method, path: &str, body: &Value) -> Value {
        let request =
            Request::builder().method(method).uri(path).body(Bytes::from(body.to_string())).unwrap();
        serde_json::from_slice(narrowed(request).body()).unwrap()
    }

    #[test]
    fn a_conversation_may_be_allowed_less_and_not_more() {
        let rule = |action: &str| json!({"permission": "bash", "pattern": "*", "action": action});
        let body =
            json!({"title": "x", "permission": [rule("allow"), rule("deny"), rule("ask"), rule("new")]});
        let less = json!({"title": "x", "permission": [rule("deny"), rule("ask")]});
        assert_eq!(body_of(Method::POST, "/session", &body), less);
        assert_eq!(body_of(Method::POST, "/session/?directory=%2Fx", &body), less);
        assert_eq!(body_of(Method::PATCH, "/session/ses_1", &body), less);
        assert_eq!(body_of(Method::PATCH, "/session/ses_1", &less), less);
        let strange = body_of(Method::POST, "/session", &json!({"permission": {"bash": "allow"}}));
        assert_eq!(strange, json!({"permission": []}));
        assert_eq!(body_of(Method::POST, "/mcp", &body), body, "what is no conversation passes as it is");
    }

    #[test]
    fn what_could_be_a_key_does_not_get_into_the_pod() {
        let uri = |uri: &str| {
            let request = Request::builder().uri(uri).body(Bytes::new()).unwrap();
            narrowed(request).uri().to_string()
        };
        assert_eq!(uri("/event?auth_token=x"), "/event");
        assert_eq!(uri("/event?a=1&auth_token=x&b=2"), "/event?a=1&b=2");
        assert_eq!(uri("/event?a=1"), "/event?a=1");
    }
}
