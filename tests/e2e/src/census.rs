//! Counting pods at every instant: a watch that remembers the most there ever were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{TryStreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use paddock_api::labels;
use tokio::task::JoinHandle;

/// What a census has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// The pods there are now, by UID, terminating ones included.
    pub pods: BTreeMap<String, Seen>,
    /// The most pods there were at any instant, terminating ones included.
    pub peak: usize,
    /// Every session UID that a pod was ever seen with, by pod UID.
    pub sessions_of_pod: BTreeMap<String, BTreeSet<String>>,
    /// Instants at which two pods that were not terminating carried the same session UID.
    pub doubles: Vec<String>,
}

/// A pod as the census saw it last.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// The session it serves.
    pub session: Option<String>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// A running census; it ends when this is dropped.
#[derive(Debug)]
pub struct Census {
    count: Arc<Mutex<Count>>,
    task: JoinHandle<()>,
}

impl Census {
    /// Starts to count the pods that `selector` selects.
    pub fn start(pods: Api<Pod>, selector: &str) -> Self {
        let count = Arc::new(Mutex::new(Count::default()));
        let task = tokio::spawn(follow(pods, selector.to_owned(), count.clone()));
        Self { count, task }
    }

    /// What was seen until now.
    pub fn count(&self) -> Count {
        self.count.lock().expect("the census never panics with the lock").clone()
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(pods: Api<Pod>, selector: String, count: Arc<Mutex<Count>>) {
    loop {
        // An interrupted watch is begun anew from a list: what it missed is neither lost nor counted double.
        if round(&pods, &selector, &count).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn round(pods: &Api<Pod>, selector: &str, count: &Mutex<Count>) -> Result<(), kube::Error> {
    let listed = pods.list(&ListParams::default().labels(selector)).await?;
    let version = listed.metadata.resource_version.unwrap_or_default();
    {
        let mut count = count.lock().expect("the census never panics with the lock");
        count.pods.clear();
        listed.items.iter().for_each(|pod| count.enter(pod));
        count.check();
    }
    let watch = pods.watch(&WatchParams::default().labels(selector).timeout(280), &version).await?;
    pin_mut!(watch);
    while let Some(event) = watch.try_next().await? {
        let mut count = count.lock().expect("the census never panics with the lock");
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => count.enter(&pod),
            WatchEvent::Deleted(pod) => count.leave(&pod),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(_) => break,
        }
        count.check();
    }
    Ok(())
}

impl Count {
    fn enter(&mut self, pod: &Pod) {
        let meta = &pod.metadata;
        let uid = meta.uid.clone().unwrap_or_default();
        let session = meta.labels.as_ref().and_then(|all| all.get(labels::SESSION_UID)).cloned();
        if let Some(session) = &session {
            self.sessions_of_pod.entry(uid.clone()).or_default().insert(session.clone());
        }
        let seen = Seen {
            name: meta.name.clone().unwrap_or_default(),
            session,
            terminating: meta.deletion_timestamp.is_some(),
        };
        self.pods.insert(uid, seen);
    }

    fn leave(&mut self, pod: &Pod) {
        self.pods.remove(pod.metadata.uid.as_deref().unwrap_or_default());
    }

    fn check(&mut self) {
        self.peak = self.peak.max(self.pods.len());
        let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
        let mut doubles = Vec::new();
        for pod in self.pods.values().filter(|pod| !pod.terminating) {
            let Some(session) = &pod.session else { continue };
            if let Some(other) = holders.insert(session, &pod.name) {
                doubles.push(format!("session {session} in pods {other} and {}", pod.name));
            }
        }
        self.doubles.extend(doubles);
    }
}
