//! One who looks at a terminal, with a terminal of its own.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::Request;
use paddock_runnerapi::Scope;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Pod, SESSION};

const LIMIT: Duration = Duration::from_secs(30);

pub struct Viewer {
    pub socket: WebSocketStream<TcpStream>,
    emulator: vt100::Parser,
    /// How many bytes came.
    pub bytes: usize,
    /// How many pictures of a whole screen came.
    pub pictures: usize,
}

impl Viewer {
    pub async fn attach(pod: &Pod) -> Self {
        Self::try_attach(pod).await.unwrap()
    }

    pub async fn try_attach(pod: &Pod) -> Result<Self, Error> {
        let request = Request::builder()
            .uri(format!("ws://{}/v1/terminal", pod.address))
            .header("host", "pod")
            .header("authorization", format!("Bearer {}", pod.token(SESSION, Scope::Turn)))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        let stream = TcpStream::connect(pod.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request.body(()).unwrap(), stream).await?;
        let emulator = vt100::Parser::default();
        Ok(Self { socket, emulator, bytes: 0, pictures: 0 })
    }

    pub async fn types(&mut self, keys: &str) {
        self.socket.send(Message::Binary(keys.as_bytes().to_vec().into())).await.unwrap();
    }

    pub async fn resizes(&mut self, cols: u16, rows: u16) {
        let control = json!({"type": "resize", "cols": cols, "rows": rows});
        self.socket.send(Message::text(control.to_string())).await.unwrap();
        self.emulator.set_size(rows.try_into().unwrap(), cols.try_into().unwrap());
    }

    /// What it sees.
    pub fn screen(&self) -> String {
        self.emulator.screen().contents()
    }

    /// Looks until the screen is as wanted.
    pub async fn sees(&mut self, what: &str, is_wanted: impl Fn(&str) -> bool) {
        let looks = async {
            while !is_wanted(&self.screen()) {
                self.looks().await;
            }
        };
        if tokio::time::timeout(LIMIT, looks).await.is_err() {
            panic!("did not see {what}:\n{}", self.screen());
        }
    }

    /// Takes one message with output.
    pub async fn looks(&mut self) {
        match self.socket.next().await.expect("it goes on").unwrap() {
            Message::Binary(bytes) => {
                self.bytes += bytes.len();
                self.pictures += usize::from(bytes.starts_with(b"\x1b[?1049"));
                self.emulator.process(&bytes);
            }
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// How the other side ends it.
    pub async fn ends(&mut self) -> (u16, String) {
        let close = async {
            loop {
                if let Message::Close(Some(close)) = self.socket.next().await.expect("a close frame").unwrap()
                {
                    return (close.code.into(), close.reason.to_string());
                }
            }
        };
        tokio::time::timeout(LIMIT, close).await.expect("an end")
    }
}
