//! Which requests are sent again, and when.
//!
//! Only reads are. A write that failed may have been done; only its author can tell what that means.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Extensions, HeaderMap, Method, Request, StatusCode};
use tokio::time::Instant;

use crate::backoff::Backoff;

const ATTEMPTS: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// An extension of requests whose sender has a backoff of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRetry;

/// What a request is, as far as the client's rules go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Runs for long; neither counted nor repeated, since its caller has to resume it.
    Watch,
    /// Get or list.
    Read,
    /// Anything else.
    Write,
    /// Any request on a lease: small, rare, and never to queue behind others, or leadership is lost under load.
    Lease,
}

impl Class {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        if request.uri().path().starts_with("/apis/coordination.k8s.io/") {
            Self::Lease
        } else if request.method() != Method::GET {
            Self::Write
        } else if asks_for_watch(request.uri().query()) {
            Self::Watch
        } else {
            Self::Read
        }
    }
}

fn asks_for_watch(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

/// The attempts at one request.
#[derive(Debug)]
pub(super) struct Retries {
    left: u32,
    deadline: Instant,
    backoff: Backoff,
}

impl Retries {
    /// All attempts together end within `within`, save the time of the last one.
    pub(super) fn new(class: Class, extensions: &Extensions, within: Duration) -> Self {
        let allowed = class == Class::Read && extensions.get::<NoRetry>().is_none();
        Self {
            left: if allowed { ATTEMPTS - 1 } else { 0 },
            deadline: Instant::now() + within,
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
        }
    }

    pub(super) fn any_left(&self) -> bool {
        self.left > 0
    }

    /// How long to wait before the next attempt; none if the failure has to be returned.
    pub(super) fn next(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let delay = self.backoff.next().max(retry_after.unwrap_or_default());
        let in_time = Instant::now().checked_add(delay).is_some_and(|at| at < self.deadline);
        in_time.then_some(delay)
    }
}

/// Whether the status tells of a server in trouble.
pub(super) fn is_trouble(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// How long the server wants to be left alone. Kubernetes sends seconds, never a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
