//! Waiting for a condition: always with a deadline, always telling what was seen instead.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, pin_mut};
use kube::api::{Api, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;

/// How often a condition is looked at that cannot be watched.
const PERIOD: Duration = Duration::from_millis(150);

/// Asks `probe` again and again until it has an answer; its error says what is missing.
///
/// # Panics
/// When there is none within `limit`, with the last error.
pub async fn until<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        let missing = match tokio::time::timeout(limit, probe()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(missing)) => missing,
            Err(_) => "no answer at all".to_owned(),
        };
        assert!(started.elapsed() < limit, "waited {limit:?} until {what}; last seen: {missing}");
        tokio::time::sleep(PERIOD).await;
    }
}

/// Watches one object until `look` finds what it looks for. `look` sees every state the watch delivers.
///
/// # Panics
/// When it does not within `limit`, with the object's last state.
pub async fn watch<K, T>(
    api: &Api<K>,
    name: &str,
    what: &str,
    limit: Duration,
    mut look: impl FnMut(&K) -> Option<T>,
) -> T
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut last = "no such object".to_owned();
    let watching = async {
        let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(60);
        loop {
            let stream = match api.watch(&params, "0").await {
                Ok(stream) => stream,
                Err(error) => {
                    last = format!("the watch failed: {error}");
                    tokio::time::sleep(PERIOD).await;
                    continue;
                }
            };
            pin_mut!(stream);
            while let Ok(Some(event)) = stream.try_next().await {
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        last = format!("{object:?}");
                        if let Some(found) = look(&object) {
                            return found;
                        }
                    }
                    WatchEvent::Deleted(_) => last = "it was deleted".to_owned(),
                    WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(_) => break,
                }
            }
        }
    };
    let ended = tokio::time::timeout(limit, watching).await;
    ended.unwrap_or_else(|_| panic!("waited {limit:?} until {name}: {what}; last seen: {last}"))
}

/// Waits until an object does not exist any more.
///
/// # Panics
/// When it still does after `limit`.
pub async fn gone<K>(api: &Api<K>, name: &str, limit: Duration)
where
    K: Clone + Debug + DeserializeOwned,
{
    until(&format!("{name} is gone"), limit, async || match api.get_opt(name).await {
        Ok(None) => Ok(()),
        Ok(Some(object)) => Err(format!("{object:?}")),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

/// Runs futures side by side, at most `width` at a time, and keeps their order.
pub async fn side_by_side<F: Future>(width: usize, futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    futures::stream::iter(futures).buffered(width).collect().await
}
