//! The service that applies the client's rules to every request: pace, in-flight limit, time-out, retries.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::{BoxError, Service, ServiceExt};

use super::ClientOptions;
use super::body::GuardedBody;
use super::pace::{Lane, Pace};
use super::retry::{Class, Retries, is_trouble, retry_after};

/// The request waited for its turn until it was too late. It was not sent.
#[derive(Debug, thiserror::Error)]
#[error("the request waited {0:?} for its turn and was not sent: too many requests, or a server in trouble")]
pub(crate) struct NotSent(Duration);

/// The request was sent, and no response headers came.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {0:?}")]
struct NoAnswer(Duration);

#[derive(Clone, Debug)]
pub(super) struct Guard<S> {
    inner: S,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pace: Pace,
    in_flight: Arc<Semaphore>,
    request_timeout: Duration,
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S, options: &ClientOptions) -> Self {
        let shared = Shared {
            pace: Pace::default(),
            in_flight: Arc::new(Semaphore::new(options.max_in_flight.max(1))),
            request_timeout: options.request_timeout,
        };
        Self { inner, shared: Arc::new(shared) }
    }
}

impl<S, B> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<GuardedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    /// Always ready: kube's client is one queue, and a full limit must not hold up watches and leases behind it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(attempts(self.inner.clone(), Arc::clone(&self.shared), request))
    }
}

async fn attempts<S, B>(
    inner: S,
    shared: Arc<Shared>,
    mut request: Request<Body>,
) -> Result<Response<GuardedBody<B>>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    let class = Class::of(&request);
    let mut retries = Retries::new(class, request.extensions(), shared.request_timeout);
    loop {
        let again = if retries.any_left() { copy(&request) } else { None };
        let result = attempt(inner.clone(), &shared, class, request).await;
        let asked = match &result {
            Ok(response) if !is_trouble(response.status()) => return result,
            Ok(response) => retry_after(response.headers()),
            Err(error) if error.is::<NotSent>() => return result,
            Err(_) => None,
        };
        let (Some(copy), Some(delay)) = (again, retries.next(asked)) else { return result };
        // Frees the connection and the place in the limit while waiting.
        drop(result);
        sleep(delay).await;
        request = copy;
    }
}

async fn attempt<S, B>(
    inner: S,
    shared: &Shared,
    class: Class,
    request: Request<Body>,
) -> Result<Response<GuardedBody<B>>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    let limit = shared.request_timeout;
    if class == Class::Lease {
        let response = timeout(limit, inner.oneshot(request)).await.map_err(|_| NoAnswer(limit))?;
        return Ok(response.map_err(Into::into)?.map(|body| GuardedBody::new(body, Some(limit), None)));
    }

    let lane = if class == Class::Write { Lane::Writes } else { Lane::Reads };
    let deadline = Instant::now() + limit;
    let turn = async {
        let permit = match class {
            Class::Watch => None,
            Class::Read | Class::Write | Class::Lease => {
                Arc::clone(&shared.in_flight).acquire_owned().await.ok()
            }
        };
        shared.pace.admit(lane).await;
        permit
    };
    let permit = timeout_at(deadline, turn).await.map_err(|_| NotSent(limit))?;

    let sent = Instant::now();
    let answer = match timeout(limit, inner.oneshot(request)).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(NoAnswer(limit).into()),
    };
    match &answer {
        Ok(response) if !is_trouble(response.status()) => shared.pace.fine(lane, sent),
        Ok(_) => shared.pace.trouble(lane),
        Err(_) => shared.pace.silence(),
    }
    let patience = (class != Class::Watch).then_some(limit);
    Ok(answer?.map(|body| GuardedBody::new(body, patience, permit)))
}

/// The same request once more; none if its body is a stream.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}
