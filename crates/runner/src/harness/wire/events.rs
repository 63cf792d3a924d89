//! The stream of events: `GET /event`, of which those of one conversation are taken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::client::Client;
use super::family::Family;
use super::sse::{Decoder, Message};
use crate::harness::{Events, HarnessError, HarnessEvent};

const ATTEMPT: &str = "tell its events";
/// The largest event that is taken: one with a file in it may be very large, and the conversation has it too.
const LARGEST: usize = 512 << 10;
/// Something comes every 10 s (opencode) or 15 s; after so long a silence its stream is given up.
const SILENCE: Duration = Duration::from_secs(45);
/// How long it may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// Subscribes to a conversation. The stream ends where the harness ends or breaks it.
pub(in crate::harness) async fn subscribe(
    client: &Client,
    conversation: &str,
    family: Arc<Mutex<Family>>,
) -> Result<Events, HarnessError> {
    family.lock().unwrap_or_else(PoisonError::into_inner).of(conversation);
    let late = |_| HarnessError::Unusable { attempt: ATTEMPT, what: "it did not begin in time" };
    let answer = timeout(BEGINS_WITHIN, client.stream(ATTEMPT, "/event")).await.map_err(late)??;
    let (body, decoder) = (answer.into_body(), Decoder::new(LARGEST));
    let subscription = Subscription { body, decoder, family, read: VecDeque::new() };
    let next = |mut subscription: Subscription| async move {
        subscription.next().await.map(|event| (event, subscription))
    };
    Ok(futures::stream::unfold(subscription, next).boxed())
}

struct Subscription {
    body: Incoming,
    decoder: Decoder,
    family: Arc<Mutex<Family>>,
    read: VecDeque<HarnessEvent>,
}

impl Subscription {
    async fn next(&mut self) -> Option<Result<HarnessEvent, HarnessError>> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(Ok(event));
            }
            let frame = match timeout(SILENCE, self.body.frame()).await {
                Ok(frame) => frame?,
                Err(_) => {
                    let what = "it is silent, and was to send something every few seconds";
                    return Some(Err(HarnessError::Unusable { attempt: ATTEMPT, what }));
                }
            };
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => self.take(&bytes),
                // Trailers.
                Ok(Err(_)) => {}
                Err(error) => {
                    return Some(Err(HarnessError::Unreachable { attempt: ATTEMPT, source: error.into() }));
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut family = self.family.lock().unwrap_or_else(PoisonError::into_inner);
        for message in self.decoder.feed(bytes) {
            match message {
                Message::TooLarge => self.read.push_back(HarnessEvent::TooLarge),
                Message::Data(data) => {
                    let Some(relevant) = family.relevant(&data) else { continue };
                    let event =
                        String::from_utf8(data).ok().and_then(|text| RawValue::from_string(text).ok());
                    let Some(event) = event else { continue };
                    self.read.push_back(HarnessEvent::Said { event, rests: relevant.rests });
                }
            }
        }
    }
}
