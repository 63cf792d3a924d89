//! The admin server of both programs: liveness, readiness and metrics.
//!
//! It listens on an address of its own, so that load on the public one cannot hide it. It shows states and numbers, and
//! never changes anything.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const CONNECTIONS: usize = 64;

/// The address could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for the admin server: {source}; choose another address or free this one")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// An admin server that holds its address and does not serve yet.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
}

struct Pages<R, M> {
    ready: R,
    metrics: M,
}

impl AdminServer {
    /// Takes the address. Port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`. `/healthz` is 200 as long as this runs; `/readyz` is 200 or 503 with what `ready` says;
    /// `/metrics` is what `metrics` returns, which must be OpenMetrics text.
    pub async fn serve(
        self,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        stop: CancellationToken,
    ) {
        let pages = Arc::new(Pages { ready, metrics });
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // A connection that died in the queue concerns nobody; out of descriptors needs time.
                    if !is_of_one_connection(&error) {
                        tracing::warn!(%error, address = %self.address, "admin server cannot accept; trying again");
                        sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (pages, stop) = (Arc::clone(&pages), stop.clone());
            tokio::spawn(async move {
                connection(stream, pages, stop).await;
                drop(place);
            });
        }
    }
}

async fn connection<R, M>(stream: TcpStream, pages: Arc<Pages<R, M>>, stop: CancellationToken)
where
    R: Fn() -> Result<(), String> + Send + Sync + 'static,
    M: Fn() -> String + Send + Sync + 'static,
{
    let service = service_fn(move |request| {
        let response = pages.respond(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // How an admin connection ends is its client's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(DRAIN_WITHIN, connection).await;
}

impl<R, M> Pages<R, M>
where
    R: Fn() -> Result<(), String>,
    M: Fn() -> String,
{
    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let known = matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
        if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are allowed\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/healthz" => page(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => match (self.ready)() {
                Ok(()) => page(StatusCode::OK, TEXT, "ok\n"),
                Err(why) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
            },
            "/metrics" => page(StatusCode::OK, OPENMETRICS, (self.metrics)()),
            _ => page(StatusCode::NOT_FOUND, TEXT, "there are /healthz, /readyz and /metrics\n"),
        }
    }
}

fn page(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
