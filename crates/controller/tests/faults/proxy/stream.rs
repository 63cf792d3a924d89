//! Watches on their way through the proxy, which can be cut or frozen.

use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::{BoxError, ReplyBody};

/// What is to happen to the watches that are open now. Later ones pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    None,
    /// The connection is closed.
    Cut,
    /// Nothing moves any more, and the connection stays open.
    Freeze,
}

/// Passes a body on until it is told otherwise.
pub fn relay(body: Incoming, mut orders: watch::Receiver<Order>) -> ReplyBody {
    orders.mark_unchanged();
    let chunks = stream::unfold(Some((body, orders)), |state| async move {
        let (mut body, mut orders) = state?;
        tokio::select! {
            biased;
            changed = orders.changed() => {
                let order = *orders.borrow();
                if changed.is_ok() && order == Order::Freeze {
                    std::future::pending().await
                }
                Some((Err::<Frame<Bytes>, BoxError>("the proxy cuts the watch".into()), None))
            }
            frame = body.frame() => match frame? {
                Ok(frame) => Some((Ok(frame), Some((body, orders)))),
                Err(error) => Some((Err(error.into()), None)),
            },
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}
