//! A watch that remembers when it saw what: the eyes of the benchmark.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{TryStreamExt, pin_mut};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Result;

/// When an object was seen first, ready and gone.
#[derive(Clone, Debug)]
pub struct Entry {
    /// First.
    pub seen: Instant,
    /// Ready, for the first time.
    pub ready: Option<(Instant, Timestamp)>,
    /// Deleted.
    pub gone: bool,
    /// As it was last seen.
    pub object: Arc<DynamicObject>,
}

type Entries = HashMap<String, Entry>;

/// A running watch; it ends when this is dropped.
pub struct Journal {
    entries: Arc<Mutex<Entries>>,
    changes: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Journal {
    /// Starts to watch, and returns once the first list is in.
    pub async fn start(
        api: Api<DynamicObject>,
        is_ready: impl Fn(&DynamicObject) -> bool + Send + Sync + 'static,
    ) -> Result<Self> {
        let entries = Arc::new(Mutex::new(Entries::new()));
        let (sender, changes) = watch::channel(0);
        let task = tokio::spawn(follow(api, entries.clone(), sender, is_ready));
        let mut listed = changes.clone();
        tokio::time::timeout(Duration::from_secs(30), listed.changed())
            .await
            .map_err(|_| "a watch did not start within 30 s")??;
        Ok(Self { entries, changes, task })
    }

    /// The entry of `name`.
    pub fn get(&self, name: &str) -> Option<Entry> {
        self.lock().get(name).cloned()
    }

    /// How many objects there are.
    pub fn present(&self) -> usize {
        self.lock().values().filter(|entry| !entry.gone).count()
    }

    /// Waits until `done` says so; false when it did not in time.
    pub async fn wait(&self, within: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        let mut changes = self.changes.clone();
        loop {
            changes.borrow_and_update();
            if done(self) {
                return true;
            }
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return done(self),
            }
        }
    }

    /// When `name` was ready.
    pub async fn ready(&self, name: &str, within: Duration) -> Result<Entry> {
        self.wait(within, |journal| journal.get(name).is_some_and(|entry| entry.ready.is_some())).await;
        let entry = self.get(name).ok_or_else(|| format!("{name} was never seen"))?;
        if entry.ready.is_none() {
            let status = &entry.object.data["status"];
            return Err(format!("{name} was not ready within {} s: {status}", within.as_secs()).into());
        }
        Ok(entry)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    api: Api<DynamicObject>,
    entries: Arc<Mutex<Entries>>,
    changes: watch::Sender<u64>,
    is_ready: impl Fn(&DynamicObject) -> bool + Sync,
) {
    loop {
        if let Err(error) = round(&api, &entries, &changes, &is_ready).await {
            eprintln!("    a watch of the benchmark was cut and begins anew: {error}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn round(
    api: &Api<DynamicObject>,
    entries: &Mutex<Entries>,
    changes: &watch::Sender<u64>,
    is_ready: &(impl Fn(&DynamicObject) -> bool + Sync),
) -> std::result::Result<(), kube::Error> {
    let note = |object: DynamicObject, gone: bool| {
        let now = Instant::now();
        let mut entries = entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let name = object.metadata.name.clone().unwrap_or_default();
        let ready = is_ready(&object);
        let object = Arc::new(object);
        let entry = entries.entry(name).or_insert_with(|| Entry {
            seen: now,
            ready: None,
            gone,
            object: object.clone(),
        });
        entry.object = object;
        entry.gone = gone;
        if ready && entry.ready.is_none() {
            entry.ready = Some((now, Timestamp::now()));
        }
    };
    let listed = api.list(&ListParams::default()).await?;
    let version = listed.metadata.resource_version.unwrap_or_default();
    {
        let mut entries = entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        entries.values_mut().for_each(|entry| entry.gone = true);
    }
    listed.items.into_iter().for_each(|object| note(object, false));
    changes.send_modify(|n| *n += 1);

    let mut version = version;
    loop {
        let stream = api.watch(&WatchParams::default().timeout(280), &version).await?;
        pin_mut!(stream);
        while let Some(event) = stream.try_next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version = object.metadata.resource_version.clone().unwrap_or_default();
                    note(object, false);
                }
                WatchEvent::Deleted(object) => {
                    version = object.metadata.resource_version.clone().unwrap_or_default();
                    note(object, true);
                }
                WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
                WatchEvent::Error(error) => return Err(kube::Error::Api(error)),
            }
            changes.send_modify(|n| *n += 1);
        }
    }
}
