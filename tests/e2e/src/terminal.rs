//! A client of a session's terminal, with a screen of its own.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::http::BASE;
use crate::scenario::{Scenario, uid};
use crate::{LIVENESS, wait};

/// How large the terminal is.
const COLS: u16 = 100;
const ROWS: u16 = 30;
/// How long people take from the last letter to Enter. Codex takes keys that come at once for a paste, and an Enter within a tenth of
/// a second after them for a line of it.
pub const BEFORE_ENTER: Duration = Duration::from_millis(250);

/// How long connecting may take. The kernel tries ever more seldom where nobody answers, as while no gateway serves.
const CONNECT: Duration = Duration::from_secs(5);

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
        Self::open(url, tty_url, token, false).await
    }

    /// Attaches as the lap CLI does: with the token in the query and in a header, some of which get lost on the way.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn attach_as_lap(url: &str, tty_url: &str, token: &str) -> Result<Self, Refused> {
        Self::open(url, tty_url, token, true).await
    }

    async fn open(url: &str, tty_url: &str, token: &str, header_too: bool) -> Result<Self, Refused> {
        let broken = |what: &dyn std::fmt::Display| Refused { status: 0, code: what.to_string() };
        let base = url.strip_prefix("http://").expect("the gateway's URL is a plain one");
        let request = format!("ws://{base}{tty_url}?token={token}").into_client_request();
        let mut request = request.expect("a request");
        if header_too {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        }
        let address = if base.contains(':') { base.to_owned() } else { format!("{base}:80") };
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        let stream = connecting.map_err(|late| broken(&late))?.map_err(|error| broken(&error))?;
        match tokio_tungstenite::client_async(request, stream).await {
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
        self.presses(&format!("{line}\r")).await;
    }

    /// Types a line as somebody who looks: it is on the screen before Enter is pressed.
    ///
    /// # Panics
    /// When the connection is gone, or the line does not appear.
    pub async fn prompts(&mut self, line: &str) {
        self.presses(line).await;
        self.shows(line).await;
        tokio::time::sleep(BEFORE_ENTER).await;
        self.presses("\r").await;
    }

    /// Presses keys.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn presses(&mut self, keys: &str) {
        let keys = Message::binary(keys.as_bytes().to_vec());
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
        self.sees(&format!("{wanted:?}"), |text| text.contains(wanted)).await;
    }

    /// Waits until its text is as wanted.
    ///
    /// # Panics
    /// When it is not in time, or the terminal ends.
    pub async fn sees(&mut self, what: &str, is_wanted: impl Fn(&str) -> bool) {
        let seen = async {
            while !is_wanted(&self.text()) {
                self.looks().await;
            }
        };
        let in_time = tokio::time::timeout(LIVENESS, seen).await.is_ok();
        assert!(in_time, "the terminal does not show {what}:\n{}", self.text());
    }

    /// Waits until another client sees the very same.
    ///
    /// # Panics
    /// When it does not in time, or the terminal ends.
    pub async fn shows_the_same_as(&mut self, other: &mut Self) {
        let same = async {
            while self.text() != other.text() {
                tokio::select! {
                    () = self.looks() => {}
                    () = other.looks() => {}
                }
            }
        };
        let in_time = tokio::time::timeout(LIVENESS, same).await.is_ok();
        assert!(in_time, "two clients see two things:\n{}\n---\n{}", self.text(), other.text());
    }

    /// Takes what is printed next.
    async fn looks(&mut self) {
        loop {
            match self.next().await {
                Message::Binary(_) | Message::Text(_) => return,
                Message::Close(close) => panic!("the terminal ended: {close:?}\n{}", self.text()),
                _ => {}
            }
        }
    }

    /// Pings, and waits for the answer.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn pings(&mut self) {
        self.socket.send(Message::Ping(Bytes::new())).await.expect("the terminal takes pings");
        let answered = async { while !matches!(self.next().await, Message::Pong(_)) {} };
        tokio::time::timeout(LIVENESS, answered).await.expect("an answer to a ping");
    }

    /// Closes without a code, and shows what comes before that is answered. Returns the screen that is left.
    ///
    /// # Panics
    /// When it is not answered in time, or with a code.
    pub async fn detach(mut self) -> vt100::Screen {
        self.socket.send(Message::Close(None)).await.expect("the terminal takes a close");
        let answered = async {
            loop {
                if let Message::Close(close) = self.next().await {
                    return close;
                }
            }
        };
        let close = tokio::time::timeout(LIVENESS, answered).await.expect("an answer to a close");
        assert_eq!(close, None);
        self.screen.screen().clone()
    }

    /// The next message, after it was shown.
    async fn next(&mut self) -> Message {
        let message = match self.socket.next().await {
            Some(Ok(message)) => message,
            broken => panic!("the terminal broke off: {broken:?}\n{}", self.text()),
        };
        match &message {
            Message::Binary(bytes) => self.screen.process(bytes),
            Message::Text(text) => self.screen.process(text.as_bytes()),
            _ => {}
        }
        message
    }

    /// What the terminal looks like, and what is set in it.
    pub fn screen(&self) -> &vt100::Screen {
        self.screen.screen()
    }

    /// Waits for the other side to close: code and reason.
    ///
    /// # Panics
    /// When it breaks off without a word.
    pub async fn closed(&mut self) -> (u16, String) {
        let close = async {
            loop {
                if let Message::Close(close) = self.next().await {
                    let close = close.expect("a reason");
                    return (close.code.into(), close.reason.to_string());
                }
            }
        };
        tokio::time::timeout(LIVENESS, close).await.expect("the terminal is closed")
    }
}

/// The path of a session's terminal.
pub fn path(session: &str) -> String {
    format!("{BASE}/sessions/{session}/tty")
}

impl Scenario {
    /// Attaches to a session's terminal.
    ///
    /// # Panics
    /// When the gateway refuses it.
    pub async fn attach(&self, session: &str) -> Terminal {
        Terminal::attach(&self.env.url, &path(session), &self.env.key).await.expect("attached")
    }

    /// Attaches once the gateway with this UID is gone and another serves.
    pub async fn attach_to_another(&self, session: &str, old: &str) -> Terminal {
        wait::until("another gateway lets clients attach", LIVENESS, async || {
            if self.gateways().await.iter().any(|pod| uid(pod) == old) {
                return Err("the old one is still there".to_owned());
            }
            let attached = Terminal::attach(&self.env.url, &path(session), &self.env.key).await;
            attached.map_err(|refused| format!("{refused:?}"))
        })
        .await
    }
}
