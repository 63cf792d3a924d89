//! Reaching the server: waiting until it answers, and noticing that it is gone.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::wire::client::Client;

/// Asked until something answers, whatever it is: opencode has this path, and others say that they have not.
const PROBE: &str = "/global/health";
/// How long the first answer may take. A server that listens before it serves loses what it is sent in between.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
const LONGEST_PATIENCE: Duration = Duration::from_secs(4);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the log says that it is waited for.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How often a server that is no child of ours is looked at, and how often it must be gone.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 2;

/// Where it listens.
pub(super) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Waits until it answers. Whoever watches the pod knows how long that may take.
pub(super) async fn answers(client: &Client) {
    let (begun, mut told, mut patience) = (Instant::now(), Instant::now(), FIRST_PATIENCE);
    loop {
        match timeout(patience, client.status_of("boot", PROBE)).await {
            // One in front of it may say that it is not there yet.
            Ok(Ok(status)) if !status.is_server_error() => return,
            Ok(_) => {}
            Err(_) => patience = LONGEST_PATIENCE.min(patience * 2),
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let waited_s = begun.elapsed().as_secs();
            tracing::info!(waited_s, "nothing answers yet at the harness's port; its own log may say why");
        }
        sleep(PAUSE).await;
    }
}

/// Why a server that is no child of ours is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its port takes no connections.
    NotListening,
    /// It has lost the session's conversation: most likely its process is another one.
    Forgot,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotListening => "nothing listens at its port any more",
            Self::Forgot => "it does not know the session's conversation any more",
        })
    }
}

/// Looks after a server that is no child of ours.
pub struct Watch {
    address: SocketAddr,
    served: Option<oneshot::Receiver<()>>,
    forgot: Arc<Notify>,
}

impl Watch {
    /// Begins to look once `served` is told.
    pub(super) fn new(port: u16, served: oneshot::Receiver<()>, forgot: Arc<Notify>) -> Self {
        Self { address: address(port), served: Some(served), forgot }
    }

    /// Waits until it is of no use any more; may be asked again.
    pub async fn gone(&mut self) -> Gone {
        if let Some(served) = &mut self.served {
            if served.await.is_err() {
                // It never served; whoever booted it says why.
                return std::future::pending().await;
            }
            self.served = None;
        }
        tokio::select! {
            () = self.forgot.notified() => {
                // The turn that met it is told first: that it was not taken is more than that it was interrupted.
                sleep(LOOK).await;
                Gone::Forgot
            }
            () = not_listening(self.address) => Gone::NotListening,
        }
    }
}

async fn not_listening(address: SocketAddr) {
    let mut refused = 0;
    while refused < LOOKS {
        sleep(LOOK).await;
        // One that is only slow is not gone.
        refused = match timeout(LOOK, TcpStream::connect(address)).await {
            Ok(Err(_)) => refused + 1,
            _ => 0,
        };
    }
}
