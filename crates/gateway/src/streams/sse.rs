//! Server-sent events: what is written by a task, and read by a client at its own pace.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use paddock_runnerapi::{EventId, EventLine};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::dialect::Dialect;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::metrics::{Held, Metrics};
use crate::routes::answer::Answer;

/// How many events wait for a client that does not read. Those that come after them wait in the pod.
const WAITING: usize = 16;
const HEARTBEAT: &[u8] = b": heartbeat\n\n";

/// The client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left;

/// Writes to one client.
pub struct Writer {
    sender: mpsc::Sender<Bytes>,
    dialect: Dialect,
    /// The last event that the client has got.
    at: EventId,
    /// Whether the conversation had come to rest with it.
    rests: bool,
    metrics: Arc<Metrics>,
    _open: Held,
}

/// The other end: the body of an answer.
pub struct Frames(BoxStream<'static, Bytes>);

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frames")
    }
}

impl Frames {
    /// The next piece.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

/// A stream that begins after the event `at`, and the answer that it is the body of.
pub fn open(gateway: &Gateway, dialect: Dialect, at: EventId) -> (Writer, Response<Answer>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let metrics = gateway.metrics.clone();
    let writer = Writer { sender, dialect, at, rests: false, _open: metrics.stream_begun(), metrics };
    let frames = with_heartbeats(receiver, gateway.relay.heartbeat);
    let mut response = Response::new(Answer::Stream(Frames(frames.boxed())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx, and what descends from it, would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    (writer, response)
}

fn with_heartbeats(receiver: mpsc::Receiver<Bytes>, every: Duration) -> impl Stream<Item = Bytes> {
    futures::stream::unfold(receiver, move |mut receiver| async move {
        match timeout(every, receiver.recv()).await {
            Ok(frame) => frame.map(|frame| (frame, receiver)),
            Err(_) => Some((Bytes::from_static(HEARTBEAT), receiver)),
        }
    })
}

impl Writer {
    /// Says that the stream begins.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn begin(&mut self) -> Result<(), Left> {
        self.room().await?;
        self.write(self.dialect.begin());
        Ok(())
    }

    /// Waits until the client has read so much that [`Self::pass_on`] has room.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn room(&self) -> Result<(), Left> {
        self.sender.reserve().await.map(drop).map_err(|_| Left)
    }

    /// Passes on what the pod tells. It is no wait, so that nothing that was taken from the pod can be lost in one.
    pub fn pass_on(&mut self, line: EventLine) {
        self.at = line.id;
        if let Some(event) = line.event {
            self.rests = line.rests;
            self.write(self.dialect.event(&event));
        } else if let Some(gap) = line.gap {
            self.metrics.stream_gap(gap.as_str());
            self.write(self.dialect.gap(gap));
        }
    }

    /// Ends the stream with an error.
    pub async fn fail(mut self, error: &ApiError) {
        tracing::info!(code = error.code.as_str(), error = %error.message, "a stream of events ends with an error");
        self.metrics.refused(error.code);
        // A client that has left does not need it.
        if self.room().await.is_ok() {
            self.write(self.dialect.error(error));
        }
    }

    /// Ends the stream, which has told all.
    pub async fn done(mut self) {
        if self.room().await.is_ok() {
            self.write(self.dialect.done());
        }
    }

    /// Whether the conversation has come to rest with the last event.
    pub fn rests(&self) -> bool {
        self.rests
    }

    /// Returns once the client has left.
    pub fn left(&self) -> impl Future<Output = ()> + use<> {
        let sender = self.sender.clone();
        async move { sender.closed().await }
    }

    fn write(&mut self, data: String) {
        // Line breaks are what ends a frame; in JSON they are nothing but spaces.
        let data = if data.contains(['\n', '\r']) { data.replace(['\n', '\r'], " ") } else { data };
        let frame = Bytes::from(format!("id: {}\ndata: {data}\n\n", self.at));
        // There is room, or the client has left, which the next wait for room tells.
        let _ = self.sender.try_send(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quiet_stream_beats_and_ends_with_its_writer() {
        let (sender, receiver) = mpsc::channel(1);
        let every = Duration::from_millis(5);
        let frames = with_heartbeats(receiver, every);
        tokio::pin!(frames);
        let begun = tokio::time::Instant::now();
        assert_eq!(frames.next().await.unwrap(), HEARTBEAT);
        assert_eq!(frames.next().await.unwrap(), HEARTBEAT);
        assert!(begun.elapsed() >= 2 * every);
        sender.send(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(frames.next().await.unwrap(), "x");
        drop(sender);
        assert_eq!(frames.next().await, None);
    }
}
