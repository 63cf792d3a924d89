//! Terminals, with frames that the test writes byte by byte: what RFC 6455 wants of a server.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Setup, TestGateway, head, soon};
use super::terminal::with_terminal;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const BINARY_FRAME: u8 = FIN | BINARY;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client of bytes.
struct Bytes(TcpStream);

impl Bytes {
    async fn attach(gateway: &TestGateway) -> Self {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(opening().as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(soon(stream.read_u8()).await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The example of RFC 6455, section 1.3.
        assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        Self(stream)
    }

    async fn sends(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame that is no ping: its first byte, and its payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            let first = soon(self.0.read_u8()).await.expect("a frame");
            let length = match soon(self.0.read_u8()).await.unwrap() {
                126 => usize::from(soon(self.0.read_u16()).await.unwrap()),
                127 => usize::try_from(soon(self.0.read_u64()).await.unwrap()).unwrap(),
                masked @ 128.. => panic!("a server masks nothing: {masked}"),
                length => usize::from(length),
            };
            let mut payload = vec![0; length];
            soon(self.0.read_exact(&mut payload)).await.unwrap();
            if first != FIN | PING {
                return (first, payload);
            }
        }
    }

    /// The next frame, after what gives a client that leaves its terminal back.
    async fn last_frame(&mut self) -> (u8, Vec<u8>) {
        match self.frame().await {
            (BINARY_FRAME, parting) if parting.starts_with(b"\x1b[?1049l") => self.frame().await,
            frame => frame,
        }
    }

    /// The code of a close frame, which is the last one.
    async fn close_code(&mut self) -> u16 {
        let (first, payload) = self.last_frame().await;
        assert_eq!(first, FIN | CLOSE, "{payload:?}");
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        assert!(std::str::from_utf8(&payload[2..]).is_ok());
        let mut rest = Vec::new();
        soon(self.0.read_to_end(&mut rest)).await.expect("no reset");
        assert_eq!(rest, b"");
        code
    }
}

fn opening() -> String {
    format!(
        "{}Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        head("GET", "/sessions/s1/tty")
    )
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[tokio::test]
async fn what_breaks_the_protocol_is_told_so_and_ends_it() {
    let (gateway, runner) = with_terminal(Setup::default()).await;
    let unmasked = vec![FIN | TEXT, 2, b'h', b'i'];
    let huge = [&[FIN | BINARY, 0x80 | 127][..], &(1u64 << 62).to_be_bytes(), &MASK].concat();
    let in_pieces = [frame(BINARY, &[b'x'; 600_000]), frame(FIN | CONTINUATION, &[b'x'; 600_000])].concat();
    for (what, bytes, code) in [
        ("an unmasked frame", unmasked, 1002),
        ("a reserved bit", frame(FIN | 0x40 | TEXT, b"hi"), 1002),
        ("another reserved bit", frame(FIN | 0x10 | TEXT, b"hi"), 1002),
        ("a reserved opcode", frame(FIN | 3, b"hi"), 1002),
        ("a reserved control opcode", frame(FIN | 11, b"hi"), 1002),
        ("a fragmented ping", frame(PING, b"hi"), 1002),
        ("a fragmented close", frame(CLOSE, b""), 1002),
        ("a ping of 126 bytes", frame(FIN | PING, &[b'x'; 126]), 1002),
        ("a continuation of nothing", frame(FIN | CONTINUATION, b"hi"), 1002),
        ("a message in a message", [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(), 1002),
        ("half a close code", frame(FIN | CLOSE, &[3]), 1002),
        ("a close code that is none", frame(FIN | CLOSE, &1005u16.to_be_bytes()), 1002),
        ("a close reason that is no text", frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007),
        ("a text that is none", frame(FIN | TEXT, b"\xc3\x28"), 1007),
        ("half a character", frame(FIN | TEXT, b"\xc3"), 1007),
        ("more than a message holds", frame(FIN | BINARY, &vec![b'x'; (1 << 20) + 1]), 1009),
        ("that in pieces", in_pieces, 1009),
        ("a promise of 4 EiB", huge, 1009),
    ] {
        let mut client = Bytes::attach(&gateway).await;
        client.sends(&bytes).await;
        let told = tokio::time::timeout(Duration::from_secs(20), client.close_code()).await;
        assert_eq!(told.unwrap_or_else(|_| panic!("{what}: nothing was told")), code, "{what}");
    }
    // None of them came to the pod, and it is there for the next.
    runner.attached(18).await;
    let mut client = Bytes::attach(&gateway).await;
    client.sends(&frame(FIN | TEXT, b"hi")).await;
    assert_eq!(client.frame().await, (FIN | TEXT, b"hi".to_vec()));
}

#[tokio::test]
async fn pings_are_answered_also_within_a_message_and_characters_may_be_cut() {
    let (gateway, _runner) = with_terminal(Setup::default()).await;
    let mut client = Bytes::attach(&gateway).await;
    client.sends(&frame(FIN | PING, b"are you there?")).await;
    assert_eq!(client.frame().await, (FIN | PONG, b"are you there?".to_vec()));
    client.sends(&frame(FIN | PONG, b"nobody asked")).await;
    client.sends(&frame(TEXT, b"gr\xc3")).await;
    client.sends(&frame(FIN | PING, b"")).await;
    assert_eq!(client.frame().await, (FIN | PONG, vec![]));
    client.sends(&frame(CONTINUATION, b"")).await;
    client.sends(&frame(FIN | CONTINUATION, b"\xbc\xc3\x9fe")).await;
    assert_eq!(client.frame().await, (FIN | TEXT, "grüße".into()));
    // Byte by byte, as a slow network brings it.
    for byte in frame(FIN | BINARY, &[7; 200]) {
        client.sends(&[byte]).await;
    }
    assert_eq!(client.frame().await, (FIN | BINARY, vec![7; 200]));
}

#[tokio::test]
async fn a_close_is_answered_with_its_own_code() {
    let (gateway, _runner) = with_terminal(Setup::default()).await;
    for code in [1000u16, 1001, 3000, 4999] {
        let mut client = Bytes::attach(&gateway).await;
        client.sends(&frame(FIN | CLOSE, &code.to_be_bytes())).await;
        assert_eq!(client.close_code().await, code);
    }
    let mut client = Bytes::attach(&gateway).await;
    client.sends(&frame(FIN | CLOSE, b"")).await;
    assert_eq!(client.last_frame().await, (FIN | CLOSE, vec![]));
}

/// Descriptors and tasks of this process.
fn in_use() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (descriptors, tokio::runtime::Handle::current().metrics().num_alive_tasks())
}

/// Other tests of this binary open descriptors too, so this one runs in a process of its own.
#[tokio::test]
async fn two_hundred_clients_that_break_off_anywhere_leave_nothing_behind() {
    const ALONE: &str = "PADDOCK_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "terminal_frames::two_hundred_clients_that_break_off_anywhere_leave_nothing_behind";
        let ran = tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap()
        });
        let output = ran.await.unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let (gateway, _runner) = with_terminal(Setup::default()).await;
    let mut whole = Bytes::attach(&gateway).await;
    whole.sends(&frame(FIN | CLOSE, b"")).await;
    whole.frame().await;
    drop(whole);
    let none = async || {
        while !gateway.gateway.metrics.encode().contains("paddock_gateway_terminals 0\n") {
            tokio::task::yield_now().await;
        }
    };
    soon(none()).await;
    let before = settled(None).await;
    for _ in 0..200 {
        let script = [
            opening().into_bytes(),
            frame(FIN | TEXT, b"hi"),
            frame(FIN | PING, b""),
            frame(TEXT, b"begun"),
            frame(FIN | CONTINUATION, &[b'x'; 500]),
            frame(FIN | CLOSE, b""),
        ]
        .concat();
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let length = chance.usize(..=script.len());
        // It may be refused half-way, where frames come before the answer.
        let _ = stream.write_all(&script[..length]).await;
        if chance.bool() {
            let mut some = vec![0; chance.usize(1..300)];
            let _ = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut some)).await;
        }
        if chance.bool() {
            // With a reset instead of an end.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    settled(Some(before)).await;
}

/// What is in use once it is `expected`, or has stayed the same for a while.
async fn settled(expected: Option<(usize, usize)>) -> (usize, usize) {
    let mut last = (0, 0);
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = in_use();
        if expected.map_or(now == last, |expected| now == expected) {
            return now;
        }
        last = now;
    }
    panic!("{last:?} are in use, and not {expected:?}");
}
