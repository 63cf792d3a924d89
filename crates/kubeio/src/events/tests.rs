//! What is written of what is published. Time is virtual.

use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::json;
use tokio::time::sleep;

use super::{Kind, LONGEST_NOTE, Recorder};
use crate::client::ClientOptions;
use crate::testing::{Log, refusal, reply, server, silence};

fn about(uid: &str) -> ObjectReference {
    ObjectReference {
        name: Some("session".to_owned()),
        namespace: Some("ns".to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn recorder() -> (Recorder, Log) {
    let (client, log) = server(&ClientOptions::default(), |_| async {
        Ok(reply(200, &json!({"metadata": {"uid": "event-uid", "resourceVersion": "1"}})))
    });
    (Recorder::new(client, "paddock-controller", "pod-0"), log)
}

fn publish(recorder: &Recorder, uid: &str) {
    recorder.publish(about(uid), Kind::Warning, "PodLost", "the pod is gone".to_owned());
}

/// Lets the recorder's task do all that it can do now.
async fn settle() {
    sleep(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_says_who_did_what_to_whom() {
    let (recorder, log) = recorder();
    publish(&recorder, "u1");
    settle().await;
    let seen = &log.all()[0];
    assert_eq!(
        (&seen.method, seen.path.as_str()),
        (&Method::POST, "/apis/events.k8s.io/v1/namespaces/ns/events")
    );
    assert!(seen.body["metadata"]["name"].as_str().unwrap().starts_with("session."));
    assert_eq!(seen.body["regarding"]["uid"], "u1");
    assert_eq!(seen.body["type"], "Warning");
    assert_eq!(seen.body["reason"], "PodLost");
    assert_eq!(seen.body["note"], "the pod is gone");
    assert_eq!(seen.body["reportingController"], "paddock-controller");
    assert_eq!(seen.body["reportingInstance"], "pod-0");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_event_becomes_a_series_that_is_rarely_written() {
    let (recorder, log) = recorder();
    for _ in 0..100 {
        publish(&recorder, "u1");
        sleep(Duration::from_secs(1)).await;
    }
    let seen = log.all();
    assert_eq!(seen.iter().filter(|seen| seen.method == Method::POST).count(), 1);
    let patches: Vec<_> = seen.iter().filter(|seen| seen.method == Method::PATCH).collect();
    assert_eq!(patches.len(), 3);
    assert_eq!(patches[2].body["series"]["count"], 91);
    assert_eq!(patches[2].body["metadata"]["uid"], "event-uid");
}

/// The API server refuses to change what an event says: 422, "note: field is immutable".
#[tokio::test(start_paused = true)]
async fn other_words_make_another_event() {
    let (recorder, log) = recorder();
    for pod in ["first", "second"] {
        recorder.publish(about("u1"), Kind::Normal, "Activated", format!("serves from pod {pod}"));
        sleep(Duration::from_secs(60)).await;
    }
    let seen = log.all();
    let notes: Vec<_> = seen.iter().map(|seen| (&seen.method, seen.body["note"].as_str().unwrap())).collect();
    assert_eq!(notes, [(&Method::POST, "serves from pod first"), (&Method::POST, "serves from pod second")]);
}

#[tokio::test(start_paused = true)]
async fn other_objects_and_long_pauses_make_new_events() {
    let (recorder, log) = recorder();
    publish(&recorder, "u1");
    publish(&recorder, "u2");
    sleep(Duration::from_secs(3600)).await;
    publish(&recorder, "u1");
    settle().await;
    assert_eq!(log.all().iter().filter(|seen| seen.method == Method::POST).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_cut_off_and_counted() {
    let (recorder, log) = recorder();
    for index in 0..1000 {
        publish(&recorder, &format!("u{index}"));
        tokio::task::yield_now().await;
    }
    settle().await;
    assert!(log.len() <= 52, "{} writes", log.len());
    assert_eq!(log.len() + usize::try_from(recorder.dropped()).unwrap(), 1000);
    sleep(Duration::from_secs(60)).await;
    publish(&recorder, "late");
    settle().await;
    assert_eq!(log.all().last().unwrap().body["regarding"]["uid"], "late", "it recovers");
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_blocks_nobody() {
    let (client, _) = server(&ClientOptions::default(), |_| silence());
    let recorder = Recorder::new(client, "c", "i");
    let begun = tokio::time::Instant::now();
    for index in 0..1000 {
        publish(&recorder, &format!("u{index}"));
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(recorder.dropped() > 700);
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_is_counted_and_forgotten() {
    let (client, log) = server(&ClientOptions::default(), |_| async { Ok(refusal(403, "Forbidden")) });
    let recorder = Recorder::new(client, "c", "i");
    publish(&recorder, "u1");
    settle().await;
    assert_eq!((log.len(), recorder.dropped()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn long_messages_are_cut_at_a_character() {
    let (recorder, log) = recorder();
    recorder.publish(about("u1"), Kind::Normal, "Long", "x".to_owned() + &"é".repeat(2000));
    settle().await;
    let note = log.all()[0].body["note"].as_str().unwrap().to_owned();
    assert_eq!(note.len(), LONGEST_NOTE - 1);
}

#[tokio::test]
async fn a_disabled_recorder_does_nothing() {
    let recorder = Recorder::disabled();
    publish(&recorder, "u1");
    assert_eq!(recorder.dropped(), 0);
}
