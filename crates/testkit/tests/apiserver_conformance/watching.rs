//! Watches and pages: where they begin, and how they end.

use serde_json::{Value, json};

use crate::pair::Pair;
use crate::target::Target;

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"mark": "yes"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_in_pages_shows_what_was_there_at_its_first_page() {
    let Some(mut pair) = Pair::make("pages").await else { return };
    let path = pair.path("configmaps", "");
    for name in ["a", "b", "c", "d", "e"] {
        pair.send("POST", &path, Some(config_map(name))).await;
    }
    let path = format!("{path}?labelSelector=mark%3Dyes&limit=2");
    pair.send("GET", &path, None).await;
    pair.send("DELETE", &pair.path("configmaps", "d"), None).await;
    pair.send("POST", &pair.path("configmaps", ""), Some(config_map("ca"))).await;
    let mut pages = Vec::new();
    for target in [&pair.memory, &pair.real] {
        pages.push(names_in_pages(target, &path).await);
    }
    assert_eq!(pages[0], pages[1]);

    // One list that was begun before the changes.
    let mut begun = Vec::new();
    for target in [&pair.memory, &pair.real] {
        let (_, first) = target.send("GET", &path, None).await;
        begun.push(first["metadata"]["continue"].as_str().unwrap().to_owned());
    }
    pair.send("DELETE", &pair.path("configmaps", "c"), None).await;
    pair.send("POST", &pair.path("configmaps", ""), Some(config_map("cb"))).await;
    let mut rest = Vec::new();
    for (target, next) in [&pair.memory, &pair.real].into_iter().zip(begun) {
        let (code, page) = target.send("GET", &format!("{path}&continue={next}"), None).await;
        assert_eq!(code, 200, "{page}");
        rest.push(names(&page));
    }
    assert_eq!(rest[0], rest[1]);
    assert!(rest[0].contains(&"c".to_owned()), "{rest:?}");
    pair.send("GET", &format!("{path}&continue=nonsense"), None).await;
    pair.remove().await;
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn names_in_pages(target: &Target, path: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = String::new();
    loop {
        let (_, page) = target.send("GET", &format!("{path}&continue={next}"), None).await;
        pages.push(names(&page));
        match page["metadata"]["continue"].as_str() {
            Some(more) if !more.is_empty() => next = more.to_owned(),
            _ => return pages,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_nowhere_tells_first_what_is_there() {
    let Some(mut pair) = Pair::make("from-zero").await else { return };
    let path = pair.path("configmaps", "");
    for name in ["a", "b"] {
        pair.send("POST", &path, Some(config_map(name))).await;
    }
    for version in ["0", ""] {
        let mut told = Vec::new();
        let watched = format!("{path}?watch=1&labelSelector=mark%3Dyes&resourceVersion={version}");
        let memory = pair.memory.watch(&watched).await;
        let real = pair.real.watch(&watched).await;
        let end = format!("end-{}", if version.is_empty() { "none" } else { version });
        pair.send("POST", &path, Some(config_map(&end))).await;
        for mut watch in [memory, real] {
            let mut names: Vec<String> = watch
                .up_to(&end)
                .await
                .iter()
                .map(|event| format!("{} {}", event["type"], event["object"]["metadata"]["name"]))
                .collect();
            // What is there comes in no order.
            names.sort();
            told.push(names);
        }
        assert_eq!(told[0], told[1], "from {version:?}");
    }
    pair.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_in_time_and_is_told_its_version_before() {
    let Some(pair) = Pair::make("window").await else { return };
    let path = pair.path("sessions", "");
    let mut shapes = Vec::new();
    for target in [&pair.memory, &pair.real] {
        let (_, list) = target.send("GET", &path, None).await;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap();
        let watched =
            format!("{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds=5&resourceVersion={version}");
        let mut watch = target.watch(&watched).await;
        let mut bookmarks = Vec::new();
        while let Some(event) = watch.next().await {
            assert_eq!(event["type"], "BOOKMARK", "{event}");
            let object = &event["object"];
            bookmarks.push(json!({
                "kind": object["kind"], "apiVersion": object["apiVersion"],
                "versioned": object["metadata"]["resourceVersion"].is_string(),
                "named": object["metadata"]["name"].is_string(),
            }));
        }
        // How often it is told is the server's choice.
        bookmarks.dedup();
        shapes.push((watch.status, bookmarks));
    }
    assert_eq!(shapes[0], shapes[1]);
    pair.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_a_forgotten_version_is_told_so() {
    let Some(mut pair) = Pair::make("expired").await else { return };
    let path = pair.path("sessions", "");
    let session = json!({"apiVersion": "paddock.dev/v1alpha1", "kind": "Session", "metadata": {"name": "s"},
        "spec": {"agentRef": {"name": "coder"}}});
    pair.send("POST", &path, Some(session)).await;
    if let Some(server) = &pair.memory.memory {
        server.compact(None);
    }
    let watched = format!("{path}?watch=true&resourceVersion=1");
    let mut told = Vec::new();
    for target in [&mut pair.memory, &mut pair.real] {
        let mut watch = target.watch(&watched).await;
        let event = watch.next().await.unwrap();
        told.push((watch.status, target.plain.event(event), watch.next().await));
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].1["object"]["code"], 410);
    pair.remove().await;
}
