//! What the client promises, against a server that misbehaves on purpose. Time is virtual.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::ClientOptions;
use crate::request::{self, Repeat};
use crate::testing::{Log, Reply, config_map, refusal, reply, server, silence, streaming, with_retry_after};
use crate::write::{self, WriteError};

/// A server that refuses the first `failures` requests and then serves.
fn failing(failures: usize, failure: fn() -> Reply) -> (kube::Client, Log) {
    let count = Arc::new(AtomicUsize::new(0));
    server(&ClientOptions::default(), move |_| {
        let failing = count.fetch_add(1, Ordering::Relaxed) < failures;
        async move { Ok(if failing { failure() } else { reply(200, &config_map("one", 7)) }) }
    })
}

async fn get(client: &kube::Client) -> Result<Option<ConfigMap>, WriteError> {
    write::get(client, "ns", "one").await
}

async fn create(client: &kube::Client) -> Result<write::Written, WriteError> {
    write::create(client, "ns", &ConfigMap::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_read_is_repeated_a_few_times() {
    for failure in [|| refusal(503, ""), || refusal(429, ""), || refusal(500, "")] {
        let (client, log) = failing(2, failure);
        assert!(get(&client).await.unwrap().is_some());
        assert_eq!(log.len(), 3);
    }
    let (client, log) = failing(100, || refusal(503, ""));
    assert!(matches!(get(&client).await, Err(WriteError::Unavailable(_))));
    assert_eq!(log.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_read_is_repeated_after_a_failed_connection() {
    let first = Arc::new(AtomicUsize::new(0));
    let (client, log) = server(&ClientOptions::default(), move |_| {
        let failing = first.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if failing { Err("connection refused".into()) } else { Ok(reply(200, &config_map("one", 7))) }
        }
    });
    assert!(get(&client).await.unwrap().is_some());
    assert_eq!(log.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_a_read_is_final() {
    let (client, log) = failing(100, || refusal(403, "Forbidden"));
    assert!(matches!(get(&client).await, Err(WriteError::Rejected { status: 403, .. })));
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_sent_once() {
    for failure in [|| refusal(503, ""), || refusal(429, ""), || refusal(500, ""), || refusal(504, "")] {
        let (client, log) = failing(1, failure);
        create(&client).await.unwrap_err();
        assert_eq!(log.len(), 1);
    }
    let (client, log) = server(&ClientOptions::default(), |_| async { Err("connection reset".into()) });
    assert!(create(&client).await.unwrap_err().outcome_unknown());
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_within_the_deadline() {
    let (client, _) = failing(1, || with_retry_after(refusal(429, ""), "3"));
    let begun = Instant::now();
    assert!(get(&client).await.unwrap().is_some());
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());

    let (client, log) = failing(1, || with_retry_after(refusal(429, ""), "60"));
    let begun = Instant::now();
    let error = get(&client).await.unwrap_err();
    assert_eq!(error, WriteError::Throttled { retry_after: Some(Duration::from_secs(60)) });
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_on_after_the_time_out() {
    let (client, log) = server(&ClientOptions::default(), |_| silence());
    let begun = Instant::now();
    let error = create(&client).await.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert!(error.to_string().contains("did not answer within 10s"), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_half_way_is_given_up_on() {
    let (client, _) = server(&ClientOptions::default(), |_| async {
        let (pipe, reply) = streaming();
        pipe.unbounded_send("{".into()).unwrap();
        // Keeps the body open.
        tokio::spawn(async move {
            sleep(Duration::from_secs(3600)).await;
            drop(pipe);
        });
        Ok(reply)
    });
    let begun = Instant::now();
    let error = create(&client).await.unwrap_err();
    assert!(error.to_string().contains("sent nothing of the answer"), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_full_limit_holds_back_requests_but_no_watches_and_leases() {
    let options = ClientOptions { max_in_flight: 2, ..ClientOptions::default() };
    let (client, log) = server(&options, |seen| async move {
        if seen.is_watch() || seen.path.contains("/leases/") {
            return Ok(reply(200, &json!({})));
        }
        silence().await
    });
    let writes: Vec<_> = (0..5)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { create(&client).await.unwrap_err() })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(log.len(), 2);
    for path in ["/api/v1/pods?watch=true", "/apis/coordination.k8s.io/v1/namespaces/ns/leases/leader"] {
        let built =
            http::Request::get(path).body(Vec::new()).map_err(kube::core::request::Error::BuildRequest);
        request::open(&client, built, Repeat::Caller).await.unwrap();
    }
    assert_eq!(log.len(), 4);
    let mut held_back = 0;
    for write in writes {
        held_back += usize::from(write.await.unwrap() == WriteError::Throttled { retry_after: None });
    }
    assert!(held_back >= 1, "what was not sent says so");
}

#[tokio::test(start_paused = true)]
async fn a_server_in_trouble_gets_five_requests_a_second() {
    let (client, log) = server(&ClientOptions::default(), |_| async { Ok(refusal(503, "")) });
    create(&client).await.unwrap_err();
    let begun = Instant::now();
    let busy: Vec<_> = (0..20)
        .map(|index| {
            let client = client.clone();
            tokio::spawn(async move {
                while begun.elapsed() < Duration::from_secs(20) {
                    let _ = if index % 2 == 0 {
                        create(&client).await.map(drop)
                    } else {
                        get(&client).await.map(drop)
                    };
                }
            })
        })
        .collect();
    sleep(Duration::from_secs(20)).await;
    assert!(log.len() > 50, "{} requests: it does go on", log.len());
    assert!(log.len() <= 103, "{} requests in 20 s", log.len());
    busy.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn one_failure_does_not_slow_down_what_follows() {
    let (client, _) = failing(1, || refusal(500, ""));
    create(&client).await.unwrap_err();
    let begun = Instant::now();
    for _ in 0..100 {
        create(&client).await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}
