//! A connection that stops being HTTP: whoever answers its request with 101 takes over the socket.
//!
//! It stays in the task of its connection, so that the cap on connections, the drain and the cut at its end count it as any
//! other, and it leaves hyper and the guard below it, whose limits are those of requests.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpStream;

/// What is done with the socket, and with what was read of it already.
pub struct TakeOver(Box<dyn FnOnce(TcpStream, Vec<u8>) -> BoxFuture<'static, ()> + Send>);

impl TakeOver {
    /// Runs `serve`, for as long as that takes.
    pub fn new<F>(serve: impl FnOnce(TcpStream, Vec<u8>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(move |stream, read| Box::pin(serve(stream, read))))
    }

    /// The same, and `held` is dropped at its end.
    #[must_use]
    pub fn holding(self, held: impl Send + 'static) -> Self {
        Self::new(move |stream, read| async move {
            let _held = held;
            self.run(stream, read).await;
        })
    }

    /// Does it.
    pub async fn run(self, stream: TcpStream, read: Vec<u8>) {
        (self.0)(stream, read).await;
    }
}

impl std::fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TakeOver")
    }
}

/// What one connection becomes, if it becomes anything.
#[derive(Clone, Debug, Default)]
pub struct Upgrade(Arc<Mutex<Option<TakeOver>>>);

impl Upgrade {
    /// It becomes this once its request is answered.
    pub fn becomes(&self, take_over: TakeOver) {
        *self.0.lock() = Some(take_over);
    }

    /// What it becomes.
    pub fn take(&self) -> Option<TakeOver> {
        self.0.lock().take()
    }
}
