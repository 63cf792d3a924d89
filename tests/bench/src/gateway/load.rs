//! Messages at a rate, and as many as can be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::proxies::{KEY, Proxy};
use crate::Result;

/// Clients that ask again as soon as they are answered.
const CLIENTS: usize = 32;

#[derive(Clone)]
struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    urls: Arc<Vec<String>>,
    message: Bytes,
    next: Arc<AtomicUsize>,
}

impl Sender {
    fn new(proxy: &Proxy) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            urls: Arc::new(
                (0..proxy.sessions.len().max(1))
                    .map(|n| format!("http://{}{}", proxy.address, proxy.message_path(n)))
                    .collect(),
            ),
            message: proxy.message.clone(),
            next: Arc::default(),
        }
    }

    async fn send(&self) -> Result<()> {
        let url = &self.urls[self.next.fetch_add(1, Ordering::Relaxed) % self.urls.len()];
        let request = Request::post(url)
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .body(Full::new(self.message.clone()))?;
        let answer = self.client.request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into())
    }
}

/// One message.
pub async fn once(proxy: &Proxy) -> Result<()> {
    Sender::new(proxy).send().await
}

/// Messages one every so often, whether earlier ones are answered or not: how long each took from when it was due, in
/// milliseconds.
pub async fn at_rate(proxy: &Proxy, rate: f64, last: Duration) -> Result<Vec<f64>> {
    let sender = Sender::new(proxy);
    let count = (rate * last.as_secs_f64()) as usize;
    let mut due = clock(rate, count);
    let mut sent = Vec::with_capacity(count);
    while let Some(due) = due.recv().await {
        let sender = sender.clone();
        sent.push(tokio::spawn(async move {
            let done = sender.send().await;
            done.map(|()| due.elapsed().as_secs_f64() * 1000.0).map_err(|error| error.to_string())
        }));
    }
    let mut times = Vec::with_capacity(count);
    for answer in sent {
        times.push(answer.await??);
    }
    Ok(times)
}

/// When each of `count` messages is due, when it is. The runtime's timers are exact to a millisecond only, and a loop that waits
/// would take a core from what is measured; a thread's sleep is exact to some microseconds.
fn clock(rate: f64, count: usize) -> UnboundedReceiver<Instant> {
    let (ticks, due) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let begun = Instant::now();
        for n in 0..count {
            let at = begun + Duration::from_secs_f64(n as f64 / rate);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if ticks.send(at).is_err() {
                return;
            }
        }
    });
    due
}

/// Messages a second when every client asks again as soon as it is answered.
pub async fn as_many_as_can_be(proxy: &Proxy, last: Duration) -> Result<f64> {
    let sender = Sender::new(proxy);
    let begun = Instant::now();
    let clients = (0..CLIENTS).map(|_| {
        let sender = sender.clone();
        tokio::spawn(async move {
            let mut count = 0_usize;
            while begun.elapsed() < last {
                sender.send().await.map_err(|error| error.to_string())?;
                count += 1;
            }
            Ok::<usize, String>(count)
        })
    });
    let mut all = 0;
    for client in clients.collect::<Vec<_>>() {
        all += client.await??;
    }
    Ok(all as f64 / begun.elapsed().as_secs_f64())
}
