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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Request;
    use http_body_util::BodyExt;
    use hyper::client;
    use hyper::server;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::task::JoinHandle;

    use super::*;

    fn target(session: &str, port: u16) -> Target {
        Target {
            address: ([127, 0, 0, 1], port).into(),
            pod_name: "pod".into(),
            pod_uid: "pod-uid".into(),
            session_uid: session.into(),
        }
    }

    /// A connection to somebody who says "hi" to all, and what serves it.
    async fn connection(headers: &'static [(&str, &str)]) -> (Sender, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(1024);
        let served = tokio::spawn(async move {
            let hi = service_fn(|_| async {
                let mut answer = Response::new(Full::new(Bytes::from_static(b"hi")));
                for (name, value) in headers {
                    answer.headers_mut().insert(*name, value.parse().unwrap());
                }
                Ok::<_, Infallible>(answer)
            });
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), hi).await.unwrap();
        });
        let (sender, driver) = client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
        tokio::spawn(async move { driver.await.unwrap() });
        (sender, served)
    }

    async fn ask(connections: &Connections, target: &Target, mut sender: Sender) -> Response<Reply> {
        let answer = sender.send_request(Request::new(Full::default())).await.unwrap();
        connections.reply(target, sender, answer)
    }

    async fn read(reply: Response<Reply>) {
        assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "hi");
        // Its driver sees the end, too.
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_answered_on_is_used_again_by_its_session_and_for_a_moment() {
        let (connections, its) = (Connections::default(), target("s1", 1));
        let (sender, served) = connection(&[]).await;
        let reply = ask(&connections, &its, sender).await;
        assert!(connections.take(&its).is_none(), "before the answer is read");
        read(reply).await;
        tokio::time::advance(REST - Duration::from_millis(1)).await;
        let again = connections.take(&its).unwrap();
        assert!(connections.take(&its).is_none(), "by two at once");
        read(ask(&connections, &its, again).await).await;
        tokio::time::advance(REST).await;
        assert!(connections.take(&its).is_none());
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_else_gets_it() {
        for other in [target("s2", 1), target("s1", 2)] {
            let (connections, its) = (Connections::default(), target("s1", 1));
            let (sender, served) = connection(&[]).await;
            read(ask(&connections, &its, sender).await).await;
            assert!(connections.take(&other).is_none());
            served.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_closed_is_not_kept() {
        let (connections, its) = (Connections::default(), target("s1", 1));
        let (sender, served) = connection(&[("connection", "close")]).await;
        read(ask(&connections, &its, sender).await).await;
        served.await.unwrap();
        assert!(connections.0.lock().is_empty());
        let (sender, served) = connection(&[]).await;
        read(ask(&connections, &its, sender).await).await;
        served.abort();
        let _ = served.await;
        tokio::task::yield_now().await;
        assert!(connections.take(&its).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_to_its_end_ends_its_connection() {
        let (connections, its) = (Connections::default(), target("s1", 1));
        let (sender, served) = connection(&[]).await;
        drop(ask(&connections, &its, sender).await);
        served.await.unwrap();
        assert!(connections.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_rest_are_closed_though_nobody_asks() {
        let (connections, its) = (Connections::default(), target("s1", 1));
        let sweep = tokio::spawn(connections.clone().sweep());
        let (sender, served) = connection(&[]).await;
        read(ask(&connections, &its, sender).await).await;
        served.await.unwrap();
        sweep.abort();
    }
}
