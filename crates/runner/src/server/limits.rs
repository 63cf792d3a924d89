//! How many requests may last and how much memory their bodies may take. Whoever comes too late is told so at
//! once. Probes need none of this, so clients cannot starve them.

use std::sync::Arc;

use http::Request;
use hyper::body::Body;
use paddock_runnerapi::{ErrorBody, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::request::LARGEST_BODY;

/// Requests with a valid token at once. Most of them wait for a turn.
const REQUESTS: usize = 192;
/// Clients' own requests to the harness's API at once. Those that follow its events stay.
pub(super) const PASSAGES: usize = 64;
/// Bodies that are read or looked at, together, in [`UNIT`]s: two of the largest.
const BODY_UNITS: usize = 2 * LARGEST_BODY / UNIT;
/// Permits are counted in `u32`, and small bodies need not be counted exactly.
const UNIT: usize = 4 << 10;

/// What requests share.
pub(super) struct Limits {
    requests: Arc<Semaphore>,
    passages: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(REQUESTS)),
            passages: Arc::new(Semaphore::new(PASSAGES)),
            bodies: Arc::new(Semaphore::new(BODY_UNITS)),
        }
    }
}

fn full(what: &str) -> ErrorBody {
    let error = format!("reading the request: {what}; try again shortly");
    ErrorBody { code: ErrorCode::QueueFull, error }
}

impl Limits {
    /// Room for one more request.
    pub(super) fn request(&self) -> Result<OwnedSemaphorePermit, ErrorBody> {
        let taken = Arc::clone(&self.requests).try_acquire_owned();
        taken.map_err(|_| full(&format!("{REQUESTS} others are being served")))
    }

    /// Room for one more request to the harness's own API. It does not take that of turns.
    pub(super) fn passage(&self) -> Result<OwnedSemaphorePermit, ErrorBody> {
        let taken = Arc::clone(&self.passages).try_acquire_owned();
        taken.map_err(|_| {
            let error =
                format!("asking the harness: {PASSAGES} other requests to its own API are open; close one");
            ErrorBody { code: ErrorCode::TooManyStreams, error }
        })
    }

    /// Room for a request's body. One whose length is not known may be of the largest.
    pub(super) fn body<B: Body>(&self, request: &Request<B>) -> Result<OwnedSemaphorePermit, ErrorBody> {
        let known = request.body().size_hint().upper();
        let length = known.and_then(|length| usize::try_from(length).ok()).unwrap_or(LARGEST_BODY);
        // One that is too large is refused for that when it is read.
        let units = u32::try_from(length.min(LARGEST_BODY).div_ceil(UNIT)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.bodies).try_acquire_many_owned(units);
        taken.map_err(|_| full("the messages that are being read take all the room there is"))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn announcing(length: Option<usize>) -> Request<UnsyncBoxBody<Bytes, Infallible>> {
        Request::new(match length {
            Some(length) => Full::new(Bytes::from(vec![0; length])).boxed_unsync(),
            None => {
                StreamBody::new(futures::stream::empty::<Result<Frame<Bytes>, Infallible>>()).boxed_unsync()
            }
        })
    }

    #[test]
    fn bodies_have_so_much_room_together() {
        let limits = Limits::default();
        let _large = limits.body(&announcing(Some(LARGEST_BODY))).unwrap();
        let unknown = limits.body(&announcing(None)).unwrap();
        assert_eq!(limits.body(&announcing(Some(1))).unwrap_err().code, ErrorCode::QueueFull);
        drop(unknown);
        let _small: Vec<_> = (0..100).map(|_| limits.body(&announcing(Some(1))).unwrap()).collect();
        assert!(limits.body(&announcing(Some(0))).is_ok());
        assert!(limits.body(&announcing(None)).is_err());
    }

    #[test]
    fn requests_are_so_many_at_once() {
        let limits = Limits::default();
        let mut held: Vec<_> = (0..REQUESTS).map(|_| limits.request().unwrap()).collect();
        assert_eq!(limits.request().unwrap_err().code, ErrorCode::QueueFull);
        held.pop();
        assert!(limits.request().is_ok());
    }
}
