//! A response body that keeps its place in the in-flight limit, and may not fall silent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

/// The server stopped sending in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the API server sent nothing of the answer for {0:?}")]
struct Silent(Duration);

#[derive(Debug)]
pub(super) struct GuardedBody<B> {
    inner: B,
    /// The longest pause; none for watches, which are silent by nature.
    patience: Option<(Duration, Pin<Box<Sleep>>)>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<B> GuardedBody<B> {
    pub(super) fn new(inner: B, patience: Option<Duration>, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { inner, patience: patience.map(|limit| (limit, Box::pin(sleep(limit)))), permit }
    }
}

impl<B> Body for GuardedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if let Some((limit, timer)) = &mut this.patience {
                timer.as_mut().reset(Instant::now() + *limit);
            }
            if !matches!(frame, Some(Ok(_))) {
                this.permit = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some((limit, timer)) = &mut this.patience else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        this.permit = None;
        Poll::Ready(Some(Err(Silent(*limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
