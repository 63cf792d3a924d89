//! A session's terminal: messages between a client and its pod, as they come.
//!
//! Nothing is kept here. One message at a time is on its way in each direction, so a client that reads slowly slows down only
//! its own connections; the runner shows it the screen again when it comes back. What it gets of the client is the messages
//! and nothing else: no header, no query, no token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::TERMINAL;
use paddock_runnerapi::terminal::RESET;
use paddock_websocket::{Close, CloseCode, Ended, Message, Receiver, Role, Sender};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::call::{self, Call};
use super::target::Target;
use super::verdict::{self, Verdict};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::server::drain::Stage;

/// How long the runner may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);
/// When to try again where the session is leaving its pod.
const LEAVING_RETRY: Duration = Duration::from_secs(1);

/// A client's own screen, where the program showed the alternate one.
const OWN_SCREEN: &str = "\x1b[?1049l";
/// The line below all that was shown; on one's own screen the cursor may be anywhere.
const BELOW: &str = "\x1b[999;1H\r\n";

type Pod = TokioIo<Upgraded>;

/// A terminal in a pod.
pub struct PodTerminal {
    sender: Sender<Pod>,
    receiver: Receiver<Pod>,
}

/// Opens the terminal of the session at `target`.
///
/// # Errors
/// There is none, or it has no room for one more.
pub async fn open(
    gateway: &Gateway,
    target: &Target,
    request_id: &RequestId,
) -> Result<PodTerminal, ApiError> {
    let failed = |what: &str| {
        ApiError::new(
            ErrorCode::Unreachable,
            format!("the session's pod does not open its terminal: {what}; try again"),
        )
    };
    let begin = async {
        let call = Call::get(TERMINAL, request_id);
        let (opening, answer) =
            call::send_opening(gateway, target, &call).await.map_err(|error| failed(&error.to_string()))?;
        if !opening.is_accepted(&answer) {
            return Err(match verdict::judge(answer, "").await {
                Verdict::Error(error) | Verdict::Stranger(error) | Verdict::Ending(error) => error,
                Verdict::Quiesced => leaving(),
                Verdict::Reply(_) | Verdict::NeedsConversation => failed("it answered as no runner does"),
            });
        }
        let pod = hyper::upgrade::on(answer).await.map_err(|error| failed(&error.to_string()))?;
        let (sender, receiver) =
            paddock_websocket::open(TokioIo::new(pod), Vec::new(), Role::Client, gateway.relay.terminal)
                .await;
        Ok(PodTerminal { sender, receiver })
    };
    timeout(BEGINS_WITHIN, begin).await.map_err(|_| failed("it did not begin in time"))?
}

fn leaving() -> ApiError {
    ApiError::new(
        ErrorCode::NotReady,
        "the session is leaving its pod, to be suspended or to get another one; attach again when it is ready",
    )
    .retry_after(LEAVING_RETRY)
}

/// Why a relay ends.
enum End {
    Client(Ended),
    Pod(Ended),
    Draining,
}

/// Relays between a client and the terminal of `session` until either ends, or the gateway drains.
pub async fn relay(
    gateway: Arc<Gateway>,
    session: String,
    stream: TcpStream,
    read: Vec<u8>,
    mut pod: PodTerminal,
) {
    let _open = gateway.metrics.terminal_open();
    let begun = Instant::now();
    let (mut sender, mut receiver) =
        paddock_websocket::open(stream, read, Role::Server, gateway.relay.terminal).await;
    let end = tokio::select! {
        lost = pump(&mut receiver, &mut pod.sender) => match lost {
            Lost::From(ended) => End::Client(ended),
            Lost::To(ended) => End::Pod(ended),
        },
        lost = pump(&mut pod.receiver, &mut sender) => match lost {
            Lost::From(ended) => End::Pod(ended),
            Lost::To(ended) => End::Client(ended),
        },
        () = gateway.drain.reached(Stage::Closing) => End::Draining,
    };
    let last_word = last_word(&gateway, &session, &end);
    tracing::info!(
        session,
        code = u16::from(last_word.code),
        reason = last_word.reason,
        seconds = begun.elapsed().as_secs(),
        "a client is detached from a terminal"
    );
    let detached = Close::new(CloseCode::Normal, "");
    let says_goodbye = async {
        match end {
            End::Client(Ended::Misbehaved(_) | Ended::Silent | Ended::Broken) => {
                paddock_websocket::close(sender, receiver, &last_word).await;
            }
            // The program goes on, and so would what it has set in a terminal that is a person's shell again.
            End::Client(Ended::Closed(_)) | End::Pod(_) | End::Draining => {
                let parting = format!("{OWN_SCREEN}{RESET}{BELOW}").into_bytes();
                let parting = Message::Binary(parting.into());
                paddock_websocket::close_after(sender, receiver, parting, &last_word).await;
            }
        }
    };
    tokio::join!(says_goodbye, paddock_websocket::close(pod.sender, pod.receiver, &detached));
}

/// Which end was lost.
enum Lost {
    From(Ended),
    To(Ended),
}

/// Passes messages on, and pings whom they go to.
async fn pump<F, T>(from: &mut Receiver<F>, to: &mut Sender<T>) -> Lost
where
    F: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let sent = tokio::select! {
            said = from.next() => match said {
                Ok(message) => to.send(message).await,
                Err(ended) => return Lost::From(ended),
            },
            () = to.ping_due() => to.ping().await,
        };
        if let Err(ended) = sent {
            return Lost::To(ended);
        }
    }
}

/// What the client is told. One that has closed by itself is not told it.
fn last_word(gateway: &Gateway, session: &str, end: &End) -> Close {
    match end {
        End::Draining => {
            Close::new(CloseCode::Away, "this gateway is shutting down; the program goes on: attach again")
        }
        End::Client(Ended::Misbehaved(close)) => close.clone(),
        End::Client(ended) => Close::new(CloseCode::Normal, ended.to_string()),
        End::Pod(ended) => {
            // The index may not know yet, and then the pod's own words are told.
            let session = gateway.index.session(session);
            let state = session.map(|session| Target::of_terminal(&session));
            match (state, ended) {
                (Some(Err(error)), _) => Close::new(CloseCode::Away, error.message),
                (_, Ended::Closed(Some(close))) => Close::new(
                    close.code,
                    format!("{}: attach again when the session is ready", close.reason),
                ),
                (_, ended) => Close::new(
                    CloseCode::Error,
                    format!("the session's pod was lost ({ended}); attach again when the session is ready"),
                ),
            }
        }
    }
}
