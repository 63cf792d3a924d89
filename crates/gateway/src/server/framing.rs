//! Follows the framing of a connection's request bytes, to refuse what hyper lets through.
//!
//! hyper answers a request that has both Content-Length and Transfer-Encoding and hides the former, so its
//! handler cannot tell. This observer sees the bytes first. It understands just enough of HTTP/1.1 to know
//! where a head begins and ends: lines, a blank line, a body of a stated length. What follows the head of a
//! chunked request is opaque to it, and such a connection is closed after its answer (see `server::service`).
//! It never changes a byte, and it leaves every other judgement of a head to hyper.

use paddock_api::http::ErrorCode;

/// A line's start, enough for any Content-Length or Transfer-Encoding line.
const KEPT_LINE_BYTES: usize = 256;

/// Why a head is refused before hyper sees its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Both Content-Length and Transfer-Encoding: two readers would disagree on where the body ends.
    BothLengths,
    /// A Content-Length that is no number, or two that differ.
    BadLength,
    /// The head is larger than allowed.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTooSlow,
}

impl Refusal {
    /// The error the client is answered with.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::BothLengths | Self::BadLength => ErrorCode::BadRequest,
            Self::HeadTooLarge => ErrorCode::HeadersTooLarge,
            Self::HeadTooSlow => ErrorCode::RequestTimeout,
        }
    }

    /// A sentence for the client.
    pub const fn message(self) -> &'static str {
        match self {
            Self::BothLengths => {
                "the request has both Content-Length and Transfer-Encoding; send one of the two"
            }
            Self::BadLength => "the request's Content-Length is not one decimal number",
            Self::HeadTooLarge => {
                "the request's headers are larger than this gateway takes; send fewer or shorter ones"
            }
            Self::HeadTooSlow => "the request's headers did not arrive in time",
        }
    }
}

/// Where in a request the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Before the first byte of a request.
    Between,
    /// Inside a head.
    Head,
    /// Inside a body, or after a chunked request.
    Body,
}

/// The observer of one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    max_head: usize,
    heads: u64,
}

#[derive(Debug)]
enum State {
    Head(Head),
    Sized(u64),
    Opaque,
}

#[derive(Debug, Default)]
struct Head {
    /// Bytes of the head so far, blank lines before it not counted.
    len: usize,
    line: Vec<u8>,
    request_line_seen: bool,
    length: Option<u64>,
    transfer_encoding: bool,
}

impl Framing {
    /// An observer that takes heads of up to `max_head` bytes.
    pub fn new(max_head: usize) -> Self {
        Self { state: State::Head(Head::default()), max_head, heads: 0 }
    }

    /// Where the connection is after the bytes fed so far.
    pub fn position(&self) -> Position {
        match &self.state {
            State::Head(head) if head.len == 0 => Position::Between,
            State::Head(_) => Position::Head,
            State::Sized(_) | State::Opaque => Position::Body,
        }
    }

    /// How many heads have ended so far.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    /// The head these bytes belong to is refused; the connection is of no further use.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while let Some(&byte) = bytes.first() {
            match &mut self.state {
                State::Opaque => return Ok(()),
                State::Sized(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.state = State::Head(Head::default());
                    }
                }
                State::Head(head) => {
                    bytes = &bytes[1..];
                    if let Some(next) = head.push(byte, self.max_head)? {
                        self.state = next;
                        self.heads += 1;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Head {
    fn push(&mut self, byte: u8, max: usize) -> Result<Option<State>, Refusal> {
        // Blank lines before a request are allowed and belong to nothing.
        if self.len == 0 && matches!(byte, b'\r' | b'\n') {
            return Ok(None);
        }
        self.len += 1;
        if self.len > max {
            return Err(Refusal::HeadTooLarge);
        }
        if byte != b'\n' {
            if self.line.len() < KEPT_LINE_BYTES {
                self.line.push(byte);
            }
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            return self.end().map(Some);
        }
        if std::mem::replace(&mut self.request_line_seen, true) {
            self.header(&line)?;
        }
        line.clear();
        self.line = line;
        Ok(None)
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value.get(1..).unwrap_or_default())
                .ok()
                .map(str::trim)
                .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .ok_or(Refusal::BadLength)?;
            if self.length.replace(length).is_some_and(|earlier| earlier != length) {
                return Err(Refusal::BadLength);
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<State, Refusal> {
        match (self.length, self.transfer_encoding) {
            (Some(_), true) => Err(Refusal::BothLengths),
            (None, true) => Ok(State::Opaque),
            (Some(length), false) if length > 0 => Ok(State::Sized(length)),
            (_, false) => Ok(State::Head(Self::default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` whole and byte by byte: both ways must end alike.
    fn feed(bytes: &[u8]) -> Result<Position, Refusal> {
        let mut whole = Framing::new(1024);
        let at_once = whole.feed(bytes).map(|()| whole.position());
        let mut single = Framing::new(1024);
        let one_by_one = bytes.iter().try_for_each(|byte| single.feed(&[*byte])).map(|()| single.position());
        assert_eq!(at_once, one_by_one);
        at_once
    }

    #[test]
    fn knows_where_requests_begin_and_end() {
        assert_eq!(feed(b""), Ok(Position::Between));
        assert_eq!(feed(b"\r\n\r\n"), Ok(Position::Between));
        assert_eq!(feed(b"GET / HT"), Ok(Position::Head));
        assert_eq!(feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Position::Between));
        assert_eq!(feed(b"POST / HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\nab"), Ok(Position::Body));
        assert_eq!(feed(b"POST / HTTP/1.1\nContent-Length:3\n\nabcGET"), Ok(Position::Head));
        assert_eq!(
            feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET"),
            Ok(Position::Body)
        );
    }

    #[test]
    fn a_body_is_never_read_as_a_head() {
        let body = b"X: 1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut bytes = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        assert_eq!(feed(&bytes), Ok(Position::Between));
    }

    #[test]
    fn refuses_two_lengths_in_either_order_and_in_a_second_request() {
        let both = b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(feed(both), Err(Refusal::BothLengths));
        assert_eq!(
            feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
            Err(Refusal::BothLengths)
        );
        let mut second = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        second.extend_from_slice(both);
        assert_eq!(feed(&second), Err(Refusal::BothLengths));
    }

    #[test]
    fn refuses_lengths_that_are_no_length() {
        for value in ["", "+1", "-1", "0x1", "1, 1", "1 1", "99999999999999999999"] {
            let head = format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n");
            assert_eq!(feed(head.as_bytes()), Err(Refusal::BadLength), "{value:?}");
        }
        let differing = b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(feed(differing), Err(Refusal::BadLength));
        let hidden = format!("POST / HTTP/1.1\r\nContent-Length:{}1\r\n\r\n", " ".repeat(300));
        assert_eq!(feed(hidden.as_bytes()), Err(Refusal::BadLength));
    }

    #[test]
    fn refuses_a_head_that_is_too_large() {
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1024));
        assert_eq!(feed(head.as_bytes()), Err(Refusal::HeadTooLarge));
    }
}
