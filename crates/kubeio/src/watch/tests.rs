//! A watch against a server that ends, breaks, freezes and forgets. Time is virtual.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Closed, Event, Freshness, Scope, WatchOptions, run};
use crate::client::ClientOptions;
use crate::testing::{Log, Pipe, Reply, Seen, config_map, list, refusal, reply, server, silence, streaming};

/// How the server meets the next request; when the script is over, lists are empty and watches open and silent.
enum Act {
    Answer(Reply),
    Refuse,
    Freeze,
}

struct Stage {
    events: mpsc::UnboundedReceiver<String>,
    freshness: Freshness,
    log: Log,
    pipes: Arc<Mutex<Vec<Pipe>>>,
    down: Arc<Mutex<bool>>,
    task: JoinHandle<()>,
}

fn play(script: Vec<Act>) -> Stage {
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let pipes = Arc::new(Mutex::new(Vec::new()));
    let down = Arc::new(Mutex::new(false));
    let (opened, is_down) = (Arc::clone(&pipes), Arc::clone(&down));
    let (client, log) = server(&ClientOptions::default(), move |seen: Seen| {
        let act = if *is_down.lock() { Some(Act::Refuse) } else { script.lock().pop_front() };
        let opened = Arc::clone(&opened);
        async move {
            match act {
                Some(Act::Answer(reply)) => Ok(reply),
                Some(Act::Refuse) => Err("connection refused".into()),
                Some(Act::Freeze) => silence().await,
                None if !seen.is_watch() => Ok(list(&[], 100)),
                None => {
                    let (pipe, reply) = streaming();
                    opened.lock().push(pipe);
                    Ok(reply)
                }
            }
        }
    });
    let freshness = Freshness::new();
    let (sender, events) = mpsc::unbounded_channel();
    let options =
        WatchOptions { scope: Scope::Cluster, label_selector: Some("a=b".to_owned()), field_selector: None };
    let task = tokio::spawn(run::<ConfigMap, _>(client, options, freshness.clone(), move |event| {
        sender.send(told(&event)).map_err(|_| Closed)
    }));
    Stage { events, freshness, log, pipes, down, task }
}

fn told(event: &Event<ConfigMap>) -> String {
    match event {
        Event::Synced(objects) => {
            format!("synced {}", objects.iter().map(ResourceExt::name_any).collect::<Vec<_>>().join(","))
        }
        Event::Applied(object) => format!("applied {}", object.name_any()),
        Event::Deleted(object) => format!("deleted {}", object.name_any()),
    }
}

impl Stage {
    async fn next(&mut self) -> String {
        timeout(Duration::from_secs(300), self.events.recv())
            .await
            .expect("an event")
            .expect("a running watch")
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < Duration::from_secs(300), "{what}");
            sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    /// Sends raw bytes down the newest watch.
    async fn raw(&self, bytes: impl Into<Bytes>) {
        self.until("an open watch", |stage| !stage.pipes.lock().is_empty()).await;
        self.pipes.lock().last().unwrap().unbounded_send(bytes.into()).unwrap();
    }

    async fn send(&self, kind: &str, object: &Value) {
        self.raw(format!("{}\n", json!({"type": kind, "object": object}))).await;
    }

    fn hang_up(&self) {
        self.pipes.lock().clear();
    }

    fn watches(&self) -> Vec<Seen> {
        self.log.all().into_iter().filter(Seen::is_watch).collect()
    }

    fn lists(&self) -> usize {
        self.log.all().iter().filter(|seen| !seen.is_watch()).count()
    }
}

fn gone() -> Value {
    json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"})
}

#[tokio::test(start_paused = true)]
async fn it_lists_and_then_follows_from_there() {
    let mut stage = play(vec![Act::Answer(list(&[config_map("one", 7)], 9))]);
    assert!(!stage.freshness.synced());
    assert_eq!(stage.next().await, "synced one");
    stage.send("ADDED", &config_map("two", 10)).await;
    stage.send("DELETED", &config_map("one", 11)).await;
    assert_eq!(stage.next().await, "applied two");
    assert_eq!(stage.next().await, "deleted one");
    assert!(stage.freshness.synced());
    let watch = &stage.watches()[0];
    assert_eq!(watch.parameter("resourceVersion"), Some("9"));
    assert_eq!(watch.parameter("allowWatchBookmarks"), Some("true"));
    assert_eq!(watch.parameter("labelSelector"), Some("a%3Db"));
    let window: u64 = watch.parameter("timeoutSeconds").unwrap().parse().unwrap();
    assert!((30..=40).contains(&window));
}

#[tokio::test(start_paused = true)]
async fn a_list_of_several_pages_is_one_event() {
    let page =
        json!({"metadata": {"continue": "more", "resourceVersion": "9"}, "items": [config_map("one", 7)]});
    let mut stage = play(vec![Act::Answer(reply(200, &page)), Act::Answer(list(&[config_map("two", 8)], 9))]);
    assert_eq!(stage.next().await, "synced one,two");
}

#[tokio::test(start_paused = true)]
async fn lines_may_come_in_pieces() {
    let mut stage = play(vec![]);
    assert_eq!(stage.next().await, "synced ");
    let lines = format!(
        "{}\n{}\n",
        json!({"type": "ADDED", "object": config_map("one", 1)}),
        json!({"type": "ADDED", "object": config_map("two", 2)})
    );
    for byte in lines.into_bytes() {
        stage.raw(vec![byte]).await;
    }
    assert_eq!(stage.next().await, "applied one");
    assert_eq!(stage.next().await, "applied two");
}

#[tokio::test(start_paused = true)]
async fn after_its_window_it_goes_on_at_once_from_the_last_bookmark() {
    let mut stage = play(vec![]);
    assert_eq!(stage.next().await, "synced ");
    stage.send("ADDED", &config_map("one", 101)).await;
    stage.send("BOOKMARK", &json!({"metadata": {"resourceVersion": "150"}})).await;
    sleep(Duration::from_secs(35)).await;
    stage.hang_up();
    let took = stage.until("the next watch", |stage| stage.watches().len() == 2).await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    assert_eq!(stage.watches()[1].parameter("resourceVersion"), Some("150"));
    assert_eq!(stage.lists(), 1);
    assert_eq!((stage.freshness.restarts(), stage.freshness.errors()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_leads_to_a_new_list_within_two_seconds() {
    let mut refused = play(vec![Act::Answer(list(&[], 9)), Act::Answer(refusal(410, "Expired"))]);
    assert_eq!(refused.next().await, "synced ");
    let begun = Instant::now();
    assert_eq!(refused.next().await, "synced ");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    let mut told = play(vec![]);
    assert_eq!(told.next().await, "synced ");
    let begun = Instant::now();
    told.send("ERROR", &gone()).await;
    assert_eq!(told.next().await, "synced ");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((told.freshness.restarts(), told.freshness.errors()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_410_after_a_long_outage_is_answered_within_two_seconds_too() {
    let mut script = vec![Act::Answer(list(&[], 9))];
    script.extend((0..12).map(|_| Act::Refuse));
    script.push(Act::Answer(refusal(410, "Expired")));
    let mut stage = play(script);
    assert_eq!(stage.next().await, "synced ");
    assert_eq!(stage.next().await, "synced ");
    let seen = stage.log.all();
    let expired = &seen[13];
    let relisted = seen.iter().skip(14).find(|seen| !seen.is_watch()).unwrap();
    assert!(relisted.at - expired.at < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_came_back_is_noticed_within_five_seconds_and_nothing_is_listed_again() {
    let mut stage = play(vec![]);
    assert_eq!(stage.next().await, "synced ");
    stage.send("ADDED", &config_map("one", 101)).await;
    assert_eq!(stage.next().await, "applied one");
    *stage.down.lock() = true;
    stage.hang_up();
    let before = stage.log.len();
    sleep(Duration::from_secs(120)).await;
    assert!(stage.log.len() - before <= 60, "{} attempts in 120 s", stage.log.len() - before);
    assert!(stage.freshness.stale_for() >= Duration::from_secs(119));
    assert!(stage.freshness.errors() > 20);
    *stage.down.lock() = false;
    let took = stage.until("a new watch", |stage| !stage.pipes.lock().is_empty()).await;
    assert!(took <= Duration::from_secs(5), "{took:?}");
    assert_eq!(stage.lists(), 1);
    assert_eq!(stage.watches().last().unwrap().parameter("resourceVersion"), Some("101"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_open_at_this_end_only_is_noticed_within_sixty_seconds() {
    let mut stage = play(vec![]);
    assert_eq!(stage.next().await, "synced ");
    stage.until("the watch", |stage| !stage.watches().is_empty()).await;
    let took = stage.until("another watch", |stage| stage.watches().len() == 2).await;
    assert!(took <= Duration::from_secs(60), "{took:?}");
    assert_eq!(stage.freshness.errors(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_never_accepted_is_noticed_too() {
    let mut stage = play(vec![Act::Answer(list(&[], 9)), Act::Freeze]);
    assert_eq!(stage.next().await, "synced ");
    let took = stage.until("another watch", |stage| stage.watches().len() == 2).await;
    assert!(took <= Duration::from_secs(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_decoded_stops_nothing() {
    let bad = |name: &str, version: &str| json!({"metadata": {"name": name, "resourceVersion": version}, "data": 7});
    let mut stage = play(vec![Act::Answer(list(&[bad("bad", "1"), config_map("one", 7)], 9))]);
    assert_eq!(stage.next().await, "synced one");
    stage.send("MODIFIED", &bad("bad", "10")).await;
    stage.send("ADDED", &config_map("two", 11)).await;
    assert_eq!(stage.next().await, "applied two");
    assert_eq!(stage.freshness.undecodable(), 2);
    assert_eq!(stage.watches().len(), 1);
    // A lost deletion would leave an object behind for ever.
    stage.send("DELETED", &bad("two", "12")).await;
    assert_eq!(stage.next().await, "synced ");
}

#[tokio::test(start_paused = true)]
async fn nonsense_on_the_wire_costs_one_restart() {
    let mut stage = play(vec![]);
    assert_eq!(stage.next().await, "synced ");
    stage.raw("<html>bad gateway</html>\n").await;
    stage.until("another watch", |stage| stage.watches().len() == 2).await;
    assert_eq!(stage.freshness.errors(), 1);
    stage.send("FUTURE", &json!({})).await;
    stage.send("ADDED", &config_map("one", 101)).await;
    assert_eq!(stage.next().await, "applied one");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_at_once_is_not_hammered() {
    let mut script = vec![Act::Answer(list(&[], 9))];
    script.extend((0..1000).map(|_| Act::Answer(reply(200, &json!("")))));
    let stage = play(script);
    sleep(Duration::from_secs(60)).await;
    assert!(stage.log.len() < 40, "{} requests in a minute", stage.log.len());
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_does_not_exist_yet_is_waited_for() {
    let mut script: Vec<_> = (0..5).map(|_| Act::Answer(refusal(404, "NotFound"))).collect();
    script.push(Act::Answer(list(&[config_map("one", 7)], 9)));
    let mut stage = play(script);
    assert_eq!(stage.next().await, "synced one");
}

#[tokio::test(start_paused = true)]
async fn a_closed_sink_ends_it() {
    let mut stage = play(vec![]);
    stage.next().await;
    drop(stage.events);
    let Stage { pipes, task, .. } = stage;
    while pipes.lock().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    let line = format!("{}\n", json!({"type": "ADDED", "object": config_map("one", 101)}));
    pipes.lock()[0].unbounded_send(line.into()).unwrap();
    timeout(Duration::from_secs(1), task).await.expect("the end").unwrap();
}
