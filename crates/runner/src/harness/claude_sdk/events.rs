//! What the program tells of a conversation, for those who follow it.

use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::harness::jsonrpc::Told;
use crate::harness::{Events, HarnessEvent};

/// The largest event that is taken: one with a file in it may be very large, and the conversation has it too.
const LARGEST: usize = 512 << 10;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "sessionID")]
    session: String,
}

/// Those of one conversation, until the program ends.
pub(super) fn of(conversation: &str, told: mpsc::UnboundedReceiver<Told>) -> Events {
    let start = (told, conversation.to_owned());
    let next = |(mut told, conversation): (mpsc::UnboundedReceiver<Told>, String)| async move {
        loop {
            let event = read(told.recv().await?, &conversation);
            if let Some(event) = event {
                return Some((Ok(event), (told, conversation)));
            }
        }
    };
    futures::stream::unfold(start, next).boxed()
}

fn read(told: Told, conversation: &str) -> Option<HarnessEvent> {
    let Told { method, params } = told;
    if method != "event" {
        return None;
    }
    let Event { kind, properties } = serde_json::from_str(params.get()).ok()?;
    if properties.session != conversation {
        return None;
    }
    if params.get().len() > LARGEST {
        return Some(HarnessEvent::TooLarge);
    }
    Some(HarnessEvent::Said { event: params, rests: kind == "session.idle" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    #[tokio::test]
    async fn only_the_conversation_s_own_events_are_told() {
        let (sender, told) = mpsc::unbounded_channel();
        let event = |kind: &str, session: &str, text: &str| json!({"type": kind, "properties": {"sessionID": session, "text": text}});
        for (method, params) in [
            ("ready", json!({})),
            ("event", event("message.updated", "ses_2", "")),
            ("event", event("message.updated", "ses_1", "")),
            ("event", event("message.part.updated", "ses_1", &"x".repeat(LARGEST))),
            ("event", event("session.idle", "ses_1", "")),
        ] {
            let params = to_raw_value(&params).unwrap();
            sender.send(Told { method: method.to_owned(), params }).unwrap();
        }
        drop(sender);
        let events: Vec<_> = of("ses_1", told).map(Result::unwrap).collect().await;
        let [
            HarnessEvent::Said { rests: false, .. },
            HarnessEvent::TooLarge,
            HarnessEvent::Said { event, rests: true },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert!(event.get().contains("session.idle"));
    }
}
