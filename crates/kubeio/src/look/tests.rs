use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::{LogQuery, SlimEvent};
use crate::client::ClientOptions;
use crate::testing::{Log, Reply, refusal, reply, server};
use crate::write::WriteError;

fn answering(answer: impl Fn() -> Reply + Clone + Send + 'static) -> (kube::Client, Log) {
    server(&ClientOptions::default(), move |_| {
        let answer = answer();
        async move { Ok(answer) }
    })
}

fn query() -> LogQuery {
    LogQuery { container: "harness".to_owned(), since_seconds: 60, tail_lines: 5, most_bytes: 100 }
}

#[tokio::test]
async fn a_log_is_asked_for_with_its_bounds() {
    let text = || {
        let body = Full::new(Bytes::from_static(b"a line\n")).map_err(|never| match never {});
        Response::new(body.boxed_unsync())
    };
    let (client, log) = answering(text);
    let read = super::log(&client, "ns", "pod", &query()).await.unwrap();
    assert_eq!(read, Some(Bytes::from_static(b"a line\n")));
    let seen = &log.all()[0];
    assert_eq!(seen.path, "/api/v1/namespaces/ns/pods/pod/log");
    for (name, value) in
        [("container", "harness"), ("sinceSeconds", "60"), ("tailLines", "5"), ("limitBytes", "100")]
    {
        assert_eq!(seen.parameter(name), Some(value), "{}", seen.query);
    }
}

#[tokio::test]
async fn no_pod_has_no_log_and_a_refusal_is_one() {
    let (client, _) = answering(|| refusal(404, "NotFound"));
    assert_eq!(super::log(&client, "ns", "pod", &query()).await, Ok(None));
    let (client, _) = answering(|| refusal(400, "BadRequest"));
    let refused = super::log(&client, "ns", "pod", &query()).await;
    assert!(matches!(refused, Err(WriteError::Rejected { status: 400, .. })), "{refused:?}");
}

#[tokio::test]
async fn events_are_those_about_one_name() {
    let items = json!([
        {"type": "Warning", "reason": "Failed", "message": "no image", "count": 3,
         "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z", "eventTime": null,
         "involvedObject": {"kind": "Pod", "name": "one", "uid": "u"}},
        {"type": "Normal", "reason": "Claimed", "message": "m", "eventTime": "2026-01-01T00:00:00.000001Z",
         "series": {"count": 7, "lastObservedTime": "2026-01-01T00:02:00.000000Z"}},
        {"type": 5},
    ]);
    let (client, log) = answering(move || reply(200, &json!({"metadata": {}, "items": items})));
    let events: Vec<SlimEvent> = super::events(&client, "ns", "one", 9).await.unwrap();
    assert_eq!(log.all()[0].path, "/api/v1/namespaces/ns/events");
    assert_eq!(log.all()[0].parameter("fieldSelector"), Some("involvedObject.name%3Done"));
    assert_eq!(log.all()[0].parameter("limit"), Some("9"));
    assert_eq!(events.len(), 2, "one that cannot be read hides no other");
    assert_eq!((events[0].count(), events[0].last()), (3, Some("2026-01-01T00:01:00Z".parse().unwrap())));
    assert_eq!((events[1].count(), events[1].last()), (7, Some("2026-01-01T00:02:00Z".parse().unwrap())));
    assert_eq!(events[0].involved_object.kind, "Pod");
}
