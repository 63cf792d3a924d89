//! The pod's one subscription to its harness.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use paddock_runnerapi::Gap;
use tokio::time::sleep;

use super::hub::Hub;
use crate::harness::{Events, HarnessEvent, MessageHarness};

/// Pause before the harness is subscribed to again, and how long it becomes where that does not last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows a conversation until the hub is closed.
pub async fn follow(harness: Arc<dyn MessageHarness>, conversation: String, hub: Arc<Hub>) {
    tokio::select! {
        () = hub.closed() => {}
        () = subscribe_for_ever(&*harness, &conversation, &hub) => {}
    }
}

async fn subscribe_for_ever(harness: &dyn MessageHarness, conversation: &str, hub: &Hub) {
    let mut pause = FIRST_PAUSE;
    let mut is_first = true;
    loop {
        match harness.events(conversation).await {
            Ok(events) => {
                if !is_first {
                    // What happened meanwhile is told to nobody.
                    hub.missed(Gap::Resubscribed);
                }
                hub.subscribed(true);
                let told = take(events, hub).await;
                hub.subscribed(false);
                if told > 0 {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error) => tracing::warn!(%error, "the harness cannot be subscribed to"),
        }
        is_first = false;
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Takes events until their stream breaks off; how many there were.
async fn take(mut events: Events, hub: &Hub) -> u64 {
    let mut told = 0;
    while let Some(event) = events.next().await {
        match event {
            Ok(HarnessEvent::Said { event, rests }) => hub.said(event, rests),
            Ok(HarnessEvent::TooLarge) => hub.missed(Gap::TooLarge),
            Err(error) => {
                tracing::warn!(%error, "the harness's events broke off");
                return told;
            }
        }
        told += 1;
    }
    tracing::info!("the harness has ended its stream of events");
    told
}

#[cfg(test)]
mod tests {
    use paddock_runnerapi::EventLine;
    use serde_json::json;

    use super::*;
    use crate::events::Reader;
    use crate::harness::fake::FakeHarness;

    async fn next(reader: &mut Reader) -> EventLine {
        serde_json::from_slice(&reader.next().await.unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_breaks_is_made_anew_and_readers_are_told() {
        let (harness, hub) = (Arc::new(FakeHarness::default()), Hub::new(1));
        let follows =
            follow(Arc::clone(&harness) as Arc<dyn MessageHarness>, "ses_1".into(), Arc::clone(&hub));
        let following = tokio::spawn(follows);
        let mut reader = hub.reader(None).await.unwrap();
        assert!(next(&mut reader).await.event.is_none());
        harness.says(&json!({"n": 1}), false);
        assert_eq!(next(&mut reader).await.event.unwrap().get(), r#"{"n":1}"#);

        harness.refusals.store(3, std::sync::atomic::Ordering::SeqCst);
        harness.hangs_up();
        assert_eq!(next(&mut reader).await.gap, Some(Gap::Resubscribed));
        assert_eq!(harness.subscribed.load(std::sync::atomic::Ordering::SeqCst), 2);
        harness.says(&json!({"n": 2}), true);
        let line = next(&mut reader).await;
        assert!(line.rests && line.event.unwrap().get() == r#"{"n":2}"#);

        hub.close();
        following.await.unwrap();
        assert_eq!(reader.next().await, None);
    }
}
