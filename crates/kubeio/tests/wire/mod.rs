//! A TCP relay between a test and the API server that can be cut and frozen.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass.
    Pass,
    /// Connections are closed, new ones too.
    Cut,
}

pub struct Wire {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Grows when all connections there are shall go silent, for ever; new ones pass.
    freeze: watch::Sender<u32>,
}

impl Wire {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Pass);
        let (freeze, freezes) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, server, modes.clone(), freezes.clone()));
            }
        });
        Self { address, mode, freeze }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub fn freeze(&self) {
        self.freeze.send_modify(|count| *count += 1);
    }
}

async fn relay(
    mut near: TcpStream,
    server: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    mut freezes: watch::Receiver<u32>,
) {
    freezes.mark_unchanged();
    if *modes.borrow() == Mode::Cut {
        return;
    }
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    let frozen = tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => false,
        () = async { drop(modes.wait_for(|mode| *mode == Mode::Cut).await) } => false,
        outcome = freezes.changed() => outcome.is_ok(),
    };
    if frozen {
        // Both sockets stay open, and nothing moves any more.
        std::future::pending().await
    }
}
