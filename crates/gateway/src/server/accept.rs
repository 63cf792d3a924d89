//! Accepts connections, up to a cap, and sees them off in a shutdown.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::drain::Stage;
use super::workers::Workers;
use crate::gateway::Gateway;

/// Pause after the process ran out of descriptors or memory: accepting again at once fails again.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How long the parts of a shutdown last.
#[derive(Clone, Copy, Debug)]
pub struct DrainTimes {
    /// How long connections are accepted after readiness has begun to fail.
    pub leaving: Duration,
    /// How long requests in flight get after that.
    pub closing: Duration,
}

/// How the shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every connection ended by itself.
    Completely,
    /// So many had to be cut.
    Cut(usize),
}

/// Serves `listener` until `stop`, then drains.
///
/// # Errors
/// The listening socket is broken.
pub async fn run(
    listener: TcpListener,
    workers: Workers,
    gateway: Arc<Gateway>,
    times: DrainTimes,
    stop: CancellationToken,
) -> io::Result<Drained> {
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    let drain = gateway.drain.clone();
    let shutdown = async {
        stop.cancelled().await;
        drain.advance(Stage::Leaving);
        tokio::time::sleep(times.leaving).await;
        drain.advance(Stage::Closing);
    };
    let accepting = accept_all(&listener, &workers, &gateway, &connections, &kill);
    tokio::select! {
        () = shutdown => {}
        error = accepting => return Err(error),
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(times.closing, connections.wait()).await.is_ok() {
        return Ok(Drained::Completely);
    }
    let cut = connections.len();
    kill.cancel();
    connections.wait().await;
    Ok(Drained::Cut(cut))
}

async fn accept_all(
    listener: &TcpListener,
    workers: &Workers,
    gateway: &Arc<Gateway>,
    connections: &TaskTracker,
    kill: &CancellationToken,
) -> io::Error {
    let slots = Arc::new(Semaphore::new(gateway.limits.max_connections));
    loop {
        // The slot comes first: what is beyond the cap waits in the kernel's backlog, not in our memory.
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return io::Error::other("the connection slots are gone");
        };
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let gateway = gateway.clone();
                let kill = kill.clone();
                let serve = |stream| async move {
                    tokio::select! {
                        () = connection::serve(stream, gateway) => {}
                        () = kill.cancelled() => {}
                    }
                    drop(slot);
                };
                if let Err(error) = workers.serve(connections, stream, serve) {
                    tracing::warn!(%error, "a connection could not be handed to its thread");
                }
            }
            Err(error) => match severity(&error) {
                Severity::Connection => tracing::debug!(%error, "a connection ended before it was accepted"),
                Severity::Exhausted => {
                    tracing::warn!(%error, "cannot accept connections; lower --max-connections or raise the limits");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                Severity::Listener => return error,
            },
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Severity {
    /// Of one connection; the next may be accepted at once.
    Connection,
    /// Of the machine; it may pass.
    Exhausted,
    /// Of the listening socket; it will not pass.
    Listener,
}

/// Linux hands pending network errors of the new connection to `accept` (accept(2)), so anything that is not
/// known to be about the listening socket is taken to be about the connection.
fn severity(error: &io::Error) -> Severity {
    const EBADF: i32 = 9;
    const ENOMEM: i32 = 12;
    const EFAULT: i32 = 14;
    const EINVAL: i32 = 22;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOTSOCK: i32 = 88;
    const ENOBUFS: i32 = 105;
    match error.raw_os_error() {
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) => Severity::Exhausted,
        Some(EBADF | EINVAL | ENOTSOCK | EFAULT) => Severity::Listener,
        _ => Severity::Connection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_are_told_apart() {
        assert_eq!(severity(&io::Error::from_raw_os_error(24)), Severity::Exhausted);
        assert_eq!(severity(&io::Error::from_raw_os_error(22)), Severity::Listener);
        assert_eq!(severity(&io::Error::from(io::ErrorKind::ConnectionAborted)), Severity::Connection);
        assert_eq!(severity(&io::Error::from_raw_os_error(113)), Severity::Connection);
    }
}
