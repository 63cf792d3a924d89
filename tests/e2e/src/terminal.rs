//! A client of a session's terminal, with a screen of its own.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::LIVENESS;

/// How large the terminal is.
const COLS: u16 = 100;
const ROWS: u16 = 30;

/// An attached client.
pub struct Terminal {
    socket: WebSocketStream<TcpStream>,
    screen: vt100::Parser,
}

/// Why a client was not let in.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// The error's code.
    pub code: String,
}

impl Terminal {
    /// Attaches to `tty_url` of the gateway at `url`, with a key or a token in the query, as browsers do it.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn attach(url: &str, tty_url: &str, token: &str) -> Result<Self, Refused> {
        let broken = |what: &dyn std::fmt::Display| Refused { status: 0, code: what.to_string() };
        let base = url.strip_prefix("http://").expect("the gateway's URL is a plain one");
        let request = format!("ws://{base}{tty_url}?token={token}").into_client_request();
        let address = if base.contains(':') { base.to_owned() } else { format!("{base}:80") };
        let stream = TcpStream::connect(address).await.map_err(|error| broken(&error))?;
        match tokio_tungstenite::client_async(request.expect("a request"), stream).await {
            Ok((socket, _)) => {
                let mut terminal = Self { socket, screen: vt100::Parser::default() };
                // All have one size, so that all show the same.
                terminal.resize(COLS, ROWS).await;
                Ok(terminal)
            }
            Err(Error::Http(refused)) => {
                let body = refused.body().clone().unwrap_or_default();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let code = body["code"].as_str().unwrap_or_default().to_owned();
                Err(Refused { status: refused.status().as_u16(), code })
            }
            Err(error) => Err(broken(&error)),
        }
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn enter(&mut self, line: &str) {
        let keys = Message::binary(format!("{line}\r").into_bytes());
        self.socket.send(keys).await.expect("the terminal takes keys");
    }

    async fn resize(&mut self, cols: u16, rows: u16) {
        let control = json!({ "type": "resize", "cols": cols, "rows": rows }).to_string();
        self.socket.send(Message::text(control)).await.expect("the terminal takes its size");
        self.screen.set_size(rows.try_into().expect("rows"), cols.try_into().expect("columns"));
    }

    /// What it shows.
    pub fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until it shows `wanted`.
    ///
    /// # Panics
    /// When it does not in time, or the terminal ends.
    pub async fn shows(&mut self, wanted: &str) {
        let shown = async {
            while !self.text().contains(wanted) {
                match self.socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => self.screen.process(&bytes),
                    Some(Ok(Message::Text(text))) => self.screen.process(text.as_bytes()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    ended => panic!("the terminal ended before it showed {wanted:?}: {ended:?}"),
                }
            }
        };
        let in_time = tokio::time::timeout(LIVENESS, shown).await.is_ok();
        assert!(in_time, "the terminal does not show {wanted:?}:\n{}", self.text());
    }

    /// Waits for the other side to close: code and reason.
    ///
    /// # Panics
    /// When it breaks off without a word.
    pub async fn closed(&mut self) -> (u16, String) {
        let close = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(Some(close)))) => {
                        return (close.code.into(), close.reason.to_string());
                    }
                    Some(Ok(_)) => {}
                    ended => panic!("the terminal broke off: {ended:?}"),
                }
            }
        };
        tokio::time::timeout(LIVENESS, close).await.expect("the terminal is closed")
    }
}
