//! A connection whose peer must show signs of life.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_immediate;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use crate::LARGEST_MESSAGE;

/// What is read at once. tungstenite takes this memory when a connection is opened.
const READ_BUFFER: usize = 16 << 10;
/// What waits to be written at most: a message of the largest size, and answers to pings.
const WRITE_BUFFER: usize = 2 * LARGEST_MESSAGE;

/// The clocks of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often the peer is pinged.
    pub ping: Duration,
    /// After so long without a sign of life the peer is given up.
    pub silence: Duration,
    /// How long the peer may take to read the last words and to close.
    pub goodbye: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(25),
            silence: Duration::from_secs(60),
            goodbye: Duration::from_secs(5),
        }
    }
}

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Bytes.
    Binary(Bytes),
    /// Text.
    Text(Utf8Bytes),
}

impl From<Message> for tungstenite::Message {
    fn from(message: Message) -> Self {
        match message {
            Message::Binary(bytes) => Self::Binary(bytes),
            Message::Text(text) => Self::Text(text),
        }
    }
}

/// The last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Of which kind the end is.
    pub code: CloseCode,
    /// A sentence for people. What is beyond 123 bytes is cut off: a close frame has no more room.
    pub reason: String,
}

impl Close {
    /// Says why.
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    fn frame(&self) -> CloseFrame {
        let mut end = self.reason.len().min(123);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        CloseFrame { code: self.code, reason: self.reason[..end].into() }
    }
}

impl From<CloseFrame> for Close {
    fn from(frame: CloseFrame) -> Self {
        Self { code: frame.code, reason: frame.reason.as_str().to_owned() }
    }
}

/// Why nothing more comes from a peer, or goes to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It has closed, in order.
    #[error("it closed the connection")]
    Closed(Option<Close>),
    /// It breaks the protocol, and is to be told so.
    #[error("it breaks the protocol: {}", .0.reason)]
    Misbehaved(Close),
    /// It shows no sign of life.
    #[error("it has fallen silent")]
    Silent,
    /// The connection broke.
    #[error("the connection broke")]
    Broken,
}

impl Ended {
    fn of(error: tungstenite::Error) -> Self {
        use tungstenite::Error;
        let misbehaved =
            |code, error: &dyn std::error::Error| Self::Misbehaved(Close::new(code, error.to_string()));
        match &error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Broken,
            Error::Protocol(_) => misbehaved(CloseCode::Protocol, &error),
            Error::Utf8(_) => misbehaved(CloseCode::Invalid, &error),
            Error::Capacity(_) => misbehaved(CloseCode::Size, &error),
            _ => {
                tracing::debug!(%error, "a WebSocket broke");
                Self::Broken
            }
        }
    }
}

/// When the peer was last known to be alive.
#[derive(Debug)]
struct Life(Mutex<Instant>);

impl Life {
    fn sign(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last_sign(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says something to a peer.
pub struct Sender<S> {
    sink: SplitSink<WebSocketStream<S>, tungstenite::Message>,
    life: Arc<Life>,
    pace: Pace,
    next_ping: Instant,
    role: Role,
    /// Whether a message was begun and not written to its end.
    is_writing: bool,
}

/// Hears what a peer says.
pub struct Receiver<S> {
    stream: SplitStream<WebSocketStream<S>>,
    life: Arc<Life>,
    pace: Pace,
    /// The peer's last word, once it has closed.
    closed: Option<Option<CloseFrame>>,
}

/// Both ends of a connection after its handshake; `read` was read of it already.
pub async fn open<S>(stream: S, read: Vec<u8>, role: Role, pace: Pace) -> (Sender<S>, Receiver<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    let socket = WebSocketStream::from_partially_read(stream, read, role, Some(config)).await;
    let (sink, stream) = socket.split();
    let now = Instant::now();
    let life = Arc::new(Life(Mutex::new(now)));
    (
        Sender { sink, life: Arc::clone(&life), pace, next_ping: now + pace.ping, role, is_writing: false },
        Receiver { stream, life, pace, closed: None },
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// Sends a message, and waits until it is written.
    ///
    /// # Errors
    /// There is no peer any more.
    pub async fn send(&mut self, message: Message) -> Result<(), Ended> {
        self.write(message.into()).await
    }

    /// Returns when the peer should be pinged. It may be dropped while it waits.
    pub async fn ping_due(&self) {
        sleep_until(self.next_ping).await;
    }

    /// Asks the peer for a sign of life.
    ///
    /// # Errors
    /// There is no peer any more.
    pub async fn ping(&mut self) -> Result<(), Ended> {
        self.next_ping = Instant::now() + self.pace.ping;
        self.write(tungstenite::Message::Ping(Bytes::new())).await
    }

    async fn write(&mut self, message: tungstenite::Message) -> Result<(), Ended> {
        self.is_writing = true;
        let mut sending = pin!(self.sink.send(message));
        let sent = match poll_immediate(sending.as_mut()).await {
            Some(sent) => sent,
            None => {
                let sent = timeout(self.pace.silence, sending).await.map_err(|_| Ended::Silent)?;
                // It has read something to make room, though its answer to a ping may be far behind that.
                self.life.sign();
                sent
            }
        };
        self.is_writing = false;
        sent.map_err(Ended::of)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    /// The next message. Pings are answered here. It may be dropped while it waits; nothing is lost by that.
    ///
    /// # Errors
    /// No more will come.
    pub async fn next(&mut self) -> Result<Message, Ended> {
        loop {
            let deadline = self.life.last_sign() + self.pace.silence;
            let Ok(next) = timeout_at(deadline, self.stream.next()).await else {
                if self.life.last_sign() + self.pace.silence <= Instant::now() {
                    return Err(Ended::Silent);
                }
                continue;
            };
            self.life.sign();
            match next {
                Some(Ok(tungstenite::Message::Binary(bytes))) => return Ok(Message::Binary(bytes)),
                Some(Ok(tungstenite::Message::Text(text))) => return Ok(Message::Text(text)),
                Some(Ok(tungstenite::Message::Close(frame))) => {
                    self.closed = Some(frame.clone());
                    return Err(Ended::Closed(frame.map(Close::from)));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Ended::of(error)),
                None => return Err(Ended::Broken),
            }
        }
    }
}

/// Ends a connection in order: says why, unless the peer has closed first, and reads on until the peer is gone. Closing at
/// once could destroy what it has not read yet.
pub async fn close<S>(sender: Sender<S>, receiver: Receiver<S>, why: &Close)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    end(sender, receiver, None, why).await;
}

/// As [`close`], after one more message. A peer that has closed first gets it too: it reads until its close is answered.
pub async fn close_after<S>(sender: Sender<S>, receiver: Receiver<S>, last: Message, why: &Close)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    end(sender, receiver, Some(last.into()), why).await;
}

async fn end<S>(sender: Sender<S>, receiver: Receiver<S>, last: Option<tungstenite::Message>, why: &Close)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Sender { sink, pace, role, is_writing, .. } = sender;
    let Receiver { stream, closed, .. } = receiver;
    // They are always of one connection; if not, there is nothing to say goodbye to.
    let Ok(mut socket) = sink.reunite(stream) else { return };
    let goodbye = async {
        match (last, closed) {
            (Some(last), Some(answer)) if !is_writing => {
                // tungstenite sends nothing more to a peer that has closed, though the protocol lets it. What it has not written
                // is the answer to that.
                socket = WebSocketStream::from_raw_socket(socket.into_inner(), role, None).await;
                socket.send(last).await?;
                socket.close(answer).await?;
            }
            (last, None) => {
                if let Some(last) = last {
                    socket.send(last).await?;
                }
                socket.close(Some(why.frame())).await?;
            }
            // Its own frame goes back, which is queued already.
            (_, Some(_)) => socket.flush().await?,
        }
        let mut stream = socket.into_inner();
        stream.shutdown().await?;
        let mut thrown_away = [0; 4096];
        while stream.read(&mut thrown_away).await? > 0 {}
        Ok::<_, tungstenite::Error>(())
    };
    // The peer is free to be gone already.
    let _ = timeout(pace.goodbye, goodbye).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    type Side = (Sender<DuplexStream>, Receiver<DuplexStream>);

    async fn pair(buffer: usize) -> (Side, Side) {
        let (server, client) = duplex(buffer);
        (
            open(server, Vec::new(), Role::Server, Pace::default()).await,
            open(client, Vec::new(), Role::Client, Pace::default()).await,
        )
    }

    fn bytes(length: usize) -> Message {
        Message::Binary(vec![b'x'; length].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_pings_lives_and_one_that_does_not_is_given_up() {
        let ((mut sender, mut receiver), (_kept, mut answers)) = pair(1 << 16).await;
        let begun = Instant::now();
        let pings = async {
            loop {
                sender.ping_due().await;
                sender.ping().await.unwrap();
            }
        };
        let answering = async { timeout(Duration::from_secs(600), answers.next()).await.is_err() };
        tokio::select! {
            () = pings => {}
            ended = receiver.next() => panic!("{ended:?}"),
            is_quiet = answering => assert!(is_quiet),
        }
        // From here on nobody reads at the other end.
        let pings = async {
            loop {
                sender.ping_due().await;
                sender.ping().await.unwrap();
            }
        };
        tokio::select! {
            () = pings => {}
            ended = receiver.next() => assert_eq!(ended, Err(Ended::Silent)),
        }
        let last = begun.elapsed().as_secs() - 600;
        assert!((35..=60).contains(&last), "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_lives_and_one_that_takes_nothing_is_given_up() {
        let ((mut sender, mut receiver), (_kept, mut slow)) = pair(64).await;
        let reads = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                slow.next().await.unwrap();
            }
        };
        let writes = async {
            for _ in 0..3 {
                sender.send(bytes(100)).await.unwrap();
            }
        };
        tokio::select! {
            _ = async { tokio::join!(reads, writes) } => {}
            ended = receiver.next() => panic!("{ended:?}"),
        }
        let stuck = async {
            loop {
                if let Err(ended) = sender.send(bytes(100)).await {
                    return ended;
                }
            }
        };
        assert_eq!(stuck.await, Ended::Silent);
    }

    #[tokio::test]
    async fn the_last_word_arrives_and_is_cut_to_what_a_frame_holds() {
        let ((sender, receiver), (client, mut hears)) = pair(1 << 16).await;
        let why = Close::new(CloseCode::Away, "é".repeat(100));
        let ends = async {
            let Err(Ended::Closed(Some(close))) = hears.next().await else { panic!("no close") };
            drop((client, hears));
            close
        };
        let ((), close) = tokio::join!(super::close(sender, receiver, &why), ends);
        assert_eq!(close, Close::new(CloseCode::Away, "é".repeat(61)));
    }

    #[tokio::test]
    async fn the_last_message_arrives_whoever_closes_first() {
        let why = Close::new(CloseCode::Away, "why");
        let theirs = Close::new(CloseCode::Library(4000), "theirs");
        for close_of_theirs in [None, Some(Some(theirs)), Some(None)] {
            let ((mut sender, mut receiver), (mut client, mut hears)) = pair(1 << 16).await;
            sender.send(bytes(1)).await.unwrap();
            let told = match &close_of_theirs {
                None => Some(why.clone()),
                Some(close) => {
                    let frame = close.as_ref().map(Close::frame);
                    client.write(tungstenite::Message::Close(frame)).await.unwrap();
                    assert_eq!(receiver.next().await, Err(Ended::Closed(close.clone())));
                    close.clone()
                }
            };
            let ends = async {
                assert_eq!(hears.next().await, Ok(bytes(1)));
                assert_eq!(hears.next().await, Ok(bytes(2)));
                assert_eq!(hears.next().await, Err(Ended::Closed(told)));
                drop((client, hears));
            };
            tokio::join!(close_after(sender, receiver, bytes(2), &why), ends);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_message_is_put_into_one_that_was_begun() {
        let ((mut sender, mut receiver), (mut client, mut hears)) = pair(64).await;
        assert!(timeout(Duration::from_millis(1), sender.send(bytes(100))).await.is_err());
        client.write(tungstenite::Message::Close(None)).await.unwrap();
        assert_eq!(receiver.next().await, Err(Ended::Closed(None)));
        let why = Close::new(CloseCode::Normal, "");
        let ends = async {
            assert_eq!(hears.next().await, Ok(bytes(100)));
            assert_eq!(hears.next().await, Err(Ended::Closed(None)));
            drop((client, hears));
        };
        tokio::join!(close_after(sender, receiver, bytes(2), &why), ends);
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_taken() {
        let ((_sender, mut receiver), (mut client, _hears)) = pair(4 << 20).await;
        client.send(bytes(LARGEST_MESSAGE)).await.unwrap();
        assert_eq!(receiver.next().await, Ok(bytes(LARGEST_MESSAGE)));
        client.send(bytes(LARGEST_MESSAGE + 1)).await.unwrap();
        let Err(Ended::Misbehaved(close)) = receiver.next().await else { panic!("taken") };
        assert_eq!(close.code, CloseCode::Size);
    }
}
