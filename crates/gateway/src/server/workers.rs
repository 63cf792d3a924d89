//! The threads that serve connections, each with a runtime of its own.
//!
//! A connection stays with its thread, and so do the tasks that are made for it. In a runtime of many threads they move to
//! whichever is free, and to wake that one costs more than a short request does otherwise.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_util::task::TaskTracker;

/// See the module.
pub struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// Connections that it serves.
    load: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` threads, at least one. They end with the process.
    ///
    /// # Errors
    /// The system gives no more threads or files.
    pub fn start(count: usize) -> io::Result<Self> {
        let start = |n| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let name = format!("connections-{n}");
            std::thread::Builder::new()
                .name(name)
                .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
            Ok(Worker::of(handle))
        };
        (0..count.max(1)).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// A runtime that is there already is the only one.
    pub fn on(runtime: Handle) -> Self {
        Self(vec![Worker::of(runtime)])
    }

    /// Has the least busy of them serve `stream`.
    ///
    /// # Errors
    /// The system cannot hand it over.
    pub fn serve<F>(
        &self,
        connections: &TaskTracker,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stream = stream.into_std()?;
        let Some(worker) = self.0.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) else {
            return Err(io::Error::other("there are no workers"));
        };
        let load = Load::on(&worker.load);
        let task = async move {
            let _load = load;
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!(%error, "a connection could not be handed to its thread"),
            }
        };
        connections.spawn_on(task, &worker.runtime);
        Ok(())
    }
}

impl Worker {
    fn of(runtime: Handle) -> Self {
        Self { runtime, load: Arc::default() }
    }
}

/// One connection of a worker.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_and_leave_their_place_to_later_ones() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (workers, connections) = (Workers::start(2).unwrap(), TaskTracker::new());
        let (seen, mut served) = mpsc::unbounded_channel::<ThreadId>();
        let mut clients = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..4 {
            clients.push(TcpStream::connect(address).await.unwrap());
            let (stream, _) = listener.accept().await.unwrap();
            let seen = seen.clone();
            let serve = move |stream: TcpStream| async move {
                seen.send(std::thread::current().id()).unwrap();
                stream.readable().await.unwrap();
            };
            workers.serve(&connections, stream, serve).unwrap();
            threads.push(served.recv().await.unwrap());
        }
        assert!(threads[0] != threads[1] && threads[2] != threads[3]);
        assert!(threads.iter().all(|thread| *thread != std::thread::current().id()));
        assert!(workers.0.iter().all(|worker| worker.load.load(Ordering::Relaxed) == 2));
        connections.close();
        clients.clear();
        connections.wait().await;
        assert!(workers.0.iter().all(|worker| worker.load.load(Ordering::Relaxed) == 0));
    }
}
