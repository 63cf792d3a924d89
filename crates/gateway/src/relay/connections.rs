//! Connections to runners that were answered on and are used again for a moment.
//!
//! To connect costs half of what relaying a short turn does, and a round trip through the network. A kept connection is as good as a
//! new one as long as nobody hangs up just when a turn is written, for then it cannot be told whether the turn was seen. So it is
//! kept for less time than a runner lets it rest, and only one for each pod. It is used by the same session only: a pod has no
//! other, and when the pod is gone so is the connection, whoever has its address next.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::CONNECTION;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use super::target::Target;

/// How long a connection may rest. Runners close theirs after ten seconds.
pub const REST: Duration = Duration::from_secs(3);
/// So many are kept at most; others are closed when they are answered.
const MOST: usize = 4_096;

/// Sends requests to a runner.
pub type Sender = SendRequest<Full<Bytes>>;

/// See the module.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<Key, Kept>>>);

/// A connection is served by the runtime that made it, so whoever is on another one would wake that for each byte.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    runtime: Id,
    pod_uid: String,
}

struct Kept {
    address: SocketAddr,
    session_uid: String,
    sender: Sender,
    since: Instant,
}

impl Connections {
    /// One that rests, for this pod and session.
    pub fn take(&self, target: &Target) -> Option<Sender> {
        let kept = self.0.lock().remove(&Key::of(target))?;
        let is_its = kept.address == target.address && kept.session_uid == target.session_uid;
        (is_its && kept.since.elapsed() < REST && kept.sender.is_ready()).then_some(kept.sender)
    }

    /// `answer`, after which its connection rests.
    pub fn reply(&self, target: &Target, sender: Sender, answer: Response<Incoming>) -> Response<Reply> {
        let ends = answer.headers().get(CONNECTION).is_some_and(|value| value.as_bytes() == b"close");
        let kept = || Kept {
            address: target.address,
            session_uid: target.session_uid.clone(),
            sender,
            since: Instant::now(),
        };
        let back = (!ends).then(|| Box::new(Back { to: self.clone(), key: Key::of(target), kept: kept() }));
        answer.map(|body| Reply { body, back }.given_back_at_its_end())
    }

    /// Closes those that have rested for long enough, now and then and for ever.
    pub async fn sweep(self) {
        loop {
            tokio::time::sleep(REST).await;
            self.0.lock().retain(|_, kept| kept.since.elapsed() < REST && !kept.sender.is_closed());
        }
    }
}

impl Key {
    fn of(target: &Target) -> Self {
        Self { runtime: Handle::current().id(), pod_uid: target.pod_uid.clone() }
    }
}

/// What a runner answers. Its connection may be used again once all of it was read.
pub struct Reply {
    body: Incoming,
    back: Option<Box<Back>>,
}

struct Back {
    to: Connections,
    key: Key,
    kept: Kept,
}

impl Back {
    fn give(self) {
        let kept = Kept { since: Instant::now(), ..self.kept };
        let mut all = self.to.0.lock();
        if all.len() < MOST {
            all.insert(self.key, kept);
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl Reply {
    /// One whose connection is not used again.
    pub fn last(body: Incoming) -> Self {
        Self { body, back: None }
    }

    fn given_back_at_its_end(mut self) -> Self {
        if self.body.is_end_stream()
            && let Some(back) = self.back.take()
        {
            back.give();
        }
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !this.body.is_end_stream() => {}
            Some(Ok(_)) | None => {
                if let Some(back) = this.back.take() {
                    back.give();
                }
            }
            // It broke.
            Some(Err(_)) => this.back = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
