//! The way to runners over the network.
//!
//! Every request has its own connection. Nothing is pooled, so nothing can reach another pod that was given the same
//! address.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Transport;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER: usize = 256 * 1024;

/// Plain HTTP/1.1 over TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Transport for Tcp {
    fn exchange<'a>(
        &'a self,
        endpoint: &'a str,
        request: Request<Full<Bytes>>,
    ) -> BoxFuture<'a, Result<(StatusCode, Bytes), String>> {
        exchange(endpoint, request).boxed()
    }
}

async fn exchange(endpoint: &str, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint))
        .await
        .map_err(|_| "no connection within 2 s".to_owned())?
        .map_err(|error| error.to_string())?;
    // Small requests must not wait for the peer's acknowledgements.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body))
    }
    .await;
    driver.abort();
    answer.map_err(|error| error.to_string())
}
