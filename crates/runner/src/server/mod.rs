//! The runner's own HTTP server: connections, limits, and an orderly end.

mod answer;
mod limits;
mod request;
mod routes;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::app::App;
use crate::events::READERS;
use crate::terminal::{self, VIEWERS, View};
use answer::Answer;
use limits::Limits;

/// How long a client may take for its headers, and a connection may rest between two requests. Longer than a gateway lets its
/// connections rest: whoever hangs up while the other writes leaves it not knowing whether it was heard.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest headers; tokens are a few hundred bytes.
const HEADER_BYTES: usize = 64 << 10;
/// Connections at once; more are not accepted until one closes. Those that may last are fewer
/// ([`limits`], readers of events, and viewers of a terminal), so there always is room for probes.
const CONNECTIONS: usize = 256 + limits::PASSAGES + READERS + VIEWERS;
/// How long a client may take to read its answer, or the next piece of one that has no end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after an accept that failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server that listens.
pub struct Server {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    drained: watch::Receiver<bool>,
}

/// Listens on `address`, or on all addresses, IPv6 included where the node has it.
///
/// # Errors
/// Where the port is taken.
pub async fn listen(address: Option<SocketAddr>) -> io::Result<TcpListener> {
    let port = paddock_runnerapi::PORT;
    match address {
        Some(address) => TcpListener::bind(address).await,
        None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        },
    }
}

impl Server {
    /// Begins to serve.
    ///
    /// # Errors
    /// Where the listener has no address.
    pub fn start(listener: TcpListener, app: Arc<App>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (drain, draining) = watch::channel(false);
        let (done, drained) = watch::channel(false);
        tokio::spawn(serve(listener, app, draining, done));
        Ok(Self { address, drain, drained })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what is being asked and closes the connections; ends when all are closed.
    pub async fn drain(mut self) {
        self.drain.send_replace(true);
        // An error means that the serving task is gone, and its connections with it.
        let _ = self.drained.wait_for(|drained| *drained).await;
    }
}

async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    draining: watch::Receiver<bool>,
    done: watch::Sender<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let limits = Arc::new(Limits::default());
    let mut connections = JoinSet::new();
    let mut stop = draining.clone();
    let mut drains = false;
    loop {
        if drains && connections.is_empty() {
            done.send_replace(true);
        }
        // While it drains the port stays open: a refused connection would look like a dead pod, but an
        // answer tells that this one is shutting down.
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = stop.wait_for(|drain| *drain), if !drains => {
                drains = true;
                continue;
            }
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, permit)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (app, limits, draining) = (Arc::clone(&app), Arc::clone(&limits), draining.clone());
        connections.spawn(async move {
            connection(stream, app, limits, draining).await;
            drop(permit);
        });
    }
}

/// Waits for room first: what is not accepted costs nothing here.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(
    stream: TcpStream,
    app: Arc<App>,
    limits: Arc<Limits>,
    mut draining: watch::Receiver<bool>,
) {
    // Without it, the last piece of an answer may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let answered = Arc::new(Notify::new());
    let tell = Arc::clone(&answered);
    let at_work = Arc::new(AtomicBool::new(false));
    let works = Arc::clone(&at_work);
    let upgrade = Arc::new(Upgrade::default());
    let asked = Arc::clone(&upgrade);
    let service = service_fn(move |request| {
        let (app, limits, answered) = (Arc::clone(&app), Arc::clone(&limits), Arc::clone(&tell));
        let (upgrade, working) = (Arc::clone(&asked), Arc::clone(&works));
        async move {
            working.store(true, Ordering::Relaxed);
            let answer = routes::route(request, &app, &limits, &upgrade).await;
            working.store(false, Ordering::Relaxed);
            answered.notify_one();
            Ok::<_, Infallible>(telling_of_each_piece(answer, answered))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES);
    // A connection that comes while the server drains still gets its answer.
    let mut told = *draining.borrow();
    // Pieces of an answer are asked for as the client reads. Those without an end have one now and then.
    let mut unread = pin!(async {
        answered.notified().await;
        // A connection that is used again may have a turn now, for as long as that takes.
        while tokio::time::timeout(ANSWER_TIMEOUT, answered.notified()).await.is_ok()
            || at_work.load(Ordering::Relaxed)
        {}
    });
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                    return;
                }
                break;
            }
            () = unread.as_mut() => {
                tracing::debug!("a client did not read its answer");
                return;
            }
            _ = draining.wait_for(|drain| *drain), if !told => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    if let Some(view) = upgrade.taken() {
        let parts = connection.into_parts();
        terminal::serve(view, parts.io.into_inner(), parts.read_buf.into()).await;
    }
}

/// What a connection becomes once its request is answered, where that is no end.
#[derive(Default)]
struct Upgrade(Mutex<Option<View>>);

impl Upgrade {
    /// It becomes this viewer's.
    fn takes(&self, view: View) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(view);
    }

    fn taken(&self) -> Option<View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The answer; of one that has no end, each piece is told of as the client asks for it.
fn telling_of_each_piece(answer: Answer, tell: Arc<Notify>) -> Answer {
    if answer.body().size_hint().exact().is_some() {
        return answer;
    }
    answer.map(|body| {
        body.map_frame(move |frame| {
            tell.notify_one();
            frame
        })
        .boxed_unsync()
    })
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
