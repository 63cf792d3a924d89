//! What goes to the server with each write, and what its answers mean.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Precondition, WriteError, Written};
use crate::client::ClientOptions;
use crate::testing::{Log, Reply, config_map, list, refusal, reply, server, with_retry_after};

fn answering(answers: Vec<Reply>) -> (kube::Client, Log) {
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    server(&ClientOptions::default(), move |_| {
        let answer = answers.lock().next().ok_or_else(|| "no answer left".into());
        async move { answer }
    })
}

fn precondition(version: Option<&str>) -> Precondition {
    Precondition { uid: "uid-one".to_owned(), resource_version: version.map(str::to_owned) }
}

async fn patch(client: &kube::Client, version: Option<&str>, patch: Value) -> Result<Written, WriteError> {
    super::merge_patch::<ConfigMap>(client, "ns", "one", precondition(version), patch).await
}

#[tokio::test]
async fn a_patch_names_uid_and_version_beside_what_it_changes() {
    let (client, log) = answering(vec![reply(200, &config_map("one", 8)), reply(200, &config_map("one", 9))]);
    let written = patch(&client, Some("7"), json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    let expected = Written { uid: "uid-one".to_owned(), resource_version: "8".to_owned(), created: None };
    assert_eq!(written, expected);
    patch(&client, None, json!({"data": {"a": null}})).await.unwrap();
    let seen = log.all();
    assert_eq!(seen[0].method, "PATCH");
    assert_eq!(seen[0].path, "/api/v1/namespaces/ns/configmaps/one");
    assert_eq!(
        seen[0].body,
        json!({"metadata": {"uid": "uid-one", "resourceVersion": "7", "labels": {"a": "b"}}})
    );
    assert_eq!(seen[1].body, json!({"metadata": {"uid": "uid-one"}, "data": {"a": null}}));
}

#[tokio::test]
async fn a_status_patch_without_a_version_takes_the_version_it_has_read() {
    let (client, log) = answering(vec![
        reply(200, &config_map("one", 7)),
        refusal(409, "Conflict"),
        reply(200, &config_map("one", 8)),
        reply(200, &config_map("one", 9)),
    ]);
    let change = json!({"status": {"phase": "Ready"}});
    super::merge_patch_status::<ConfigMap>(&client, "ns", "one", precondition(None), change).await.unwrap();
    let seen = log.all();
    assert_eq!(seen[3].path, "/api/v1/namespaces/ns/configmaps/one/status");
    assert_eq!(seen[3].body["metadata"], json!({"uid": "uid-one", "resourceVersion": "8"}));
    assert_eq!(seen[3].body["status"], json!({"phase": "Ready"}));
}

#[tokio::test]
async fn a_status_patch_does_not_touch_a_stranger() {
    let (client, log) =
        answering(vec![reply(200, &json!({"metadata": {"uid": "uid-two", "resourceVersion": "7"}}))]);
    let outcome =
        super::merge_patch_status::<ConfigMap>(&client, "ns", "one", precondition(None), json!({})).await;
    assert_eq!(outcome, Err(WriteError::Conflict));
    assert_eq!(log.len(), 1);
}

#[tokio::test]
async fn a_delete_names_uid_and_version() {
    let (client, log) =
        answering(vec![reply(200, &json!({})), refusal(404, "NotFound"), refusal(409, "Conflict")]);
    let delete =
        |version, grace| super::delete::<ConfigMap>(&client, "ns", "one", precondition(version), grace);
    assert_eq!(delete(Some("7"), Some(0)).await, Ok(()));
    assert_eq!(delete(None, None).await, Ok(()), "what is gone already needs no deleting");
    assert_eq!(delete(None, None).await, Err(WriteError::Conflict));
    let seen = log.all();
    assert_eq!(seen[0].method, "DELETE");
    assert_eq!(seen[0].body["preconditions"], json!({"uid": "uid-one", "resourceVersion": "7"}));
    assert_eq!(seen[0].body["propagationPolicy"], "Background");
    assert_eq!(seen[0].body["gracePeriodSeconds"], 0);
    assert_eq!(seen[1].body["preconditions"], json!({"uid": "uid-one"}));
}

#[tokio::test(start_paused = true)]
async fn answers_are_told_apart() {
    let uid = json!({"reason": "Invalid", "details": {"causes": [{"field": "metadata.uid"}]}});
    let rejected = |status, reason: &str| WriteError::Rejected {
        status,
        reason: reason.to_owned(),
        message: "as told".to_owned(),
    };
    let throttled =
        |seconds: Option<u64>| WriteError::Throttled { retry_after: seconds.map(Duration::from_secs) };
    let later = json!({"reason": "TooManyRequests", "details": {"retryAfterSeconds": 4}});
    for (answer, meaning) in [
        (refusal(404, "NotFound"), WriteError::NotFound),
        (refusal(409, "AlreadyExists"), WriteError::AlreadyExists),
        (refusal(409, "Conflict"), WriteError::Conflict),
        (reply(422, &uid), WriteError::Conflict),
        (refusal(422, "Invalid"), rejected(422, "Invalid")),
        (refusal(400, "BadRequest"), rejected(400, "BadRequest")),
        (refusal(401, "Unauthorized"), rejected(401, "Unauthorized")),
        (refusal(403, "Forbidden"), rejected(403, "Forbidden")),
        (refusal(429, ""), throttled(None)),
        (with_retry_after(refusal(429, ""), "5"), throttled(Some(5))),
        (reply(429, &later), throttled(Some(4))),
    ] {
        let (client, _) = answering(vec![answer]);
        let error = patch(&client, None, json!({})).await.unwrap_err();
        assert_eq!(error, meaning);
        assert!(!error.outcome_unknown());
    }
    for answer in
        [refusal(500, "InternalError"), refusal(502, ""), refusal(504, "Timeout"), reply(200, &json!("?"))]
    {
        let (client, _) = answering(vec![answer]);
        let error = patch(&client, None, json!({})).await.unwrap_err();
        assert_eq!(error.reason(), "Unavailable");
        assert!(error.outcome_unknown());
    }
}

#[tokio::test]
async fn a_list_is_complete_or_fails() {
    let page =
        json!({"metadata": {"continue": "more", "resourceVersion": "9"}, "items": [config_map("one", 7)]});
    let (client, log) = answering(vec![reply(200, &page), list(&[config_map("two", 8)], 9)]);
    let found: Vec<ConfigMap> = super::list(&client, "ns", "a=b").await.unwrap();
    assert_eq!(found.len(), 2);
    let seen = log.all();
    assert_eq!(seen[0].parameter("labelSelector"), Some("a%3Db"));
    assert_eq!(seen[0].parameter("resourceVersion"), None, "a consistent read");
    assert_eq!(seen[1].parameter("continue"), Some("more"));

    let bad = json!({"metadata": {"name": "bad"}, "data": 7});
    let (client, _) = answering(vec![list(&[config_map("one", 7), bad], 9)]);
    let error = super::list::<ConfigMap>(&client, "ns", "a=b").await.unwrap_err();
    assert!(error.to_string().contains("ConfigMap bad"), "{error}");
}

#[tokio::test]
async fn what_does_not_exist_is_read_as_none() {
    let (client, _) = answering(vec![refusal(404, "NotFound")]);
    assert_eq!(super::get::<ConfigMap>(&client, "ns", "one").await, Ok(None));
}
