//! A trace that goes through the gateway goes on to the pod.

use serde_json::json;

use super::logs;
use super::support::TestGateway;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn the_pod_gets_the_clients_trace_with_the_gateway_as_its_parent() {
    logs::keep();
    let (gateway, runner) = TestGateway::with_ready_session().await;
    let headers = [("traceparent", PARENT), ("tracestate", "vendor=1"), ("x-request-id", "traced-1")];
    let message = Some(json!({"text": "hi"}));
    let reply = gateway.ask_with("POST", "/sessions/s1/message", &headers, message).await;
    assert_eq!(reply.status, 200);
    let seen = runner.seen(1).await;
    let sent = seen[0].headers["traceparent"].to_str().unwrap();
    assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-01"), "{sent}");
    assert_ne!(sent, PARENT);
    assert_eq!(seen[0].headers["tracestate"], "vendor=1");
    assert_eq!(logs::audit("traced-1")[0]["trace_id"], TRACE);
}

#[tokio::test]
async fn without_a_valid_one_a_trace_begins() {
    logs::keep();
    let (gateway, runner) = TestGateway::with_ready_session().await;
    for (number, parent) in ["", "00-nonsense", &PARENT.replacen("00-", "ff-", 1)].into_iter().enumerate() {
        let id = format!("begins-{number}");
        let mut headers = vec![("tracestate", "vendor=1"), ("x-request-id", id.as_str())];
        if !parent.is_empty() {
            headers.push(("traceparent", parent));
        }
        let message = Some(json!({"text": "hi"}));
        assert_eq!(gateway.ask_with("POST", "/sessions/s1/message", &headers, message).await.status, 200);
        let seen = runner.seen(number + 1).await;
        let headers = &seen[number].headers;
        let sent = headers["traceparent"].to_str().unwrap();
        let trace = sent.split('-').nth(1).unwrap();
        assert_ne!(trace, TRACE, "{parent}");
        assert!(sent.len() == 55 && !headers.contains_key("tracestate"), "{parent}: {headers:?}");
        assert_eq!(logs::audit(&id)[0]["trace_id"], trace, "{parent}");
    }
}
