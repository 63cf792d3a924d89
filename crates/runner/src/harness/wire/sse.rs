//! Reads server-sent events: bytes come in, the data of each event comes out.

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::harness) enum Message {
    /// The data of an event.
    Data(Vec<u8>),
    /// The data of an event is larger than is taken; it is skipped.
    TooLarge,
}

/// See the module. Names, ids and comments of events are left out: those of the wire have none that matter.
pub(in crate::harness) struct Decoder {
    /// Most bytes of one event.
    most: usize,
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    too_large: bool,
}

impl Decoder {
    /// One that takes events of so many bytes.
    pub(in crate::harness) fn new(most: usize) -> Self {
        Self { most, line: Vec::new(), data: None, too_large: false }
    }

    /// Takes the next bytes and returns the events that end in them.
    pub(in crate::harness) fn feed(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            self.extend(piece);
            if pieces.peek().is_some() {
                messages.extend(self.end_of_line());
            }
        }
        messages
    }

    fn extend(&mut self, piece: &[u8]) {
        // What is left of a line that is too long is enough to tell it from an empty one.
        if self.too_large && !self.line.is_empty() {
            return;
        }
        self.line.extend_from_slice(piece);
        if self.line.len() + self.data.as_ref().map_or(0, Vec::len) > self.most {
            self.too_large = true;
            self.line.truncate(1);
        }
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            let data = self.data.take();
            return match std::mem::take(&mut self.too_large) {
                true => Some(Message::TooLarge),
                false => data.map(Message::Data),
            };
        }
        let value = line.strip_prefix(b"data:").filter(|_| !self.too_large)?;
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &mut self.data {
            // Lines of one event are parted by line breaks; in JSON such a one is as good as a space.
            Some(data) => {
                data.push(b' ');
                data.extend_from_slice(value);
            }
            none => *none = Some(value.to_vec()),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` whole and byte by byte: both ways must give the same.
    fn read(text: &str) -> Vec<Message> {
        let whole = Decoder::new(20).feed(text.as_bytes());
        let mut decoder = Decoder::new(20);
        let single: Vec<_> = text.bytes().flat_map(|byte| decoder.feed(&[byte])).collect();
        assert_eq!(whole, single);
        whole
    }

    fn data(text: &str) -> Message {
        Message::Data(text.into())
    }

    #[test]
    fn events_are_told_apart_and_everything_else_is_left_out() {
        assert_eq!(read("data: {}\n\ndata:1\r\n\r\n: beat\n\n"), [data("{}"), data("1")]);
        assert_eq!(read("id: 1\nevent: x\ndata: [1,\ndata: 2]\n\n"), [data("[1, 2]")]);
        assert_eq!(read("\n\n\r\n:\nretry: 5\n\nevent: ping\n\n"), []);
        assert_eq!(read("data: unfinished\n"), []);
        assert_eq!(read("data:\n\n"), [data("")]);
    }

    #[test]
    fn what_is_too_large_is_told_and_costs_no_memory() {
        let long = "x".repeat(100);
        assert_eq!(
            read(&format!("data: {long}\n\ndata: a\n\n")),
            [Message::TooLarge, data("a")],
            "in one line"
        );
        assert_eq!(
            read("data: 0123456789\ndata: 0123456789\ndata: z\n\ndata: a\n\n"),
            [Message::TooLarge, data("a")],
            "in several"
        );
        let mut decoder = Decoder::new(20);
        for _ in 0..1000 {
            decoder.feed(long.as_bytes());
        }
        assert!(decoder.line.capacity() <= 200, "{}", decoder.line.capacity());
    }
}
