//! Connects to a pod, and says how hard a failure is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A turn may be silent for half an hour, so a lost node shows only by unanswered probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// Probes are not sent while data is unacknowledged; this ends such a connection in about the same time.
const UNACKNOWLEDGED: Duration = Duration::from_secs(25);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The machine answers, and nothing listens there.
    #[error("the connection was refused")]
    Refused,
    /// The network knows no way there.
    #[error("the address cannot be reached")]
    Unreachable,
    /// Nothing answers.
    #[error("nothing answered in time")]
    TimedOut,
    /// It failed on this side, or in a way that says nothing about the pod.
    #[error("the connection could not be made: {0}")]
    Local(io::Error),
}

impl DialError {
    /// One word out of a bounded set.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Local(_) => "local",
        }
    }

    /// Whether it says that no runner is there.
    pub const fn is_hard(&self) -> bool {
        !matches!(self, Self::Local(_))
    }

    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Local(error),
        }
    }
}

/// A new connection to `address`.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(address: SocketAddr, timeout: Duration) -> Result<TcpStream, DialError> {
    let stream = match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(result) => result.map_err(DialError::of)?,
        Err(_) => return Err(DialError::TimedOut),
    };
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive).map_err(DialError::Local)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)).map_err(DialError::Local)?;
    stream.set_nodelay(true).map_err(DialError::Local)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_refuses_and_an_open_one_is_kept_alive() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = dial(address, Duration::from_secs(5)).await.unwrap();
        assert!(SockRef::from(&stream).keepalive().unwrap());
        assert_eq!(SockRef::from(&stream).tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        drop(listener);
        let error = dial(address, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, DialError::Refused) && error.is_hard());
    }

    #[test]
    fn only_the_network_can_prove_that_nothing_is_there() {
        assert!(DialError::of(io::Error::from_raw_os_error(113)).is_hard());
        assert!(DialError::of(io::Error::from_raw_os_error(101)).is_hard());
        assert!(DialError::of(io::Error::from_raw_os_error(110)).is_hard());
        // Out of descriptors, out of ports: about us.
        assert!(!DialError::of(io::Error::from_raw_os_error(24)).is_hard());
        assert!(!DialError::of(io::Error::from_raw_os_error(99)).is_hard());
    }
}
