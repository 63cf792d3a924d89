//! One client connection, from its first byte to its lingering end.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::drain::Stage;
use super::framing::Refusal;
use super::io::{Activity, Ending, GuardedIo, IoLimits};
use super::upgrade::Upgrade;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::routes;

/// How long what a client still sends is read and thrown away after its answer. Closing at once would reset
/// the connection, and the reset may destroy the answer before the client has read it.
const LINGER: Duration = Duration::from_secs(5);

/// Serves `stream` until it ends.
pub async fn serve(stream: TcpStream, gateway: Arc<Gateway>) {
    // Answers are written whole; waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let _open = gateway.metrics.connection_open();
    let limits = IoLimits {
        head: gateway.limits.head_timeout,
        idle: gateway.limits.idle_timeout,
        max_head: gateway.limits.max_head_bytes,
    };
    let activity = Activity::default();
    let io = TokioIo::new(GuardedIo::new(stream, activity.clone(), limits));
    let upgrade = Upgrade::default();
    let service =
        service_fn(|request| routes::serve(gateway.clone(), request, activity.begin(), upgrade.clone()));
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(limits.max_head)
        .serve_connection(io, service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = gateway.drain.reached(Stage::Closing) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let parts = connection.into_parts();
    let (ending, stream) = parts.io.into_inner().into_parts();
    match (ended, upgrade.take()) {
        (Ok(()), Some(take_over)) => return take_over.run(stream, parts.read_buf.into()).await,
        (Ok(()), None) => {}
        (Err(error), _) => tracing::debug!(%error, "a connection ended early"),
    }
    match ending {
        Ending::Clean => {}
        Ending::MidBody => linger(stream, &[]).await,
        Ending::Refused(refusal) => linger(stream, &refusal_bytes(&gateway, refusal)).await,
    }
}

/// The answer to a head that hyper never saw the end of.
fn refusal_bytes(gateway: &Gateway, refusal: Refusal) -> Vec<u8> {
    let error = ApiError::new(refusal.code(), refusal.message());
    gateway.metrics.refused(refusal.code());
    let request_id = RequestId::fresh();
    tracing::info!(code = refusal.code().as_str(), %request_id, "refused a request's head");
    error.to_bytes(&request_id)
}

/// Writes `last_words`, and reads until the client has read them and closes.
async fn linger(mut stream: TcpStream, last_words: &[u8]) {
    let goodbye = async {
        stream.write_all(last_words).await?;
        stream.shutdown().await?;
        // Not an array: every connection would have room for it.
        let mut thrown_away = vec![0; 16 * 1024];
        while stream.read(&mut thrown_away).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The client is free to be gone already.
    let _ = tokio::time::timeout(LINGER, goodbye).await;
}
