//! A client's socket with limits: it passes bytes on, watches their framing, and ends what takes too long.
//!
//! hyper's own header time-out also ends idle connections, so the two could not have different lengths. Here
//! a head has its time from its first byte on (a new connection from the start), a connection between two
//! requests has the idle time, and an answer that the client does not read stalls at most the idle time. While
//! a request is worked on nothing times out: a turn may be silent for as long as its agent allows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::{Framing, Position, Refusal};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct IoLimits {
    /// For a whole head.
    pub head: Duration,
    /// Between two requests, and without taking a byte of an answer.
    pub idle: Duration,
    /// How large a head may be, in bytes.
    pub max_head: usize,
}

/// Whether a request of this connection is being worked on.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<ActivityState>);

#[derive(Debug, Default)]
struct ActivityState {
    requests: AtomicUsize,
    /// The connection's task. hyper does not read again by itself after an answer, so the wait for the next
    /// request would have no timer.
    idle_again: AtomicWaker,
}

impl Activity {
    /// Marks a request as worked on until the guard is dropped.
    pub fn begin(&self) -> ActivityGuard {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        ActivityGuard(self.clone())
    }

    fn busy(&self) -> bool {
        self.0.requests.load(Ordering::Acquire) > 0
    }
}

/// See [`Activity::begin`].
#[derive(Debug)]
pub struct ActivityGuard(Activity);

impl Drop for ActivityGuard {
    fn drop(&mut self) {
        let state = &self.0.0;
        state.requests.fetch_sub(1, Ordering::Release);
        state.idle_again.wake();
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything the client sent was read.
    Clean,
    /// The client may still be sending the body of a request that was answered.
    MidBody,
    /// The client has not been answered yet: its request's head is refused.
    Refused(Refusal),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Head,
    Between,
}

/// See the module.
pub struct GuardedIo<S> {
    inner: S,
    framing: Framing,
    activity: Activity,
    limits: IoLimits,
    refusal: Option<Refusal>,
    read_timer: Option<(Waiting, Pin<Box<Sleep>>)>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> GuardedIo<S> {
    /// Guards a new connection.
    pub fn new(inner: S, activity: Activity, limits: IoLimits) -> Self {
        Self {
            inner,
            framing: Framing::new(limits.max_head),
            activity,
            limits,
            refusal: None,
            read_timer: None,
            write_timer: None,
        }
    }

    /// What is left to do on a connection that hyper is done with, and its socket.
    pub fn into_parts(self) -> (Ending, S) {
        let ending = match (self.refusal, self.framing.position()) {
            (Some(refusal), _) => Ending::Refused(refusal),
            (None, Position::Body) => Ending::MidBody,
            (None, Position::Between | Position::Head) => Ending::Clean,
        };
        (ending, self.inner)
    }

    fn refuse(&mut self, refusal: Refusal) -> io::Error {
        self.refusal = Some(refusal);
        io::Error::new(io::ErrorKind::InvalidData, refusal.message())
    }

    /// What a read that finds nothing is waiting for; nothing that may time out while a request is served.
    fn waiting(&self) -> Option<Waiting> {
        if self.activity.busy() {
            return None;
        }
        match self.framing.position() {
            Position::Between if self.framing.heads() > 0 => Some(Waiting::Between),
            Position::Between | Position::Head => Some(Waiting::Head),
            // The answer was given before the body was read to its end: hyper closes.
            Position::Body => Some(Waiting::Between),
        }
    }

    fn poll_read_timer(&mut self, cx: &mut Context<'_>) -> Poll<Waiting> {
        self.activity.0.idle_again.register(cx.waker());
        let Some(waiting) = self.waiting() else {
            self.read_timer = None;
            return Poll::Pending;
        };
        if self.read_timer.as_ref().is_none_or(|(armed, _)| *armed != waiting) {
            let limit = match waiting {
                Waiting::Head => self.limits.head,
                Waiting::Between => self.limits.idle,
            };
            self.read_timer = Some((waiting, Box::pin(sleep_until(Instant::now() + limit))));
        }
        match &mut self.read_timer {
            Some((_, timer)) => timer.as_mut().poll(cx).map(|()| waiting),
            None => Poll::Pending,
        }
    }

    fn poll_write_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let idle = self.limits.idle;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer"))
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.write_timer = None;
            return poll;
        }
        self.poll_write_timer(cx).map(Err)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(result) => {
                result?;
                let heads = this.framing.heads();
                if let Err(refusal) = this.framing.feed(&buf.filled()[before..]) {
                    return Poll::Ready(Err(this.refuse(refusal)));
                }
                if this.framing.heads() != heads {
                    this.read_timer = None;
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => match ready!(this.poll_read_timer(cx)) {
                Waiting::Head if this.framing.position() == Position::Head => {
                    Poll::Ready(Err(this.refuse(Refusal::HeadTooSlow)))
                }
                // Nothing was asked, so nothing is answered: the end of the stream.
                Waiting::Head | Waiting::Between => Poll::Ready(Ok(())),
            },
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.written(cx, poll)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(cx);
        this.written(cx, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper takes a refusal for the end of the stream; the connection still has an answer to give.
        if this.refusal.is_some() {
            return Poll::Ready(Ok(()));
        }
        let poll = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.written(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.written(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
