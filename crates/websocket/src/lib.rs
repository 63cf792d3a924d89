//! WebSockets as gateway and runner speak them: the handshake over an HTTP request of hyper's, and a connection whose peer
//! must show signs of life.
//!
//! Frames are tungstenite's business. What is here is what it leaves to its user: which messages are too large, pings, what
//! a peer that misbehaves is told, and an end that the peer hears of. Nothing is queued: whoever reads waits until what was
//! read is written, so a slow peer slows down the other end and takes no memory.

pub mod connection;
pub mod handshake;

pub use connection::{Close, Ended, Message, Pace, Receiver, Sender, close, close_after, open};
pub use tokio_tungstenite::tungstenite::Utf8Bytes;
pub use tokio_tungstenite::tungstenite::protocol::Role;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The largest message that is taken, in bytes: a paste, or a piece of a terminal's output.
pub const LARGEST_MESSAGE: usize = 1 << 20;
