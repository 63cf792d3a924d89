//! One viewer's WebSocket.

use paddock_runnerapi::terminal::{Control, Typed};
use paddock_websocket::{Close, CloseCode, Ended, Message, Pace, Receiver, Role, Sender};
use tokio::net::TcpStream;

use super::{Size, Terminal, View};

/// Serves a viewer until either side ends it. `read` came before the handshake was done.
pub async fn serve(mut view: View, stream: TcpStream, read: Vec<u8>) {
    let (mut sender, mut receiver) =
        paddock_websocket::open(stream, read, Role::Server, Pace::default()).await;
    let terminal = view.terminal();
    let mut closed = terminal.closed();
    let why = tokio::select! {
        ended = hear(&mut receiver, &terminal) => last_word(ended),
        ended = show(&mut sender, &mut view) => last_word(ended),
        why = closed.wait_for(Option::is_some) => {
            // The sender lives as long as the terminal.
            Close::new(CloseCode::Away, why.ok().and_then(|why| *why).unwrap_or("the terminal is gone"))
        }
    };
    drop(view);
    paddock_websocket::close(sender, receiver, &why).await;
}

fn last_word(ended: Ended) -> Close {
    tracing::debug!(%ended, "a viewer has left");
    match ended {
        Ended::Misbehaved(close) => close,
        Ended::Closed(_) | Ended::Silent | Ended::Broken => Close::new(CloseCode::Normal, ""),
    }
}

async fn hear(receiver: &mut Receiver<TcpStream>, terminal: &Terminal) -> Ended {
    loop {
        let keys = match receiver.next().await {
            Ok(Message::Binary(keys)) => keys,
            Ok(Message::Text(text)) => match Control::of(&text) {
                Typed::Keys => text.into(),
                Typed::Control(Control::Resize { cols, rows }) => {
                    if let Some(size) = Size::of(cols, rows) {
                        terminal.resize(size);
                    }
                    continue;
                }
                // Whoever sends it wants traffic, not an answer: that would be on the screen.
                Typed::Control(Control::Ping) => continue,
                Typed::Unknown => {
                    tracing::debug!("a viewer sent a control message that is not known");
                    continue;
                }
            },
            Err(ended) => return ended,
        };
        if !keys.is_empty() {
            terminal.press(keys).await;
        }
    }
}

async fn show(sender: &mut Sender<TcpStream>, view: &mut View) -> Ended {
    loop {
        let said = tokio::select! {
            bytes = view.next() => sender.send(Message::Binary(bytes)).await,
            () = sender.ping_due() => sender.ping().await,
        };
        if let Err(ended) = said {
            return ended;
        }
    }
}
